"""Rewrite a result as laboratories print it, such as "*5.9 mmol/L" or "5.9 (H) mmol/L", in the order that is read."""

import re

_NUMBER = r"(?:<=|>=|<|>|≤|≥)?\s*[+-]?(?:\d+\.?\d*|\.\d+)"
_THOUSANDS = re.compile(r"(?<=\d)[\u00a0\u2009\u202f'\u2019](?=\d{3}(?!\d))")
"""Spaces that do not break, and the apostrophe of Switzerland, between thousands: "1'250". None is a decimal sign."""
_COMMA_GROUPS = re.compile(r"(?<![\d.,])\d{1,3}(?:(?:,\d{3}){2,}(?:\.\d+)?|,\d{3}\.\d+)(?![\d.,])")
"""Commas that can only part thousands: two groups, or one before a decimal point."""
_MIDDLE_DOT = re.compile(r"(?<=\d)\u00b7(?=\d)")
"""Decimal sign of some British journals and laboratories: 1\u00b74."""
_FEET = re.compile(
    r"(?P<feet>[3-8])\s*(?:'|\u2019|\u2032|ft\.?|feet|foot)\s*"
    r"(?:(?P<inches>1[01](?:\.\d+)?|\d(?:\.\d+)?)\s*(?:\"|\u201d|\u2033|''|in\.?|inch(?:es)?)?)?",
    re.IGNORECASE,
)
"""A height in feet and inches."""
_YEARS_OLD = re.compile(r"(\d{1,3})[ -]years?[ -]old", re.IGNORECASE)
_MARK = r"(?:H{1,2}|L{1,2}|\*{1,3}|↑{1,3}|↓{1,3})"
_MARK_FIRST = re.compile(
    rf"(?P<mark>\*{{1,3}}|[↑↓]{{1,3}}|(?:H{{1,2}}|L{{1,2}})(?=\s))\s*(?P<rest>{_NUMBER}(?:\s.*|\D*))"
)
_MARK_INSIDE = re.compile(rf"(?P<value>{_NUMBER})\s*(?P<mark>[(\[]{_MARK}[)\]]|\s{_MARK}(?=\s))\s*(?P<unit>[^\s\d/].*)")
"""A mark between the number and its unit: "5.9 H mmol/L", "5.9 (H) mmol/L". In "0.38 L / L" L is a litre."""
_SIGN_BEHIND = re.compile(r"(?P<rest>.*\d.*)(?:(?<=[\w%])\s+(?P<plus>\+{1,3})|(?<=[A-Za-z%])\s+(?P<minus>-{1,3}))")
"""Signs of German laboratories behind a result: "88 mg/L +", "3.1 mmol/L -". A minus behind a bare number may be the
start of a range."""
_RANGE_INSIDE = re.compile(
    rf"(?P<value>{_NUMBER})\s*(?P<range>[(\[][^()\[\]]*\d[^()\[\]]*[)\]])\s*"
    r"(?!(?:[HLN]{1,2}\*{0,3}|\*{1,3}|[↑↓]{1,3})$)(?P<unit>[^\s\d()\[\]][^()\[\]]{0,20})"
)
"""A reference range between the number and its unit."""


def without_thousands(text: str) -> str:
    """Remove what parts thousands, and write a raised decimal point as a plain one, before white space is reduced."""
    return _MIDDLE_DOT.sub(".", _THOUSANDS.sub("", text))


def plain_result(text: str, column: str) -> str:
    """Rewrite a result so that number, unit, mark and reference range stand in this order.

    Args:
        text: the cell of a column of numbers, in one line.
        column: name of the column.

    Returns:
        The same result. A text of another form comes back as it is.
    """
    text = text.removeprefix("'")  # Excel marks a text so
    if column == "height" and (height := _FEET.fullmatch(text)) is not None:
        return f"{12 * int(height['feet']) + float(height['inches'] or 0):g} in"
    text = _COMMA_GROUPS.sub(lambda number: number[0].replace(",", ""), text)
    if column == "age":  # "90+" hides the age of the oldest
        return _YEARS_OLD.sub(r"\1 years", text)
    if (match := _RANGE_INSIDE.fullmatch(text)) is not None:
        text = f"{match['value']} {match['unit']} {match['range']}"
    if (match := _SIGN_BEHIND.fullmatch(text)) is not None:
        text = f"{match['rest']} ({match['plus'] or match['minus']})"
    if (match := _MARK_INSIDE.fullmatch(text)) is not None:
        text = f"{match['value']} {match['unit']} {match['mark'].strip(' ()[]')}"
    if (match := _MARK_FIRST.fullmatch(text)) is not None:
        text = f"{match['rest']} {match['mark']}"
    return text


__all__ = ["plain_result", "without_thousands"]
