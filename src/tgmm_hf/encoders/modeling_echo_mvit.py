"""MViT-v2 for echo clips (Li et al., CVPR 2022) in plain torch: EchoPrime's video encoder without its head.

The decomposed relative positions of MViT-v2 add q.Rh[h, kh] + q.Rw[w, kw] + q.Rt[t, kt] to the attention scores. This
sum is a dot product, too: of q's three small products with Rh, Rw, Rt, and of one-hot codes of the key's kh, kw, kt. So
query and key are extended by these columns, and attention is plain `scaled_dot_product_attention`. It needs no bias
matrix of queries x keys, which has 25,089 x 393 values per head in the first block of the paper's size.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ..layers.depthwise_convolution import DepthwiseConvolution
from ..layers.feed_forward import drop_path
from ..layers.recomputing import recomputing
from ..layers.weights_fingerprint import BoundWeights
from .configuration_echo_mvit import EchoMvitConfig
from .echo_mvit_positions import EchoMvitRelativePositions, Grid
from .modeling_st_mem import eager_attention_forward


@dataclass(frozen=True)
class BlockShape:
    """Sizes of one MViT block; `grid` is its input, before the query's stride, and `drop_path` a probability."""

    in_width: int
    width: int
    heads: int
    query_stride: Grid
    key_value_stride: Grid
    grid: Grid
    drop_path: float


