"""Notes of MoRE that are no text, or no words that the encoder knows, are refused or named."""

import numpy as np
import pytest
from test_inputs_of_more import processor

from tgmm_hf import InputRefusedError
from tgmm_hf.families.more.processing_more import _text_checks


class Unknowing:
    """A tokenizer's `tokenize` that knows ASCII words only."""

    unk_token = "[UNK]"

    def tokenize(self, text, **options):
        return [word if word.isascii() else self.unk_token for word in text.split()]


def report_of(text):
    batch, reports = processor()(text=[text, "No effusion."], on_refusal="report", return_report=True)
    assert reports[1]["used"]["text"] == ["prompt"] and batch["attention_mask"][1].any()
    return reports[0]


@pytest.mark.parametrize("part", [3, ["No effusion."], b"No effusion.", True, {"a": "b"}])
def test_a_note_that_is_no_text_is_refused_and_the_others_go_on(part):
    report = report_of({"xray": part})
    assert [entry["item"] for entry in report["refused"]] == ["text"] and not report["used"]["text"]
    with pytest.raises(InputRefusedError, match=f"the note of the xray is a {type(part).__name__}"):
        processor()(text={"xray": part})


@pytest.mark.parametrize("nothing", [float("nan"), np.float32("nan"), None])
def test_an_empty_cell_of_a_table_is_no_note(nothing):
    report = report_of({"xray": nothing, "ecg": "Sinus rhythm."})
    assert report["used"]["text"] == ["ecg"] and not report["refused"] and not report["checks"]
    assert not report_of(nothing)["used"]["text"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("<p>No effusion</p>", "text_no_words"),
        ("{\\rtf1 No effusion}", "text_no_words"),
        ("Tm8gZWZmdXNpb24uIE5vIHBuZXVtb3Rob3JheC4=", "text_no_words"),
        ("___", "text_without_words"),
        ("12.5", "text_without_words"),
    ],
)
def test_a_note_without_words_is_named(text, code):
    for given in ({"xray": text}, {"ecg": text}, text):
        report = report_of(given)
        assert [check["code"] for check in report["checks"]] == [code] and report["used"]["text"]


@pytest.mark.parametrize(
    "text",
    [
        "No pleural effusion. Heart size < 50 % of the thorax; lungs > 5 l, clear.",
        "___ year old man with dyspnea. Compared with ___, no change (see note of ___).",
        "FINDINGS: PA and lateral views.\nIMPRESSION: 1. No pneumothorax. 2. ICD lead in RV.",
        "Sinusrhythmus, Linkstyp, PQ 180 ms, QTc 430 ms.",
        "Épanchement pleural gauche, cardiomégalie.",
        "a photo of a chest X-ray with no finding",
    ],
)
def test_good_notes_have_no_mark(text):
    for given in ({"xray": text}, text):
        assert not report_of(given)["checks"]


def test_a_text_of_another_script_is_named():
    assert [check["code"] for check in _text_checks({"xray": "без выпота"}, Unknowing())] == ["text_unknown"]
    assert not _text_checks({"xray": "No épanchement of the left side"}, Unknowing())
