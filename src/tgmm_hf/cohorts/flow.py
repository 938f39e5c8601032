"""The flow of exclusions of a cohort: entries, a check that they add up, and a CONSORT-style figure."""

from itertools import groupby
from pathlib import Path
from textwrap import fill
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

GREY = "0.4"
ARROW = {"arrowstyle": "->", "color": GREY}
COLUMN_X, EXCLUDED_X = 4.2, 7.0
"""Middle of the boxes of the column, and left edge of the exclusions, in units of the figure."""
BRANCH_WIDTH = 3.8
"""Distance of the middles of two boxes that stand side by side."""
BOX_HALF = 0.3
"""Half the height of a box."""
LINE, BRANCH_LINE = 44, 32
"""Letters of a line in a box, and in a box that stands beside others."""

UNIT_TITLES = {"admissions": "admissions", "xrays": "X-rays", "pairs": "pairs"}
"""Key of what an entry counts beside patients -> its name in the figure."""

FlowEntry = dict[str, Any]
"""{"step", "kind", "reason", "patients", and one key of `UNIT_TITLES`}, see `flow_entry`."""


def flow_entry(step: str, kind: str, reason: str, patients: int, number: int, unit: str = "admissions") -> FlowEntry:
    """Make one entry of a flow.

    Args:
        step: Name of the step.
        kind: "start" (all there is), "excluded" (lost in this step), "included" (left after all steps), or "group" (a
            part of those who are left).
        reason: The text of the box in the figure.
        patients: Number of patients. For an exclusion, the patients who lose their last admission in this step.
        number: Number of admissions. For an exclusion, the admissions that are lost in this step.
        unit: What `number` counts, a key of `UNIT_TITLES`.
    """
    return {"step": step, "kind": kind, "reason": reason, "patients": patients, unit: number}


def counted_unit(entry: FlowEntry) -> str:
    """Return what an entry counts beside patients, a key of `UNIT_TITLES`."""
    return next(unit for unit in UNIT_TITLES if unit in entry)


def check_flow(flow: list[FlowEntry]) -> None:
    """Check that the entries of a flow add up.

    An "included" entry must have the numbers of the last "start" or "group" entry minus the exclusions after it.

    Raises:
        RuntimeError: If the numbers do not add up. This is a bug of the package.
    """
    left: dict[str, int] = {}
    for entry in flow:
        for unit in ("patients", counted_unit(entry)):
            if entry["kind"] in ("start", "group"):
                left[unit] = entry[unit]
            elif entry["kind"] == "excluded":
                left[unit] -= entry[unit]
            elif left[unit] != entry[unit]:
                raise RuntimeError(
                    f"flow: {left[unit]} {unit} are left at {entry['step']!r}, but {entry[unit]} counted"
                )


def draw_flow(flow: list[FlowEntry], path: Path) -> None:
    """Draw the flow into the SVG file `path`, see `flow_figure`. The same flow gives the same bytes."""
    with rc_context({"svg.hashsalt": "tgmm"}):
        flow_figure(flow).savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None})


def flow_figure(flow: list[FlowEntry]) -> Figure:
    """Draw a flow as a CONSORT diagram.

    The boxes of those who are left stand in a column, exclusions to the right of it. Groups that follow each other
    stand side by side below the box that they are parts of. A group with exclusions of its own continues the column.
    Exclusions of nobody are left out.
    """
    rows = _rows([entry for entry in flow if entry["kind"] != "excluded" or entry[counted_unit(entry)]])
    figure = Figure(figsize=(11, 0.85 * len(rows) + 0.3))
    axes = figure.subplots()
    axes.set_xlim(0, 12)
    axes.set_ylim(-len(rows), 0.2)
    axes.axis("off")
    column_from = 0.0  # height of the last box of the column
    for row, entries in enumerate(rows):
        y = -row - 0.4
        if len(entries) > 1:
            _draw_branches(axes, entries, y, column_from)
        elif entries[0]["kind"] == "excluded":
            axes.annotate("", (EXCLUDED_X, y), (COLUMN_X, y), arrowprops=ARROW)
            _draw_box(axes, entries[0], EXCLUDED_X, y, align="left")
        else:
            if row:
                axes.annotate("", (COLUMN_X, y + BOX_HALF), (COLUMN_X, column_from), arrowprops=ARROW, zorder=0)
            _draw_box(axes, entries[0], COLUMN_X, y)
            column_from = y
    return figure


def _rows(flow: list[FlowEntry]) -> list[list[FlowEntry]]:
    """Arrange the entries in rows: groups that follow each other in one row, every other entry alone.

    The last of several groups that has exclusions after it has a row of its own, because it continues the column.
    """
    rows: list[list[FlowEntry]] = []
    for kind, members in groupby(flow, key=lambda entry: entry["kind"]):
        entries = list(members)
        if kind != "group":
            rows += [[entry] for entry in entries]
            continue
        continues = entries[-1] is not flow[-1]
        rows += [entries[:-1], entries[-1:]] if continues and len(entries) > 1 else [entries]
    return rows


def _draw_branches(axes: Axes, entries: list[FlowEntry], y: float, parent_y: float) -> None:
    """Draw groups side by side at the height `y`, with arrows from the box of the column at `parent_y`."""
    spread = BRANCH_WIDTH * (len(entries) - 1) / 2
    places = [COLUMN_X - spread + BRANCH_WIDTH * index for index in range(len(entries))]
    bar = y + 0.5
    axes.plot([COLUMN_X, COLUMN_X], [parent_y, bar], color=GREY, linewidth=1, zorder=0)
    axes.plot([places[0], places[-1]], [bar, bar], color=GREY, linewidth=1, zorder=0)
    for entry, x in zip(entries, places, strict=True):
        axes.annotate("", (x, y + BOX_HALF), (x, bar), arrowprops=ARROW, zorder=0)
        _draw_box(axes, entry, x, y)


def _draw_box(axes: Axes, entry: FlowEntry, x: float, y: float, align: str = "center") -> None:
    """Draw the box of an entry: its reason and its two counts. `align` is "center" or "left" of `x`."""
    unit = counted_unit(entry)
    reason = fill(entry["reason"], BRANCH_LINE if entry["kind"] == "group" else LINE)
    axes.text(
        x,
        y,
        f"{reason}\n{entry[unit]:,} {UNIT_TITLES[unit]}, {entry['patients']:,} patients",
        fontsize=8,
        ha=align,
        va="center",
        bbox={
            "boxstyle": "round,pad=0.35",
            "facecolor": "white" if entry["kind"] == "excluded" else "#e8f0f8",
            "edgecolor": GREY,
        },
    )
