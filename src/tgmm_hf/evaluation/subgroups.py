"""Figures by subgroup: by sex, age, ethnicity, and by which inputs are missing.

Every admission is scored once, on all modalities that it has, because this is the answer that a user gets.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset

from tgmm_hf.cohorts.ethnicity import ethnicity_group
from tgmm_hf.configuration_measured_tasks import MEASURED_KINDS
from tgmm_hf.evaluation.calibration import OperatingPoint
from tgmm_hf.evaluation.diagnosis import decision_figures
from tgmm_hf.evaluation.headline_figures import HEADLINE, SCORE, headline_figure, strata_of
from tgmm_hf.evaluation.metrics import Estimate, bootstrap_draws, estimate
from tgmm_hf.evaluation.prediction_sets import subgroup_sets
from tgmm_hf.utils.names import MODALITIES, join_names

SMALLEST_GROUP = 20
"""Number of admissions that a group needs to be scored. Smaller groups are only counted."""

FEWEST_CASES = 10
"""Number of admissions of the rarer class, or of events, that a group needs to be scored."""

SMALLEST_SHOWN = 10
"""Number of admissions from which tables and figures show the size of a group, because a smaller number might identify
people."""

NOT_STATED = "not stated"
AGE_BANDS = ((0, "under 50"), (50, "50 to 64"), (65, "65 to 79"), (80, "80 and over"))
VIEW_BANDS = ((0, "none"), (1, "1 to 4"), (5, "5 to 8"), (9, "9 to 11"))
CELL_BANDS = ((0.0, "under 50 %"), (0.5, "50 to 79 %"), (0.8, "80 % and over"))
NATRIURETIC = ("NTproBNP", "BNP")

TITLES = {
    "sex": "sex",
    "age": "age, years",
    "ethnicity": "ethnicity",
    "modalities": "modalities given",
    "natriuretic": "natriuretic peptide",
    "cells": "laboratory cells given",
    "views": "echo views given",
}


def describe_rows(dataset: Dataset) -> pd.DataFrame:
    """Find the group of each prepared admission in every grouping of `TITLES`. ECG signals and clips are not read.

    Args:
        dataset: Prepared rows.

    Returns:
        One row per admission, in order, and one column per grouping with the name of the group, such as "65 to 79".
    """
    columns = dataset.select_columns(["labs", "ecg_mask", "clip_views"]).with_format(None)
    cells = [json.loads(labs) if labs else {} for labs in columns["labs"]]
    possible = max(1, len({name for row in cells for name in row}))
    present = {
        "labs": [bool(row) for row in cells],
        "ecg": [any(mask) for mask in columns["ecg_mask"]],
        "echo": [bool(views) for views in columns["clip_views"]],
    }
    subsets = [join_names([name for name in MODALITIES if present[name][index]]) for index in range(len(cells))]
    return pd.DataFrame(
        {
            "sex": [{"F": "female", "M": "male"}.get(_text(row, "gender"), NOT_STATED) for row in cells],
            "age": [_age_band(row) for row in cells],
            "ethnicity": [_ethnicity(row) for row in cells],
            "modalities": subsets,
            "natriuretic": ["given" if any(name in row for name in NATRIURETIC) else "missing" for row in cells],
            "cells": [_band(len(row) / possible, CELL_BANDS) for row in cells],
            "views": [_band(len(views), VIEW_BANDS) for views in columns["clip_views"]],
        }
    )


def _value(row: dict[str, Any], name: str) -> Any:
    value = row.get(name)
    return value[0] if isinstance(value, list) else value


def _text(row: dict[str, Any], name: str) -> str:
    value = _value(row, name)
    return value if isinstance(value, str) else ""


def _age_band(row: dict[str, Any]) -> str:
    age = _value(row, "age")
    return _band(age, AGE_BANDS) if isinstance(age, int | float) else NOT_STATED


def _ethnicity(row: dict[str, Any]) -> str:
    """Return the group of a row's ethnicity, see `ethnicity_group`, or `NOT_STATED`."""
    return ethnicity_group(_text(row, "ethnicity")) or NOT_STATED


def _band(value: float, bands: tuple[tuple[float, str], ...]) -> str:
    return [name for lowest, name in bands if value >= lowest][-1]


