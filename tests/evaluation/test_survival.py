"""Concordance, incidence curves and stored baseline hazards against lifelines and by hand."""

import json

import numpy as np
import pandas as pd
import pytest
from lifelines import AalenJohansenFitter, CoxPHFitter, KaplanMeierFitter
from lifelines.statistics import logrank_test
from lifelines.utils import concordance_index

from tgmm_hf.evaluation.metrics import UndefinedFigureError, bootstrap_counts
from tgmm_hf.evaluation.survival import (
    aalen_johansen,
    c_index,
    fit_baseline_hazards,
    kaplan_meier,
    log_rank,
    published_days,
    resampled_c_index,
)
from tgmm_hf.layers.hazards import cumulative_incidence


def follow_up(n=150, seed=0, competing=True, slope=0.8):
    """Scores, days without ties, and events from exponential hazards."""
    generator = np.random.default_rng(seed)
    risk = generator.normal(2.0, 1.5, size=n)
    event_day = generator.exponential(900 * np.exp(-slope * (risk - 2)))
    death_day = generator.exponential(1500, size=n) if competing else np.full(n, np.inf)
    censored_day = generator.uniform(100, 1500, size=n)
    time = np.minimum(np.minimum(event_day, death_day), censored_day)
    event = np.select([time == event_day, time == death_day], [1, 2], 0)
    return risk, time, event


@pytest.mark.parametrize("seed", range(5))
def test_c_index_equals_lifelines(seed):
    risk, time, event = follow_up(seed=seed)
    risk, time = np.round(risk, 1), np.ceil(time / 60)  # ties in both
    assert c_index(risk, time, event) == pytest.approx(concordance_index(time, -risk, event == 1), abs=1e-12)


def test_c_index_by_hand():
    # event at 1 against 2, 3, 3; event at 3 against the row censored at 3
    risk, time, event = [2.0, 2.0, 1.0, 3.0], [1, 2, 3, 3], [1, 0, 1, 0]
    assert c_index(risk, time, event) == pytest.approx((0.5 + 1 + 0 + 0) / 4)


def test_competing_death_counts_as_censored_at_death():
    assert c_index([0.0, 1.0], [3, 5], [1, 2]) == 0.0  # alive and free at day 3: compared
    with pytest.raises(UndefinedFigureError, match="1 events among 2"):
        c_index([1.0, 0.0], [5, 3], [1, 2])  # the death came first: nothing to compare


def test_resampled_c_index_equals_c_index_of_the_drawn_rows():
    risk, time, event = follow_up(n=50)
    counts = bootstrap_counts(np.arange(50), event, replicates=20, seed=0)
    drawn = [np.repeat(np.arange(50), c.astype(int)) for c in counts]
    expected = [concordance_index(time[rows], -risk[rows], event[rows] == 1) for rows in drawn]
    np.testing.assert_allclose(resampled_c_index(risk, time, event, counts), expected, atol=1e-12)


def test_c_index_of_extreme_scores_is_finite():
    risk, time, event = follow_up()
    assert c_index(risk * 1e300, time, event) == pytest.approx(c_index(risk, time, event))


def test_aalen_johansen_equals_lifelines():
    _, time, event = follow_up()
    days, incidence = aalen_johansen(time, event)
    oracle = AalenJohansenFitter(calculate_variance=False).fit(time, event, event_of_interest=1).cumulative_density_
    np.testing.assert_allclose(incidence[0], oracle.loc[days].to_numpy()[:, 0], atol=1e-12)


def test_aalen_johansen_without_deaths_is_kaplan_meier():
    _, time, event = follow_up(competing=False)
    time = np.ceil(time / 30)
    days, incidence = aalen_johansen(time, event)
    kaplan_meier = KaplanMeierFitter().fit(time, event).survival_function_.loc[days].to_numpy()[:, 0]
    np.testing.assert_allclose(1 - incidence[0], kaplan_meier, atol=1e-12)


