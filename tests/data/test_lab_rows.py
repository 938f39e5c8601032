"""A laboratory row survives storage: the stored cells give the text that the processor writes for the row itself."""

import json
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tgmm_hf.data.lab_rows import hide_cells, labs_text, store_labs, stored_labs
from tgmm_hf.inputs.lab_table import COLUMNS
from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.processing_tgmm import TgmmProcessor

NAMES = st.sampled_from([column.name for column in COLUMNS]) | st.text(min_size=1, max_size=12)
WORDS = st.sampled_from(["<0.01", ">= 5", "2-4", "HEMOLYZED", "F", "male", "a; b", " 1.40 ", "0"])
TEXTS = WORDS | st.text(max_size=12)
VALUES = st.floats() | st.integers(-(10**6), 10**6) | TEXTS
CELLS = VALUES | st.tuples(VALUES, st.sampled_from(["mg/dL", "g/L", "umol/L", "%", "", None]))
ROWS = st.dictionaries(NAMES, CELLS, max_size=6)


@settings(max_examples=30, deadline=None)
@given(row=ROWS)
def test_stored_cells_word_the_row_as_the_checked_cells_do(row: dict[str, Any], processor: TgmmProcessor) -> None:
    labs = stored_labs({"labs": store_labs(LabsText.from_row(row))})
    assert labs_text(processor, labs) == processor.labs_text(row).text


@settings(max_examples=60, deadline=None)
@given(row=ROWS)
def test_storing_stored_cells_changes_nothing(row: dict[str, Any]) -> None:
    stored = store_labs(LabsText.from_row(row))
    assert store_labs(LabsText.from_stored(stored_labs({"labs": stored}))) == stored


def test_a_row_of_an_earlier_version_is_read() -> None:
    stored = json.dumps({"NTproBNP": [500.0, "pg/mL"], "Creatinine": 1.3, "Troponin T": "<0.01", "ward": "B2"})
    cells = LabsText.from_stored(stored_labs({"labs": stored})).cells
    assert {cell.name: (cell.value, cell.unit) for cell in cells} == {
        "NTproBNP": ("500", "pg/mL"),
        "Creatinine": ("1.3", ""),
        "Troponin T": ("<0.01", ""),
        "ward": ("B2", ""),
    }


def test_hidden_cells_leave_at_least_one() -> None:
    labs = {"Creatinine": 1.3, "Sodium": 140.0}
    for seed in range(20):
        assert hide_cells(labs, 0.99, np.random.default_rng(seed))
