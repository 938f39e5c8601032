"""Names of laboratory columns: what a hospital writes is read as the same quantity, and as no other quantity."""

import csv
import gzip

import numpy as np
import pytest

from tgmm_hf.inputs.lab_columns import find_column, split_name, suggest_column
from tgmm_hf.inputs.lab_text import LabsText


def column_of(written: str) -> str | None:
    """Name of the column that a written name is read as."""
    column = find_column(split_name(written)[0])
    return None if column is None else column.name


@pytest.mark.parametrize("name", ["Plasma Hemoglobin", "P-Hb (g/L)", "P-Hemoglobin", "serum hematocrit", "S-WBC"])
def test_free_haemoglobin_and_the_like_are_not_read_as_whole_blood(name):
    assert column_of(name) is None


@pytest.mark.parametrize(
    "name", ["b_weight", "B Weight", "p_age", "s-sex", "B-BMI", "Serum height", "blood race", "p k"]
)
def test_a_specimen_in_front_of_a_patients_own_data_is_not_taken_off(name):
    assert column_of(name) is None


@pytest.mark.parametrize(
    ("name", "column", "unit"),
    [
        ("Creatinine (µmol/L)", "Creatinine", "umol/L"),
        ("Creatinine (μmol/L)", "Creatinine", "umol/L"),
        ("WBC (x10^9/L)", "White Blood Cells", "10^9/L"),
        ("WBC 10⁹/L", "White Blood Cells", "10^9/L"),
        ("TSH (µIU/mL)", "Thyroid Stimulating Hormone", "uIU/mL"),
        ("CK (µkat/L)", "Creatine Kinase (CK)", "ukat/L"),
        ("MCV (µm³)", "MCV", "um3"),
        ("BMI (kg/m²)", "BMI", "kg/m2"),
        ("B-Hb (g/L)", "Hemoglobin", "g/L"),
        ("fP-Glucose (mmol/L)", "Glucose", "mmol/L"),
    ],
)
def test_spellings_of_units_in_names_are_read(name, column, unit):
    known, found_unit = split_name(name)
    assert (column_of(name), found_unit or unit) == (column, unit)
    assert find_column(known) is not None


def test_no_item_of_mimic_is_read_as_a_column_by_its_specimen_alone(shared_dir):
    path = shared_dir / "data" / "mimic_iv_demo" / "hosp" / "d_labitems.csv.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        labels = {row["label"] for row in csv.DictReader(file)}
    assert len(labels) > 500
    assert {label for label in labels if find_column(label) is None and column_of(label) is not None} == set()


@pytest.mark.parametrize("form", [7.2, (7.2, "10^9/L"), "7.2 10^9/L", "7.2 x10^9/L", "7.2 10*9/L", "7.2 K/uL"])
def test_a_unit_that_starts_with_a_digit_is_a_unit(form):
    assert LabsText.from_row({"WBC": form}).write().text == "White Blood Cells of the patient is 7.2"


@pytest.mark.parametrize("raw", ["1,4", "1,4 mg/dL", "1,4 H"])
def test_a_comma_is_refused_with_or_without_a_unit(raw):
    labs = LabsText.from_row({"Creatinine": raw}).write()
    assert labs.text == "" and "comma" in labs.refused[0]["reason"]


def test_float32_and_flags_use_the_value_of_the_text():
    forms = [(np.float32(97.3), "umol/L"), (97.3, "umol/L"), (1.1, "mg/dL"), 1.1]
    rows = [{"gender": "F", "Creatinine": form} for form in forms]
    assert len({LabsText.from_row(row).write(flags=True).text for row in rows}) == 1


def test_a_known_column_without_training_is_not_called_a_slip():
    labs = LabsText.from_row({"Creatinine": 1.4, "Creatinin": 1.4})
    labs.write(columns=["Sodium"])
    notes = "\n".join(labs.notes)
    assert "Creatinin is not used" in notes and notes.count("did you mean") == 1


@pytest.mark.parametrize("name", ["U-Sodium", "Urine Sodium", "CSF Glucose", "urine_creatinine"])
def test_another_specimen_gets_no_hint_of_the_column_of_blood(name: str) -> None:
    assert suggest_column(name) is None
