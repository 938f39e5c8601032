"""Read and check one laboratory cell: name, value, unit, mark -> a number in the canonical unit, text, or a refusal."""

import math
import re
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Real
from typing import Any, NamedTuple

from .lab_columns import (
    COLUMN_POSITION,
    GENDERS,
    column_key,
    find_column,
    is_canonical_unit,
    needs_unit,
    same_unit,
    split_name,
    to_canonical,
    unit_factors,
)
from .lab_letters import is_range, may_be_age_and_gender, plain_letters, without_invisible, without_missing_entries
from .lab_reference import is_of_another_unit, without_reference
from .lab_second_unit import without_second_unit
from .lab_table import COLUMNS, LabColumn
from .lab_units import is_normal, is_unusual, unit_doubt
from .lab_word_checks import text_doubt
from .lab_writing import plain_result, without_thousands
from .private_text import quoted

MISSING_WORDS = ("", "nan", "none", "null", "na", "n/a", "<na>", "#n/a", "pending")
"""Text that table software or a laboratory writes for a missing cell, in lower case."""
_SPREADSHEET_ERROR = re.compile(r"#(?:VALUE|REF|NAME|NUM|NULL|DIV/0|SPILL|CALC)[!?]|#+", re.IGNORECASE)
"""What a spreadsheet writes where a formula failed, or where a number does not fit into the column."""
_ERROR_IN_WORDS = "the text is an error of a spreadsheet: export the words themselves"
MAX_NUMBER_LENGTH = 1000
"""Letters. A longer text is no number, and matching it could take the time of its length squared."""
MAX_NAME_LENGTH = 200
"""A longer column name is no name."""
DOUBTFUL_TEXT = "labs_doubtful_text"
"""Code of a cell that is not used because its text is no text of its column."""
COMPARATORS = "<>≤≥"
"""First characters of a value that is a limit, such as "<0.01"."""

_NUMBER = re.compile(
    r"(?P<sign><=|>=|<|>|≤|≥)?\s*(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?:\s*(?P<unit>(?:10\s*[\^*e(³⁶⁹]|[^\s\d.,\-<>]).*))?"
)
_FLAG = re.compile(
    r"(?P<value>.*[\d\s)])[\s(\[]*(?P<flag>(?:H{1,2}|L{1,2}|A{1,2}|N|↑{1,3}|↓{1,3}|(?i:high|low|hi|lo|critical))\*{0,3}|\*{1,3}|"
    r"(?:(?<=[A-Za-z%²] \()|(?<=/m2 \())[+-]{1,3}(?=\)))[)\]]?"
)
"""A value and the mark behind it: "5.9 H", "5210*", "1.4 mg/dL (L)", "1.4 mg/dL (+)". "3 (+)" is a grade, no value."""
_PLAIN_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
"""A number and nothing else. With leading zeros it is a code."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# A number with commas, such as "5,210" or "1,4".
_COMMA_NUMBER = re.compile(r"[<>≤≥]?=?\s*[+-]?\d+(?:,\d+)+(?:\.\d+)?(?:\s.*)?")


@dataclass(frozen=True)
class LabCell:
    """A present cell of a lab row, checked and in its canonical unit.

    Attributes:
        name: canonical column name, or the name as written for an unknown column.
        value: the text that enters the sentence.
        unit: canonical unit; "" if the row gave none.
        number: the value in the canonical unit; None for text.
        column: the known column; None for an unknown one.
        was_converted: whether the row gave the value in another unit.
        flag: the laboratory's mark beside the value, such as "H"; "" if there is none.
        other_units: units that the value may have instead, because the row gave none.
        is_unusual: whether the value, or an end of a range, lies outside what hospitals report of adults.
        given_unit: unit as the row spells it; "" if it gave none. Two cells of one value are equal whatever it is.
    """

    name: str
    value: str
    unit: str = ""
    number: float | None = None
    column: LabColumn | None = None
    was_converted: bool = False
    flag: str = ""
    other_units: tuple[str, ...] = ()
    is_unusual: bool = False
    given_unit: str = field(default="", compare=False)

    @property
    def is_limit(self) -> bool:
        """Whether the value is a limit of the assay, so that it starts with a comparator, such as "<0.01"."""
        return self.value[:1] in tuple(COMPARATORS)

    @property
    def is_text_for_number(self) -> bool:
        """Whether the cell holds text in a column of numbers, such as "HEMOLYZED"."""
        return self.column is not None and self.column.is_number and self.number is None

    @property
    def plain_number(self) -> float | None:
        """The number of a column of your own, also where a CSV table gave it as text; None for words and limits."""
        if self.number is not None or len(self.value) > MAX_NUMBER_LENGTH or not _PLAIN_NUMBER.fullmatch(self.value):
            return self.number
        number = float(self.value)
        return number if math.isfinite(number) else None

    def sentence(self, labs_object: str, gender: str | None = None, flag: bool = False, units: str = "never") -> str:
        """Write "<column name> of the <object> is <value>".

        One value has one text, whatever unit the row gave, because the value is in the canonical unit. So the unit of a
        known column stands in the text never or always. A column that is not known keeps the unit that the row gave.

        Args:
            labs_object: for example "patient".
            gender: "F", "M" or None, for reference ranges that depend on it.
            flag: append (low), (normal) or (high).
            units: "never" or "always" write the canonical unit of a known column.

        Returns:
            The sentence, without a full stop.
        """
        text = f"{self.name} of the {labs_object} is {self.value}"
        if self.column is None:
            unit = self.unit
        else:
            unit = self.column.unit if units == "always" and not self.is_text_for_number else ""
        if unit:
            text += f" {unit}"
        level = self.level(gender) if flag else None
        return f"{text} ({level})" if level else text

    def level(self, gender: str | None) -> str | None:
        """Compare with the reference range: "low", "normal", "high", or None without a number or a range."""
        limits = self.column.reference_range(gender) if self.column else None
        if limits is None or self.number is None or self.is_limit:
            return None
        number = float(self.value)  # the value of the text, because prepared data keep no other
        return "low" if number < limits[0] else "high" if number > limits[1] else "normal"


def is_empty_cell(value: Any) -> bool:
    """Tell whether a value marks a missing cell: None, NaN (Python, NumPy, pandas), MIMIC's "___", `MISSING_WORDS`."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, str):
        return value.strip().strip("_").casefold() in MISSING_WORDS
    if isinstance(value, Decimal):
        return value.is_nan()  # comparing a signalling NaN with itself would raise
    return isinstance(value, Real) and value != value


