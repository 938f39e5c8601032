"""MViT-v2 for echo clips (Li et al., CVPR 2022) in plain torch: EchoPrime's video encoder without its head.

The decomposed relative positions of MViT-v2 add q.Rh[h, kh] + q.Rw[w, kw] + q.Rt[t, kt] to the attention scores. This
sum is a dot product, too: of q's three small products with Rh, Rw, Rt, and of one-hot codes of the key's kh, kw, kt. So
query and key are extended by these columns, and attention is plain `scaled_dot_product_attention`. It needs no bias
matrix of queries x keys, which has 25,089 x 393 values per head in the first block of the paper's size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.nn.grad import conv3d_weight
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

from ..layers.feed_forward import drop_path
from ..layers.weights_fingerprint import BoundWeights
from .configuration_echo_mvit import EchoMvitConfig
from .modeling_st_mem import eager_attention_forward

Grid = tuple[int, int, int]
"""Frames, rows and columns of a token grid."""


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


class DepthwiseConvolution(torch.autograd.Function):
    """Depth-wise 3x3x3 convolution with padding 1 whose gradient to its input is another such convolution.

    On a CPU this is ten times as fast as PyTorch's own, forward pass included (`benchmarks/echo_mvit_parts.py`).
    """

    @staticmethod
    def forward(ctx: Any, volume: torch.Tensor, weight: torch.Tensor, stride: Grid) -> torch.Tensor:
        """Convolve a volume (batch, channels, frames, rows, cols) with weight (channels, 1, 3, 3, 3)."""
        ctx.save_for_backward(volume, weight)
        ctx.stride = stride
        return nn.functional.conv3d(volume, weight, stride=stride, padding=1, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        """Compute the gradients of volume and weight; None for a gradient that is not needed, and for the stride."""
        volume, weight = ctx.saved_tensors
        grad, to_volume, to_weight = grad.to(volume.dtype), None, None
        if ctx.needs_input_grad[0]:
            spread = grad
            if ctx.stride != (1, 1, 1):
                frames, rows, cols = ctx.stride
                spread = torch.zeros_like(volume)
                spread[:, :, ::frames, ::rows, ::cols] = grad
            to_volume = nn.functional.conv3d(spread, weight.flip(2, 3, 4), padding=1, groups=len(weight))
        if ctx.needs_input_grad[1]:
            # At least float32: PyTorch's own gradient in bfloat16 reads memory that nothing has written (CPU, 2.14.1).
            dtype = torch.promote_types(volume.dtype, torch.float32)
            to_weight = conv3d_weight(volume.to(dtype), weight.shape, grad.to(dtype), ctx.stride, 1, 1, len(weight))
        return to_volume, None if to_weight is None else to_weight.to(weight.dtype), None


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


class EchoMvitRelativePositions(nn.Module):
    """Relative-position tables of one block, and the extra query and key columns that carry them."""

    def __init__(self, query_grid: Grid, key_grid: Grid, head_dim: int):
        super().__init__()
        self.query_grid = query_grid
        self.key_grid = key_grid
        # One table serves rows and columns, as in torchvision, so its size is that of the larger axis.
        spatial = 2 * max(*query_grid[1:], *key_grid[1:]) - 1
        temporal = 2 * max(query_grid[0], key_grid[0]) - 1
        self.sizes = (spatial, spatial, temporal)
        self.table = nn.Parameter(torch.zeros(sum(self.sizes), head_dim))

    def forward(self, query: torch.Tensor) -> torch.Tensor:
        """Compute the extra columns of the query: its products with the offsets to every key row, column and frame.

        Args:
            query: (batch, heads, 1 + tokens, head size).

        Returns:
            (batch, heads, 1 + tokens, key rows + key cols + key frames); zero for the class token.
        """
        grid = query[:, :, 1:].unflatten(2, self.query_grid)
        rows, cols, frames = self.table.split(self.sizes)
        products = [
            torch.einsum("bnthwc,hkc->bnthwk", grid, rows[self._offsets(1, query.device)]),
            torch.einsum("bnthwc,wkc->bnthwk", grid, cols[self._offsets(2, query.device)]),
            torch.einsum("bnthwc,tkc->bnthwk", grid, frames[self._offsets(0, query.device)]),
        ]
        return nn.functional.pad(torch.cat(products, dim=-1).flatten(2, 4), (0, 0, 1, 0))

    def key_columns(self, key: torch.Tensor) -> torch.Tensor:
        """Compute one-hot row, column and frame of every key: (1 + key tokens, key rows + key cols + key frames)."""
        frames, rows, cols = self.key_grid
        one_hot = [
            torch.eye(rows, dtype=key.dtype, device=key.device)[None, :, None].expand(frames, rows, cols, rows),
            torch.eye(cols, dtype=key.dtype, device=key.device)[None, None, :].expand(frames, rows, cols, cols),
            torch.eye(frames, dtype=key.dtype, device=key.device)[:, None, None].expand(frames, rows, cols, frames),
        ]
        return nn.functional.pad(torch.cat(one_hot, dim=-1).flatten(0, 2), (0, 0, 1, 0))

    def _offsets(self, axis: int, device: torch.device) -> torch.Tensor:
        """Find the table row of each pair along `axis` (0 frames, 1 rows, 2 columns): long (queries, keys)."""
        queries, keys = self.query_grid[axis], self.key_grid[axis]
        query_step, key_step = max(keys / queries, 1.0), max(queries / keys, 1.0)
        query_place = torch.arange(queries, device=device)[:, None] * query_step
        key_place = (torch.arange(keys, device=device)[None, :] + (1.0 - keys)) * key_step
        return (query_place - key_place).long()


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
        self, hidden_states: torch.Tensor, grid: Grid, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend over tokens (batch, 1 + tokens, width); return new tokens, and the weights or None (SDPA)."""
        # (batch, tokens, 3 * width) -> 3 x (batch, tokens, heads, head size)
        query, key, value = self.pool(self.qkv(hidden_states).unflatten(2, (3, self.heads, self.head_dim)), grid)
        context, weights = self._attend(query, key, value, **kwargs)
        # The pooled query is added back to everything but the class token.
        context = context + nn.functional.pad(query[:, :, 1:], (0, 0, 1, 0)).transpose(1, 2)
        return self.output(context.flatten(2)), weights

    def _attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend with relative positions: (batch, heads, tokens, size) -> (batch, tokens, heads, size)."""
        extended_query = torch.cat([query * self.scaling, self.positions(query)], dim=-1)
        key_columns = self.positions.key_columns(key).expand(*key.shape[:2], -1, -1)
        extended_key = torch.cat([key, key_columns], dim=-1)
        # Flash kernels want one head size for q, k and v, a multiple of 8. Zeros cost less than the general kernel,
        # which is 2.5 times slower.
        size = -(-extended_query.shape[-1] // 8) * 8
        extended_query, extended_key, value = (
            nn.functional.pad(part, (0, size - part.shape[-1])) for part in (extended_query, extended_key, value)
        )
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
        attended, _ = self.attention(normed, self.grid, **kwargs)
        residual = hidden_states if self.widen is None else self.widen(normed)
        hidden_states = self._pool_residual(residual) + drop_path(attended, self.drop_path, self.training)
        if class_token_only:
            hidden_states = hidden_states[:, :1]
        expanded = self.activation(self.fc1(self.layernorm_after(hidden_states)))
        return hidden_states + drop_path(self.fc2(expanded), self.drop_path, self.training)

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
        last_hidden_state, pooler_output: those of [`EchoMvitModel`].
    """

    video_embeds: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None


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
        return EchoMvitProjectionOutput(
            video_embeds=self.projection(self.dropout(encoded.pooler_output)),
            last_hidden_state=encoded.last_hidden_state,
            pooler_output=encoded.pooler_output,
        )


__all__ = ["EchoMvitModel", "EchoMvitModelWithProjection", "EchoMvitPreTrainedModel"]
