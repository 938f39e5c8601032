"""MIMIC-IV-ECG, or a synthetic cohort in its layout -> one entry per ECG with the machine's report.

record_list.csv and machine_measurements.csv are joined by study_id. (The published code sorts both tables and pairs
them by the number of the row, so that one missing row shifts all reports after it.) What a report says is what the ECG
machine wrote. The cardiologists' notes are not public.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.parquet as pq

from tgmm_hf.cohorts.instruction_sources import Source, SourceEntry, has_recording
from tgmm_hf.cohorts.instruction_texts import MIMIC, REPORT_COLUMNS, SYNTHETIC, clean_machine_report
from tgmm_hf.cohorts.mimic.steps import open_database
from tgmm_hf.cohorts.splits import split_five_one_one
from tgmm_hf.cohorts.synthetic.ecg_truth import STATEMENT_CODES
from tgmm_hf.cohorts.tables import Table, find_tables, load_tables, require_columns
from tgmm_hf.data.instructions import Statement
from tgmm_hf.utils.errors import TgmmError

TABLES = (
    Table(
        "ecg_records",
        "mimic_ecg",
        ("record_list", "record-list"),
        {"subject_id": "BIGINT", "study_id": "BIGINT", "path": "VARCHAR"},
    ),
    Table(
        "machine_measurements",
        "mimic_ecg",
        ("machine_measurements",),
        {"subject_id": "BIGINT", "study_id": "BIGINT", "report_0": "VARCHAR"},
        dict.fromkeys(REPORT_COLUMNS[1:], "VARCHAR"),
    ),
)
JOIN = f"""
SELECT r.study_id, r.subject_id, r.path, r.number, m.number, m.subject_id, {", ".join(f"m.{c}" for c in REPORT_COLUMNS)}
FROM (SELECT *, count(*) OVER (PARTITION BY study_id) AS number FROM ecg_records) AS r
LEFT JOIN (
    SELECT *, count(*) OVER (PARTITION BY study_id) AS number FROM machine_measurements
    QUALIFY row_number() OVER (PARTITION BY study_id) = 1
) AS m ON m.study_id = r.study_id
ORDER BY r.study_id, r.path
"""
"""One row per row of record_list. The two columns `number` count how often the study_id stands in each table."""
ROWS = 5000
"""Rows that are held in memory at a time."""
MEMORY = "2GB"


@contextmanager
def mimic_source(directory: Path, seed: int | None) -> Iterator[Source]:
    """Open MIMIC-IV-ECG as PhysioNet ships it. The source can be read while the block runs.

    Args:
        directory: Directory with record_list.csv, machine_measurements.csv and files/.
        seed: Source of the split 5:1:1 by patient. None puts every patient into the test split.

    Raises:
        FileNotFoundError: If a table is missing.
        TgmmError: If a table cannot be used.
    """
    with _open_tables(directory) as (database, tables):
        sql = "SELECT DISTINCT subject_id FROM ecg_records WHERE subject_id IS NOT NULL"
        patients = [str(subject) for (subject,) in database.execute(sql).fetchall()]
        splits = dict.fromkeys(patients, "test") if seed is None else split_five_one_one(patients, seed)
        entries = _entries(database, directory, splits, {})
        yield Source(MIMIC, "recordings of record_list", entries, tables, _notes(database))


@contextmanager
def synthetic_source(directory: Path) -> Iterator[Source]:
    """Open a cohort of `tgmm synth`: the tables of MIMIC-IV-ECG, the truth of each ECG, and the cohort's own split.

    Args:
        directory: Directory of the cohort.

    Raises:
        FileNotFoundError: If a table is missing.
        TgmmError: If a table cannot be used.
    """
    truth_path, cohort_path = directory / "ecg" / "ecg_statements.csv", directory / "cohort.parquet"
    for path in (truth_path, cohort_path):
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} does not exist. Run the same `tgmm synth` again: it writes the tables and keeps the ECGs."
            )
    rows = pq.read_table(cohort_path, columns=["patient_id", "split"]).to_pylist()
    splits = {str(row["patient_id"]): row["split"] for row in rows}
    with _open_tables(directory / "ecg") as (database, tables):
        entries = _entries(database, directory / "ecg", splits, _read_truth(truth_path))
        yield Source(SYNTHETIC, "recordings of the synthetic cohort", entries, [*tables, truth_path, cohort_path])


@contextmanager
def _open_tables(directory: Path) -> Iterator[tuple[duckdb.DuckDBPyConnection, list[Path]]]:
    """Load the two tables into a database on disk, which is deleted after the block."""
    paths = find_tables(TABLES, {"mimic_ecg": directory}, {"mimic_ecg": "SOURCE"})
    with tempfile.TemporaryDirectory(prefix="tgmm-instructions-") as scratch:
        database = open_database(Path(scratch), MEMORY, None)
        try:
            load_tables(database, TABLES, paths)
            yield database, [path for path in paths.values() if path is not None]
        finally:
            database.close()


def _notes(database: duckdb.DuckDBPyConnection) -> list[str]:
    """Count the rows of machine_measurements that belong to no recording."""
    (number,) = database.execute(
        "SELECT count(*) FROM machine_measurements AS m ANTI JOIN ecg_records AS r ON r.study_id = m.study_id"
    ).fetchone() or (0,)
    return [f"{number:,} rows of machine_measurements have no recording in record_list."] if number else []


def _read_truth(path: Path) -> dict[str, tuple[Statement, ...]]:
    """Read ecg_statements.csv: study_id -> statements, present and absent. An ECG without truth has no entry."""
    table = pd.read_csv(path)
    require_columns(path.name, list(table.columns), ("study_id", *STATEMENT_CODES))
    table = table.dropna(subset=list(STATEMENT_CODES))
    values = table[list(STATEMENT_CODES)]
    if not values.isin((0, 1)).all(axis=None):
        raise TgmmError(path.name, "a statement is neither 0 nor 1: `tgmm synth` did not write it.")
    return {
        str(study): tuple(
            Statement(code, "present" if value else "absent") for code, value in zip(STATEMENT_CODES, row, strict=True)
        )
        for study, row in zip(table.study_id, values.to_numpy(), strict=True)
    }


def _entries(
    database: duckdb.DuckDBPyConnection,
    directory: Path,
    splits: Mapping[str, str],
    truth: Mapping[str, tuple[Statement, ...]],
) -> Iterator[SourceEntry]:
    """Make the entries, in the order of study_id.

    Args:
        database: Database with the two tables.
        directory: Directory that the paths of record_list start from.
        splits: Patient -> split.
        truth: Study -> statements.
    """
    rows = database.execute(JOIN)
    while chunk := rows.fetchmany(ROWS):
        for study, subject, path, in_records, in_reports, other, *lines in chunk:
            report = clean_machine_report(lines)
            ecg = directory / (path or "")
            left_out = _reason(study, subject, (in_records, in_reports), other, report)
            if left_out is None and not (path and has_recording(ecg)):
                left_out = "no_ecg"
            yield SourceEntry(
                str(study),
                str(subject),
                splits.get(str(subject), ""),
                ecg,
                report,
                truth.get(str(study)),
                "en",
                left_out,
            )


def _reason(study: Any, subject: Any, numbers: tuple[int, int | None], other_subject: Any, report: str) -> str | None:
    """Return the key of `REASONS` why a row cannot be used, None if it can.

    Args:
        study: study_id.
        subject: subject_id of record_list.
        numbers: How often the study_id stands in record_list, and in machine_measurements (None for never).
        other_subject: subject_id of machine_measurements.
        report: Cleaned report.
    """
    in_records, in_reports = numbers
    checks = (
        ("no_id", study is None or subject is None),
        ("repeated", in_records > 1),
        ("no_measurement", in_reports is None),
        ("repeated_report", (in_reports or 0) > 1),
        ("other_patient", subject != other_subject),
        ("no_report", not report),
    )
    return next((name for name, applies in checks if applies), None)
