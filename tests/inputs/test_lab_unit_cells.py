"""Units that stand in a cell of their own beside the value."""

import pytest

from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.inputs.lab_unit_systems import declare_units


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
    assert labs.cells[0].number == 140
