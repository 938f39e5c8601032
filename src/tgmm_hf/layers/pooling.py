"""Attention pooling: an encoder's tokens -> N fusion tokens."""

import torch
from torch import nn

from ..configuration_tgmm import TgmmConfig
from .attention import TgmmAttention
from .distributed import several_processes, sum_over_processes


class TgmmStandardise(nn.Module):
    """Standardise each feature by its running mean and standard deviation over the training patients (ours).

    By far the larger part of an encoder's output is the same for every patient, above all with random weights. It would
    drown the part that differs between patients.

    Unlike batch normalisation, training uses the running statistics too. The batch updates them before they are used,
    because a batch may hold one patient.

    The gradient leaves out the part that moves a feature of all patients of the batch alike. The running mean would
    remove such a move again some twenty steps later. An optimiser that is asked for the move would then go on for ever,
    and the chase of the mean would count as spread. Batch renormalisation (Ioffe 2017, arXiv:1702.03275) has the
    gradient of batch normalisation for the same reason; here it is the gradient of its mean. A patient that is alone in
    a step keeps the whole gradient.
    """

    MOMENTUM = 0.05
    mean: torch.Tensor
    variance: torch.Tensor
    steps: torch.Tensor

    def __init__(self, *shape: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        # The dtype is written out, because a model that is built under another default dtype would otherwise give it to
        # these buffers. The model's `_keep_in_fp32_modules_strict` holds for loading only.
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float32))
        self.register_buffer("variance", torch.ones(shape, dtype=torch.float32))
        self.register_buffer("steps", torch.zeros((), dtype=torch.float32))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Standardise (B, *shape)."""
        # In float32 whatever the dtype of the model, because the mean is much larger than the difference of patients.
        values = features.float()
        if self.training:
            values = self._update(values)
        deviation = (self.variance.float() + self.eps).sqrt()
        return ((values - self.mean.float()) / deviation).to(features.dtype)

    def _update(self, values: torch.Tensor) -> torch.Tensor:
        """Update the running statistics with this batch.

        The patients of all processes count, so that every process keeps the same statistics and gradients.

        Returns:
            the same values, with a gradient whose sum over the batch is zero.
        """
        number = sum_over_processes(torch.tensor(float(len(values)), device=values.device))
        if number == 0:
            return values
        if several_processes() and torch.is_grad_enabled() and not values.requires_grad:
            # No patient of this process has the modality and the parts before are frozen. The gradients of the other
            # processes still wait for this one.
            values = values.detach().requires_grad_()
        mean = sum_over_processes(values.sum(0)) / number
        with torch.no_grad():
            variance = sum_over_processes(((values - mean) ** 2).sum(0)) / number
            # A plain average over the first batches, an exponential average after them.
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
    """N learned queries read an encoder's tokens. Each adds its result to the encoder's own summary vector (ours).

    With N = 1 the summary alone is used as it is, because the paper has one vector a modality.
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
            # Constants would be standardised away.
            self.memory_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps, bias=False)
            self.attention = TgmmAttention(config.hidden_size, config.num_attention_heads, constants=False)
            self.standardise = TgmmStandardise(self.num_tokens, config.hidden_size)
        self.dropout = nn.Dropout(config.feature_dropout)

    def forward(self, summary: torch.Tensor, tokens: torch.Tensor, token_mask: torch.Tensor) -> torch.Tensor:
        """Pool summary (B, D) and tokens (B, L, D) with token_mask (B, L) to (B, N, d)."""
        summary = self.project(summary)[:, None]
        if self.num_tokens == 1:
            return self.dropout(summary)
        memory = self.memory_norm(self.project(tokens))
        queries = self.queries.expand(len(memory), -1, -1)
        read, _ = self.attention(queries, memory, token_mask[:, None, None, :])
        return self.dropout(self.standardise(summary + read))
