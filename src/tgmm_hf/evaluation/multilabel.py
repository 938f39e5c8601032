"""The figures of a multilabel under one modality subset: a table by finding, and the means over the findings.

A finding that is not known of a patient does not count for this patient. Notation: n admissions, F findings.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tgmm_hf.evaluation.calibration import OperatingPoint, choose_operating_point
from tgmm_hf.evaluation.diagnosis import decision_figures
from tgmm_hf.evaluation.metrics import (
    Draws,
    UndefinedFigureError,
    estimate,
    resampled_auc,
    resampled_average_precision,
    resampled_mean,
)

Points = Mapping[str, OperatingPoint]
"""Finding -> threshold and temperature."""


def matrix(rows: pd.DataFrame, column: str) -> NDArray:
    """Return a column of lists as a matrix (n, F), NaN where unknown."""
    if not len(rows):
        return np.zeros((0, 0))
    return np.stack([np.asarray(row, dtype=np.float64) for row in rows[column]])


def macro_auc(score: NDArray, present: NDArray, counts: NDArray) -> NDArray:
    """Compute the mean AUC over the findings of every resample.

    A finding that all or none of the rows have does not count. In a resample, neither does a finding of which the
    resample has one class only.

    Args:
        score: (n, F).
        present: (n, F) 0 or 1, NaN where unknown.
        counts: (R, n).

    Raises:
        UndefinedFigureError: If no finding is both present and absent.
    """
    return _macro(resampled_auc, score, present, counts)


def _macro(figure: Any, score: NDArray, present: NDArray, counts: NDArray) -> NDArray:
    """Average a figure over the findings that are both present and absent: (R,)."""
    values = []
    for column in scored_findings(present):
        is_known = ~np.isnan(present[:, column])
        values.append(figure(score[is_known, column], present[is_known, column], counts[:, is_known]))
    if not values:
        raise UndefinedFigureError("no finding is both present and absent among these patients")
    stacked = np.stack(values)
    defined = ~np.isnan(stacked)
    number = defined.sum(axis=0)
    return np.where(number > 0, np.where(defined, stacked, 0.0).sum(axis=0) / np.maximum(number, 1), np.nan)


def scored_findings(present: NDArray) -> list[int]:
    """List the findings (columns) that are both present and absent. `present` is (n, F), NaN where unknown."""
    return [k for k in range(present.shape[1]) if (present[:, k] == 1).any() and (present[:, k] == 0).any()]


def multilabel_figures(rows: pd.DataFrame, draws: Draws, settings: Mapping[str, Any], points: Points) -> dict[str, Any]:
    """Compute the figures of scored admissions.

    Args:
        rows: Admissions of which a finding is known. Columns: probabilities, findings (lists in the task's order).
        draws: Resamples of these rows.
        settings: The task's settings.
        points: Finding -> threshold and temperature that were chosen on validation patients.

    Returns:
        Entry of metrics.json: "macro_auc" and "macro_auprc" with intervals, "macro_findings" (number of findings behind
        them), "macro_left_out" (findings that all or none of these rows have), "macro_auprc_chance", and "findings":
        finding -> figures of `_finding`.
    """
    names = list(settings["findings"])
    score, present = matrix(rows, "probabilities"), matrix(rows, "findings")
    if not len(rows):
        score = present = np.zeros((0, len(names)))
    entry = estimate(partial(macro_auc, score, present), draws.free).entry("macro_auc")
    precision = partial(_macro, resampled_average_precision, score, present)
    entry |= estimate(precision, draws.free).entry("macro_auprc")
    scored = scored_findings(present)
    entry["macro_findings"] = len(scored)
    entry["macro_left_out"] = [name for k, name in enumerate(names) if k not in scored]
    entry["macro_auprc_chance"] = float(np.mean([np.nanmean(present[:, k]) for k in scored])) if scored else None
    entry["findings"] = {
        name: _finding(score[:, k], present[:, k], draws, points.get(name, OperatingPoint()))
        for k, name in enumerate(names)
    }
    return entry


def _finding(score: NDArray, present: NDArray, draws: Draws, point: OperatingPoint) -> dict[str, Any]:
    """Compute the figures of one finding on the admissions of which it is known.

    Args:
        score: (n,) probability.
        present: (n,) 0 or 1, NaN where unknown.
        draws: Resamples of the n rows.
        point: Threshold and temperature.
    """
    is_known = ~np.isnan(present)
    probability, positive, counts = score[is_known], present[is_known], draws.free[:, is_known]
    prevalence = float(positive.mean()) if is_known.any() else None
    entry: dict[str, Any] = {"n": int(is_known.sum()), "positives": int(positive.sum()), "prevalence": prevalence}
    entry |= estimate(partial(resampled_auc, probability, positive), counts).entry("auc")
    entry |= estimate(partial(resampled_average_precision, probability, positive), counts).entry("auprc")
    scaled = point.scaled(probability)
    entry |= estimate(partial(resampled_mean, (scaled - positive) ** 2), counts).entry("brier")
    entry["brier_of_prevalence"] = None if prevalence is None else prevalence * (1 - prevalence)
    entry |= {"temperature": point.temperature, "threshold": point.entry()}
    return entry | decision_figures(scaled >= point.threshold, positive, Draws(counts, counts))


def choose_points(
    rows: pd.DataFrame | None, names: Sequence[str], sensitivity: float | None = None, temperature: bool = False
) -> dict[str, OperatingPoint]:
    """Choose threshold and temperature of every finding, as for a diagnosis.

    Args:
        rows: Predictions of validation patients under one subset. None gives the threshold 0.5.
        names: Findings in the order of the task.
        sensitivity: Sensitivity that a threshold must reach. None for Youden's index.
        temperature: Whether to fit a temperature.
    """
    if rows is None or not len(rows):
        return {name: OperatingPoint(chosen_on="nobody: there are no validation patients") for name in names}
    score, present = matrix(rows, "probabilities"), matrix(rows, "findings")
    points = {}
    for column, name in enumerate(names):
        is_known = ~np.isnan(present[:, column])
        points[name] = choose_operating_point(
            score[is_known, column], present[is_known, column], sensitivity=sensitivity, temperature=temperature
        )
    return points
