"""Prediction intervals of a regression: finding half-widths on validation patients, measuring them on others.

Split-conformal prediction (Vovk et al., Algorithmic Learning in a Random World, 2005; Lei et al., JASA
2018;113:1094). The score of a patient is the absolute error, divided by the predicted deviation if the model gives one.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tgmm_hf.configuration_measured_tasks import INTERVALS_KEY
from tgmm_hf.evaluation.metrics import Draws, Estimate, estimate, estimate_share, resampled_mean
from tgmm_hf.evaluation.predictions import Predictions
from tgmm_hf.layers.prediction_intervals import half_width_at
from tgmm_hf.layers.prediction_sets import levels_of, rank_of_threshold
from tgmm_hf.utils.names import SUBSET_NAMES


def fit_prediction_intervals(predictions: Predictions, name: str, task: Mapping[str, Any]) -> dict[str, Any]:
    """Fit the half-widths for every subset, on the first admission with a known value of each patient.

    The half-width at a level is the ceil((n + 1) level)-th smallest score of the n patients.

    Args:
        predictions: Predictions of validation patients.
        name: Name of the task.
        task: Its settings.

    Returns:
        Subset -> {"n", "half_widths": {level as text: half-width, or None where there are too few patients}}. With the
        loss "gaussian_nll" a half-width is in predicted deviations, else in the unit of the task.
    """
    fitted = {}
    for subset in SUBSET_NAMES:
        rows = predictions.scored(name, subset).dropna(subset="measured").drop_duplicates("patient_id")
        if len(rows):
            scores = np.sort(np.abs(rows["value"] - rows["measured"]).to_numpy() / _units(rows))
            ranks = {f"{level:g}": rank_of_threshold(len(scores), level) for level in levels_of(task)}
            widths = {level: float(scores[rank - 1]) if rank <= len(scores) else None for level, rank in ranks.items()}
            fitted[subset] = {"n": len(scores), "half_widths": widths}
    return fitted


def _units(rows: pd.DataFrame) -> NDArray:
    """Return the predicted deviation of every row, 1 where the model gives none."""
    return np.nan_to_num(rows["deviation"].to_numpy(np.float64), nan=1.0)


def interval_figures(rows: pd.DataFrame, draws: Draws, task: Mapping[str, Any]) -> dict[str, Any]:
    """Measure the prediction intervals of scored admissions.

    Args:
        rows: Admissions with a known value. Columns: subset, value, measured, deviation.
        draws: Resamples of these rows.
        task: Settings of the task.

    Returns:
        {} if the model stores no intervals, else {"prediction_intervals": {level: figures}}. The figures are "n" (rows
        with an interval), "coverage" and "width" (mean, in the unit of the task) with intervals.
    """
    stored = task.get(INTERVALS_KEY)
    if not stored:
        return {}
    figures = {}
    for level in levels_of(task):
        half = [half_width_at(stored, subset, level) for subset in rows["subset"]]
        widths = np.array([np.nan if width is None else width for width in half], dtype=np.float64) * _units(rows)
        has_interval = ~np.isnan(widths)
        counts = draws.free[:, has_interval]
        error = np.abs(rows["value"] - rows["measured"]).to_numpy()[has_interval]
        entry: dict[str, Any] = {"n": int(has_interval.sum())}
        entry |= _coverage(error <= widths[has_interval], counts)
        figures[f"{level:g}"] = entry | estimate(partial(resampled_mean, 2 * widths[has_interval]), counts).entry(
            "width"
        )
    return {INTERVALS_KEY: figures}


def _coverage(is_inside: NDArray, counts: NDArray) -> dict[str, Any]:
    """Compute the share of values inside their interval; a reason where no patient has an interval."""
    if not len(is_inside):
        return Estimate(None, None, "no patient has an interval: too few validation patients").entry("coverage")
    return estimate_share(is_inside, counts).entry("coverage")


def interval_warnings(metrics: Mapping[str, Any], tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """List warnings about intervals that hold the measured value less often than they promise.

    Args:
        metrics: Task -> subset -> figures.
        tasks: `TgmmConfig.tasks`.
    """
    warnings = []
    for task, settings in tasks.items():
        if settings["kind"] != "regression":
            continue
        missed = [
            f"{subset} ({figures['coverage']:.2f} at {level})"
            for subset, entry in metrics.get(task, {}).items()
            for level, figures in entry.get(INTERVALS_KEY, {}).items()
            if figures["coverage_ci"] is not None and figures["coverage_ci"][1] < float(level)
        ]
        if missed:
            warnings.append(
                f"{task}: the prediction intervals hold the measured value less often than they promise: "
                f"{'; '.join(missed)}. These patients differ from the validation patients: do not rely on the "
                "intervals."
            )
    return warnings
