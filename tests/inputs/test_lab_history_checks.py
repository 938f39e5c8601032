"""Words of a history that do not fit gender or age, results and identity among the words: marked, used as before."""

import time

import pytest

from tgmm_hf.inputs.lab_history_checks import HISTORY, history_findings
from tgmm_hf.inputs.lab_text import LabsText


def codes_of(history: str, **cells: object) -> set[str]:
    """Codes of a row with a history. The words must be used as they are."""
    labs = LabsText.from_row({"medical history": history, **cells}).write()
    assert labs.cells[-1].value == history.replace(";", ",") and not labs.refused
    return {check["code"] for check in labs.checks}


@pytest.mark.parametrize(
    ("gender", "words"),
    [("M", word) for word in (
        "cervical cancer", "G3P2", "peripartum cardiomyopathy", "gestational diabetes", "PCOS", "breast feeding",
        "miscarriage 2010", "IUD in place", "IUD", "ovarian cancer", "G1 P0", "71 year old woman with diabetes")]
    + [("F", word) for word in (
        "PSA elevated", "elevated PSA", "PSA 12", "Gleason 7", "hydrocele", "phimosis", "hypospadias", "varicocele",
        "BPH", "71 year old gentleman with diabetes", "80-year-old man with hypertension", "65 yo male")],
)  # fmt: skip
def test_words_of_the_other_gender_are_marked(gender: str, words: str) -> None:
    for history in (words, f"Hypertension; {words}", f"Hypertension; {words}; asthma"):
        assert "labs_gender_history" in codes_of(history, gender=gender)
        other = {"M": "F", "F": "M"}[gender]
        assert "labs_gender_history" not in codes_of(history, gender=other)
        assert "labs_gender_history" not in codes_of(history)


@pytest.mark.parametrize(
    ("gender", "words"),
    [("M", word) for word in (
        "G6PD deficiency", "cervical spondylosis", "cervical spine fracture", "cervical lymphadenopathy",
        "wife had a miscarriage", "mother had breast cancer", "breast cancer", "daughter with PCOS", "IVDU",
        "born at 28 weeks gestational age", "was breast fed", "G8 pilot", "heart of a 30 year old female donor",
        "no gynecomastia", "mother had gestational diabetes", "peripartum infection of his wife")]
    + [("F", word) for word in (
        "husband has BPH", "IUD removed", "PsA", "psoriatic arthritis (PsA)", "PSA without erosions", "varicose veins",
        "father with prostate cancer", "brother: Gleason 7", "hydrocephalus", "hydronephrosis", "hypospadic son",
        "psoriatic arthritis, elevated PsA activity", "Pseudomonas PsA 2", "psoriatic arthritis with elevated PSA",
        "lives with 80-year-old man", "hit by a 25 year old male driver", "kidney transplant from a 22-year-old male",
        "heart transplant (25-year-old male heart)", "kidney of a 40 year old male donor",
        "lives with an elderly man", "male partner", "polyphimosis-free")],
)  # fmt: skip
def test_words_that_look_alike_are_not_marked(gender: str, words: str) -> None:
    for history in (words, f"Hypertension; {words}; asthma"):
        assert "labs_gender_history" not in codes_of(history, gender=gender)


@pytest.mark.parametrize(
    ("age", "history"),
    [(40, "80-year-old man with hypertension"), (71, "25 yo female with asthma"), (30, "65 year old patient"),
     (40, "asthma. 80 yo man with gout"), (40, "HPI: 80 year old man"), (40, "Patient is an 80-year-old man"),
     (40, "He is a retired 80-year-old man"), (78, "Pregnancy, 24 weeks"), (78, "24 weeks pregnant"),
     (70, "premature ventricular beats, pregnant 30 weeks"), (70, "Hypertension; currently pregnant")],
)  # fmt: skip
def test_an_age_in_a_history_that_does_not_fit_is_marked(age: int, history: str) -> None:
    assert "labs_age_history" in codes_of(history, age=age)


