"""Laboratory row -> sentences for the text encoder: column table, aliases, units, reference ranges, template.

One sentence per present cell, "<column name> of the <object> is <value>" (paper, section 5.1), joined by
`SEPARATOR`; a missing cell leaves no trace. `COLUMNS` is at once the column order of the text and the priority by
which a row that is too long is cut: earlier means more important; columns that are not in the table follow
alphabetically. Values stay in physical units; nothing here is clinical advice.

Sources
-------
Column names and canonical units: MIMIC-IV `d_labitems` / `labevents.valueuom`. Reference ranges: the commonest
`ref_range_lower`, `ref_range_upper` in MIMIC-IV `labevents` per sex, except where a comment says otherwise.
Molar masses (g/mol, IUPAC 2021 atomic weights): creatinine 113.12, glucose 180.16, urea 60.056 with 28.014 of nitrogen,
calcium 40.078, magnesium 24.305, phosphorus 30.974, bilirubin 584.66, lactic acid 90.08, cholesterol 386.65,
triolein (for triglycerides) 885.4, uric acid 168.11, iron 55.845, haemoglobin monomer 16,114.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Real
from typing import Any

from .lab_columns import (
    _ALIAS_FACTORS_BY_KEY,
    _BY_KEY,
    _POSITION,
    COLUMNS,
    GENDERS,
    LabColumn,
    _find_factor,
    _key,
    _suggestion,
    _unit_key,
    find_column,
)

SEPARATOR = "; "  # not ". ", which a WordPiece tokenizer cannot tell from a decimal point

_NUMBER = re.compile(
    r"(?P<sign><=|>=|<|>|≤|≥)?\s*(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?:\s*(?P<unit>[^\s\d.,\-<>].*))?"
)
_COMMA_NUMBER = re.compile(r"[<>≤≥]?=?\s*[+-]?\d+(?:,\d+)+(?:\.\d+)?")


@dataclass(frozen=True)
class LabCell:
    """A present cell: `value` is the text that enters the sentence; `number` (canonical unit) is None for text."""

    name: str
    value: str
    unit: str = ""
    number: float | None = None
    column: LabColumn | None = None

    def sentence(self, labs_object: str, gender: str | None = None, flag: bool = False) -> str:
        """ "<column name> of the <object> is <value>", with the unit if it was given, and low / normal / high."""
        text = f"{self.name} of the {labs_object} is {self.value}"
        if self.unit:
            text += f" {self.unit}"
        level = self.level(gender) if flag else None
        return f"{text} ({level})" if level else text

    def level(self, gender: str | None) -> str | None:
        """ "low", "normal" or "high" against the reference range; None where there is no number or no range."""
        limits = self.column.reference_range(gender) if self.column else None
        if limits is None or self.number is None or self.value[0] in "<>≤≥":
            return None
        return "low" if self.number < limits[0] else "high" if self.number > limits[1] else "normal"


@dataclass
class LabsText:
    """A laboratory row as text, and what became of its cells.

    `used` and `dropped` (cut for length) hold canonical column names; `refused` holds {"item", "reason"}; `unknown`
    the used columns that are not in `COLUMNS`; `converted` the columns whose value came in another unit; `texts` the
    number columns that hold text; `doubtful` the columns without a unit whose value another unit would make normal.
    """

    text: str = ""
    used: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    converted: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    doubtful: list[str] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """The report's lines on what was changed or left out without being refused; names only, no values."""
        lines = [f"labs: {name} was converted to its canonical unit" for name in self.converted]
        lines += [
            f"labs: {name} came without a unit and was taken in the canonical one, far from normal; in another unit it "
            "would be normal: give (value, unit)"
            for name in self.doubtful
        ]
        lines += [f"labs: {name} holds text where a number is expected; kept as written" for name in self.texts]
        lines += [f"labs: {name} is not a known column; kept as written{_suggestion(name)}" for name in self.unknown]
        return lines + [f"labs: {name} was dropped, the row is longer than the token limit" for name in self.dropped]


class _CellRefusedError(ValueError):
    """Reason why a cell cannot be used; caught in this file, where it becomes an entry of `refused`."""


MISSING_WORDS = ("", "nan", "none", "null", "na", "n/a", "<na>")
"""Text that table software writes for a missing cell, in any case."""


