"""The DuckDB database of `tgmm curate-more`: tables go in, the SQL steps run, and notes are made for what they chose.

Python holds `CHUNK` studies at a time. All tables stay in the database, which moves to disk what does not fit.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import duckdb
import pandas as pd
from tqdm import tqdm

from tgmm_hf.cohorts.flow import FlowEntry, check_flow, flow_entry
from tgmm_hf.cohorts.instruction_texts import REPORT_COLUMNS, clean_machine_report
from tgmm_hf.cohorts.mimic_cxr.report_files import ReportFiles
from tgmm_hf.cohorts.mimic_cxr.report_text import note_of_labels, xray_note
from tgmm_hf.cohorts.mimic_cxr.tables import FINDINGS, LABELLERS, finding_name, more_tables
from tgmm_hf.cohorts.tables import load_tables, require_columns, run_sql, sql_name, sql_text
from tgmm_hf.utils.errors import TgmmError

CHUNK = 5000
NAMES = tuple(finding_name(column) for column in FINDINGS)
XRAY_NOTES = "study_id BIGINT, note VARCHAR, source VARCHAR"
ECG_NOTES = "study_id BIGINT, note VARCHAR"


@dataclass(frozen=True)
class MoreRules:
    """The rules of the table.

    Attributes:
        days: Largest number of days between the dates of X-ray and ECG.
        pairs: "all" pairs, or the "nearest" ECG of each X-ray.
        labels: Whose labels are taken, "chexpert" or "negbio".
        uncertain: "missing" leaves uncertain labels empty, "keep" writes -1.
    """

    days: int = 60
    pairs: Literal["all", "nearest"] = "all"
    labels: Literal["chexpert", "negbio"] = "chexpert"
    uncertain: Literal["missing", "keep"] = "missing"

    def __post_init__(self) -> None:
        """Refuse a value that is not known."""
        for name, values in (("pairs", ("all", "nearest")), ("labels", LABELLERS), ("uncertain", ("missing", "keep"))):
            if getattr(self, name) not in values:
                raise TgmmError(name, f"is {getattr(self, name)!r}. It must be {' or '.join(values)}.")
        if self.days < 0:
            raise TgmmError("days", f"is {self.days}. It must be 0 or more.")


def build_pairs(
    database: duckdb.DuckDBPyConnection,
    paths: Mapping[str, Path | None],
    rules: MoreRules,
    reports: ReportFiles,
    left_out: Path | None,
) -> list[str]:
    """Make the tables xray_rows, pairs, xray_labels, xray_notes and ecg_notes.

    Args:
        database: An empty database.
        paths: Name of a table -> its file.
        rules: The rules.
        reports: The reports of the X-rays.
        left_out: CSV file with the column patient_id of patients who must not enter. None leaves nobody out.

    Returns:
        The SQL that was run.

    Raises:
        TgmmError: If a table or the list of patients cannot be used.
    """
    script = [load_tables(database, more_tables(rules.labels), paths)]
    script.append(f"SET VARIABLE days = {rules.days};\n")
    run_sql(database, script[-1], "the rules")
    patients = _read_patients(left_out)
    database.execute("CREATE TABLE left_out_patients (subject_id BIGINT)")
    if patients:
        _insert(database, "left_out_patients", ["subject_id"], [(patient,) for patient in patients])
    steps = ["01_xrays.sql", "02_pairs.sql", *(["03_nearest.sql"] if rules.pairs == "nearest" else []), "04_chosen.sql"]
    for name in steps:
        text = files("tgmm_hf.cohorts.mimic_cxr").joinpath("sql", name).read_text(encoding="utf-8")
        run_sql(database, text, f"step {name}")
        script.append(f"-- ==== {name}\n{text}")
    script.append(_load_labels(database))
    _write_xray_notes(database, reports)
    _write_ecg_notes(database)
    return script


def count_flow(database: duckdb.DuckDBPyConnection, rules: MoreRules, has_list: bool) -> list[FlowEntry]:
    """Count the flow: X-rays from the metadata to those with an ECG, then the pairs of each split.

    Args:
        database: The database after `build_pairs`.
        rules: The rules.
        has_list: Whether a list of patients was given that must not enter.
    """
    reasons = {
        "incomplete": "X-ray without image, patient, study or date",
        "repeated": "image stands twice in the metadata",
        "view": "view other than PA and AP",
        **({"listed": "patient of the list to be left out"} if has_list else {}),
        "no split": "no split",
        "two splits": "patient in two splits",
        "no ecg": f"no ECG within {rules.days} days",
    }
    counts = dict[str, int](database.execute("SELECT step, count(*) FROM xray_rows GROUP BY step").fetchall())
    order = {name: place for place, name in enumerate([*reasons, "included"])}
    cases = " ".join(f"WHEN {sql_text(name)} THEN {place}" for name, place in order.items())
    last = dict[int, int](
        database.execute(
            f"SELECT last, count(*) FROM (SELECT max(CASE step {cases} END) AS last FROM xray_rows "
            "GROUP BY coalesce(subject_id::VARCHAR, '')) GROUP BY last"
        ).fetchall()
    )
    flow = [flow_entry("start", "start", "X-rays in MIMIC-CXR-JPG", sum(last.values()), sum(counts.values()), "xrays")]
    for name, reason in reasons.items():
        flow.append(flow_entry(name, "excluded", reason, last.get(order[name], 0), counts.get(name, 0), "xrays"))
    included = counts.get("included", 0)
    flow.append(
        flow_entry("included", "included", "X-rays with an ECG", last.get(order["included"], 0), included, "xrays")
    )
    check_flow(flow)
    groups = {
        split: (patients, number)
        for split, patients, number in database.execute(
            "SELECT split, count(DISTINCT subject_id), count(*) FROM pairs GROUP BY split"
        ).fetchall()
    }
    for split in ("train", "validation", "test"):
        flow.append(flow_entry(split, "group", split, *groups.get(split, (0, 0)), "pairs"))
    return flow


def _load_labels(database: duckdb.DuckDBPyConnection) -> str:
    """Make the table xray_labels: study_id and one column for each finding with 1, 0, -1 or NULL. Return its SQL."""
    columns = ", ".join(
        f"CASE WHEN {sql_name(column)} IN (1, 0, -1) THEN {sql_name(column)}::INTEGER END AS {name}"
        for column, name in zip(FINDINGS, NAMES, strict=True)
    )
    text = (
        f"CREATE TABLE xray_labels AS\nSELECT study_id, subject_id, {columns} FROM cxr_label_rows\n"
        "WHERE study_id IN (SELECT cxr_study_id FROM pairs)\n"
        "QUALIFY count(*) OVER (PARTITION BY study_id) = 1;\n"
    )
    run_sql(database, text, "the labels")
    return text


def _write_xray_notes(database: duckdb.DuckDBPyConnection, reports: ReportFiles) -> None:
    """Make the table xray_notes of the chosen studies: from the report, or else from labels. No note is NULL."""
    labels = ", ".join(f"l.{name}" for name in NAMES)
    query = (
        f"SELECT p.study_id, p.subject_id, {labels} FROM (SELECT DISTINCT cxr_study_id AS study_id, subject_id FROM "
        "pairs) AS p LEFT JOIN xray_labels AS l ON l.study_id = p.study_id AND l.subject_id = p.subject_id "
        "ORDER BY p.subject_id, p.study_id"
    )

    def note(row: tuple[Any, ...]) -> tuple[Any, ...]:
        study, subject, *values = row
        if text := xray_note(reports.read(subject, study) or ""):
            return study, text, "report"
        text = note_of_labels(dict(zip(NAMES, values, strict=True)))
        return study, text or None, "labels" if text else None

    _fill(database, "xray_notes", XRAY_NOTES, query, note, "reports")


def _write_ecg_notes(database: duckdb.DuckDBPyConnection) -> None:
    """Make the table ecg_notes of the chosen ECGs. A report of another patient, or that stands twice, is not used."""
    lines = ", ".join(f"m.{name}" for name in REPORT_COLUMNS)
    query = (
        f"SELECT p.study_id, {lines} FROM (SELECT DISTINCT ecg_study_id AS study_id, subject_id FROM pairs) AS p LEFT "
        "JOIN (SELECT * FROM machine_measurements QUALIFY count(*) OVER (PARTITION BY study_id) = 1) AS m "
        "ON m.study_id = p.study_id AND m.subject_id = p.subject_id"
    )
    _fill(
        database,
        "ecg_notes",
        ECG_NOTES,
        query,
        lambda row: (row[0], clean_machine_report(row[1:]) or None),
        "ECG reports",
    )


def _fill(
    database: duckdb.DuckDBPyConnection,
    table: str,
    columns: str,
    query: str,
    change: Callable[[tuple[Any, ...]], tuple[Any, ...]],
    title: str,
) -> None:
    """Make a table from the rows of a query, changed one by one in Python, `CHUNK` rows at a time."""
    database.execute(f"CREATE TABLE {table} ({columns})")
    names = [column.split()[0] for column in columns.split(", ")]
    ((number,),) = database.execute(f"SELECT count(*) FROM ({query})").fetchall()
    with tqdm(total=number, desc=title, unit=" studies", disable=None) as bar:
        for rows in _chunks(database.cursor().execute(query)):
            _insert(database, table, names, [change(row) for row in rows])
            bar.update(len(rows))


def _chunks(result: duckdb.DuckDBPyConnection) -> Iterator[list[tuple[Any, ...]]]:
    """Fetch the rows of a query in parts."""
    while rows := result.fetchmany(CHUNK):
        yield rows


def _insert(
    database: duckdb.DuckDBPyConnection, table: str, names: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Append rows to a table."""
    database.register("rows_to_insert", pd.DataFrame(rows, columns=list(names), dtype=object))
    database.execute(f"INSERT INTO {table} SELECT * FROM rows_to_insert")
    database.unregister("rows_to_insert")


def _read_patients(path: Path | None) -> list[int]:
    """Read the list of patients who must not enter.

    Raises:
        TgmmError: If the file has no column patient_id, or one of its cells is no number.
    """
    if path is None:
        return []
    table = pd.read_csv(path, dtype="string")
    require_columns(path.name, list(table.columns), ["patient_id"], "List the subject_id of MIMIC under it.")
    numbers = pd.to_numeric(table.patient_id.dropna(), errors="coerce")
    if numbers.isna().any():
        raise TgmmError(
            path.name, f"{int(numbers.isna().sum())} cells of patient_id are no number. List the subject_id of MIMIC."
        )
    return sorted({int(number) for number in numbers})
