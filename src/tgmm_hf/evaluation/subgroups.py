"""For whom a model works: figures by sex, age, ethnicity, and by what is missing.

Every admission is scored once, under all the modalities that it has, which is how a user gets an answer for it.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset

from tgmm_hf.evaluation.calibration import OperatingPoint
from tgmm_hf.evaluation.diagnosis import decision_figures
from tgmm_hf.evaluation.metrics import Estimate, bootstrap_draws, estimate, resampled_auc
from tgmm_hf.evaluation.survival import resampled_c_index
from tgmm_hf.utils.names import MODALITIES

SMALLEST_GROUP = 20
"""Admissions below which a group is counted, not scored."""

FEWEST_CASES = 10
"""Admissions of the rarer class, or events, below which a group is counted, not scored."""

SMALLEST_SHOWN = 10
"""Admissions below which tables and figures do not say how many a group has: the number might name people."""

NOT_STATED = "not stated"
AGE_BANDS = ((0, "under 50"), (50, "50 to 64"), (65, "65 to 79"), (80, "80 and over"))
VIEW_BANDS = ((0, "none"), (1, "1 to 4"), (5, "5 to 8"), (9, "9 to 11"))
CELL_BANDS = ((0.0, "under 50 %"), (0.5, "50 to 79 %"), (0.8, "80 % and over"))
NATRIURETIC = ("NTproBNP", "BNP")
NO_ETHNICITY = ("unknown", "unable to obtain", "patient declined to answer", "")

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
    """The group of each prepared admission in every grouping (`TITLES`), one row each, in order.

    Reads the laboratory cells and the masks, no signals or clips.
    """
    columns = dataset.select_columns(["labs", "ecg_mask", "clip_views"]).with_format(None)
    cells = [json.loads(labs) if labs else {} for labs in columns["labs"]]
    possible = max(1, len({name for row in cells for name in row}))
    present = {
        "labs": [bool(row) for row in cells],
        "ecg": [any(mask) for mask in columns["ecg_mask"]],
        "echo": [bool(views) for views in columns["clip_views"]],
    }
    own = ["+".join(m for m in MODALITIES if present[m][index]) for index in range(len(cells))]
    return pd.DataFrame(
        {
            "sex": [{"F": "female", "M": "male"}.get(_text(row, "gender"), NOT_STATED) for row in cells],
            "age": [_age_band(row) for row in cells],
            "ethnicity": [_ethnicity(row) for row in cells],
            "modalities": own,
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
    """The first word group: MIMIC's "WHITE - RUSSIAN" and "BLACK/AFRICAN AMERICAN" have parts that are too small."""
    text = _text(row, "ethnicity").casefold().strip()
    return NOT_STATED if text in NO_ETHNICITY else re.split(r"\s+-\s+|/|\s+or\s+", text)[0]


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
    """Figures of one task, everybody first, then group by group.

    Args:
        table: rows of a task with a known outcome under every combination (`Predictions.table`).
        kind: "diagnosis" or "prognosis".
        groups: from `describe_rows`; `table["row"]` counts its rows.
        points: combination -> temperature and threshold, of a diagnosis.

    Returns:
        For every grouping that splits these rows, entries ``{"grouping", "group", "n", "patients", "positives" |
        "events", figures}``; a group that is too small or has too few cases has None with a reason.
    """
    own = groups["modalities"].to_numpy()[table["row"].to_numpy(dtype=int)]
    rows = table[table["subset"].to_numpy() == own].reset_index(drop=True)
    described = groups.iloc[rows["row"].to_numpy(dtype=int)].reset_index(drop=True)
    return [
        {"grouping": grouping, "group": group} | _figures(rows[members], kind, points, seed, replicates)
        for grouping, group, members in _members(described)
    ]


def shown_counts(entries: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """n and cases of every entry of a task, as what is passed on may say them: "< 10" for a small group."""
    hidden = hidden_groups(entries, SMALLEST_SHOWN)
    counts = []
    for entry in entries:
        cases = entry["positives"] if "positives" in entry else entry["events"]
        if entry["group"] in hidden.get(entry["grouping"], ()):
            counts.append(("not shown", "-"))
        elif entry["grouping"] != "all" and entry["n"] < SMALLEST_SHOWN:
            counts.append((f"< {SMALLEST_SHOWN}", "-"))
        else:
            counts.append((str(entry["n"]), str(cases)))
    return counts


def hidden_groups(entries: Sequence[Mapping[str, Any]], smallest: int) -> dict[str, list[str]]:
    """By grouping the next smallest group, where exactly one is too small to be shown: everybody less the other groups
    would be that one."""
    hidden = {}
    for grouping in dict.fromkeys(entry["grouping"] for entry in entries):
        own = sorted((entry for entry in entries if entry["grouping"] == grouping), key=lambda entry: entry["n"])
        if len(own) > 1 and own[0]["n"] < smallest <= own[1]["n"]:
            hidden[grouping] = [own[1]["group"]]
    return hidden


def _members(described: pd.DataFrame) -> Iterator[tuple[str, str, np.ndarray]]:
    yield "all", "all", np.ones(len(described), dtype=bool)
    bands = {"age": AGE_BANDS, "views": VIEW_BANDS, "cells": CELL_BANDS}
    for grouping in TITLES:
        values = described[grouping].to_numpy()
        order = [name for _, name in bands.get(grouping, ())]
        found = sorted(set(values), key=lambda g: (g == NOT_STATED, order.index(g) if g in order else 0, g))
        for group in found if len(found) > 1 else ():
            yield grouping, group, values == group


def _figures(
    rows: pd.DataFrame, kind: str, points: dict[str, OperatingPoint], seed: int, replicates: int
) -> dict[str, Any]:
    entry: dict[str, Any] = {"n": len(rows), "patients": int(rows["patient_id"].nunique())}
    if kind == "diagnosis":
        entry["positives"] = int(rows["positive"].sum())
        rare, cases, headline = min(entry["positives"], len(rows) - entry["positives"]), "of the rarer class", "auc"
    else:
        entry["events"] = int((rows["event"] == 1).sum())
        rare, cases, headline = entry["events"], "events", "c_index"
    if len(rows) < SMALLEST_GROUP or rare < FEWEST_CASES:
        few = f"n < {SMALLEST_GROUP}" if len(rows) < SMALLEST_GROUP else f"fewer than {FEWEST_CASES} {cases}"
        return entry | Estimate(None, None, f"not scored, {few}").entry(headline)
    strata = rows["label" if kind == "diagnosis" else "event"]
    draws = bootstrap_draws(rows["patient_id"], strata, replicates, seed)
    if kind == "prognosis":
        risk, time, event = (rows[name].to_numpy(np.float64) for name in ("risk", "time", "event"))
        figure = estimate(lambda drawn: resampled_c_index(risk, time, event, drawn), draws.by_outcome)
        return entry | figure.entry("c_index")
    probability, positive = rows["probability"].to_numpy(np.float64, copy=True), rows["positive"].to_numpy(np.float64)
    named = np.zeros(len(rows), dtype=bool)
    for subset, point in points.items():
        members = (rows["subset"] == subset).to_numpy()
        probability[members] = point.scaled(probability[members])
        named[members] = probability[members] >= point.threshold
    figure = estimate(lambda drawn: resampled_auc(probability, positive, drawn), draws.by_outcome)
    return entry | figure.entry("auc") | decision_figures(named, positive, draws)
