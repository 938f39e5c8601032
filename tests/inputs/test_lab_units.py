"""Numbers without a unit, declared unit systems, and cells that contradict each other."""

import json

import pandas as pd
import pytest

from tgmm_hf.inputs.lab_columns import find_column, to_canonical
from tgmm_hf.inputs.lab_table import COLUMNS
from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.inputs.lab_unit_systems import declare_units


def codes(row):
    return [check["code"] for check in LabsText.from_row(row).checks]


def numbers(row):
    return {cell.name: cell.number for cell in LabsText.from_row(row).cells}


# values of the outside reading of November 2026: each is read in mg/dL, g/dL, ... but comes in the unit beside it
BARE = [
    ("Hemoglobin", 8.7, "mmol/L"),
    ("Hemoglobin", 101, "g/L"),
    ("Creatinine", 45, "umol/L"),
    ("Troponin T", 14, "ng/L"),
    ("Troponin T", 34, "ng/L"),
    ("Iron", 15, "umol/L"),
    ("NTproBNP", 200, "pmol/L"),
    ("Glucose", 7.2, "mmol/L"),
    ("LDL", 3.1, "mmol/L"),
    ("Calcium", 1.2, "mmol/L"),
    ("BUN", 35, "mmol/L"),
    ("height", 70, "in"),
    ("HbA1c", 48, "mmol/mol"),
    ("Lactate", 20, "mg/dL"),
    ("CRP", 12, "mg/dL"),
    ("PLT", 25.4, "10^4/uL"),
    ("PLT", 9.6, "10^4/uL"),
    ("PLT", 2.54, "lakh/cumm"),
    ("WBC", 89, "10^2/uL"),
    ("WBC", 45, "10^2/uL"),
    ("RBC", 450, "10^4/uL"),
    ("weight", 180, "lb"),
]
# units of another measurement under the same name, which no factor converts
ANOTHER = [("PT", 92, "%"), ("CK-MB", 18, "U/L"), ("RDW", 39, "fL"), ("RDW", 44, "fL")]


@pytest.mark.parametrize(("name", "value", "unit"), BARE + ANOTHER)
def test_a_number_that_fits_two_units_is_not_used_and_is_named(name, value, unit):
    labs = LabsText.from_row({name: value, "Sodium": 140})
    assert [cell.name for cell in labs.cells] == ["Sodium"]
    assert [refusal["item"] for refusal in labs.refused] == [f"labs.{name}"]
    if find_column(name).plausible[0] <= value <= find_column(name).plausible[1]:
        assert labs.checks[0]["code"] == "labs_doubtful_unit"
    assert unit in labs.refused[0]["reason"]
    assert str(value) not in json.dumps(labs.checks)


@pytest.mark.parametrize(("name", "value"), [("BUN", 15), ("NTproBNP", 62), ("Iron", 50), ("Hb", 11.5)])
def test_a_number_that_is_normal_in_the_canonical_unit_only_is_used_and_named(name, value):
    labs = LabsText.from_row({name: value})
    assert [cell.number for cell in labs.cells] == [value] and not labs.refused
    assert [check["code"] for check in labs.checks] == ["labs_unit_assumed"]
    assert not LabsText.from_row({name: (value, find_column(name).unit)}).checks


@pytest.mark.parametrize(("name", "value", "unit"), BARE)
def test_the_same_number_with_its_unit_is_used(name, value, unit):
    column = find_column(name)
    assert numbers({name: (value, unit)}) == {column.name: pytest.approx(to_canonical(column, value, unit))}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"Creatinine": 1.4, "Sodium": 140, "Potassium": 4.1, "age": 71, "INR": 1.1}, None),
        ({"Hemoglobin": 14, "Glucose": 95, "Platelets": 210, "WBC": 7.1, "NTproBNP": 5210}, None),
        ({"Troponin T": 0.03, "Hematocrit": 41, "LDL": 110, "TSH": 2.1}, None),
    ],
)
def test_a_number_that_fits_one_unit_is_used_without_a_word(row, expected):
    labs = LabsText.from_row(row)
    assert len(labs.cells) == len(row) and not labs.refused and not labs.checks


