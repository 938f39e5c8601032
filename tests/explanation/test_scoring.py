"""The explained quantity is that of the answer."""

import math

import pytest
import torch

from tgmm_hf.explanation.modalities import explain_modalities
from tgmm_hf.explanation.scoring import PatientScore, question_of
from tgmm_hf.explanation.views import explain_views


def test_a_diagnosis_is_explained_in_log_odds(model, inputs, score):
    with torch.no_grad():
        probability = float(model(**inputs, task="hf_diagnosis").probabilities[0, 1])
    assert score.question.target == "heart failure"
    assert score.output == pytest.approx(math.log(probability / (1 - probability)), abs=1e-5)


def test_log_odds_among_three_candidates_are_against_all_others():
    tasks = {"three": {"kind": "diagnosis", "candidates": ["a", "b", "c"]}}
    question = question_of(tasks, "three", "b")
    output = type("Output", (), {"logits": torch.tensor([[0.2, 0.5, 0.3]]).log()})
    assert float(question.score(output)) == pytest.approx(0.0, abs=1e-6)
    assert question.empty_score == pytest.approx(math.log(1 / 2))


def test_a_prognosis_is_explained_by_its_risk(model, inputs):
    question = question_of(model.config.tasks, "hf_risk")
    with torch.no_grad():
        risk = float(model(**inputs, task="hf_risk").risk[0])
    assert (question.target, question.unit) == ("risk", "log hazard ratio")
    assert PatientScore(model, inputs, question).output == pytest.approx(risk, abs=1e-5)


@pytest.mark.parametrize(("task", "target"), [("stroke", None), ("retrieval", None), ("hf_diagnosis", "stroke")])
def test_a_question_that_cannot_be_answered_is_refused(model, task, target):
    with pytest.raises(ValueError, match="stroke|retrieval"):
        question_of(model.config.tasks, task, target)


def test_modalities_sum_to_the_log_odds(score):
    attribution = explain_modalities(score)
    assert attribution.values.sum() == pytest.approx(score.output, abs=1e-4)
    assert attribution.completeness_error < 1e-4 and attribution.baseline_output == 0


def test_an_absent_modality_has_no_value(model, inputs):
    without = {name: value for name, value in inputs.items() if name not in ("ecg_values", "ecg_mask")}
    attribution = explain_modalities(PatientScore(model, without, question_of(model.config.tasks, "hf_risk")))
    assert torch.tensor(attribution.values).isnan().tolist() == [False, True, False]


def test_views_sum_to_the_difference_of_scores_that_the_model_itself_gives(model, inputs, score):
    attribution = explain_views(score)
    without_echo = {name: value for name, value in inputs.items() if name not in ("pixel_values_videos", "view_mask")}
    with torch.no_grad():
        logits = model(**without_echo, task="hf_diagnosis").logits[0]
    assert attribution.baseline_output == pytest.approx(float(logits[1] - logits[0]), abs=1e-4)
    total = float(attribution.values[~torch.tensor(attribution.values).isnan()].sum())
    assert total == pytest.approx(score.output - attribution.baseline_output, abs=1e-4)


def test_a_subset_of_views_is_scored_as_the_model_scores_it(model, inputs, score):
    from tgmm_hf.explanation.views import score_view_subsets

    subset = inputs["view_mask"].clone()
    subset[0, int(subset[0].nonzero()[0])] = False
    with torch.no_grad():
        logits = model(**{**inputs, "view_mask": subset}, task="hf_diagnosis").logits[0]
    assert score_view_subsets(score, subset.numpy())[0] == pytest.approx(float(logits[1] - logits[0]), abs=1e-4)
