"""Read a result that a laboratory prints in two units: "7.2 % (55 mmol/mol)", "81.6 kg (180 lb)"."""

import re

from .lab_columns import same_unit, to_canonical
from .lab_table import LabColumn

_NUMBER = r"\d+(?:\.\d+)?"
_PAIR = re.compile(
    rf"(?P<first>{_NUMBER})\s*(?P<unit>[^\s\d()\[\]][^()\[\]]{{0,20}}?)\s*"
    rf"[(\[]\s*(?P<second>{_NUMBER})\s*(?P<other>[^\s\d()\[\]][^()\[\]]{{0,20}}?)\s*[)\]]"
)
_POUNDS_AND_OUNCES = re.compile(
    r"(?P<pounds>\d+)\s*lbs?\.?\s*(?P<ounces>(?:1[0-5]|\d)(?:\.\d+)?)\s*oz\.?", re.IGNORECASE
)
OUNCES = 16
"""Ounces of a pound."""
COARSE = 2
"""The second number is read if the last digit of the first is worth more than COARSE times its own, as in "0.0 ng/mL
(80 ng/L)"."""


def without_second_unit(text: str, column: LabColumn, name: str) -> str:
    """Leave out the same value in a second unit; a text whose two values differ comes back as it is.

    The first number stays, if it is not much coarser than the second.

    Args:
        text: the cell, in one line.
        column: the column.
        name: the name under which the value came. It decides which units are known.
    """
    plain = (
        _POUNDS_AND_OUNCES.sub(lambda weight: f"{_pounds(weight):.4f} lb", text) if column.name == "weight" else text
    )
    pair = _PAIR.fullmatch(plain)
    if pair is None:
        return plain
    if same_unit(column, pair["unit"], pair["other"], name):
        return text
    first = _ends(column, pair["first"], pair["unit"], name)
    second = _ends(column, pair["second"], pair["other"], name)
    if first is None or second is None or first[1] <= second[0] or second[1] <= first[0]:
        return text
    is_coarse = first[1] - first[0] > COARSE * (second[1] - second[0])
    number, unit = ("second", "other") if is_coarse else ("first", "unit")
    return f"{pair[number]} {pair[unit]}"


def _pounds(weight: re.Match[str]) -> float:
    """Return the pounds of a weight in pounds and ounces."""
    return int(weight["pounds"]) + float(weight["ounces"]) / OUNCES


def _ends(column: LabColumn, written: str, unit: str, name: str) -> tuple[float, float] | None:
    """Return the ends, in the canonical unit, of the values that are written so; None for an unknown unit.

    A program rounds or cuts behind the last digit.
    """
    digit = 10.0 ** -len(written.partition(".")[2])
    low = to_canonical(column, max(float(written) - digit / 2, 0.0), unit, name)
    high = to_canonical(column, float(written) + digit, unit, name)
    return None if low is None or high is None else (low, high)


__all__ = ["without_second_unit"]
