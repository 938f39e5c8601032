"""Lab rows: units, aliases, refusals, number format, order, text."""

import json
import math
import random
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tgmm_hf.inputs.lab_cells import format_number
from tgmm_hf.inputs.lab_columns import find_column
from tgmm_hf.inputs.lab_table import ALIAS_FACTORS, COLUMNS
from tgmm_hf.inputs.lab_text import SEPARATOR, LabsText, gender_of
from tgmm_hf.inputs.lab_unit_systems import declare_units
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import read_json


def read_cells(row):
    labs = LabsText.from_row(row)
    return labs.cells, labs


def sentences(row, flag=False, labs_object="patient"):
    cells, _ = read_cells(row)
    return [cell.sentence(labs_object, gender_of(cells), flag) for cell in cells]


def refusals(row):
    return {entry["item"]: entry["reason"] for entry in read_cells(row)[1].refused}


def test_one_sentence_per_cell_in_the_order_of_the_table():
    row = {"Sodium": 138, "zinc": 80, "Creatinine": 1.4, "age": 71, "Aldosterone": 12, "gender": "F"}
    assert sentences(row) == [
        "age of the patient is 71",
        "gender of the patient is F",
        "Creatinine of the patient is 1.4",
        "Sodium of the patient is 138",
        "Aldosterone of the patient is 12",
        "zinc of the patient is 80",
    ]
    assert sentences({"Sodium": 138}, labs_object="woman") == ["Sodium of the woman is 138"]


def test_order_does_not_depend_on_the_rows_order():
    row = {
        column.name: 50 for column in COLUMNS if column.is_number and column.plausible[0] <= 50 <= column.plausible[1]
    }
    items = list(row.items())
    random.Random(0).shuffle(items)
    assert sentences(dict(items)) == sentences(row)


@pytest.mark.parametrize(
    "missing",
    [
        None,
        float("nan"),
        np.nan,
        np.float32("nan"),
        pd.NA,
        pd.NaT,
        "",
        "  ",
        "___",
        "nan",
        "None",
        "N/A",
        "<NA>",
        (None, "mg/dL"),
    ],
)
def test_missing_cells_leave_no_trace(missing):
    cells, report = read_cells({"Creatinine": missing, "unheard of": missing, "gender": missing, "Sodium": 140})
    assert [cell.name for cell in cells] == ["Sodium"]
    assert report.refused == [] and report.unknown == []


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("NT-proBNP", "NTproBNP"),
        ("ntprobnp", "NTproBNP"),
        ("nt_pro_bnp", "NTproBNP"),
        ("crea", "Creatinine"),
        ("CREATININE", "Creatinine"),
        ("Na", "Sodium"),
        ("K+", "Potassium"),
        ("sex", "gender"),
        ("race", "ethnicity"),
        ("BUN", "Urea Nitrogen"),
        ("calcium", "Calcium, Total"),
        ("HbA1c", "% Hemoglobin A1c"),
        ("past medical history", "medical history"),
        ("Body Mass Index", "BMI"),
    ],
)
def test_an_alias_finds_its_column(written, name):
    assert find_column(written).name == name


def test_no_name_or_alias_names_two_columns():
    keys = {}
    for column in COLUMNS:
        for name in (column.name, *column.aliases):
            assert find_column(name) is column, name
            keys.setdefault(name, column)
    assert all(find_column(alias).name == name for alias, (name, _) in ALIAS_FACTORS.items())


