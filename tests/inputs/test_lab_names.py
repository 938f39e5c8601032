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


@pytest.mark.parametrize(
    ("name", "column"),
    [("Potassium (serum)", "Potassium"), ("K (plasma)", "Potassium"), ("Glucose (fasting)", "Glucose"),
     ("Creatinine [serum]", "Creatinine"), ("Hb (blood)", "Hemoglobin"), ("Potassium (serum) (mmol/L)", "Potassium"),
     ("Sodium (serum/plasma)", "Sodium"), ("Triglycerides (fasting)", "Triglycerides"), ("Sex (M/F)", "gender"),
     ("Gender [male/female]", "gender"), ("sex (f, m)", "gender"), ("Glucose (venous plasma)", "Glucose")],
)  # fmt: skip
def test_a_specimen_in_brackets_is_read_as_one_in_front(name, column):
    assert column_of(name) == column


@pytest.mark.parametrize(
    "name",
    ["Potassium (urine)", "Glucose (CSF)", "Hb (serum)", "weight (serum)", "age (blood)", "Albumin (urine)",
     "Troponin T (delta)", "Potassium (fasting)", "Calcium (ionized)", "weight (birth)", "HbA1c (target)",
     "medical history (family)", "Glucose (post prandial)", "Sodium (M/F)", "Sex (partner)", "medical history (serum)",
     "gender (1=male, 2=female)", "Glucose (pleural)", "WBC (plasma)"],
)  # fmt: skip
def test_another_quantity_in_brackets_is_no_specimen(name):
    assert column_of(name) is None


@pytest.mark.parametrize(("raw", "number"), [("F", "F"), ("male", "M")])
def test_the_gender_under_a_name_with_its_choices_is_used(raw, number):
    assert LabsText.from_row({"Sex (M/F)": raw}).write().text == f"gender of the patient is {number}"
    assert LabsText.from_row({"Sex (M/F)": "1"}).refused


@pytest.mark.parametrize(
    ("row", "text"),
    [({"Glucose": 140, "Glucose (fasting)": 99}, "Glucose of the patient is 140"),
     ({"Glucose (fasting)": 99, "Glucose": 140}, "Glucose of the patient is 140"),
     ({"Potassium": 4.2, "Potassium (blood)": 4.6}, "Potassium of the patient is 4.2"),
     ({"K": 4.2, "Potassium (blood)": (4.6, "mmol/L")}, "Potassium of the patient is 4.2"),
     ({"Sodium": 140, "Sodium (B)": 137}, "Sodium of the patient is 140"),
     ({"Hemoglobin": 13.1, "Hemoglobin (blood)": 12.8}, "Hemoglobin of the patient is 13.1"),
     ({"Glucose": 140, "Glucose (serum)": 138}, "Glucose of the patient is 140"),
     ({"Potassium (serum)": 4.2, "Potassium (plasma)": 4.4}, ""),
     ({"Potassium (serum)": 4.2, "Potassium (plasma)": 4.2}, "Potassium of the patient is 4.2"),
     ({"Potassium": "", "Potassium (serum)": 4.2}, "Potassium of the patient is 4.2"),
     ({"Potassium": None, "Potassium (serum)": (4.2, "mmol/L")}, "Potassium of the patient is 4.2")],
)  # fmt: skip
def test_a_specimen_in_brackets_beside_the_plain_test_stays_a_column_of_its_own(row, text):
    labs = LabsText.from_row(row)
    assert labs.write().text == text and not labs.refused and not labs.checks
    assert all(find_column(name) is None for name in labs.unused) and (text or len(labs.unused) == len(row))


def test_a_gender_that_differs_from_the_one_with_choices_is_refused():
    assert LabsText.from_row({"gender": "F", "Sex (M/F)": "M"}).refused


def test_an_own_column_that_a_model_was_trained_with_keeps_its_text():
    row = {"Potassium (serum)": "4.1"}
    before = "Potassium (serum) of the patient is 4.1"
    assert LabsText.from_row(row, columns=["Potassium (serum)"]).write(columns=["Potassium (serum)"]).text == before
    assert LabsText.from_row(row).write().text == "Potassium of the patient is 4.1"


@pytest.mark.parametrize("name", ["Ca++", "Ca+", "Ca ++", "S-Ca++", "calcium++", "Ca⁺⁺", "Ca (++)", "P-Ca++"])
def test_ionised_calcium_is_not_read_as_total_calcium(name):
    labs = LabsText.from_row({name: (1.3, "mmol/L")})
    assert not labs.cells and [check["code"] for check in labs.checks] == ["labs_doubtful_unit"]
    assert not LabsText.from_row({name: (5.2, "mg/dL")}).cells


@pytest.mark.parametrize(
    ("name", "raw", "text"),
    [("Ca++", (9.5, "mg/dL"), "Calcium, Total of the patient is 9.5"),
     ("Ca++", (2.4, "mmol/L"), "Calcium, Total of the patient is 9.62"),
     ("Ca", (1.3, "mmol/L"), "Calcium, Total of the patient is 5.21"),
     ("Ca", (2.4, "mmol/L"), "Calcium, Total of the patient is 9.62"),
     ("Calcium", (6.1, "mg/dL"), "Calcium, Total of the patient is 6.1"),
     ("Na+", (140, "mmol/L"), "Sodium of the patient is 140"),
     ("K+", (4.1, "mmol/L"), "Potassium of the patient is 4.1"),
     ("Cl-", (101, "mmol/L"), "Chloride of the patient is 101"),
     ("HCO3-", (24, "mmol/L"), "Bicarbonate of the patient is 24"),
     ("Mg++", (2.0, "mg/dL"), "Magnesium of the patient is 2")],
)  # fmt: skip
def test_other_names_with_charges_and_total_calcium_are_used(name, raw, text):
    labs = LabsText.from_row({name: raw})
    assert labs.write().text == text and not labs.refused


@pytest.mark.parametrize(
    "age", ["71 yo", "71yo", "71 J.", "71 J", "71 Jahre", "71 y/o", "71 y.o.", "71 years old", "71 ans", "71 y", 71]
)
def test_an_age_as_clinics_write_it_is_used(age):
    assert LabsText.from_row({"age": age}).write().text == "age of the patient is 71"


@pytest.mark.parametrize("age", ["71 JX", "71 you", "54M", "71 joules", "old", "71-year", "1955 J."])
def test_another_text_is_no_age(age):
    assert LabsText.from_row({"age": age}).write().text in ("", "age of the patient is old")


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
