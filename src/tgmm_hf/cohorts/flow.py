"""The flow of exclusions of a cohort: entries, a check that they add up, and a CONSORT-style figure."""

from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

FlowEntry = dict[str, Any]
"""{"step", "kind", "reason", "patients", "admissions"}; kind is start, excluded, included or group."""


def flow_entry(step: str, kind: str, reason: str, patients: int, admissions: int) -> FlowEntry:
    """Make one entry of a flow.

    Args:
        step: Name of the step.
        kind: "start", "excluded", "included" or "group".
        reason: What the figure writes.
        patients: Number of patients. For an exclusion, the patients who lose their last admission in this step.
        admissions: Number of admissions.
    """
    return {"step": step, "kind": kind, "reason": reason, "patients": patients, "admissions": admissions}


def check_flow(flow: list[FlowEntry]) -> None:
    """Check that the numbers left are the numbers at the start minus the exclusions.

    An "included" entry closes the block that the last "start" or "group" entry opened.

    Raises:
        RuntimeError: If the numbers do not add up. That is a bug.
    """
    left: dict[str, int] = {}
    for entry in flow:
        for unit in ("patients", "admissions"):
            if entry["kind"] in ("start", "group"):
                left[unit] = entry[unit]
            elif entry["kind"] == "excluded":
                left[unit] -= entry[unit]
            elif left[unit] != entry[unit]:
                raise RuntimeError(
                    f"flow: {left[unit]} {unit} are left at {entry['step']!r}, but {entry[unit]} counted"
                )


def draw_flow(flow: list[FlowEntry], path: Path) -> None:
    """Draw the flow as SVG: boxes downwards, exclusions to the right."""
    shown = [entry for entry in flow if entry["kind"] != "excluded" or entry["admissions"]]
    figure = Figure(figsize=(9, 0.62 * len(shown) + 0.3))
    axes = figure.subplots()
    axes.set_xlim(0, 10)
    axes.set_ylim(-len(shown), 0.2)
    axes.axis("off")
    for row, entry in enumerate(shown):
        excluded = entry["kind"] == "excluded"
        x, y = (4.6 if excluded else 0.1), -row - 0.4
        if row:
            axes.plot([1.5, 1.5], [y + 1, y], color="0.4", linewidth=1, zorder=0)
        if excluded:
            axes.annotate("", (x, y), (1.5, y), arrowprops={"arrowstyle": "->", "color": "0.4"})
        axes.text(
            x,
            y,
            f"{entry['reason']}\n{entry['admissions']:,} admissions, {entry['patients']:,} patients",
            fontsize=8,
            va="center",
            bbox={"boxstyle": "round,pad=0.35", "facecolor": "white" if excluded else "#e8f0f8", "edgecolor": "0.4"},
        )
    with rc_context({"svg.hashsalt": "tgmm"}):  # so that the same flow gives the same bytes
        figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None})
