"""Discrimination figures against scikit-learn, and what the bootstrap must and must not do."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tgmm_hf.evaluation.metrics import (
    UndefinedFigureError,
    auc,
    bootstrap_counts,
    estimate,
    resampled_auc,
    resampled_mean,
)


@pytest.mark.parametrize("decimals", [8, 1])  # 1: many ties
def test_auc_equals_scikit_learn(decimals):
    generator = np.random.default_rng(0)
    for _ in range(20):
        label = np.r_[0, 1, generator.integers(0, 2, 60)]
        score = np.round(generator.normal(size=62) + label, decimals)
        assert auc(score, label) == pytest.approx(roc_auc_score(label, score), abs=1e-12)


def test_resampled_auc_equals_auc_of_the_drawn_rows():
    generator = np.random.default_rng(1)
    label = generator.integers(0, 2, 40)
    score = np.round(generator.normal(size=40), 1)
    counts = bootstrap_counts(np.arange(40), label, replicates=25, seed=3)
    expected = [roc_auc_score(np.repeat(label, c.astype(int)), np.repeat(score, c.astype(int))) for c in counts]
    np.testing.assert_allclose(resampled_auc(score, label, counts), expected, atol=1e-12)


def test_auc_and_accuracy_by_hand():
    # positives 0.9, 0.4; negatives 0.5, 0.4: won 2, tie 0.5 + lost 0 -> (2 + 0.5) / 4
    assert auc([0.9, 0.4, 0.5, 0.4], [1, 1, 0, 0]) == 0.625
    is_right = np.array([1, 0, 2]) == np.array([1, 1, 2])
    assert resampled_mean(is_right, np.ones((1, 3)))[0] == pytest.approx(2 / 3)


@pytest.mark.parametrize("label", [[1, 1], [0, 0], []])
def test_one_class_gives_a_reason_not_nan(label):
    score = np.zeros(len(label))
    with pytest.raises(UndefinedFigureError, match="both classes"):
        auc(score, label)
    figure = estimate(lambda c: resampled_auc(score, np.array(label), c), np.ones((10, len(label))))
    entry = figure.entry("auc")
    assert entry["auc"] is None and entry["auc_ci"] is None and "both classes" in entry["auc_missing"]


def test_nan_scores_and_odd_labels_are_refused():
    with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
        auc([np.nan, 0.3], [0, 1])
    with pytest.raises(ValueError, match="0 or 1"):
        auc([0.2, 0.3], [0, 2])


def test_bootstrap_keeps_patients_together_and_strata_full():
    patients = np.array(["a", "a", "b", "c", "d", "d", "e"])
    label = np.array([1, 1, 1, 0, 0, 0, 0])
    counts = bootstrap_counts(patients, label, replicates=200, seed=0)
    np.testing.assert_array_equal(counts[:, 0], counts[:, 1])
    np.testing.assert_array_equal(counts[:, 4], counts[:, 5])
    assert (counts[:, [0, 2]].sum(axis=1) == 2).all()  # two patients with label 1
    assert (counts[:, [3, 4, 6]].sum(axis=1) == 3).all()
    np.testing.assert_array_equal(counts, bootstrap_counts(patients, label, replicates=200, seed=0))
    assert not np.array_equal(counts, bootstrap_counts(patients, label, replicates=200, seed=1))


def test_a_patient_with_both_labels_has_a_stratum_of_its_own():
    counts = bootstrap_counts(["a", "a", "b", "c"], [0, 1, 0, 1], replicates=50, seed=0)
    np.testing.assert_array_equal(counts, np.ones((50, 4)))  # three strata of one patient each


def test_patient_resampling_widens_the_interval():
    """Ten copies of each patient carry no more information than one; resampling rows would pretend they do."""
    generator = np.random.default_rng(2)
    label = np.repeat(generator.integers(0, 2, 40), 10)
    score = np.repeat(generator.normal(size=40), 10) + label
    by_patient = estimate(
        lambda c: resampled_auc(score, label, c), bootstrap_counts(np.repeat(np.arange(40), 10), label, 500, 0)
    )
    by_row = estimate(lambda c: resampled_auc(score, label, c), bootstrap_counts(np.arange(400), label, 500, 0))
    assert np.ptp(by_patient.interval) > 2 * np.ptp(by_row.interval)


def test_interval_covers_the_truth_about_95_percent_of_the_time():
    generator = np.random.default_rng(4)
    true_auc, covered = 0.7602499, 0  # normal, shift 1: Phi(1 / sqrt(2))
    label = np.repeat([0, 1], 75)
    for trial in range(200):
        score = generator.normal(size=150) + label
        low, high = estimate(
            lambda c, score=score: resampled_auc(score, label, c), bootstrap_counts(np.arange(150), label, 300, trial)
        ).interval
        covered += low <= true_auc <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_paired_difference_is_narrower_than_its_parts():
    generator = np.random.default_rng(5)
    label = np.repeat([0, 1], 100)
    common = generator.normal(size=200) + label
    first, second = common + 0.1 * generator.normal(size=200), common + 0.1 * generator.normal(size=200)
    counts = bootstrap_counts(np.arange(200), label, 500, 0)
    difference = estimate(lambda c: resampled_auc(first, label, c) - resampled_auc(second, label, c), counts)
    alone = estimate(lambda c: resampled_auc(first, label, c), counts)
    assert difference.value == pytest.approx(auc(first, label) - auc(second, label))
    assert np.ptp(difference.interval) < np.ptp(alone.interval) / 3


def test_mean_with_no_rows_has_a_reason():
    assert estimate(lambda c: resampled_mean(np.array([]), c), np.ones((5, 0))).reason == "no rows"
