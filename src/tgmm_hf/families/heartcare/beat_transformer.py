"""Parts of Beat: patches of an ECG, and the transformer of encoder and decoder.

Notation in shape comments: B ECGs, P patches, T tokens, S samples of a patch, d width.
"""

from collections.abc import Callable

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from ...encoders.modeling_st_mem import eager_attention_forward
from ...layers.feed_forward import Mlp
from .configuration_beat import BeatConfig


def cut_patches(values: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Cut ECGs into patches of all leads, lead after lead: (B, leads, P * S) -> (B, P, leads * S)."""
    return values.unflatten(2, (-1, patch_size)).transpose(1, 2).flatten(2)


def join_patches(patches: torch.Tensor, num_leads: int) -> torch.Tensor:
    """Join patches to ECGs, the inverse of `cut_patches`: (B, P, leads * S) -> (B, leads, P * S)."""
    return patches.unflatten(2, (num_leads, -1)).transpose(1, 2).flatten(2)


class BeatAttention(nn.Module):
    """Multi-head self-attention without biases."""

    def __init__(self, config: BeatConfig):
        super().__init__()
        self.config = config
        self.head_dim = config.attention_head_size
        self.num_key_value_groups = 1
        self.scaling = self.head_dim**-0.5
        self.is_causal = False
        inner_size = config.num_attention_heads * self.head_dim
        self.query = nn.Linear(config.hidden_size, inner_size, bias=False)
        self.key = nn.Linear(config.hidden_size, inner_size, bias=False)
        self.value = nn.Linear(config.hidden_size, inner_size, bias=False)
        self.output = nn.Linear(inner_size, config.hidden_size, bias=False)

    def forward(
        self, hidden_states: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend over tokens (B, T, d).

        Returns:
            new tokens of the same shape, and the weights (B, heads, T, T), or None with SDPA.
        """
        query, key, value = (
            projection(hidden_states).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        attention: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        context, weights = attention(
            self, query, key, value, None, is_causal=False, scaling=self.scaling, dropout=0.0, **kwargs
        )
        return self.output(context.flatten(2)), weights


class BeatLayer(GradientCheckpointingLayer):
    """Pre-norm transformer block. Its norms have a gain and no bias."""

    def __init__(self, config: BeatConfig):
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps, bias=False)
        self.attention = BeatAttention(config)
        self.mlp_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps, bias=False)
        self.mlp = Mlp(config.hidden_size, config.intermediate_size, config.hidden_act)

    def forward(self, hidden_states: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> torch.Tensor:
        """Add attention and MLP to the tokens (B, T, d)."""
        attended, _ = self.attention(self.attention_norm(hidden_states), **kwargs)
        hidden_states = hidden_states + attended
        return hidden_states + self.mlp(self.mlp_norm(hidden_states))


class BeatTransformer(nn.Module):
    """Layers in which every token sees every token, and a last norm."""

    def __init__(self, config: BeatConfig):
        super().__init__()
        self.layers = nn.ModuleList(BeatLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps, bias=False)

    def forward(self, hidden_states: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> torch.Tensor:
        """Map tokens (B, T, d) to tokens of the same shape."""
        for layer in self.layers:
            hidden_states = layer(hidden_states, **kwargs)
        return self.norm(hidden_states)


__all__ = ["BeatLayer", "BeatTransformer", "cut_patches", "join_patches"]
