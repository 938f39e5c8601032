"""Text columns of a lab row: history, drugs, ethnicity."""

import base64
import json
import time

import pytest

from tgmm_hf.inputs.lab_text import LabsText

HISTORY = "Essential (primary) hypertension, Type 2 diabetes mellitus without complications"
CODED = base64.b64encode(HISTORY.encode()).decode()


@pytest.mark.parametrize("column", ["medical history", "drug history", "ethnicity"])
@pytest.mark.parametrize(
    "value",
    [CODED, CODED[:30], HISTORY.encode().hex(), f"hypertension, {CODED}", "a" * 60, "1955-02-03", "3 Feb 1955",
     "March 1955", "2026-11-29T08:15:00Z", "29/11/2026 8:15 pm", "12", "4280, 25000", 12, 3.5, "male",
     r"{\rtf1\ansi\deff0 {\fonttbl{\f0 Arial;}} Asthma\par}", "<p>Asthma</p>", "Asthma &amp; COPD", "67 years",
     "https://host/record", "C:\\data\\record", "/data/p10/record", "see /data/p10/record.txt", "yes", "TRUE",
     '["asthma", "gout"]', "{'asthma': 1}", "Asthma \ufffd"],
)  # fmt: skip
def test_text_that_is_no_words_is_not_used_and_named(column, value):
    labs = LabsText.from_row({column: value, "Sodium": (140, "mEq/L")})
    assert [cell.name for cell in labs.cells] == ["Sodium"]
    assert [entry["item"] for entry in labs.refused] == [f"labs.{column}"]
    assert [check["code"] for check in labs.checks] == ["labs_doubtful_text"] and "text" in labs.checks[0]["text"]
    if isinstance(value, str) and len(value) > 4:
        assert value not in json.dumps([labs.refused, labs.checks])


@pytest.mark.parametrize(
    "value",
    [HISTORY, "HTN", "T2DM; CKD 3b", "Diabetes", "Novolog 70/30", "Octreotide 100", "MethylPREDNISolone Sodium Succ",
     "Emtricitabine-Tenofovir-Elvitegravir-Cobicistat-Bictegravir", "I50.9", "高血压" * 30, "Herzinsuffizienz",
     "Marijuana 1", "WHITE - RUSSIAN", "unknown", "fever /chills/ cough", "HTN /DM/CAD/CKD", "HTN&DM, CKD", "no",
     "type 2 < 5 years > 3", "Maydl hernia 2019", "T4/T5-T5/T6 fusion"],
)  # fmt: skip
def test_words_are_used_without_a_word(value):
    labs = LabsText.from_row({"medical history": value, "ethnicity": f"{value} and more"})
    assert len(labs.cells) == 2 and not labs.refused and not labs.checks


def test_a_laboratory_result_in_a_history_is_not_used_and_a_concentration_of_a_drug_is():
    refused = LabsText.from_row({"medical history": "CHF; NTproBNP 20000 pg/mL"})
    assert [check["code"] for check in refused.checks] == ["labs_doubtful_text"] and not refused.cells
    assert LabsText.from_row({"drug history": "Heparin 25 mg/mL"}).cells


@pytest.mark.parametrize("break_", [", ", "; ", "\n", "\x0b", " "])
def test_the_sentence_of_another_cell_is_not_used(break_):
    for name in ("NTproBNP", "nt-probnp", "White Blood Cells", "Hb"):
        labs = LabsText.from_row({"medical history": f"hypertension{break_}{name} of the patient is 20000"})
        assert [check["code"] for check in labs.checks] == ["labs_doubtful_text"]
    text = "stroke, cause of the anemia is unknown, edge of the wound is clean"
    assert LabsText.from_row({"medical history": text}).cells[0].value == text


@pytest.mark.parametrize("sign", ["\x00", "\x07", "\x0b", "\x1a", "\x7f", "\x9f", "\n"])
def test_a_control_character_between_words_is_a_space(sign):
    assert LabsText.from_row({"medical history": f"asthma{sign}gout"}).cells[0].value == "asthma gout"


def test_a_sign_is_a_missing_cell():
    labs = LabsText.from_row({"medical history": "-", "ethnicity": "?", "Sodium": (140, "mEq/L")})
    assert [cell.name for cell in labs.cells] == ["Sodium"] and not labs.refused


@pytest.mark.parametrize("ethnicity", ["F", "m", "Furosemide; Metoprolol Tartrate; Insulin", "A, B, C, D"])
def test_a_letter_of_a_gender_or_a_list_is_marked_as_ethnicity(ethnicity: str):
    labs = LabsText.from_row({"ethnicity": ethnicity})
    assert [check["code"] for check in labs.checks] == ["labs_ethnicity"] and len(labs.cells) == 1


