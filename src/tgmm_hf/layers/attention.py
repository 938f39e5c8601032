"""Attention, MLP and projection blocks of fusion, guidance and response."""

import torch
from torch import nn

from ..configuration_tgmm import TgmmConfig


def masked_softmax(scores: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Softmax over the last axis in float32; where every key is masked the weights are all zero, not NaN."""
    if mask is None:
        return scores.softmax(-1, dtype=torch.float32).to(scores.dtype)
    weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1, dtype=torch.float32)
    return (weights * mask).to(scores.dtype)


class TgmmAttention(nn.Module):
    """Multi-head attention over a few dozen tokens that returns its weights.

    Without `constants` it adds none to its output: where a standardisation follows they have no gradient but rounding,
    which Adam would follow at its full rate.
    """

    def __init__(self, width: int, heads: int, constants: bool = True):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width, bias=constants)
        self.output = nn.Linear(width, width, bias=constants)

    def forward(
        self, queries: torch.Tensor, memory: torch.Tensor, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries (B, Q, d), memory (B, K, d), mask broadcastable to (B, heads, Q, K) -> (B, Q, d), (B, heads, Q,
        K)."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(queries), self.key(memory), self.value(memory))
        )
        weights = masked_softmax(query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5, mask)
        return self.output((weights @ value).transpose(1, 2).flatten(2)), weights


class TgmmMlp(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(hidden_states)))


class TgmmProjection(nn.Module):
    """W_Q, W_K, W_V of eq. (1), shared by all modalities, followed by P(.) of eq. (3) into the wider space d_p.

    The query goes there too and an output projection returns to d: ours, needed to close the shapes.
    """

    def __init__(self, width: int, projected_width: int):
        super().__init__()
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.project_query = nn.Linear(width, projected_width)
        self.project_key = nn.Linear(width, projected_width)
        self.project_value = nn.Linear(width, projected_width)
        self.output = nn.Linear(projected_width, width)

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(..., d) -> query, key, value, each (..., d_p)."""
        return (
            self.project_query(self.query(hidden_states)),
            self.project_key(self.key(hidden_states)),
            self.project_value(self.value(hidden_states)),
        )

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Eq. (2): softmax(Q K^T / sqrt(d_p)) V, back to width d, and the weights of its one head (B, 1, Q, K)."""
        scores = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5)[:, None]
        weights = masked_softmax(scores, mask)
        return self.output((weights @ value[:, None])[:, 0]), weights


class TgmmBlock(nn.Module):
    """Pre-norm transformer block, with cross-attention where a memory is given: encoder of the task text, and
    decoder."""

    def __init__(self, config: TgmmConfig, cross_attention: bool):
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.self_norm = nn.LayerNorm(width, eps=eps)
        self.self_attention = TgmmAttention(width, config.num_attention_heads)
        if cross_attention:
            self.cross_norm = nn.LayerNorm(width, eps=eps)
            self.cross_attention = TgmmAttention(width, config.num_attention_heads)
        self.mlp_norm = nn.LayerNorm(width, eps=eps)
        self.mlp = TgmmMlp(width)

    def attend_self(self, hidden_states: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        normed = self.self_norm(hidden_states)
        return hidden_states + self.self_attention(normed, normed, mask)[0]

    def attend_memory(
        self, hidden_states: torch.Tensor, memory: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        found, weights = self.cross_attention(self.cross_norm(hidden_states), memory, mask)
        return hidden_states + found, weights

    def feed_forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states + self.mlp(self.mlp_norm(hidden_states))


def drop_path(hidden_states: torch.Tensor, probability: float, training: bool) -> torch.Tensor:
    """DP(.; p_drop) of eq. (9): drops the branch of whole samples in training."""
    if not training or probability == 0.0:
        return hidden_states
    keep = 1.0 - probability
    kept = hidden_states.new_empty(len(hidden_states), *[1] * (hidden_states.ndim - 1)).bernoulli_(keep)
    return hidden_states * kept / keep
