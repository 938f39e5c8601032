"""Censoring-weighted figures against scikit-survival, and with competing deaths against their definition."""

import numpy as np
import pytest
from follow_up import follow_up
from sksurv.metrics import brier_score, concordance_index_ipcw, cumulative_dynamic_auc, integrated_brier_score
from sksurv.util import Surv

from tgmm_hf.evaluation.baseline_hazards import fit_baseline_hazards
from tgmm_hf.evaluation.by_day import (
    Censoring,
    FollowUp,
    auc_by_day,
    brier_by_day,
    figures_by_day,
    integrated_brier,
    resampled_uno_c,
)
from tgmm_hf.evaluation.metrics import Draws, bootstrap_counts, bootstrap_draws
from tgmm_hf.evaluation.survival import c_index
from tgmm_hf.evaluation.survival_curves import aalen_johansen
from tgmm_hf.layers.hazards import cumulative_incidence

DAYS = (200.0, 500.0, 900.0)


def once(n):
    return np.ones((1, n))


def censoring(time, event, counts=None):
    return Censoring.estimate(time, event == 0, once(len(time)) if counts is None else counts)


def brier_at(predicted, time, event, day, counts=None):
    return brier_by_day(predicted[:, None], time, event, censoring(time, event, counts), np.array([day]))[:, 0]


def outcome(time, event):
    return Surv.from_arrays(event == 1, time)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("competing", [False, True])  # Uno's C takes deaths as censored
def test_uno_equals_scikit_survival(seed, competing):
    risk, time, event = follow_up(seed=seed, competing=competing)
    risk = np.round(risk, 1)  # ties
    expected = concordance_index_ipcw(outcome(time, event), outcome(time, event), risk, tau=900.0)[0]
    assert resampled_uno_c(risk, time, event, once(150), 900.0)[0] == pytest.approx(expected, abs=1e-9)


def test_uno_without_censoring_is_harrells():
    risk, time, _ = follow_up()
    assert resampled_uno_c(risk, time, np.ones(150), once(150), np.inf)[0] == pytest.approx(
        c_index(risk, time, np.ones(150))
    )


@pytest.mark.parametrize("day", DAYS)
@pytest.mark.parametrize("seed", range(3))
def test_auc_and_brier_by_day_equal_scikit_survival(day, seed):
    risk, time, event = follow_up(seed=seed, competing=False)
    risk, seen = np.round(risk, 1), outcome(time, event)
    auc = cumulative_dynamic_auc(seen, seen, risk, [day])[0][0]
    assert auc_by_day(risk, time, event, censoring(time, event), day)[0] == pytest.approx(auc, abs=1e-9)
    predicted = 1 / (1 + np.exp(2 - risk))
    brier = brier_score(seen, seen, 1 - predicted[:, None], [day])[1][0]
    assert brier_at(predicted, time, event, day)[0] == pytest.approx(brier, abs=1e-9)


def test_integrated_brier_equals_scikit_survival():
    risk, time, event = follow_up(competing=False)
    days, hazards = np.linspace(50, 1000, 20), fit_baseline_hazards(risk, time, event)
    predicted, seen = cumulative_incidence(risk, hazards, days), outcome(time, event)
    expected = integrated_brier_score(seen, seen, 1 - predicted, days)
    assert integrated_brier(predicted, time, event, censoring(time, event), days)[0] == pytest.approx(
        expected, abs=1e-9
    )


def slow_by_day(risk, predicted, time, event, day):
    """AUC and Brier score by day with competing death, row by row: Kaplan-Meier of censoring by hand."""

    def chance_before(moment):  # to be uncensored before `moment`; an event of a day comes before its censorings
        chance = 1.0
        for t in np.unique(time[(event == 0) & (time < moment)]):
            at_risk = (time > t).sum() + ((time == t) & (event == 0)).sum()
            chance *= 1 - ((time == t) & (event == 0)).sum() / at_risk
        return chance

    beyond = chance_before(np.nextafter(day, np.inf))
    weight = [0.0 if t <= day and e == 0 else 1 / (chance_before(t) if t <= day else beyond)
              for t, e in zip(time, event, strict=True)]  # fmt: skip
    case = (time <= day) & (event == 1)
    won = total = 0.0
    for i in np.flatnonzero(case):
        for j in np.flatnonzero(~case):
            pair = weight[i] * weight[j]
            won, total = won + pair * ((risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j])), total + pair
    return won / total, np.mean(np.array(weight) * (case - predicted) ** 2)


@pytest.mark.parametrize("day", [5.0, 9.0])
def test_figures_with_deaths_and_ties_equal_their_definition(day):
    risk, time, event = follow_up(n=80, seed=4)
    risk, time = np.round(risk, 1), np.ceil(time / 90)
    predicted = np.clip(risk / 6, 0, 1)
    auc, brier = slow_by_day(risk, predicted, time, event, day)
    assert auc_by_day(risk, time, event, censoring(time, event), day)[0] == pytest.approx(auc, abs=1e-9)
    assert brier_at(predicted, time, event, day)[0] == pytest.approx(brier, abs=1e-9)


