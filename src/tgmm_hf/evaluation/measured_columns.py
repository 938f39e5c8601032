"""The columns of predictions of a regression and a multilabel, for one batch under one subset."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def measured_columns(
    kind: str, output: Any, labels: dict[str, torch.Tensor], present: NDArray, place: str
) -> dict[str, Any]:
    """Return the columns of a regression or multilabel for B admissions, as `Predictions` describes them.

    Args:
        kind: "regression" or "multilabel".
        output: The model's output.
        labels: The task's labels as the collator gives them.
        present: True for an admission that has all modalities of the subset, bool (B,).
        place: Task and subset, for the error message.

    Raises:
        ValueError: If an output of a present admission is not finite.
    """
    nothing = dict.fromkeys(("probability", "predicted", "risk", "label", "positive", "time", "event"), np.nan)
    if kind == "multilabel":
        probabilities = array_of(output.probabilities).astype(np.float64)
        refuse_broken(np.asarray(~np.isfinite(probabilities).all(axis=1)), present, place)
        findings = _known(labels, "findings", probabilities.shape)
        number = (~np.isnan(findings)).sum(axis=1).astype(np.float64)
        number = np.where(number > 0, number, np.nan)
        return nothing | {"probabilities": list(probabilities), "findings": list(findings), "num_known": number}
    value = array_of(output.value).astype(np.float64)
    refuse_broken(~np.isfinite(value), present, place)
    deviation = np.nan if output.deviation is None else array_of(output.deviation).astype(np.float64)
    measured = _known(labels, "value", value.shape)
    return nothing | {"probabilities": None, "value": value, "deviation": deviation, "measured": measured}


def _known(labels: dict[str, torch.Tensor], name: str, shape: tuple[int, ...]) -> NDArray:
    """Return a label as float64, NaN where it is not known."""
    if name not in labels:
        return np.full(shape, np.nan)
    mask = array_of(labels["mask"]).astype(bool) if "mask" in labels else np.ones(shape, dtype=bool)
    return np.where(mask, array_of(labels[name]).astype(np.float64), np.nan)


def refuse_broken(broken: NDArray, present: NDArray, place: str) -> None:
    """Raise a ValueError if an output of an admission that has the modalities of the subset is not finite.

    Args:
        broken: Whether the output is not finite, bool (B,).
        present: Whether the admission has all modalities of the subset, bool (B,).
        place: Task and subset, for the message.
    """
    if (broken & present).any():
        raise ValueError(
            f"{int((broken & present).sum())} of {int(present.sum())} outputs for {place} are not finite. The weights "
            "diverged or an input is broken: look at the training losses, then at the inputs of these admissions."
        )


def array_of(tensor: torch.Tensor) -> NDArray:
    """Convert a tensor to numpy. Half precision becomes float32, because numpy has no bfloat16."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