def block_shapes(config: EchoMvitConfig) -> list[BlockShape]:
    """List the sizes of all blocks, in their order. The probability of stochastic depth rises linearly from 0."""
    frames, rows, cols = (
        (size + 2 * padding - kernel) // stride + 1
        for size, kernel, stride, padding in zip(
            (config.num_frames, config.image_size, config.image_size),
            config.patch_kernel,
            config.patch_stride,
            config.patch_padding,
            strict=True,
        )
    )
    shapes: list[BlockShape] = []
    width = config.stage_widths[0]
    last_block = max(config.num_hidden_layers - 1, 1)
    for stage, depth in enumerate(config.stage_depths):
        pooled = max(config.kv_stride // 2**stage, 1)
        for index in range(depth):
            halves = stage > 0 and index == 0
            shapes.append(
                BlockShape(
                    in_width=width,
                    width=config.stage_widths[stage],
                    heads=config.stage_heads[stage],
                    query_stride=(1, 2, 2) if halves else (1, 1, 1),
                    key_value_stride=(1, pooled, pooled),
                    grid=(frames, rows, cols),
                    drop_path=config.drop_path_rate * len(shapes) / last_block,
                )
            )
            width = config.stage_widths[stage]
            if halves:
                _, rows, cols = pooled_grid((frames, rows, cols), (1, 2, 2))
    return shapes


def pooled_grid(grid: Grid, stride: Grid) -> Grid:
    """Compute the size of `grid` after a pooling with kernel 3, padding 1 and `stride`."""
    frames, rows, cols = ((size - 1) // step + 1 for size, step in zip(grid, stride, strict=True))
    return frames, rows, cols


class EchoMvitEmbeddings(nn.Module):
    """Clip -> class token and tokens of patches in space and time, without positions."""

    def __init__(self, config: EchoMvitConfig):
        super().__init__()
        self.clip_shape = (config.num_frames, config.num_channels, config.image_size, config.image_size)
        self.patch_embedding = nn.Conv3d(
            config.num_channels,
            config.stage_widths[0],
            kernel_size=cast(Grid, tuple(config.patch_kernel)),
            stride=cast(Grid, tuple(config.patch_stride)),
            padding=cast(Grid, tuple(config.patch_padding)),
        )
        self.class_token = nn.Parameter(torch.zeros(config.stage_widths[0]))

    def forward(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        """Embed clips (batch, frames, channels, height, width) as tokens (batch, 1 + tokens, width).

        Raises:
            ValueError: on clips of another shape.
        """
        if tuple(pixel_values_videos.shape[1:]) != self.clip_shape:
            raise ValueError(
                f"Clips must be (batch, frames, channels, height, width) with {self.clip_shape} after the batch axis, "
                f"got {tuple(pixel_values_videos.shape)}. Prepare them with this model's own image processor."
            )
        # (batch, frames, channels, height, width) -> (batch, width, frames', rows, cols) -> (batch, tokens, width)
        patches = self.patch_embedding(pixel_values_videos.transpose(1, 2)).flatten(2).transpose(1, 2)
        return torch.cat([self.class_token.expand(len(patches), 1, -1), patches], dim=1)


class EchoMvitPool(nn.Module):
    """Pooling of query, key and value: a depth-wise 3x3x3 convolution over the token grid, then layer norm.

    The heads share the convolution. The class token skips the convolution. Query, key and value have weights of their
    own in one tensor, one after the other, because the time to load a model grows with the number of tensors.
    """

    def __init__(self, head_dim: int, strides: tuple[Grid, Grid, Grid], eps: float):
        super().__init__()
        self.strides = strides
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(3 * head_dim, 1, 3, 3, 3))
        self.layernorm_weight = nn.Parameter(torch.ones(3 * head_dim))
        self.layernorm_bias = nn.Parameter(torch.zeros(3 * head_dim))

    def forward(self, qkv: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pool (batch, 1 + frames * rows * cols, 3, heads, size) to 3 x (batch, heads, 1 + pooled tokens, size)."""
        weights = (parameter.chunk(3) for parameter in (self.weight, self.layernorm_weight, self.layernorm_bias))
        query, key, value = (
            self._pool(tokens, grid, stride, part)
            for tokens, stride, *part in zip(qkv.unbind(2), self.strides, *weights, strict=True)
        )
        return query, key, value

    def _pool(
        self,
        tokens: torch.Tensor,
        grid: Grid,
        stride: Grid,
        weights: Sequence[torch.Tensor],
    ) -> torch.Tensor:
        """Pool tokens of query, key or value; `weights` are its convolution, norm weight and norm bias."""
        weight, norm_weight, norm_bias = weights
        batch_size, _, heads, head_dim = tokens.shape
        # The heads become channels of one channels-last convolution, because on a CPU this is 5 to 9 times faster than
        # moving them into the batch.
        # (batch, frames * rows * cols, ...) -> (batch, heads * head size, frames, rows, cols)
        volume = tokens[:, 1:].reshape(batch_size, *grid, heads * head_dim).permute(0, 4, 1, 2, 3)
        weight = weight.repeat(heads, 1, 1, 1, 1)
        needs_grad = volume.requires_grad or weight.requires_grad
        if self.training and needs_grad and volume.device.type == "cpu":
            pooled = DepthwiseConvolution.apply(volume, weight.to(volume.dtype), stride)
        else:
            pooled = nn.functional.conv3d(volume, weight, stride=stride, padding=1, groups=len(weight))
        pooled = pooled.permute(0, 2, 3, 4, 1).reshape(batch_size, -1, heads, head_dim)
        pooled = torch.cat([tokens[:, :1], pooled], dim=1)
        return nn.functional.layer_norm(pooled, (head_dim,), norm_weight, norm_bias, self.eps).transpose(1, 2)


class EchoMvitAttention(nn.Module):
    """Pooling attention with decomposed relative positions and MViT-v2's residual query pooling."""

    def __init__(self, config: EchoMvitConfig, shape: BlockShape):
        super().__init__()
        self.config = config
        self.heads = shape.heads
        self.head_dim = shape.width // shape.heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = False
        self.num_key_value_groups = 1
        self.qkv = nn.Linear(shape.in_width, 3 * shape.width)
        strides = (shape.query_stride, shape.key_value_stride, shape.key_value_stride)
        self.pool = EchoMvitPool(self.head_dim, strides, config.layer_norm_eps)
        self.positions = EchoMvitRelativePositions(
            pooled_grid(shape.grid, shape.query_stride), pooled_grid(shape.grid, shape.key_value_stride), self.head_dim
        )
        self.output = nn.Linear(shape.width, shape.width)

    def forward(
        self, hidden_states: torch.Tensor, grid: Grid, recomputes: bool = False, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend over tokens (batch, 1 + tokens, width); return new tokens, and the weights or None (SDPA).

        `recomputes` is that of [`EchoMvitRelativePositions`].
        """
        # (batch, tokens, 3 * width) -> 3 x (batch, tokens, heads, head size)
        query, key, value = self.pool(self.qkv(hidden_states).unflatten(2, (3, self.heads, self.head_dim)), grid)
        context, weights = self._attend(query, key, value, self.positions(query, recomputes), **kwargs)
        # The pooled query is added back to everything but the class token.
        context = context + nn.functional.pad(query[:, :, 1:], (0, 0, 1, 0)).transpose(1, 2)
        return self.output(context.flatten(2)), weights

    def _attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        query_columns: torch.Tensor,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend with relative positions: (batch, heads, tokens, size) -> (batch, tokens, heads, size)."""
        # Flash kernels want one head size for q, k and v, a multiple of 8. Zeros cost less than the general kernel,
        # which is 2.5 times slower.
        spare = -(query.shape[-1] + query_columns.shape[-1]) % 8
        extended_query = torch.cat([query * self.scaling, query_columns, query.new_zeros(*query.shape[:-1], spare)], -1)
        key_columns = nn.functional.pad(self.positions.key_columns(key), (0, spare))
        extended_key = torch.cat([key, key_columns.expand(*key.shape[:2], -1, -1)], dim=-1)
        value = nn.functional.pad(value, (0, extended_key.shape[-1] - value.shape[-1]))
        attention: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        context, weights = attention(
            self, extended_query, extended_key, value, None, is_causal=False, scaling=1.0, dropout=0.0, **kwargs
        )
        return context[..., : self.head_dim], weights


class EchoMvitLayer(GradientCheckpointingLayer):
    """One block: pooled attention, then MLP. The first block of a stage widens the tokens and halves the grid."""

    def __init__(self, config: EchoMvitConfig, shape: BlockShape):
        super().__init__()
        self.grid = shape.grid
        self.halves = shape.query_stride != (1, 1, 1)
        self.layernorm_before = nn.LayerNorm(shape.in_width, eps=config.layer_norm_eps)
        self.attention = EchoMvitAttention(config, shape)
        self.widen = nn.Linear(shape.in_width, shape.width) if shape.in_width != shape.width else None
        self.layernorm_after = nn.LayerNorm(shape.width, eps=config.layer_norm_eps)
        self.fc1 = nn.Linear(shape.width, config.mlp_ratio * shape.width)
        self.activation = ACT2FN[config.hidden_act]
        self.fc2 = nn.Linear(config.mlp_ratio * shape.width, shape.width)
        self.drop_path = shape.drop_path

    def forward(
        self, hidden_states: torch.Tensor, class_token_only: bool = False, **kwargs: Unpack[TransformersKwargs]
    ) -> torch.Tensor:
        """Run the block on tokens (batch, 1 + tokens, width). `class_token_only` returns (batch, 1, width)."""
        normed = self.layernorm_before(hidden_states)
        with self._kept_once(normed, self.layernorm_before, hidden_states):
            attended, _ = self.attention(normed, self.grid, self._recomputes, **kwargs)
            residual = hidden_states if self.widen is None else self.widen(normed)
        hidden_states = self._pool_residual(residual) + drop_path(attended, self.drop_path, self.training)
        if class_token_only:
            hidden_states = hidden_states[:, :1]
        return hidden_states + drop_path(self._feed_forward(hidden_states), self.drop_path, self.training)

    def _feed_forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Normalise tokens (batch, tokens, width) and run the MLP."""
        normed = self.layernorm_after(hidden_states)
        with self._kept_once(normed, self.layernorm_after, hidden_states):
            inner = self.fc1(normed)
        activated = self.activation(inner)
        with self._kept_once(activated, self.activation, inner):
            return self.fc2(activated)

    @property
    def _recomputes(self) -> bool:
        """Whether cheap results are computed again in the backward pass. Checkpointing does this with all results."""
        return self.training and not self.gradient_checkpointing

    def _kept_once(
        self, result: torch.Tensor, function: nn.Module, values: torch.Tensor
    ) -> AbstractContextManager[None]:
        """Keep `values` alone for the backward pass of training, and not `result`, which is function(values)."""
        if not self._recomputes:
            return nullcontext()
        return recomputing(result, function, values)

    def _pool_residual(self, residual: torch.Tensor) -> torch.Tensor:
        """Max-pool the grid tokens by 2 in height and width if the block halves; else return them unchanged."""
        if not self.halves:
            return residual
        # (batch, frames * rows * cols, width) -> (batch, width, frames, rows, cols), channels last
        volume = residual[:, 1:].unflatten(1, self.grid).permute(0, 4, 1, 2, 3)
        volume = nn.functional.max_pool3d(volume, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        return torch.cat([residual[:, :1], volume.permute(0, 2, 3, 4, 1).flatten(1, 3)], dim=1)


class EchoMvitPreTrainedModel(BoundWeights, PreTrainedModel):
    """Base of the MViT-v2 models: initial weights, and what transformers may do with them."""

    config: EchoMvitConfig
    base_model_prefix = "echo_mvit"
    main_input_name = "pixel_values_videos"
    input_modalities = ("video",)  # type: ignore[assignment] # declared a list; transformers' own models have tuples
    supports_gradient_checkpointing = True
    _no_split_modules = ["EchoMvitLayer"]  # noqa: RUF012 - read by transformers
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": EchoMvitLayer, "attentions": EchoMvitAttention}  # noqa: RUF012
    # Weights of a head or of pre-training that the encoder alone leaves out.
    _keys_to_ignore_on_load_unexpected = [r"^projection\.", r"^head\.", r"^mask_embedding$"]  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw the starting weights of a module. transformers calls this for every module."""
        std = self.config.initializer_range
        if isinstance(module, nn.Linear):
            init.trunc_normal_(module.weight, std=std)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Conv3d):
            init.kaiming_uniform_(module.weight, a=5**0.5)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, EchoMvitEmbeddings):
            init.trunc_normal_(module.class_token, std=std)
        elif isinstance(module, EchoMvitRelativePositions):
            init.trunc_normal_(module.table, std=std)
        elif isinstance(module, EchoMvitPool):
            init.kaiming_uniform_(module.weight, a=5**0.5)
            init.ones_(module.layernorm_weight)
            init.zeros_(module.layernorm_bias)
        else:
            super()._init_weights(module)


class EchoMvitModel(EchoMvitPreTrainedModel):
    """Echo encoder of the paper: one clip -> the 768-d vector that EchoPrime gives to its 512-d head.

    `last_hidden_state` is (batch, 1 + tokens, hidden), class token first. `pooler_output` is the class token.
    """

    hub_auto_class = "AutoModel"

    def __init__(self, config: EchoMvitConfig):
        super().__init__(config)
        self.embeddings = EchoMvitEmbeddings(config)
        self.layers = nn.ModuleList([EchoMvitLayer(config, shape) for shape in block_shapes(config)])
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.gradient_checkpointing = False
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the convolution that embeds patches."""
        return self.embeddings.patch_embedding

    def set_input_embeddings(self, value: nn.Conv3d) -> None:
        """Replace the convolution that embeds patches by `value`, in place."""
        self.embeddings.patch_embedding = value

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        class_token_only: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        r"""Encode clips.

        pixel_values_videos (`torch.FloatTensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
            One clip a row, as `EchoImageProcessor` makes them.
        class_token_only (`bool`):
            Let `last_hidden_state` hold the class token only, so that the last block's MLP reads no other token.
        """
        hidden_states = self.run_lower_layers(pixel_values_videos, num_upper_layers=1, **kwargs)
        return self.run_upper_layers(hidden_states, num_upper_layers=1, class_token_only=class_token_only, **kwargs)

    def run_lower_layers(
        self, pixel_values_videos: torch.Tensor, num_upper_layers: int = 0, **kwargs: Unpack[TransformersKwargs]
    ) -> torch.Tensor:
        """Run embeddings and all layers but the last `num_upper_layers`: clips -> (batch, 1 + tokens, width)."""
        hidden_states = self.embeddings(pixel_values_videos)
        for layer in self.layers[: len(self.layers) - num_upper_layers]:
            hidden_states = layer(hidden_states, **kwargs)
        return hidden_states

    def run_upper_layers(
        self,
        hidden_states: torch.Tensor,
        num_upper_layers: int = 0,
        class_token_only: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """Run the last `num_upper_layers` layers and the final norm on the result of `run_lower_layers`."""
        layers = self.layers[len(self.layers) - num_upper_layers :]
        for index, layer in enumerate(layers):
            hidden_states = layer(hidden_states, class_token_only and index == len(layers) - 1, **kwargs)
        hidden_states = self.layernorm(hidden_states)
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=hidden_states[:, 0])


@dataclass
class EchoMvitProjectionOutput(ModelOutput):
    """Output of [`EchoMvitModelWithProjection`].

    Args:
        video_embeds (`torch.FloatTensor` of shape `(batch_size, projection_dim)`): EchoPrime's own embedding of a clip,
            not normalised.
        last_hidden_state, pooler_output, hidden_states, attentions: those of [`EchoMvitModel`].
    """

    video_embeds: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class EchoMvitModelWithProjection(EchoMvitPreTrainedModel):
    """The encoder with its linear head: EchoPrime's 512-d embedding.

    TGMM uses the encoder without the head. `AutoModel` loads it from the same directory.
    """

    def __init__(self, config: EchoMvitConfig):
        super().__init__(config)
        self.echo_mvit = EchoMvitModel(config)
        self.dropout = nn.Dropout(0.5)
        self.projection = nn.Linear(config.hidden_size, config.projection_dim)
        self.post_init()

    def hub_classes(self) -> dict[str, type]:
        """Map the name of an Auto class to the class that it loads from the saved directory."""
        return {"AutoModel": EchoMvitModel}

    @can_return_tuple
    def forward(
        self, pixel_values_videos: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> EchoMvitProjectionOutput:
        r"""Encode clips and project them.

        pixel_values_videos (`torch.FloatTensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
            One clip a row, as `EchoImageProcessor` makes them.
        """
        encoded = self.echo_mvit(pixel_values_videos, **kwargs)
        return EchoMvitProjectionOutput(self.projection(self.dropout(encoded.pooler_output)), **encoded)


__all__ = ["EchoMvitModel", "EchoMvitModelWithProjection", "EchoMvitPreTrainedModel"]