# value and unit as another laboratory would write them -> value in the canonical unit, from published tables
@pytest.mark.parametrize(
    ("name", "value", "unit", "expected"),
    [
        ("Creatinine", 88.4, "µmol/L", 1.0),
        ("Creatinine", 88.4, "umol/l", 1.0),
        ("Glucose", 5.55, "mmol/L", 100),
        ("Urea Nitrogen", 3.57, "mmol/L", 10),
        ("urea", 3.57, "mmol/L", 10),
        ("urea", 21.4, "mg/dL", 10),
        ("Hemoglobin", 135, "g/L", 13.5),
        ("Hemoglobin", 8.07, "mmol/L", 13),
        ("Calcium", 2.5, "mmol/L", 10),
        ("Magnesium", 0.82, "mmol/L", 2),
        ("Phosphate", 1.13, "mmol/L", 3.5),
        ("Bilirubin", 17.1, "µmol/L", 1),
        ("Troponin T", 14, "ng/L", 0.014),
        ("NTproBNP", 14.8, "pmol/L", 125),
        ("BNP", 10.1, "pmol/L", 35),
        ("Potassium", 4.2, "mmol/L", 4.2),
        ("WBC", 7200, "/uL", 7.2),
        ("Platelets", 250, "x10^9/L", 250),
        ("Platelets", 250, "10*9/L", 250),
        ("RBC", 4.5, "10^12/L", 4.5),
        ("Hematocrit", 0.42, "L/L", 42),
        ("Cholesterol", 5.17, "mmol/L", 200),
        ("Triglycerides", 1.69, "mmol/L", 150),
        ("Uric Acid", 357, "µmol/L", 6),
        ("CRP", 1.2, "mg/dL", 12),
        ("Lactate", 18, "mg/dL", 2),
        ("Albumin", 42, "g/L", 4.2),
        ("ALT", 0.5, "µkat/L", 30),
        ("height", 1.75, "m", 175),
        ("weight", 154, "lb", 69.9),
    ],
)
def test_foreign_units_are_converted(name, value, unit, expected):
    (cell,), report = read_cells({name: (value, unit)})
    assert report.refused == []
    assert float(cell.value) == pytest.approx(expected, rel=0.01)
    assert cell.unit == find_column(name).unit


NUMBER_COLUMNS = [column for column in COLUMNS if column.is_number]


@pytest.mark.parametrize("units", ["never", "always"])
@pytest.mark.parametrize("column", NUMBER_COLUMNS, ids=lambda column: column.name)
def test_one_value_has_one_text_whatever_unit_was_given(column, units):
    low, high = column.reference_range("F") or column.usual
    low = max(low, column.usual[0])
    value = float(f"{low + (min(high, 2 * low + 100) - low) * 0.37:.4g}")
    forms = [(value, column.unit), f"{value} {column.unit}".strip()]
    forms += [((value - column.offsets.get(unit, 0)) / factor, unit) for unit, factor in column.factors.items()]
    if not column.unit:
        forms = [value]
    rows = [{column.name: form} for form in forms] + [declare_units({column.name: value}, "US")]
    texts = {LabsText.from_row(row).write(units=units).text for row in rows}
    assert len(texts) == 1
    bare = LabsText.from_row({column.name: value}).write(units=units)
    assert bare.text in texts or [check["code"] for check in bare.checks] == ["labs_doubtful_unit"]
    assert texts.pop().endswith(f" {column.unit}") == (units == "always") or not column.unit


def test_conversions_are_reported():
    assert sentences({"Creatinine": (1.4, "mg/dL")}) == ["Creatinine of the patient is 1.4"]
    assert sentences({"Creatinine": [1.4, None]}) == ["Creatinine of the patient is 1.4"]
    assert sentences({"Creatinine": "124 µmol/L"}) == ["Creatinine of the patient is 1.4"]
    assert sentences({"zinc": (80, "ug/dL")}) == ["zinc of the patient is 80 ug/dL"]
    assert read_cells({"Creatinine": (124, "umol/L"), "Sodium": (140, "mEq/L")})[1].converted == ["Creatinine"]


def test_unknown_unit_is_refused_with_the_known_ones():
    reason = refusals({"Creatinine": (1.4, "furlong")})["labs.Creatinine"]
    assert "'furlong'" in reason and "mg/dL" in reason and "umol/L" in reason


def test_high_sensitivity_troponin_needs_its_unit():
    _, refused = read_cells({"hs-TnT": 14})
    assert "ng/L" in refused.refused[0]["reason"] and "ng/mL" in refused.refused[0]["reason"]
    cells, _ = read_cells({"hs-TnT": (14, "ng/L")})
    assert (cells[0].name, cells[0].number) == ("Troponin T", pytest.approx(0.014))


