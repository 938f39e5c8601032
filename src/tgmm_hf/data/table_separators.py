"""Find the sign between the columns of a CSV text, and the titles above its header."""

import csv
import io
import re

MAX_TITLES = 3
"""Largest number of lines above the header that are taken for a title."""
LOOKED_AT = 50
"""Lines that are looked at to tell a title from the table."""
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
"""Signs between columns beside the comma, in words."""


def header_line(text: str) -> tuple[int, list[str]]:
    """Find the first line with two filled cells or more. A title may hold a tab, a vertical bar or a comma.

    Tabs and bars of a line are signs of a title if they do not split the whole table, and the line with the first
    comma or semicolon holds none. Lines that do not split as the lines below are titles, too, if they have at most
    half as many cells.

    Returns:
        The number of the line, counted from 0, and its filled cells; line 0 if no line has two cells.
    """
    lines = text.split("\n", MAX_TITLES + 1)[: MAX_TITLES + 1]
    by_comma = next((index for index, line in enumerate(lines) if len(filled_cells(line, ",;")) > 1), None)
    by_any = next((index for index, line in enumerate(lines) if len(filled_cells(line)) > 1), 0)
    if by_comma is None or by_comma == by_any or re.search(r"[\t|]", lines[by_comma]):
        number = _lines_unlike_the_rest(text) or by_any
        return number, filled_cells(lines[number], separator_of(lines[number]) if number > by_any else ",;\t|")
    table = text.split("\n", by_any)[by_any]
    if any(sign in lines[by_any] and _cells_by(sign, table) for sign in "\t|"):
        return by_any, filled_cells(lines[by_any])
    return by_comma, filled_cells(lines[by_comma], ",;")


def _lines_unlike_the_rest(text: str) -> int:
    """Count the first lines that no sign splits as the lines below, and that may be titles."""
    lines = text.split("\n", LOOKED_AT)[:LOOKED_AT]
    for number in range(min(MAX_TITLES + 1, len(lines))):
        rest = "\n".join(lines[number:])
        cells = _cells_by(separator_of(rest), rest)
        if cells and lines[number].strip() and all(_may_be_title(line, cells) for line in lines[:number]):
            return number
    return 0


def _may_be_title(line: str, cells: int) -> bool:
    """Tell whether a line holds at most half of the cells of a table, and no number first, as a row may do."""
    return 2 * len(filled_cells(line)) <= cells and not line.lstrip()[:1].isdigit()


def filled_cells(line: str, signs: str = ",;\t|") -> list[str]:
    """Split a line at any of the signs outside of quotes, and leave out empty cells."""
    sign = f"[{re.escape(signs)}]"
    plain = re.sub(r'"[^"]*"', lambda quoted: re.sub(sign, " ", quoted[0]), line.strip())
    cells = re.split(sign, plain.strip('"'))
    return [cell.strip() for cell in cells if cell.strip()]


def separator_of(text: str) -> str:
    """Find the sign between the columns by the header: a comma if no other sign gives more columns.

    A name such as "Calcium, Total" may hold a comma. So of several signs in the header, the one wins that splits all
    rows into as many cells as the header, into most cells. If no sign does, a tab or a vertical bar wins only if the
    header has neither a comma nor a semicolon.
    """
    header = next(iter(text.splitlines()), "")
    signs = [sign for sign in ("\t", "|", ";", ",") if sign in header]
    if len(signs) < 2:
        return signs[0] if signs else ","
    by_sign = {sign: _cells_by(sign, text) for sign in signs}
    if by_sign.get("\t") == 0 and all("\t" in line for line in text.splitlines() if line.strip()):
        return "\t"  # rows of different length, which the caller refuses
    best = max(signs, key=lambda sign: by_sign[sign])  # the first one of several
    if by_sign[best]:
        return best
    if "," not in header and ";" not in header:
        return signs[0]
    by_sign = {sign: len(next(csv.reader([header], delimiter=sign), [])) for sign in (",", ";")}
    return ";" if by_sign[";"] > by_sign[","] else ","


def _cells_by(sign: str, text: str) -> int:
    """Count the cells of each row if a sign stands between the columns; 0 if the rows differ or have one cell."""
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=sign, strict=True)
        counts = {len(cells) for cells in rows if any(cell.strip() for cell in cells)}
    except csv.Error:
        return 0
    number = counts.pop() if len(counts) == 1 else 0
    return number if number > 1 else 0
