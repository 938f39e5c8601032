"""Texts that an export damaged are refused or marked; words with the same letters and signs are used."""

import pytest

from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.inputs.lab_word_checks import text_doubt, text_findings

HISTORY = "medical history"
DAMAGED = [
    "HÃ¤morrhagie, Bluthochdruck", "FurosÃ©mide", "patientâ€™s diabetes", "hypеrtension", "h y p e r t e n s i o n",
    "гипepтензия", "инфарkт", "hypοtension", "ΧAΠ", "b'hypertension'", "Timestamp('2020-01-01')", "array(['CKD'])",
    "<__main__.Patient object at 0x7f1>", "aHlwZXJ0ZW5zaW9u",
    "\u00b8\u00df\u00d1\u00aa\u00d1\u00b9", "\u00c3\u00e8\u00ef\u00e5\u00f0\u00f2\u00ee\u00ed\u00e8\u00ff",
    "\u0152\u0161\u0152\u00b3\u02c6\u00b3",
]  # fmt: skip
WORDS = [
    "Größe normal, Spaß, «Öl», façade", "Naïve patient, Sjögren, Ménière, Guillain–Barré", "«Spaß», «groß»",
    "HIPERTENS\u00c3O, CORA\u00c7\u00c3O, h\u00e6\u00f0\u00f3ttur, \u00b7\u00b7\u00b7\u00b7 cr\u00e9\u00e9e",
    "高血压，糖尿病",
    "T wave at 38 °C ± 2, 5 µg", "hepatitis A B C, vitamin A D E K", "aspirin, aspirin, aspirin", "ХОБЛ, COVID-19",
    "DiphenhydrAMINE, hydrOXYzine, LevOCARNitine", "(array) of b'c d'e findings",
    "гепатитC", "COVIDпневмония", "C H F N Y H A", "TNFα, NFκB, TGFβR, IFNγR, IgGκ, β2-Mikroglobulin",
    "history of HTN...", "see previous notes...", "pain\u2026", "chronic kid...", "asthma (see notes), pain...",
    "pain pain", "β-blocker, IgG-антитела",
    "hypertension", "HYPERTENSION", "Hypercholesterolemia", "NitroglycerinPatch", "I II III aVR aVL aVF",
]  # fmt: skip
REPEATED = ["hypertension hypertension hypertension", "pain pain pain"]
PRINTED = "hypertension, diabetes, chronic kidney disease, gout"[:46] + "..."
"""As `print` of a pandas table cuts a text."""


@pytest.mark.parametrize("text", DAMAGED)
def test_a_text_that_an_export_damaged_is_not_used(text: str) -> None:
    assert text_doubt(HISTORY, text) is not None


@pytest.mark.parametrize("text", WORDS)
def test_words_with_like_letters_are_used(text: str) -> None:
    assert text_doubt(HISTORY, text) is None
    assert text_findings({HISTORY: text}) == []


@pytest.mark.parametrize(
    "text",
    ["diabetes, chronic [...]", "HTN [truncated]", "HTN, CHF (NYHA cla...", "Bl?sche, L?hmung", *REPEATED, PRINTED],
)
def test_a_text_that_is_cut_repeated_or_lost_letters_is_marked(text: str) -> None:
    assert text_doubt(HISTORY, text) is None
    assert [finding["code"] for finding in text_findings({HISTORY: text})] == ["labs_damaged_text"]


@pytest.mark.parametrize(
    "text",
    ["CVA ?TIA, MI?stroke", "hypertension, etc...", "CHF (NYHA, etc...", "pain, ...", "asthma? copd?", "stroke?"],
)
def test_points_and_question_marks_of_a_clinician_are_not_marked(text: str) -> None:
    assert text_findings({HISTORY: text}) == []


@pytest.mark.parametrize(
    ("written", "value"),
    [("nan, nan, hypertension", "hypertension"), ("None, hypertension", "None, hypertension"), ("NA, K", "NA, K")],
)
def test_an_entry_of_a_program_for_a_missing_one_is_left_out(written: str, value: str) -> None:
    assert [cell.value for cell in LabsText.from_row({HISTORY: written}).cells] == [value]


@pytest.mark.parametrize("written", ["None; None", "nan, nan", "N/A; N/A"])
def test_a_list_of_missing_entries_is_a_missing_cell(written: str) -> None:
    row = LabsText.from_row({HISTORY: written})
    assert not row.cells and not row.refused


def test_a_dose_is_no_ethnicity() -> None:
    assert text_doubt("ethnicity", "furosemide 40 mg") is not None
    assert text_doubt("ethnicity", "2 or more races") is None


@pytest.mark.parametrize("written", ["#REF!", "#N/A; #VALUE!", "hypertension; #NAME?"])
def test_an_error_of_a_spreadsheet_among_words_is_refused(written: str) -> None:
    row = LabsText.from_row({HISTORY: written})
    assert not row.cells and row.refused


def test_a_number_sign_before_a_word_is_used() -> None:
    assert not LabsText.from_row({HISTORY: "#1 hypertension, # of tibia"}).refused
