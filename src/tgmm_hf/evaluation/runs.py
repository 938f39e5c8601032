"""Figures of several trainings side by side: mean and deviation over seeds, and paired differences of one seed."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tgmm_hf.evaluation.comparisons import delong_test, holm
from tgmm_hf.evaluation.metrics import UndefinedFigureError, bootstrap_counts, estimate, resampled_auc
from tgmm_hf.evaluation.paper_tables import DIRECTIONS, FIGURES, MULTIMODAL, NAMES, WITHOUT_ECHO, ticks
from tgmm_hf.evaluation.predictions import SUBSETS
from tgmm_hf.evaluation.retrieval import CANDIDATES
from tgmm_hf.evaluation.survival import resampled_c_index
from tgmm_hf.evaluation.tables import tasks_of, text_estimate, text_p

Runs = Mapping[str, Mapping[int, Path]]
"""Row of the tables -> seed -> directory that `tgmm evaluate` wrote."""

RETRIEVAL = {
    f"{title} of {candidates or 'all'}": f"{figure}_{candidates or 'full'}"
    for candidates in CANDIDATES
    for title, figure in (("LRAP", "lrap"), ("Recall@1", "recall_1"), ("Recall@2", "recall_2"))
}
TITLES = {**FIGURES, "retrieval": RETRIEVAL}


class Key(NamedTuple):
    """Where a figure stands: row and task, its title, and combination or direction."""

    row: str
    task: str
    title: str
    column: str


def read_metrics(runs: Runs) -> dict[str, dict[int, dict[str, Any]]]:
    """Row -> seed -> metrics.json."""
    return {
        row: {seed: json.loads((path / "metrics.json").read_text()) for seed, path in seeds.items()}
        for row, seeds in runs.items()
    }


def collect_figures(metrics: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> dict[Key, dict[str, Any]]:
    """Every figure of the tables: `values` by seed, their `mean`, their standard deviation `sd` (None below two
    seeds), `n` of the admissions."""
    found: dict[Key, dict[str, Any]] = {}
    for row, seeds in metrics.items():
        for seed, of_seed in seeds.items():
            for task, kind, entries in tasks_of(of_seed):
                for title, figure in TITLES[kind].items():
                    for column, entry in entries.items():
                        new = {"kind": kind, "figure": figure, "n": entry["n"], "values": {}}
                        found.setdefault(Key(row, task, title, column), new)["values"][seed] = entry[figure]
    for entry in found.values():
        known = [value for value in entry["values"].values() if value is not None]
        entry["mean"] = statistics.fmean(known) if known else None
        entry["sd"] = statistics.stdev(known) if len(known) > 1 else None
    return found


def grid_tables(
    figures: Mapping[Key, Mapping[str, Any]], components: Mapping[str, Mapping[str, str]]
) -> dict[str, tuple[list[str], list[list[str]]]]:
    """The paper's tables 2 to 6 over all rows: name -> header and rows, cells as "mean ± sd".

    Table 5 has the rows that differ from the first in the fusion alone, table 6 those that have its fusion. A task of
    patients without echo stands in table 4 instead of in table 2.

    Args:
        figures: from `collect_figures`. components: row -> fusion, guidance, response.
    """
    first = next(iter(components.values()))
    same_head = [row for row, c in components.items() if all(c[k] == first[k] for k in ("guidance", "response"))]
    same_fusion = [row for row, c in components.items() if c["fusion"] == first["fusion"]]

    def lines(rows: Sequence[str], columns: Sequence[str], kinds: Sequence[str], echo: bool | None) -> list[list[str]]:
        wanted = dict.fromkeys(
            (key.task, key.title)
            for key, entry in figures.items()
            if entry["kind"] in kinds and (echo is None or (figures[key._replace(column="echo")]["n"] > 0) == echo)
        )
        return [
            [task, title, row, *(_cell(figures.get(Key(row, task, title, column))) for column in columns)]
            for task, title in wanted
            for row in rows
        ]

    def header(columns: Sequence[str]) -> list[str]:
        return ["Task", "Metric", "Model", *(NAMES.get(column, column) for column in columns)]

    answered, everyone = tuple(FIGURES), list(components)
    tables = {
        "table2": (header(SUBSETS), lines(everyone, SUBSETS, answered, True)),
        "table3": (header(DIRECTIONS), lines(everyone, DIRECTIONS, ("retrieval",), None)),
        "table4": (header(WITHOUT_ECHO), lines(everyone, WITHOUT_ECHO, ("diagnosis",), False)),
        "table5": (header(MULTIMODAL), lines(same_head, MULTIMODAL, answered, True)),
    }
    marks = ["Human", "Learned", "Response", "Linear"]
    rows = [[*line[:3], *ticks(components[line[2]]), *line[3:]] for line in lines(same_fusion, SUBSETS, answered, True)]
    tables["table6"] = ([*header(())[:3], *marks, *header(SUBSETS)[3:]], rows)
    return {name: table for name, table in tables.items() if table[1]}


def _cell(entry: Mapping[str, Any] | None) -> str:
    if entry is None or entry["mean"] is None:
        return "—"
    return f"{entry['mean']:.3f}" + ("" if entry["sd"] is None else f" ± {entry['sd']:.3f}")


def paired_differences(runs: Runs, seed: int, *, bootstrap: int = 1000) -> list[dict[str, Any]]:
    """The first row minus each other one, under every combination, on the patients whom both scored.

    Of one training of each: the intervals cover the choice of patients, not that of the seed.

    Args:
        runs: directories with predictions.parquet. seed: which training. bootstrap: number of resamples.

    Returns:
        task, subset, row, n, difference (AUC or C-index) with its interval, and for an AUC `delong_p` and
        `delong_p_holm`, adjusted over all rows and combinations of the task.
    """
    tables = {row: pd.read_parquet(s[seed] / "predictions.parquet") for row, s in runs.items() if seed in s}
    reference = next(iter(runs))
    if reference not in tables:
        return []
    found: list[dict[str, Any]] = []
    for row in list(tables)[1:]:
        for (task, subset), ours in tables[reference].groupby(["task", "subset"], sort=False):
            theirs = tables[row].query("task == @task and subset == @subset")
            columns = ["row", "id", "probability", "risk"]
            both = ours.merge(theirs[columns], on=["row", "id"], suffixes=("", "_other"))
            known = both[both["label"].notna() | both["time"].notna()].reset_index(drop=True)
            if len(known):
                found.append({"task": task, "subset": subset, "row": row, "n": len(known), **_test(known, bootstrap)})
    for task in {entry["task"] for entry in found}:
        family = [entry for entry in found if entry["task"] == task and "delong_p" in entry]
        for entry, adjusted in zip(family, holm([e["delong_p"] for e in family]), strict=True):
            entry["delong_p_holm"] = adjusted
    return found


def _test(rows: pd.DataFrame, bootstrap: int) -> dict[str, Any]:
    """Difference of the headline figure of two models on one set of rows."""
    if rows["risk"].notna().all():
        time, event = rows["time"].to_numpy(), rows["event"].to_numpy()
        ours, theirs = rows["risk"].to_numpy(), rows["risk_other"].to_numpy()
        counts = bootstrap_counts(rows["patient_id"], event, bootstrap, 0)

        def of_risk(drawn: NDArray) -> NDArray:
            return resampled_c_index(ours, time, event, drawn) - resampled_c_index(theirs, time, event, drawn)

        return estimate(of_risk, counts).entry("difference")
    positive = rows["positive"].to_numpy(np.float64)
    ours, theirs = rows["probability"].to_numpy(), rows["probability_other"].to_numpy()
    counts = bootstrap_counts(rows["patient_id"], rows["label"], bootstrap, 0)

    def of_probability(drawn: NDArray) -> NDArray:
        return resampled_auc(ours, positive, drawn) - resampled_auc(theirs, positive, drawn)

    entry = estimate(of_probability, counts).entry("difference")
    try:
        return entry | {"delong_p": delong_test(ours, theirs, positive, rows["patient_id"]).p}
    except UndefinedFigureError as error:
        return entry | {"delong_p": None, "delong_missing": str(error)}


def difference_table(differences: Sequence[Mapping[str, Any]], reference: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows of ``differences.csv``."""
    header = ["Task", "Modalities", f"{reference} minus", "n", "Difference (95 % CI)", "p (DeLong, Holm)"]
    return header, [
        [
            *(entry["task"], NAMES[entry["subset"]], entry["row"], str(entry["n"])),
            *(text_estimate(entry, "difference"), text_p(entry.get("delong_p_holm"))),
        ]
        for entry in differences
    ]
