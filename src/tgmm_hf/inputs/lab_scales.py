"""Lab cells as numbers beside the text: which token belongs to which cell, and the standardised value of the cell.

    scales = fit_labs_scales(rows)          # columns of the training rows, in a fixed order, with mean and deviation
    cell_inputs(labs, offsets, scales, "patient")

A labs encoder that reads numbers (`encoders/modeling_lab_cells.py`, `layers/cell_inputs.py`) gets four arrays beside
the token ids. They have one entry for each token:

    cell_ids      which lab cell or history item of the row the token belongs to, counted from 1; 0 is a token of none
    cell_columns  place of the cell's column in the scales
    cell_values   the cell's standardised value
    cell_mask     True where there is a value, so not for words

A missing cell has no sentence, so it has no token. Ours, because the paper gives values as text only
(docs/decisions/218-numbers-beside-lab-text.md).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .lab_cells import COMPARATORS, LabCell
from .lab_columns import COLUMN_POSITION
from .lab_text import SEPARATOR, LabsText

Scale = dict[str, Any]
"""{"column": name, "unit": canonical unit, "mean", "sd": of arcsinh(value) over the training rows}. A column of words
has the mean and deviation None."""

LARGEST = 5.0
"""Standardised values are cut here. A value further out says no more, and would outweigh all other cells."""
SMALLEST_SD = 1e-6
"""A column whose training values are all equal has no deviation. It is divided by 1."""
KEYS = {"column", "unit", "mean", "sd"}


class CellSpan(NamedTuple):
    """A part of a lab text that is one cell, or one item of a history.

    Attributes:
        start: first character in the text.
        end: character behind the last one.
        cell: number of the cell in `LabsText.used`.
        column: place of the column in the scales.
        value: standardised value; None for words.
    """

    start: int
    end: int
    cell: int
    column: int
    value: float | None


def fit_labs_scales(rows: Iterable[LabsText]) -> list[Scale]:
    """Compute the scale of each column from training rows.

    A column of your own has a scale if all its values are numbers in one unit. Otherwise its values are read as words.
    A number that a CSV table gives as text is a number here.

    Args:
        rows: training rows, read. Only `cells` is used.

    Returns:
        One scale for each column, in alphabetical order.
    """
    cells: dict[str, list[LabCell]] = {}
    for row in rows:
        for cell in row.cells:
            cells.setdefault(cell.name, []).append(cell)
    return [_fit(name, cells[name]) for name in sorted(cells)]


def _fit(name: str, cells: Sequence[LabCell]) -> Scale:
    """Compute the scale of one column from its cells in the training rows."""
    is_own = name not in COLUMN_POSITION
    units = {cell.unit if cell.column is None else cell.column.unit for cell in cells}
    numbers = [number for number in map(number_of, cells) if number is not None]
    if not numbers or (is_own and (len(units) > 1 or len(numbers) < len(cells))):
        return {"column": name, "unit": "", "mean": None, "sd": None}
    values = np.arcsinh(np.array(numbers, np.float64))
    sd = float(values.std())
    return {
        "column": name,
        "unit": units.pop(),
        "mean": round(float(values.mean()), 6),
        "sd": round(sd, 6) if sd > SMALLEST_SD else 1.0,
    }


def check_labs_scales(scales: Any) -> None:
    """Raise a ValueError if scales are neither None nor a list of [`Scale`] with different columns."""
    if scales is None:
        return
    is_list = isinstance(scales, list | tuple) and all(isinstance(scale, Mapping) for scale in scales)
    if not is_list or any(set(scale) != KEYS for scale in scales):
        raise ValueError(f"labs_scales must be a list of mappings with the keys {sorted(KEYS)}, got {scales!r}.")
    names = [scale["column"] for scale in scales]
    if len(set(names)) < len(names):
        raise ValueError(f"labs_scales must name each column once, got {names}.")
    for scale in scales:
        mean, sd = scale["mean"], scale["sd"]
        is_words = mean is None and sd is None
        if not is_words and not (_is_finite(mean) and _is_finite(sd) and sd > 0):
            raise ValueError(
                f"labs_scales of {scale['column']!r} must have a finite mean and an sd above 0, or None for both, got "
                f"{mean!r} and {sd!r}."
            )


def _is_finite(value: Any) -> bool:
    """Tell whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number_of(cell: LabCell) -> float | None:
    """Return the number of a cell as its text has it, also of a limit such as "<0.01"; None for words."""
    if cell.column is None:
        return cell.plain_number
    if cell.number is None:
        return None
    return float(cell.value.lstrip(COMPARATORS + "=")) if cell.is_limit else float(cell.value)


