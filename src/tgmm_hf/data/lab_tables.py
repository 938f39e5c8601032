"""Read tables of lab rows: one patient's row for `tgmm predict --labs`, or one row per patient for `make-manifest`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tgmm_hf.data.table_columns import FILE_COLUMNS, REQUIRED, TASK_KINDS
from tgmm_hf.data.table_files import DEFAULT_FORMAT, CohortTableError, TableFormat, read_table
from tgmm_hf.inputs.lab_cells import is_empty_cell
from tgmm_hf.utils.errors import TgmmError

WHAT = "the lab table"
NO_CELLS = (*REQUIRED, *FILE_COLUMNS)
"""Columns of a table that hold no laboratory cell."""


def read_one_lab_row(path: Path, table_format: TableFormat = DEFAULT_FORMAT) -> dict[str, Any]:
    """Read the lab row of one patient from a CSV file with one row.

    A header is the name of a cell, which may hold the unit ("Hb (g/L)"), or `labs.<name>`; `unit.<name>` is the unit of
    that cell. Columns of a cohort table that hold no cell are left out.

    Returns:
        Column -> value or (value, unit), of the cells that are present.

    Raises:
        TgmmError: If the file cannot be read, or does not hold exactly one row.
    """
    rows = read_table(path, table_format, WHAT).rows
    if len(rows) != 1:
        raise TgmmError(
            str(path),
            f"it holds {len(rows)} rows, but --labs is the lab row of one patient. Predict several patients with "
            "--manifest; tgmm make-manifest writes that table.",
        )
    return cells_of(rows[0])


def cells_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the laboratory cells of a row that are present: name -> value or (value, unit)."""
    cells: dict[str, Any] = {}
    for column, value in row.items():
        prefix = column.partition(".")[0]
        if column in NO_CELLS or is_empty_cell(value) or (prefix in ("unit", *TASK_KINDS) and "." in column):
            continue
        name = column.removeprefix("labs.")
        unit = row.get(f"unit.{name}")
        cells[name] = (value, str(unit)) if not is_empty_cell(unit) else value
    return cells


def read_lab_table(
    path: Path, table_format: TableFormat = DEFAULT_FORMAT
) -> tuple[list[str], dict[str, dict[str, Any]], list[str]]:
    """Read a table with the column `id` and one row per patient.

    Returns:
        The columns as a cohort table names them, without `id`; id -> row under these names; and notes on the file. A
        column that is none of the cohort table's own becomes `labs.<column>`.

    Raises:
        CohortTableError: If the file cannot be read, the column `id` is missing, or an id is empty or occurs twice.
    """
    table = read_table(path, table_format, WHAT)
    if "id" not in table.names:
        raise CohortTableError(
            path.name, f"the column id is missing; found {', '.join(table.names)}. Name the column of the patients id."
        )
    names = {name: _cohort_column(name) for name in table.names if name != "id"}
    rows: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(table.rows, start=1):
        identifier = "" if is_empty_cell(row["id"]) else str(row["id"]).strip()
        if not identifier:
            raise CohortTableError(f"{path.name}, row {number}", "id is empty.")
        if identifier in rows:
            raise CohortTableError(
                f"{path.name}, row {number}",
                f"the id {identifier} occurs twice, but the table has one row per patient. Keep one of the rows.",
            )
        rows[identifier] = {names[name]: row[name] for name in names}
    return list(names.values()), rows, table.notes


def _cohort_column(name: str) -> str:
    """Name a column of a lab table as a cohort table does."""
    prefix, dot, rest = name.partition(".")
    is_own = name in NO_CELLS or (bool(dot and rest) and prefix in ("labs", "unit", *TASK_KINDS))
    return name if is_own else f"labs.{name}"
