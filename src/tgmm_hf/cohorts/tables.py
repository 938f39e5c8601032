"""The tables that `curate` reads, and how a CSV becomes a DuckDB view with typed columns, by name.

Every column is read as text and cast where the SQL needs it, so that neither the order of columns nor a value that
does not fit its type stops a run: such a value becomes NULL.
"""

import csv
import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import duckdb


@dataclass(frozen=True)
class Table:
    """A table of one of the three sources.

    Attributes:
        name: what the SQL calls it.
        source: "mimic_iv", "mimic_ecg" or "mimic_echo".
        stems: file names without .csv or .csv.gz, the first that exists is taken.
        columns: required columns and their SQL types.
        optional: columns that may be absent (then NULL).
        required: False: without the file the table is empty.
        stored: True: copied into the database because several steps read it; False: read from the file once.
    """

    name: str
    source: str
    stems: tuple[str, ...]
    columns: Mapping[str, str]
    optional: Mapping[str, str] = field(default_factory=dict)
    required: bool = True
    stored: bool = True


TABLES = (
    Table(
        "patients",
        "mimic_iv",
        ("patients",),
        {"subject_id": "BIGINT", "gender": "VARCHAR", "anchor_age": "INTEGER", "anchor_year": "INTEGER", "dod": "DATE"},
        {"anchor_year_group": "VARCHAR"},
    ),
    Table(
        "admissions",
        "mimic_iv",
        ("admissions",),
        {"subject_id": "BIGINT", "hadm_id": "BIGINT", "admittime": "TIMESTAMP", "dischtime": "TIMESTAMP"},
        {
            "deathtime": "TIMESTAMP",
            "discharge_location": "VARCHAR",
            "race": "VARCHAR",
            "edregtime": "TIMESTAMP",
            "edouttime": "TIMESTAMP",
            "hospital_expire_flag": "INTEGER",
        },
    ),
    Table(
        "diagnoses_icd",
        "mimic_iv",
        ("diagnoses_icd",),
        {"hadm_id": "BIGINT", "icd_code": "VARCHAR", "icd_version": "INTEGER"},
        {"seq_num": "INTEGER"},
    ),
    Table(
        "labevents",
        "mimic_iv",
        ("labevents",),
        {
            "subject_id": "BIGINT",
            "itemid": "BIGINT",
            "charttime": "TIMESTAMP",
            "value": "VARCHAR",
            "valuenum": "DOUBLE",
            "valueuom": "VARCHAR",
        },
        {"labevent_id": "BIGINT", "storetime": "TIMESTAMP", "comments": "VARCHAR"},
        stored=False,
    ),
    Table(
        "d_labitems",
        "mimic_iv",
        ("d_labitems",),
        {"itemid": "BIGINT", "label": "VARCHAR", "fluid": "VARCHAR"},
        required=False,
    ),
    Table(
        "d_icd_diagnoses",
        "mimic_iv",
        ("d_icd_diagnoses",),
        {"icd_code": "VARCHAR", "icd_version": "INTEGER", "long_title": "VARCHAR"},
        required=False,
    ),
    Table(
        "prescriptions",
        "mimic_iv",
        ("prescriptions",),
        {"hadm_id": "BIGINT", "drug": "VARCHAR"},
        {"starttime": "TIMESTAMP", "pharmacy_id": "BIGINT", "drug_type": "VARCHAR"},
        required=False,
        stored=False,
    ),
    Table(
        "omr",
        "mimic_iv",
        ("omr",),
        {"subject_id": "BIGINT", "chartdate": "DATE", "result_name": "VARCHAR", "result_value": "VARCHAR"},
        {"seq_num": "INTEGER"},
        required=False,
        stored=False,
    ),
    Table(
        "ecg_records",
        "mimic_ecg",
        ("record_list", "record-list"),
        {"subject_id": "BIGINT", "study_id": "BIGINT", "ecg_time": "TIMESTAMP", "path": "VARCHAR"},
    ),
    Table(
        "echo_records",
        "mimic_echo",
        ("echo-record-list",),
        {"subject_id": "BIGINT", "study_id": "BIGINT", "dicom_filepath": "VARCHAR"},
        {"acquisition_datetime": "TIMESTAMP"},
    ),
    Table(
        "echo_study_list",
        "mimic_echo",
        ("echo-study-list",),
        {"subject_id": "BIGINT", "study_id": "BIGINT", "study_datetime": "TIMESTAMP"},
        {"measurement_id": "BIGINT"},
        required=False,
    ),
    Table(
        "structured_measurements",
        "mimic_echo",
        ("structured-measurement", "structured-measurements"),
        {"subject_id": "BIGINT", "measurement_id": "BIGINT", "measurement": "VARCHAR", "result": "VARCHAR"},
        {"measurement_datetime": "TIMESTAMP", "test_type": "VARCHAR"},
        required=False,
        stored=False,
    ),
)

