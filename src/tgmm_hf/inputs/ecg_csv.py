"""Read an ECG from a text table: one column per lead, one row per sample.

The accepted form is narrow, because a table says little about itself:

    # sampling_rate: 500          or a column "time (s)" or "time (ms)"
    # units: mV                   or the unit behind each name: "I (mV)"
    I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6
    0.012,0.030,...

Comma, semicolon or tabulator separate the cells, and a point is the decimal sign. An empty cell is a missing sample.
"""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..utils.errors import InputRefusedError
from .ecg_recording import (
    UNIT_NOT_STATED,
    Channel,
    EcgRecording,
    millivolts_per_unit,
    normalise_lead_name,
    recording_from_channels,
    refuse_size,
)
from .input_limits import MIB, check_file, refusing

CSV_SUFFIXES = (".csv", ".tsv")
MAX_CSV_BYTES = 16 * MIB
"""A larger table is refused. Ten seconds of twelve leads at 1,000 Hz take about 1 MiB."""
MAX_COLUMNS = 256
"""A table with more columns is no ECG."""
RATE_TOLERANCE = 0.001
"""Largest relative difference between two statements of the sampling rate; times are often rounded to milliseconds."""

_FORM = 'write "# sampling_rate: 500" above the header, or add a column "time (s)" or "time (ms)"'
_COMMENT = re.compile(r"#\s*(sampling[_ ]?rate|fs|units?)\s*[:=]\s*(.{1,40}?)\s*", re.IGNORECASE)
_RATE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)\s*(?:hz)?", re.IGNORECASE)
_HEADER_CELL = re.compile(r"(.{1,60}?)\s*[(\[]\s*([^()\[\]]{1,20}?)\s*[)\]]")
_TIME_NAMES = ("time", "t", "elapsed time")
_SECONDS = {"s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "millisecond": 1e-3, "milliseconds": 1e-3}
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,15}\.?[0-9]{0,20}|\.[0-9]{1,20})(?:e[+-]?[0-9]{1,3})?", re.IGNORECASE)
_MISSING = ("", "nan", "na", "n/a", "null")


class _Table(NamedTuple):
    """A table before its columns are understood.

    Attributes:
        header: cells of the header.
        values: (rows, columns), NaN for an empty cell.
        rate: sampling rate (Hz) of a comment, or None.
        unit: unit of a comment, or "".
    """

    header: list[str]
    values: np.ndarray
    rate: float | None
    unit: str


def is_csv_ecg(path: Path, head: bytes) -> bool:
    """Tell whether a file is a text table with leads in its header, or is named like a table.

    Args:
        path: the file; `.csv` and `.tsv` are tables whatever they hold.
        head: its first bytes.
    """
    if path.suffix.lower() in CSV_SUFFIXES:
        return True
    lines = _comments_and_rows(head.decode("utf-8-sig", errors="ignore"))[1]
    return bool(lines) and len(_lead_cells(re.split(r"[,;\t]", lines[0][:10_000]))) > 1


def read_csv_ecg(path: Path) -> EcgRecording:
    """Read a text table as an ECG.

    Args:
        path: the file.

    Returns:
        `EcgRecording` in millivolts, or in normalised units if the table says so.

    Raises:
        InputRefusedError: if sampling rate, unit, leads or numbers are missing or contradict each other.
    """
    check_file(path)
    if path.stat().st_size > MAX_CSV_BYTES:
        raise InputRefusedError(
            str(path),
            f"the table has {path.stat().st_size / MIB:,.0f} MiB, the limit is {MAX_CSV_BYTES / MIB:.0f} MiB: cut it "
            "to the part that the model shall read",
        )
    with refusing(path):
        table = _read_table(path)
        time, names, units = _understand_header(table, path)
        rate = _sampling_rate(table, time, path)
        channels = [
            Channel(name, units[index], table.values[:, index], rate)
            for index, name in enumerate(names)
            if index != time
        ]
        return recording_from_channels(channels, str(path))


# ---- the text


