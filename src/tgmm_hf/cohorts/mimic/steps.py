"""The DuckDB database of a MIMIC cohort: tables, rules and code lists go in, then the SQL steps run.

The steps are the files of `sql/`, in the order of their names.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from tgmm_hf.cohorts.flow import FlowEntry, check_flow
from tgmm_hf.cohorts.mimic.exclusions import count_flow
from tgmm_hf.cohorts.mimic.file_checks import check_stays, no_anomalies
from tgmm_hf.cohorts.mimic.frame import cohort_frame
from tgmm_hf.cohorts.mimic.rules import CurateRules, read_hf_codes, read_lab_items
from tgmm_hf.cohorts.mimic.tables import OPTIONS, TABLES
from tgmm_hf.cohorts.tables import find_tables, load_tables, require_columns, run_sql, sql_text
from tgmm_hf.inputs.lab_columns import unit_factor
from tgmm_hf.inputs.lab_table import COLUMNS, LabColumn
from tgmm_hf.utils.errors import TgmmError

SQL = sorted(path.name for path in files("tgmm_hf.cohorts.mimic").joinpath("sql").iterdir())
OMR_COLUMNS = ("height", "weight", "BMI")
"""Columns that come from the outpatient table omr, not from a laboratory list."""


@dataclass(frozen=True)
class CohortInputs:
    """What a cohort is built from.

    Attributes:
        sources: "mimic_iv", "mimic_ecg", "mimic_echo" -> directory, None if it was not given.
        rules: Rules of the cohort.
        views: CSV file with the views of clips.
        base: Directory that the paths of the cohort table start from.
        check_workers: Worker processes of the file checks. None means that files are not checked.
    """

    sources: Mapping[str, Path | None]
    rules: CurateRules
    views: str | Path | None
    base: Path
    check_workers: int | None

    def tables(self) -> dict[str, Path | None]:
        """Find the file of every table: name of the table -> file, None if it is optional and missing."""
        return find_tables(TABLES, self.sources, OPTIONS)


@dataclass(frozen=True)
class BuiltCohort:
    """The result of the SQL steps.

    Attributes:
        cohort: One row per included stay, still without its split.
        excluded: One row per excluded stay: patient_id, age, gender, ethnicity, prevalent (1 = heart failure at the
            stay or earlier).
        flow: The flow of exclusions.
        anomalies: Table of `check_stays`.
        lab_counts: For each laboratory column, how many results were used, and how many not, by reason.
        list_differences: Differences between the laboratory list and the table d_labitems of MIMIC.
        script: The SQL texts that were run, in order.
    """

    cohort: pd.DataFrame
    excluded: pd.DataFrame
    flow: list[FlowEntry]
    anomalies: pd.DataFrame
    lab_counts: list[dict[str, Any]]
    list_differences: dict[str, list[int]]
    script: list[str]


def open_database(scratch: Path, memory: str, threads: int | None) -> duckdb.DuckDBPyConnection:
    """Open an empty database on disk.

    Args:
        scratch: Directory of the database file and of data that do not fit into memory.
        memory: Limit of the database's buffers, for example "2GB".
        threads: Number of threads. None means one per core.
    """
    settings: dict[str, Any] = {
        "temp_directory": str(scratch),
        "memory_limit": memory,
        "preserve_insertion_order": False,
    }
    if threads is not None:
        settings["threads"] = threads
    return duckdb.connect(str(scratch / "curate.duckdb"), config=settings)


def build_cohort(
    database: duckdb.DuckDBPyConnection, tables: Mapping[str, Path | None], inputs: CohortInputs
) -> BuiltCohort:
    """Load the tables and run all steps.

    Args:
        database: An empty database.
        tables: Name of every table -> its file, from `inputs.tables()`.
        inputs: Sources and rules.

    Raises:
        TgmmError: If a table, a code list or a unit cannot be used.
    """
    script = [load_tables(database, TABLES, tables), _set_rules(database, inputs), _load_lists(database, inputs)]
    anomalies = no_anomalies()
    for name in SQL:
        if name == "05_lab_cells.sql":
            script.append(_load_units(database))
        if name == "10_decisions.sql":
            if inputs.check_workers is not None:
                anomalies = check_stays(database, inputs.rules, inputs.sources, inputs.check_workers)
            _register(database, "anomalous_stays", anomalies[anomalies.stay].rename(columns={"id": "hadm_id"}))
            clips = anomalies[~anomalies.stay].rename(columns={"item": "dicom_filepath"})
            _register(database, "anomalous_clips", clips)
        script.append(_run_step(database, name))
    flow = count_flow(database, inputs.rules, inputs.sources, inputs.check_workers is not None)
    check_flow(flow)
    excluded = database.execute(
        "SELECT s.subject_id::VARCHAR AS patient_id, s.age, s.gender, s.race AS ethnicity, h.prevalent::INTEGER AS "
        "prevalent FROM decisions AS d JOIN stays AS s USING (hadm_id) JOIN hf_status AS h USING (hadm_id) "
        "WHERE d.step <> 'included'"
    ).df()
    return BuiltCohort(
        cohort=cohort_frame(database, inputs.sources, inputs.base, inputs.rules.lvef_value),
        excluded=excluded,
        flow=flow,
        anomalies=anomalies,
        lab_counts=database.execute("SELECT * FROM lab_counts").df().to_dict("records"),
        list_differences=_list_differences(database),
        script=script,
    )


def _run_step(database: duckdb.DuckDBPyConnection, name: str) -> str:
    text = files("tgmm_hf.cohorts.mimic").joinpath("sql", name).read_text(encoding="utf-8")
    run_sql(database, text, f"step {name}")
    return f"-- ==== {name}\n{text}"


def _set_rules(database: duckdb.DuckDBPyConnection, inputs: CohortInputs) -> str:
    """Set the rules as SQL variables of the same names, and need_ecg and need_echo. Return the SQL that was run."""
    values = asdict(inputs.rules)
    values |= {f"need_{name}": inputs.sources[f"mimic_{name}"] is not None for name in ("ecg", "echo")}
    lines = []
    for name, value in values.items():
        literal = "NULL::DOUBLE" if value is None else sql_text(value) if isinstance(value, str) else str(value)
        lines.append(f"SET VARIABLE {name} = {literal};")
        database.execute(lines[-1])
    return "\n".join(lines) + "\n"


def _load_lists(database: duckdb.DuckDBPyConnection, inputs: CohortInputs) -> str:
    """Make the tables hf_codes, answer_codes, lab_items, lab_columns (plausible limits) and echo_views.

    answer_codes holds the codes of all heart-failure sets, because none of them may stand in a medical history.

    Returns:
        SQL comments that name the lists.
    """
    codes = read_hf_codes(inputs.rules.hf_codes)
    answers = [*codes, *read_hf_codes("strict"), *read_hf_codes("broad")]
    items = read_lab_items(inputs.rules.lab_items)
    columns = _lab_columns([item["lab_column"] for item in items])
    limits = [
        {
            "lab_column": column.name,
            "lowest": column.plausible[0],
            "highest": column.plausible[1],
            "may_be_negative": column.plausible[0] < 0,
        }
        for column in columns
        if column.plausible is not None
    ]
    _register(database, "hf_codes", pd.DataFrame(codes).drop_duplicates())
    _register(database, "answer_codes", pd.DataFrame(answers).drop_duplicates())
    _register(database, "lab_items", pd.DataFrame(items).drop_duplicates())
    _register(database, "lab_columns", pd.DataFrame(limits))
    _register(database, "echo_views", _read_views(inputs.views))
    return (
        f"-- hf_codes ({inputs.rules.hf_codes}): {', '.join(row['icd_code'] for row in codes)}\n"
        f"-- lab_items: {len(items)} of {len(columns) - len(OMR_COLUMNS)} columns\n"
    )


def _lab_columns(names: list[str]) -> list[LabColumn]:
    """Look up the numeric laboratory columns `names`, and the columns of omr, in the order of the lab text.

    Raises:
        TgmmError: If a name is no numeric column.
    """
    columns = {column.name: column for column in COLUMNS if column.is_number}
    if unknown := sorted(set(names) - set(columns)):
        raise TgmmError(
            f"lab_column {', '.join(unknown)}",
            "is no numeric column of docs/your_data.md. Correct the rule lab_items.",
        )
    return [column for name, column in columns.items() if name in {*names, *OMR_COLUMNS}]


def _load_units(database: duckdb.DuckDBPyConnection) -> str:
    """Make the table lab_units: lab_column, unit, and the factor to the canonical unit, NULL if the unit is unknown.

    Returns:
        The table as SQL comments.
    """
    pairs = database.execute("SELECT DISTINCT lab_column, unit FROM lab_rows ORDER BY ALL").fetchall()
    columns = {column.name: column for column in COLUMNS}
    rows = [{"lab_column": name, "unit": unit, "factor": unit_factor(columns[name], unit)} for name, unit in pairs]
    frame = pd.DataFrame(rows, columns=["lab_column", "unit", "factor"]).astype(
        {"lab_column": "string", "unit": "string", "factor": "Float64"}
    )
    _register(database, "lab_units", frame)
    return "".join(f"-- unit of {row['lab_column']}: {row['unit'] or '(none)'} x {row['factor']}\n" for row in rows)


def _read_views(path: str | Path | None) -> pd.DataFrame:
    """Read the views of clips: dicom_filepath and view, one row per clip. None gives an empty table."""
    columns = ["dicom_filepath", "view"]
    if path is None:
        return pd.DataFrame({name: [] for name in columns}, dtype="string")
    views = pd.read_csv(path, dtype="string")
    require_columns(str(path), list(views.columns), columns)
    views = views[columns].dropna().drop_duplicates()
    if number := int(views.duplicated("dicom_filepath").sum()):
        raise TgmmError(str(path), f"{number} clip(s) have two different views. Keep one row of each clip.")
    return views


def _register(database: duckdb.DuckDBPyConnection, name: str, frame: pd.DataFrame) -> None:
    database.register("frame_to_copy", frame)
    database.execute(f"CREATE TABLE {name} AS SELECT * FROM frame_to_copy")
    database.unregister("frame_to_copy")


def _list_differences(database: duckdb.DuckDBPyConnection) -> dict[str, list[int]]:
    """Compare the laboratory list with d_labitems.

    Returns:
        "lab_items_not_blood": itemids of the list that d_labitems does not call blood.
        "lab_items_not_listed": itemids of blood items that have the name of a listed column but are not in the list.
    """
    not_blood = database.execute(
        "SELECT itemid FROM lab_items JOIN d_labitems USING (itemid) WHERE fluid <> 'Blood' ORDER BY itemid"
    ).fetchall()
    not_listed = database.execute(
        "SELECT itemid FROM d_labitems WHERE fluid = 'Blood' AND label IN (SELECT lab_column FROM lab_items) "
        "AND itemid NOT IN (SELECT itemid FROM lab_items) ORDER BY itemid"
    ).fetchall()
    return {
        "lab_items_not_blood": [item for (item,) in not_blood],
        "lab_items_not_listed": [item for (item,) in not_listed],
    }