SOURCES = {"mimic_iv": "--mimic-iv", "mimic_ecg": "--mimic-ecg", "mimic_echo": "--mimic-echo"}


def find_tables(directories: Mapping[str, Path | None]) -> dict[str, Path | None]:
    """Name of every table -> its file, None where an optional one is absent or its source was not given.

    Args:
        directories: source -> its directory; the MIMIC-IV tables may lie in it or in its `hosp`.

    Raises:
        FileNotFoundError: naming every required table that is missing.
    """
    found: dict[str, Path | None] = {}
    missing = []
    for table in TABLES:
        directory = directories[table.source]
        found[table.name] = None if directory is None else _find(directory, table)
        if directory is not None and found[table.name] is None and table.required:
            missing.append(f"{' or '.join(table.stems)}.csv[.gz] ({SOURCES[table.source]} {directory})")
    if missing:
        raise FileNotFoundError(f"Required table(s) missing: {'; '.join(missing)}. Download them, or check the path.")
    return found


def _find(directory: Path, table: Table) -> Path | None:
    places = (directory / "hosp", directory) if table.source == "mimic_iv" else (directory,)
    for place in places:
        for stem in table.stems:
            for suffix in (".csv.gz", ".csv"):
                if (place / f"{stem}{suffix}").is_file():
                    return place / f"{stem}{suffix}"
    return None


def load_tables(database: duckdb.DuckDBPyConnection, found: Mapping[str, Path | None]) -> str:
    """Make every table of `TABLES` in the database, empty where its file is absent; returns the SQL that was run."""
    script = []
    for table in TABLES:
        path = found[table.name]
        statement = _empty(table) if path is None else _select(table, path)
        kind = "TABLE" if table.stored or path is None else "VIEW"
        script.append(f"CREATE {kind} {table.name} AS\n{statement};\n")
        run_sql(database, script[-1], str(path))
    return "\n".join(script)


def run_sql(database: duckdb.DuckDBPyConnection, text: str, what: str) -> None:
    """Run SQL; an error says what was run and DuckDB's first line, since the lines after it quote a patient's row."""
    try:
        database.execute(text)
    except duckdb.Error as error:
        raise RuntimeError(f"{what} failed: {str(error).splitlines()[0]}") from None


def header_of(path: Path) -> list[str]:
    """Column names of a CSV or CSV.gz."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
        return next(csv.reader(file), [])


def file_digest(path: Path) -> str:
    """sha256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _select(table: Table, path: Path) -> str:
    """A query that reads the file with columns by name; absent optional ones are NULL."""
    header = header_of(path)
    if missing := [name for name in table.columns if name not in header]:
        raise ValueError(
            f"{path.name}: missing column(s) {', '.join(missing)}; found {', '.join(header)}. "
            "Is it the file that PhysioNet ships?"
        )
    items = []
    for name, kind in {**table.columns, **table.optional}.items():
        items.append(f"TRY_CAST({name} AS {kind}) AS {name}" if name in header else f"NULL::{kind} AS {name}")
    columns = ", ".join(f"{_quoted(name)}: 'VARCHAR'" for name in header)
    return (
        f"SELECT {', '.join(items)}\nFROM read_csv({_quoted(str(path))}, header=true, auto_detect=false, delim=',', "
        f"quote='\"', escape='\"', nullstr='', columns={{{columns}}})"
    )


def _empty(table: Table) -> str:
    items = [f"NULL::{kind} AS {name}" for name, kind in {**table.columns, **table.optional}.items()]
    return f"SELECT {', '.join(items)}\nWHERE FALSE"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
