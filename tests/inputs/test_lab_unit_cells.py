"""Units that stand in a cell of their own beside the value."""

import pytest

from tgmm_hf import TgmmConfig
from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.inputs.lab_unit_systems import declare_units
from tgmm_hf.inputs.processor_parts import BERT_CASED_SIZE
from tgmm_hf.processing_tgmm import default_processor


@pytest.mark.parametrize("name", ["Creatinine_unit", "creatinine unit", "Creatinine Units", "unit_Creatinine"])
@pytest.mark.parametrize("system", [None, "US", "SI"])
def test_the_unit_of_another_cell_is_the_unit_of_the_value(name, system):
    row = {"Creatinine": 124, name: "umol/L", "Sodium": 140}
    labs = LabsText.from_row(declare_units(row, system))
    assert {cell.name: cell.number for cell in labs.cells} == {
        "Creatinine": pytest.approx(1.4, rel=0.01),
        "Sodium": 140,
    }
    assert not labs.refused


def test_a_unit_that_is_not_known_refuses_the_value():
    labs = LabsText.from_row({"Troponin I": 0.5, "Troponin I_unit": "ng/dL"})
    assert not labs.cells and [entry["item"] for entry in labs.refused] == ["labs.Troponin I"]


def test_a_value_with_its_own_unit_keeps_it():
    labs = LabsText.from_row({"Creatinine": (1.4, "mg/dL"), "Creatinine_unit": "umol/L"})
    assert labs.cells[0].number == 1.4


@pytest.mark.parametrize("unit", ["", None, float("nan"), "x" * 50, 3])
def test_what_is_no_unit_is_left_as_a_cell_of_its_own(unit):
    labs = LabsText.from_row({"Sodium": 140, "Sodium_unit": unit})
    cell = {"Sodium_unit": str(unit)} if unit in ("x" * 50, 3) else {}
    assert {cell.name: cell.value for cell in labs.cells} == {"Sodium": "140"} | cell
    assert not labs.refused and not labs.cells[0].unit


@pytest.mark.parametrize(
    ("name", "value", "text", "is_named"),
    [
        *[("INR", 1.2, text, False) for text in ("-", "ratio", "1", "INR", "n.a.", "N/A", "Ratio", "{ratio}")],
        *[("Sodium", 140, text, False) for text in ("unknown", ".")],
        *[("Sodium", 140, text, True) for text in ("mmol", "see report", "m")],
        ("Hematocrit", 40, "Vol", True),
        ("glucose", 100, "ICU", True),
        ("age", 54, "M", True),
        ("age", 54, "w", True),
    ],
)
def test_a_text_that_is_no_unit_refuses_no_value(name, value, text, is_named):
    labs = LabsText.from_row({name: value, f"{name}_unit": text})
    assert labs.cells[0].number == value and not labs.refused
    assert f"{name}_unit" in [cell.name for cell in labs.cells] or text in ("-", "n.a.", "N/A", ".")
    assert [f"{name}_unit is not read as the unit of {name}" in note for note in labs.unit_notes] == [True] * is_named
    assert all(note in labs.notes for note in labs.unit_notes)


@pytest.mark.parametrize(("name", "text"), [("medical history", "hypertension"), ("gender", "F")])
def test_a_column_of_words_has_no_unit(name, text):
    labs = LabsText.from_row({name: text, f"{name} unit": "CCU"})
    assert {cell.name: cell.value for cell in labs.cells} == {name: text, f"{name} unit": "CCU"} and not labs.refused


def test_a_value_with_a_unit_in_its_text_keeps_it():
    labs = LabsText.from_row({"Creatinine": "1.4 mg/dL", "Creatinine_unit": "mg/dL serum"})
    assert labs.cells[0].number == 1.4 and "is not read as the unit" in labs.unit_notes[0]


def test_a_cell_that_is_used_as_a_unit_is_noted():
    labs = LabsText.from_row({"Creatinine": 124, "Creatinine_unit": "umol/L", "Sodium": None, "Sodium_unit": "mmol/L"})
    assert labs.unit_notes == ["labs: Creatinine_unit is the unit of Creatinine"]
    assert labs.unit_notes[0] in labs.notes


@pytest.mark.parametrize("units", [None, "US"])
def test_a_column_that_the_model_was_trained_with_is_no_unit(units):
    processor = default_processor(TgmmConfig.tiny(labs_config={"vocab_size": BERT_CASED_SIZE}))
    row = {"Creatinine": 1.4, "Creatinine_unit": "mg/dL"}
    assert processor.labs_text(row, units).text == "Creatinine of the patient is 1.4"
    processor.labs_columns = ["Creatinine", "Creatinine_unit"]
    labs = processor.labs_text(row, units)
    assert labs.text == "Creatinine of the patient is 1.4; Creatinine_unit of the patient is mg/dL"
    assert not labs.unit_notes