@pytest.mark.parametrize(("value", "unit"), [(1.4, "umol/L"), (45, "mg/dL"), (1.4, "mmol/L"), (0.5, "mmol/L")])
def test_a_unit_that_makes_a_value_unlikely_is_doubted(value, unit):
    assert codes({"Creatinine": (value, unit)}) == ["labs_doubtful_unit"]


@pytest.mark.parametrize(
    ("name", "value", "unit"),
    [
        ("Creatinine", 0.09, "mmol/L"),
        ("Creatinine", 0.12, "mmol/L"),
        ("Creatinine", 9, "mg/L"),
        ("Glucose", 2.5, "g/L"),
    ],
)
def test_a_rare_unit_is_used_where_its_number_fits_no_other_unit(name, value, unit):
    labs = LabsText.from_row({name: (value, unit)})
    assert len(labs.cells) == 1 and not labs.refused and not labs.checks


def test_an_unusual_value_is_doubted_if_another_unit_makes_it_normal():
    """13 mmol/L is 20.9 g/dL, which is unusual, and 13 g/dL is normal. A value in the column's own unit is used."""
    assert codes({"Hemoglobin": (13, "mmol/L")}) == ["labs_doubtful_unit"]
    assert codes({"Hemoglobin": (20.9, "g/dL")}) == ["labs_unusual_value"]
    assert codes({"Calcium": (4.7, "mg/dL")}) == ["labs_unusual_value"]


def test_the_refusal_of_a_rare_unit_gives_value_and_conversion():
    [refusal] = LabsText.from_row({"Creatinine": (1.4, "mmol/L")}).refused
    assert "1.4 mmol/L = 15.8 mg/dL" in refusal["reason"] and "usual in mg/dL" in refusal["reason"]


def test_a_mark_behind_a_number_does_not_hide_a_wrong_unit():
    assert codes({"Hb (g/L)": "9.8 L"}) == ["labs_doubtful_unit"]


def test_very_sick_values_with_their_unit_are_used():
    row = {"Hemoglobin": (3.2, "g/dL"), "Creatinine": (24, "mg/dL"), "Sodium": (98, "mmol/L"), "Iron": (4, "ug/dL")}
    assert len(LabsText.from_row(row).cells) == len(row)


@pytest.mark.parametrize(("name", "value"), [("PLT", 2.5), ("PLT", 25.4), ("WBC", 89), ("WBC", 290)])
def test_a_count_with_its_unit_is_not_doubted_for_units_of_single_countries(name, value):
    assert numbers({name: (value, "K/uL")}) == {find_column(name).name: value}


@pytest.mark.parametrize(("name", "value"), [("PLT", 254), ("PLT", 62), ("WBC", 8.9), ("WBC", 24)])
def test_a_usual_count_without_a_unit_is_used_without_a_word(name, value):
    assert numbers({name: value}) == {find_column(name).name: value} and not codes({name: value})


def test_a_declared_system_gives_the_unit():
    row = {"Hemoglobin": 8.7, "Creatinine": "1.4 H", "BUN": 15, "NTproBNP": 1240, "gender": "F", "zinc": 3}
    us = declare_units(row, "US")
    assert us["Hemoglobin"] == (8.7, "g/dL") and us["gender"] == "F" and us["zinc"] == 3
    assert numbers(us)["Urea Nitrogen"] == 15 and numbers(us)["Creatinine"] == 1.4 and numbers(us)["NTproBNP"] == 1240
    si = declare_units({"Creatinine": 124, "Glucose": 7.2, "Hb": 101, "Haematocrit": 0.42, "HbA1c": 48}, "SI")
    assert numbers(si) == {
        "Creatinine": pytest.approx(1.4027, rel=1e-3),
        "Glucose": pytest.approx(129.7, rel=1e-3),
        "Hemoglobin": pytest.approx(10.1),
        "Hematocrit": pytest.approx(42),
        "% Hemoglobin A1c": pytest.approx(6.54, rel=1e-2),
    }
    assert declare_units(row, None) == row
    with pytest.raises(ValueError, match="SI"):
        declare_units(row, "metric")


