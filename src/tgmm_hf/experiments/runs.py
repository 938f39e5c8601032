"""Figures of several trainings side by side: mean and deviation over seeds, and differences paired by patient."""

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
from tgmm_hf.evaluation.paper_tables import FIGURES, MULTIMODAL, NAMES, WITHOUT_ECHO, ticks
from tgmm_hf.evaluation.paper_tables import PAPER_DIRECTIONS as DIRECTIONS
from tgmm_hf.evaluation.predictions import SUBSET_NAMES as SUBSETS
from tgmm_hf.evaluation.retrieval import CANDIDATES
from tgmm_hf.evaluation.survival import resampled_c_index
from tgmm_hf.evaluation.tables import tasks_of, text_estimate, text_number, text_p
from tgmm_hf.reports.figures import differences_figure, render
from tgmm_hf.utils.files import whole_file

Runs = Mapping[str, Mapping[int, Path]]
"""Row of the tables -> seed -> directory that `tgmm evaluate` wrote."""

RETRIEVAL = {
    f"{title} of {candidates or 'all'}": f"{figure}_{candidates or 'full'}"
    for candidates in CANDIDATES
    for title, figure in (("LRAP", "lrap"), ("Recall@1", "recall_1"), ("Recall@2", "recall_2"))
}
TITLES = {**FIGURES, "retrieval": RETRIEVAL}


OPTIMUM = "optimum"

Entry = dict[str, Any]


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

    Table 5 has the rows with the guidance and the response of the first, table 6 those with its fusion. A task of
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


def paired_differences(runs: Runs, truth: pd.DataFrame | None = None, *, bootstrap: int = 1000) -> list[Entry]:
    """The first row minus each other one, under every combination, on the patients whom both scored.

    A difference is that of the means over the seeds that both have; its interval covers the choice of patients, who are
    drawn alike for all trainings, not that of the seeds.

    Args:
        runs: directories with predictions.parquet. truth: content of a synthetic cohort's ``truth.parquet``, for the
            distance to the optimum. bootstrap: number of resamples.

    Returns:
        task, subset, row ("optimum" for the best reachable scores), seeds, n, positives or events, difference (AUC or
        C-index) with its interval, `by_seed` (each seed's own difference), and for the AUC of a row `delong_p` of the
        first of these seeds, with `delong_p_holm`, adjusted over all rows and combinations of the task.
    """
    reference, *others = runs
    ours = {seed: _scored(path) for seed, path in runs[reference].items()}
    if not ours:
        return []
    found, family = [], []
    if truth is not None:
        tables = list(ours.values())
        entries = _entries(tables, [_optimum(tables[0], truth)], bootstrap)
        found += [entry | {"row": OPTIMUM, "seeds": list(ours)} for entry in entries]
    for row in others:
        both = [seed for seed in ours if seed in runs[row]]  # a seed that one lacks is not an effect
        if not both:
            continue
        theirs = {seed: _scored(runs[row][seed]) for seed in both}
        entries = _entries([ours[seed] for seed in both], list(theirs.values()), bootstrap)
        for entry in entries:
            entry |= {"row": row, "seeds": both}
            if entry["kind"] == "diagnosis":
                entry |= _delong(ours[both[0]], theirs[both[0]], entry)
        family += entries
    for task in {entry["task"] for entry in family}:
        tested = [entry for entry in family if entry["task"] == task and "delong_p" in entry]
        for entry, adjusted in zip(tested, holm([e["delong_p"] for e in tested]), strict=True):
            entry["delong_p_holm"] = adjusted
    return found + family


def combination_differences(runs: Runs, *, bootstrap: int = 1000) -> list[Entry]:
    """All modalities minus every other combination, of the first row: means over its seeds, paired by patient.

    Returns:
        task, subset (what is subtracted), whole (what from), seeds, n, positives or events, difference with its
        interval, `by_seed`.
    """
    of_seeds = next(iter(runs.values()))
    tables = [_scored(path) for path in of_seeds.values()]
    if not tables:
        return []
    found = []
    for task, of_task in tables[0].groupby("task", sort=False):
        present = set(of_task["subset"])
        whole = next(subset for subset in reversed(SUBSETS) if subset in present)
        all_of_it = [table[(table["task"] == task) & (table["subset"] == whole)] for table in tables]
        for subset in (each for each in SUBSETS if each in present and each != whole):
            theirs = [table[table["subset"] == subset].assign(subset=whole) for table in tables]
            named = {"subset": subset, "whole": whole, "seeds": list(of_seeds)}
            found += [entry | named for entry in _entries(all_of_it, theirs, bootstrap)]
    return found


def _scored(directory: Path) -> pd.DataFrame:
    """Predictions whose outcome is known, with one column `score`: probability, or risk."""
    table = pd.read_parquet(directory / "predictions.parquet")
    table = table[table["label"].notna() | table["time"].notna()]
    return table.assign(score=table["risk"].where(table["risk"].notna(), table["probability"]))