def test_a_number_too_large_is_refused_not_raised():
    cells, report = read_cells({"Creatinine": "1e400"})
    assert not cells and len(report.refused) == 1


def test_urea_needs_its_unit():
    assert "mmol/L or mg/dL" in refusals({"Urea": 7})["labs.Urea"]
    assert sentences({"BUN": (20, "mg/dL")}) == ["Urea Nitrogen of the patient is 20"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.4, "1.4"),
        (np.float32(1.4), "1.4"),
        (1.3999999, "1.4"),
        (0.1 + 0.2, "0.3"),
        (5210, "5210"),
        (5210.0, "5210"),
        (np.int64(7), "7"),
        (Decimal("1.40"), "1.4"),
        ("1.40", "1.4"),
        (" 1.4 ", "1.4"),
        (123456.7, "123457"),
        (0.00012, "0.00012"),
        (0, "0"),
        ("<0.01", "<0.01"),
        ("> 2.80", ">2.8"),
        ("2-4", "2-4"),
        ("HEMOLYZED", "HEMOLYZED"),
    ],
)
def test_values_are_written_without_noise(value, text):
    assert sentences({"Ferritin": value}) == [f"Ferritin of the patient is {text}"]


def test_format_number_has_no_exponent_and_is_exact_to_six_digits():
    values = np.random.default_rng(0).lognormal(0, 6, 500)
    for value in values:
        text = format_number(value)
        assert "e" not in text and float(text) == pytest.approx(value, rel=1e-5)
    assert format_number(-3.0) == "-3"


def test_comparators_are_converted_too():
    assert sentences({"Troponin T": ("<10", "ng/L")}) == ["Troponin T of the patient is <0.01"]
    assert sentences({"Troponin T": "<10 ng/L"}) == ["Troponin T of the patient is <0.01"]


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ({"K": 140}, ["140", "1 to 15 mEq/L"]),
        ({"Creatinine": -1}, ["-1", "0.01 to 50"]),
        ({"Creatinine": 124}, ["124", "umol/L"]),
        ({"age": 300}, ["300", "0 to 125 years"]),
        ({"Creatinine": (9000, "umol/L")}, ["9000 umol/L = 101.808 mg/dL", "50 mg/dL"]),
        ({"Creatinine": True}, ["bool"]),
        ({"Creatinine": np.bool_(True)}, ["bool"]),
        ({"Creatinine": math.inf}, ["finite"]),
        ({"Creatinine": [1, 2, 3]}, ["list of 3"]),
        ({"Creatinine": (1.4, 2)}, ["tuple"]),
        ({"Creatinine": b"1.4"}, ["bytes"]),
        ({"Creatinine": "1,4"}, ["'1,4'", "comma"]),
        ({"Creatinine": ("high", "umol/L")}, ["'high'", "umol/L", "mg/dL"]),
        ({"Creatinine": ("1.4 mg/dL", "umol/L")}, ["mg/dL", "umol/L"]),
        ({"gender": 1}, ["F or M"]),
        ({"gender": "0"}, ["F or M"]),
        ({"gender": "Divers"}, ["F or M"]),
        ({"zinc": True}, ["bool"]),
        ({"  ": 3}, ["column name"]),
    ],
)
def test_refusals_state_the_values(row, parts):
    cells, report = read_cells(row)
    assert cells == []
    assert len(report.refused) == 1
    for part in parts:
        assert part in report.refused[0]["reason"]


def test_one_bad_cell_does_not_take_the_others():
    assert sentences({"K": 140, "Na": 138}) == ["Sodium of the patient is 138"]


def test_two_names_of_one_column_must_agree():
    assert sentences({"Na": 138, "Sodium": 138.0}) == ["Sodium of the patient is 138"]
    assert sentences({"Creatinine": 1.0, "crea": (88.4, "umol/L")}) == ["Creatinine of the patient is 1"]
    cells, report = read_cells({"Na": 138, "Sodium": 141, "K": 4})
    assert [cell.name for cell in cells] == ["Potassium"]
    assert "138" in report.refused[0]["reason"] and "141" in report.refused[0]["reason"]


