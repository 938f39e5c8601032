"""Tests of differences against statsmodels, independent computations and by hand."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from tgmm_hf.evaluation.comparisons import delong_test, holm, mcnemar_test
from tgmm_hf.evaluation.metrics import UndefinedFigureError, bootstrap_counts, estimate, resampled_auc


def scores(n=90, seed=0, decimals=8):
    generator = np.random.default_rng(seed)
    label = np.r_[0, 0, 1, 1, generator.integers(0, 2, n - 4)]
    first, second = (np.round(generator.normal(size=n) + shift * label, decimals) for shift in (1.0, 0.5))
    return first, second, label


def quadratic_delong(first, second, label):
    """DeLong, DeLong and Clarke-Pearson's equations 4 to 6, pair by pair."""
    components = []
    for score in (first, second):
        psi = np.array([[float(x > y) + 0.5 * float(x == y) for y in score[label == 0]] for x in score[label == 1]])
        components.append((psi.mean(), psi.mean(axis=1), psi.mean(axis=0)))
    m, n = (label == 1).sum(), (label == 0).sum()
    s10 = np.cov(np.stack([c[1] for c in components]))
    s01 = np.cov(np.stack([c[2] for c in components]))
    covariance = s10 / m + s01 / n
    contrast = np.array([1.0, -1.0])
    return components[0][0] - components[1][0], np.sqrt(contrast @ covariance @ contrast)


@pytest.mark.parametrize("decimals", [8, 0])  # 0: many ties
def test_delong_equals_its_equations_pair_by_pair(decimals):
    for seed in range(5):
        first, second, label = scores(seed=seed, decimals=decimals)
        result = delong_test(first, second, label)
        difference, error = quadratic_delong(first, second, label)
        assert result.difference == pytest.approx(difference, abs=1e-12)
        assert result.difference == pytest.approx(roc_auc_score(label, first) - roc_auc_score(label, second), abs=1e-12)
        assert result.standard_error == pytest.approx(error, abs=1e-12)
        assert result.p == pytest.approx(delong_test(second, first, label).p, abs=1e-12)


def test_repeated_rows_of_one_patient_do_not_shrink_the_standard_error():
    """Every row ten times under one patient: the error stays; taken as patients of their own it would shrink."""
    first, second, label = scores(60)
    patients = np.tile(np.arange(60), 10)
    once, repeated = delong_test(first, second, label), delong_test(*(np.tile(x, 10) for x in (first, second, label)))
    clustered = delong_test(*(np.tile(x, 10) for x in (first, second, label)), patients)
    assert clustered.standard_error == pytest.approx(once.standard_error, rel=1e-9)
    assert repeated.standard_error < 0.4 * once.standard_error


def test_delong_of_patients_with_both_classes_agrees_with_the_bootstrap():
    generator = np.random.default_rng(3)
    patients = np.repeat(np.arange(150), 2)
    own = generator.normal(size=150)[patients]
    label = (generator.normal(size=300) + 0.3 * own > 0).astype(int)
    first, second = label + own + generator.normal(size=300), 0.7 * label + own + generator.normal(size=300)
    counts = bootstrap_counts(patients, None, 2000, 0)
    difference = resampled_auc(first, label, counts) - resampled_auc(second, label, counts)
    assert delong_test(first, second, label, patients).standard_error == pytest.approx(difference.std(), rel=0.1)


def test_delong_rejects_a_true_hypothesis_in_five_percent():
    generator = np.random.default_rng(4)
    label, rejected = np.repeat([0, 1], 50), 0
    for _ in range(400):
        common = generator.normal(size=100) + label
        first, second = common + generator.normal(size=100), common + generator.normal(size=100)
        rejected += delong_test(first, second, label).p < 0.05
    assert 0.02 <= rejected / 400 <= 0.08


def test_delong_without_difference_or_patients_has_a_reason():
    first, _, label = scores()
    with pytest.raises(UndefinedFigureError, match="alike"):
        delong_test(first, 2 * first, label)
    with pytest.raises(UndefinedFigureError, match="1 and 2"):
        delong_test(np.arange(3.0), np.array([1.0, 0, 2]), np.array([1, 0, 0]))


@pytest.mark.parametrize(("gained", "lost"), [(12, 3), (5, 5), (0, 1), (30, 21)])
def test_mcnemar_equals_statsmodels(gained, lost):
    first = np.repeat([True, False, True, False], [gained, lost, 7, 4])
    second = np.repeat([False, True, True, False], [gained, lost, 7, 4])
    only_first, only_second, p = mcnemar_test(first, second)
    assert (only_first, only_second) == (gained, lost)
    assert p == pytest.approx(mcnemar([[7, gained], [lost, 4]], exact=True).pvalue, abs=1e-12)


def test_mcnemar_without_a_difference():
    assert mcnemar_test(np.ones(4, dtype=bool), np.ones(4, dtype=bool)) == (0, 0, 1.0)


def test_holm_equals_statsmodels_and_leaves_gaps_out():
    p_values = [0.01, 0.04, 0.03, 0.005, 0.2, 0.03]
    np.testing.assert_allclose(holm(p_values), multipletests(p_values, method="holm")[1], atol=1e-12)
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # R: p.adjust(p, "holm")
    assert holm([0.02, None, 0.03]) == [0.04, None, 0.04] and holm([]) == []


def test_delong_agrees_with_the_bootstrap_interval():
    first, second, label = scores(200, seed=1)
    counts = bootstrap_counts(np.arange(200), label, 2000, 0)
    interval = estimate(lambda c: resampled_auc(first, label, c) - resampled_auc(second, label, c), counts).interval
    delong = delong_test(first, second, label)
    assert np.ptp(interval) == pytest.approx(2 * 1.96 * delong.standard_error, rel=0.1)
