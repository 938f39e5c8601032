"""Retrieval figures against brute-force enumeration of every possible set of negatives."""

from itertools import combinations

import numpy as np
import pytest
from closeness import assert_close
from scipy.stats import binom
from sklearn.metrics import label_ranking_average_precision_score

from tgmm_hf.evaluation.metrics import UndefinedFigureError
from tgmm_hf.evaluation.retrieval import (
    DIRECTIONS,
    _chance_interval,
    beaten_by,
    chance_level,
    evaluate_direction,
    expected_scores,
)


def embeddings(n, width=8, seed=0, signal=1.0):
    generator = np.random.default_rng(seed)
    common = generator.normal(size=(n, width))
    pair = [signal * common + generator.normal(size=(n, width)) for _ in range(2)]
    return [x / np.linalg.norm(x, axis=1, keepdims=True) for x in pair]


def enumerated(similarity, candidates):
    """Mean over all sets of negatives, ties lost: LRAP, Recall@1, Recall@2 per query."""
    n = len(similarity)
    scores = []
    for i in range(n):
        ranks = [
            1 + sum(similarity[i, j] >= similarity[i, i] for j in drawn)
            for drawn in combinations([j for j in range(n) if j != i], candidates - 1)
        ]
        scores.append(
            [np.mean([1 / r for r in ranks]), np.mean([r <= 1 for r in ranks]), np.mean([r <= 2 for r in ranks])]
        )
    return np.array(scores)


@pytest.mark.parametrize("candidates", [3, 4])
@pytest.mark.parametrize("decimals", [8, 1])
def test_expectation_equals_enumeration(candidates, decimals):
    query, gallery = embeddings(12)
    similarity = np.round(query @ gallery.T, decimals)
    scores = expected_scores(*beaten_by(similarity, np.arange(12)), candidates)
    expected = enumerated(similarity, candidates)
    for column, figure in enumerate(("lrap", "recall_1", "recall_2")):
        np.testing.assert_allclose(scores[figure], expected[:, column], atol=1e-12)


def test_full_gallery_equals_scikit_learn():
    query, gallery = embeddings(40)
    scores = expected_scores(*beaten_by(query @ gallery.T, np.arange(40)), None)
    oracle = label_ranking_average_precision_score(np.eye(40), query @ gallery.T)
    assert scores["lrap"].mean() == pytest.approx(oracle, abs=1e-12)


def test_ties_count_against_the_model():
    """A collapsed encoder, equal for everybody, gets the worst figure, not the best."""
    ahead, negatives = beaten_by(np.ones((5, 5)), np.arange(5))
    assert expected_scores(ahead, negatives, 3)["recall_1"].tolist() == [0] * 5
    assert expected_scores(ahead, negatives, 3)["lrap"] == pytest.approx([1 / 3] * 5)


def test_further_admissions_of_the_same_patient_are_left_out():
    similarity = np.array([[0.5, 0.9, 0.1], [0.9, 0.5, 0.1], [0.0, 0.0, 1.0]])
    ahead, negatives = beaten_by(similarity, np.array(["a", "a", "b"]))
    assert ahead.tolist() == [0, 0, 0] and negatives.tolist() == [1, 1, 2]


def test_chance_levels_are_those_of_the_paper_and_of_random_embeddings():
    assert chance_level("lrap", 3) == pytest.approx(0.6111, abs=1e-4)
    assert chance_level("recall_1", 3) == pytest.approx(1 / 3)
    assert chance_level("recall_2", 4) == 0.5
    assert chance_level("recall_2", 1) == 1.0
    query, gallery = embeddings(400, signal=0.0)
    result = evaluate_direction(query, gallery, np.arange(400), seed=0, replicates=200)
    for figure in ("lrap_3", "recall_1_3", "recall_2_3", "lrap_4", "recall_1_4", "recall_2_4"):
        low, high = result[f"{figure}_ci"]
        assert low < result[f"{figure}_chance"] < high
    low, high = result["lrap_3_chance_ci"]
    assert low < result["lrap_3_chance"] < high and low < result["lrap_3"] < high


def test_signal_lies_above_the_chance_interval():
    query, gallery = embeddings(100, signal=1.5)
    result = evaluate_direction(query, gallery, np.arange(100), seed=0, replicates=200)
    assert result["lrap_3"] > result["lrap_3_ci"][0] > result["lrap_3_chance_ci"][1]
    assert result["lrap_full"] > result["lrap_full_chance_ci"][1]
    assert result["lrap_3"] > result["lrap_4"] > result["lrap_full"]


def test_chance_interval_is_no_narrower_than_random_pairing_and_never_zero():
    query, gallery = embeddings(60, signal=0.0)
    similarity = query @ gallery.T
    generator = np.random.default_rng(0)
    paired = []
    for _ in range(300):
        shuffled = similarity[:, generator.permutation(60)]
        paired.append(expected_scores(*beaten_by(shuffled, np.arange(60)), 3)["lrap"].mean())
    low, high = evaluate_direction(query, gallery, np.arange(60), seed=0, replicates=2000)["lrap_3_chance_ci"]
    assert high - low > 0.9 * np.subtract(*np.quantile(paired, [0.975, 0.025]))
    collapsed = np.ones((60, 4)) / 2
    result = evaluate_direction(collapsed, collapsed, np.arange(60), seed=0, replicates=200)
    assert np.ptp(result["lrap_3_chance_ci"]) > 0.05 and result["lrap_3"] < result["lrap_3_chance_ci"][0]


def test_chance_interval_depends_neither_on_the_bootstrap_nor_on_its_seed():
    query, gallery = embeddings(40, signal=0.0)
    first, second = (
        evaluate_direction(query, gallery, np.arange(40), seed=seed, replicates=replicates)
        for seed, replicates in ((0, 100), (1, 300))
    )
    assert first["lrap_3_ci"] != second["lrap_3_ci"]
    assert_close(first["lrap_3_chance_ci"], second["lrap_3_chance_ci"])
    # by lot among two candidates: 1 or 1/2 with equal chance, so the mean of 40 is (1 + binomial share) / 2
    share = binom.ppf([0.025, 0.975], 40, 0.5) / 40
    assert _chance_interval((1,) * 40, 2) == pytest.approx((1 + share) / 2)


def test_chance_interval_with_several_admissions_per_patient():
    query, gallery = embeddings(20, signal=0.0)
    patients = np.r_[np.zeros(5), np.arange(1, 16)]
    low, high = evaluate_direction(query, gallery, patients, seed=0, replicates=500)["lrap_full_chance_ci"]
    assert 1 / 20 < low < high < 1


def test_too_few_patients_give_reasons():
    query, gallery = embeddings(3)
    result = evaluate_direction(query, gallery, np.arange(3), seed=0, replicates=10)
    assert result["lrap_3"] is not None
    assert result["lrap_4"] is None and "need 3 admissions of other patients, there are 2" in result["lrap_4_missing"]
    for n in (0, 1):
        result = evaluate_direction(query[:n], gallery[:n], np.arange(n), seed=0, replicates=10)
        assert result["n"] == n and result["lrap_full"] is None and "two patients" in result["lrap_full_missing"]
    with pytest.raises(UndefinedFigureError):
        expected_scores(np.array([0]), np.array([1]), 3)


def test_broken_embeddings_are_refused_and_directions_are_six():
    with pytest.raises(ValueError, match="1 of 4 similarities"):
        beaten_by(np.array([[np.nan, 0], [0, 1]]), np.arange(2))
    assert len(DIRECTIONS) == 6 and ("labs", "ecg") in DIRECTIONS and ("ecg", "labs") in DIRECTIONS