def format_number(value: float) -> str:
    """Write a number with six significant digits, all digits of its integer part, and no exponent or trailing zeros.

    1.4 -> "1.4", 1.3999999 -> "1.4", 5210.0 -> "5210", 0.00012 -> "0.00012"
    """
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return str(value)
    decimals = max(0, 5 - math.floor(math.log10(abs(value))))
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


class CellRefusedError(ValueError):
    """Reason why a cell cannot be used; `LabsText.from_row` catches it and writes it into `refused`.

    Attributes:
        code: code of the check that refused the cell, such as "labs_doubtful_unit"; "" for a cell that is wrong.
    """

    def __init__(self, reason: str, code: str = ""):
        super().__init__(reason)
        self.code = code


class NumberReading(NamedTuple):
    """The raw value of a number column, either a number or text.

    Attributes:
        sign: comparator such as "<", or "".
        number: in `unit`; None for text and for a missing value.
        unit: as written; "" if none is given.
        text: the text if the value is no number, else "".
        flag: the laboratory's mark beside the number, such as "H", or "".
    """

    sign: str
    number: float | None
    unit: str
    text: str = ""
    flag: str = ""


def read_cell(written: str, raw: Any) -> LabCell | None:
    """Check one cell.

    Args:
        written: column name as the row writes it.
        raw: value, or (value, unit).

    Returns:
        The cell in its canonical unit, or None if the value is missing.

    Raises:
        CellRefusedError: if the name, unit or value cannot be used.
    """
    if len(written) > MAX_NAME_LENGTH:
        raise CellRefusedError(f"the column name has {len(written):,} letters, at most {MAX_NAME_LENGTH} are expected")
    if not column_key(written):
        raise CellRefusedError("the column name has no letter or digit")
    name, name_unit = split_name(written)
    column = find_column(name)
    if column is None or not column.is_number:
        return read_free_cell(written, raw, column)
    reading = read_number(raw, column, name, name_unit)
    if name_unit and reading.unit and not same_unit(column, name_unit, reading.unit, name):
        raise CellRefusedError(f"the column name says {quoted(name_unit)} but the value says {quoted(reading.unit)}")
    reading = reading._replace(unit=reading.unit or name_unit)
    if reading.number is None:
        return _read_text_cell(reading.text, reading.unit, column)
    number = _convert_or_refuse(name, reading, column)
    low, high = column.plausible or (-math.inf, math.inf)
    if not low <= number <= high:
        raise CellRefusedError(_implausible(column, reading, number))
    units = unit_doubt(column, reading.number, reading.unit, name)
    if units and (reading.unit or not is_normal(column, reading.number)):
        raise CellRefusedError(_doubt(column, reading, number, units), "labs_doubtful_unit")
    # A converted value has no more digits than the laboratory gave, but three at least: 124 umol/L is 1.40 mg/dL.
    is_rounded = number != reading.number
    text = format_number(float(f"{number:.{_significant_digits(reading.number)}g}") if is_rounded else number)
    return LabCell(
        name=column.name,
        value=f"{reading.sign}{text}",
        unit=column.unit if reading.unit else "",
        number=number,
        column=column,
        was_converted=bool(reading.unit) and not is_canonical_unit(column, reading.unit) and is_rounded,
        flag=reading.flag,
        other_units=tuple(units),
        is_unusual=is_unusual(column, number, reading.sign),
        given_unit=reading.unit,
    )