@pytest.mark.parametrize(
    ("age", "history"),
    [(80, "80-year-old man with hypertension"), (76, "72 year old woman"), (60, "stroke at 40 years old"),
     (60, "diabetes since 12 years of age"), (60, "quit smoking 20 years ago"), (60, "5 year old pacemaker"),
     (60, "father died as a 45-year-old man"), (60, "3-year-old scar"), (25, "war injury 1944; stroke 1990"),
     (30, "Pregnancy, 24 weeks"), (78, "history of ectopic pregnancy"), (78, "twin pregnancy 1970"),
     (78, "miscarriage at 12 weeks in 1972"), (78, "pregnant at 24 weeks in 1965"),
     (50, "lives with 80-year-old mother"), (65, "lives with 80-year-old man"), (65, "caretaker of 90 year old male"),
     (65, "hit by a 25 year old male driver"), (65, "kidney transplant from a 22-year-old male"),
     (65, "heart transplant (25-year-old male heart)"), (65, "as a 12-year-old girl, rheumatic fever"),
     (65, "rheumatic fever when she was a 20-year-old girl"), (65, "25-year-old female at diagnosis"),
     (65, "born at 28 weeks of gestation"), (65, "ex-28 weeks of gestation infant"),
     (65, "premature birth at 28 weeks of gestation"), (65, "preterm delivery 32 weeks pregnancy")],
)  # fmt: skip
def test_other_ages_in_a_history_are_not_marked(age: int, history: str) -> None:
    assert "labs_age_history" not in codes_of(history, age=age)


@pytest.mark.parametrize(
    "words",
    ["K 6.9 Na 120", "creat 9.1, BUN 88", "NTproBNP > 9000", "BNP elevated at 3200", "Troponin 3.2", "potassium=6.9",
     "Creatinine of patient is 9", "hemoglobin was 6.1 on admission", "Hb: 6.1", "lab: Na 120 K 6.9 Cl 88",
     "LVEF 20%, BNP 3000", "NT-proBNP 9000", "hs-TnT 52", "K+ 6.9", "Cr 9.1", "CRP 300", "BNP 3200.",
     "Hb 6.1 g/dL on arrival", "potassium 6.9 high", "serum sodium 118", "low sodium 118", "Cr 9.1 and BUN 88",
     "WBC 22 10^9/L", "lactate 8 (high)", "admission lactate 8", "K 6.9 in 2019", "LDH 900 U/L",
     "hyponatremia sodium 118", "K 6.9 (H)"],
)  # fmt: skip
def test_a_result_in_a_history_is_marked(words: str) -> None:
    for history in (words, f"Hypertension; {words}; asthma"):
        assert "labs_result_in_history" in codes_of(history)


@pytest.mark.parametrize(
    "words",
    ["K pneumoniae 2019", "troponin negative", "G6PD deficiency", "vitamin K 2", "vitamin K deficiency 2018",
     "Hb S disease", "Hb SS", "elevated BNP", "elevated troponin x 3", "glucose-6-phosphate dehydrogenase deficiency",
     "glucose 6-phosphate dehydrogenase deficiency", "potassium chloride 20 mEq daily", "potassium 20 mEq daily",
     "ALT 2x normal", "hyperkalemia 2019", "BNP 2019 elevated", "CKD stage 3b", "type 2 diabetes", "CABG x3 (2011)",
     "HTN/DM2, s/p MI '09, NYHA II-III, EF 35%", "HbA1c 9.2%", "INR goal 2-3", "CA 125 positive",
     "CK deficiency type 2",
     "factor V Leiden", "BMI 42", "Crohn 1998", "Na channel disease", "glucose 5% infusion", "albumin 20% infusion",
     "hemoglobin C 1", "K2 drug use", "1. Hb E trait",
     "warfarin sodium 5", "enoxaparin sodium 40", "levothyroxine sodium 100", "losartan potassium 50",
     "penicillin V potassium 500", "docusate sodium 100", "ammonium lactate 12", "Na 3 times daily",
     "BNP 3 months ago normal", "K 2 days ago", "WBC 3 days", "Hb 10 years ago transfusion", "glucose 2 h after meal",
     "CK-MB 2 sets", "Trop 3 sets neg", "platelets 2 bags", "CK 7 negative lymphoma", "CK 20 positive",
     "Hb > 7 transfusion threshold", "transfusion goal Hb 7", "Low sodium 2 gram diet", "sodium 1 tablet",
     "potassium 20 meq/day", "slow K 600", "urea 40 cream", "potassium 99 otc",
     "glucose 6 phosphate dehydrogenase deficiency", "chromium Cr 51", "transfuse if Hb < 7", "Na 120/80 mg",
     "CK 7 (negative)"],
)  # fmt: skip
def test_what_looks_like_a_result_is_not_marked(words: str) -> None:
    for history in (words, f"Hypertension; {words}; asthma"):
        assert codes_of(history) == set()


