"""Write the results of a table whose decimal sign is a comma with a point, also beside a unit, a mark or a range."""

import re

MAX_LENGTH, MAX_PARTS = 60, 4
"""Letters of a result, and parts behind its number: a unit, marks and a reference range."""
_MARK = r"(?:[*+\-↑↓]{1,3}|[(\[][*+\-↑↓HLA]{1,3}[)\]]|(?:HH?|LL?|A)\*{0,2}(?![^\W_]))"
_NUMBER = re.compile(rf"\s*(?:{_MARK}\s*)?[<>≤≥]?=?\s*[+-]?\s?\d+(?:[.,]\d+)*")
_PART = re.compile(
    rf"\s*(?:(?P<word>{_MARK}|[(\[][^()\[\]]*\d[^()\[\]]*[)\]]|%|[^\s.,;()\[\]/]*/[^\s()\[\]]+)|[^\W\d_]{{1,7}}[²³.]?)(?!\w)"
)
"""A mark, a range in brackets or a unit with "%" or "/"; or a unit in letters, such as "cm" or "sec"."""
_GROUPED = re.compile(r"(?<![\d.,:])[1-9]\d{0,2}(?:\.\d{3})+(?:,\d+)?(?![\d.,])")
"""A number whose thousands are set apart by points: 5.210 or 1.250,5."""
_DECIMAL = re.compile(r"(?<![\d.,:])\d+,\d+(?![\d.,])")


def has_decimal_comma(cell: str) -> bool:
    """Tell whether a cell is a result with a comma in a number. A dose such as "5,000 units" is none."""
    return "," in cell and _words_of_result(cell) == 0 and _DECIMAL.search(cell) is not None


def has_decimal_point(cell: str) -> bool:
    """Tell whether a cell is a result with a decimal point in a number, whose points do not set thousands apart."""
    if "." not in cell or _words_of_result(cell) not in (0, 1):
        return False
    return re.search(r"(?<![\d.,:])\d*\.\d+(?![\d.,])", _GROUPED.sub("", cell)) is not None


def with_decimal_point(cell: str) -> str:
    """Write the numbers of a result whose decimal sign is a comma with a point; any other text comes back as it is.

    5.210 is then 5210, and a date such as 12.03.2026 stays.
    """
    if not ("," in cell or "." in cell) or _words_of_result(cell) not in (0, 1):
        return cell
    cell = _GROUPED.sub(lambda number: number[0].replace(".", "").replace(",", "."), cell)
    return _DECIMAL.sub(lambda number: number[0].replace(",", "."), cell)


def _words_of_result(cell: str) -> int | None:
    """Count the units in letters behind a number; None if the cell is no number with at most `MAX_PARTS` parts."""
    cell, words = cell.rstrip(), 0
    part = _NUMBER.match(cell) if len(cell) <= MAX_LENGTH else None
    for _ in range(MAX_PARTS + 1):
        if part is None or part.end() == len(cell):
            break
        part = _PART.match(cell, part.end())
        words += part is not None and part["word"] is None
    return words if part is not None and part.end() == len(cell) else None
