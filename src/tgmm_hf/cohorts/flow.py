"""Flow of exclusions: counts per step as JSON, and the same as a CONSORT-style figure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from tgmm_hf.cohorts.mimic.anomalies import ECG_REASONS
from tgmm_hf.cohorts.mimic.rules import CurateRules

FlowEntry = dict[str, Any]
"""{"step", "kind", "reason", "patients", "admissions"}; kind: start, excluded, included, group."""


NO_CLIP = "no usable echo clip"
PROGNOSIS_REASONS = {
    "prevalent": "heart failure coded at the stay or earlier",
    "died in stay": "died in the stay",
    "early heart failure": "heart-failure stay up to the landmark",
    "early death": "death up to the landmark",
    "early end": "observation ends before the landmark",
    "no later contact": "no later stay (paper-like sensitivity)",
}
EVENTS = {1: "incident heart failure", 2: "death without heart failure", 0: "censored"}


def count_flow(
    database: duckdb.DuckDBPyConnection, rules: CurateRules, sources: Mapping[str, Path | None], check_files: bool
) -> list[FlowEntry]:
    """The flow of exclusions; `patients` of an exclusion are those who lose their last admission there."""

    def count(condition: str, *values: Any) -> tuple[int, int]:
        query = f"SELECT count(DISTINCT patient_id), count(*) FROM cohort WHERE {condition}"
        return database.execute(query, list(values)).fetchall()[0]

    start = database.execute("SELECT count(DISTINCT subject_id), count(*) FROM stays").fetchall()[0]
    flow = [_entry("start", "start", "admissions in MIMIC-IV", *start)]
    flow += _exclusions(database, "decisions", "step", _steps(rules, sources, check_files))
    total = count("TRUE")
    flow.append(_entry("cohort", "included", "included", *total))
    means = "code" if rules.label == "icd" else "ejection fraction"
    for value, name in ((1, "heart failure"), (0, "no heart failure")):
        flow.append(_entry(name, "group", f"{name} ({means})", *count("hf_diagnosis = ?", value)))
    flow.append(_entry("prognosis candidates", "group", "prognosis: all included", *total))
    flow += _exclusions(database, "(SELECT patient_id AS subject_id, * FROM cohort)", "prognosis", PROGNOSIS_REASONS)
    reason = f"prognosis from day {rules.landmark_days} after discharge"
    flow.append(_entry("prognosis", "included", reason, *count("prognosis = 'included'")))
    for event, name in EVENTS.items():
        flow.append(_entry(name, "group", name, *count("hf_risk_event = ?", event)))
    return flow


def _steps(rules: CurateRules, sources: Mapping[str, Path | None], check_files: bool) -> dict[str, str]:
    """Step -> reason, in the order in which they are applied; only those that the rules and sources ask for."""
    steps = {"times": "no patient row, or admission or discharge time missing or out of order"}
    if sources["mimic_echo"] is not None:
        steps["echo"] = "no echo study between registration and discharge"
    if sources["mimic_ecg"] is not None:
        steps["ecg"] = "no 12-lead ECG between registration and discharge"
    if rules.max_hours_apart is not None:
        steps["apart"] = f"ECG and echo more than {rules.max_hours_apart:g} hours apart"
    steps["labs"] = "no listed laboratory value from registration to the index time"
    if rules.label == "lvef":
        steps["lvef"] = "no structured ejection fraction"
    if check_files:
        steps |= {reason: reason for reason in (*ECG_REASONS, NO_CLIP)}
    if rules.admissions == "first":
        steps["not_first"] = "not the first qualifying admission of the patient"
    return steps


def _exclusions(
    database: duckdb.DuckDBPyConnection, table: str, column: str, steps: Mapping[str, str]
) -> list[FlowEntry]:
    places = pd.DataFrame({"step": [*steps, "included"], "place": range(len(steps) + 1)})
    database.register("places", places)
    rows = database.execute(
        f"WITH placed AS (SELECT t.subject_id, p.place FROM {table} AS t JOIN places AS p ON t.{column} = p.step), "
        "lost AS (SELECT subject_id, max(place) AS place FROM placed GROUP BY subject_id) "
        "SELECT p.step, (SELECT count(*) FROM lost WHERE lost.place = p.place), "
        "(SELECT count(*) FROM placed WHERE placed.place = p.place) FROM places AS p WHERE p.step <> 'included' "
        "ORDER BY p.place"
    ).fetchall()
    database.unregister("places")
    return [_entry(step, "excluded", steps[step], patients, admissions) for step, patients, admissions in rows]


def _entry(step: str, kind: str, reason: str, patients: int, admissions: int) -> FlowEntry:
    return {"step": step, "kind": kind, "reason": reason, "patients": patients, "admissions": admissions}


def check_flow(flow: list[FlowEntry]) -> None:
    """Assert that what is left is what was there less what was excluded; an error here is a bug.

    Each "included" entry closes the entries since the one that opened its block (a "start" or "group").
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
    """SVG: boxes downwards, exclusions to the right."""
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
    with rc_context({"svg.hashsalt": "tgmm"}):  # the same bytes for the same flow
        figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None})
