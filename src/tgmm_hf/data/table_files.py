"""Read the file of a table, CSV or Parquet: names of the columns, and each row as column -> cell.

Nothing is guessed. A CSV file that is not UTF-8 is read only if its first bytes name the encoding, or if the caller
names it. The columns may be separated by commas, by semicolons, as Excel writes them in
Germany and France, by tabs or by vertical bars.
"""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tgmm_hf.data.decimal_cells import has_decimal_comma, has_decimal_point, with_decimal_point
from tgmm_hf.data.parquet_rows import read_parquet_rows
from tgmm_hf.data.table_separators import SEPARATORS, filled_cells, header_line, separator_of
from tgmm_hf.inputs.lab_columns import find_column
from tgmm_hf.utils.csv_files import plain_cell
from tgmm_hf.utils.errors import TgmmError

MAX_ROWS = 2_000_000
"""Largest number of rows of a table. A Parquet file of 85 KB can hold 20 million rows and ask for all the memory."""
MAX_CELL = 16 * 2**20
"""Largest number of letters in one cell of a CSV file. The default of Python is 131,072."""
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""First bytes of a file -> its encoding. UTF-32 comes before UTF-16, because its mark begins with that of UTF-16."""
OTHER_CONTENT = {
    b"PK\x03\x04": "an Excel workbook (.xlsx) or another ZIP archive: save the sheet as CSV UTF-8",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook (.xls): save the sheet as CSV UTF-8",
    b"\x1f\x8b": "compressed with gzip: unpack it first (gunzip)",
    b"BZh": "compressed with bzip2: unpack it first (bunzip2)",
    b"\xfd7zXZ": "compressed with xz: unpack it first (unxz)",
    b"(\xb5/\xfd": "compressed with Zstandard: unpack it first (unzstd)",
}
"""First bytes of a file that is no table -> what it is, and what to do."""
UNITS_KEY = b"tgmm_units"
"""Key of a Parquet table's metadata: the unit system of its laboratory values, for numbers without a unit."""
NO_NUMBERS = ("id", "patient_id", "split", "ecg_path", "echo_paths", "echo_views")
"""Columns whose cells are never numbers with a decimal sign."""
_UNIT_WORDS = re.compile(
    r"\b(?:units?|SI|US|conventional|konventionell\w*|einheit(?:en)?|unit[\u00e9e]s?|\w*mol|m?g|mEq)\b"
    r"|\b(?:lbs?|pounds?|inch(?:es)?|feet|cm|kg|sec|sek|\w*kat|IU|mm3|percent|prozent)\b|%|/\s?d?L\b|\u5355\u4f4d",
    re.IGNORECASE,
)
"""Words of a title that may say how the values are to be read."""
_STARTS_AS_NUMBER = re.compile(r"[<>]?=?\s*[+-]?\.?\d")


class CohortTableError(TgmmError):
    """A table that cannot be used. The message names the column or the rows, and what to do.

    Attributes:
        kind (`str`): The reason without values of patients, for reports.
        row (`int | None`): The row, counted from 1.
    """

    def __init__(self, item: str, reason: str, kind: str = "", row: int | None = None):
        super().__init__(item, reason)
        self.kind = kind or reason
        self.row = row

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep all four values when the error is sent between processes."""
        return type(self), (self.item, self.reason, self.kind, self.row)


class Faults:
    """Collects the faults of a table, or raises the first one.

    Args:
        collect: Keep the faults and go on.
    """

    def __init__(self, collect: bool = False):
        self.collect = collect
        self.found: list[CohortTableError] = []

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Run a block. A `CohortTableError` ends the block and is kept, or raised."""
        try:
            yield
        except CohortTableError as error:
            if not self.collect:
                raise
            self.found.append(error)