def read_free_cell(written: str, raw: Any, column: LabColumn | None) -> LabCell | None:
    """Read a cell of an unknown column (`column` is None) or of a text column; arguments and errors as in `read_cell`.

    The value and its unit stay as written. Only gender is translated to F or M; other words for it are refused, because
    the model knows these two. A text that is no words is refused in a text column.
    """
    value, unit = _value_and_unit(raw)
    if is_empty_cell(value):
        return None
    if column is not None and unit:  # a list of two texts would lose the second
        raise CellRefusedError(
            f"{column.name!r} holds text, which has no unit, but the cell has two parts. Write several entries as one "
            'text, with "; " between them'
        )
    name = column.name if column else _one_line(written)
    is_code = not isinstance(value, str) or " ".join(value.split()).isdigit()
    if name == "gender" and is_code:
        raise CellRefusedError(
            f"gender {quoted(str(value))} is a code whose meaning differs between sources; write F or M"
        )
    if not isinstance(value, str):
        number = _finite(value)
        if column is not None:
            raise CellRefusedError(f"{name} holds words, but the cell holds a number: write the words", DOUBTFUL_TEXT)
        return LabCell(name, format_number(number), unit, number, column)
    text = without_invisible(_one_line(value))
    if column is not None and name != "gender":
        text = without_missing_entries(text, MISSING_WORDS)
        if not any(character.isalnum() for character in text):  # a sign such as "-" for "not known"
            return None
        is_error = any(_SPREADSHEET_ERROR.fullmatch(entry.strip()) for entry in text.split(","))
        if (reason := _ERROR_IN_WORDS if is_error else text_doubt(name, text)) is not None:
            raise CellRefusedError(reason, DOUBTFUL_TEXT)
    if name == "gender" and text.casefold() not in GENDERS:
        raise CellRefusedError(f"gender {quoted(text)} is not known; write F or M")
    return LabCell(name, GENDERS[text.casefold()] if name == "gender" else text, unit, None, column)


def _read_text_cell(text: str, unit: str, column: LabColumn) -> LabCell | None:
    """Read text such as "HEMOLYZED" or "2-4" in a number column; None for empty text.

    Raises:
        CellRefusedError: if the text is a number with a comma, or its unit is not the canonical unit.
    """
    if _SPREADSHEET_ERROR.fullmatch(text):
        raise CellRefusedError(f"{quoted(text)} is an error of a spreadsheet: export the value itself")
    if not any(character.isalnum() for character in text):  # empty, or a sign such as "-" for "not measured"
        return None
    if _COMMA_NUMBER.fullmatch(text):
        raise CellRefusedError(
            f"{quoted(text)} has a comma, which may be a decimal or a thousands sign; write 1.4 or 5210"
        )
    if any(character.isdigit() for character in text) and not is_range(text):
        raise CellRefusedError("the text is neither a number nor a range such as 2-4; a date or a code is no result")
    if unit and not is_canonical_unit(column, unit):
        raise CellRefusedError(
            f"{quoted(text)} is not a number and cannot be converted from {quoted(unit)} to {column.unit!r}"
        )
    ends = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)]
    for number in ends:
        _refuse_doubtful_end(column, number, unit)
    unusual = any(is_unusual(column, number) for number in ends)
    return LabCell(column.name, text, unit and column.unit, None, column, is_unusual=unusual)


