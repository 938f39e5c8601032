"""Take the reference range out of a result that holds both, such as "5.1 (3.5-5.0)"."""

import re

from .lab_columns import to_canonical
from .lab_table import LabColumn

FAR = 3
"""A range is of another unit if it ends below, or begins above, the normal range by more than this factor."""
_DECIMAL = r"\d+(?:\.\d+)?"
_BEHIND = re.compile(
    r"(?P<value>[^()\[\]]*\d[^()\[\]]*?)\s*[(\[]\s*(?:(?:ref(?:erence)?|normal|norm|range|RR|NR|N)\b\.?(?:\s*range)?\s*:?\s*)?"
    rf"(?:(?P<low>{_DECIMAL})\s*(?:-|\u2013|to)\s*(?P<high>{_DECIMAL})|[<>\u2264\u2265]=?\s*{_DECIMAL})"
    r"\s*(?P<unit>[^\s\d()\[\]][^()\[\]]{0,20})?\s*[)\]]\s*(?P<mark>[HLN]{1,2}\*{0,3}|\*{1,3})?",
    re.IGNORECASE,
)
"""A value, and in brackets two rising numbers or one limit, maybe with a unit; the laboratory's mark may follow."""
_YEAR = re.compile(r"(?:19|20)\d\d")
_BARE = re.compile(rf"\s*[<>\u2264\u2265]?=?\s*[+-]?{_DECIMAL}\s*")
"""A value without a unit."""


def without_reference(text: str) -> tuple[str, str]:
    """Split a result into the value and its reference range.

    A range in brackets behind one value is the reference range of a laboratory. The bracket's unit is the unit of the
    value, too, if the value has none. A bracket of another unit than that of the value is left in the text, so that
    the cell cannot be read.

    Args:
        text: the cell, in one line.

    Returns:
        The value with its unit and its mark, and the range in brackets; the text as it is and "" without a range.
    """
    match = _BEHIND.fullmatch(text)
    if match is None:
        return text, ""
    if match["low"] is not None:
        are_years = all(_YEAR.fullmatch(match[end]) for end in ("low", "high"))
        if are_years or float(match["low"]) >= float(match["high"]):
            return text, ""
    value, mark = match["value"].strip(), match["mark"] or ""
    unit = match["unit"] or ""
    if not _BARE.fullmatch(value):
        if not _plain(value).endswith(_plain(unit)):
            return text, ""
        unit = ""
    low_high = f"({match['low']}-{match['high']})" if match["low"] is not None else "(limit)"
    return " ".join(part for part in (value, unit.strip(), mark) if part), low_high


def _plain(text: str) -> str:
    """Return a text in small letters and without spaces, to compare units."""
    return "".join(text.split()).casefold()


def is_of_another_unit(reference: str, column: LabColumn, unit: str, name: str) -> bool:
    """Tell whether a reference range lies far from the normal range of its column, so that its unit is another one.

    Args:
        reference: as `without_reference` gives it.
        column: the column, which has a normal range.
        unit: of the value; "" for the canonical unit.
        name: the name under which the value came. It decides which units are known.
    """
    ends = [to_canonical(column, float(end), unit, name) for end in re.findall(_DECIMAL, reference)]
    ranges = list(column.normal.values()) if isinstance(column.normal, dict) else [column.normal]
    limits = [limit for limits in ranges if limits is not None for limit in limits]
    if len(ends) != 2 or ends[0] is None or ends[1] is None or not limits:
        return False
    return ends[0] > FAR * max(limits) or ends[1] < min(limits) / FAR


__all__ = ["is_of_another_unit", "without_reference"]
