"""Results as laboratories print them are read, and what looks alike stays refused."""

import pytest

from tgmm_hf.inputs.lab_text import LabsText

READ = [
    ("Potassium", "5.9 H mmol/L", "5.9"), ("Potassium", "5.9 (H) mmol/L", "5.9"), ("Potassium", "*5.9 mmol/L", "5.9"),
    ("Potassium", "H 5.9 mmol/L", "5.9"), ("CRP", "88 mg/L +", "88"), ("Hemoglobin", "9.8 g/dL --", "9.8"),
    ("Sodium", "138 (133-145) mmol/L", "138"), ("Sodium", "148 (133-145) mmol/L H", "148"),
    ("Potassium", "5.1 (3.5-5.0) H", "5.1"), ("Hematocrit", "0.38 L / L", "38"),
    ("NTproBNP", "1,234.5 pg/mL", "1234.5"),
    ("Platelet Count", "1,250,000 /uL", "1250"), ("WBC", "7.5 K/cumm", "7.5"), ("WBC", "7.5 thou/mcL", "7.5"),
    ("WBC", "7.5 Gpt/l", "7.5"), ("RBC", "4.5 mil/uL", "4.5"), ("RBC", "4.5 Tpt/L", "4.5"), ("PTT", "33 seconds", "33"),
    ("INR", "2.5 INR", "2.5"), ("weight", "180 lbs.", "81.6"), ("height", "5'7\"", "170"),
    ("height", "5 ft 7 in", "170"),
    ("height", "6'", "183"), ("age", "54-year-old", "54"), ("age", "90+", "90"), ("age", "90 +", "90"),
    ("Anion Gap", "-2 mEq/L", "-2"), ("Anion Gap", "+12 mEq/L", "12"), ("Glucose, plasma", "110 mg/dL", "110"),
    ("Glucose, fasting (mg/dL)", "110", "110"), ("Cholesterol, Total", "201 mg/dL", "201"),
    ("BMI", "31 kg/m2 +", "31"), ("% Hemoglobin A1c", "7.5 % +", "7.5"), ("CRP", "88 mg/L (+)", "88"),
    ("height", "5'07\"", "170"), ("height", '67"', "170"), ("height", "67''", "170"),
    ("height", "5'7\" (170 cm)", "170"), ("height", "5 ft 7 in (1.70 m)", "170"), ("height", '67" (171 cm)', "170"),
    ("age", "90+ years", "90"),
    ("% Hemoglobin A1c", "7.2 % (55 mmol/mol)", "7.2"), ("HbA1c", "55 mmol/mol (7.2 %)", "7.18"),
    ("Creatinine", "88 µmol/L (1.0 mg/dL)", "0.995"), ("weight", "81.6 kg (180 lb)", "81.6"),
    ("weight", "81.6 kg (179 lb 14.4 oz)", "81.6"), ("height", "170.2 cm (5' 7\")", "170.2"),
    ("height", "1.702 m (5' 7\")", "170.2"), ("height", "170 cm (67 in)", "170"),
    ("Potassium", "5.6 High", "5.6"), ("Potassium", "3.2 Low mmol/L", "3.2"), ("Sodium", "128 mmol/L (Low)", "128"),
    ("Potassium", "6.2 Critical", "6.2"), ("ALT", "35 (U/L)", "35"), ("Hemoglobin", "9.8 gm/dL", "9.8"),
    ("WBC", "7.5 x10(3)/uL", "7.5"), ("WBC", "7.5 /nl", "7.5"), ("WBC", "7.5 Tsd./µl", "7.5"),
    ("RBC", "4.5 /pl", "4.5"), ("RBC", "4.5 Mio./µl", "4.5"), ("RBC", "4.5 x10(6)/uL", "4.5"),
    ("RBC", "4.5 10(12)/L", "4.5"),
    ("Platelet Count", "250 Giga/l", "250"), ("ALT", "35 UI/L", "35"), ("ALT", "35 unit/L", "35"),
    ("PTT", "33 Sek.", "33"), ("INR", "2.5 ratio", "2.5"), ("age", "65 岁", "65"),
    ("Platelet Count", "250\u00a0000 /µl", "250"), ("NTproBNP", "12\u202f500 ng/L", "12500"),
    ("age", "90 + yrs", "90"), ("age", "90+ years old", "90"),
    ("Troponin T", "0.0 ng/mL (80 ng/L)", "0.08"), ("CRP", "1 mg/dL (19 mg/L)", "19"),
]  # fmt: skip
REFUSED = [
    ("Troponin T", "0.1 ng/mL (1 ng/L)"), ("Creatinine", "2 mg/dL (100 umol/L)"),
    ("Platelet Count", "250,000 /uL"), ("NTproBNP", "12,345 pg/mL"), ("Creatinine", "1,4"),
    ("Potassium", "5.9 X mmol/L"),
    ("Sodium", "138 (mmol/L)(133-145) 4"), ("height", "5'17\""), ("height", "9'1\""), ("Hemoglobin", "9.8 Gpt/L"),
    ("Potassium", "4.5 K/cumm"), ("NTproBNP", "1,23,456 pg/mL"), ("NTproBNP", "1.234,5 ng/L"), ("Sodium", "+ 138 4"),
    ("Potassium", "5.9 mmol/L + 2"), ("Sodium", "138/85"),
    *((column, grade) for column in ("Albumin", "Lactate", "Uric Acid")
      for grade in ("3 +", "2 +++", "1+", "2++", "2 ++", "1 (+)", "3(++)", "3 H +")),
    ("height", "5'7\" (175 cm)"), ("height", "5'7\" (67 in)"), ("height", "5'7\" (170)"), ("height", "5'012\""),
    ("Potassium", "4.1\u00a0140 mmol/L"), ("Potassium", "4.1\u00a0133"), ("HbA1c", "7.2 % (45 mmol/mol)"),
    ("weight", "81.6 kg (120 lb)"), ("Sodium", "138 mmol/L (133 mmol/L)"), ("height", "170 cm (5'9\")"),
    ("height", "170 cm (9'9\")"), ("age", "54 (M)"), ("Hemoglobin", "9.8 /nl"), ("Potassium", "4.1 (n/a)"),
    ("weight", "179 lb 99 oz"),
    ("height", "67'"), ("height", '12"'), ("height", '98"'), ("height", '170"'), ("age", "90+ months"),
    ("age", "90+ 5"),
]  # fmt: skip