def is_missing(value: Any) -> bool:
    """None, NaN (of Python, NumPy, pandas), MIMIC's "___" and `MISSING_WORDS` stand for a missing cell."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, str):
        return value.strip().strip("_").casefold() in MISSING_WORDS
    return isinstance(value, Real | Decimal) and value != value


def format_number(value: float) -> str:
    """Number without noise: six significant digits (all digits of the integer part), no exponent, no trailing zeros.

    1.4 -> "1.4", 1.3999999 -> "1.4", 5210.0 -> "5210", 0.00012 -> "0.00012"
    """
    if value == 0:
        return "0"
    decimals = max(0, 5 - math.floor(math.log10(abs(value))))
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def read_cells(row: Mapping[str, Any]) -> tuple[list[LabCell], LabsText]:
    """Present cells of a row in the order of the text, and a `LabsText` that holds the refusals so far.

    row: column name or alias -> value or (value, unit). Two names of one column with different values refuse both.
    """
    report = LabsText()
    found: dict[str, tuple[str, LabCell]] = {}
    conflicts: set[str] = set()
    for written, raw in row.items():
        try:
            cell = _read_cell(str(written), raw)
        except _CellRefusedError as error:
            report.refused.append({"item": f"labs.{written}", "reason": str(error)})
            continue
        if cell is None:
            continue
        other = found.setdefault(cell.name, (str(written), cell))
        if other[1].value != cell.value:
            conflicts.add(cell.name)
            reason = (
                f"{other[0]!r} and {written!r} are both the column {cell.name!r} but differ "
                f"({other[1].value} against {cell.value}); give one of them"
            )
            report.refused.append({"item": f"labs.{written}", "reason": reason})
    cells = [cell for name, (_, cell) in found.items() if name not in conflicts]
    cells.sort(key=lambda cell: (_POSITION.get(cell.name, len(COLUMNS)), cell.name.casefold()))
    report.unknown = [cell.name for cell in cells if cell.column is None]
    report.texts = [cell.name for cell in cells if cell.column and cell.column.is_number and cell.number is None]
    report.doubtful = [cell.name for cell in cells if _is_doubtful(cell)]
    report.converted = [name for name in (cell.name for cell in cells) if _was_converted(name, found[name][0], row)]
    return cells, report


def gender_of(cells: list[LabCell]) -> str | None:
    """ "F" or "M" if the row says so, for the sex-dependent reference ranges."""
    value = next((cell.value for cell in cells if cell.name == "gender"), None)
    return value if value in ("F", "M") else None


def _is_doubtful(cell: LabCell) -> bool:
    """A number without a unit, outside the reference range, that one of the column's other units would put inside."""
    limits = cell.column.reference_range(None) if cell.column else None
    if limits is None or cell.unit or cell.number is None or limits[0] <= cell.number <= limits[1]:
        return False
    assert cell.column is not None
    others = [factor for factor in cell.column.factors.values() if factor != 1]
    return any(limits[0] <= cell.number * factor <= limits[1] for factor in others)


def _was_converted(name: str, written: str, row: Mapping[str, Any]) -> bool:
    column = _BY_KEY.get(_key(written))
    if column is None or not column.is_number:
        return False
    _, number, unit = _split_value(row[written])
    return number is not None and bool(unit) and _unit_key(unit) != _unit_key(column.unit)


def _read_cell(written: str, raw: Any) -> LabCell | None:
    if not _key(written):
        raise _CellRefusedError(f"the column name {written!r} has no letter or digit")
    column = find_column(written)
    if column is None or not column.is_number:
        return _read_free_cell(written, raw, column)
    sign, number, unit = _split_value(raw)
    if number is None:
        return _read_text_cell(sign, unit, column)
    factor = _factor(written, unit, column)
    value = number * factor
    low, high = column.plausible or (-math.inf, math.inf)
    if not low <= value <= high:
        raise _CellRefusedError(_implausible(column, number, unit, value))
    # A converted value has no more digits than the laboratory gave it: three significant ones are a fair guess.
    text = format_number(value if factor == 1 else float(f"{value:.3g}"))
    return LabCell(column.name, f"{sign}{text}", column.unit if unit else "", value, column)


