"""Find units that stand in a cell of their own beside the value: "Troponin I" 0.5, "Troponin I_unit" "ng/L"."""

import re
from collections.abc import Mapping
from typing import Any

from .lab_columns import column_key, find_column, split_name

_NAME_OF_UNIT = re.compile(r"(?:(?P<before>.+?)[\s_.-]*\bunits?|units?[\s_.:-]+(?P<after>.+))", re.IGNORECASE)
MAX_NAME = 200
"""A longer name is none of a unit."""
MAX_UNIT = 30
"""Letters. A longer text is no unit."""


def unit_cells(row: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """List the values of a lab row whose unit is another cell.

    Args:
        row: column name or alias -> value or (value, unit).

    Returns:
        Name of the value -> (name of the cell with the unit, unit). Values of columns that are not known, and values
        that have a unit of their own or in their name, are left out.
    """
    names = {
        column_key(str(name)): str(name)
        for name, raw in row.items()
        if not isinstance(raw, tuple | list) and find_column(str(name)) is not None
    }
    units: dict[str, tuple[str, str]] = {}
    for key, raw in row.items():
        written = str(key)
        if not isinstance(raw, str) or not raw.strip() or len(raw) > MAX_UNIT or len(written) > MAX_NAME:
            continue
        match = _NAME_OF_UNIT.fullmatch(written.strip().replace("_", " "))
        value = names.get(column_key(match["before"] or match["after"])) if match is not None else None
        if value is not None and value != written and not split_name(value)[1]:
            units.setdefault(value, (written, raw.strip()))
    return units


__all__ = ["unit_cells"]
