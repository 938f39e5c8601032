"""The flow of exclusions of a MIMIC cohort, counted in the database that the SQL steps leave."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from tgmm_hf.cohorts.flow import FlowEntry, flow_entry
from tgmm_hf.cohorts.mimic.file_checks import ECG_REASONS, NO_CLIP
from tgmm_hf.cohorts.mimic.rules import CurateRules

PROGNOSIS_REASONS = {
    "prevalent": "heart failure coded at the stay or earlier",
    "died in stay": "died in the stay",
    "early heart failure": "heart-failure stay up to the landmark",
    "early death": "death up to the landmark",
    "early end": "observation ends before the landmark",
    "no later contact": "no later stay (paper-like sensitivity)",
}
EVENT_NAMES = {1: "incident heart failure", 2: "death without heart failure", 0: "censored"}


def count_flow(
    database: duckdb.DuckDBPyConnection, rules: CurateRules, sources: Mapping[str, Path | None], check_files: bool
) -> list[FlowEntry]:
    """Count the flow of exclusions.

    Args:
        database: The database after the last SQL step.
        rules: Rules of the cohort.
        sources: Name of each source -> its directory, None if it was not given.
        check_files: Whether anomalous files were excluded.

    Returns:
        Entries from all admissions to the cohort, its groups, the exclusions from the prognosis, and the outcomes.
    """

    def count(condition: str, *values: Any) -> tuple[int, int]:
        query = f"SELECT count(DISTINCT patient_id), count(*) FROM cohort WHERE {condition}"
        return database.execute(query, list(values)).fetchall()[0]

    start = database.execute("SELECT count(DISTINCT subject_id), count(*) FROM stays").fetchall()[0]
    flow = [flow_entry("start", "start", "admissions in MIMIC-IV", *start)]
    flow += _exclusions(database, "decisions", "step", _steps(rules, sources, check_files))
    total = count("TRUE")
    flow.append(flow_entry("cohort", "included", "included", *total))
    for value, name in ((1, "heart failure"), (0, "no heart failure")):
        means = _label_means(rules, value, count)
        flow.append(flow_entry(name, "group", f"{name} ({means})", *count("hf_diagnosis = ?", value)))
    flow.append(flow_entry("prognosis candidates", "group", "prognosis: all included", *total))
    flow += _exclusions(database, "(SELECT patient_id AS subject_id, * FROM cohort)", "prognosis", PROGNOSIS_REASONS)
    reason = f"prognosis from day {rules.landmark_days} after discharge"
    flow.append(flow_entry("prognosis", "included", reason, *count("prognosis = 'included'")))
    for event, name in EVENT_NAMES.items():
        flow.append(flow_entry(name, "group", name, *count("hf_risk_event = ?", event)))
    return flow


def _label_means(rules: CurateRules, value: int, count: Callable[..., tuple[int, int]]) -> str:
    """Say what a label of 1 or 0 means. A code of an earlier stay counts too, so the codes of the stay are counted.

    `count` gives the patients and the admissions that a condition selects.
    """
    if rules.label == "lvef":
        return "ejection fraction"
    if value == 0:
        return "no code at this stay or earlier"
    _, at_the_stay = count("hf_diagnosis = 1 AND hadm_id IN (SELECT hadm_id FROM hf_stays)")
    return f"coded at this stay or earlier; {at_the_stay:,} at this stay"


def _steps(rules: CurateRules, sources: Mapping[str, Path | None], check_files: bool) -> dict[str, str]:
    """List the exclusion steps that the rules and sources ask for, in their order: step -> text of the figure."""
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
    """Count the exclusions of every step.

    Args:
        database: The database after the last SQL step.
        table: Table or subquery with subject_id and `column`.
        column: Name of the column with the step that excluded the admission, or "included".
        steps: Step -> text of the figure, in the order of the steps.

    Returns:
        One "excluded" entry per step. A patient counts in the step that excludes the patient's last admission. Patients
        with an included admission do not count.
    """
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
    return [flow_entry(step, "excluded", steps[step], patients, admissions) for step, patients, admissions in rows]