@pytest.mark.parametrize(
    "ethnicity", ["White", "HISPANIC/LATINO - PUERTO RICAN", "White, Asian", "W", "PATIENT DECLINED TO ANSWER"]
)
def test_an_ethnicity_is_not_marked(ethnicity: str):
    assert not LabsText.from_row({"ethnicity": ethnicity}).checks
    assert not LabsText.from_row({"ethnicity": "M", "gender": "F"}).checks  # a code of the hospital


@pytest.mark.parametrize("sign", ["\u200b", "\u00ad", "\u2060", "\ufeff", "\u200d"])
def test_characters_without_a_width_hide_no_sentence(sign: str):
    labs = LabsText.from_row({"medical history": f"NTpro{sign}BNP of the pa{sign}tient is 20000"})
    assert [check["code"] for check in labs.checks] == ["labs_doubtful_text"] and not labs.cells
    assert LabsText.from_row({"medical history": f"hyper{sign}tension"}).cells[0].value == "hypertension"
    number = LabsText.from_row({"Sodium": f"1{sign}40"})
    assert number.refused and not number.cells


@pytest.mark.parametrize("sign", ["\u202a", "\u202e", "\u2067"])
def test_marks_that_turn_the_order_of_letters_are_refused(sign: str):
    assert LabsText.from_row({"medical history": f"hyper{sign}tension"}).refused


def test_one_text_in_two_columns_is_named():
    labs = LabsText.from_row({"medical history": HISTORY, "ethnicity": HISTORY.upper()})
    assert [check["code"] for check in labs.checks] == ["labs_equal_texts"] and len(labs.cells) == 2
    assert not LabsText.from_row({"medical history": "unknown", "drug history": "unknown"}).checks


HOSPITAL_WORDING = [
    {"medical history": "CAD, HTN, DM2 on metformin, AF on warfarin"},
    {"medical history": "HFrEF EF 25%, ICD; s/p PCI on aspirin; CKD3; DM on insulin"},
    {"medical history": "High cholesterol, high LDL cholesterol"},
    {"drug history": "Lasix for heart failure, Eliquis for atrial fibrillation"},
    {"medical history": "CoronaryArteryDisease/AtrialFib/DiabetesMellitus"},
    {"drug history": "predniSONE|metFORMIN|glipiZIDE|hydrALAZINE"},
    {"ethnicity": "M"},
]


@pytest.mark.parametrize("row", HOSPITAL_WORDING)
def test_how_hospitals_write_is_used_without_a_word(row):
    labs = LabsText.from_row({**row, "gender": "F"})
    assert len(labs.cells) == 2 and not labs.refused and not labs.checks


@pytest.mark.parametrize(
    ("gender", "history", "is_named"),
    [("M", "asthma; Encounter for supervision of normal pregnancy", True), ("M", "Severe pre-eclampsia", True),
     ("M", "Malignant neoplasm of ovary", True), ("F", "BPH, s/p TURP", True), ("F", "Vasectomy", True),
     ("M", "Cervical intraepithelial neoplasia", True), ("F", "Malignant neoplasm of prostate", True),
     ("F", "hypertension; Benign prostatic hyperplasia", True), ("male", "Acquired absence of uterus", True),
     ("F", "Encounter for supervision of normal pregnancy", False), ("M", "Malignant neoplasm of prostate", False),
     ("M", "Family history of malignant neoplasm of ovary", False), ("M", "partner is pregnant", False),
     ("M", "Genetic susceptibility to malignant neoplasm of ovary", False), ("F", "Prosthetic heart valve", False),
     ("M", "Cervicalgia; Cervical disc disorder", False), ("M", "Gardnerella vaginalis infection", False),
     ("M", "sister with ovarian cancer", False), ("M", "daughter pregnant", False), ("M", "FHx ovarian cancer", False),
     ("F", "Family history: CAD, prostate cancer", False), ("F", "grandfather had prostate cancer", False),
     ("M", "born at 28 weeks gestation", False), ("F", "asthma; prostate cancer; family history: CAD", True),
     (None, "pregnant", False), ("F", "Family history of malignant neoplasm of prostate", False)],
)  # fmt: skip
def test_a_history_of_the_other_sex_is_named(gender, history, is_named):
    labs = LabsText.from_row({"gender": gender, "medical history": history})
    assert ([check["code"] for check in labs.checks] == ["labs_gender_history"]) == is_named
    assert any(cell.name == "medical history" for cell in labs.cells)


@pytest.mark.parametrize(
    "value", ["may " + "1 " * 50_000, "aB" * 50_000, "a" * 100_000, "ab " * 40_000, ", no" * 40_000, "fh" * 50_000]
)
def test_long_texts_take_no_time(value):
    before = time.process_time()
    LabsText.from_row({"medical history": value, "gender": "M"})
    assert time.process_time() - before < 2