def test_a_declared_system_that_is_wrong_is_found():
    us_row = {"Creatinine": 124, "Glucose": 7.2, "Calcium": 2.3, "LDL": 3.1}
    assert not LabsText.from_row(declare_units(us_row, "US")).cells
    si_row = {"Creatinine": 1.4, "Glucose": 130, "Calcium": 9.2, "LDL": 110, "Hb": 14}
    assert not LabsText.from_row(declare_units(si_row, "SI")).cells


def test_what_a_system_does_not_decide_stays_in_doubt():
    assert codes(declare_units({"NTproBNP": 1240}, "SI")) == ["labs_doubtful_unit"]


def test_a_declared_system_does_not_change_units_of_the_row():
    row = {"Creatinine": (124, "umol/L"), "Hb (g/L)": 101, "Glucose": "7.2 mmol/L", "Urea": 7}
    assert declare_units(row, "US") == row


PRINTED = [
    ("Platelet Count", "1'250 K/uL", "1250"), ("Platelet Count", "250 \u00d7 10\u2079/L", "250"),
    ("NTproBNP", "5\u202f210 pg/mL", "5210"), ("NTproBNP", "15\u2009210", "15210"),
    ("Creatinine", "1\u00b74 mg/dL", "1.4"), ("White Blood Cells", ("7.5", "\u00d710\u2079/L"), "7.5"),
    ("Creatinine", "106 mcmol/L", "1.2"), ("NTproBNP", "1'2500", None), ("NTproBNP", "5'21", None),
]  # fmt: skip


@pytest.mark.parametrize(("column", "value", "text"), PRINTED)
def test_numbers_and_units_as_they_are_printed_are_read(column, value, text):
    labs = LabsText.from_row({column: value})
    assert [cell.value for cell in labs.cells] == ([] if text is None else [text]) and bool(labs.refused) == (not text)


@pytest.mark.parametrize(
    ("value", "years"),
    [("071Y", 71), ("71 y", 71), ("71 yrs", 71), ("90+", 90), ((30, "months"), 2.5), ("018M", 1.5), ("> 89", 89)],
)
def test_ages_are_read_in_the_ways_that_hospitals_write_them(value, years):
    assert numbers({"age": value}) == {"age": pytest.approx(years)}


@pytest.mark.parametrize(
    ("name", "value", "unit", "expected"),
    [
        ("WBC x 1000", 7.2, "K/mcL", 7.2),
        ("platelets x 1000", 210, "K/mcL", 210),
        ("RBC", 4.5, "M/mcL", 4.5),
        ("PT - INR", 1.2, "", 1.2),
        ("ALT (SGPT)", 30, "Units/L", 30),
        ("AST (SGOT)", 30, "[IU]/L", 30),
        ("CPK", 100, "Units/L", 100),
        ("CPK-MB", 4, "ng/mL", 4),
        ("total cholesterol", 200, "mg/dL", 200),
        ("TSH", 2.1, "mcU/mL", 2.1),
        ("WBC", 7200, "/mm3", 7.2),
        ("WBC", 7.2, "10*9/L", 7.2),
        ("HbA1c", 48, "mmol/mol", 6.54),
        ("PLT", 25.4, "×10^4/µL", 254),
        ("PLT", 2.54, "lakh/cumm", 254),
        ("WBC", 89, "10^2/uL", 8.9),
        ("RBC", 450, "10^4/uL", 4.5),
    ],
)
def test_names_and_units_of_other_centres_are_known(name, value, unit, expected):
    (number,) = numbers({name: (value, unit)}).values()
    assert number == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"height": 175, "weight": 80, "BMI": 40}, "labs_body_mass"),
        ({"height": (150, "cm"), "weight": (240, "kg")}, "labs_body_mass"),
        ({"height": (210, "cm"), "weight": (36, "kg")}, "labs_body_mass"),
        ({"height": (80, "cm"), "weight": (175, "kg")}, "labs_height_weight"),
        ({"LDL": 210, "total cholesterol": 180}, "labs_cholesterol"),
        ({"LDL": 150, "HDL": 70, "total cholesterol": 180}, "labs_cholesterol"),
        ({"Hemoglobin": 14, "Hematocrit": 20}, "labs_hematocrit"),
        ({"Hematocrit": 42, "RBC": 4.7, "MCV": 60}, "labs_red_cells"),
        ({"Hb": (14, "g/dL"), "RBC": 4.6, "MCH": 24}, "labs_red_cells"),
        ({"Hb": (14, "g/dL"), "Hematocrit": 42, "MCHC": 26}, "labs_red_cells"),
        ({"Sodium": 140, "Chloride": 102, "HCO3": 25, "Anion Gap": 30}, "labs_anion_gap"),
        ({"Sodium": 102, "Chloride": 140, "HCO3": 25, "Anion Gap": 13}, "labs_anion_gap"),
        ({"Sodium": 104, "Chloride": 140}, "labs_anion_gap"),
        ({"Sodium": 125, "Chloride": 125, "HCO3": 24}, "labs_anion_gap"),
        ({"Sodium": 139, "Chloride": 104, "HCO3": 48}, "labs_anion_gap"),
        ({"PT": 12.5, "INR": 3.4}, "labs_clotting"),
        ({"PT": (40, "sec"), "INR": 1.0}, "labs_clotting"),
        ({"BNP": (900, "pg/mL"), "NTproBNP": (300, "pg/mL")}, "labs_natriuretic"),
        ({"BNP": (20, "pg/mL"), "NTproBNP": (5210, "pg/mL")}, "labs_natriuretic"),
        ({"CK": 80, "CK-MB": (200, "ng/mL")}, "labs_creatine_kinase"),
        ({"LDL": 20, "HDL": 50, "total cholesterol": 230, "TG": (100, "mg/dL")}, "labs_cholesterol"),
        ({"age": 3}, "patient_not_adult"),
    ],
)
def test_contradictions_within_a_row_are_named(row, code):
    assert code in codes(row)


