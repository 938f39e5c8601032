"""Numbers whose point may set thousands apart: "5.210 ng/L" of NT-proBNP is 5.21 or 5210."""

import re
from typing import Any

from .lab_cells import LabCell

_THREE_DIGITS = re.compile(r"[^\d.,]*[1-9]\d{0,2}\.\d{3}(?!\d)")
"""A number of one to three digits, a point and three digits, at the start of a text."""


def may_set_thousands(raw: Any, cell: LabCell) -> bool:
    """Tell whether a result is usual with its point as a decimal sign and without it.

    Args:
        raw: what the row holds, a value or (value, unit). Only a text shows how many digits were written.
        cell: what was read from it.
    """
    written = raw[0] if isinstance(raw, tuple | list) and raw else raw
    if not isinstance(written, str) or cell.column is None or cell.number is None:
        return False
    low, high = cell.column.usual
    return _THREE_DIGITS.match(written.strip()) is not None and low <= cell.number and 1000 * cell.number <= high


__all__ = ["may_set_thousands"]
