"""Incidence and survival curves and the log-rank test, against lifelines and by their formulas."""

import numpy as np
import pytest
from follow_up import follow_up
from lifelines import AalenJohansenFitter, KaplanMeierFitter
from lifelines.statistics import logrank_test
from scipy.stats import chi2

from tgmm_hf.evaluation.metrics import UndefinedFigureError
from tgmm_hf.evaluation.survival_curves import aalen_johansen, kaplan_meier, log_rank


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


def test_kaplan_meier_equals_the_product_and_greenwoods_formula():
    _, time, event = follow_up()
    time = np.ceil(time / 30) + 5 * (event == 1)  # the first rows are censored
    curve = kaplan_meier(time, event)
    days = np.unique(time)
    events = np.array([((time == day) & (event == 1)).sum() for day in days])
    at_risk = np.array([(time >= day).sum() for day in days])
    free = np.cumprod(1 - events / at_risk)
    variance = np.cumsum(events / (at_risk * (at_risk - events).clip(1)))
    inside = (free > 0) & (free < 1)
    reach = 1.959963984540054 * np.sqrt(variance[inside]) / np.log(free[inside])
    np.testing.assert_array_equal(curve["days"], days)
    np.testing.assert_allclose(curve["free"], free, atol=1e-12)
    np.testing.assert_allclose(curve["low"][inside], free[inside] ** np.exp(-reach), atol=1e-12)
    np.testing.assert_allclose(curve["high"][inside], free[inside] ** np.exp(reach), atol=1e-12)
    assert free[0] == 1 and np.isnan(curve["low"][~inside]).all() and np.isnan(curve["high"][~inside]).all()


def test_log_rank_equals_its_formula():
    risk, time, event = follow_up(seed=7)
    time, high = np.ceil(time / 30), risk > 2
    surplus = variance = 0.0
    for day in np.unique(time[event == 1]):
        at_risk, at_risk_high = (time >= day).sum(), ((time >= day) & high).sum()
        events, events_high = ((time == day) & (event == 1)).sum(), ((time == day) & (event == 1) & high).sum()
        share = at_risk_high / at_risk
        surplus += events_high - events * share
        variance += events * share * (1 - share) * (at_risk - events) / max(1, at_risk - 1)
    statistic, p = log_rank(time, event, high)
    assert statistic == pytest.approx(surplus**2 / variance, abs=1e-9)
    assert p == pytest.approx(chi2.sf(surplus**2 / variance, 1), abs=1e-9)


def test_log_rank_of_groups_that_are_never_at_risk_together_is_refused():
    time = np.r_[np.full(20, 0.5), np.arange(1.0, 13.0)]
    event = np.r_[np.zeros(20), np.ones(12)]
    with pytest.raises(UndefinedFigureError, match="never at risk together"):
        log_rank(time, event, time < 1)
