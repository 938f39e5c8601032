"""Reasons of refused laboratory cells without the values of patients, so that a screen or a log may show them."""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "(value)"
"""Stands for a value."""
_IMPOSSIBLE = " is impossible: "
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_NUMBER = re.compile(r"(?<![\w.'])[-+]?\d[\d.,]*(?:e[-+]?\d+)?(?![\w'])", re.IGNORECASE)


def reason_without_values(reason: str, row: Mapping[str, Any]) -> str:
    """Take the values of a lab row out of the reason why a cell was refused.

    Names of columns, limits, and the advice behind ";" stay, because no patient is behind them.

    Args:
        reason: The reason.
        row: The lab row: column -> value or (value, unit). The names of its columns may be shown.
    """
    if _IMPOSSIBLE in reason:
        return "the value is impossible: " + reason.split(_IMPOSSIBLE, 1)[1]
    found, separator, advice = reason.partition("; ")
    values = {_text(value) for cell in row.values() for value in (cell if isinstance(cell, tuple | list) else [cell])}

    def shown(match: re.Match[str]) -> str:
        is_name = match[0][1:-1] in row
        is_value = match[0][1:-1] in values
        return match[0] if is_name or not is_value else HIDDEN

    # A unit is no value, but a "unit" that stood inside the value's text may be anything.
    hidden = _QUOTED.sub(shown, found)
    parts = re.split(r"('[^']*')", hidden)
    return "".join(part if part.startswith("'") else _NUMBER.sub(HIDDEN, part) for part in parts) + separator + advice


def _text(value: Any) -> str:
    return " ".join(str(value).split())
