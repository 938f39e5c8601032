"""Precision, calibration, thresholds and net benefit against scikit-learn, statsmodels and by hand."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve as sklearn_calibration_curve
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    log_loss,
    precision_score,
    recall_score,
    roc_curve,
)

from tgmm_hf.evaluation.calibration import (
    NET_BENEFIT_THRESHOLDS,
    OperatingPoint,
    calibration_curve,
    choose_operating_point,
    decision_curve,
    fit_temperature,
    recalibration_line,
    resampled_intercept,
    resampled_net_benefit,
    resampled_slope,
    scaled,
)
from tgmm_hf.evaluation.diagnosis import decision_figures, diagnosis_figures
from tgmm_hf.evaluation.metrics import (
    UndefinedFigureError,
    bootstrap_counts,
    bootstrap_draws,
    estimate_share,
    resampled_average_precision,
    resampled_mean,
)
from tgmm_hf.evaluation.thresholds import sensitivity_threshold, youden_threshold


def answers(n=300, seed=0, slope=0.6, shift=-0.5, decimals=8):
    """Probabilities that are too extreme and too high, and outcomes."""
    generator = np.random.default_rng(seed)
    value = generator.normal(size=n) * 2
    label = (generator.random(n) < expit(slope * value + shift)).astype(int)
    return np.round(expit(value), decimals), label


def once(n):
    return np.ones((1, n))


@pytest.mark.parametrize("decimals", [8, 1])  # 1: many ties
def test_average_precision_equals_scikit_learn(decimals):
    for seed in range(5):
        probability, label = answers(80, seed, decimals=decimals)
        counts = np.vstack([once(80), bootstrap_counts(np.arange(80), label, 10, seed)])
        drawn = [np.repeat(np.arange(80), c.astype(int)) for c in counts]
        expected = [average_precision_score(label[rows], probability[rows]) for rows in drawn]
        np.testing.assert_allclose(resampled_average_precision(probability, label, counts), expected, atol=1e-12)


def test_brier_equals_scikit_learn():
    probability, label = answers()
    ours = resampled_mean((probability - label) ** 2, once(300))[0]
    assert ours == pytest.approx(brier_score_loss(label, probability), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_intercept_and_slope_equal_statsmodels(seed):
    probability, label = answers(seed=seed)
    counts = np.vstack([once(300), bootstrap_counts(np.arange(300), label, 3, seed)])
    for weights, intercept, slope in zip(
        counts,
        resampled_intercept(probability, label, counts),
        resampled_slope(probability, label, counts),
        strict=True,
    ):
        value, family = logit(probability), sm.families.Binomial()
        options = {"family": family, "freq_weights": weights}
        shift = sm.GLM(label, np.ones(300), offset=value, **options).fit(tol=1e-12)
        line = sm.GLM(label, sm.add_constant(value), **options).fit(tol=1e-12)
        assert intercept == pytest.approx(shift.params[0], abs=1e-6)
        assert slope == pytest.approx(line.params[1], abs=1e-6)


def test_recalibration_line_recovers_the_simulated_miscalibration():
    probability, label = answers(n=200_000)
    grid = np.array([0.1, 0.5, 0.9])
    np.testing.assert_allclose(recalibration_line(probability, label, grid), expit(0.6 * logit(grid) - 0.5), atol=0.01)


def test_perfect_separation_and_a_constant_have_no_slope():
    label = np.repeat([0, 1], 20)
    separated = np.linspace(0.1, 0.9, 40)
    assert np.isnan(resampled_slope(separated, label, once(40))[0])
    assert np.isfinite(resampled_intercept(separated, label, once(40))[0])
    with pytest.raises(UndefinedFigureError, match="same probability"):
        resampled_slope(np.full(40, 0.3), label, once(40))
    with pytest.raises(UndefinedFigureError, match="both classes"):
        resampled_intercept(separated, np.ones(40), once(40))
    # certain and wrong: still finite
    assert np.isfinite(resampled_intercept(np.r_[1.0, separated[1:]], label, once(40))[0])


def test_calibration_curve_equals_scikit_learn():
    probability, label = answers()
    observed, predicted = sklearn_calibration_curve(label, probability, n_bins=10, strategy="quantile")
    points = calibration_curve(probability, label)
    np.testing.assert_allclose([p["observed"] for p in points], observed, atol=1e-12)
    np.testing.assert_allclose([p["predicted"] for p in points], predicted, atol=1e-12)
    assert sum(p["n"] for p in points) == 300
    assert all(p["observed_ci"][0] <= p["observed"] <= p["observed_ci"][1] for p in points)
    assert calibration_curve(probability[:19], label[:19]) == []  # too few for two groups


def test_net_benefit_by_the_formula():
    probability, label = answers()
    counts = np.vstack([once(300), bootstrap_counts(np.arange(300), label, 2, 0)])
    ours = resampled_net_benefit(probability, label, counts)
    for weights, curve in zip(counts, ours, strict=True):
        for threshold, value in zip(NET_BENEFIT_THRESHOLDS, curve, strict=True):
            named = probability >= threshold
            _, false_positives, _, true_positives = confusion_matrix(label, named, sample_weight=weights).ravel()
            expected = (true_positives - false_positives * threshold / (1 - threshold)) / 300
            assert value == pytest.approx(expected, abs=1e-12)
    curve = decision_curve(probability, label, counts)
    prevalence, odds = label.mean(), NET_BENEFIT_THRESHOLDS / (1 - NET_BENEFIT_THRESHOLDS)
    np.testing.assert_allclose(curve["act_on_all"], prevalence - (1 - prevalence) * odds, atol=1e-12)


def test_decisions_equal_scikit_learn():
    probability, label = answers()
    named = probability >= 0.6
    draws = bootstrap_draws(np.arange(300), label, 100, 0)
    entry = decision_figures(named, label, draws)
    assert entry["sensitivity"] == pytest.approx(recall_score(label, named), abs=1e-12)
    assert entry["specificity"] == pytest.approx(recall_score(1 - label, ~named), abs=1e-12)
    assert entry["ppv"] == pytest.approx(precision_score(label, named), abs=1e-12)
    assert entry["npv"] == pytest.approx(precision_score(1 - label, ~named), abs=1e-12)
    assert entry["sensitivity_ci"][0] < entry["sensitivity"] < entry["sensitivity_ci"][1]
    nobody = decision_figures(np.zeros(300, dtype=bool), label, draws)
    assert nobody["ppv"] is None and nobody["ppv_missing"] == "no rows" and nobody["npv"] is not None


def test_intervals_hold_the_truth_where_the_prevalence_matters():
    """A perfect model: the share of samples whose interval holds its own calibration, accuracy and PPV."""
    held = {"calibration_intercept": 0, "accuracy": 0, "ppv": 0}
    population = expit(np.random.default_rng(1).normal(-1, 1.5, 10**6))
    positive = np.random.default_rng(2).random(10**6) < population
    truth = {"calibration_intercept": 0.0, "accuracy": np.mean((population > 0.5) == positive)}
    truth["ppv"] = population[population > 0.5].mean()
    for sample in range(100):
        rows = slice(100 * sample, 100 * (sample + 1))
        probability, label = population[rows], positive[rows].astype(float)
        frame = pd.DataFrame({"probability": probability, "positive": label, "label": label})
        frame["predicted"] = (probability > 0.5).astype(float)
        entry = diagnosis_figures(frame, bootstrap_draws(np.arange(100), label, 200, 0), OperatingPoint())
        for name, value in truth.items():
            low, high = entry[f"{name}_ci"]
            held[name] += low <= value <= high
    assert min(held.values()) >= 85, held  # with strata the intercept's would hold it in 62


def test_share_of_one_has_wilsons_interval():
    share = estimate_share(np.ones(20, dtype=bool), bootstrap_counts(np.arange(20), None, 50, 0))
    # Wilson, 20 of 20: lower bound n / (n + z^2)
    assert share.value == 1 and share.interval == pytest.approx((20 / (20 + 1.959964**2), 1.0), abs=1e-6)


def test_youden_is_the_best_point_of_the_roc_curve():
    for seed in range(5):
        probability, label = answers(120, seed, decimals=2)
        threshold = youden_threshold(probability, label == 1)
        false_rate, true_rate, _ = roc_curve(label, probability, drop_intermediate=False)
        named = probability >= threshold
        reached = recall_score(label, named) - (1 - recall_score(1 - label, ~named))
        assert reached == pytest.approx((true_rate - false_rate).max(), abs=1e-12)
        assert threshold not in probability


def test_threshold_of_a_stated_sensitivity():
    label = np.array([0, 1, 0, 1, 1, 1]) == 1
    probability = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert sensitivity_threshold(probability, label, 0.75) == pytest.approx(0.35)  # three of four positives above
    assert sensitivity_threshold(probability, label, 1.0) == pytest.approx(0.15)
    with pytest.raises(ValueError, match="1.2"):
        sensitivity_threshold(probability, label, 1.2)


def test_temperature_minimises_log_loss_and_keeps_ranks():
    probability, label = answers(shift=0.0)
    temperature = fit_temperature(probability, label)
    grid = np.linspace(0.5, 4, 701)
    best = grid[np.argmin([log_loss(label, scaled(probability, t)) for t in grid])]
    assert temperature == pytest.approx(best, abs=0.005)
    assert temperature == pytest.approx(1 / 0.6, abs=0.4)  # what the data were made with
    assert (np.argsort(scaled(probability, temperature)) == np.argsort(probability)).all()


def test_too_few_validation_patients_choose_nothing():
    probability, label = answers(60)
    rare = np.zeros(60)
    rare[:9] = 1
    point = choose_operating_point(probability, rare, temperature=True)
    assert (point.threshold, point.temperature) == (0.5, None) and "9 patients in the smaller class" in point.chosen_on
    worse = choose_operating_point(-probability + 1, (probability > 0.5).astype(int))
    assert worse.threshold == 0.5 and "better than chance" in worse.chosen_on
    point = choose_operating_point(probability, label, sensitivity=0.9, temperature=True)
    assert "0.9" in point.rule and point.temperature is not None and "n = 60" in point.chosen_on
    assert OperatingPoint().scaled(probability) is probability
