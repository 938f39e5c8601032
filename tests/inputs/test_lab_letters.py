"""Letters that tokenizers do not know, codes in the place of characters, and an age with a gender behind it."""

import pytest

from tgmm_hf import TgmmConfig
from tgmm_hf.inputs.lab_letters import plain_letters
from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.inputs.processor_parts import BERT_CASED_SIZE
from tgmm_hf.processing_tgmm import default_processor


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("atrial \ufb01brillation, \ufb02utter", "atrial fibrillation, flutter"),
        ("\uff28\uff34\uff2e", "HTN"),
        ("Me\u0301nie\u0300re", "M\u00e9ni\u00e8re"),
        (
            "5 \u00b5g, 3 m\u00b2, na\u00efve, \u9ad8\u8840\u538b",
            "5 \u00b5g, 3 m\u00b2, na\u00efve, \u9ad8\u8840\u538b",
        ),
    ],
)
def test_a_ligature_and_an_accent_apart_become_plain_letters(written, plain):
    assert plain_letters(written) == plain
    assert LabsText.from_row({"medical history": written}).cells[0].value == plain


@pytest.mark.parametrize(
    "text",
    [
        "type%202%20diabetes",
        "type 2%2C stage%20three",
        "allergy to p=EAche",
        "asthma%2C hypertension",
        "%C3%A9pilepsie m%C3%A9",
        "line=0D=0Aline",
        "h=C3=A4molysis",
        r"Hypertension\nAsthma",
        r"asthma\n2 puffs\n",
        r"M\u00e9ni\u00e8re",
        "Asthma &eacute;",
        "\u202enoisnetrepyh\u202c",
    ],
)
def test_codes_in_the_place_of_characters_are_not_used_and_named(text):
    labs = LabsText.from_row({"medical history": text})
    assert not labs.cells and [check["code"] for check in labs.checks] == ["labs_doubtful_text"]


@pytest.mark.parametrize(
    "text",
    [
        *("EF=35%, NYHA=II", "Lidocaine 1% 20 mL", "Albumin 25%50 mL", "D&C, H&P, 50% stenosis"),
        *("HTN, HR =75bpm at rest", "LVEF =35percent", "weight =80kg", "BP =12to 14", "aspirin 100% =50mg daily"),
        *("Dextrose%50IV", "hct%30to40", r"aspirin\nitroglycerin\ramipril", "CKD stage=3B", "Hb=A1c 7", "HR=98bpm"),
    ],
)
def test_signs_of_medicine_are_no_codes(text):
    labs = LabsText.from_row({"drug history": text})
    assert len(labs.cells) == 1 and not labs.checks


@pytest.mark.parametrize("value", ["54M", "61w", "47 m", "90W", "100M", "120M", "18w"])
def test_an_age_with_a_gender_behind_it_is_not_read_as_months_or_weeks(value):
    labs = LabsText.from_row({"age": value})
    assert not labs.cells and labs.checks[0]["code"] == "labs_doubtful_unit" and "gender" in labs.refused[0]["reason"]


@pytest.mark.parametrize(
    ("value", "years"),
    [
        ("054M", 4.5),
        ("6 m", 0.5),
        ("852 m", 71),
        (("54", "months"), 4.5),
        ("54 months", 4.5),
        (("54 m", "months"), 4.5),
    ],
)
def test_months_that_leave_no_doubt_are_read(value, years):
    labs = LabsText.from_row({"age": value})
    assert labs.cells[0].number == pytest.approx(years)


@pytest.mark.parametrize("row", [{"Age (months)": "54 m"}, {"Age (months)": 54}, {"age": "54M", "age_unit": "months"}])
def test_a_stated_unit_of_the_age_leaves_no_doubt(row):
    labs = LabsText.from_row(row)
    assert labs.cells[0].number == pytest.approx(4.5) and not labs.refused


def test_a_unit_of_years_against_months_in_the_text_is_refused():
    assert LabsText.from_row({"age": ("54M", "years")}).refused and LabsText.from_row({"Age (years)": "54 m"}).refused


def test_prepared_rows_are_not_searched_for_unknown_words():
    processor = default_processor(TgmmConfig.tiny(labs_config={"vocab_size": BERT_CASED_SIZE}))
    row = {"medical history": "hypertension \U0001fac0"}
    stored = processor.labs_text(row)
    assert stored.unread_words and not processor.write_labs(LabsText.from_stored(stored.stored_values())).unread_words


def test_a_word_that_is_too_long_for_the_tokenizer_is_noted():
    processor = default_processor(TgmmConfig.tiny(labs_config={"vocab_size": BERT_CASED_SIZE}))
    processor.labs_columns = ["free text"]
    assert processor.labs_text({"free text": "a" * 101}).unread_words == ["free text"]
    assert not processor.labs_text({"free text": "aspirin " * 20}).unread_words


def test_words_that_the_tokenizer_does_not_know_are_noted():
    processor = default_processor(TgmmConfig.tiny(labs_config={"vocab_size": BERT_CASED_SIZE}))
    row = {"medical history": "hypertension \U0001fac0\U0001fac0", "drug history": "na\u00efve", "ethnicity": "WHITE"}
    labs = processor.labs_text(row)
    assert labs.unread_words == ["medical history"]
    assert sum("tokenizer does not know" in note for note in labs.notes) == 1