@pytest.mark.parametrize(("column", "written", "value"), READ)
def test_a_result_as_it_is_printed_is_read(column: str, written: str, value: str) -> None:
    row = LabsText.from_row({column: written})
    assert not row.refused and [cell.value for cell in row.cells] == [value]


@pytest.mark.parametrize(("column", "written"), REFUSED)
def test_a_result_that_may_mean_something_else_stays_refused(column: str, written: str) -> None:
    row = LabsText.from_row({column: written})
    assert row.refused and not row.cells


@pytest.mark.parametrize(
    "name",
    ["Potassium, RBC", "Chloride, Whole Blood", "Glucose, urine", "Hemoglobin, plasma", "Creatinine, serum/urine"],
)
def test_another_specimen_behind_a_comma_is_another_column(name: str) -> None:
    assert all(cell.column is None for cell in LabsText.from_row({name: 5.9}).cells)


@pytest.mark.parametrize(
    ("word", "letter"),
    [
        ("weiblich", "F"),
        ("weibl.", "F"),
        ("女", "F"),
        ("男", "M"),
        ("Frau", "F"),
        ("femme", "F"),
        ("mujer", "F"),
        ("männlich", "M"),
        ("homme", "M"),
        ("hombre", "M"),
        ("feminin", "F"),
        ("Femmina", "F"),
        ("vrouw", "F"),
        ("maschio", "M"),
        ("maennlich", "M"),
    ],
)
def test_a_gender_in_another_language_is_read(word: str, letter: str) -> None:
    assert [cell.value for cell in LabsText.from_row({"gender": word}).cells] == [letter]


@pytest.mark.parametrize("word", ["Donna", "Frau", "Mann", "Homme", "vrouw", "Maschio"])
def test_a_name_or_word_of_another_language_is_no_gender_among_words(word: str) -> None:
    assert [cell.value for cell in LabsText.from_row({"ethnicity": word}).cells] == [word]
    assert LabsText.from_row({"ethnicity": "Female"}).refused and LabsText.from_row({"ethnicity": "man"}).refused


@pytest.mark.parametrize("word", ["w", "h", "f/m", "X", "hommes"])
def test_another_word_for_a_gender_is_refused(word: str) -> None:
    assert LabsText.from_row({"gender": word}).refused
