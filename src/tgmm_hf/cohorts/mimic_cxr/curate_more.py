"""`tgmm curate-more`: MIMIC-CXR-JPG with reports x MIMIC-IV-ECG -> the table that MoRE is trained on.

OUT/notes.csv or notes.parquet   one row for each pair of X-ray and ECG (docs/more.md)
OUT/splits.csv                   the split of each patient
OUT/flow.json, flow.svg, table1.csv
OUT/curate.sql                   the SQL that was run
OUT/curate.json                  rules, input files with sha256, counts, versions; written last
"""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb

from tgmm_hf.cohorts.flow import UNIT_TITLES, counted_unit, draw_flow
from tgmm_hf.cohorts.mimic.steps import open_database
from tgmm_hf.cohorts.mimic_cxr.report_files import ReportFiles
from tgmm_hf.cohorts.mimic_cxr.steps import NAMES, MoreRules, build_pairs, count_flow
from tgmm_hf.cohorts.mimic_cxr.table1 import table_one
from tgmm_hf.cohorts.mimic_cxr.tables import OPTIONS, more_tables
from tgmm_hf.cohorts.tables import find_tables, run_sql, sql_text
from tgmm_hf.data.label_columns import PREFIX
from tgmm_hf.data.table_files import MAX_ROWS
from tgmm_hf.utils.digests import file_digest
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import read_json, whole_file, write_json, write_text
from tgmm_hf.utils.output_lock import one_run_at_a_time
from tgmm_hf.utils.versions import package_versions

FORMULA = "'^[=+@\\t\\r-]'"
"""SQL pattern of a text that a spreadsheet takes for a formula, see `utils/csv_files.py`."""


@dataclass(frozen=True)
class MoreSources:
    """Where the data lie.

    Attributes:
        mimic_cxr: Directory of MIMIC-CXR-JPG: the tables, and files/p10/....
        mimic_ecg: Directory of MIMIC-IV-ECG.
        reports: Directory or ZIP file of MIMIC-CXR's reports. None takes `mimic_cxr`.
        mimic_iv: Directory of MIMIC-IV, for age and gender in table 1. None leaves them empty.
        exclude_patients: CSV file with the column patient_id of patients who must not enter.
    """

    mimic_cxr: Path
    mimic_ecg: Path
    reports: Path | None = None
    mimic_iv: Path | None = None
    exclude_patients: Path | None = None


@one_run_at_a_time("out")
def curate_more(
    sources: MoreSources,
    out: str | Path,
    rules: MoreRules | None = None,
    *,
    parquet: bool = False,
    memory: str = "2GB",
    threads: int | None = None,
) -> dict[str, Any]:
    """Write the table of X-rays, ECGs and notes, and what is counted of it.

    Args:
        sources: Where the data lie.
        out: Directory of the result.
        rules: Which X-rays, ECGs and labels enter. None means the defaults.
        parquet: Write notes.parquet in place of notes.csv.
        memory: Limit of DuckDB's buffers, for example "2GB". The rest goes to disk, below `out`.
        threads: Threads of DuckDB. None means one per core.

    Returns:
        The content of curate.json.

    Raises:
        FileNotFoundError: If a required table, or the directory of the reports, is missing.
        TgmmError: If a table cannot be used, or no pair is left.
        FileExistsError: If `out` holds a table that this function did not write.
    """
    rules, out = rules or MoreRules(), Path(out)
    names = ("notes.parquet", "notes.csv") if parquet else ("notes.csv", "notes.parquet")
    _refuse_foreign(out, names)
    directories = {name: getattr(sources, name) for name in OPTIONS}
    paths = find_tables(more_tables(rules.labels), directories, OPTIONS)
    with ReportFiles(sources.reports or sources.mimic_cxr) as reports:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".curate-", dir=out) as scratch:
            database = open_database(Path(scratch), memory, threads)
            try:
                script = build_pairs(database, paths, rules, reports, sources.exclude_patients)
                (out / "curate.json").unlink(missing_ok=True)  # an earlier one would not fit the new files
                flow = count_flow(database, rules, sources.exclude_patients is not None)
                write_json(out / "flow.json", flow)
                if not flow[-4]["xrays"]:
                    raise TgmmError("the pairs", f"none is left; {out / 'flow.json'} tells which step excluded them.")
                script.append(_write_table(database, out / names[0], sources, rules))
                counts = _counts(database)
                tables = {
                    "table1.csv": table_one(database),
                    "splits.csv": database.execute(
                        "SELECT DISTINCT subject_id::VARCHAR AS patient_id, split FROM pairs ORDER BY ALL"
                    ).df(),
                }
            finally:
                database.close()
    (out / names[1]).unlink(missing_ok=True)  # of an earlier run with the other format
    for name, table in tables.items():
        write_text(out / name, table.to_csv(index=False, lineterminator="\n"))
    write_text(out / "curate.sql", "\n".join(script))
    with whole_file(out / "flow.svg") as building:
        draw_flow(flow, building)
    summary = {
        "command": "curate-more",
        "table": names[0],
        "data_hash": f"sha256:{file_digest(out / names[0])}",
        "rules": asdict(rules),
        "counts": counts,
        "doubts": _doubts(counts, out / names[0]),
        "inputs": {
            name: {"file": path.name, "bytes": path.stat().st_size, "sha256": file_digest(path)}
            for name, path in paths.items()
            if path is not None
        },
        "absent_tables": [name for name, path in paths.items() if path is None],
        "versions": package_versions("duckdb"),
    }
    write_json(out / "curate.json", summary)
    return summary


