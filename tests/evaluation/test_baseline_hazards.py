"""Baseline hazards against lifelines, and the incidence that is computed from them."""

import json

import numpy as np
import pandas as pd
import pytest
from follow_up import follow_up
from lifelines import CoxPHFitter

from tgmm_hf.evaluation.baseline_hazards import fit_baseline_hazards, published_days
from tgmm_hf.evaluation.survival_curves import aalen_johansen
from tgmm_hf.layers.hazards import cumulative_incidence


@pytest.mark.parametrize("cause", [1, 2])
def test_slopes_and_hazards_equal_lifelines(cause):
    risk, time, event = follow_up()
    hazards = fit_baseline_hazards(risk, time, event)
    frame = pd.DataFrame({"risk": risk, "time": time, "event": event == cause})
    oracle = CoxPHFitter().fit(frame, "time", "event", fit_options={"precision": 1e-10})
    name = {1: "event", 2: "death"}[cause]
    assert hazards[f"{name}_slope"] == pytest.approx(oracle.params_["risk"], abs=1e-6)
    # lifelines centres at the mean as well
    hazard = oracle.baseline_cumulative_hazard_["baseline cumulative hazard"]
    stored = np.interp(hazard.index, [0, *hazards["days"]], [0, *hazards[f"{name}_cumulative_hazard"]])
    happened = np.isin(hazard.index, time[event > 0])
    np.testing.assert_allclose(stored[happened], hazard.to_numpy()[happened], atol=1e-6)


def test_incidence_without_deaths_equals_the_prediction_of_lifelines():
    risk, time, event = follow_up(competing=False)
    hazards = fit_baseline_hazards(risk, time, event)
    oracle = CoxPHFitter().fit(pd.DataFrame({"risk": risk, "time": time, "event": event}), "time", "event")
    days = time[event == 1][:10]
    predicted = oracle.predict_survival_function(pd.DataFrame({"risk": [0.5, 2.0, 4.0]}), times=np.sort(days))
    ours = cumulative_incidence([0.5, 2.0, 4.0], hazards, np.sort(days))
    np.testing.assert_allclose(ours, 1 - predicted.to_numpy().T, atol=1e-5)
    assert hazards["deaths"] == 0 and hazards["death_slope"] == 0 and not any(hazards["death_cumulative_hazard"])


def test_mean_prediction_meets_the_observed_incidence():
    """With death competing, the average predicted probability follows Aalen and Johansen's curve."""
    risk, time, event = follow_up(n=3000, seed=1)
    hazards = fit_baseline_hazards(risk, time, event)
    days, observed = aalen_johansen(time, event)
    for day in (100, 400, 800, 1200):
        predicted = cumulative_incidence(risk, hazards, [day]).mean()
        assert predicted == pytest.approx(observed[0, np.searchsorted(days, day, side="right") - 1], abs=0.01)


def test_shared_hazards_store_no_patients_day_and_give_the_same_incidence():
    risk, time, event = follow_up(n=3000)
    time = np.floor(time) + 0.25  # no patient's day is a whole number
    days = published_days(time, report_days=[100, 500, 1000, 99_999])
    shared = fit_baseline_hazards(risk, time, event, fitted_on="train", days=days)
    shared = json.loads(json.dumps(shared, allow_nan=False))
    assert not set(shared["days"]) & set(time) and shared["n"] == 3000 and shared["fitted_on"] == "train"
    assert {7, 14, 100, 500, 1000} <= set(shared["days"]) and time.max() - 7 <= shared["days"][-1] <= time.max()
    whole = fit_baseline_hazards(risk, time, event)
    reported = [[cumulative_incidence([0, 2, 4], hazards, [100, 500, 1000])] for hazards in (shared, whole)]
    np.testing.assert_allclose(*reported, atol=2e-3)


@pytest.mark.parametrize("extreme", [-1e6, -800.0, 800.0, 1e6])
def test_extreme_scores_stay_probabilities(extreme):
    risk, time, event = follow_up()
    hazards = fit_baseline_hazards(risk, time, event)
    with np.errstate(all="raise", under="ignore", divide="ignore"):
        probability = cumulative_incidence([extreme], hazards, np.linspace(0, time.max(), 50))
    assert np.isfinite(probability).all() and (probability >= 0).all() and (probability <= 1).all()
    assert (np.diff(probability) >= 0).all()
    assert probability[0, 0] == 0


def test_small_hazard_steps_survive_beside_a_huge_step():
    hazards = {
        "days": [1.0, 2.0], "event_cumulative_hazard": [0.0, 1e25], "death_cumulative_hazard": [5.0, 5.0],
        "event_slope": 0.0, "death_slope": 0.0,
    }  # fmt: skip
    assert cumulative_incidence(0.0, hazards, [2])[0, 0] == pytest.approx(np.exp(-5))


def test_incidence_is_zero_before_the_first_event_and_unknown_after_the_last_day():
    risk, time, event = follow_up()
    hazards = fit_baseline_hazards(risk, time, event)
    result = cumulative_incidence([2.0], hazards, [0, time[event > 0].min() * 0.99, time.max(), time.max() + 1])[0]
    assert result[0] == 0 and result[1] == 0 and 0 < result[2] < 1 and np.isnan(result[3])


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_constant_or_perfect_scores_give_finite_hazards(offset):
    _, time, event = follow_up(competing=False)
    constant = fit_baseline_hazards(np.full(len(time), 3.0 + offset, dtype=np.float32), time, event)
    assert constant["event_slope"] == 0
    perfect = fit_baseline_hazards(-time + offset, time, np.ones(len(time)))
    assert np.isfinite(perfect["event_slope"]) and perfect["event_slope"] > 0
    assert np.isfinite(cumulative_incidence(-time + offset, perfect, [200.0])).all()


def test_without_events_the_incidence_is_zero():
    hazards = fit_baseline_hazards([0.1, 0.2, 0.3], [10, 20, 30], [0, 0, 0])
    assert hazards["events"] == 0
    np.testing.assert_array_equal(cumulative_incidence([0.1, 5.0], hazards, [5, 30]), np.zeros((2, 2)))


def test_broken_follow_up_and_hazards_are_refused():
    with pytest.raises(ValueError, match=r"\(2,\), \(3,\)"):
        fit_baseline_hazards([1, 2], [1, 2, 3], [0, 1, 0])
    with pytest.raises(ValueError, match="up to the longest follow-up, 3, got"):
        fit_baseline_hazards([1, 2, 3], [1, 2, 3], [0, 1, 0], days=[1, 4])
    with pytest.raises(ValueError, match="without follow-up"):
        fit_baseline_hazards([1.0, 2.0], [1.0, np.nan], [0, 1])
    hazards = fit_baseline_hazards([0.1, 0.2, 0.3], [10, 20, 30], [1, 0, 1])
    with pytest.raises(ValueError, match="1 not finite"):
        cumulative_incidence([np.nan], hazards, [10])
    with pytest.raises(ValueError, match="non-negative"):
        cumulative_incidence([0.0], hazards, [-1])
    with pytest.raises(ValueError, match=r"\(1,\).*\(2,\).*again"):
        cumulative_incidence([0.0], hazards | {"event_cumulative_hazard": [0.1]}, [10])
