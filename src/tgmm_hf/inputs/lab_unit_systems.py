"""Give a lab row the units that its laboratory uses, where the row itself has none.

declare_units({"Hemoglobin": 8.7}, "US")   # {"Hemoglobin": (8.7, "g/dL")}
declare_units({"Creatinine": 124}, "SI")   # {"Creatinine": (124, "umol/L")}
"""

from collections.abc import Collection, Mapping
from typing import Any

from .lab_cells import CellRefusedError, read_number
from .lab_columns import find_column, needs_unit, split_name, to_canonical
from .lab_table import LabColumn
from .lab_unit_cells import unit_cells
from .lab_units import is_of_another_measurement

UNIT_SYSTEMS = ("US", "SI")
"""US: the canonical unit of every column, as MIMIC-IV has them. SI: the units of `LabColumn.si`."""


def declare_units(row: Mapping[str, Any], system: str | None, columns: Collection[str] = ()) -> dict[str, Any]:
    """Add the units of a unit system to the numbers of a lab row that have no unit.

    Args:
        row: column name or alias -> value or (value, unit). It is not changed.
        system: one of `UNIT_SYSTEMS`; None adds nothing.
        columns: columns that the model was trained with. None of them is used as the unit of another cell.

    Returns:
        The row. A number whose unit the system does not decide stays as it is: for example NT-proBNP 1240 in SI units,
        which may be ng/L or pmol/L.

    Raises:
        ValueError: if the system is not known.
    """
    if system is not None and system not in UNIT_SYSTEMS:
        raise ValueError(f"the unit system is {system!r}; it must be one of {', '.join(UNIT_SYSTEMS)}, or None.")
    if system is None:
        return dict(row)
    has_unit = unit_cells(row, columns)
    return {
        str(name): raw if str(name) in has_unit else _with_unit(str(name), raw, system) for name, raw in row.items()
    }


def _with_unit(written: str, raw: Any, system: str) -> Any:
    """Return (value, unit) for a number without a unit, else `raw` as it is."""
    name, name_unit = split_name(written)
    column = find_column(name)
    if column is None or not column.unit or name_unit or needs_unit(name):
        return raw
    try:
        reading = read_number(raw, column, name)
    except CellRefusedError:
        return raw  # refused with its reason when the row is read
    if reading.number is None or reading.unit:
        return raw
    unit = column.unit if system == "US" else _si_unit(column, reading.number)
    value = raw[0] if isinstance(raw, tuple | list) else raw
    return (value, unit) if unit else raw


def _si_unit(column: LabColumn, number: float) -> str:
    """Choose the SI unit in which `number` is usual; the first one if none is.

    Returns:
        The unit; "" if several readings are usual, or if laboratories with SI units may mean another measurement.
    """
    if is_of_another_measurement(column, number):
        return ""
    units = column.si or (column.unit,)
    readings = {unit: to_canonical(column, number, unit) or 0.0 for unit in units}
    low, high = column.usual
    usual = [unit for unit, value in readings.items() if low <= value <= high]
    if len({round(readings[unit], 6) for unit in usual}) > 1:
        return ""
    return usual[0] if usual else units[0]