def summary_text(out: Path, summary: Mapping[str, Any]) -> str:
    """Write the flow and the counts as text for the terminal.

    Args:
        out: Directory that `curate_more` wrote.
        summary: The content of curate.json.
    """
    lines = []
    for entry in read_json(out / "flow.json"):
        sign, unit = "-" if entry["kind"] == "excluded" else "=", counted_unit(entry)
        lines.append(
            f"{sign} {entry[unit]:>9,} {UNIT_TITLES[unit]:<6} {entry['patients']:>9,} patients  {entry['reason']}"
        )
    for name, numbers in summary["counts"].items():
        if isinstance(numbers, dict) and name != "splits":
            lines.append(
                f"{name.replace('_', ' ')}: " + ", ".join(f"{key} {value:,}" for key, value in numbers.items())
            )
    return "\n".join([*lines, *(f"note: {doubt}" for doubt in summary["doubts"])])


def _refuse_foreign(out: Path, names: tuple[str, ...]) -> None:
    """Raise a FileExistsError if the directory holds a table, or the files of `tgmm curate`, of another origin."""
    record = read_json(out / "curate.json") if (out / "curate.json").is_file() else None
    if record is not None and "table" not in record:
        raise FileExistsError(f"{out} holds a cohort of `tgmm curate`: choose another --out.")
    existing = [name for name in names if (out / name).exists()]
    if existing and not (out / "curate.sql").exists():
        raise FileExistsError(
            f"{out} holds {' and '.join(existing)}, which `tgmm curate-more` did not write: choose another --out."
        )


