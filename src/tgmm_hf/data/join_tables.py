"""Join the cohort tables of several centres into one, without touching their files.

A number means what its own table says. So a table that declares its units for all its numbers (`tgmm_units`) gets them
into the columns `unit.<column>`, because the other tables may have other units.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tgmm_hf.data.table_files import CohortTableError, TableFormat, first_few, read_table
from tgmm_hf.inputs.lab_cells import is_empty_cell
from tgmm_hf.inputs.lab_unit_systems import declare_units
from tgmm_hf.utils.files import whole_file

LABS, UNIT = "labs.", "unit."


@dataclass(frozen=True)
class Joined:
    """What was joined.

    Attributes:
        rows: Number of rows of each table, in their order.
        outside: Whether a file lies outside the directory of the joined table, so that `--allow-outside` is needed.
        undeclared: Tables that say of no number which unit it has.
    """

    rows: list[int]
    outside: bool
    undeclared: list[Path]


def join_tables(tables: Sequence[Path], out: Path, table_format: TableFormat) -> Joined:
    """Write the rows of several cohort tables into one Parquet table.

    Args:
        tables: Cohort tables (.parquet or .csv), two or more. The paths in a table start from its directory.
        out: Table to write. Its paths start from its own directory.
        table_format: How CSV tables are written.

    Raises:
        CohortTableError: If a table cannot be read, or two tables have an admission or a patient in common.
    """
    rows: list[dict[str, Any]] = []
    numbers, undeclared = [], []
    for path in tables:
        raw = read_table(path, table_format)
        rows += [_joined_row(row, path.parent, out.parent, raw.units) for row in raw.rows]
        numbers.append(len(raw.rows))
        if raw.units is None and not any(name.startswith(UNIT) for name in raw.names):
            undeclared.append(path)
    _check_distinct(rows, numbers, tables)
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.table({name: _column(name, [row.get(name) for row in rows]) for name in names})
    with whole_file(out) as building:
        pq.write_table(table, building)
    outside = any(Path(file).is_absolute() or file.startswith("..") for row in rows for file in _files(row))
    return Joined(numbers, outside, undeclared)


def _joined_row(row: Mapping[str, Any], old: Path, new: Path, units: str | None) -> dict[str, Any]:
    """Return a row whose paths start from `new` instead of `old`, and whose numbers have the units of their table."""
    changed = {name: None if is_empty_cell(value) else value for name, value in row.items()}
    if ecg := changed.get("ecg_path"):
        changed["ecg_path"] = _moved(ecg, old, new)
    if clips := _clips(changed):
        changed["echo_paths"] = [_moved(clip, old, new) for clip in clips]
        views = changed.get("echo_views")
        changed["echo_views"] = views.split(";") if isinstance(views, str) else views
    cells = {name.removeprefix(LABS): value for name, value in changed.items() if name.startswith(LABS)}
    bare = {name: value for name, value in cells.items() if value is not None and not changed.get(UNIT + name)}
    for name, value in declare_units(bare, units).items():
        if isinstance(value, tuple):
            changed[UNIT + name] = value[1]
    return changed


def _clips(row: Mapping[str, Any]) -> list[str]:
    """List the clips of a row, from a list or from text joined by semicolons."""
    clips = row.get("echo_paths")
    return clips.split(";") if isinstance(clips, str) else list(clips or ())


def _files(row: Mapping[str, Any]) -> Iterable[str]:
    """List the ECG and the clips of a row."""
    return [*filter(None, [row.get("ecg_path")]), *_clips(row)]


def _moved(file: str, old: Path, new: Path) -> str:
    """Return a path that started from the directory `old`, from the directory `new`. Absolute ones stay."""
    return file if Path(file).is_absolute() else Path(os.path.relpath(old / file, new)).as_posix()


def _check_distinct(rows: Sequence[Mapping[str, Any]], numbers: Sequence[int], tables: Sequence[Path]) -> None:
    """Raise a CohortTableError if two tables have an admission or a patient in common."""
    origin = [place for place, number in enumerate(numbers) for _ in range(number)]
    for name, what in (("id", "admission"), ("patient_id", "patient")):
        first: dict[str, int] = {}
        repeated = [
            number
            for number, (row, table) in enumerate(zip(rows, origin, strict=True))
            if row.get(name) is not None and first.setdefault(str(row[name]), table) != table
        ]
        if repeated:
            table = origin[repeated[0]]
            within = [number - sum(numbers[:table]) + 1 for number in repeated if origin[number] == table]
            raise CohortTableError(
                str(tables[table]),
                f"{len(within)} rows have the {name} of an {what} in an earlier table (row(s) {first_few(within)}). "
                "Different people need different ids: put the centre's name before them. One person needs one split.",
            )


def _column(name: str, values: list[Any]) -> pa.Array:
    """Make a column. Numbers beside texts become texts, because one laboratory writes "5.1 H" where another has 5.1."""
    kinds = {type(value) for value in values if value is not None}
    if str in kinds and len(kinds) > 1:
        return pa.array([None if value is None else str(value) for value in values], pa.string())
    if kinds == {int, float}:
        values = [None if value is None else float(value) for value in values]
    column = pa.array(values)
    empty = pa.string() if name.startswith(UNIT) else pa.float64()
    return column.cast(empty) if pa.types.is_null(column.type) else column