def test_resamples_equal_the_drawn_rows():
    risk, time, event = follow_up(n=80)
    counts = bootstrap_counts(np.arange(80), event, 5, 0)
    predicted = np.clip(risk / 6, 0, 1)
    ours = [
        resampled_uno_c(risk, time, event, counts, 900.0),
        auc_by_day(risk, time, event, censoring(time, event, counts), 500.0),
        brier_at(predicted, time, event, 500.0, counts),
    ]
    for draw, row_counts in enumerate(counts):
        rows = np.repeat(np.arange(80), row_counts.astype(int))
        r, t, e, p = risk[rows], time[rows], event[rows], predicted[rows]
        expected = [
            resampled_uno_c(r, t, e, once(80), 900.0)[0],
            auc_by_day(r, t, e, censoring(t, e), 500.0)[0],
            brier_at(p, t, e, 500.0)[0],
        ]
        assert [figure[draw] for figure in ours] == pytest.approx(expected, abs=1e-9)


def test_weights_correct_for_censoring():
    """The Brier score of the true curve with heavy censoring is that of the same patients without any."""
    generator = np.random.default_rng(0)
    n, day = 20_000, 300.0
    event_day, death_day = generator.exponential(500, n), generator.exponential(900, n)
    censored_day = generator.exponential(400, n)
    full_time, full_event = np.minimum(event_day, death_day), np.where(event_day < death_day, 1, 2)
    time = np.minimum(full_time, censored_day)
    event = np.where(full_time < censored_day, full_event, 0)
    predicted = generator.random(n)
    complete = np.mean((((full_event == 1) & (full_time <= day)) - predicted) ** 2)
    assert brier_at(predicted, time, event, day)[0] == pytest.approx(complete, abs=0.005)


def test_probability_to_be_observed_by_hand():
    time, censored = np.array([1.0, 2, 2, 3]), np.array([True, False, True, False])
    chances = Censoring.estimate(time, censored, once(4))
    # day 1: 1 of 4 censored; day 2: the event leaves first, then 1 of 2
    np.testing.assert_allclose(chances.at_own_time[0], [1, 3 / 4, 3 / 4, 3 / 8])
    np.testing.assert_allclose(chances.beyond([0.5, 1.0, 2.0])[0], [1, 3 / 4, 3 / 8])


def test_figures_of_one_subset():
    risk, time, event = follow_up(n=300)
    draws, hazards = bootstrap_draws(np.arange(300), event, 50, 0), fit_baseline_hazards(risk, time, event)
    entry = figures_by_day(FollowUp(risk, time, event), draws, [100.0, 500.0, 5000.0], hazards)
    assert entry["uno_c_until"] == entry["ibs_until"] == 500.0
    assert entry["uno_c_ci"][0] < entry["uno_c"] < entry["uno_c_ci"][1]
    assert entry["ibs"] < entry["ibs_of_incidence"]  # better than the incidence
    day = entry["by_day"]["500"]
    moments, incidence = aalen_johansen(time, event)
    assert day["observed"] == pytest.approx(incidence[0, np.searchsorted(moments, 500.0, side="right") - 1])
    assert day["predicted"] == pytest.approx(day["observed"], abs=0.03) and day["brier"] < day["brier_of_incidence"]
    late = entry["by_day"]["5000"]
    assert late["auc"] is None and "0 rows observed beyond" in late["auc_missing"] and late["brier"] is None


def test_brier_and_incidence_are_drawn_freely_and_ranks_within_outcomes():
    risk, time, event = follow_up(n=300)
    draws, hazards = bootstrap_draws(np.arange(300), event, 50, 0), fit_baseline_hazards(risk, time, event)
    entry, strata, free = (
        figures_by_day(FollowUp(risk, time, event), drawn, [500.0], hazards)
        for drawn in (draws, Draws(*[draws.by_outcome] * 2), Draws(*[draws.free] * 2))
    )
    figures, in_strata, freely = (e | e["by_day"]["500"] for e in (entry, strata, free))
    for name in ("ibs_ci", "ibs_of_incidence_ci", "brier_ci", "observed_ci"):
        assert figures[name] == freely[name] != in_strata[name]
    for name in ("uno_c_ci", "auc_ci"):
        assert figures[name] == in_strata[name] != freely[name]


def test_too_few_events_or_no_baseline_hazards_give_reasons():
    risk, time, event = follow_up(n=20)
    draws = Draws(once(20), once(20))
    entry = figures_by_day(FollowUp(risk, time, event), draws, [100.0], None)
    assert entry["uno_c"] is None and "events by day 100" in entry["uno_c_missing"] and entry["ibs"] is None
    assert "report_days" in figures_by_day(FollowUp(risk, time, event), draws, [], None)["uno_c_missing"]
    risk, time, event = follow_up(n=300)
    entry = figures_by_day(FollowUp(risk, time, event), Draws(once(300), once(300)), [500.0], None)
    assert "no baseline" in entry["ibs_missing"] and entry["ibs_of_incidence"] is not None
    assert "no baseline" in entry["by_day"]["500"]["brier_missing"] and entry["by_day"]["500"]["auc"] is not None
    short = fit_baseline_hazards(risk, np.minimum(time, 300), event)
    assert (
        "ends at day 300"
        in figures_by_day(FollowUp(risk, time, event), Draws(once(300), once(300)), [500.0], short)["ibs_missing"]
    )
