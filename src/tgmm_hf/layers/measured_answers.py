"""Answers of a regression and of a multilabel: a linear head on the pooled slots (ours, decision 208).

    pool_slots -> (B, d) -> linear -> (B, outputs)
    regression      output 0 is the number in units of `scale` around `center`; output 1 its log variance, if any
    multilabel      one logit for each finding

The losses are means over the labelled rows of all processes. A row or finding without a label is masked.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..configuration_measured_tasks import scale_of
from .distributed import gather_batch

HUBER_DELTA = 1.0
"""Distance, in deviations of the training patients, from which the Huber loss grows linearly."""
LARGEST_LOG_VARIANCE = 8.0
"""Largest absolute log variance, in units of `scale`, so that one wrong patient gives no infinite loss."""


def head_fields(task: Mapping[str, Any], outputs: torch.Tensor) -> dict[str, torch.Tensor]:
    """Turn the outputs of a head into fields of `TgmmOutput`.

    Args:
        task: the task's settings.
        outputs: (B, outputs) of the head; NaN for a patient without any modality.

    Returns:
        "value" (B,) and perhaps "deviation" (B,), in the unit of the task, for a regression; "logits" and
        "probabilities" (B, findings) for a multilabel.
    """
    outputs = outputs.float()
    if task["kind"] == "multilabel":
        return {"logits": outputs, "probabilities": outputs.sigmoid()}
    center, scale = scale_of(task)
    fields = {"value": center + scale * outputs[:, 0]}
    if task["loss"] == "gaussian_nll":
        fields["deviation"] = scale * (0.5 * _log_variance(outputs)).exp()
    return fields


def head_losses(
    task: Mapping[str, Any], labels: Mapping[str, torch.Tensor], outputs: torch.Tensor, has_evidence: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Compute the loss of a head.

    Args:
        task: the task's settings.
        labels: `value` (B,) in the unit of the task, or `findings` (B, findings) with 0 and 1; and `mask` of the same
            shape, True where the label is known.
        outputs: (B, outputs) of the head. They are finite for every row.
        has_evidence: (B,) bool, False for a patient without any modality.

    Returns:
        {"huber": ...} or {"gaussian_nll": ...}, in units of `scale`; {"bce": ...} for a multilabel. Each is a scalar,
        and a zero with gradients if nothing is labelled.
    """
    outputs = outputs.float()
    if task["kind"] == "multilabel":
        is_known = labels["mask"].bool() & has_evidence[:, None]
        targets = labels["findings"].to(outputs).masked_fill(~is_known, 0.0)
        loss = nn.functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none")
        return {"bce": _masked_mean(loss, is_known)}
    is_known = labels["mask"].bool() & has_evidence
    center, scale = scale_of(task)
    targets = ((labels["value"].to(outputs) - center) / scale).masked_fill(~is_known, 0.0)
    if task["loss"] == "gaussian_nll":
        log_variance = _log_variance(outputs)
        loss = 0.5 * (log_variance + (outputs[:, 0] - targets) ** 2 * (-log_variance).exp())
    else:
        loss = nn.functional.huber_loss(outputs[:, 0], targets, reduction="none", delta=HUBER_DELTA)
    return {task["loss"]: _masked_mean(loss, is_known)}


def _log_variance(outputs: torch.Tensor) -> torch.Tensor:
    """Return the second output (B,), kept between plus and minus `LARGEST_LOG_VARIANCE`."""
    return outputs[:, 1].clamp(-LARGEST_LOG_VARIANCE, LARGEST_LOG_VARIANCE)


def _masked_mean(loss: torch.Tensor, is_known: torch.Tensor) -> torch.Tensor:
    """Average a loss over the entries whose label is known, over all processes; 0 if there are none."""
    losses, weights = gather_batch(loss), gather_batch(is_known.to(torch.float32))
    return (losses * weights).sum() / weights.sum().clamp(min=1.0)


__all__ = ["head_fields", "head_losses"]