def _read_table(path: Path) -> _Table:
    """Read comments, header and numbers; refuse what is no table of numbers."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputRefusedError(str(path), "the table is not in UTF-8: save it as CSV UTF-8") from error
    comments, lines = _comments_and_rows(text)
    if len(lines) < 2:
        raise InputRefusedError(str(path), "the table has no header with rows below it: nothing to read")
    separator = _separator(lines[0], path)
    rows = csv.reader(io.StringIO("\n".join(lines)), delimiter=separator)
    try:
        header = [cell.strip() for cell in next(rows)]
        if len(header) > MAX_COLUMNS:
            raise InputRefusedError(str(path), f"{len(header):,} columns, the limit is {MAX_COLUMNS}: no ECG")
        refuse_size(path, len(header) * (len(lines) - 1))
        values = np.array(list(_numbers(rows, len(header), separator, path)), dtype=np.float64)
    except csv.Error as error:
        raise InputRefusedError(str(path), "the table cannot be split into cells: its quotes are damaged") from error
    rate, unit = _stated(comments, path)
    return _Table(header, values, rate, unit)


def _comments_and_rows(text: str) -> tuple[list[str], list[str]]:
    """Split a text into the comments above the header, and the lines from the header on without empty ones."""
    lines = [line for line in text.splitlines() if line.strip(" \t\r")]
    first = next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return lines[:first], lines[first:]


def _separator(header: str, path: Path) -> str:
    """Find the one sign that separates the cells of the header."""
    present = [sign for sign in ",;\t" if sign in header]
    if len(present) != 1:
        what = "several kinds of" if present else "no"
        raise InputRefusedError(
            str(path),
            f"the header of the table has {what} separators: separate the cells by commas, semicolons or tabs",
        )
    return present[0]


def _numbers(rows: Iterator[list[str]], columns: int, separator: str, path: Path) -> Iterator[list[float]]:
    """Convert the rows below the header; refuse a row of another length and a cell that is no number."""
    for number, row in enumerate(rows, start=2):
        if len(row) != columns:
            raise InputRefusedError(
                str(path),
                f"row {number} of the table has {len(row)} cells, the header has {columns}: the file is damaged",
            )
        yield [_number(cell.strip(), number, separator, path) for cell in row]


def _number(cell: str, row: int, separator: str, path: Path) -> float:
    """Convert one cell; an empty cell gives NaN. The text of a cell is not repeated, because it may be private."""
    if _NUMBER.fullmatch(cell):
        return float(cell)
    if cell.lower() in _MISSING:
        return float("nan")
    comma = "," in cell and separator != ","
    remedy = "write a decimal point instead of a comma" if comma else "leave a missing sample empty"
    raise InputRefusedError(str(path), f"row {row} of the table holds a cell that is no number: {remedy}")


def _stated(comments: list[str], path: Path) -> tuple[float | None, str]:
    """Read sampling rate and unit from the comments above the header; refuse two different statements."""
    rates, units = set(), set()
    for line in comments:
        match = _COMMENT.fullmatch(line.strip())
        if match is None:
            continue
        if match.group(1).lower().startswith("unit"):
            units.add(match.group(2))
            continue
        rate = _RATE.fullmatch(match.group(2))
        if rate is None or not float(rate.group(1)):
            raise InputRefusedError(str(path), f"the sampling rate above the header is no number of Hz: {_FORM}")
        rates.add(float(rate.group(1)))
    if len(rates) > 1 or len(units) > 1:
        raise InputRefusedError(str(path), "two comments above the header contradict each other: keep the right one")
    return (rates.pop() if rates else None), (units.pop() if units else "")


# ---- the columns


def _understand_header(table: _Table, path: Path) -> tuple[int | None, list[str], list[str]]:
    """Tell time column, channels and units apart.

    Returns:
        Three elements: the index of the time column, or None; the name of every column; the unit of every column.
    """
    cells = [_split_cell(cell) for cell in table.header]
    if not _lead_cells(table.header):
        numbers = sum(_NUMBER.fullmatch(cell) is not None for cell in table.header)
        hint = "the first row holds numbers" if numbers else "none of its columns is a lead"
        raise InputRefusedError(
            str(path),
            f"{hint}: the table needs a header with one column per lead (I, II, ... V6) and one row per sample",
        )
    times = [index for index, (name, _) in enumerate(cells) if name.lower() in _TIME_NAMES]
    if len(times) > 1:
        raise InputRefusedError(str(path), f"{len(times)} columns are named time: keep one of them")
    names = [name for name, _ in cells]
    for index, (name, unit) in enumerate(cells):
        if index in times or normalise_lead_name(name) is None:
            continue
        if unit and table.unit and not _same_unit(unit, table.unit):
            raise InputRefusedError(str(path), f"column {index + 1} and the comment state different units: keep one")
        if not unit and not table.unit:
            raise InputRefusedError(
                str(path), f'column {index + 1} has no unit: name it "I (mV)", or write "# units: mV" above the header'
            )
    units = [unit or table.unit or UNIT_NOT_STATED for _, unit in cells]
    return (times[0] if times else None), names, units


def _split_cell(cell: str) -> tuple[str, str]:
    """Split "I (mV)" into name and unit. "Lead I (Einthoven)" has no unit, because the brackets hold no unit."""
    match = _HEADER_CELL.fullmatch(cell)
    if match is None:
        return cell, ""
    name, unit = match.groups()
    is_time = name.lower() in _TIME_NAMES
    return (name, unit) if is_time or _is_unit(unit) else (cell, "")


def _is_unit(text: str) -> bool:
    """Tell whether a text in brackets is a unit: a voltage, or short letters that are refused as an unknown unit."""
    try:
        return bool(millivolts_per_unit(text))
    except ValueError:
        return text.lower() in (
            "nu",
            "normalised",
            "normalized",
            "a.u.",
            "au",
            "adc",
            "raw",
            "counts",
            "lsb",
            "dv",
            "cv",
        )


def _same_unit(first: str, second: str) -> bool:
    """Tell whether two spellings are one unit."""
    try:
        return millivolts_per_unit(first) == millivolts_per_unit(second)
    except ValueError:
        return first.lower() == second.lower()


def _lead_cells(header: list[str]) -> list[str]:
    """List the cells of a header that name leads."""
    names = [_split_cell(cell.strip(' "'))[0] for cell in header]
    return [name for name in names if normalise_lead_name(name)]


def _sampling_rate(table: _Table, time: int | None, path: Path) -> float:
    """Return the sampling rate (Hz) of the comment or of the time column; refuse none, and two that differ."""
    if time is None:
        if table.rate is None:
            raise InputRefusedError(str(path), f"the table does not state its sampling rate: {_FORM}")
        return table.rate
    unit = _split_cell(table.header[time])[1].lower()
    if unit not in _SECONDS:
        raise InputRefusedError(str(path), 'the time column states no unit: name it "time (s)" or "time (ms)"')
    rate = _rate_of_times(table.values[:, time] * _SECONDS[unit], path)
    if table.rate is None:
        return rate
    if abs(rate - table.rate) > RATE_TOLERANCE * table.rate:
        raise InputRefusedError(
            str(path), f"the comment states {table.rate:g} Hz, the time column gives {rate:g} Hz: keep the right one"
        )
    return table.rate


def _rate_of_times(times: np.ndarray, path: Path) -> float:
    """Compute the sampling rate (Hz) of evenly spaced times (rows,) in seconds.

    Times that are rounded to milliseconds pass. A missing row, a repeated row or a jump is refused, because the model
    reads evenly spaced samples.
    """
    steps = np.diff(times)
    mean = float((times[-1] - times[0]) / max(len(steps), 1))
    if (
        not len(steps)
        or not np.isfinite(steps).all()
        or not mean > 0
        or steps.min() < 0.3 * mean
        or steps.max() > 1.7 * mean
    ):
        raise InputRefusedError(
            str(path), "its times are not evenly spaced: a row is missing, repeated, or the times are rounded too much"
        )
    rate = 1 / mean
    whole = round(rate)
    return float(whole) if whole and abs(rate - whole) <= RATE_TOLERANCE * whole else rate