def subgroup_table(
    table: pd.DataFrame,
    kind: str,
    groups: pd.DataFrame,
    points: dict[str, OperatingPoint],
    seed: int,
    replicates: int,
) -> list[dict[str, Any]]:
    """Compute the figures of one task, first for all admissions, then for each group.

    Args:
        table: Rows of `Predictions.table` of one task with a known outcome, under every subset.
        kind: A key of `HEADLINE`.
        groups: The table of `describe_rows`. `table["row"]` is a position in it.
        points: Subset -> temperature and threshold. Empty if the task is no diagnosis.
        seed: Seed of the bootstrap.
        replicates: Number of resamples.

    Returns:
        The first entry has the grouping "all". Then follows one entry for each group of each grouping with at least two
        groups. An entry has "grouping", "group", "n", "patients", "positives" or "events", and the figures with their
        intervals. The figure of a group that is too small is None, with a reason (suffix _missing).
    """
    subset_of_row = groups["modalities"].to_numpy()[table["row"].to_numpy(dtype=int)]
    rows = table[table["subset"].to_numpy() == subset_of_row].reset_index(drop=True)
    described = groups.iloc[rows["row"].to_numpy(dtype=int)].reset_index(drop=True)
    return [
        {"grouping": grouping, "group": group} | _figures(rows[members], kind, points, seed, replicates)
        for grouping, group, members in _members(described)
    ]


def shown_count(count: int) -> str:
    """Write a number of admissions so that it may be published: "< 10" for 1 to 9, otherwise the number."""
    return f"< {SMALLEST_SHOWN}" if 0 < count < SMALLEST_SHOWN else str(count)


def shown_parts(counts: Sequence[int]) -> list[str]:
    """Write the sizes of the parts of one whole so that they may be published.

    If exactly one part would be hidden ("< 10"), the next larger part is "not shown", because the small number would
    follow from the whole by subtraction.
    """
    texts = [shown_count(count) for count in counts]
    open_ones = [index for index, count in enumerate(counts) if texts[index] == str(count)]
    if len(counts) - len(open_ones) == 1 and open_ones:
        texts[min(open_ones, key=counts.__getitem__)] = "not shown"
    return texts


def shown_cases(entry: Mapping[str, Any]) -> str:
    """Write the number of positives or events of an entry so that it may be published.

    Args:
        entry: Figures with "n", and with "positives" or "events".

    Returns:
        "< 10" for fewer than 10 cases, because they are a small group too. For a diagnosis "> 25" if all but fewer than
        10 of 35 are positive, because the number of negatives follows from it. "-" if the task has no cases. Otherwise
        the number.
    """
    if "positives" not in entry and "events" not in entry:
        return "-"
    cases = entry["positives"] if "positives" in entry else entry["events"]
    if entry["n"] and cases < SMALLEST_SHOWN:
        return f"< {SMALLEST_SHOWN}"
    if "positives" in entry and entry["n"] and entry["n"] - cases < SMALLEST_SHOWN:
        return f"> {entry['n'] - SMALLEST_SHOWN}"
    return str(cases)


def shown_counts(entries: Sequence[Mapping[str, Any]], smallest: int = SMALLEST_SHOWN) -> list[tuple[str, str]]:
    """Write n and the number of cases of every entry so that they may be published: "< 10" for a small number.

    Args:
        entries: The entries of one task, from `subgroup_table`.
        smallest: Number of admissions from which the size of a group is shown.

    Returns:
        For each entry (n, number of cases), as texts. The number of cases of a small or hidden group is "-". If the
        cases of one group only would be hidden, the cases of the next larger group are hidden too, because the number
        would follow by subtraction.
    """
    hidden = hidden_groups(entries, smallest)
    counts = []
    for entry in entries:
        if entry["group"] in hidden.get(entry["grouping"], ()):
            counts.append(("not shown", "-"))
        elif entry["grouping"] != "all" and entry["n"] < smallest:
            counts.append((f"< {smallest}", "-"))
        else:
            counts.append((str(entry["n"]), shown_cases(entry)))
    for position in _cases_that_tell_another(entries, counts):
        counts[position] = (counts[position][0], "-")
    return counts