@pytest.mark.parametrize(
    ("row", "last"),
    [
        ({"Creatinine": 1.15, "sex": "M"}, "1.15 (normal)"),
        ({"Creatinine": 1.15, "sex": "F"}, "1.15 (high)"),
        ({"Creatinine": 1.15}, "1.15"),  # the range depends on a sex that is not given
        ({"Sodium": 120}, "120 (low)"),
        ({"Sodium": (140, "mmol/L")}, "140 (normal)"),
        ({"Cholesterol, HDL": 90}, "90 (normal)"),
        ({"Troponin T": "<0.01"}, "<0.01"),
        ({"zinc": 80}, "80"),
    ],
)
def test_flags_compare_with_the_reference_range(row, last):
    assert sentences(row, flag=True)[-1].endswith(f" is {last}")


def test_text_cells_cannot_break_the_sentences():
    (text,) = sentences({"medical history": "atrial fibrillation;\n type 2\tdiabetes"})
    assert SEPARATOR.strip() not in text and "\n" not in text
    assert text == "medical history of the patient is atrial fibrillation, type 2 diabetes"


def test_unknown_columns_are_kept_and_named():
    cells, report = read_cells({"Zinc  level": 3.0, "Na": 140})
    assert [cell.name for cell in cells] == ["Sodium", "Zinc level"]
    assert report.unknown == ["Zinc level"]


def test_column_table_is_consistent():
    for column in COLUMNS:
        if column.factors or column.unit:
            assert column.is_number, column.name
        for gender in ("F", "M"):
            if limits := column.reference_range(gender):
                assert limits[0] < limits[1], column.name
                assert limits[0] in (0, math.inf) or column.plausible[0] <= limits[0], column.name
        assert column.unit not in column.factors


def test_manifest_documentation_lists_every_column():
    text = (Path(__file__).parents[2] / "docs" / "lab_columns.md").read_text(encoding="utf-8")
    for column in COLUMNS:
        assert f"| {column.name} |" in text, f"docs/your_data.md lacks {column.name}"


def test_a_real_mimic_row_is_used_without_refusal(shared_dir):
    """The latest value of each known test of one patient of the MIMIC-IV demo."""
    folder = shared_dir / "data" / "mimic_iv_demo" / "hosp"
    events = pd.read_csv(folder / "labevents.csv.gz").merge(pd.read_csv(folder / "d_labitems.csv.gz"), on="itemid")
    events = events[(events.fluid == "Blood") & events.label.map(lambda label: find_column(str(label)) is not None)]
    subject = events.subject_id.value_counts().index[0]
    rows = events[events.subject_id == subject].sort_values("charttime").groupby("label").last()
    cells, report = read_cells({label: (row.value, row.valueuom) for label, row in rows.iterrows()})
    assert len(cells) >= 20
    assert report.refused == []


def test_every_real_mimic_value_is_taken_or_refused_with_a_reason(shared_dir):
    folder = shared_dir / "data" / "mimic_iv_demo" / "hosp"
    events = pd.read_csv(folder / "labevents.csv.gz").merge(pd.read_csv(folder / "d_labitems.csv.gz"), on="itemid")
    events = events[(events.fluid == "Blood") & (events.category != "Blood Gas")]
    known = events[events.label.map(lambda label: find_column(str(label)) is not None)]
    refused = 0
    for label, value, unit in zip(known.label, known.value, known.valueuom, strict=True):
        unit = None if isinstance(unit, float) else unit
        refused += len(read_cells({label: (value, unit)})[1].refused)
    assert len(known) > 10_000
    assert refused == 0


