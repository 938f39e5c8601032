"""The laboratory row inside prepared data.

A row is parsed once, by `tgmm prepare`: names, units and values are then in their final form. It is stored as JSON,
{column: value} or {column: [value, unit]}, in the order of the text. Training, the cache of frozen features and the
tokenizer build their text from the stored cells. They do not parse them again. The sentences themselves are not stored,
because their wording and their maximum length belong to the processor, which may change after the data are prepared.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tgmm_hf.inputs.lab_columns import COLUMNS
from tgmm_hf.inputs.lab_text import LabCell, format_number
from tgmm_hf.processing_tgmm import TgmmProcessor

StoredLabs = dict[str, Any]
"""Column -> value or [value, unit], in the order of the text."""

_COLUMN_BY_NAME = {column.name: column for column in COLUMNS}
_COMPARATORS = "<>≤≥"


def store_cells(cells: Sequence[LabCell]) -> str:
    """Write parsed cells as JSON; no cell gives an empty text."""
    stored: StoredLabs = {}
    for cell in cells:
        is_plain_number = cell.number is not None and cell.value[0] not in _COMPARATORS
        value = float(cell.value) if is_plain_number else cell.value
        stored[cell.name] = [value, cell.unit] if cell.unit else value
    return json.dumps(stored, ensure_ascii=False) if stored else ""


def stored_labs(row: Mapping[str, Any]) -> StoredLabs:
    """Read the laboratory row of a prepared row; without labs it is empty."""
    return json.loads(str(row["labs"])) if row["labs"] else {}


def stored_cells(labs: StoredLabs) -> list[LabCell]:
    """Make the cells that were stored. Nothing is parsed or checked again."""
    return [_stored_cell(name, value) for name, value in labs.items()]


def _stored_cell(name: str, stored: Any) -> LabCell:
    value, unit = stored if isinstance(stored, list) else (stored, "")
    column = _COLUMN_BY_NAME.get(name)
    if isinstance(value, str):
        return LabCell(name, value, unit, None, column)
    return LabCell(name, format_number(value), unit, value, column)


def labs_text(processor: TgmmProcessor, labs: StoredLabs) -> str:
    """Write the text of a stored laboratory row as the processor words it; an empty row gives an empty text."""
    return processor.cells_text(stored_cells(labs)).text


def hide_cells(labs: StoredLabs, chance: float, generator: np.random.Generator) -> StoredLabs:
    """Hide each cell of a laboratory row at a chance. If no cell would be left, hide none."""
    shown = generator.random(len(labs)) >= chance
    return {name: value for (name, value), show in zip(labs.items(), shown, strict=True) if show} or labs