def _refuse_doubtful_end(column: LabColumn, number: float, unit: str) -> None:
    """Refuse an end of a range that is impossible in the canonical unit, or whose unit is in doubt."""
    low, high = column.plausible or (-math.inf, math.inf)
    if not low <= number <= high:
        raise CellRefusedError(_implausible(column, NumberReading("", number, unit), number))
    units = [] if unit else unit_doubt(column, number, unit)
    if units and not is_normal(column, number):
        raise CellRefusedError(_doubt(column, NumberReading("", number, unit), number, units), "labs_doubtful_unit")


def _value_and_unit(raw: Any) -> tuple[Any, str]:
    """Split a cell that is a value or (value, unit) into value and unit; the unit is "" if the cell has none."""
    if isinstance(raw, tuple | list):
        kind = type(raw).__name__
        if len(raw) != 2:
            raise CellRefusedError(f"a cell is a value or (value, unit), not a {kind} of {len(raw)} items")
        if is_empty_cell(raw[1]):
            return raw[0], ""
        if not isinstance(raw[1], str):
            raise CellRefusedError(f"a cell is a value or (value, unit), but the unit of this {kind} is no text")
        return raw[0], _one_line(raw[1])
    return raw, ""


def read_number(raw: Any, column: LabColumn, name: str, name_unit: str = "") -> NumberReading:
    """Read the cell of a number column: a number, "<0.01 ng/mL", "5.9 H", or text.

    Args:
        raw: value, or (value, unit).
        column: the column.
        name: the name under which the value came. It decides which units are known.
        name_unit: unit that stands in the name of the column, or "".

    Returns:
        What the cell holds. A missing value has number None and text "".

    Raises:
        CellRefusedError: if value and cell name different units, or the number is not finite.
    """
    value, unit = _value_and_unit(raw)
    if is_empty_cell(value):
        return NumberReading("", None, unit)
    if not isinstance(value, str):
        return NumberReading("", _finite(value), unit)
    if len(value) > MAX_NUMBER_LENGTH:
        raise CellRefusedError(f"a text of {len(value):,} letters stands where a number is expected")
    text = without_second_unit(plain_result(_one_line(without_thousands(value)), column.name), column, name)
    is_in_doubt = column.name == "age" and may_be_age_and_gender(text)
    if is_in_doubt and not same_unit(column, text[-1], unit or name_unit, name):
        raise CellRefusedError("the age may be years with a gender behind: write the years alone", "labs_doubtful_unit")
    text, reference = without_reference(text) if column.normal is not None else (text, "")
    match, flag = _NUMBER.fullmatch(text), ""
    if column.name == "age" and text.endswith("+"):  # "90+": hospitals hide the age of the oldest
        match, flag = _NUMBER.fullmatch(text[:-1].rstrip()), "+"
    is_complete = match is not None and to_canonical(column, 1.0, (match["unit"] or "").strip(), name) is not None
    if not is_complete and (marked := _FLAG.fullmatch(text)) is not None:
        match, flag = _NUMBER.fullmatch(marked["value"].strip()), marked["flag"]
    flag = " ".join(part for part in (flag, reference) if part)
    if match is None:
        return NumberReading("", None, unit, text)
    inner = (match["unit"] or "").strip()
    if inner and unit and not same_unit(column, inner, unit, name):
        raise CellRefusedError(f"the value says {quoted(inner)} but the unit given beside it is {quoted(unit)}")
    if reference and is_of_another_unit(reference, column, unit or inner, name):
        raise CellRefusedError(
            f"the reference range {reference} beside the value is not of the unit "
            f"{quoted(unit or inner or column.unit)}: give (value, unit)",
            "labs_doubtful_unit",
        )
    sign = (match["sign"] or "").replace("≤", "<=").replace("≥", ">=")  # one text for one value
    return NumberReading(sign, _finite(float(match["number"])), unit or inner, flag=flag)


def _significant_digits(number: float) -> int:
    """Count the significant digits of a number as it was given, at least 3 and at most 6: 616.5 has 4."""
    digits = Decimal(repr(number)).normalize().as_tuple().digits
    return min(max(len(digits), 3), 6)


def _finite(value: Any) -> float:
    """Convert a number to float; refuse anything else, infinity, and numbers too large for a float."""
    # NumPy's bool is no Real, Python's bool is one
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        raise CellRefusedError(f"a cell holds a number or text, not a {type(value).__name__}")
    try:
        # A float32 of NumPy is read as it is printed: 97.3, not 97.30000305175781.
        number = float(str(value)) if type(value).__module__ == "numpy" else float(value)
    except OverflowError:  # an int with more than 308 digits
        number = math.inf
    if not math.isfinite(number):
        raise CellRefusedError(f"{number} is not a finite number")
    return number


