"""Gated cross-attention: before each layer of a language model the text attends to the ECG (Alayrac et al. 2022).

The layers of the language model stay as they are. A hook before each layer adds what its new block gives.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from ...layers.feed_forward import Mlp


class GatedCrossAttention(nn.Module):
    """Text attends to ECG vectors, then a small MLP. Two gates start at zero, so that the text is unchanged at first.

    Args:
        width: width of the language model and of the ECG vectors.
        num_heads: attention heads.
    """

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.text_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = Mlp(width, 4 * width)
        self.gates = nn.Parameter(torch.zeros(2))

    def forward(self, hidden_states: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """Add what the ECG vectors (batch, K, width) give to the states of the text (batch, tokens, width)."""
        attention_gate, mlp_gate = self.gates.tanh()
        query = self._heads(self.query(self.text_norm(hidden_states)))
        key, value = (self._heads(part) for part in self.key_value(vectors).chunk(2, dim=-1))
        attended = nn.functional.scaled_dot_product_attention(query, key, value)
        hidden_states = hidden_states + attention_gate * self.output(attended.transpose(1, 2).flatten(2))
        return hidden_states + mlp_gate * self.mlp(self.mlp_norm(hidden_states))

    def _heads(self, states: torch.Tensor) -> torch.Tensor:
        """Split (batch, places, width) into heads: (batch, heads, places, head size)."""
        return states.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class CrossAttentionLayers(nn.Module):
    """One `GatedCrossAttention` before each layer of a language model.

    Args:
        config: configuration of the language model.
        layers: its decoder layers. They are not part of this module.
    """

    def __init__(self, config: Any, layers: nn.ModuleList):
        super().__init__()
        width, heads = config.hidden_size, config.num_attention_heads
        self.blocks = nn.ModuleList([GatedCrossAttention(width, heads) for _ in layers])
        self._vectors: torch.Tensor | None = None
        for index, layer in enumerate(layers):
            layer.register_forward_pre_hook(partial(self._before_layer, index), with_kwargs=True)

    @contextmanager
    def attending_to(self, vectors: torch.Tensor) -> Iterator[None]:
        """Let the language model attend to ECG vectors (batch, K, width) within the block."""
        self._vectors = vectors
        try:
            yield
        finally:
            self._vectors = None

    def _before_layer(
        self, index: int, layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Change the states that go into a layer. torch calls this before the layer.

        Args:
            index: of the layer.
            layer: not used.
            inputs: of the layer; the first are the states (batch, tokens, width) unless they are in `named`.
            named: named inputs of the layer.
        """
        vectors = self._vectors
        if vectors is None:
            raise ValueError(
                "The language model runs without an ECG, because it was called directly. Call the MEIT model instead."
            )
        if inputs:
            return (self.blocks[index](inputs[0], vectors), *inputs[1:]), named
        return inputs, {**named, "hidden_states": self.blocks[index](named["hidden_states"], vectors)}


__all__ = ["CrossAttentionLayers", "GatedCrossAttention"]