def test_kaplan_meier_and_its_bounds_equal_lifelines():
    _, time, event = follow_up()
    time = np.ceil(time / 30)  # ties
    curve = kaplan_meier(time, event)
    oracle = KaplanMeierFitter().fit(time, event == 1)
    after_first = curve["days"] >= time[event == 1].min()
    bounds = oracle.confidence_interval_.loc[curve["days"][after_first]].to_numpy()
    np.testing.assert_allclose(curve["free"], oracle.survival_function_.loc[curve["days"]].to_numpy()[:, 0], atol=1e-12)
    np.testing.assert_allclose(curve["low"][after_first], bounds[:, 0], atol=1e-9)
    np.testing.assert_allclose(curve["high"][after_first], bounds[:, 1], atol=1e-9)
    assert np.isnan(curve["low"][~after_first]).all()
    everybody = kaplan_meier(np.array([1.0, 2.0]), np.array([1, 1]))
    assert everybody["free"][-1] == 0 and np.isnan(everybody["low"][-1])


@pytest.mark.parametrize("seed", range(3))
def test_log_rank_equals_lifelines(seed):
    risk, time, event = follow_up(seed=seed)
    time, high = np.ceil(time / 30), risk > 2
    oracle = logrank_test(time[high], time[~high], event[high] == 1, event[~high] == 1)
    statistic, p = log_rank(time, event, high)
    assert statistic == pytest.approx(oracle.test_statistic, abs=1e-9) and p == pytest.approx(oracle.p_value, abs=1e-9)


def test_log_rank_of_few_events_or_one_group_is_refused():
    risk, time, event = follow_up(n=150)
    with pytest.raises(UndefinedFigureError, match="one risk group"):
        log_rank(time, event, np.ones(150, dtype=bool))
    few = np.where(np.cumsum(event == 1) <= 9, event, 0)
    with pytest.raises(UndefinedFigureError, match="9 events"):
        log_rank(time, few, risk > 2)


@pytest.mark.parametrize("cause", [1, 2])
def test_slopes_and_hazards_equal_lifelines(cause):
    risk, time, event = follow_up()
    baseline = fit_baseline_hazards(risk, time, event)
    frame = pd.DataFrame({"risk": risk, "time": time, "event": event == cause})
    oracle = CoxPHFitter().fit(frame, "time", "event", fit_options={"precision": 1e-10})
    name = {1: "event", 2: "death"}[cause]
    assert baseline[f"{name}_slope"] == pytest.approx(oracle.params_["risk"], abs=1e-6)
    # lifelines centres at the mean as well
    hazard = oracle.baseline_cumulative_hazard_["baseline cumulative hazard"]
    stored = np.interp(hazard.index, [0, *baseline["days"]], [0, *baseline[f"{name}_cumulative_hazard"]])
    happened = np.isin(hazard.index, time[event > 0])
    np.testing.assert_allclose(stored[happened], hazard.to_numpy()[happened], atol=1e-6)


def test_one_cause_gives_lifelines_predicted_probability():
    risk, time, event = follow_up(competing=False)
    baseline = fit_baseline_hazards(risk, time, event)
    oracle = CoxPHFitter().fit(pd.DataFrame({"risk": risk, "time": time, "event": event}), "time", "event")
    days = time[event == 1][:10]
    predicted = oracle.predict_survival_function(pd.DataFrame({"risk": [0.5, 2.0, 4.0]}), times=np.sort(days))
    ours = cumulative_incidence([0.5, 2.0, 4.0], baseline, np.sort(days))
    np.testing.assert_allclose(ours, 1 - predicted.to_numpy().T, atol=1e-5)
    assert baseline["deaths"] == 0 and baseline["death_slope"] == 0 and not any(baseline["death_cumulative_hazard"])


def test_mean_prediction_meets_the_observed_incidence():
    """With death competing, the average predicted probability follows Aalen and Johansen's curve."""
    risk, time, event = follow_up(n=3000, seed=1)
    baseline = fit_baseline_hazards(risk, time, event)
    days, observed = aalen_johansen(time, event)
    for day in (100, 400, 800, 1200):
        predicted = cumulative_incidence(risk, baseline, [day]).mean()
        assert predicted == pytest.approx(observed[0, np.searchsorted(days, day, side="right") - 1], abs=0.01)


