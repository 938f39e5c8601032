"""Read a lab row once: row -> checked cells -> sentences for the text encoder.

    labs = LabsText.from_row({"Creatinine": (124, "umol/L"), "age": 71, "Sodium": None})
    labs.cells                     # checked, in canonical units, in the order of the text
    labs.refused, labs.notes       # what was left out or changed, and why
    labs.write().text              # "age of the patient is 71; Creatinine of the patient is 1.4"
    labs.stored_values()           # what prepared data keep; `LabsText.from_stored` needs no second check

One sentence per present cell, "<column name> of the <object> is <value>" (paper, section 5.1), joined by `SEPARATOR`.
A missing cell leaves no trace. The columns come in the order of `lab_columns.COLUMNS`, then unknown columns in
alphabetical order. Values are in canonical units. One value has one text, whatever unit the row gave. Nothing here is
clinical advice.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from .lab_cells import (
    DOUBTFUL_TEXT,
    CellRefusedError,
    LabCell,
    cell_from_stored,
    format_number,
    is_empty_cell,
    read_cell,
    read_free_cell,
)
from .lab_columns import COLUMN_POSITION, find_column, specimen_column, split_name, suggest_column
from .lab_cross_checks import cross_checks
from .lab_findings import Finding, lab_finding
from .lab_names import charge_doubt
from .lab_table import COLUMNS
from .lab_thousands import may_set_thousands
from .lab_unit_cells import unclear_unit_cells, unit_cells
from .lab_word_checks import text_findings
from .private_text import may_be_shown, name_or_position, quoted

SEPARATOR = "; "
"""Between two sentences. It is not ". ", because a WordPiece tokenizer cannot tell that from a decimal point."""

ROUNDING = 0.005
"""Share by which one value in two units may differ, because each was rounded."""

MAX_CELLS = 5000
"""Largest number of cells of one row, because each cell costs time and the text has room for about a hundred."""


@dataclass
class LabsText:
    """A lab row as checked cells and as text, with a report on each cell.

    Attributes:
        cells: present and usable cells in the order of the text.
        refused: {"item": "labs.<name as written>", "reason": ...} for each cell that cannot be used. A name that may
            name the patient is not repeated: the item is then "labs.cell[<position>]".
        checks: {"code", "item", "text"} for each cell whose unit or text is in doubt or whose value is unusual, and for
            cells that contradict each other.
        text: the sentences, after `write`; "" if no cell is usable.
        used: names of the cells in the text, after `write`.
        dropped: names of the cells that the text has no room for, after `write`.
        unused: names of the cells that the model was not trained with, after `write`. The text leaves them out.
        other_units: name of a cell of your own -> the unit of the training, after `write`, if the cell is in another
            unit. The text leaves it out.
        words_for_numbers: names of cells of your own that hold no number, after `write`, if the model reads numbers in
            their columns. The text leaves them out.
        unread_words: names of cells with words that the tokenizer does not know; `labs_text` of the processor fills it.
        unit_notes: one line for each cell with the name of a unit: used as the unit of another cell, or not used.
        sentences: the sentences of the text, one for each name of `used`, after `write`.
        positions: name of a cell -> its place in the row, counted from 1.
    """

    cells: list[LabCell] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)
    checks: list[Finding] = field(default_factory=list)
    text: str = ""
    used: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    other_units: dict[str, str] = field(default_factory=dict)
    words_for_numbers: list[str] = field(default_factory=list)
    unread_words: list[str] = field(default_factory=list)
    unit_notes: list[str] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    positions: dict[str, int] = field(default_factory=dict)

    @classmethod
    def from_row(cls, row: Mapping[str, Any], *, from_table: bool = False, columns: Collection[str] = ()) -> "LabsText":
        """Read and check the cells of a row. A bad cell is refused with its reason, never raised.

        Args:
            row: column name or alias -> value or (value, unit). If two names of one column have different
                values, neither value is used, and `refused` has one entry with the two names.
            from_table: the names are column headers of a cohort table. They name no patient, so refusals repeat them.
            columns: columns that the model was trained with. None of them is used as the unit of another cell.

        Returns:
            The row with `cells` and `refused`. `write` gives it the text.
        """
        labs = cls()
        first: dict[str, tuple[str, LabCell]] = {}
        conflicts: set[str] = set()
        with_points: set[str] = set()
        if len(row) > MAX_CELLS:
            reason = f"a row of {len(row):,} cells, the limit is {MAX_CELLS:,}: it is no laboratory row of one patient"
            labs.refused.append({"item": "labs.row", "reason": reason})
            return labs
        units = unit_cells(row, columns)
        names_of_units = {name for name, _ in units.values()}
        separate = _separate_columns(row, columns)
        for position, (key, raw) in enumerate(row.items(), start=1):
            written = str(key)
            if written in names_of_units:
                continue
            if written in units:
                if not is_empty_cell(raw):
                    labs.unit_notes.append(f"labs: {_safe(units[written][0])} is the unit of {_safe(written)}")
                raw = (raw, units[written][1])
            item = f"labs.{written}" if from_table else name_or_position(written, "labs", position)
            try:
                is_separate = written in separate
                cell = read_free_cell(written, raw, None) if is_separate else _read_cell(written, raw, columns)
            except CellRefusedError as error:
                labs._refuse(item, error)
                continue
            if cell is None:
                continue
            labs.positions.setdefault(cell.name, position)
            if may_set_thousands(raw, cell):
                with_points.add(cell.name)
            first_written, first_cell = first.setdefault(cell.name, (written, cell))
            if not _same_value(first_cell, cell):
                conflicts.add(cell.name)
                reason = (
                    f"{quoted(first_written)} and {quoted(written)} are both the column {quoted(cell.name)} but differ "
                    f"({first_cell.value} against {cell.value}); give one of them"
                )
                labs.refused.append({"item": item, "reason": reason})
        labs.unit_notes += [
            f"labs: {_safe(name)} is not read as the unit of {_safe(value)}, whose value is read without it"
            for name, value in unclear_unit_cells(row, columns)
        ]
        labs.cells = _in_text_order([cell for name, (_, cell) in first.items() if name not in conflicts])
        labs._check_cells(with_points)
        return labs

    def _check_cells(self, with_points: Collection[str]) -> None:
        """Add the findings about the cells. `with_points` are the columns whose point may set thousands apart."""
        self.checks += [_assumed_unit(cell) for cell in self.cells if cell.other_units]
        self.checks += [_unusual_value(cell) for cell in self.cells if cell.is_unusual]
        self.checks += [_doubtful_point(cell) for cell in self.cells if cell.name in with_points]
        self.checks += cross_checks(self.cells)
        texts = {cell.name: cell.value for cell in self.cells if _is_text(cell)}
        self.checks += text_findings(texts, age_of(self.cells))

    def _refuse(self, item: str, error: CellRefusedError) -> None:
        """Add a cell that cannot be used, under its name in outputs."""
        item = item.encode("utf-8", "replace").decode()  # a damaged character could not be written
        self.refused.append({"item": item, "reason": str(error)})
        if error.code:
            doubt = "text of the cell" if error.code == DOUBTFUL_TEXT else "unit of the value"
            text = f"the {doubt} is in doubt, so the value is not used"
            self.checks.append({"code": error.code, "item": item, "text": text})

    @classmethod
    def from_stored(cls, values: Mapping[str, Any]) -> "LabsText":
        """Build a row from what `stored_values` returned. Nothing is checked or converted again; `refused` is empty."""
        return cls(_in_text_order([cell_from_stored(name, stored) for name, stored in values.items()]))

    def stored_values(self) -> dict[str, Any]:
        """Give the cells as JSON values: canonical name -> value, or [value, canonical unit] if the row gave a unit."""
        values: dict[str, Any] = {}
        for cell in self.cells:
            value = float(cell.value) if cell.number is not None and not cell.is_limit else cell.value
            values[cell.name] = [value, cell.unit] if cell.unit else value
        return values

    def write(
        self,
        labs_object: str = "patient",
        flags: bool = False,
        fitting: Callable[[list[str]], list[int]] | None = None,
        *,
        units: str = "never",
        columns: Collection[str] | Mapping[str, str | None] | None = None,
    ) -> "LabsText":
        """Write the text of the row; sets `text`, `sentences` and the attributes that name used and unused cells.

        Args:
            labs_object: the object of the sentences.
            flags: append (low), (normal) or (high) to each value with a reference range.
            units: "never" or "always" write the canonical unit of a known column.
            columns: names of the columns that the model was trained with; the known columns if None. The text leaves
                other columns out, because words that a model never read move its answer in an unknown direction. A
                mapping also gives the unit of each column that the model reads as a number. A column of your own in
                another unit is left out too, because nobody can convert it, and so are words in such a column, because
                the model has seen numbers only.
            fitting: function that takes the sentences, most important first, and returns the indices of the sentences
                that fit into the text. None keeps all sentences.

        Returns:
            The row itself.
        """
        gender = gender_of(self.cells)
        trained = COLUMN_POSITION if columns is None else columns
        units_of = trained if isinstance(trained, Mapping) and columns is not None else {}
        numbers = [cell for cell in self.cells if cell.column is None and units_of.get(cell.name) is not None]
        self.words_for_numbers = [cell.name for cell in numbers if cell.plain_number is None]
        self.other_units = {
            cell.name: unit
            for cell in numbers
            if cell.plain_number is not None and (unit := units_of[cell.name]) is not None and unit != cell.unit
        }
        left_out = {*self.other_units, *self.words_for_numbers}
        cells = [cell for cell in self.cells if cell.name in trained and cell.name not in left_out]
        sentences = [cell.sentence(labs_object, gender, flags, units) for cell in cells]
        kept = range(len(sentences)) if fitting is None else sorted(fitting(sentences))
        self.sentences = [sentences[index] for index in kept]
        self.text = SEPARATOR.join(self.sentences)
        self.used = [cells[index].name for index in kept]
        self.dropped = [cell.name for index, cell in enumerate(cells) if index not in kept]
        self.unused = [cell.name for cell in self.cells if cell.name not in trained]
        return self

    @property
    def unknown(self) -> list[str]:
        """Names of the cells that are no known column and that the text does not leave out."""
        left_out = {*self.dropped, *self.unused, *self.other_units, *self.words_for_numbers}
        return [cell.name for cell in self.cells if cell.column is None and cell.name not in left_out]

    @property
    def converted(self) -> list[str]:
        """Names of the cells whose value came in another unit."""
        return [cell.name for cell in self.cells if cell.was_converted]

    @property
    def not_numbers(self) -> list[str]:
        """Names of the cells that hold text where a number is expected."""
        return [cell.name for cell in self.cells if cell.is_text_for_number]

    @property
    def units(self) -> list[dict[str, Any]]:
        """The unit of each cell of the text that has one.

        {"column", "unit": of the value in the text, "given": whether the row gave a unit, "given_unit": which one}
        """
        cells = [cell for cell in self.cells if cell.name in self.used and cell.column is not None]
        return [
            {"column": cell.name, "unit": cell.column.unit, "given": bool(cell.unit), "given_unit": cell.given_unit}
            for cell in cells
            if cell.column is not None and cell.column.unit and not cell.is_text_for_number
        ]

    @property
    def notes(self) -> list[str]:
        """One line for each cell that was changed, unknown or dropped. Lines hold names, never values.

        A name that may name the patient is replaced by its position in the row.
        """
        lines = [
            f"labs: {cell.name} was converted from {cell.given_unit} to {cell.column.unit}: check the unit"
            for cell in self.cells
            if cell.was_converted and cell.column is not None
        ]
        lines += [
            f"labs: {name} holds letters or words that the tokenizer does not know, so the model does not read them"
            for name in self.unread_words
        ]
        lines += self.unit_notes
        lines += [f"labs: {name} holds text where a number is expected; kept as written" for name in self.not_numbers]
        lines += [f"labs: {name} is a column of your own; kept as written{_suggestion(name)}" for name in self.unknown]
        lines += [
            f"labs: {cell.name} came with the laboratory's mark {cell.flag!r}, which is not used"
            for cell in self.cells
            if cell.flag
        ]
        lines += [
            f"labs: {self._shown(name)} is not used, because the model was not trained with this column"
            f"{_suggestion(name)}"
            for name in self.unused
        ]
        lines += [
            f"labs: {self._shown(name)} is not used, because the model was trained with it in "
            f"{unit or 'numbers without a unit'}: convert the value"
            for name, unit in self.other_units.items()
        ]
        lines += [
            f"labs: {self._shown(name)} is not used, because the model was trained with numbers in this column and the "
            "cell holds text: give the number alone, or (value, unit)"
            for name in self.words_for_numbers
        ]
        return lines + [f"labs: {name} was dropped, the row is longer than the token limit" for name in self.dropped]

    def _shown(self, name: str) -> str:
        """Write the name of a cell for a note, or "cell <position> of the row" if the name may name the patient."""
        return name if may_be_shown(name) else f"cell {self.positions.get(name, '?')} of the row"


def _read_cell(written: str, raw: Any, columns: Collection[str]) -> LabCell | None:
    """Read one cell as `read_cell` does. A column of your own that the model was trained with stays one.

    Args:
        written: name as the row writes it.
        raw: value, or (value, unit).
        columns: columns that the model was trained with.

    Raises:
        CellRefusedError: if the cell cannot be used.
    """
    if " ".join(written.split()) in columns and find_column(written) is None and split_name(written)[0] != written:
        return read_free_cell(written, raw, None)
    cell = read_cell(written, raw)
    if cell is not None and (reason := charge_doubt(written, cell.name, cell.number)) is not None:
        raise CellRefusedError(reason, "labs_doubtful_unit")
    return cell


def _separate_columns(row: Mapping[str, Any], columns: Collection[str]) -> set[str]:
    """List the names with a specimen in brackets that stay columns of your own, because the row has the test twice.

    "Glucose (fasting)" beside "Glucose" is a second measurement, and so are "K (serum)" and "K (plasma)" that differ.
    """
    present = {
        str(key): raw
        for key, raw in row.items()
        if not is_empty_cell(raw[0] if isinstance(raw, tuple | list) and raw else raw)
    }
    bracketed = {name: column.name for name in present if (column := specimen_column(name)) is not None}
    if not bracketed:
        return set()
    plain_columns = (find_column(split_name(name)[0]) for name in present if name not in bracketed)
    twice = {column.name for column in plain_columns if column is not None}
    first: dict[str, LabCell] = {}
    for name, of_column in bracketed.items():
        try:
            cell = _read_cell(name, present[name], columns)
        except CellRefusedError:
            continue
        if cell is not None and not _same_value(first.setdefault(of_column, cell), cell):
            twice.add(of_column)
    return {name for name, of_column in bracketed.items() if of_column in twice}


def _safe(name: str) -> str:
    """Write the name of a cell for a note, in letters that every file can hold."""
    return " ".join(name.encode("utf-8", "replace").decode().split())


def _assumed_unit(cell: LabCell) -> Finding:
    """Write the finding of a cell whose unit was assumed."""
    unit = "" if cell.column is None else cell.column.unit
    other_units = " or ".join(cell.other_units)
    text = f"the value has no unit; it is read in {unit}, where it is normal, but may be {other_units}: give the unit"
    return lab_finding("labs_unit_assumed", cell.name, text)


def _unusual_value(cell: LabCell) -> Finding:
    """Write the finding of a cell whose value is outside the usual range of its column."""
    low, high = (math.nan, math.nan) if cell.column is None else cell.column.usual
    unit = "" if cell.column is None else f" {cell.column.unit}".rstrip()
    text = (
        f"the value is outside of {format_number(low)} to {format_number(high)}{unit}, the results of adults in "
        "hospitals: compare value, unit and column name with the laboratory's report"
    )
    return lab_finding("labs_unusual_value", cell.name, text)


def _doubtful_point(cell: LabCell) -> Finding:
    """Write the finding of a cell whose point may set thousands apart."""
    text = "the point before three digits is read as a decimal sign, but may set thousands apart: look at the source"
    return lab_finding("labs_doubtful_point", cell.name, text)


def _same_value(one: LabCell, two: LabCell) -> bool:
    """Tell whether two cells of a column hold one value. Two units round one value differently: 70 kg and 154 lb."""
    if one.number is None or two.number is None or one.is_limit or two.is_limit:
        return one.value == two.value
    return math.isclose(one.number, two.number, rel_tol=ROUNDING if one.given_unit != two.given_unit else 1e-9)


def _is_text(cell: LabCell) -> bool:
    """Tell whether a cell belongs to a known column of text, such as a history."""
    return cell.column is not None and not cell.column.is_number


def age_of(cells: list[LabCell]) -> float | None:
    """Return the number of the cell "age" in years; None if there is no such number."""
    return next((cell.number for cell in cells if cell.name == "age"), None)


def gender_of(cells: list[LabCell]) -> str | None:
    """Return the value "F" or "M" of the cell "gender", for the reference ranges; None if there is no such value."""
    value = next((cell.value for cell in cells if cell.name == "gender"), None)
    return value if value in ("F", "M") else None


def _in_text_order(cells: list[LabCell]) -> list[LabCell]:
    """Sort cells by the order of `COLUMNS`. Unknown columns come last, in alphabetical order."""
    return sorted(cells, key=lambda cell: (COLUMN_POSITION.get(cell.name, len(COLUMNS)), cell.name.casefold()))


def _suggestion(name: str) -> str:
    """Write " (did you mean <known column>?)" for an unknown name; "" if no known column is similar."""
    column = None if name in COLUMN_POSITION else suggest_column(name)
    return f" (did you mean {column.name}?)" if column else ""
