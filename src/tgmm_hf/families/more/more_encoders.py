"""The X-ray encoder and the ECG encoder of MoRE: blocks of a vision transformer with DropKey.

DropKey (Li et al. 2023): in training, every entry of the attention's scores is dropped with some probability before the
softmax. The mask is an ordinary attention mask that is drawn anew for each block, so every kernel that takes a mask
computes it. Nothing is drawn in evaluation mode.

Notation in shape comments: B samples, T tokens (class token first), d width.
"""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.vit.modeling_vit import ViTAttention, ViTLayer, ViTModel
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ...layers.ecg_projector import init_as_torch
from .configuration_more import MoreEcgConfig, MoreXrayConfig, drop_key_rates


def draw_drop_key(hidden_states: torch.Tensor, num_heads: int, probability: float) -> torch.Tensor | None:
    """Draw the additive attention mask of DropKey.

    Args:
        hidden_states: (B, T, d), for the shape, the dtype and the device.
        num_heads: number of heads.
        probability: chance of an entry to be dropped.

    Returns:
        (B, heads, T, T), 0 or the lowest number of the dtype. A query whose keys are all dropped attends to all of them
        alike. None for a probability of 0.
    """
    if probability == 0:
        return None
    batch, tokens = hidden_states.shape[:2]
    scores = hidden_states.new_zeros(batch, num_heads, tokens, tokens)
    dropped = torch.rand(scores.shape, device=scores.device) < probability
    return scores.masked_fill(dropped, torch.finfo(scores.dtype).min)


def run_blocks(encoder: Any, hidden_states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    """Run the blocks of an encoder and its last norm, with DropKey in training.

    Args:
        encoder: [`MoreXrayModel`] or [`MoreEcgModel`].
        hidden_states: (B, T, d), the embedded tokens.
        kwargs: passed on to the blocks.

    Returns:
        (B, T, d).
    """
    config = encoder.config
    for block, rate in zip(encoder.layers, drop_key_rates(config), strict=True):
        rate = rate if encoder.training else 0.0
        mask = draw_drop_key(hidden_states, config.num_attention_heads, rate)
        hidden_states = block(hidden_states, mask, **kwargs)
    return encoder.layernorm(hidden_states)


class MoreXrayModel(ViTModel):
    """X-ray encoder: transformers' ViT without pooling layer, with DropKey in training."""

    config: MoreXrayConfig
    config_class = MoreXrayConfig
    _supports_flash_attn = False  # takes no mask
    _supports_flex_attn = False

    def __init__(self, config: MoreXrayConfig):
        super().__init__(config, add_pooling_layer=False)

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(self, pixel_values: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> BaseModelOutputWithPooling:
        r"""Encode X-rays.

        pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, image_size, image_size)`):
            As the processor makes them.

        Returns `last_hidden_state` (batch_size, 1 + patches, hidden_size) and `pooler_output`, its class token.
        """
        values = pixel_values.to(self.embeddings.patch_embeddings.projection.weight.dtype)
        hidden_states = run_blocks(self, self.embeddings(values), **kwargs)
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=hidden_states[:, 0])


class MoreEcgEmbeddings(nn.Module):
    """Two convolutions over time, each with a ReLU before its batch norm; then class token and positions."""

    def __init__(self, config: MoreEcgConfig):
        super().__init__()
        kernel, eps = config.stem_kernel, config.batch_norm_eps
        self.conv1 = nn.Conv1d(config.num_leads, config.stem_size, kernel, stride=kernel)
        self.norm1 = nn.BatchNorm1d(config.stem_size, eps=eps)
        self.conv2 = nn.Conv1d(config.stem_size, config.hidden_size, kernel)
        self.norm2 = nn.BatchNorm1d(config.hidden_size, eps=eps)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + config.num_patches, config.hidden_size))

    def forward(self, input_values: torch.Tensor) -> torch.Tensor:
        """Embed ECGs: (B, leads, samples) -> (B, T, d)."""
        frames = self.norm1(torch.relu(self.conv1(input_values)))
        frames = self.norm2(torch.relu(self.conv2(frames))).transpose(1, 2)
        return torch.cat([self.cls_token.expand(len(frames), -1, -1), frames], dim=1) + self.position_embeddings


class MoreEcgModel(PreTrainedModel):
    """ECG encoder: the blocks of a ViT behind two convolutions, with DropKey in training."""

    config: MoreEcgConfig
    config_class = MoreEcgConfig
    base_model_prefix = "more_ecg"
    main_input_name = "input_values"
    input_modalities = ("time",)  # type: ignore[assignment] # declared a list; tuples are usual
    supports_gradient_checkpointing = True
    _no_split_modules = ["MoreEcgEmbeddings", "ViTLayer"]  # noqa: RUF012 - read by transformers
    _supports_sdpa = True
    _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": ViTLayer, "attentions": ViTAttention}  # noqa: RUF012 - read by transformers

    def __init__(self, config: MoreEcgConfig):
        super().__init__(config)
        self.embeddings = MoreEcgEmbeddings(config)
        self.layers = nn.ModuleList(ViTLayer(config) for _ in range(config.num_hidden_layers))  # type: ignore[arg-type]
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw the starting weights of a module. transformers calls this for every module."""
        if isinstance(module, nn.Conv1d):
            init_as_torch(module)
        elif isinstance(module, MoreEcgEmbeddings):
            for weight in (module.cls_token, module.position_embeddings):
                init.trunc_normal_(weight, mean=0.0, std=self.config.initializer_range)
        else:
            super()._init_weights(module)

    def get_input_embeddings(self) -> nn.Module:
        """Return the first convolution."""
        return self.embeddings.conv1

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the first convolution by `value`, in place."""
        self.embeddings.conv1 = value  # type: ignore[assignment]

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(self, input_values: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> BaseModelOutputWithPooling:
        r"""Encode ECGs.

        input_values (`torch.FloatTensor` of shape `(batch_size, num_leads, seq_length)`):
            As the processor makes them.

        Returns `last_hidden_state` (batch_size, 1 + frames, hidden_size) and `pooler_output`, its class token.
        """
        hidden_states = run_blocks(self, self.embeddings(input_values.to(self.dtype)), **kwargs)
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=hidden_states[:, 0])


__all__ = ["MoreEcgEmbeddings", "MoreEcgModel", "MoreXrayModel", "draw_drop_key"]