def test_a_shared_baseline_names_no_patients_day_and_says_the_same():
    risk, time, event = follow_up(n=3000)
    time = np.floor(time) + 0.25  # no patient's day is a whole number
    days = published_days(time, report_days=[100, 500, 1000, 99_999])
    shared = fit_baseline_hazards(risk, time, event, fitted_on="train", days=days)
    shared = json.loads(json.dumps(shared, allow_nan=False))
    assert not set(shared["days"]) & set(time) and shared["n"] == 3000 and shared["fitted_on"] == "train"
    assert {7, 14, 100, 500, 1000} <= set(shared["days"]) and time.max() - 7 <= shared["days"][-1] <= time.max()
    whole = fit_baseline_hazards(risk, time, event)
    reported = [[cumulative_incidence([0, 2, 4], baseline, [100, 500, 1000])] for baseline in (shared, whole)]
    np.testing.assert_allclose(*reported, atol=2e-3)


@pytest.mark.parametrize("extreme", [-1e6, -800.0, 800.0, 1e6])
def test_extreme_scores_stay_probabilities(extreme):
    risk, time, event = follow_up()
    baseline = fit_baseline_hazards(risk, time, event)
    with np.errstate(all="raise", under="ignore", divide="ignore"):
        probability = cumulative_incidence([extreme], baseline, np.linspace(0, time.max(), 50))
    assert np.isfinite(probability).all() and (probability >= 0).all() and (probability <= 1).all()
    assert (np.diff(probability) >= 0).all()
    assert probability[0, 0] == 0


def test_earlier_steps_survive_beside_a_huge_one():
    baseline = {
        "days": [1.0, 2.0], "event_cumulative_hazard": [0.0, 1e25], "death_cumulative_hazard": [5.0, 5.0],
        "event_slope": 0.0, "death_slope": 0.0,
    }  # fmt: skip
    assert cumulative_incidence(0.0, baseline, [2])[0, 0] == pytest.approx(np.exp(-5))


def test_before_the_first_event_nothing_and_after_the_last_day_no_estimate():
    risk, time, event = follow_up()
    baseline = fit_baseline_hazards(risk, time, event)
    result = cumulative_incidence([2.0], baseline, [0, time[event > 0].min() * 0.99, time.max(), time.max() + 1])[0]
    assert result[0] == 0 and result[1] == 0 and 0 < result[2] < 1 and np.isnan(result[3])


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_collapsed_or_perfect_scores_give_a_finite_baseline(offset):
    _, time, event = follow_up(competing=False)
    constant = fit_baseline_hazards(np.full(len(time), 3.0 + offset, dtype=np.float32), time, event)
    assert constant["event_slope"] == 0
    perfect = fit_baseline_hazards(-time + offset, time, np.ones(len(time)))
    assert np.isfinite(perfect["event_slope"]) and perfect["event_slope"] > 0
    assert np.isfinite(cumulative_incidence(-time + offset, perfect, [200.0])).all()


def test_no_events_at_all():
    baseline = fit_baseline_hazards([0.1, 0.2, 0.3], [10, 20, 30], [0, 0, 0])
    assert baseline["events"] == 0
    np.testing.assert_array_equal(cumulative_incidence([0.1, 5.0], baseline, [5, 30]), np.zeros((2, 2)))


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"\(2,\), \(3,\)"):
        fit_baseline_hazards([1, 2], [1, 2, 3], [0, 1, 0])
    with pytest.raises(ValueError, match="up to the longest follow-up, 3, got"):
        fit_baseline_hazards([1, 2, 3], [1, 2, 3], [0, 1, 0], days=[1, 4])
    with pytest.raises(ValueError, match="without follow-up"):
        fit_baseline_hazards([1.0, 2.0], [1.0, np.nan], [0, 1])
    baseline = fit_baseline_hazards([0.1, 0.2, 0.3], [10, 20, 30], [1, 0, 1])
    with pytest.raises(ValueError, match="1 not finite"):
        cumulative_incidence([np.nan], baseline, [10])
    with pytest.raises(ValueError, match="non-negative"):
        cumulative_incidence([0.0], baseline, [-1])
    with pytest.raises(ValueError, match="fit it again|fit the baseline hazard again"):
        cumulative_incidence([0.0], baseline | {"event_cumulative_hazard": [0.1]}, [10])