def test_a_consistent_row_has_no_finding():
    row = {"age": 71, "height": 175, "weight": 80, "BMI": 26.1, "LDL": 110, "HDL": 50, "total cholesterol": 190}
    row |= {"Hemoglobin": (9.6, "g/dL"), "Hematocrit": 29.5, "RBC": 3.27, "MCV": 90, "MCH": 29.4, "MCHC": 32.5}
    row |= {"Sodium": 138, "Chloride": 101, "HCO3": 24, "Anion Gap": 13, "PT": 27, "INR": 2.4, "TG": (120, "mg/dL")}
    row |= {"BNP": (480, "pg/mL"), "NTproBNP": (3900, "pg/mL"), "CK": 300, "CK-MB": (22, "ng/mL")}
    assert codes(row) == []
    assert codes({"height": (150, "cm"), "weight": (150, "kg")}) == []
    assert codes({"Sodium": 138, "Chloride": 110, "HCO3": 24}) == codes({"Sodium": 120, "Chloride": 80}) == []
    assert codes({"height": (80, "cm"), "weight": (175, "kg")}).count("labs_body_mass") == 0  # named once, as exchanged


@pytest.mark.parametrize(
    ("name", "value"),
    [("Sodium", 81), ("Potassium", 12), ("MCV", 150), ("INR", 22), ("Sodium", "81-84")],
)
def test_a_value_that_no_unit_explains_is_used_and_named(name, value):
    column = find_column(name)
    labs = LabsText.from_row({name: (value, column.unit) if column.unit else value})
    assert [cell.name for cell in labs.cells] == [column.name]
    assert [(check["code"], check["item"]) for check in labs.checks] == [("labs_unusual_value", f"labs.{column.name}")]
    assert str(value) not in json.dumps(labs.checks)


@pytest.mark.parametrize("text", ["#VALUE!", "#REF!", "#DIV/0!", "#NAME?", "#####"])
def test_an_error_of_a_spreadsheet_is_no_result(text):
    labs = LabsText.from_row({"Creatinine": text})
    assert not labs.cells and "spreadsheet" in labs.refused[0]["reason"]
    assert not LabsText.from_row({"Creatinine": "#N/A", "Glucose": "pending"}).refused  # missing cells


def test_marks_of_two_kinds_are_read():
    assert numbers({"Potassium": "6.3 H*"}) == {"Potassium": 6.3}


def test_a_range_in_a_unit_that_cannot_be_converted_is_not_called_impossible():
    [refusal] = LabsText.from_row({"Hemoglobin": ("120-130", "g/L")}).refused
    assert "cannot be converted" in refusal["reason"] and "impossible" not in refusal["reason"]