def _write_table(database: duckdb.DuckDBPyConnection, path: Path, sources: MoreSources, rules: MoreRules) -> str:
    """Write the table of pairs, without a passage through Python. Return the SQL."""
    base = path.parent.absolute()
    prefix = {
        name: Path(os.path.relpath(Path(getattr(sources, name)).absolute(), base)).as_posix()
        for name in OPTIONS
        if name != "mimic_iv"
    }
    is_csv = path.suffix == ".csv"
    labels = ", ".join(
        f"{f'l.{name}' if rules.uncertain == 'keep' else f'nullif(l.{name}, -1)'} AS {PREFIX}{name}" for name in NAMES
    )
    patient = "p.subject_id::VARCHAR"
    folder = f"'/files/p' || left({patient}, 2) || '/p' || {patient} || '/s' || p.cxr_study_id"
    image = f"{folder} || '/' || p.dicom_id || '.jpg'"
    select = f"""SELECT {_text("p.dicom_id || '-' || p.ecg_study_id", is_csv)} AS id, {patient} AS patient_id, p.split,
    {_text(f"{sql_text(prefix['mimic_cxr'])} || {image}", is_csv)} AS xray,
    {_text(f"{sql_text(prefix['mimic_ecg'])} || '/' || p.path", is_csv)} AS ecg,
    {_text("n.note", is_csv)} AS xray_report, {_text("e.note", is_csv)} AS ecg_report,
    {labels},
    p.view, p.days_apart, n.source AS xray_note_source, p.cxr_study_id AS xray_study, p.ecg_study_id AS ecg_study
FROM pairs AS p
LEFT JOIN xray_notes AS n ON n.study_id = p.cxr_study_id
LEFT JOIN ecg_notes AS e ON e.study_id = p.ecg_study_id
LEFT JOIN xray_labels AS l ON l.study_id = p.cxr_study_id AND l.subject_id = p.subject_id
ORDER BY p.subject_id, p.cxr_study_id, p.dicom_id, p.ecg_study_id"""
    options = "FORMAT csv, HEADER true" if is_csv else "FORMAT parquet"
    with whole_file(path) as building:
        run_sql(database, f"COPY (\n{select}\n) TO {sql_text(str(building))} ({options})", path.name)
    return f"COPY (\n{select}\n) TO {sql_text(path.name)} ({options});\n"


def _text(expression: str, is_csv: bool) -> str:
    """Write an SQL expression of a text whose cell runs no formula in a spreadsheet."""
    if not is_csv:
        return expression
    return f"CASE WHEN regexp_matches({expression}, {FORMULA}) THEN '''' || {expression} ELSE {expression} END"


def _counts(database: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Count pairs, X-rays, ECGs, patients and notes."""

    def number(query: str) -> int:
        return int(database.execute(query).fetchall()[0][0])

    def numbers(query: str) -> dict[str, int]:
        return {str(name): int(value) for name, value in database.execute(query).fetchall()}

    return {
        "pairs": number("SELECT count(*) FROM pairs"),
        "xrays": number("SELECT count(DISTINCT dicom_id) FROM pairs"),
        "ecgs": number("SELECT count(DISTINCT ecg_study_id) FROM pairs"),
        "patients": number("SELECT count(DISTINCT subject_id) FROM pairs"),
        "splits": numbers("SELECT split, count(*) FROM pairs GROUP BY split ORDER BY split"),
        "views": numbers(
            "SELECT coalesce(view, 'not stated'), count(*) FROM xray_rows GROUP BY ALL ORDER BY 2 DESC, 1"
        ),
        "X-ray_notes_from": numbers(
            "SELECT coalesce(source, 'none'), count(*) FROM xray_notes GROUP BY ALL ORDER BY 1"
        ),
        "ECG_notes": {
            "with text": number("SELECT count(note) FROM ecg_notes"),
            "without": number("SELECT count(*) - count(note) FROM ecg_notes"),
        },
        "ECGs_of_record_list": {
            "usable": number("SELECT count(*) FROM ecgs"),
            "without patient, time or path, or listed twice": number(
                "SELECT (SELECT count(*) FROM ecg_records) - (SELECT count(*) FROM ecgs)"
            ),
        },
    }


def _doubts(counts: Mapping[str, Any], table: Path) -> list[str]:
    """Say what the user should know before training."""
    doubts = []
    if not counts["X-ray_notes_from"].get("report"):
        doubts.append("no report was read. Name the directory or the ZIP of MIMIC-CXR's reports with --reports.")
    if not counts["ECG_notes"]["with text"]:
        doubts.append("no ECG has a report. Is machine_measurements.csv beside record_list.csv?")
    if missing := [split for split in ("train", "validation") if split not in counts["splits"]]:
        doubts.append(f"the split(s) {', '.join(missing)} are empty, and `tgmm train` needs them.")
    if counts["pairs"] > MAX_ROWS:
        doubts.append(
            f"{table.name} has {counts['pairs']:,} rows, and a table of more than {MAX_ROWS:,} rows is not read. Take "
            "--pairs nearest, or fewer --days."
        )
    return doubts
