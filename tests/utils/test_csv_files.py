"""No cell of a written table is a formula, and reading gives back what was written."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tgmm_hf.data.instructions import Instruction
from tgmm_hf.data.note_tables import NoteRow
from tgmm_hf.training import instruction_data, more_data
from tgmm_hf.utils.csv_files import FORMULA_STARTS, csv_text, plain_cell, safe_cell, write_csv_file


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


def test_a_written_file_is_safe_and_whole(tmp_path: Path) -> None:
    rows = [{"id": "=1+1", "reason": "two\r\nlines"}, {"id": "half \ud800", "reason": None}]
    write_csv_file(tmp_path / "deep" / "refused.csv", ["id", "reason"], rows)
    with (tmp_path / "deep" / "refused.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["id", "reason"], ["'=1+1", "two\r\nlines"], ["half \\ud800", ""]]


def test_the_tables_of_a_training_hold_no_formula(tmp_path: Path) -> None:
    name = "=HYPERLINK(1)"
    note = NoteRow(name, "p1", "train", "x.png", None, "a note")
    more_data.write_refused([note], {"xray": {"x.png": "no picture"}, "ecg": {}}, tmp_path / "more.csv")
    row = Instruction(name, "data", "p1", "train", "ecg", [])
    instruction_data.write_refused([row], {0: "no ECG"}, tmp_path / "ecg.csv")
    assert (tmp_path / "more.csv").read_text().splitlines()[1] == f"'{name},train,xray,no picture"
    assert (tmp_path / "ecg.csv").read_text().splitlines()[1] == f"'{name},train,no ECG"
