"""Tables of averaged explanations for the report of an evaluation (`explanation/group_averages.py`)."""

from collections.abc import Iterator, Mapping
from typing import Any

from tgmm_hf.evaluation.tables import Table
from tgmm_hf.explanation.group_averages import ALL
from tgmm_hf.reports.contributions import HEAT_TITLES, METHOD_NAMES, MODALITY_NAMES

LONGEST = 15
"""Rows of the table of laboratory cells: those with the largest mean of the absolute contributions."""
PARTS = {"modalities": "modalities", "views": "echo views", "labs": "laboratory cells"}


def group_tables(task: str, averages: Mapping[str, Any]) -> list[Table]:
    """Make the tables of one task.

    Args:
        task: name of the task.
        averages: what `explain_groups` returned.

    Returns:
        Tables of modalities, views, laboratory cells, leads and slots. A table without rows is left out.
    """
    groups = averages["groups"]
    tables = [_contributions(task, part, averages) for part in PARTS]
    tables.append(_leads(task, averages))
    tables += _slot_maps(task, groups[ALL])
    return [table for table in tables if table.rows]


def _contributions(task: str, part: str, averages: Mapping[str, Any]) -> Table:
    """Make the table of one part: mean contribution of each group, and the mean absolute one of all patients."""
    groups = averages["groups"]
    everybody = groups[ALL].get(part, {})
    method = METHOD_NAMES.get(averages["methods"].get(part, "shapley"), "")
    title = f"{task}: contributions of {PARTS[part]} to {averages['target']!r}, {averages['unit']}, by {method}"
    header = [part, "n", "mean of absolute values", *(f"mean, {_group_name(name, groups)}" for name in groups)]
    rows = [
        [MODALITY_NAMES.get(name, name.replace("_", " ")), str(figures["n"]), f"{figures['mean_absolute']:.2f}"]
        + [_mean(group.get(part, {}).get(name)) for group in groups.values()]
        for name, figures in list(everybody.items())[:LONGEST]
    ]
    return Table(title, header, rows)


def _group_name(name: str, groups: Mapping[str, Any]) -> str:
    """Name a group with its number of patients; a small number is not shown."""
    return f"{name} ({groups[name]['n']})" if "modalities" in groups[name] else f"{name} (too few)"


def _mean(figures: Mapping[str, Any] | None) -> str:
    """Write a mean; "" where the group has too few patients with it."""
    return "" if figures is None else f"{figures['mean']:+.2f}"


def _leads(task: str, averages: Mapping[str, Any]) -> Table:
    """Make the table of the leads: their mean share of the absolute contributions, by group."""
    groups = averages["groups"]
    method = METHOD_NAMES.get(averages["methods"]["ecg"], "")
    title = f"{task}: share of the absolute contributions of each lead, by {method}"
    rows = [
        [lead, *(f"{100 * group['ecg'][lead]:.0f} %" if group.get("ecg") else "" for group in groups.values())]
        for lead in groups[ALL].get("ecg", {})
    ]
    return Table(title, ["lead", *(_group_name(name, groups) for name in groups)], rows)


def _slot_maps(task: str, everybody: Mapping[str, Any]) -> Iterator[Table]:
    """Make a table of each map of the slots, averaged over all patients."""
    for method, heading in HEAT_TITLES.items():
        if stored := everybody.get(method):
            rows = [
                [name, *("" if value is None else f"{value:.2f}" for value in row)]
                for name, row in zip(stored["rows"], stored["values"], strict=True)
            ]
            yield Table(f"{task}: {heading} (mean of {stored['n']} patients)", ["", *stored["columns"]], rows)