@dataclass(frozen=True)
class TableFormat:
    """How a table file is written, where the file itself does not say it.

    Attributes:
        encoding: Encoding of a CSV file, such as "cp1252". None means UTF-8, or what the first bytes of the file say.
        decimal: Decimal sign of the numbers in a CSV file, "." or ",".
        max_rows: A larger table is refused before its rows are read.
    """

    encoding: str | None = None
    decimal: str = "."
    max_rows: int = MAX_ROWS

    def __post_init__(self) -> None:
        """Check the encoding and the decimal sign."""
        if self.decimal not in (".", ","):
            raise TgmmError("the decimal sign", f"{self.decimal!r} is not known. It is . or ,")
        if self.encoding is not None:
            try:
                "".encode(self.encoding)
            except LookupError:
                raise TgmmError(
                    "the encoding", f"{self.encoding!r} is not known. Examples are cp1252, latin-1 and utf-16."
                ) from None


DEFAULT_FORMAT = TableFormat()


@dataclass(frozen=True)
class RawTable:
    """The content of a table file, not checked.

    Attributes:
        names: Names of the columns.
        rows: Column -> cell. A cell of a CSV file is text.
        notes: What was ignored or assumed.
        units: Unit system of the laboratory values that a Parquet table declares (`UNITS_KEY`), None without one.
    """

    names: list[str]
    rows: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)
    units: str | None = None


def read_table(path: Path, table_format: TableFormat = DEFAULT_FORMAT, what: str = "the cohort table") -> RawTable:
    """Read a .parquet or .csv file.

    Args:
        path: The file.
        table_format: How it is written.
        what: The table in words, for error messages.

    Raises:
        CohortTableError: If the file is missing, of another kind, unreadable, too large or empty, or a column name
            occurs twice.
    """
    if not path.is_file():
        kind = "is a directory" if path.is_dir() else "is no file (a pipe or a device): save the table as a file"
        raise CohortTableError(what, f"{path} {kind if path.exists() else 'does not exist'}.")
    readers = {".parquet": _read_parquet, ".csv": read_csv}
    suffix = path.suffix.lower()
    _refuse_other_content(path, suffix)
    if suffix not in readers:
        raise CohortTableError(
            path.name, f"{what} is .parquet or .csv, not {path.suffix or 'without ending'}. Convert it."
        )
    table = _without_empty_columns(readers[suffix](path, table_format))
    if repeated := [name for name, count in Counter(table.names).items() if count > 1]:
        raise CohortTableError(path.name, f"column(s) {', '.join(repeated)} occur twice. Rename or remove them.")
    if not table.rows:
        raise CohortTableError(path.name, "the table has no rows.")
    return table


def _refuse_other_content(path: Path, suffix: str) -> None:
    """Refuse a spreadsheet or a compressed file by its first bytes, whatever its name is.

    Raises:
        CohortTableError: With what to do.
    """
    with path.open("rb") as file:
        start = file.read(8)
    kind = next((kind for mark, kind in OTHER_CONTENT.items() if start.startswith(mark)), None)
    if kind is not None:
        raise CohortTableError(path.name, f"the file is {kind}, not {suffix or 'a table'}.")
    is_parquet = start.startswith(b"PAR1")
    if suffix == ".csv" and is_parquet:
        raise CohortTableError(path.name, "the file is a Parquet table. Name it .parquet.")


def _read_parquet(path: Path, table_format: TableFormat) -> RawTable:
    try:
        with pq.ParquetFile(path) as file:
            _check_rows(path, file.metadata.num_rows, table_format)
            units = (file.schema_arrow.metadata or {}).get(UNITS_KEY)
        names, rows = read_parquet_rows(path)
        return RawTable(names, rows, [], None if units is None else units.decode())
    except TgmmError as error:
        raise CohortTableError(error.item, error.reason) from error
    except (pa.ArrowException, ValueError, OSError) as error:  # a ValueError: a date that Python cannot hold
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the file system, not the content
        raise CohortTableError(path.name, f"not a readable Parquet file ({type(error).__name__}).") from error


def declare_canonical_units(table: pa.Table) -> pa.Table:
    """Return a cohort table whose metadata say that its laboratory values are in canonical units, and nothing else."""
    return declare_units_of_table(table, "US")


def declare_units_of_table(table: pa.Table, system: str) -> pa.Table:
    """Return a cohort table whose metadata name the unit system of its laboratory values, "US" or "SI"."""
    return table.replace_schema_metadata({UNITS_KEY: system.encode()})


