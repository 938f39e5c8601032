"""Attention pooling: an encoder's tokens -> N fusion tokens."""

import torch
from torch import nn
from transformers.utils import logging

from ..configuration_tgmm import TgmmConfig
from .attention import TgmmAttention
from .distributed import several_processes, sum_over_processes

logger = logging.get_logger(__name__)


class TgmmStandardise(nn.Module):
    """Standardise each feature by its running mean and standard deviation over the training patients (ours).

    The reason: most of an encoder's output is the same for every patient, above all with random weights. This part
    would hide the part that differs between patients.

    Evaluation and training both use the running statistics, unlike batch normalisation. In training mode each call
    first updates the buffers `mean`, `variance` and `steps` in place. One patient is enough for a batch.

    The gradient with respect to the batch mean is dropped: a change that moves a feature of all patients alike gets no
    gradient. The running mean would remove such a change within about twenty steps, so an optimiser would repeat the
    change for ever, and the variance would grow. Batch renormalisation (Ioffe 2017, arXiv:1702.03275) has the full
    gradient of batch normalisation for the same reason. If a step has one patient, the whole gradient is kept.

    Args:
        shape: shape of one patient's features, without the batch axis.
        eps: added to the variance.

    Attributes:
        is_held: True to keep the running statistics in training too, see `hold_running_statistics`.
        updates_under_adapters: True to update them although the model has adapters, because they are saved with it.
    """

    MOMENTUM = 0.05
    is_held = False
    updates_under_adapters = False
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
        """Standardise features (B, *shape); the result has the same shape and dtype."""
        # In float32 whatever the dtype of the model, because the mean is much larger than the difference of patients.
        values = features.float()
        if self.training and not self.is_held:
            values = self._update(values)
        deviation = (self.variance.float() + self.eps).sqrt()
        return ((values - self.mean.float()) / deviation).to(features.dtype)

    def _update(self, values: torch.Tensor) -> torch.Tensor:
        """Update the running statistics with `values` (B, *shape), in place.

        The patients of all processes count, so that every process keeps the same statistics and gradients.

        Returns:
            the same values. If there are several patients, their gradient sums to zero over the batch.
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


def hold_running_statistics(model: nn.Module) -> None:
    """Hold the running statistics of a model whose adapters do not save them; let all others run. In place.

    PEFT saves the weights of adapters and the modules that `modules_to_save` names. Running statistics that changed
    beside them would be lost, and the adapter would answer otherwise after it was loaded again. So they keep the values
    of the base model.

    Args:
        model: a `TgmmModel`, with or without adapters of PEFT.
    """
    # An attribute of every layer that PEFT puts in.
    has_adapters = any(hasattr(module, "adapter_layer_names") for module in model.modules())
    for name, module in model.named_modules():
        if isinstance(module, TgmmStandardise):
            is_saved = module.updates_under_adapters or "modules_to_save." in name
            module.is_held = has_adapters and not is_saved
            if module.is_held:
                logger.warning_once(
                    "The adapters do not save `standardise`, so its running statistics stay as they are. To train them "
                    'too, add modules_to_save=["standardise"] to the LoraConfig.'
                )


class TgmmAttentionPool(nn.Module):
    """Pooling (ours): N learned queries read an encoder's tokens, and each result is added to the encoder's summary.

    With N = 1 nothing is read. The one fusion token is the summary, because the paper has one vector for each modality.

    Args:
        config: gives N (`num_fusion_tokens`), the width d, the heads and the dropout.
        encoder_width: width D of the encoder's tokens and summary.
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
        """Pool the output of an encoder to fusion tokens.

        Args:
            summary: (B, D) one vector for each patient.
            tokens: (B, L, D).
            token_mask: (B, L) bool, True for a token that may be read.

        Returns:
            (B, N, d).
        """
        summary = self.project(summary)[:, None]
        if self.num_tokens == 1:
            return self.dropout(summary)
        memory = self.memory_norm(self.project(tokens))
        queries = self.queries.expand(len(memory), -1, -1)
        read, _ = self.attention(queries, memory, token_mask[:, None, None, :])
        return self.dropout(self.standardise(summary + read))