def _convert_or_refuse(written: str, reading: NumberReading, column: LabColumn) -> float:
    """Convert the number of a reading to the canonical unit of `column`.

    Raises:
        CellRefusedError: if the unit is not known, or is missing although the name `written` is ambiguous without it.
    """
    units = [name for name in unit_factors(column, written) if name]
    if needs_unit(written) and not reading.unit:
        raise CellRefusedError(
            f"{quoted(written)} is stored as {column.name!r} and needs its unit: (value, unit) with "
            f"{' or '.join(units)}"
        )
    number = to_canonical(column, reading.number or 0.0, reading.unit, written)
    if number is None:
        raise CellRefusedError(
            f"unit {quoted(reading.unit)} of {column.name!r} is not known; give the value in one of: "
            f"{', '.join(units) or 'no unit'}"
        )
    return number


def _doubt(column: LabColumn, reading: NumberReading, number: float, units: list[str]) -> str:
    """Write the reason of a doubtful unit: the value, the units in question, and what to do.

    Args:
        column: the column.
        reading: the value as given.
        number: the value in the canonical unit.
        units: other units in which the value would be usual.
    """
    given = f"{reading.sign}{format_number(reading.number or 0.0)}"
    low, high = column.usual
    if reading.unit:
        is_usual = low <= number <= high
        converted = "" if is_canonical_unit(column, reading.unit) else f" = {float(f'{number:.3g}'):g} {column.unit}"
        why = (
            f"hardly any laboratory reports {column.name} in {reading.unit}"
            if is_usual
            else f"the usual range is {format_number(low)} to {format_number(high)} {column.unit}"
        )
        return (
            f"{column.name} {given} {reading.unit}{converted} is in doubt, because {why} and the number would be usual "
            f"in {' or '.join(units)}: correct the unit or the value"
        )
    choices = [column.unit, *units] if low <= number <= high else units
    return (
        f"{column.name} {given} has no unit and may be {' or '.join(choices)}: give (value, unit), or declare the unit "
        "system of the laboratory (units: US or SI)"
    )


def _implausible(column: LabColumn, reading: NumberReading, number: float) -> str:
    """Write the reason of an impossible value: the value, the allowed range, and the units that would make it possible.

    Args:
        column: the column.
        reading: the value as given.
        number: the value in the canonical unit.
    """
    low, high = column.plausible or (-math.inf, math.inf)
    given = f"{format_number(reading.number or 0.0)} {reading.unit}".strip()
    if reading.unit and not is_canonical_unit(column, reading.unit):
        given += f" = {format_number(number)} {column.unit}"
    reason = (
        f"{column.name} {given} is impossible: allowed is {format_number(low)} to {format_number(high)} {column.unit}"
    )
    if not reading.unit:
        readings = {unit: to_canonical(column, number, unit) or 0.0 for unit in column.factors}
        units = [unit for unit, value in readings.items() if value != number and low <= value <= high]
        if units:
            reason += f"; if the unit is {' or '.join(units)}, give (value, unit)"
    return reason.strip()


def cell_from_stored(name: str, stored: Any) -> LabCell:
    """Rebuild a cell from `stored`: a value, or [value, canonical unit], as `LabsText.stored_values` gives it."""
    value, unit = stored if isinstance(stored, tuple | list) else (stored, "")
    column = COLUMNS[COLUMN_POSITION[name]] if name in COLUMN_POSITION else None
    if not isinstance(value, str):
        return LabCell(name, format_number(value), unit, float(value), column)
    limit = _NUMBER.fullmatch(value) if column is not None and column.is_number else None
    return LabCell(name, value, unit, float(limit["number"]) if limit else None, column)


def _one_line(text: str) -> str:
    """Reduce white space and control characters to single spaces; write "," for ";", because ";" ends a sentence.

    A tokenizer drops a control character, and the words around it would become one word.

    Raises:
        CellRefusedError: if the text holds half of a character (a lone surrogate), which no tokenizer can read.
    """
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise CellRefusedError("the text holds a damaged character: correct its encoding")
    return " ".join(_CONTROL.sub(" ", plain_letters(text)).split()).replace(";", ",")
