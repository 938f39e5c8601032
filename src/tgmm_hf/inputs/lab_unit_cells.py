"""Find units that stand in a cell of their own beside the value: "Troponin I" 0.5, "Troponin I_unit" "ng/L"."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from .lab_cells import CellRefusedError, read_number
from .lab_columns import column_key, find_column, split_name, to_canonical, unit_factors, unit_key
from .lab_table import ALIAS_FACTORS, COLUMNS, LabColumn

_NAME_OF_UNIT = re.compile(r"(?:(?P<before>.+?)[\s_.-]*\bunits?|units?[\s_.:-]+(?P<after>.+))", re.IGNORECASE)
MAX_NAME = 200
"""Letters. A longer name of a cell is not looked at."""
MAX_UNIT = 30
"""Letters. A longer text is no unit."""
NO_UNIT = (
    *("", "1", "ratio", "na", "n.a", "n/a", "none", "null", "nan", "unknown", "unk", "not known", "not applicable"),
    *("no unit", "no units", "unitless", "dimensionless", "number"),
)
"""Texts, in lower case and without signs around them, that say that a value has no unit, or that nobody knows it."""
_SIGNS = " .,;:-_?*(){}[]"
_KNOWN_UNITS = frozenset(
    unit_key(unit)
    for units in (*map(unit_factors, COLUMNS), *(factors for _, factors in ALIAS_FACTORS.values()))
    for unit in units
    if len(unit_key(unit)) > 1 or unit == "%"
)
"""Units of any column. Single letters are left out, because they have other meanings."""
_AGE_OR_GENDER = ("m", "w")
"""Units of the age that may also be a gender: months or male, weeks or a woman."""


class _Pair(NamedTuple):
    """A value of a column of numbers, and a cell that may hold its unit."""

    value: str
    column: LabColumn
    cell: str
    text: str
    has_own_unit: bool


def unit_cells(row: Mapping[str, Any], columns: Collection[str] = ()) -> dict[str, tuple[str, str]]:
    """List the values of a lab row whose unit is another cell.

    A cell is such a unit if its text is a unit of the value's column, a unit of another column, or has a "/". The
    last two are no units of this value, so the value is refused when the row is read.

    Args:
        row: column name or alias -> value or (value, unit).
        columns: columns that the model was trained with. Such a column is no unit, because the model reads its text.

    Returns:
        Name of the value -> (name of the cell with the unit, unit). Values of columns that are not known or hold words,
        and values that have a unit of their own or in their name, are left out.
    """
    units: dict[str, tuple[str, str]] = {}
    for pair in _pairs(row, columns):
        if not pair.has_own_unit and _is_unit(pair):
            units.setdefault(pair.value, (pair.cell, pair.text))
    return units


def unclear_unit_cells(row: Mapping[str, Any], columns: Collection[str] = ()) -> list[tuple[str, str]]:
    """List the cells with the name of a unit that are not used as one, without cells that say that there is none.

    Args:
        row: column name or alias -> value or (value, unit).
        columns: columns that the model was trained with.

    Returns:
        (name of the cell, name of the value) of each.
    """
    used = {name for name, _ in unit_cells(row, columns).values()}
    return [
        (pair.cell, pair.value) for pair in _pairs(row, columns) if pair.cell not in used and not _says_no_unit(pair)
    ]


def _pairs(row: Mapping[str, Any], columns: Collection[str]) -> Iterator[_Pair]:
    """List the values of known columns of numbers, each with the cell whose name says that it holds the unit."""
    candidates = [
        (str(key), str(raw).strip(), name) for key, raw in row.items() if (name := _name_of_unit(key, raw)) is not None
    ]
    if not candidates:
        return
    values = {column_key(str(name)): (str(name), raw) for name, raw in row.items() if find_column(str(name))}
    for cell, text, valued in candidates:
        name, raw = values.get(column_key(valued), (cell, None))
        column = find_column(name)
        if name == cell or column is None or not column.is_number or " ".join(cell.split()) in columns:
            continue
        if not isinstance(raw, tuple | list) and not split_name(name)[1]:
            yield _Pair(name, column, cell, text, _has_unit(raw, column, name))


def _name_of_unit(key: Any, raw: Any) -> str | None:
    """Return the name of the value to which a cell may give the unit; None if the cell cannot hold a unit."""
    if not isinstance(raw, str) or not raw.strip() or len(raw) > MAX_UNIT or len(str(key)) > MAX_NAME:
        return None
    match = _NAME_OF_UNIT.fullmatch(str(key).strip().replace("_", " "))
    return (match["before"] or match["after"]) if match is not None else None


def _has_unit(raw: Any, column: LabColumn, name: str) -> bool:
    """Tell whether a value has its unit behind the number, such as "1.4 mg/dL"."""
    try:
        return isinstance(raw, str) and bool(read_number(raw, column, name).unit)
    except CellRefusedError:
        return False


def _says_no_unit(pair: _Pair) -> bool:
    """Tell whether a text says that there is no unit, or repeats the name of the column, such as "INR"."""
    is_known = find_column(pair.text) is pair.column
    return is_known or pair.text.casefold().strip(_SIGNS) in NO_UNIT


def _is_unit(pair: _Pair) -> bool:
    """Tell whether a text is a unit. The unit of another column is one too, so that the value is refused."""
    if _says_no_unit(pair) or (pair.column.name == "age" and pair.text.casefold() in _AGE_OR_GENDER):
        return False
    is_of_column = to_canonical(pair.column, 1.0, pair.text, pair.value) is not None
    return is_of_column or unit_key(pair.text) in _KNOWN_UNITS or "/" in pair.text


__all__ = ["unclear_unit_cells", "unit_cells"]
