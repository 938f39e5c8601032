"""The laboratory row inside prepared data.

A row is parsed once, by `tgmm prepare`: names, units and values are then in their final form. It is stored as JSON,
{column: value} or {column: [value, unit]}, in the order of the text. Training, the cache of frozen features and the
tokenizer build their text from the stored cells. They do not parse them again. The sentences themselves are not stored,
because their wording and their maximum length belong to the processor, which may change after the data are prepared.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.processing_tgmm import TgmmProcessor

StoredLabs = dict[str, Any]
"""Column -> value or [value, unit], in the order of the text."""


def store_labs(labs: LabsText) -> str:
    """Write checked cells as JSON; no cell gives an empty text."""
    values = labs.stored_values()
    return json.dumps(values, ensure_ascii=False) if values else ""


def stored_labs(row: Mapping[str, Any]) -> StoredLabs:
    """Read the laboratory row of a prepared row; without labs it is empty."""
    return json.loads(str(row["labs"])) if row["labs"] else {}


def labs_text(processor: TgmmProcessor, labs: StoredLabs) -> str:
    """Write the text of a stored laboratory row as the processor words it; an empty row gives an empty text."""
    return processor.write_labs(LabsText.from_stored(labs)).text if labs else ""


def columns_of(dataset: Any) -> list[str]:
    """List the columns that the lab rows of a prepared split hold, sorted by name."""
    rows = dataset.with_format(None).select_columns("labs")
    return sorted({name for row in rows for name in stored_labs(row)})


def hide_cells(labs: StoredLabs, chance: float, generator: np.random.Generator) -> StoredLabs:
    """Hide each cell of a laboratory row at a chance. If no cell would be left, hide none."""
    shown = generator.random(len(labs)) >= chance
    return {name: value for (name, value), show in zip(labs.items(), shown, strict=True) if show} or labs
