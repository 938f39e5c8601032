"""The headline figure of a task: the AUC of a diagnosis, the C-index of a prognosis."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tgmm_hf.evaluation.metrics import Bootstrap, bootstrap_counts, resampled_auc
from tgmm_hf.evaluation.survival import resampled_c_index

ResampledFigure = Callable[[NDArray], NDArray]
"""Function from bootstrap counts (R, n) to the figure of every resample (R,)."""

HEADLINE = {"diagnosis": "auc", "prognosis": "c_index"}
"""Kind of task -> name of its headline figure in metrics.json."""
HEADLINE_TITLES = {"auc": "AUC", "c_index": "C-index"}
OUTCOME = {"diagnosis": "label", "prognosis": "event"}
"""Kind of task -> column that the resamples are stratified by."""
SCORE = {"diagnosis": "probability", "prognosis": "risk"}
"""Kind of task -> column of the model's score."""
KNOWN_IF = {"diagnosis": "label", "prognosis": "time"}
"""Kind of task -> column that is NaN if the outcome is unknown."""


def with_outcome(rows: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Keep the rows whose outcome is known."""
    return rows[rows[KNOWN_IF[kind]].notna()]


def headline_figure(rows: pd.DataFrame, column: str, kind: str) -> ResampledFigure:
    """Return the headline figure of a score column as a function of bootstrap counts.

    Args:
        rows: Admissions with a known outcome.
        column: Name of the score column.
        kind: "diagnosis" or "prognosis".
    """
    score = rows[column].to_numpy(dtype=np.float64)
    if kind == "diagnosis":
        positive = rows["positive"].to_numpy()
        return lambda counts: resampled_auc(score, positive, counts)
    time, event = rows["time"].to_numpy(), rows["event"].to_numpy()
    return lambda counts: resampled_c_index(score, time, event, counts)


def difference(first: ResampledFigure, second: ResampledFigure) -> ResampledFigure:
    """Return the difference of two figures, computed with the same counts and therefore paired."""
    return lambda counts: first(counts) - second(counts)


def headline_counts(rows: pd.DataFrame, kind: str, bootstrap: Bootstrap) -> NDArray:
    """Draw resamples that keep the number of patients of each outcome, shape (R, n)."""
    return bootstrap_counts(rows["patient_id"], rows[OUTCOME[kind]], bootstrap.replicates, bootstrap.seed)