def standardise(number: float, scale: Scale) -> float:
    """Put a number in the column's unit on the scale of its column: (arcsinh - mean) / sd, at most `LARGEST` from 0."""
    value = (math.asinh(number) - scale["mean"]) / scale["sd"]
    return max(-LARGEST, min(LARGEST, value))


def units_of_scales(scales: Sequence[Scale]) -> dict[str, str | None]:
    """Map each column of the scales to the unit of its numbers, None for words; `LabsText.write` takes this."""
    return {scale["column"]: scale["unit"] if scale["mean"] is not None else None for scale in scales}


def cell_spans(labs: LabsText, scales: Sequence[Scale], labs_object: str) -> list[CellSpan]:
    """Find the cells and history items in the text of a lab row.

    The whole sentence of a number belongs to its cell. Of a history only the items do, because the words around them
    are the same for every patient. The comparator of a limit ("<") is an item of words, so that it is not lost.

    Args:
        labs: the row with its text.
        scales: of the model.
        labs_object: object of the sentences.
    """
    places = {scale["column"]: place for place, scale in enumerate(scales)}
    cells = {cell.name: cell for cell in labs.cells}
    spans, start = [], 0
    for index, (name, sentence) in enumerate(zip(labs.used, labs.sentences, strict=True)):
        cell, place = cells[name], places[name]
        value_start = start + len(f"{name} of the {labs_object} is ")
        number = number_of(cell) if scales[place]["mean"] is not None else None
        if number is None:
            end = start + len(sentence)
            spans += [CellSpan(*ends, index, place, None) for ends in _items(value_start, cell.value, end)]
        else:
            value = standardise(number, scales[place])
            spans.append(CellSpan(start, start + len(sentence), index, place, value))
            if cell.is_limit:
                sign = len(cell.value) - len(cell.value.lstrip(COMPARATORS + "="))
                spans.append(CellSpan(value_start, value_start + sign, index, place, None))
        start += len(sentence) + len(SEPARATOR)
    return spans


def _items(start: int, value: str, end: int) -> list[tuple[int, int]]:
    """Find (start, end) of the items of a cell of words, which are separated by commas.

    Args:
        start: first character of the value in the text.
        value: the value.
        end: character behind the sentence. The last item reaches to it, because a unit belongs to its value.
    """
    items, place = [], start
    for item in value.split(","):
        inner = place + len(item) - len(item.lstrip())
        if item.strip():
            items.append((inner, place + len(item)))
        place += len(item) + 1
    return [*items[:-1], (items[-1][0], end)] if items else []


def cell_inputs(
    labs: Sequence[LabsText], offsets: np.ndarray, scales: Sequence[Scale], labs_object: str
) -> dict[str, np.ndarray]:
    """Compute the four arrays (B, L) that this file describes.

    Args:
        labs: B rows with their texts.
        offsets: (B, L, 2) first character of each token, and the character behind its last one; equal for a special
            token.
        scales: of the model.
        labs_object: object of the sentences.
    """
    shape = offsets.shape[:2]
    ids, columns = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    values, mask = np.zeros(shape, np.float32), np.zeros(shape, bool)
    starts, is_text = offsets[..., 0], offsets[..., 1] > offsets[..., 0]
    for row, text in enumerate(labs):
        spans = cell_spans(text, scales, labs_object)
        if not spans:
            continue
        # A token belongs to the last span that begins at or before it. The comparator of a limit is a span inside the
        # span of its number, which goes on behind it.
        places = np.searchsorted([span.start for span in spans], starts[row], side="right") - 1
        ends = np.array([span.end for span in spans])
        places = np.where((places > 0) & (starts[row] >= ends[places]), _outer(ends)[places], places)
        inside = is_text[row] & (places >= 0) & (starts[row] < ends[places])
        chosen = places[inside]
        ids[row, inside] = chosen + 1
        columns[row, inside] = np.array([span.column for span in spans])[chosen]
        values[row, inside] = np.array([span.value or 0.0 for span in spans])[chosen]
        mask[row, inside] = np.array([span.value is not None for span in spans])[chosen]
    return {"cell_ids": ids, "cell_columns": columns, "cell_values": values, "cell_mask": mask}


def _outer(ends: np.ndarray) -> np.ndarray:
    """Return the place of the span around each span, or the span's own place if there is none.

    Only the span of a comparator lies in another one, that of its number, which comes just before it.
    """
    places = np.arange(len(ends))
    places[1:] -= ends[1:] < ends[:-1]
    return places


__all__ = ["cell_inputs", "cell_spans", "check_labs_scales", "fit_labs_scales", "standardise", "units_of_scales"]
