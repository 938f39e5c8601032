"""Write CSV files that a spreadsheet opens without running a formula.

A spreadsheet takes a cell that begins with =, +, - or @ for a formula. A formula can send the table to a stranger.
Every writer of names, reasons and other free text uses [`write_csv_file`], or [`csv_text`] for the text alone. A file
that another command reads back by name is written so too, because the table reader takes the apostrophe away again
([`plain_cell`]).
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from tgmm_hf.utils.files import whole_file

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""First letters that make a spreadsheet compute a cell (OWASP, "CSV Injection")."""
_PLAIN_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)?(?:[eE][+-]?\d+)?")


def safe_cell(value: Any) -> Any:
    """Put an apostrophe before a text that a spreadsheet would take for a formula.

    Args:
        value: Content of a cell. Numbers and None come back unchanged. A text that is a plain number, such as "-3", is
            no formula and comes back unchanged too.
    """
    if not isinstance(value, str) or not value.startswith(FORMULA_STARTS) or _PLAIN_NUMBER.fullmatch(value):
        return value
    return f"'{value}"


def plain_cell(value: Any) -> Any:
    """Take away the apostrophe that [`safe_cell`] put before a text."""
    return value[1:] if isinstance(value, str) and value[:1] == "'" and value[1:].startswith(FORMULA_STARTS) else value


def write_csv_file(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV file in UTF-8, whole or not at all, with a header and without formulas.

    Args:
        path: File to write. Missing directories are made.
        columns: Names of the columns, in order.
        rows: Column -> cell. A missing cell is empty. Half of a character, which UTF-8 cannot hold, is written as its
            number.
    """
    with whole_file(path) as building:
        building.write_text(csv_text(columns, rows), encoding="utf-8", errors="backslashreplace", newline="")


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Write rows as the text of a CSV file, with a header and without formulas.

    Args:
        columns: Names of the columns, in order.
        rows: Column -> cell. A missing cell is empty.
    """
    buffer = io.StringIO()
    write_csv(buffer, columns, rows)
    return buffer.getvalue()


def write_csv(file: TextIO, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write what [`csv_text`] returns into an open file, row by row. Open it with `newline=""`."""
    plain = csv.writer(file, lineterminator="\n")
    quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)  # `plain` leaves a lone "\r" unquoted
    plain.writerow([safe_cell(name) for name in columns])
    for row in rows:
        cells = [safe_cell(row.get(name, "")) for name in columns]
        (quoted if any("\r" in str(cell) for cell in cells) else plain).writerow(cells)


__all__ = ["FORMULA_STARTS", "csv_text", "plain_cell", "safe_cell", "write_csv", "write_csv_file"]