def _optimum(table: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """The same rows with the best reachable scores."""
    best = truth.set_index(truth["id"].astype(str))
    columns = table["risk"].notna().map({True: "risk.", False: "posterior."}) + table["subset"]
    scores = [best.at[name, column] for name, column in zip(table["id"], columns, strict=True)]
    return table.assign(score=scores)


def _entries(ours: list[pd.DataFrame], theirs: list[pd.DataFrame], bootstrap: int) -> list[Entry]:
    """Task by task and combination by combination: mean figure of ours minus mean figure of theirs."""
    found = []
    for task, subset in ours[0][["task", "subset"]].drop_duplicates().itertuples(index=False):
        rows, scores = _common(ours + theirs, task, subset)
        if len(rows):
            entry = {"task": task, "subset": subset, "n": len(rows)}
            found.append(entry | _difference(rows, scores[: len(ours)], scores[len(ours) :], bootstrap))
    return found


def _common(tables: list[pd.DataFrame], task: str, subset: str) -> tuple[pd.DataFrame, list[NDArray]]:
    """Outcomes of the rows that all tables score, and each table's scores of them."""
    some = [table[(table["task"] == task) & (table["subset"] == subset)].set_index(["row", "id"]) for table in tables]
    index = some[0].index
    for table in some:
        index = index.intersection(table.index[table["score"].notna()], sort=False)
    outcomes = ["label", "time", "event"]
    for table in some[1:]:
        if not table.loc[index, outcomes].equals(some[0].loc[index, outcomes]):
            raise ValueError(f"{task}, {subset}: the runs have other outcomes for the same patients: other data.")
    return some[0].loc[index].reset_index(), [table.loc[index, "score"].to_numpy(np.float64) for table in some]


def _difference(rows: pd.DataFrame, ours: list[NDArray], theirs: list[NDArray], bootstrap: int) -> Entry:
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

    found = estimate(lambda drawn: by_seed(drawn).mean(axis=0), counts)
    return {
        "kind": "prognosis" if prognosis else "diagnosis",
        "events" if prognosis else "positives": int((rows["event" if prognosis else "positive"] == 1).sum()),
        **found.entry("difference"),
        "by_seed": None if found.value is None else by_seed(np.ones((1, len(rows))))[:, 0].tolist(),
    }


def _delong(ours: pd.DataFrame, theirs: pd.DataFrame, entry: Mapping[str, Any]) -> Entry:
    rows, (first, second) = _common([ours, theirs], entry["task"], entry["subset"])
    try:
        return {"delong_p": delong_test(first, second, rows["positive"].to_numpy(np.float64), rows["patient_id"]).p}
    except UndefinedFigureError as error:
        return {"delong_p": None, "delong_missing": str(error)}


def write_figures(differences: Sequence[Mapping[str, Any]], reference: str, folder: Path) -> None:
    """``differences_<task>.svg`` and ``.png``: the first row minus all others, all modalities together."""
    folder.mkdir(parents=True, exist_ok=True)
    for task in dict.fromkeys(entry["task"] for entry in differences):
        of_task = [entry for entry in differences if entry["task"] == task]
        whole = next(subset for subset in reversed(SUBSETS) if any(e["subset"] == subset for e in of_task))
        shown = [e for e in of_task if e["subset"] == whole and e["difference"] is not None]
        headline = {"diagnosis": "auc", "prognosis": "c_index"}[of_task[0]["kind"]]
        figure = differences_figure(shown, headline, reference, f"{task}, {NAMES[whole]}")
        for file_format in ("svg", "png"):
            with whole_file(folder / f"differences_{task}.{file_format}") as building:
                building.write_bytes(render(figure, file_format))


PAIRED = ["n", "positives or events", "seeds", "Difference (95 % CI)", "by seed"]


def _paired_cells(entry: Mapping[str, Any]) -> list[str]:
    cases = entry["events" if entry["kind"] == "prognosis" else "positives"]
    seeds = ", ".join(str(seed) for seed in entry["seeds"])
    by_seed = ", ".join(text_number(value, "+") for value in entry["by_seed"] or [None])
    return [str(entry["n"]), str(cases), seeds, text_estimate(entry, "difference"), by_seed]


def combination_table(differences: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of ``combinations.csv``."""
    return ["Task", "Modalities", "minus", *PAIRED], [
        [entry["task"], NAMES[entry["whole"]], NAMES[entry["subset"]], *_paired_cells(entry)] for entry in differences
    ]


def difference_table(differences: Sequence[Mapping[str, Any]], reference: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows of ``differences.csv``."""
    return ["Task", "Modalities", f"{reference} minus", *PAIRED, "p (DeLong, first seed, Holm)"], [
        [entry["task"], NAMES[entry["subset"]], entry["row"], *_paired_cells(entry), text_p(entry.get("delong_p_holm"))]
        for entry in differences
    ]
