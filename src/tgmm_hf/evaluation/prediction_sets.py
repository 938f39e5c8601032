"""Prediction sets of a diagnosis: finding the thresholds on validation patients, and measuring the sets on others."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tgmm_hf.evaluation.metrics import Draws, estimate, estimate_share, resampled_mean
from tgmm_hf.evaluation.predictions import Predictions
from tgmm_hf.layers.prediction_sets import (
    SETS_KEY,
    candidates_in_set,
    levels_of,
    rank_of_threshold,
    thresholds_at,
)
from tgmm_hf.utils.names import SUBSET_NAMES


def fit_thresholds(probabilities: ArrayLike, label: ArrayLike, levels: Sequence[float]) -> dict[str, Any]:
    """Find the threshold of each candidate at each level, from validation patients.

    Among the n patients with a condition, the threshold at a level is the ceil((n + 1) level)-th highest probability
    that they get for their condition.

    Args:
        probabilities: Of the C candidates for n patients, shape (n, C). Each patient is there once.
        label: Index of the right candidate, shape (n,).
        levels: For example [0.9].

    Returns:
        JSON-able dict: "thresholds", level as text -> one threshold a candidate, None where there are too few patients;
        and "n", the number of patients with each candidate.
    """
    values, right = np.asarray(probabilities, dtype=np.float64), np.asarray(label, dtype=int)
    scores_of_right = [np.sort(values[right == candidate, candidate])[::-1] for candidate in range(values.shape[1])]
    thresholds = {
        f"{level:g}": [_at_rank(scores, rank_of_threshold(len(scores), level)) for scores in scores_of_right]
        for level in levels
    }
    return {"thresholds": thresholds, "n": [len(scores) for scores in scores_of_right]}


def _at_rank(falling: NDArray, rank: int) -> float | None:
    """Return the value at a rank (1 is the first) of falling values; None if there are fewer."""
    return float(falling[rank - 1]) if rank <= len(falling) else None


def fit_prediction_sets(predictions: Predictions, name: str, task: Mapping[str, Any]) -> dict[str, Any]:
    """Fit the sets of a diagnosis for every subset of modalities, on the first labelled admission of each patient.

    Args:
        predictions: Predictions of validation patients.
        name: Name of the task.
        task: Its settings.

    Returns:
        Subset -> the result of `fit_thresholds`. A subset that no patient has is left out.
    """
    fitted = {}
    for subset in SUBSET_NAMES:
        rows = predictions.scored(name, subset).dropna(subset="label").drop_duplicates("patient_id")
        if len(rows):
            fitted[subset] = fit_thresholds(candidate_probabilities(rows), rows["label"], levels_of(task))
    return fitted


def candidate_probabilities(rows: pd.DataFrame) -> NDArray:
    """Return the probabilities of all candidates of rows of `Predictions.table`, shape (n, C).

    A table of an earlier version has only the probability of the last of two candidates.
    """
    if "probabilities" in rows and len(rows):
        return np.stack([np.asarray(row, dtype=np.float64) for row in rows["probabilities"]])
    last = rows["probability"].to_numpy(np.float64)
    return np.stack([1 - last, last], axis=1)


def add_set_columns(table: pd.DataFrame, task: Mapping[str, Any]) -> pd.DataFrame:
    """Add the sets of every row to a table of predictions of one task.

    Args:
        table: Rows of `Predictions.table` with a known label.
        task: Settings of the task.

    Returns:
        The table with the columns "covered@<level>" (whether the right candidate is in the set), "whole@<level>"
        (whether all candidates are) and "size@<level>" of every level. Unchanged if the task stores no sets.
    """
    sets = task.get(SETS_KEY)
    if not sets:
        return table
    values, label = candidate_probabilities(table), table["label"].to_numpy(dtype=int)
    columns: dict[str, NDArray] = {}
    for level in levels_of(task):
        kept = [
            candidates_in_set(row, thresholds_at(sets, subset, level))
            for row, subset in zip(values.tolist(), table["subset"], strict=True)
        ]
        columns[f"covered@{level:g}"] = np.array(
            [right in candidates for right, candidates in zip(label, kept, strict=True)], bool
        )
        columns[f"whole@{level:g}"] = np.array([len(candidates) == values.shape[1] for candidates in kept], dtype=bool)
        columns[f"size@{level:g}"] = np.array([len(candidates) for candidates in kept], dtype=np.float64)
    return table.assign(**columns)


def set_figures(rows: pd.DataFrame, draws: Draws, task: Mapping[str, Any]) -> dict[str, Any]:
    """Measure the prediction sets of scored admissions.

    Args:
        rows: Admissions with the columns of `add_set_columns`.
        draws: Resamples of these rows.
        task: Settings of the task.

    Returns:
        {} without sets, else {"prediction_sets": {level: figures}}. The figures are "n", "coverage", "size" (mean
        number of candidates) and "cannot_say" (share of sets that hold all candidates), with intervals; and
        "by_class", candidate -> "n", "coverage" and "cannot_say".
    """
    figures = subgroup_sets(rows, draws).get(SETS_KEY, {})
    label = rows["label"].to_numpy(dtype=int)
    for level, entry in figures.items():
        covered, whole = rows[f"covered@{level}"].to_numpy(), rows[f"whole@{level}"].to_numpy()
        entry["by_class"] = {
            name: _shares(covered[label == index], whole[label == index], draws.by_outcome[:, label == index])
            for index, name in enumerate(task["candidates"])
        }
    return {SETS_KEY: figures} if figures else {}


def subgroup_sets(rows: pd.DataFrame, draws: Draws) -> dict[str, Any]:
    """Measure the prediction sets of a subgroup: {} without sets, else {"prediction_sets": {level: figures}}.

    The figures are "n", "coverage", "size" and "cannot_say", with intervals.

    Args:
        rows: Admissions with the columns of `add_set_columns`.
        draws: Resamples of these rows.
    """
    figures = {}
    for column in [name for name in rows if str(name).startswith("covered@")]:
        level = str(column).partition("@")[2]
        size = rows[f"size@{level}"].to_numpy()
        entry = _shares(rows[column].to_numpy(), rows[f"whole@{level}"].to_numpy(), draws.free)
        figures[level] = entry | estimate(partial(resampled_mean, size), draws.free).entry("size")
    return {SETS_KEY: figures} if figures else {}


def _shares(covered: NDArray, is_whole: NDArray, counts: NDArray) -> dict[str, Any]:
    """Return "n", "coverage" and "cannot_say" with intervals of some admissions. `counts` are their resamples."""
    entry: dict[str, Any] = {"n": len(covered)}
    return (
        entry | estimate_share(covered, counts).entry("coverage") | estimate_share(is_whole, counts).entry("cannot_say")
    )


def coverage_warnings(metrics: Mapping[str, Any], tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """List warnings about sets whose coverage is below their level, over all admissions or in a class.

    Args:
        metrics: Task -> subset -> figures.
        tasks: `TgmmConfig.tasks`.
    """
    warnings = []
    for task in tasks:
        missed = []
        for subset, entry in metrics.get(task, {}).items():
            for level, figures in entry.get(SETS_KEY, {}).items():
                groups = {"all patients": figures} | figures["by_class"]
                below = [name for name, each in groups.items() if _is_below(each, float(level))]
                missed += [f"{subset}, {name} ({groups[name]['coverage']:.2f} at {level})" for name in below]
        if missed:
            warnings.append(
                f"{task}: the prediction sets hold the right answer less often than they promise: {'; '.join(missed)}. "
                "These patients differ from the validation patients: do not rely on the sets."
            )
    return warnings


def _is_below(figures: Mapping[str, Any], level: float) -> bool:
    """Tell whether the whole interval of a coverage lies below the level."""
    interval = figures["coverage_ci"]
    return interval is not None and interval[1] < level
