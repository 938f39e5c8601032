"""Answers that hardly move with a modality, or at all, are warned of."""

import numpy as np
import pytest
from fake_model import TASKS, FakeModel, fake_cohort, fake_collator

from tgmm_hf.evaluation.modality_effects import effect_warnings, modality_effects
from tgmm_hf.evaluation.predictions import collect_predictions
from tgmm_hf.utils.names import MODALITIES

ANSWERED = {name: task for name, task in TASKS.items() if name == "hf_diagnosis"}


def effects_of(rows):
    run = {"tasks": ["hf_diagnosis"], "batch_size": 64, "progress": False}
    return modality_effects(collect_predictions(FakeModel(), rows, fake_collator, **run), ANSWERED)


def without_evidence(modality: str | None):
    """A cohort in which one modality, or each (None), tells nothing of the patient."""
    rows = fake_cohort(200)
    for row in rows:
        row["evidence"][slice(None) if modality is None else MODALITIES.index(modality)] = 0.0
    return rows


def test_a_model_that_uses_everything_has_no_warning():
    effects = effects_of(fake_cohort(200))
    assert effect_warnings(effects) == []
    assert all(each["change"] > 0.05 for each in effects["hf_diagnosis"]["modalities"].values())


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_dead_modality_is_named(modality):
    (warning,) = effect_warnings(effects_of(without_evidence(modality)))
    assert f"depend on {modality}:" in warning and "taking it away" in warning and "alone" in warning


def test_a_constant_model_is_named_once():
    (warning,) = effect_warnings(effects_of(without_evidence(None)))
    assert "same answer" in warning


def test_the_change_by_hand():
    rows = fake_cohort(200)
    change = effects_of(rows)["hf_diagnosis"]["modalities"]["ecg"]
    differences = []
    for row in rows:
        if row["present"][1] and row["present"].sum() > 1:
            scores = row["evidence"][:, 0] * row["present"]
            both = 1 / (1 + np.exp(-np.array([scores.sum(), scores.sum() - scores[1]])))
            differences.append(abs(both[0] - both[1]))
    assert change["n"] == len(differences) and change["change"] == pytest.approx(np.mean(differences), abs=1e-6)
