"""Decide whether the unit of a laboratory value is in doubt.

A number without a unit is read in the canonical unit of its column. Creatinine 45 may then be 45 mg/dL, which nobody
has, or 45 umol/L, which is normal. Haemoglobin 8.7 is a sick patient in g/dL and a healthy one in mmol/L. A value in
doubt is not used, because either reading could be wrong. Only a number that is normal in the canonical unit is used all
the same, and a check says so (`docs/decisions/098-doubtful-units.md`).
"""

import math
from collections.abc import Iterable

from .lab_columns import is_canonical_unit, to_canonical, unit_factors, unit_key
from .lab_table import LabColumn

FAR = 1.5
"""A value with its unit is in doubt only if it lies this many times below or above the usual range."""
SAME = 0.01
"""Two readings that differ by less than this share are the same value."""


def unit_doubt(column: LabColumn, number: float, unit: str, name: str | None = None) -> list[str]:
    """List the other units that make the unit of a number doubtful.

    Without a unit: units of SI laboratories in which the number would be usual, units of single countries
    (`LabColumn.local`), and units in which such numbers are often meant (`LabColumn.mistakable`). If the number is not
    usual in the canonical unit, any other unit counts. If the number is far from usual, a unit in which it is less far
    counts too.

    With a unit: the other units in which the number would be usual, if the value is far from usual in the given one,
    and those in which it would be normal, if the value had to be converted and is not usual. A unit that laboratories
    rarely report (`LabColumn.rare`) is doubted like a missing one: creatinine 1.4 mmol/L is 15.8 mg/dL, and most likely
    1.4 mg/dL was meant.

    Args:
        column: the column.
        number: as given.
        unit: as given; "" if the row gave none.
        name: the name under which the value came, see `unit_factors`.

    Returns:
        Names of units. An empty list means that there is no doubt.
    """
    value = to_canonical(column, number, unit, name)
    if value is None:
        return []
    if unit:
        return _doubt_of_given_unit(column, number, value, unit, name)
    possible_units = [unit for unit, (low, high) in column.mistakable.items() if low <= number <= high]
    if _is_usual(column, value):
        units = _usual_units(column, number, value, (*column.si, *column.elsewhere))
        return [*units, *_local_units(column, number), *possible_units]
    is_far = not _is_usual(column, value, FAR)
    return [*_usual_units(column, number, value, unit_factors(column, name), FAR if is_far else 1.0), *possible_units]


def is_of_another_measurement(column: LabColumn, number: float) -> bool:
    """Tell whether a number without a unit may be of a unit without a factor: PT 92 may be 92 % (Quick)."""
    return any(low <= number <= high for unit, (low, high) in column.mistakable.items() if unit not in column.factors)


def _doubt_of_given_unit(column: LabColumn, number: float, value: float, unit: str, name: str | None) -> list[str]:
    """List the other units that make the given unit of a number doubtful. `value` is in the canonical unit."""
    if unit_key(unit) in map(unit_key, column.rare) and not is_normal(column, value):
        return _usual_units(column, number, value, (column.unit, *column.si, *column.elsewhere))
    if _is_usual(column, value):
        return []
    units = _usual_units(
        column, number, value, [other for other in unit_factors(column, name) if other not in column.local]
    )
    if not _is_usual(column, value, FAR):
        return units
    if is_canonical_unit(column, unit):
        return []
    return [other for other in units if is_normal(column, to_canonical(column, number, other, name) or math.nan)]


def is_normal(column: LabColumn, number: float) -> bool:
    """Tell whether a number in the canonical unit is usual and in the reference range of either sex.

    A number without a unit that is normal there is most likely meant so, because most results are normal: urea nitrogen
    15 mg/dL is normal, and 15 mmol/L is a failing kidney.
    """
    ranges = [limits for limits in map(column.reference_range, ("F", "M")) if limits is not None]
    return _is_usual(column, number) and any(low <= number <= high for low, high in ranges)


def is_unusual(column: LabColumn, value: float, sign: str = "") -> bool:
    """Tell whether a value lies outside the usual range of its column.

    A limit of the assay beyond the range, such as "<0.001", is no result outside of it.

    Args:
        column: the column.
        value: in the canonical unit.
        sign: comparator of the value, such as "<", or "".
    """
    low, high = column.usual
    return (value < low and sign[:1] != "<") or (value > high and sign[:1] != ">")


def _is_usual(column: LabColumn, value: float, far: float = 1.0) -> bool:
    """Tell whether a value in the canonical unit lies in the usual range, widened by the factor `far`."""
    low, high = column.usual
    return (low / far if low > 0 else low * far) <= value <= high * far


def _local_units(column: LabColumn, number: float) -> list[str]:
    """List the units of single countries in which `number` would be a value that such a unit usually has."""
    readings = {unit: to_canonical(column, number, unit) or math.nan for unit in column.local}
    return [unit for unit, (low, high) in column.local.items() if low <= readings[unit] <= high]


def _usual_units(column: LabColumn, number: float, value: float, units: Iterable[str], far: float = 1.0) -> list[str]:
    """List the units of `units` in which `number` is usual and another value than `value` (in the canonical unit)."""
    readings = {unit: to_canonical(column, number, unit) for unit in units if unit}
    return [
        unit
        for unit, reading in readings.items()
        if reading is not None and _is_usual(column, reading, far) and abs(reading - value) > SAME * abs(value)
    ]