def read_csv(path: Path, table_format: TableFormat = DEFAULT_FORMAT) -> RawTable:
    """Read a CSV file with any separator of `separator_of`. Empty columns and names that occur twice are kept.

    Raises:
        CohortTableError: If the file cannot be read, is not in the encoding, has too many rows, or has rows with
            another number of cells than the header.
    """
    text, notes = _text_of(path, table_format)
    if text[:4].lower() == "sep=":  # a line of Excel for itself
        text = text.partition("\n")[2]
    with _large_cells():
        text, titles = _without_titles(path, text)
        separator = separator_of(text)
        names, raw_rows = _split(path, text, separator, table_format)
    notes += titles
    if separator != ",":
        notes.append(f"the columns are separated by {SEPARATORS[separator]}")
    while raw_rows and not any(cell.strip() for cell in raw_rows[-1]):
        raw_rows.pop()  # Excel adds empty rows at the end
    if broken := [number for number, cells in enumerate(raw_rows, start=1) if len(cells) != len(names)]:
        raise CohortTableError(
            path.name,
            f"row(s) {first_few(broken)} have another number of cells than the header. Put a cell that holds a comma "
            "or semicolon into quotes.",
        )
    raw_rows = _with_decimal_points(path, names, raw_rows, separator, table_format)
    rows = [dict(zip(_distinct(names), map(plain_cell, cells), strict=True)) for cells in raw_rows]
    return RawTable(names, rows, notes)


def _without_titles(path: Path, text: str) -> tuple[str, list[str]]:
    """Leave out the lines above the header that hold one text each, as a title does.

    This is done only if no doubt is left: the next line names two columns or more, and the lines hold no digit first.

    Returns:
        The text from the header on, and a note if lines were left out.

    Raises:
        CohortTableError: If a title may name a unit or a unit system, because the values depend on it.
    """
    number, header = header_line(text)
    titles = text.split("\n", number)[:number]
    is_header = not any(_STARTS_AS_NUMBER.match(cell) for cell in header) and len(set(header)) == len(header)
    if not any(map(filled_cells, titles)) or not is_header:
        return text, []
    if any(_UNIT_WORDS.search(line) for line in titles):
        raise CohortTableError(
            path.name,
            "a line above the header may name units. Remove it, and name the units with --units or in the columns.",
        )
    note = f"{number} line(s) above the header hold one text each and were left out as a title"
    return text.split("\n", number)[number], [note]


def first_few(items: list[Any], limit: int = 5) -> str:
    """Write the first items of a list, with ", ..." if there are more."""
    text = ", ".join(str(item) for item in items[:limit])
    return f"{text}, ..." if len(items) > limit else text


def _text_of(path: Path, table_format: TableFormat) -> tuple[str, list[str]]:
    """Decode the file: its text, and a note if the encoding is not UTF-8.

    A byte order mark at the start of a later line stands there where files were joined. It is left out.

    Raises:
        CohortTableError: If the file is not in the encoding, or holds zero bytes. The message names the encodings that
            Excel writes.
    """
    content = path.read_bytes()
    named = table_format.encoding
    by_mark = next((encoding for mark, encoding in MARKS if content.startswith(mark)), None)
    encoding = by_mark or named or "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        asked = f"not a readable CSV file in {'UTF-8' if encoding == 'utf-8-sig' else encoding}"
        raise CohortTableError(
            path.name,
            f"{asked}: line {line} holds the byte 0x{content[error.start]:02x}. Save the table as UTF-8 (in Excel: CSV "
            "UTF-8), or name its encoding with --encoding. Windows in Western Europe writes cp1252.",
        ) from None
    if "\x00" in text:
        raise CohortTableError(
            path.name,
            f"line {text.count(chr(10), 0, text.index(chr(0))) + 1} holds a zero byte: the file is damaged, or it is "
            "UTF-16 without a mark at its start. Save the table as UTF-8, or name its encoding with --encoding.",
        )
    notes = [] if encoding == "utf-8-sig" else [f"read as {encoding}"]
    joined = re.sub(r"(?m)^\ufeff", "", text)
    if joined != text:
        notes.append("a line inside of the table began with a byte order mark, as where files were joined: look at it")
    return joined, notes