def test_notes_name_what_was_changed() -> None:
    """Text for a number, a conversion, and a slip in a name do not pass unsaid."""
    row = {"Calcium": (2.3, "mmol/L"), "Sodium": 140, "BNP": "hemolysed", "Creatinin": 1.4, "foot": 1}
    _, report = read_cells(row)
    assert report.not_numbers == ["BNP"] and not report.refused
    notes = "\n".join(report.write().notes)
    assert (
        "BNP holds text where a number is expected" in notes
        and "Calcium, Total was converted from mmol/L to mg/dL" in notes
    )
    assert "Creatinin is not used" in notes and "(did you mean Creatinine?)" in notes
    assert "foot is not used" in notes and report.used == ["BNP", "Sodium", "Calcium, Total"]
    assert report.units == [
        {"column": "Sodium", "unit": "mEq/L", "given": False, "given_unit": ""},
        {"column": "Calcium, Total", "unit": "mg/dL", "given": True, "given_unit": "mmol/L"},
    ]


def test_one_value_in_two_units_may_be_rounded_apart():
    both = LabsText.from_row({"weight": (70, "kg"), "Weight (lb)": 154})
    assert [cell.value for cell in both.cells] == ["70"] and not both.refused
    assert LabsText.from_row({"weight": (70, "kg"), "Weight (lb)": 164}).refused
    assert LabsText.from_row({"weight": (70, "kg"), "Body weight": (70.2, "kg")}).refused


def test_a_row_is_read_once_and_written_with_what_has_room():
    row = {"age": 71, "Creatinine": (124, "umol/L"), "foot": 1, "K": 140, "Sodium": None}
    labs = LabsText.from_row(row)
    assert [cell.name for cell in labs.cells] == ["age", "Creatinine", "foot"] and labs.text == ""
    columns = ["age", "Creatinine", "foot"]
    assert labs.write(labs_object="woman", columns=columns).text == (
        "age of the woman is 71; Creatinine of the woman is 1.4; foot of the woman is 1"
    )
    assert (labs.used, labs.dropped, labs.unknown, labs.unused) == (columns, [], ["foot"], [])
    labs.write(fitting=lambda sentences: [1], columns=columns)
    assert labs.text == "Creatinine of the patient is 1.4"
    assert (labs.used, labs.dropped, labs.unknown) == (["Creatinine"], ["age", "foot"], [])
    labs.write(columns=["age", "foot"])
    assert (labs.used, labs.unused) == (["age", "foot"], ["Creatinine"])
    assert [refusal["item"] for refusal in labs.refused] == ["labs.K"]
    assert LabsText.from_row({}).write().text == ""


def test_stored_values_hold_canonical_names_and_units():
    row = {"crea": (124, "umol/L"), "TnT": "<10 ng/L", "BNP": "HEMOLYZED", "zinc": (80, "ug/dL"), "sex": "female"}
    stored = LabsText.from_row(row).stored_values()
    assert stored == {
        "gender": "F",
        "BNP": "HEMOLYZED",
        "Troponin T": ["<0.01", "ng/mL"],
        "Creatinine": [1.4, "mg/dL"],
        "zinc": [80.0, "ug/dL"],
    }
    again = LabsText.from_stored(stored)
    assert again.write(flags=True).text == LabsText.from_row(stored).write(flags=True).text
    assert {cell.name: cell.number for cell in again.cells} == {
        "gender": None,
        "BNP": None,
        "Troponin T": 0.01,
        "Creatinine": 1.4,
        "zinc": 80.0,
    }


def test_a_converted_value_too_large_for_a_float_is_refused_not_raised():
    (refusal,) = LabsText.from_row({"Calcium": (1.7e308, "mmol/L")}).refused
    assert "inf mg/dL is impossible" in refusal["reason"]
    assert len(LabsText.from_row({"Sodium": 10**400, "zinc": 10**400}).refused) == 2


@pytest.mark.parametrize(
    ("written", "value", "expected"),
    [
        ("NT proBNP (ng/L)", 1240, ("NTproBNP", 1240.0)),
        ("Hb (g/L)", 101, ("Hemoglobin", 10.1)),
        ("Hb [g/dL]", 10.1, ("Hemoglobin", 10.1)),
        ("hsTnT (ng/L)", 23, ("Troponin T", 0.023)),
        ("S-Creatinine", "124 umol/L", ("Creatinine", 1.4027)),
        ("creatinine_mg_dl", 1.4, ("Creatinine", 1.4)),
        ("fP-Glucose mmol/L", 5.5, ("Glucose", 99.088)),
        ("Serum Sodium", 140, ("Sodium", 140.0)),
        ("Age (years)", 74, ("age", 74.0)),
        ("INR(PT)", 1.1, ("INR(PT)", 1.1)),
    ],
)
def test_names_with_units_and_specimens_are_read(written, value, expected):
    (cell,), labs = read_cells({written: value})
    assert (cell.name, cell.number) == (expected[0], pytest.approx(expected[1], rel=1e-3))
    assert not labs.refused


