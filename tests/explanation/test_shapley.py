"""Shapley values: games worked by hand, and the estimate for many players."""

import numpy as np
import pytest

from tgmm_hf.explanation.shapley import sampled_shapley_values, shapley_values, subsets_of


def test_one_left_and_two_right_gloves():
    """A pair is worth 1. By hand: the left glove 2/3, each right glove 1/6."""
    subsets = subsets_of(3)
    pairs = np.minimum(subsets[:, 0], subsets[:, 1] | subsets[:, 2]).astype(float)
    np.testing.assert_allclose(shapley_values(pairs), [2 / 3, 1 / 6, 1 / 6])


def test_the_values_share_out_the_whole():
    values = np.random.default_rng(0).normal(size=2**6)
    assert shapley_values(values).sum() == pytest.approx(values[-1] - values[0])


def test_without_players_there_is_nothing_to_share_out():
    assert shapley_values(np.array([1.5])).shape == (0,)


def test_a_number_that_is_no_power_of_two_is_refused():
    with pytest.raises(ValueError, match="3"):
        shapley_values(np.zeros(3))


def product_game(subsets: np.ndarray) -> np.ndarray:
    """Additive, and two players that only act together."""
    return subsets @ np.array([1.0, -2.0, 0.5, 0.0, 3.0]) + 4.0 * (subsets[:, 1] & subsets[:, 4]) + 0.25


def test_sampled_values_of_pairs_are_exact():
    """Orders that are walked in both directions give the exact value of every interaction of two players."""
    values, errors, whole, empty = sampled_shapley_values(product_game, 5, orders=3, seed=1)
    np.testing.assert_allclose(values, shapley_values(product_game(subsets_of(5))))
    np.testing.assert_allclose(errors, 0, atol=1e-12)
    assert (whole, empty) == (6.75, 0.25)


def test_sampled_values_sum_to_the_difference_and_state_their_error():
    random = np.random.default_rng(3)
    table = random.normal(size=2**8)

    def game(subsets: np.ndarray) -> np.ndarray:
        return table[subsets @ (2 ** np.arange(8))]

    exact = shapley_values(table)
    values, errors, whole, empty = sampled_shapley_values(game, 8, orders=200, seed=0)
    assert values.sum() == pytest.approx(whole - empty)
    assert (np.abs(values - exact) < 4 * errors).all() and (errors > 0).all()


@pytest.mark.slow  # the package compiles code for up to 20 s
def test_the_estimate_is_that_of_the_package_shap():
    shap = pytest.importorskip("shap")
    explainer = shap.explainers.PermutationExplainer(
        lambda kept: product_game(kept > 0.5), shap.maskers.Independent(np.zeros((1, 5))), seed=0
    )
    theirs = explainer(np.ones((1, 5)), max_evals=200, silent=True)
    values, *_ = sampled_shapley_values(product_game, 5, orders=10)
    np.testing.assert_allclose(values, theirs.values[0], atol=1e-9)