def test_a_value_that_nobody_survived_is_not_used_and_a_limit_of_an_assay_is_no_result():
    assert not LabsText.from_row({"Potassium": 19}).cells
    assert codes({"TSH": "<0.001", "NTproBNP": (">35000", "pg/mL")}) == []


def test_every_column_of_numbers_has_a_usual_range_inside_the_plausible_one():
    for column in COLUMNS:
        if column.is_number:
            assert column.plausible[0] <= column.usual[0] < column.usual[1] <= column.plausible[1], column.name
        assert all(unit == column.unit or unit in column.factors for unit in column.si), column.name


def test_real_results_with_their_units_are_not_doubted(shared_dir):
    folder = shared_dir / "data" / "mimic_iv_demo" / "hosp"
    events = pd.read_csv(folder / "labevents.csv.gz").merge(pd.read_csv(folder / "d_labitems.csv.gz"), on="itemid")
    events = events[(events.fluid == "Blood") & (events.category != "Blood Gas")].head(20_000)
    known = events[events.label.map(lambda label: find_column(str(label)) is not None)]
    doubted = outside = 0
    for label, value, unit in zip(known.label, known.value, known.valueuom, strict=True):
        for row in ({label: (value, None if isinstance(unit, float) else unit)}, declare_units({label: value}, "US")):
            labs = LabsText.from_row(row)
            doubted += sum(check["code"] != "labs_unusual_value" for check in labs.checks)
        cells = [cell for cell in labs.cells if cell.number is not None]
        outside += sum(not cell.column.usual[0] <= cell.number <= cell.column.usual[1] for cell in cells)
    assert doubted == 0 and outside < 0.001 * len(known)


def test_case_without_units_is_not_used_in_silence(shared_dir):
    row = json.loads((shared_dir / "cases" / "labs" / "no_units.json").read_text())
    labs = LabsText.from_row(row)
    assert [cell.name for cell in labs.cells] == ["gender"]
    assert [check["code"] for check in labs.checks] == ["labs_doubtful_unit"] * 4


@pytest.mark.parametrize("row", [{"medical history": "a\ud800b"}, {"a\ud800": "x"}, {"zinc": (3, "\udfff")}])
def test_a_damaged_character_refuses_the_cell_only(row):
    labs = LabsText.from_row({**row, "Sodium": 140})
    assert [cell.name for cell in labs.cells] == ["Sodium"] and len(labs.refused) == 1
    json.dumps(labs.refused, ensure_ascii=False).encode("utf-8")


@pytest.mark.parametrize("value", ["2026-04-01", "04-01", "140-", "4-2", "1:160", ("2026-04-01", "mg/dL")])
def test_a_date_or_a_code_is_no_result(value):
    labs = LabsText.from_row({"Creatinine": value})
    assert not labs.cells and len(labs.refused) == 1


def test_one_value_with_a_comparator_has_one_text():
    texts = {
        LabsText.from_row({"Troponin T": (value, "ng/mL")}).write().text for value in ("≤ 0.01", "<=0.01", "<= 0.01")
    }
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("medical history", ["Hypertension", "Chronic kidney disease"]),
        ("gender", ["M", "F"]),
        ("ethnicity", ("A", "B")),
    ],
)
def test_two_texts_in_a_text_column_are_refused_because_one_would_be_lost(name, value):
    labs = LabsText.from_row({name: value, "Sodium": 140})
    assert [cell.name for cell in labs.cells] == ["Sodium"] and len(labs.refused) == 1


@pytest.mark.parametrize(
    ("name", "value"), [("Potassium", "140-145"), ("Hemoglobin", "87-90"), ("Creatinine", "100-120")]
)
def test_a_range_of_another_unit_is_refused(name, value):
    labs = LabsText.from_row({name: value})
    assert not labs.cells and [entry["item"] for entry in labs.refused] == [f"labs.{name}"]


def test_a_range_in_the_canonical_unit_is_kept_and_a_lone_sign_is_missing():
    labs = LabsText.from_row({"RBC": "2-4", "Potassium": "-", "Sodium": "?", "Chloride": "."})
    assert [cell.name for cell in labs.cells] == ["Red Blood Cells"] and not labs.refused


