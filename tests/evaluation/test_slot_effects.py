"""What each slot is worth: attention, gates, and the figure with masked slots."""

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_models import random_batch, smallest_model

from tgmm_hf.configuration_tasks import DEFAULT_TASKS
from tgmm_hf.evaluation.metrics import Bootstrap
from tgmm_hf.evaluation.predictions import FULL, Predictions
from tgmm_hf.evaluation.slot_effects import (
    ALL_SHARED,
    SHARED,
    SlotStudy,
    harm_of_shared_slots,
    masked_slots,
    slot_study,
    slot_warnings,
)
from tgmm_hf.utils.names import MODALITIES, SLOT_NAMES, SUBSETS

TASK = "hf_diagnosis"
N = 24
NOBODY = np.array([])


@pytest.fixture(scope="module")
def model():
    return smallest_model()


@pytest.fixture(scope="module")
def study_of(model):
    """Study of patients whose labels follow the answer with masked shared slots: these slots can only do harm."""
    batch = random_batch(model.config, batch_size=N)
    # The answers of an untrained model hardly differ: shared slots get something to say.
    with torch.no_grad():
        for gate in model.fusion.gates.values():
            gate.weight.normal_(std=1.0)
    study = SlotStudy(model)
    with torch.no_grad():
        encoded = model.encode(**batch)
        encoded.present["echo"][:4] = False  # not in the figures, which are of patients with all modalities
        answers = study.answer_subsets(encoded, [TASK], SUBSETS)
        with masked_slots(model, SHARED):
            masked = model.answer(encoded, TASK).probabilities[:, 1].numpy()
    probability = answers[TASK][MODALITIES].probabilities[:, 1].numpy()
    label = (masked > np.median(masked)).astype(float)
    rows = np.arange(N)
    table = pd.DataFrame(
        {"row": rows, "patient_id": rows.astype(str), "task": TASK, "subset": FULL, "probability": probability}
    ).assign(label=label, positive=label, risk=np.nan, time=np.nan, event=np.nan)[4:]
    predictions = Predictions(table, {}, {}, rows.astype(str), rows.astype(str))
    return study, predictions, {"masked": masked, "probability": probability, "label": label, "encoded": encoded}


def test_a_masked_slot_is_as_one_that_the_patient_lacks(model):
    encoded = model.encode(**random_batch(model.config))
    alone = encoded.keep(("ecg",))
    others = [name for name in SLOT_NAMES if name != "ecg"]
    with torch.no_grad(), masked_slots(model, others):
        masked = model.answer(encoded, TASK)
    with torch.no_grad():
        assert torch.allclose(masked.logits, model.answer(alone, TASK).logits, atol=1e-5)
        assert not torch.allclose(masked.logits, model.answer(encoded, TASK).logits, atol=1e-5)
    assert masked.slot_mask.sum(1).tolist() == [1] * len(masked.logits)


def test_an_unknown_slot_is_refused(model):
    with pytest.raises(ValueError, match="labs\\+xray"), masked_slots(model, ["labs+xray"]):
        pass


def test_figures_are_those_of_the_answers_with_the_slots_masked(study_of):
    study, predictions, seen = study_of
    figures = study.figures(predictions, Bootstrap(0, 50))[TASK]
    assert figures["n"] == N - 4
    label, whole, masked = (seen[name][4:] for name in ("label", "probability", "masked"))

    def share_of_right_pairs(score):  # the AUC, written out
        return np.mean(score[label == 1][:, None] > score[label == 0][None, :])

    expected = share_of_right_pairs(masked) - share_of_right_pairs(whole)
    assert figures["masked"][ALL_SHARED]["auc_difference"] == pytest.approx(expected, abs=1e-6)
    assert set(figures["masked"]) == {*SLOT_NAMES, ALL_SHARED}


def test_attention_and_gates_are_means_over_patients_with_all_modalities(model, study_of):
    study, predictions, seen = study_of
    figures = study.figures(predictions, Bootstrap(0, 10))[TASK]
    with torch.no_grad():
        output = model.answer(seen["encoded"], TASK)
    assert sum(figures["attention"].values()) == pytest.approx(1.0, abs=1e-5)
    expected = output.candidate_attentions[4:].mean((0, 1))[SLOT_NAMES.index("labs+echo")]
    assert figures["attention"]["labs+echo"] == pytest.approx(float(expected), abs=1e-5)
    gate = output.gates["labs+ecg"]["ecg"][4:]
    assert figures["gates"]["labs+ecg"]["ecg"]["spread"] == pytest.approx(float(gate.std(correction=0)), abs=1e-5)


def entry(low, spread=0.2, share=0.1, n=100):
    return {
        "n": n,
        "attention": {**dict.fromkeys(SLOT_NAMES, share), "text": 1 - 7 * share},
        "gates": {"labs+ecg": {"labs": {"mean": 0.5, "spread": spread}}},
        "masked": {ALL_SHARED: {"n": n, "auc_difference": 0.02, "auc_difference_ci": [low, 0.04]}},
    }


def test_a_model_without_a_diagnosis_or_prognosis_is_answered_and_not_studied():
    ef = {**DEFAULT_TASKS[TASK], "kind": "regression", "candidates": [], "loss_weights": {}, "unit": "%"}
    model = smallest_model(tasks={"ef": {**ef, "range": [0, 100]}})
    study = SlotStudy(model)
    with torch.no_grad():
        answers = study.answer_subsets(model.encode(**random_batch(model.config)), ["ef"], [MODALITIES])
    assert answers["ef"][MODALITIES].value.isfinite().all()
    assert study.figures(Predictions(pd.DataFrame(), {}, {}, NOBODY, NOBODY), Bootstrap(0, 10)) == {}


def test_shared_slots_that_do_harm_are_warned_of():
    assert harm_of_shared_slots(entry(0.001)) == ("auc", 0.02, (0.001, 0.04))
    assert harm_of_shared_slots(entry(-0.001)) is None
    assert len(slot_warnings({TASK: entry(0.001)})) == 1
    assert not slot_warnings({TASK: entry(-0.001)})


def test_idle_gates_and_slots_are_warned_of_unless_patients_are_few():
    assert len(slot_warnings({TASK: entry(-0.001, spread=0.001, share=0.001)})) == 2
    assert not slot_warnings({TASK: entry(-0.001, spread=0.001, share=0.001, n=5)})


def test_a_rival_fusion_has_no_slots_to_study():
    assert slot_study(smallest_model(fusion="concat")) is None
