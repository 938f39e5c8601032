"""Which leads and moments carried a sentence of an ECG report, and when nothing is claimed."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from heart_signal import make_heart
from tiny_reporters import tiny_processor, tiny_reporter

from tgmm_hf.explanation.report_sentences import SMALLEST_GAIN, explain_report, split_sentences
from tgmm_hf.utils.names import LEADS

ECG = {"signal": make_heart(5000), "sampling_rate": 500, "lead_names": list(LEADS)}
REPORT = "Tall. low"
LEAD, FIRST, LAST = LEADS.index("V2"), 1000, 1500


class PlantedReporter(torch.nn.Module):
    """A model that makes "T" more probable the larger V2 is between 2 and 3 s. Other letters ignore the ECG.

    Args:
        letter: token id of "T".
        strength: how much.
    """

    device = torch.device("cpu")

    def __init__(self, letter: int, strength: float):
        super().__init__()
        self.letter, self.strength = letter, strength

    def forward(self, input_ids: torch.Tensor, input_values: torch.Tensor, **_: Any) -> SimpleNamespace:
        logits = torch.zeros(*input_ids.shape, 300)
        part = input_values[:, LEAD, FIRST:LAST]
        signal = self.strength * (part - input_values[:, LEAD].mean(-1, keepdim=True)).clamp(min=0).sum(-1)
        one_hot = torch.nn.functional.one_hot(torch.tensor(self.letter), 300).float()
        before = (input_ids == self.letter).roll(-1, dims=1)[..., None]  # the position that predicts the letter
        return SimpleNamespace(logits=logits + before * signal[:, None, None] * one_hot)


def claims_of(strength: float) -> Any:
    processor = tiny_processor()
    letter = processor.tokenizer("T", add_special_tokens=False)["input_ids"][0]
    return explain_report(PlantedReporter(letter, strength), processor, ECG, REPORT)


def test_a_sentence_points_at_the_planted_lead_and_time_only() -> None:
    tall, low = claims_of(0.05)
    assert (tall.sentence, low.sentence) == ("Tall.", "low")
    assert tall.doubt == "" and tall.beaten == 1.0
    assert tall.attribution.completeness_error < 0.05 * (tall.attribution.output - tall.attribution.baseline_output)
    for each in tall.to_dict()["carried_by"]:
        assert each["lead"] == "V2" and each["seconds"][0] >= 2 and each["seconds"][1] <= 3
    values = tall.attribution.values
    assert np.abs(values[LEAD]).sum() == pytest.approx(np.abs(values).sum())
    assert low.doubt and low.to_dict()["carried_by"] == [] and np.abs(low.attribution.values).max() == 0


def test_evidence_against_a_sentence_is_no_claim() -> None:
    """The ECG makes the sentence less probable than a flat line does."""
    tall, _ = claims_of(-0.05)
    assert tall.doubt and tall.to_dict()["carried_by"] == []


def test_a_sentence_that_the_ecg_hardly_changes_is_no_claim() -> None:
    """A model that says "sinus rhythm" of every ECG makes it a little more probable with an ECG than without."""
    tall, _ = claims_of(0.05)
    gain = tall.attribution.output - tall.attribution.baseline_output
    assert not tall.doubt and gain > SMALLEST_GAIN
    weak, _ = claims_of(0.05 * 0.5 * SMALLEST_GAIN / gain)
    assert 0 < weak.attribution.output - weak.attribution.baseline_output < SMALLEST_GAIN
    assert "about as probable with a flat ECG" in weak.doubt and weak.to_dict()["carried_by"] == []


def test_a_real_model_shares_out_the_difference_and_gives_json() -> None:
    claims = explain_report(tiny_reporter(), tiny_processor(), ECG, "Sinus rhythm. Normal ECG.")
    assert [each.sentence for each in claims] == ["Sinus rhythm.", "Normal ECG."]
    for claim in claims:
        assert claim.attribution.values.shape == (12, 40) and claim.attribution.axes[1].step == 0.25
        assert np.abs(claim.attribution.values).max() > 0
    json.dumps([claim.to_dict() for claim in claims], allow_nan=False)


def test_every_token_but_the_end_is_of_one_sentence() -> None:
    tokenizer = tiny_processor().tokenizer
    tokens = tokenizer("One. Two;\nthree", add_special_tokens=False)["input_ids"]
    sentences, places = split_sentences(tokenizer, tokens, list(range(5, 5 + len(tokens))))
    assert sentences == ["One.", "Two;", "three"]
    assert sorted(place for each in places for place in each) == list(range(5, 5 + len(tokens)))


def test_an_empty_report_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        explain_report(tiny_reporter(), tiny_processor(), ECG, " ")