def _read_free_cell(written: str, raw: Any, column: LabColumn | None) -> LabCell | None:
    """Cell of an unknown column or of a text column such as gender: kept as written, with its unit if given."""
    value, unit = _value_and_unit(raw)
    if is_missing(value):
        return None
    name = column.name if column else " ".join(written.split())
    if not isinstance(value, str):
        if name == "gender":
            raise _CellRefusedError(f"gender {value!r} is a code whose meaning differs between sources; write F or M")
        return LabCell(name, format_number(_finite(value)), unit, float(value), column)
    text = " ".join(value.split()).replace(";", ",")  # ";" ends a sentence
    if name == "gender":
        if text.isdigit():
            raise _CellRefusedError(f"gender {text!r} is a code whose meaning differs between sources; write F or M")
        text = GENDERS.get(text.casefold(), text)
    return LabCell(name, text, unit, None, column)


def _read_text_cell(text: str, unit: str, column: LabColumn) -> LabCell | None:
    """Text such as "HEMOLYZED" or "2-4" in a number column: kept, unless a foreign unit would need a conversion."""
    if not text:
        return None
    if _COMMA_NUMBER.fullmatch(text):
        raise _CellRefusedError(f"{text!r} has a comma, which may be a decimal or a thousands sign; write 1.4 or 5210")
    if unit and _unit_key(unit) != _unit_key(column.unit):
        raise _CellRefusedError(f"{text!r} is not a number and cannot be converted from {unit!r} to {column.unit!r}")
    return LabCell(column.name, text, unit and column.unit, None, column)


def _value_and_unit(raw: Any) -> tuple[Any, str]:
    if isinstance(raw, tuple | list):
        if len(raw) != 2 or not (raw[1] is None or isinstance(raw[1], str)):
            raise _CellRefusedError(
                f"a cell is a value or (value, unit), not a {type(raw).__name__} of {len(raw)} items"
            )
        return raw[0], (raw[1] or "").strip()
    return raw, ""


def _split_value(raw: Any) -> tuple[str, float | None, str]:
    """(comparator, number, unit) of a cell of a number column; (text, None, unit) if it is text or missing ("")."""
    value, unit = _value_and_unit(raw)
    if is_missing(value):
        return "", None, unit
    if not isinstance(value, str):
        return "", _finite(value), unit
    text = " ".join(value.split()).replace(";", ",")
    match = _NUMBER.fullmatch(text)
    if match is None:
        return text, None, unit
    inner = (match["unit"] or "").strip()
    if inner and unit and _unit_key(inner) != _unit_key(unit):
        raise _CellRefusedError(f"the value says {inner!r} but the unit given beside it is {unit!r}")
    return match["sign"] or "", _finite(float(match["number"])), unit or inner


def _finite(value: Any) -> float:
    # NumPy's bool is no Real, Python's bool is one
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        raise _CellRefusedError(f"a cell holds a number or text, not a {type(value).__name__}")
    if not math.isfinite(value):
        raise _CellRefusedError(f"{value} is not a finite number")
    return float(value)


def _factor(written: str, unit: str, column: LabColumn) -> float:
    """What a value in `unit` is multiplied by to be in the column's canonical unit; refuses an unknown unit."""
    if _key(written) in _ALIAS_FACTORS_BY_KEY:
        factors = _ALIAS_FACTORS_BY_KEY[_key(written)]
        if not unit:
            raise _CellRefusedError(
                f"{written!r} is stored as {column.name!r} and needs its unit: "
                f"(value, unit) with {' or '.join(factors)}"
            )
    else:
        factors = {column.unit: 1.0, **column.factors}
        if not unit:
            return 1.0
    factor = _find_factor(factors, unit)
    if factor is not None:
        return factor
    known_units = ", ".join(name for name in factors if name) or "no unit"
    raise _CellRefusedError(f"unit {unit!r} of {column.name!r} is not known; give the value in one of: {known_units}")


def _implausible(column: LabColumn, number: float, unit: str, value: float) -> str:
    low, high = column.plausible or (-math.inf, math.inf)
    given = f"{format_number(number)} {unit}".strip()
    if unit and _unit_key(unit) != _unit_key(column.unit):
        given += f" = {format_number(value)} {column.unit}"
    reason = (
        f"{column.name} {given} is impossible: allowed is {format_number(low)} to {format_number(high)} {column.unit}"
    )
    others = [
        name for name, factor in column.factors.items() if not unit and factor != 1 and low <= value * factor <= high
    ]
    if others:
        reason += f"; if the unit is {' or '.join(others)}, give (value, unit)"
    return reason.strip()