@pytest.mark.parametrize("written", ["U-Sodium", "Glucose (CSF)", "Creatinine clearance", "B cells"])
def test_another_quantity_is_not_read_as_a_known_column(written):
    (cell,), labs = read_cells({written: 100})
    assert cell.column is None
    assert labs.write().text == "" and written in labs.notes[-1]


def test_a_name_and_a_value_with_different_units_are_refused():
    assert "'g/L'" in refusals({"Hb (g/L)": (10.1, "g/dL")})["labs.Hb (g/L)"]


@pytest.mark.parametrize(
    ("raw", "number", "flag"),
    [
        ("5.1 (3.5-5.0)", 5.1, "(3.5-5.0)"),
        ("5.1 mmol/L [ref: 3.5 – 5.0]", 5.1, "(3.5-5.0)"),
        ("5.1 (3.5 to 5.0 mmol/L) H", 5.1, "H (3.5-5.0)"),
        ("5.1 mmol/l (3.5-5.0 mmol/L)", 5.1, "(3.5-5.0)"),
        ("5.1 H (<5.0)", 5.1, "H (limit)"),
        ("5.9 H", 5.9, "H"),
        ("5.9*", 5.9, "*"),
        ("5.9 L", 5.9, "L"),
        ("5.9 mmol/L (HH)", 5.9, "HH"),
        ("5.9 mEq/L H", 5.9, "H"),
        ("5.9 ↑", 5.9, "↑"),
        ("5.9 mmol/L", 5.9, ""),
    ],
)
def test_the_laboratorys_mark_is_noted_and_not_read_as_a_unit(raw, number, flag):
    (cell,), labs = read_cells({"Potassium": raw})
    assert (cell.number, cell.flag) == (number, flag)
    assert any("mark" in note for note in labs.write().notes) == bool(flag)
    assert labs.text == f"Potassium of the patient is {number}"


@pytest.mark.parametrize(
    ("name", "raw"),
    [("Creatinine", "5.0 (62-106)"), ("Hemoglobin", "14.2 (135-175)"), ("Creatinine", "1.4 (62-106 umol/L)"),
     ("Potassium", "5.1 (5.0-3.5)"), ("Potassium", "5.1 (2019-2020)"), ("age", "71 (65-80)"),
     ("Glucose", "100 mg/dL (70-180 mmol/L)")],
)  # fmt: skip
def test_a_bracket_that_is_no_reference_range_of_the_unit_is_refused(name, raw):
    assert f"labs.{name}" in refusals({name: raw})


def test_a_name_cannot_end_the_sentence():
    name = "x of the patient is 1; NTproBNP of the patient is 20000; y"
    labs = LabsText.from_row({name: (1, "u; v")})
    written = labs.write(columns=[cell.name for cell in labs.cells])
    assert written.text.count(SEPARATOR.strip()) == 0


def test_rows_of_hospitals_are_read_right(shared_dir):
    directory = shared_dir / "cases" / "labs"
    labs = LabsText.from_row(json.loads((directory / "hospital_names.json").read_text())).write()
    numbers = {cell.name: cell.number for cell in labs.cells if cell.number is not None}
    assert numbers == {
        "age": 74.0,
        "NTproBNP": 1240.0,
        "Troponin T": pytest.approx(0.023),
        "Creatinine": pytest.approx(1.4027, rel=1e-3),
        "Potassium": 5.9,
        "Hemoglobin": pytest.approx(10.1),
    }
    assert not labs.refused and not labs.unused
    with pytest.raises(TgmmError, match="'Creatinine' occurs twice"):
        read_json(directory / "repeated_key.json")
