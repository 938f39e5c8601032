"""Figures of a grid of trainings: means and deviations over seeds, and differences paired by patient."""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tgmm_hf.evaluation.comparisons import delong_test, holm
from tgmm_hf.evaluation.metrics import UndefinedFigureError, bootstrap_counts, estimate, resampled_auc
from tgmm_hf.evaluation.paper_tables import FIGURES
from tgmm_hf.evaluation.retrieval import CANDIDATES
from tgmm_hf.evaluation.survival import resampled_c_index
from tgmm_hf.evaluation.tables import tasks_of
from tgmm_hf.utils.files import read_json
from tgmm_hf.utils.names import BOOTSTRAP_RESAMPLES, SUBSET_NAMES

Runs = Mapping[str, Mapping[int, Path]]
"""Row of the tables -> seed -> output directory of `tgmm evaluate`."""

RETRIEVAL = {
    f"{title} of {candidates or 'all'}": f"{figure}_{candidates or 'full'}"
    for candidates in CANDIDATES
    for title, figure in (("LRAP", "lrap"), ("Recall@1", "recall_1"), ("Recall@2", "recall_2"))
}
TITLES = {**FIGURES, "retrieval": RETRIEVAL}
"""Kind of a task -> title of a figure -> its name in metrics.json. Regressions and multilabels have no table in the
paper, so that the tables of a grid leave them out."""
OPTIMUM = "optimum"
"""Name of the row of differences that compares with the best reachable scores of a synthetic cohort."""

Entry = dict[str, Any]


class FigurePlace(NamedTuple):
    """Identifies one number of the tables.

    Attributes:
        row: Name of a row of the plan, which is one model.
        task: Name of a task.
        title: Name of a metric as the tables print it, for example "AUC".
        column: Subset of modalities ("labs+ecg"), or direction of retrieval ("labs->ecg").
    """

    row: str
    task: str
    title: str
    column: str


def read_metrics(runs: Runs) -> dict[str, dict[int, dict[str, Any]]]:
    """Read the metrics.json of all runs: name of a row -> seed -> content."""
    return {
        row: {seed: read_json(path / "metrics.json") for seed, path in seeds.items()} for row, seeds in runs.items()
    }