def _split(path: Path, text: str, separator: str, table_format: TableFormat) -> tuple[list[str], list[list[str]]]:
    """Split the text of a CSV file into header and rows. Lines without any cell are left out."""
    rows: list[list[str]] = []
    names: list[str] | None = None
    try:
        for cells in csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True):
            if names is None:
                names = [name.strip() for name in cells]
            elif cells:
                rows.append(cells)
                _check_rows(path, len(rows), table_format)
    except csv.Error as error:
        raise CohortTableError(path.name, f"not a readable CSV file: {error}.") from error
    return names or [], rows


@contextmanager
def _large_cells() -> Iterator[None]:
    """Let `csv` read cells of up to `MAX_CELL` letters."""
    usual = csv.field_size_limit(MAX_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(usual)


def _with_decimal_points(
    path: Path, names: list[str], rows: list[list[str]], separator: str, table_format: TableFormat
) -> list[list[str]]:
    """Write the numbers of a table with a point if its decimal sign is a comma. 5.210 is then 5210.

    Raises:
        CohortTableError: If a table with semicolons holds numbers with a comma and the decimal sign was not named; or
            if the comma is the decimal sign and a number has a decimal point.
    """
    is_number = [_may_hold_numbers(name) for name in names]
    if table_format.decimal == ",":
        with_point = _rows_with(has_decimal_point, rows, is_number)
        if with_point:
            raise CohortTableError(
                path.name,
                f"the comma was named as decimal sign, but {len(with_point)} row(s) hold numbers with a decimal point "
                f"(row {first_few(with_point)}). Write all numbers in one way.",
            )
        return [
            [with_decimal_point(cell) if may else cell for may, cell in zip(is_number, row, strict=True)]
            for row in rows
        ]
    with_comma = _rows_with(has_decimal_comma, rows, is_number)
    if separator != "," and with_comma:
        raise CohortTableError(
            path.name,
            f"columns are separated by {SEPARATORS[separator]}, and {len(with_comma)} row(s) hold numbers with a comma "
            f"(row {first_few(with_comma)}). If the comma is the decimal sign, say so with --decimal ,",
        )
    return rows


def _may_hold_numbers(name: str) -> bool:
    """Tell whether the cells of a column may be numbers. A dose in a history of drugs ("5,000 units") is text."""
    column = find_column(name.removeprefix("labs."))
    return name not in NO_NUMBERS and (column is None or column.plausible is not None)


def _rows_with(is_found: Callable[[str], bool], rows: list[list[str]], is_number: list[bool]) -> list[int]:
    """List the numbers of the rows in which a cell of a column of numbers is found."""
    return [
        number
        for number, row in enumerate(rows, start=1)
        if any(may and is_found(cell) for may, cell in zip(is_number, row, strict=True))
    ]


def _check_rows(path: Path, number: int, table_format: TableFormat) -> None:
    if number > table_format.max_rows:
        raise CohortTableError(
            path.name,
            f"the table has more than {table_format.max_rows:,} rows. Cut it into parts, or raise the limit with "
            "--max-rows if it is right.",
        )


def _distinct(names: list[str]) -> list[str]:
    """Give each empty name its position, so that no cell of such a column is lost before it is looked at."""
    return [name or f"\0{position}" for position, name in enumerate(names, start=1)]


def _without_empty_columns(table: RawTable) -> RawTable:
    """Leave out the columns without a name, which Excel adds, and note them."""
    nameless = [position for position, name in enumerate(table.names, start=1) if not name.strip()]
    if not nameless:
        return table
    keys = [f"\0{position}" for position in nameless] + [name for name in table.names if not name.strip()]
    filled = sum(any(str(row.get(key) or "").strip() for key in keys) for row in table.rows)
    note = f"{len(nameless)} column(s) without a name are ignored"
    if filled:
        note += f", although {filled} row(s) have a value there. Name these columns if they matter"
    rows = [{name: cell for name, cell in row.items() if name not in keys} for row in table.rows]
    return replace(table, names=[name for name in table.names if name.strip()], rows=rows, notes=[*table.notes, note])
