"""Rewrite a result as laboratories print it, such as "*5.9 mmol/L" or "5.9 (H) mmol/L", in the order that is read."""

import re

_NUMBER = r"(?:<=|>=|<|>|≤|≥)?\s*[+-]?(?:\d+\.?\d*|\.\d+)"
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:[\u00a0\u2009\u202f'\u2019]\d{3})+(?!\d)")
"""Spaces that do not break, and the apostrophe of Switzerland, between thousands: "1'250". None is a decimal sign.
Behind a decimal sign ("4.1 140") they part two numbers."""
_COMMA_GROUPS = re.compile(r"(?<![\d.,])\d{1,3}(?:(?:,\d{3}){2,}(?:\.\d+)?|,\d{3}\.\d+)(?![\d.,])")
"""Commas that can only part thousands: two groups, or one before a decimal point."""
_MIDDLE_DOT = re.compile(r"(?<=\d)\u00b7(?=\d)")
"""Decimal sign of some British journals and laboratories: 1\u00b74."""
_INCH_MARK = "(?:\"|\u201d|\u2033|''|\u2019\u2019|\u2032\u2032)"
_FEET = re.compile(
    r"(?P<feet>[3-8])\s*(?:'|\u2019|\u2032|ft\.?|feet|foot)\s*"
    rf"(?:(?P<inches>(?:1[01]|0?\d)(?:\.\d+)?)\s*(?:{_INCH_MARK}|in\.?|inch(?:es)?)?)?"
    rf"|(?P<all_inches>(?:4[89]|[5-8]\d)(?:\.\d+)?)\s*{_INCH_MARK}",
    re.IGNORECASE,
)
"""A height in feet and inches, or in inches alone: 5'7", 5'07", 67". Only a number from 48 to 89 is the height of an
adult in inches, so that the mark cannot be one of feet or a stray quote."""
_WITH_CENTIMETRES = re.compile(
    r"(?P<feet>[^()]+?)\s*\(\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>c?m)\s*\)", re.IGNORECASE
)
"""The same height a second time: 5'7" (170 cm)."""
_FEET_BEHIND = re.compile(r"(?P<result>\d[\d.]* ?c?m) ?\((?P<feet>[^()]*)\)", re.IGNORECASE)
"""The height in feet behind the other one: 170 cm (5'7")."""
CENTIMETRES_APART = 1.0
"""Largest difference between the two numbers of one height, because somebody rounds one of them."""
_YEARS_OLD = re.compile(r"(\d{1,3})[ -]years?[ -]old", re.IGNORECASE)
_OLDEST = re.compile(r"(\d{1,3})\s?\+\s?(?:years?|yrs?|y)(?:[ -]old)?", re.IGNORECASE)
"""The plus of "90+" before the unit."""
_MARK = r"(?:H{1,2}|L{1,2}|\*{1,3}|↑{1,3}|↓{1,3}|(?i:high|low|hi|lo|critical))"
_MARK_FIRST = re.compile(
    rf"(?P<mark>\*{{1,3}}|[↑↓]{{1,3}}|(?:H{{1,2}}|L{{1,2}})(?=\s))\s*(?P<rest>{_NUMBER}(?:\s.*|\D*))"
)
_MARK_INSIDE = re.compile(rf"(?P<value>{_NUMBER})\s*(?P<mark>[(\[]{_MARK}[)\]]|\s{_MARK}(?=\s))\s*(?P<unit>[^\s\d/].*)")
"""A mark between the number and its unit: "5.9 H mmol/L", "5.9 (H) mmol/L". In "0.38 L / L" L is a litre."""
_SIGN_BEHIND = re.compile(r"(?P<rest>.*\d.*)(?:(?<=[A-Za-z%\u00b2])|(?<=/m2))\s+(?P<sign>\+{1,3}|-{1,3})")
"""Signs of German laboratories behind a unit: "88 mg/L +", "3.1 mmol/L -". A plus behind a bare number makes it a grade
("3 +"), and a minus may be the start of a range."""
_UNIT_IN_BRACKETS = re.compile(rf"(?P<value>{_NUMBER})\s*[(\[]\s*(?P<unit>%|[^\s\d()\[\]]*/[^()\[\]]+)[)\]]")
_RANGE_INSIDE = re.compile(
    rf"(?P<value>{_NUMBER})\s*(?P<range>[(\[][^()\[\]]*\d[^()\[\]]*[)\]])\s*"
    r"(?!(?:[HLN]{1,2}\*{0,3}|\*{1,3}|[↑↓]{1,3})$)(?P<unit>[^\s\d()\[\]][^()\[\]]{0,20})"
)
"""A reference range between the number and its unit."""


def without_thousands(text: str) -> str:
    """Remove what parts thousands, and write a raised decimal point as a plain one, before white space is reduced."""
    return _MIDDLE_DOT.sub(".", _THOUSANDS.sub(lambda number: re.sub(r"\D", "", number[0]), text))


def plain_result(text: str, column: str) -> str:
    """Rewrite a result so that number, unit, mark and reference range stand in this order.

    Args:
        text: the cell of a column of numbers, in one line.
        column: name of the column.

    Returns:
        The same result. A text of another form comes back as it is.
    """
    text = text.removeprefix("'")  # Excel marks a text so
    if column == "height":
        behind = _FEET_BEHIND.fullmatch(text)
        if (inches := _inches(text if behind is None else behind["feet"])) is not None:
            return f"{inches:g} in" if behind is None else f"{behind['result']} ({inches:g} in)"
    text = _COMMA_GROUPS.sub(lambda number: number[0].replace(",", ""), text)
    if column == "age":  # "90+" hides the age of the oldest
        oldest = _OLDEST.fullmatch(text)
        return f"{oldest[1]} years+" if oldest is not None else _YEARS_OLD.sub(r"\1 years", text)
    if (match := _RANGE_INSIDE.fullmatch(text)) is not None:
        text = f"{match['value']} {match['unit']} {match['range']}"
    if (match := _UNIT_IN_BRACKETS.fullmatch(text)) is not None:
        text = f"{match['value']} {match['unit']}"
    if (match := _SIGN_BEHIND.fullmatch(text)) is not None:
        text = f"{match['rest']} ({match['sign']})"
    if (match := _MARK_INSIDE.fullmatch(text)) is not None:
        text = f"{match['value']} {match['unit']} {match['mark'].strip(' ()[]')}"
    if (match := _MARK_FIRST.fullmatch(text)) is not None:
        text = f"{match['rest']} {match['mark']}"
    return text


def _inches(text: str) -> float | None:
    """Read a height in feet and inches; None for another text, and if centimetres beside it are of another height."""
    pair = _WITH_CENTIMETRES.fullmatch(text)
    height = _FEET.fullmatch(text if pair is None else pair["feet"])
    if height is None:
        return None
    inches = float(height["all_inches"] or 12 * int(height["feet"] or 0) + float(height["inches"] or 0))
    if pair is None:
        return inches
    centimetres = float(pair["number"]) * (1 if pair["unit"].casefold() == "cm" else 100)
    return inches if abs(2.54 * inches - centimetres) <= CENTIMETRES_APART else None


__all__ = ["plain_result", "without_thousands"]
