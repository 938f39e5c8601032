"""Predictions: one table for all tasks and subsets, whatever the batches."""

import numpy as np
import pandas as pd
import pytest
from fake_model import FakeDataset, FakeModel, fake_collator

from tgmm_hf.evaluation.predictions import collect_predictions
from tgmm_hf.utils.names import MODALITIES, SUBSET_NAMES


def test_each_batch_is_encoded_once_and_training_mode_comes_back(cohort):
    model = FakeModel().train()
    collect_predictions(model, cohort, fake_collator, batch_size=32, progress=False)
    assert model.encoded == 5 and model.training


def test_batch_size_changes_nothing(cohort, predictions):
    other = collect_predictions(FakeModel(), cohort, fake_collator, batch_size=7, progress=False)
    order = ["task", "subset", "row"]
    left, right = (p.table.sort_values(order).reset_index(drop=True) for p in (predictions, other))
    pd.testing.assert_frame_equal(left, right, rtol=1e-6)
    np.testing.assert_allclose(predictions.embeds["ecg"], other.embeds["ecg"], rtol=1e-6)


@pytest.mark.parametrize("subset", SUBSET_NAMES)
def test_only_patients_with_the_whole_subset_are_scored(cohort, predictions, subset):
    columns = [MODALITIES.index(m) for m in subset.split("+")]
    expected = [row["id"] for row in cohort if row["present"][columns].all()]
    scored = predictions.scored("hf_risk", subset)
    assert scored["id"].tolist() == expected
    assert scored["patient_id"].tolist() == [row["patient_id"] for row in cohort if row["id"] in set(expected)]


def test_unknown_tasks_subsets_and_broken_outputs_are_refused(cohort):
    with pytest.raises(ValueError, match="unknown tasks \\['hf'\\].*hf_diagnosis"):
        collect_predictions(FakeModel(), cohort, fake_collator, tasks=["hf"], progress=False)
    with pytest.raises(ValueError, match="unknown modality subsets"):
        collect_predictions(FakeModel(), cohort, fake_collator, subsets=["ecg+labs"], progress=False)
    with pytest.raises(ValueError, match="no rows"):
        collect_predictions(FakeModel(), FakeDataset(), fake_collator, progress=False)
    with pytest.raises(ValueError, match="not finite"):
        collect_predictions(FakeModel(diverged=True), cohort, fake_collator, progress=False)
