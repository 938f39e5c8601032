"""Attention and transformer blocks over a few dozen tokens, for fusion, guidance and response.

Notation in shape comments: B patients, Q queries, K keys, d width, d_p projected width.
"""

import torch
from torch import nn

from ..configuration_tgmm import TgmmConfig
from .feed_forward import Mlp


def masked_softmax(scores: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Compute the softmax of `scores` (..., K) over the last axis in float32; the result has the dtype of `scores`.

    Args:
        scores: (..., K).
        mask: bool, broadcastable to `scores`, False for a key that gets the weight 0. If all keys of a row are masked,
            all its weights are 0 and not NaN. None masks nothing.
    """
    if mask is None:
        return scores.softmax(-1, dtype=torch.float32).to(scores.dtype)
    weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1, dtype=torch.float32)
    return (weights * mask).to(scores.dtype)


class TgmmAttention(nn.Module):
    """Multi-head attention that returns its weights.

    Args:
        width: d of queries and memory.
        heads: number of heads.
        constants: whether values and output have a bias. Use False if a standardisation follows: it removes the biases
            again, so that their gradients are rounding errors, which Adam would follow at its full rate.
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
        """Let queries read a memory.

        Args:
            queries: (B, Q, d).
            memory: (B, K, d).
            mask: bool, broadcastable to (B, heads, Q, K); True where a query may look.

        Returns:
            values (B, Q, d) and weights (B, heads, Q, K).
        """
        query, key, value = self.project(queries, memory)
        weights = masked_softmax(query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5, mask)
        return self.output((weights @ value).transpose(1, 2).flatten(2)), weights

    def project(self, queries: torch.Tensor, memory: torch.Tensor) -> list[torch.Tensor]:
        """Project queries (B, Q, d) and memory (B, K, d) to query, key and value of each head, (B, heads, ., d_h)."""
        parts = (self.query(queries), self.key(memory), self.value(memory))
        return [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts]


class TgmmProjection(nn.Module):
    """Query, key and value of attention with one head, shared by all modalities: d -> d_p, and back to d.

    First come W_Q, W_K, W_V of eq. (1), from d to d. P(.) of eq. (3) then projects to the wider space d_p. The paper
    projects key and value only. We project the query too, and add an output projection from d_p to d, because the
    shapes would not fit otherwise.

    Args:
        width: d.
        projected_width: d_p.
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
        """Project (..., d) to query, key and value, each (..., d_p)."""
        return (
            self.project_query(self.query(hidden_states)),
            self.project_key(self.key(hidden_states)),
            self.project_value(self.value(hidden_states)),
        )

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute eq. (2), softmax(Q K^T / sqrt(d_p)) V, and project the result back to d.

        Args:
            query: (B, Q, d_p).
            key: (B, K, d_p).
            value: (B, K, d_p).
            mask: bool, broadcastable to (B, 1, Q, K); True where a query may look.

        Returns:
            the result (B, Q, d), and the attention weights of the one head (B, 1, Q, K).
        """
        scores = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5)[:, None]
        weights = masked_softmax(scores, mask)
        return self.output((weights @ value[:, None])[:, 0]), weights


class TgmmBlock(nn.Module):
    """Pre-norm transformer block. Its three parts are called one by one.

    Args:
        config: gives width, heads and the epsilon of the norms.
        cross_attention: whether the block has `attend_memory`. The decoder has it, the encoder of task texts has not.
    """

    def __init__(self, config: TgmmConfig, cross_attention: bool):
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.self_norm = nn.LayerNorm(width, eps=eps)
        self.self_attention = TgmmAttention(width, config.num_attention_heads)
        if cross_attention:
            self.cross_norm = nn.LayerNorm(width, eps=eps)
            self.cross_attention = TgmmAttention(width, config.num_attention_heads)
        self.mlp_norm = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, 4 * width)

    def attend_self(self, hidden_states: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Add self-attention to the hidden states (B, Q, d). `mask` is that of [`TgmmAttention`]."""
        normed = self.self_norm(hidden_states)
        return hidden_states + self.self_attention(normed, normed, mask)[0]

    def attend_memory(
        self, hidden_states: torch.Tensor, memory: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Let the hidden states (B, Q, d) read a memory (B, K, d). `mask` is that of [`TgmmAttention`].

        Returns:
            the hidden states plus what they read (B, Q, d), and the weights (B, heads, Q, K).
        """
        attended, weights = self.cross_attention(self.cross_norm(hidden_states), memory, mask)
        return hidden_states + attended, weights

    def feed_forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Add the MLP to the hidden states (B, Q, d)."""
        return hidden_states + self.mlp(self.mlp_norm(hidden_states))
