"""The same patient's map under two tasks, and their difference (paper, figure 9 b-c)."""

from dataclasses import replace

import numpy as np

from tgmm_hf.explanation.attribution import Attribution


def difference(first: Attribution, second: Attribution) -> Attribution:
    """Subtract the second map from the first, each divided by the sum of its absolute values.

    Log-odds and log hazard ratios have no common unit. So each map is brought to shares of its own task.

    Args:
        first: map of a patient under one task.
        second: map of the same patient by the same method under another task.

    Returns:
        The difference of shares. Positive values matter more for the first task, or more in favour of its target.

    Raises:
        ValueError: if the two maps differ in modality, method or axes.
    """
    same = (first.modality, first.method) == (second.modality, second.method)
    if not same or first.axes != second.axes:
        raise ValueError(
            f"{first.method} of {first.modality} and {second.method} of {second.modality} cannot be compared: "
            "modality, method and axes must be equal."
        )
    return replace(
        first,
        task=f"{first.task} - {second.task}",
        target=f"{first.target} - {second.target}",
        values=_shares(first.values) - _shares(second.values),
        unit="relative",
        baseline="none",
        output=first.output,
        baseline_output=None,
        completeness_error=None,
        notes=(f"shares of {first.task} minus shares of {second.task}; `output` is that of {first.task}",),
    )


def _shares(values: np.ndarray) -> np.ndarray:
    """Divide values by the sum of their absolute values; zeros stay zeros."""
    total = np.nansum(np.abs(values))
    return values / total if total > 0 else values