@pytest.mark.parametrize("history", ["K" + " " * 20_000, "K =" + " " * 20_000 + "7", "K high " * 3000, "lot " * 5000])
def test_a_long_history_takes_no_long_time(history: str) -> None:
    start = time.process_time()
    assert history_findings({HISTORY: history}, 60) == []
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    "words",
    ["Max Mustermann, geb. 1.2.1950", "MRN 10000032", "SSN 123-45-6789", "123-45-6789", "john.smith@mail.com",
     "Dr. Meyer, Tel. 0301234567", "tel 0171-5552341", "+49 30 1234567", "(555) 123-4567", "born 01.02.1950",
     "DOB: 02/01/1950", "phone: 555-123-4567", "555-123-4567", "Lot of pills 123-45-6789"],
)  # fmt: skip
def test_who_somebody_is_is_marked_and_not_repeated(words: str) -> None:
    for history in (f"{words}; asthma", f"Hypertension; {words}"):
        labs = LabsText.from_row({"medical history": history})
        found = [check for check in labs.checks if check["code"] == "labs_identity_in_text"]
        assert len(found) == 1 and not any(part in str(found) for part in words.split())


@pytest.mark.parametrize(
    "words",
    ["CABG 2011-05-04", "RCA stent 3-12-2010", "born with a heart defect", "telangiectasia", "EF 35-45%", "MRN",
     "NYHA II-III", "phoned in 2010", "5-10-15 rule", "bornholm disease 1950", "telemetry 2019", "ICD-10 I50.9",
     "100-200-3000 mg", "Lot 555-123-4567", "ICD code 428-22-1234",
     "mobile mass 12 mm", "HTN @ 40", "stroke 1998-2001-2004", "geburtshilfe 1.2.1950", "BP 120-130/80-90"],
)  # fmt: skip
def test_numbers_and_dates_of_a_history_are_not_marked(words: str) -> None:
    assert codes_of(f"Hypertension; {words}") == set()


@pytest.mark.parametrize(
    ("column", "value"),
    [("ethnicity", "171 cm"), ("drug history", "40 mg"), ("medical history", "80 kg"), ("drug history", "2,5 ml"),
     ("ethnicity", "72 bpm"), ("ethnicity", "37 °C"), ("ethnicity", "27 kg/m2")],
)  # fmt: skip
def test_a_quantity_alone_is_not_used(column: str, value: str) -> None:
    labs = LabsText.from_row({column: value})
    assert not labs.cells and [check["code"] for check in labs.checks] == ["labs_doubtful_text"]
    assert value not in str(labs.refused)


@pytest.mark.parametrize(
    ("column", "value"),
    [("ethnicity", "1 F"), ("ethnicity", "2 C"), ("drug history", "aspirin 40 mg"),
     ("drug history", "40 mg furosemide"), ("drug history", "5-FU"),
     ("drug history", "6 MP"), ("drug history", "5 ASA"), ("drug history", "L-dopa 100 mg"), ("drug history", "3TC"),
     ("drug history", "furosemide 40 mg 1-0-1"), ("ethnicity", "1/2 Cree"), ("medical history", "2 MI"),
     ("medical history", "3 vessel disease"), ("drug history", "G-CSF 300 ug"), ("drug history", "Vitamin D 1000 IU")],
)  # fmt: skip
def test_words_with_a_quantity_are_used(column: str, value: str) -> None:
    labs = LabsText.from_row({column: value})
    assert [cell.value for cell in labs.cells] == [value] and not labs.checks


@pytest.mark.parametrize(
    "drugs",
    [
        "Furosemide; NT-proBNP 20000 pg/mL",
        "Insulin; creatinine 4.5 mg/dL",
        "potassium 6.9 mmol/L; Furosemide",
        "Hb 7.2 g/dL",
        "Troponin T 0.5",
    ],
)
def test_a_result_in_a_drug_history_is_marked(drugs: str) -> None:
    (finding,) = LabsText.from_row({"drug history": drugs}).checks
    assert (finding["code"], finding["item"]) == ("labs_result_in_history", "labs.drug history")


@pytest.mark.parametrize(
    "drugs",
    [
        "Potassium Chloride 20 mEq; Calcium 500 mg; Magnesium 400",
        "Sodium 1; Glucose 5 %; K 20",
        "Insulin 10 units; Heparin 5000 units/mL; Vitamin K 10 mg",
        "Morphine 10 mg/mL; Lactated Ringer's 1000 mL; Urea 10 % cream",
        "Iron 325 mg; Ferrous sulfate 325; Albumin 25 g; Potassium 20",
    ],
)
def test_doses_are_no_results(drugs: str) -> None:
    assert not LabsText.from_row({"drug history": drugs}).checks
