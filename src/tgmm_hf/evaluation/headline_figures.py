"""The headline figure of a task: AUC, C-index, mean absolute error of a regression, mean AUC over findings."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tgmm_hf.evaluation.metrics import Bootstrap, bootstrap_counts, resampled_auc, resampled_mean
from tgmm_hf.evaluation.multilabel import macro_auc, matrix
from tgmm_hf.evaluation.survival import resampled_c_index

ResampledFigure = Callable[[NDArray], NDArray]
"""Function from bootstrap counts (R, n) to the figure of every resample (R,). A count is how often a row was drawn."""

HEADLINE = {"diagnosis": "auc", "prognosis": "c_index", "regression": "mae", "multilabel": "macro_auc"}
"""Kind of task -> name of its headline figure in metrics.json."""
HEADLINE_TITLES = {"auc": "AUC", "c_index": "C-index", "mae": "MAE", "macro_auc": "macro AUC"}
NO_SKILL = {"auc": 0.5, "c_index": 0.5, "macro_auc": 0.5}
"""Headline figure -> its value without any skill. The mean absolute error has none."""
LOWER_IS_BETTER = ("mae",)
"""Headline figures of which a lower one is better."""
OUTCOME = {"diagnosis": "label", "prognosis": "event"}
"""Kind of task -> column that the resamples are stratified by. The resamples of other kinds have no strata."""
SCORE = {"diagnosis": "probability", "prognosis": "risk", "regression": "value", "multilabel": "probabilities"}
"""Kind of task -> column of the model's score. In a multilabel its cells are lists, one number a finding."""
KNOWN_IF = {"diagnosis": "label", "prognosis": "time", "regression": "measured", "multilabel": "num_known"}
"""Kind of task -> column that is NaN if the outcome is unknown."""
LATER_COLUMNS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(OUTCOME, ()),
    "regression": ("value", "deviation"),
    "multilabel": ("findings",),
}
"""Kind of task -> columns of predictions that are there only if the model has such a task."""


def with_outcome(rows: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Return the rows whose outcome is known: a label, a time, a measured value, or any finding, by `kind`."""
    if KNOWN_IF[kind] not in rows:  # no batch had a row of this task
        return rows.iloc[:0].reindex(columns=[*rows.columns, KNOWN_IF[kind], *LATER_COLUMNS[kind]])
    return rows[rows[KNOWN_IF[kind]].notna()]


def headline_figure(rows: pd.DataFrame, column: str, kind: str) -> ResampledFigure:
    """Return the headline figure of a score column as a function of bootstrap counts.

    Args:
        rows: Admissions with a known outcome.
        column: Name of the score column.
        kind: a key of `HEADLINE`.
    """
    if kind == "multilabel":
        scores, present = matrix(rows, column), matrix(rows, "findings")
        return lambda counts: macro_auc(scores, present, counts)
    score = rows[column].to_numpy(dtype=np.float64)
    if kind == "diagnosis":
        positive = rows["positive"].to_numpy()
        return lambda counts: resampled_auc(score, positive, counts)
    if kind == "regression":
        error = np.abs(score - rows["measured"].to_numpy(dtype=np.float64))
        return lambda counts: resampled_mean(error, counts)
    time, event = rows["time"].to_numpy(), rows["event"].to_numpy()
    return lambda counts: resampled_c_index(score, time, event, counts)


def difference(first: ResampledFigure, second: ResampledFigure) -> ResampledFigure:
    """Return the figure "first minus second". Both are computed with the same counts, so the difference is paired."""
    return lambda counts: first(counts) - second(counts)


def headline_counts(rows: pd.DataFrame, kind: str, bootstrap: Bootstrap) -> NDArray:
    """Draw resamples that keep the number of patients of each outcome, if `kind` has any: counts of shape (R, n)."""
    return bootstrap_counts(rows["patient_id"], strata_of(rows, kind), bootstrap.replicates, bootstrap.seed)


def strata_of(rows: pd.DataFrame, kind: str) -> pd.Series | None:
    """Return the column that the resamples of a kind of task are stratified by, None for no strata."""
    return rows[OUTCOME[kind]] if kind in OUTCOME else None


def headline_of(entry: Mapping[str, Any]) -> str:
    """Name the headline figure that an entry of metrics.json holds."""
    return next(figure for figure in HEADLINE.values() if figure in entry)
