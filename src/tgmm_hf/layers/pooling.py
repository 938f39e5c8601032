"""Attention pooling: an encoder's tokens -> N fusion tokens."""

import torch
from torch import nn

from ..configuration_tgmm import TgmmConfig
from .attention import TgmmAttention
from .distributed import several_processes, sum_over_processes


class TgmmStandardise(nn.Module):
    """Each feature minus its running mean over the training patients, by its running standard deviation (ours).

    What an encoder says of every patient alike is by far the larger part of its output, of one with random weights
    above all, and would drown what it says of this one. Unlike in batch normalisation the running figures serve in
    training too, updated by the batch before they are used: a batch is one step of an average, and may hold one
    patient.

    The gradient alone sees the batch: it leaves out what would move a feature of all its patients alike. The running
    mean takes any such move away again, some twenty steps late, so that an optimiser that was asked for it would go on
    for ever, and the mean's chase would pass for spread (batch renormalisation, Ioffe 2017, arXiv:1702.03275, has the
    gradient of batch normalisation for the same reason; here that of its mean). A patient alone in a step keeps all of
    it.
    """

    MOMENTUM = 0.05

    def __init__(self, *shape: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        # The dtype is written out, because a model that is built under another default dtype would otherwise give it to
        # these buffers. The model's `_keep_in_fp32_modules_strict` holds for loading only.
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float32))
        self.register_buffer("variance", torch.ones(shape, dtype=torch.float32))
        self.register_buffer("steps", torch.zeros((), dtype=torch.float32))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, *shape) -> the same."""
        # In float32 whatever the model's type: the mean is much larger than what patients differ by.
        values = features.float()
        if self.training:
            values = self._update(values)
        deviation = (self.variance.float() + self.eps).sqrt()
        return ((values - self.mean.float()) / deviation).to(features.dtype)

    def _update(self, values: torch.Tensor) -> torch.Tensor:
        """Count a batch in; the same values, whose gradients add up to nothing over the patients.

        Patients are those of all processes, so that these keep the same figures and gradients.
        """
        number = sum_over_processes(torch.tensor(float(len(values)), device=values.device))
        if number == 0:
            return values
        if several_processes() and torch.is_grad_enabled() and not values.requires_grad:
            # nobody here has the modality and the parts before are frozen: the others' gradients still wait for ours
            values = values.detach().requires_grad_()
        mean = sum_over_processes(values.sum(0)) / number
        with torch.no_grad():
            variance = sum_over_processes(((values - mean) ** 2).sum(0)) / number
            # The plain average of the first batches, then an exponential one.
            self.steps += 1
            momentum = (1 / self.steps).clamp(min=self.MOMENTUM)
            difference = mean - self.mean
            spread = variance + (1 - momentum) * difference**2
            self.mean += momentum * difference
            self.variance += momentum * (spread - self.variance)
        if number == 1:
            return values
        return values - (mean - mean.detach())


class TgmmAttentionPool(nn.Module):
    """N learned queries read an encoder's tokens; each adds what it found to the encoder's own summary vector (ours).

    With N = 1 the summary alone is used as it is: the paper's one vector a modality.
    """

    def __init__(self, config: TgmmConfig, encoder_width: int):
        super().__init__()
        self.project = (
            nn.Identity() if encoder_width == config.hidden_size else nn.Linear(encoder_width, config.hidden_size)
        )
        self.encoder_width = encoder_width
        self.num_tokens = config.num_fusion_tokens
        if self.num_tokens > 1:
            self.queries = nn.Parameter(torch.zeros(self.num_tokens, config.hidden_size))
            # constants would be standardised away
            self.memory_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps, bias=False)
            self.attention = TgmmAttention(config.hidden_size, config.num_attention_heads, constants=False)
            self.standardise = TgmmStandardise(self.num_tokens, config.hidden_size)
        self.dropout = nn.Dropout(config.feature_dropout)

    def forward(self, summary: torch.Tensor, tokens: torch.Tensor, token_mask: torch.Tensor) -> torch.Tensor:
        """Summary (B, D), tokens (B, L, D), token_mask (B, L) -> (B, N, d)."""
        summary = self.project(summary)[:, None]
        if self.num_tokens == 1:
            return self.dropout(summary)
        memory = self.memory_norm(self.project(tokens))
        queries = self.queries.expand(len(memory), -1, -1)
        found, _ = self.attention(queries, memory, token_mask[:, None, None, :])
        return self.dropout(self.standardise(summary + found))
