"""No cell of a written table is a formula, and reading gives back what was written."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tgmm_hf.utils.csv_files import FORMULA_STARTS, csv_text, plain_cell, safe_cell


@pytest.mark.parametrize("text", ['=HYPERLINK("http://x")', "+1+1", "-1+cmd", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_a_formula_becomes_text(text: str) -> None:
    table = csv_text(["id", "reason"], [{"id": text, "reason": text}])
    _, row = csv.reader(io.StringIO(table, newline=""))
    assert row == [f"'{text}"] * 2


@pytest.mark.parametrize("value", ["-3", "+4.5", "1e-3", -3, 0.5, None, "a=b", "", "p-1"])
def test_numbers_and_plain_texts_stay(value: object) -> None:
    assert safe_cell(value) == value


@given(st.text(max_size=8))
def test_a_cell_survives_writing_and_reading(text: str) -> None:
    assert plain_cell(safe_cell(text)) == text or (text[:1] == "'" and text[1:].startswith(FORMULA_STARTS))


def test_a_header_is_safe_and_a_missing_cell_empty() -> None:
    assert csv_text(["=a", "b"], [{"=a": 1}]) == "'=a,b\n1,\n"