@pytest.mark.parametrize(("name", "value", "unit"), ANOTHER)
def test_a_number_of_another_measurement_is_refused_with_its_unit(name, value, unit):
    labs = LabsText.from_row({name: (value, unit)})
    assert not labs.cells and "is not known" in labs.refused[0]["reason"]


def test_a_declared_system_decides_only_between_units_of_one_measurement():
    assert numbers(declare_units({"PT": 92, "CK-MB": 18, "weight": 120}, "SI")) == {"weight": 120}
    assert numbers(declare_units({"PT": 13, "CK-MB": (18, "ug/L")}, "SI")) == {
        "PT": 13,
        "Creatine Kinase, MB Isoenzyme": 18,
    }
    assert numbers(declare_units({"PT": 92, "RDW": 39}, "US")) == {"PT": 92, "RDW": 39}
    assert codes({"CK-MB": 4}) == ["labs_unit_assumed"]
    assert codes({"PT": 27, "RDW": 17, "weight": 95}) == []


@pytest.mark.parametrize("name", ["ALT", "AST"])
def test_an_enzyme_that_may_be_in_katals_is_named(name):
    labs = LabsText.from_row({name: 2.5})
    assert [check["code"] for check in labs.checks] == ["labs_unit_assumed"]
    assert not LabsText.from_row({name: (2.5, "U/L")}).checks and not LabsText.from_row({name: 25}).checks


def test_creatine_kinase_that_may_be_in_katals_is_not_used():
    assert not LabsText.from_row({"CK": 8}).cells and LabsText.from_row({"CK": (8, "U/L")}).cells


def test_exchanged_red_cell_indices_are_named_although_both_are_usual():
    row = {"Hemoglobin": (14, "g/dL"), "Hematocrit": 42, "Red Blood Cells": 4.7, "MCH": 33.3, "MCHC": 29.8}
    assert [check["code"] for check in LabsText.from_row(row).checks] == ["labs_red_cells"]
    assert not LabsText.from_row(row | {"MCH": 29.8, "MCHC": 33.3}).checks


@pytest.mark.parametrize("unit", [float("nan"), None, ""])
def test_a_unit_that_is_missing_is_none(unit):
    assert LabsText.from_row({"Sodium": (140, unit)}).cells[0].number == 140


@pytest.mark.parametrize(
    ("row", "number"), [({"PLT": "250 10\u00b3/\u00b5L"}, 250), ({"Creatinine": "'1.4 mg/dL"}, 1.4)]
)
def test_raised_digits_and_excels_apostrophe_are_read(row, number):
    assert LabsText.from_row(row).cells[0].number == number


@pytest.mark.parametrize("cell", ["5.210 ng/L", ("5.210", "ng/L"), ("12.400", "pg/mL"), "<35.000 pg/mL"])
def test_a_point_that_may_set_thousands_apart_is_marked(cell):
    labs = LabsText.from_row({"NTproBNP": cell})
    assert [check["code"] for check in labs.checks] == ["labs_doubtful_point"] and len(labs.cells) == 1


@pytest.mark.parametrize(
    "row",
    [
        {"NTproBNP": (5.21, "ng/L")},
        {"NTproBNP": ("523.000", "ng/L")},
        {"NTproBNP": ("5.21", "ng/L")},
        {"Creatinine": ("1.240", "mg/dL")},
        {"Glucose": ("98.000", "mg/dL")},
        {"Troponin T": ("0.012", "ng/mL")},
    ],
)
def test_another_number_of_digits_or_a_value_too_large_is_no_doubt(row):
    labs = LabsText.from_row(row)
    assert not labs.checks and len(labs.cells) == 1


def test_troponin_beyond_the_assay_is_marked_whatever_unit_is_typed():
    """14 ng/L is the limit of a healthy patient. 14 ng/mL lies above what the assay measures."""
    labs = LabsText.from_row({"Troponin T": (14, "ng/mL")})
    assert [check["code"] for check in labs.checks] == ["labs_unusual_value"]
    assert LabsText.from_row({"Troponin T": (20, "ng/mL")}).refused  # far outside
    assert LabsText.from_row({"Troponin T": (14, "ng/L")}).cells[0].value == "0.014"
    assert not LabsText.from_row({"Troponin T": (9.5, "ng/mL")}).checks