def _cases_that_tell_another(entries: Sequence[Mapping[str, Any]], counts: Sequence[tuple[str, str]]) -> Iterator[int]:
    """Yield the position of an entry whose cases would tell the cases of the only group that hides them."""
    for grouping in dict.fromkeys(entry["grouping"] for entry in entries):
        positions = [index for index, entry in enumerate(entries) if entry["grouping"] == grouping]
        open_ones = [index for index in positions if counts[index][1].isdecimal()]
        if len(positions) - len(open_ones) == 1 and open_ones:
            yield min(open_ones, key=lambda index: entries[index]["n"])


def hidden_groups(entries: Sequence[Mapping[str, Any]], smallest: int) -> dict[str, list[str]]:
    """Find groups that must be hidden because another group of the grouping is too small to be shown.

    If exactly one group is too small, a reader could compute its size: all admissions minus the other groups.
    Therefore the next larger group is hidden too.

    Args:
        entries: The entries of one task, from `subgroup_table`.
        smallest: Number of admissions from which a group is shown.

    Returns:
        Grouping -> names of the next larger groups to hide. The small groups themselves are not listed.
    """
    hidden = {}
    for grouping in dict.fromkeys(entry["grouping"] for entry in entries):
        by_size = sorted((entry for entry in entries if entry["grouping"] == grouping), key=lambda entry: entry["n"])
        if len(by_size) > 1 and by_size[0]["n"] < smallest <= by_size[1]["n"]:
            hidden[grouping] = [by_size[1]["group"]]
    return hidden


def _members(described: pd.DataFrame) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield (grouping, group, bool (n,) of its members): first all rows, then the groups of each grouping.

    A grouping with one group is not yielded. `described` is a table of `describe_rows`.
    """
    yield "all", "all", np.ones(len(described), dtype=bool)
    bands = {"age": AGE_BANDS, "views": VIEW_BANDS, "cells": CELL_BANDS}
    for grouping in TITLES:
        values = described[grouping].to_numpy()
        order = [name for _, name in bands.get(grouping, ())]
        names = sorted(set(values), key=lambda g: (g == NOT_STATED, order.index(g) if g in order else 0, g))
        for group in names if len(names) > 1 else ():
            yield grouping, group, values == group


def _figures(
    rows: pd.DataFrame, kind: str, points: dict[str, OperatingPoint], seed: int, replicates: int
) -> dict[str, Any]:
    entry: dict[str, Any] = {"n": len(rows), "patients": int(rows["patient_id"].nunique())}
    if kind == "diagnosis":
        entry["positives"] = int(rows["positive"].sum())
        rare, cases = min(entry["positives"], len(rows) - entry["positives"]), "of the rarer class"
    elif kind in MEASURED_KINDS:
        rare, cases = len(rows), "admissions"
    else:
        entry["events"] = int((rows["event"] == 1).sum())
        rare, cases = entry["events"], "events"
    headline = HEADLINE[kind]
    if len(rows) < SMALLEST_GROUP or rare < FEWEST_CASES:
        few = f"n < {SMALLEST_GROUP}" if len(rows) < SMALLEST_GROUP else f"fewer than {FEWEST_CASES} {cases}"
        return entry | Estimate(None, None, f"not scored, {few}").entry(headline)
    draws = bootstrap_draws(rows["patient_id"], strata_of(rows, kind), replicates, seed)
    if kind != "diagnosis":
        return entry | estimate(headline_figure(rows, SCORE[kind], kind), draws.by_outcome).entry(headline)
    probability, positive = rows["probability"].to_numpy(np.float64, copy=True), rows["positive"].to_numpy(np.float64)
    decided = np.zeros(len(rows), dtype=bool)
    for subset, point in points.items():
        members = (rows["subset"] == subset).to_numpy()
        probability[members] = point.scaled(probability[members])
        decided[members] = probability[members] >= point.threshold
    figure = estimate(headline_figure(rows.assign(probability=probability), "probability", kind), draws.by_outcome)
    return entry | figure.entry(headline) | decision_figures(decided, positive, draws) | subgroup_sets(rows, draws)