def collect_figures(metrics: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> dict[FigurePlace, Entry]:
    """Collect every number of the tables.

    Args:
        metrics: The result of `read_metrics`.

    Returns:
        Place in the tables -> entry. An entry has "kind" (of the task), "figure" (name in metrics.json), "n"
        (admissions), "values" (seed -> value, None if undefined), "mean", and "sd", the standard deviation over the
        seeds, None with fewer than two values.
    """
    figures: dict[FigurePlace, Entry] = {}
    for row, seeds in metrics.items():
        for seed, of_seed in seeds.items():
            for task, kind, entries in tasks_of(of_seed):
                for title, figure in TITLES.get(kind, {}).items():
                    for column, entry in entries.items():
                        new = {"kind": kind, "figure": figure, "n": entry["n"], "values": {}}
                        figures.setdefault(FigurePlace(row, task, title, column), new)["values"][seed] = entry[figure]
    for entry in figures.values():
        defined = [value for value in entry["values"].values() if value is not None]
        entry["mean"] = statistics.fmean(defined) if defined else None
        entry["sd"] = statistics.stdev(defined) if len(defined) > 1 else None
    return figures


def differences_between_rows(
    runs: Runs, truth: pd.DataFrame | None = None, *, bootstrap: int = BOOTSTRAP_RESAMPLES
) -> list[Entry]:
    """Compare the first row with each other row, under every subset, on the patients that both rows scored.

    A difference is the mean of the first row minus the mean of the other row, over the seeds that both rows have. Its
    bootstrap interval covers the choice of patients: each resample draws the same patients for all trainings. The
    interval does not cover the choice of seeds.

    Args:
        runs: Row -> seed -> directory with predictions.parquet.
        truth: Content of the ``truth.parquet`` of a synthetic cohort, to compare with the optimum.
        bootstrap: Number of resamples.

    Returns:
        Entries with task, subset, row ("optimum" for the best reachable scores), seeds, n, positives or events,
        difference (AUC or C-index) with its interval, and `by_seed`, the difference of each seed. For the AUC of a row
        also `delong_p` of the first seed, and `delong_p_holm`, adjusted over all rows and subsets of the task.
    """
    reference, *other_rows = runs
    ours = {seed: _scored(path) for seed, path in runs[reference].items()}
    if not ours:
        return []
    entries, against_rows = [], []
    if truth is not None:
        tables = list(ours.values())
        best = _differences(tables, [_optimum(tables[0], truth)], bootstrap)
        entries += [entry | {"row": OPTIMUM, "seeds": list(ours)} for entry in best]
    for row in other_rows:
        seeds = [seed for seed in ours if seed in runs[row]]  # otherwise a missing seed would look like an effect
        if seeds:
            against_rows += _compared_with(row, {seed: ours[seed] for seed in seeds}, runs[row], bootstrap)
    _adjust_by_holm(against_rows)
    return entries + against_rows


def _compared_with(
    row: str, ours: Mapping[int, pd.DataFrame], directories: Mapping[int, Path], bootstrap: int
) -> list[Entry]:
    """Compare the first row with another row, see `differences_between_rows`.

    Args:
        row: Name of the other row.
        ours: Seed -> predictions of the first row.
        directories: Seed -> directory of the other row.
        bootstrap: Number of resamples.
    """
    seeds = list(ours)
    theirs = {seed: _scored(directories[seed]) for seed in seeds}
    entries = _differences(list(ours.values()), list(theirs.values()), bootstrap)
    for entry in entries:
        entry |= {"row": row, "seeds": seeds}
        if entry["kind"] == "diagnosis":
            entry |= _delong(ours[seeds[0]], theirs[seeds[0]], entry)
    return entries


def _adjust_by_holm(entries: list[Entry]) -> None:
    """Add "delong_p_holm" to the entries with a "delong_p", in place, adjusted over all entries of a task."""
    for task in {entry["task"] for entry in entries}:
        tested = [entry for entry in entries if entry["task"] == task and "delong_p" in entry]
        for entry, adjusted in zip(tested, holm([entry["delong_p"] for entry in tested]), strict=True):
            entry["delong_p_holm"] = adjusted


def differences_between_subsets(runs: Runs, *, bootstrap: int = BOOTSTRAP_RESAMPLES) -> list[Entry]:
    """Compare all modalities with every other subset, for the first row: means over its seeds, paired by patient.

    Args:
        runs: Row -> seed -> directory with predictions.parquet.
        bootstrap: Number of resamples.

    Returns:
        Entries with task, subset, whole (the subset that it is compared with), seeds, n, positives or events,
        difference (whole minus subset) with its interval, and `by_seed`.
    """
    of_seeds = next(iter(runs.values()))
    tables = [_scored(path) for path in of_seeds.values()]
    if not tables:
        return []
    entries = []
    for task, of_task in tables[0].groupby("task", sort=False):
        present = set(of_task["subset"])
        whole = next(subset for subset in reversed(SUBSET_NAMES) if subset in present)
        with_whole = [table[(table["task"] == task) & (table["subset"] == whole)] for table in tables]
        for subset in (name for name in SUBSET_NAMES if name in present and name != whole):
            with_subset = [table[table["subset"] == subset].assign(subset=whole) for table in tables]
            names = {"subset": subset, "whole": whole, "seeds": list(of_seeds)}
            entries += [entry | names for entry in _differences(with_whole, with_subset, bootstrap)]
    return entries


def _scored(directory: Path) -> pd.DataFrame:
    """Read the predictions with a known outcome from a directory of `tgmm evaluate`.

    The column score is added: the risk of a prognosis, the probability of a diagnosis.
    """
    table = pd.read_parquet(directory / "predictions.parquet")
    table = table[table["label"].notna() | table["time"].notna()]
    return table.assign(score=table["risk"].where(table["risk"].notna(), table["probability"]))


def _optimum(table: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Return a copy of `table` whose column score holds the best reachable scores of `truth`."""
    best = truth.set_index(truth["id"].astype(str))
    columns = table["risk"].notna().map({True: "risk.", False: "posterior."}) + table["subset"]
    scores = [best.at[name, column] for name, column in zip(table["id"], columns, strict=True)]
    return table.assign(score=scores)


def _differences(ours: list[pd.DataFrame], theirs: list[pd.DataFrame], bootstrap: int) -> list[Entry]:
    """Subtract the mean figure of `theirs` from the mean figure of `ours`, for each task and subset.

    Args:
        ours: Predictions of one side, one table per seed.
        theirs: Predictions of the other side, one table per seed, or one table for all seeds.
        bootstrap: Number of resamples.

    Returns:
        Entries with task, subset, n and the keys of `_difference`.
    """
    entries = []
    for task, subset in ours[0][["task", "subset"]].drop_duplicates().itertuples(index=False):
        rows, scores = _common(ours + theirs, task, subset)
        if len(rows):
            entry = {"task": task, "subset": subset, "n": len(rows)}
            entries.append(entry | _difference(rows, scores[: len(ours)], scores[len(ours) :], bootstrap))
    return entries


def _common(tables: list[pd.DataFrame], task: str, subset: str) -> tuple[pd.DataFrame, list[NDArray]]:
    """Select the admissions that all tables score for a task and a subset.

    Returns:
        Their outcomes, one row per admission; and the scores (n,) of each table.

    Raises:
        ValueError: If the tables have different outcomes for the same admissions.
    """
    selected = [
        table[(table["task"] == task) & (table["subset"] == subset)].set_index(["row", "id"]) for table in tables
    ]
    index = selected[0].index
    for table in selected:
        index = index.intersection(table.index[table["score"].notna()], sort=False)
    outcomes = ["label", "time", "event"]
    for table in selected[1:]:
        if not table.loc[index, outcomes].equals(selected[0].loc[index, outcomes]):
            raise ValueError(
                f"{task}, {subset}: the runs have different outcomes for the same patients, so they were evaluated on "
                "different data. Evaluate all of them on one prepared data set."
            )
    return selected[0].loc[index].reset_index(), [table.loc[index, "score"].to_numpy(np.float64) for table in selected]


def _difference(rows: pd.DataFrame, ours: list[NDArray], theirs: list[NDArray], bootstrap: int) -> Entry:
    """Compute one difference of AUC or C-index with its interval.

    Args:
        rows: Outcomes of n admissions.
        ours: Scores (n,) of one side, one array per seed.
        theirs: Scores (n,) of the other side, one array per seed, or one array for all seeds.
        bootstrap: Number of resamples.

    Returns:
        "kind"; "positives" or "events"; "difference" with its interval (suffix _ci) or a reason (_missing); "by_seed".
    """
    prognosis = rows["risk"].notna().all()
    outcome = rows["event" if prognosis else "label"]
    counts = bootstrap_counts(rows["patient_id"], outcome, bootstrap, 0)

    def figure(scores: NDArray, drawn: NDArray) -> NDArray:
        if prognosis:
            return resampled_c_index(scores, rows["time"].to_numpy(), rows["event"].to_numpy(), drawn)
        return resampled_auc(scores, rows["positive"].to_numpy(np.float64), drawn)

    def by_seed(drawn: NDArray) -> NDArray:  # (seeds, R); the optimum is one for all seeds
        first, second = ([figure(scores, drawn) for scores in side] for side in (ours, theirs))
        return np.subtract(first, second)

    difference = estimate(lambda drawn: by_seed(drawn).mean(axis=0), counts)
    return {
        "kind": "prognosis" if prognosis else "diagnosis",
        "events" if prognosis else "positives": int((rows["event" if prognosis else "positive"] == 1).sum()),
        **difference.entry("difference"),
        "by_seed": None if difference.value is None else by_seed(np.ones((1, len(rows))))[:, 0].tolist(),
    }


def _delong(ours: pd.DataFrame, theirs: pd.DataFrame, entry: Mapping[str, Any]) -> Entry:
    """Test the AUCs of two tables of predictions with DeLong's test, for the task and subset of `entry`.

    Returns:
        {"delong_p": p}. If no test can be made, p is None, and "delong_missing" gives the reason.
    """
    rows, (first, second) = _common([ours, theirs], entry["task"], entry["subset"])
    try:
        return {"delong_p": delong_test(first, second, rows["positive"].to_numpy(np.float64), rows["patient_id"]).p}
    except UndefinedFigureError as error:
        return {"delong_p": None, "delong_missing": str(error)}
