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

from tgmm_hf.inputs.lab_scales import Scale, fit_labs_scales
from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.processing_tgmm import TgmmProcessor

StoredLabs = dict[str, Any]
"""Column -> value or [value, unit], in the order of the text."""


def store_labs(labs: LabsText) -> str:
    """Write parsed cells as JSON text, see [`StoredLabs`]. Return "" if there is no cell."""
    values = labs.stored_values()
    return json.dumps(values, ensure_ascii=False) if values else ""


def stored_labs(row: Mapping[str, Any]) -> StoredLabs:
    """Read the stored cells of a prepared row. Return {} if the row has no labs."""
    return json.loads(str(row["labs"])) if row["labs"] else {}


def written_labs(processor: TgmmProcessor, labs: StoredLabs) -> LabsText:
    """Return a stored laboratory row with its text, in the words of `processor`. An empty row has no text."""
    return processor.write_labs(LabsText.from_stored(labs)) if labs else LabsText()


def labs_text(processor: TgmmProcessor, labs: StoredLabs) -> str:
    """Write the sentences of a stored laboratory row, in the words of `processor`. Return "" for an empty row."""
    return written_labs(processor, labs).text


def scales_of(dataset: Any) -> list[Scale]:
    """Compute the scales of the lab columns of a prepared split, see `fit_labs_scales`."""
    rows = dataset.with_format(None).select_columns("labs")
    return fit_labs_scales(LabsText.from_stored(stored_labs(row)) for row in rows)


def columns_of(dataset: Any) -> list[str]:
    """List the columns that the lab rows of a prepared split hold, sorted by name."""
    rows = dataset.with_format(None).select_columns("labs")
    return sorted({name for row in rows for name in stored_labs(row)})


def hide_cells(labs: StoredLabs, chance: float, generator: np.random.Generator) -> StoredLabs:
    """Return a laboratory row without some of its cells.

    Args:
        labs: Stored cells. They are not changed.
        chance: Probability of each cell to be hidden. If all cells were drawn, none is hidden.
        generator: Source of the random numbers.
    """
    shown = generator.random(len(labs)) >= chance
    return {name: value for (name, value), show in zip(labs.items(), shown, strict=True) if show} or labs
