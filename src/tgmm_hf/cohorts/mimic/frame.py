"""The cohort table of MIMIC: from the database to a data frame, and on to Parquet."""

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tgmm_hf.cohorts.tables import sql_text
from tgmm_hf.data.table_files import declare_canonical_units
from tgmm_hf.inputs.lab_table import COLUMNS
from tgmm_hf.utils.files import whole_file

TASK, RISK_TASK, LVEF_TASK = "hf_diagnosis", "hf_risk", "lvef"
LVEF_SETTINGS: dict[str, Any] = {
    "kind": "regression",
    "question": "How high is the left ventricular ejection fraction of this patient?",
    "unit": "%",
    "range": [5, 90],
}
"""Meaning of `value.lvef`. The range is that of the numbers which `sql/08_lvef.sql` takes."""


def cohort_frame(
    database: duckdb.DuckDBPyConnection, sources: Mapping[str, Path | None], base: Path, lvef_value: bool = False
) -> pd.DataFrame:
    """Make the cohort table, still without the column `split`.

    Args:
        database: The database after the last SQL step.
        sources: Name of each source -> its directory, None if it was not given.
        base: Directory that the paths in the table start from.
        lvef_value: Write the ejection fraction as the value of a regression named `LVEF_TASK` too.

    Returns:
        One row per stay. The laboratory columns have the order of the lab text.
    """
    cohort = database.execute("SELECT * FROM cohort ORDER BY patient_id::BIGINT, index_time, hadm_id").df()
    listed = {name for (name,) in database.execute("SELECT DISTINCT lab_column FROM lab_items").fetchall()}
    texts = {
        name
        for (name,) in database.execute(
            "SELECT DISTINCT lab_column FROM lab_cells WHERE comparator IS NOT NULL"
        ).fetchall()
    }
    cells = _wide(database, "lab_cells", [column.name for column in COLUMNS if column.name in listed], texts)
    body = _wide(database, "body_cells", ["height", "weight", "BMI"], set())
    cohort = cohort.merge(body, on="hadm_id", how="left").merge(cells, on="hadm_id", how="left")
    sql_names = {"medical history": "medical_history", "drug history": "drug_history"}
    labs = {
        f"labs.{column.name}": cohort[sql_names.get(column.name, column.name)]
        for column in COLUMNS
        if sql_names.get(column.name, column.name) in cohort.columns
    }
    ecg, echo = _prefix(sources["mimic_ecg"], base), _prefix(sources["mimic_echo"], base)
    return pd.DataFrame(
        {
            "id": cohort.id,
            "patient_id": cohort.patient_id,
            **labs,
            "ecg_path": [str(ecg / path) if isinstance(path, str) else None for path in cohort.ecg_path],
            "echo_paths": [[str(echo / path) for path in _list(paths)] for paths in cohort.echo_paths],
            "echo_views": [_list(views) for views in cohort.echo_views],
            f"label.{TASK}": cohort.hf_diagnosis.astype("Int64"),
            f"time.{RISK_TASK}": cohort.hf_risk_time,
            f"event.{RISK_TASK}": cohort.hf_risk_event.astype("Int64"),
            **({f"value.{LVEF_TASK}": cohort.lvef} if lvef_value else {}),
            **{
                name: cohort[name]
                for name in ("index_time", "ecg_time", "echo_time", "later_contact", "lvef", "anchor_year_group")
            },
        }
    )


def _wide(database: duckdb.DuckDBPyConnection, table: str, names: list[str], texts: set[str]) -> pd.DataFrame:
    """Turn a table with one row per cell into one row per stay and one column per laboratory column.

    Args:
        database: The database.
        table: Table with hadm_id, lab_column and values.
        names: Laboratory columns to make.
        texts: Columns with a result such as "<0.01". All their values are text.
    """
    columns = []
    for name in names:
        value = "coalesce(comparator, canonical::VARCHAR)" if name in texts else "canonical"
        columns.append(f'max({value}) FILTER (WHERE lab_column = {sql_text(name)}) AS "{name}"')
    return database.execute(
        f"SELECT hadm_id, {', '.join(columns)} FROM {table} SEMI JOIN cohort USING (hadm_id) GROUP BY hadm_id"
    ).df()


def _prefix(source: Path | None, base: Path) -> PurePosixPath:
    """Write the directory of a source relative to `base`; "." if the source was not given.

    Both are resolved first, because `..` in a path follows links.
    """
    if source is None:
        return PurePosixPath()
    return PurePosixPath(Path(os.path.relpath(source.resolve(), base.resolve())).as_posix())


def _list(values: Any) -> list[Any]:
    """Convert a list cell of DuckDB to a Python list; [] for the missing value of a stay without an echo."""
    return [None if pd.isna(value) else value for value in values] if hasattr(values, "__len__") else []


def write_cohort_table(cohort: pd.DataFrame, path: Path) -> None:
    """Write the cohort table to the Parquet file `path`, whole or not at all. echo_paths and echo_views are lists."""
    lists = pa.list_(pa.string())
    table = pa.Table.from_pandas(cohort.drop(columns=["echo_paths", "echo_views"]), preserve_index=False)
    for index, field in enumerate(table.schema):
        if pa.types.is_null(field.type):  # a text column without any value gets the same type in every cohort
            table = table.set_column(index, field.name, table.column(index).cast(pa.string()))
    place = table.column_names.index("ecg_path") + 1
    for name in ("echo_views", "echo_paths"):
        table = table.add_column(place, name, pa.array(cohort[name].tolist(), lists))
    # The metadata of pandas would describe an intermediate table.
    with whole_file(path) as building:
        pq.write_table(declare_canonical_units(table), building)
