"""Blocks that encoders and fusion share: a two-layer MLP and stochastic depth."""

import torch
from torch import nn
from transformers.activations import ACT2FN

TOKENS_AT_ONCE = 1024
"""On a CPU without gradients, an MLP maps this many tokens at once, because its inner values are four times as wide.

With fewer tokens the matrix products are slower, with more the inner values leave the processor's cache and take more
memory (docs/results/speed/profiles.md).
"""


class Mlp(nn.Module):
    """Two linear layers with an activation between them.

    Args:
        width: width of input and output.
        inner_width: width between the layers.
        activation: name of the activation in transformers, for example "gelu".
        dropout: probability of dropout after each of the two layers.
    """

    def __init__(self, width: int, inner_width: int, activation: str = "gelu", dropout: float = 0.0):
        super().__init__()
        self.fc1 = nn.Linear(width, inner_width)
        self.activation = ACT2FN[activation]
        self.fc2 = nn.Linear(inner_width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (..., width) to (..., width)."""
        if torch.is_grad_enabled() or self.training or hidden_states.device.type != "cpu":
            return self._map(hidden_states)
        parts = hidden_states.flatten(0, -2).split(TOKENS_AT_ONCE)
        return torch.cat([self._map(part) for part in parts]).view_as(hidden_states)

    def _map(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map tokens (..., width) to (..., width) at once."""
        hidden_states = self.dropout(self.activation(self.fc1(hidden_states)))
        return self.dropout(self.fc2(hidden_states))


def drop_path(hidden_states: torch.Tensor, probability: float, training: bool) -> torch.Tensor:
    """Set whole samples to zero at random in training: stochastic depth (Huang et al. 2016), DP(.; p_drop) of eq. (9).

    The echo encoder drops the branch, so that a dropped sample keeps its residual only. The guidance drops the
    residual, as eq. (9) writes it.

    Args:
        hidden_states: (B, ...).
        probability: chance of a sample to become zero. The other samples are multiplied by 1 / (1 - probability).
        training: False returns `hidden_states` unchanged.
    """
    if not training or probability == 0.0:
        return hidden_states
    keep = 1.0 - probability
    kept = hidden_states.new_empty(len(hidden_states), *[1] * (hidden_states.ndim - 1)).bernoulli_(keep)
    return hidden_states * kept / keep
