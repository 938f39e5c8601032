"""The optimum of a synthetic cohort: the best figures that any model can reach, beside the figures of a model.

The synthetic cohort knows how each patient was drawn, so the ideal (Bayes) score of each patient is known. metrics.json
calls it `bayes_...`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tgmm_hf.evaluation.headline_figures import HEADLINE, SCORE, difference, headline_counts, headline_figure
from tgmm_hf.evaluation.metrics import Bootstrap, estimate
from tgmm_hf.utils.files import read_json
from tgmm_hf.utils.names import SUBSET_NAMES

TRUTH_COLUMN = {"diagnosis": "posterior", "prognosis": "risk", "regression": "value", "multilabel": "finding"}
"""Kind of task -> first part of the names of its columns in truth.parquet."""


def read_optimum(bayes: str | Path) -> tuple[pd.DataFrame | None, dict[str, Any]]:
    """Read the ideal scores of the patients and the reference figures of a synthetic cohort.

    Args:
        bayes: Directory of the cohort, or its `bayes.json`.

    Returns:
        The content of `truth.parquet` beside `bayes.json`, None if there is no such file; and the content of
        `bayes.json`.

    Raises:
        FileNotFoundError: If there is no `bayes.json`.
    """
    path = Path(bayes)
    if path.is_dir():
        path = path / "bayes.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no {path}: the best reachable figures are only known for a synthetic cohort. Name a directory "
            "that `tgmm synth` wrote."
        )
    truth = path.with_name("truth.parquet")
    return (pd.read_parquet(truth) if truth.is_file() else None), read_json(path)


def add_optimum_column(
    table: pd.DataFrame, truth: pd.DataFrame | None, kind: str, findings: Sequence[str] = ()
) -> pd.DataFrame:
    """Add the column `optimum`: the ideal score of each row under its own subset, NaN where unknown.

    Args:
        table: Predictions of one task, with the columns id and subset.
        truth: The content of `truth.parquet`, None if unknown.
        kind: A key of `TRUTH_COLUMN`.
        findings: Findings of a multilabel in the order of the task. Their cells are lists, one number a finding.

    Returns:
        A copy of `table` with the column.
    """
    table = table.copy()
    table["optimum"] = np.nan
    if truth is None:
        return table
    by_id = truth.set_index(truth["id"].astype(str))
    if kind == "multilabel":
        table["optimum"] = _finding_optimum(table, by_id, findings)
        return table
    for subset in SUBSET_NAMES:
        column = f"{TRUTH_COLUMN[kind]}.{subset}"
        if column in by_id:
            rows = table["subset"] == subset
            table.loc[rows, "optimum"] = by_id[column].reindex(table.loc[rows, "id"]).to_numpy(dtype=np.float64)
    return table


def _finding_optimum(table: pd.DataFrame, by_id: pd.DataFrame, findings: Sequence[str]) -> pd.Series:
    """Return the ideal probabilities of the findings as lists, NaN for a row of which one is not known."""
    cells: list[Any] = []
    for name, subset in zip(table["id"].astype(str), table["subset"], strict=True):
        columns = [f"{TRUTH_COLUMN['multilabel']}.{finding}.{subset}" for finding in findings]
        is_there = name in by_id.index and all(column in by_id for column in columns)
        ideal = by_id.loc[name, columns].to_numpy(dtype=np.float64) if is_there else np.array([np.nan])
        cells.append(np.nan if np.isnan(ideal).any() else ideal)
    return pd.Series(cells, index=table.index, dtype=object)


def optimum_figures(rows: pd.DataFrame, kind: str, bootstrap: Bootstrap) -> dict[str, Any]:
    """Compute the optimum on these admissions, and the paired difference of the model's figure and the optimum.

    Args:
        rows: Admissions under one subset, with the column `optimum`.
        kind: A key of `TRUTH_COLUMN`.
        bootstrap: Seed and number of resamples.

    Returns:
        "bayes_auc" (or "bayes_c_index") and "auc_minus_bayes", each with its interval. If the optimum of some
        admissions is unknown, also "bayes_auc_n", the number of admissions with an optimum. {} if no optimum is known.
    """
    headline = HEADLINE[kind]
    with_optimum = rows[rows["optimum"].notna()]
    if with_optimum.empty:
        return {}
    counts = headline_counts(with_optimum, kind, bootstrap)
    model_figure = headline_figure(with_optimum, SCORE[kind], kind)
    optimal_figure = headline_figure(with_optimum, "optimum", kind)
    entry = estimate(optimal_figure, counts).entry(f"bayes_{headline}")
    entry |= estimate(difference(model_figure, optimal_figure), counts).entry(f"{headline}_minus_bayes")
    if len(with_optimum) < len(rows):
        entry[f"bayes_{headline}_n"] = len(with_optimum)
    return entry


def add_reference(by_key: dict[str, Any], reference: Mapping[str, Any], suffix: str) -> None:
    """Add the optimum on other patients than the scored ones to the figures of a task, as `bayes_<figure>_<suffix>`.

    Retrieval figures of the full gallery are not added, because they depend on the size of the gallery.

    Args:
        by_key: Subset or direction -> figures. It is changed in place.
        reference: Subset or direction -> optimum, from bayes.json.
        suffix: Names the other patients: "test_split" or "population".
    """
    for key, figures in reference.items():
        for figure, value in figures.items():
            if value is not None and f"{figure}_ci" in by_key[key] and not figure.endswith("_full"):
                by_key[key][f"bayes_{figure}_{suffix}"] = value
