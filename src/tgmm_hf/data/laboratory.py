"""How a laboratory writes its rows: its units, and its names of the columns.

A column map is a CSV file with the columns name, column and unit. It says which column of this package each column of
the laboratory is, and in which unit its numbers are:

    name,column,unit
    P-Krea,Creatinine,umol/L
    HGB_g_L,Hemoglobin,g/L
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tgmm_hf.data.table_files import first_few, separator_of
from tgmm_hf.inputs.lab_columns import column_key, find_column, suggest_column, to_canonical, unit_key
from tgmm_hf.inputs.lab_unit_systems import declare_units
from tgmm_hf.inputs.private_text import quoted
from tgmm_hf.utils.errors import TgmmError

MAP_COLUMNS = ("name", "column", "unit")
"""Columns of a column map."""


@dataclass(frozen=True)
class Laboratory:
    """How a laboratory writes its rows.

    Attributes:
        units: "US" or "SI", the units of numbers without a unit. None if they are not known: a number that fits two
            units is then not used.
        columns: The laboratory's name of a column -> (column of this package, unit, "" without a unit).
    """

    units: str | None = None
    columns: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def translate(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Give the cells of a row the names of this package, and units where the row has none.

        Args:
            row: Name -> value or (value, unit). It is not changed.

        Returns:
            Column -> value or (value, unit).

        Raises:
            TgmmError: If two names of the row are the same column.
        """
        return declare_units(self._rename(row), self.units)

    def _rename(self, row: Mapping[str, Any]) -> dict[str, Any]:
        by_key = {column_key(name): target for name, target in self.columns.items()}
        renamed: dict[str, Any] = {}
        for name, value in row.items():
            column, unit = self._target(by_key, str(name))
            if column in renamed:
                raise TgmmError("labs", f"two columns of the row are {column!r} by the column map. Leave one out.")
            renamed[column] = (value, unit) if unit and not isinstance(value, tuple | list) else value
        return renamed

    def _target(self, by_key: Mapping[str, tuple[str, str]], name: str) -> tuple[str, str]:
        """Find the column and the unit of a name of the row. A name that the column map lacks stays as it is.

        Raises:
            TgmmError: If the name holds another unit than the column map.
        """
        if (target := by_key.get(column_key(name))) is not None:
            return target
        plain, unit = _without_unit(name)
        column, mapped = by_key.get(column_key(plain), ("", ""))
        if not column:
            return name, ""
        if mapped and unit_key(unit) != unit_key(mapped):
            raise TgmmError(
                "labs",
                f"the column map gives {plain!r} the unit {mapped!r}, but the name in the table says {quoted(unit)}. "
                "Correct one of them.",
            )
        return column, unit

    def unused_names(self, names: Iterable[str]) -> list[str]:
        """List the names of the column map that no name of a table or row matches.

        Args:
            names: Names of the laboratory columns.
        """
        present = {column_key(spelling) for name in names for spelling in (name, _without_unit(name)[0])}
        return [name for name in self.columns if column_key(name) not in present]


def _without_unit(name: str) -> tuple[str, str]:
    """Split "S-Krea (umol/L)" into the name and the unit in brackets at its end, "" without brackets."""
    match = re.fullmatch(r"(.*\S)\s*[(\[]([^()\[\]]{1,20})[)\]]\s*", name)
    return (match[1], match[2].strip()) if match else (name, "")


def unused_note(laboratory: Laboratory, names: Iterable[str]) -> list[str]:
    """Write a note on the names of the column map that match no column, [] if there is none.

    Args:
        laboratory: Holds the column map.
        names: Names of the laboratory columns of a table or row.
    """
    unused = laboratory.unused_names(names)
    return [f"the column map names {first_few(unused)}, but no laboratory column has this name"] if unused else []


def read_column_map(path: Path) -> dict[str, tuple[str, str]]:
    """Read a column map: name -> (column, unit). Commas or semicolons stand between the columns.

    Raises:
        TgmmError: If a column of the file is missing or occurs twice, a name occurs twice, a line is incomplete, or a
            known column does not have the unit.
    """
    text = path.read_text(encoding="utf-8-sig")
    if text[:4].lower() == "sep=":  # a line of Excel for itself
        text = text.partition("\n")[2]
    with io.StringIO(text, newline="") as file:
        reader = csv.DictReader(file, delimiter=separator_of(text))
        if missing := [name for name in MAP_COLUMNS if name not in (reader.fieldnames or [])]:
            raise TgmmError(path.name, f"it lacks the column(s) {', '.join(missing)}. It needs name, column and unit.")
        if twice := [name for name in MAP_COLUMNS if (reader.fieldnames or []).count(name) > 1]:
            raise TgmmError(path.name, f"it has the column(s) {', '.join(twice)} twice. Remove one of them.")
        lines = list(reader)
    columns: dict[str, tuple[str, str]] = {}
    for number, line in enumerate(lines, start=2):
        name, column, unit = ((line[key] or "").strip() for key in MAP_COLUMNS)
        where = f"{path.name}, line {number}"
        if not name or not column:
            raise TgmmError(where, "name and column must not be empty. Remove the line, or complete it.")
        if name in columns:
            raise TgmmError(where, f"the name {name!r} occurs twice. Keep one of the lines.")
        lab_column = find_column(column)
        if lab_column is None and (similar := suggest_column(column)) is not None:
            raise TgmmError(where, f"there is no column {quoted(column)}. Did you mean {similar.name!r}?")
        if lab_column is not None and lab_column.is_number and to_canonical(lab_column, 1.0, unit, column) is None:
            units = ", ".join(other for other in (lab_column.unit, *lab_column.factors) if other)
            raise TgmmError(where, f"the unit {unit!r} of {column!r} is not known; known are {units or 'no units'}.")
        columns[name] = (column, unit)
    return columns
