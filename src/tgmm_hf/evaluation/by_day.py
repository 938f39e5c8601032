"""Prognosis by a given day: Uno's concordance, AUC and Brier score by day, integrated Brier score.

Censored follow-up is weighted by the inverse of the chance to be still observed (IPCW), estimated by the reverse
Kaplan-Meier curve of the scored rows, anew in every resample. An event counts as observed just before its time, so a
row of that time that is censored comes after it.

Figures by day ask "has the event happened by day t?". A patient who died without it by then has not had it, as in the
cumulative incidence that the model gives; only leaving the study is censoring. Concordance, Harrell's as Uno's, is of
the cause-specific hazard: there a death is censoring too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tgmm_hf.evaluation.metrics import (
    Draws,
    Estimate,
    UndefinedFigureError,
    estimate,
    estimate_of_values,
    ratio,
    weighted_auc,
)
from tgmm_hf.evaluation.survival import aalen_johansen, comparable_pairs
from tgmm_hf.layers.hazards import cumulative_incidence

FEWEST_EVENTS = 10
"""Events by a day, and rows still observed after it, below which no figure by that day is given."""

GRID_STEPS = 20
"""Steps of the integral over days."""


def reasons_against(time: NDArray, event: NDArray, day: float) -> str | None:
    """Why nothing can be said by a day from these rows; None if something can."""
    happened, after = int(((event == 1) & (time <= day)).sum()), int((time > day).sum())
    if happened < FEWEST_EVENTS or after < FEWEST_EVENTS:
        return (
            f"{happened} events by day {day:g} and {after} rows observed beyond it: {FEWEST_EVENTS} of each are needed"
        )
    return None


@dataclass(frozen=True)
class Censoring:
    """How likely it was, in every resample, to be still observed.

    Attributes:
        counts: how often each row was drawn, (R, n).
        own: chance to be observed up to just before the row's own time, (R, n).
        moments: distinct times, (T,). after: chance to be observed beyond each, 1 before the first, (R, T + 1).
    """

    counts: NDArray
    own: NDArray
    moments: NDArray
    after: NDArray

    @classmethod
    def of(cls, time: NDArray, censored: NDArray, counts: NDArray) -> "Censoring":
        """Args: time (n,), days. censored (n,), bool: whether the row ends by censoring. counts (R, n)."""
        order = np.argsort(time, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(time[order]) > 0])
        moments = time[order][starts]
        leaving = np.add.reduceat(counts[:, order], starts, axis=1)  # (R, T)
        censorings = np.add.reduceat(counts[:, order] * censored[order], starts, axis=1)
        at_risk = np.cumsum(leaving[:, ::-1], axis=1)[:, ::-1]
        # Who has the event at a moment leaves before those who are censored at it.
        hazard = np.nan_to_num(ratio(censorings, at_risk - (leaving - censorings)))
        after = np.concatenate([np.ones((len(counts), 1)), np.cumprod(1 - hazard, axis=1)], axis=1)
        return cls(counts, after[:, np.searchsorted(moments, time)], moments, after)

    def weights(self) -> NDArray:
        """Counts over the chance to be observed until the row's own time, (R, n)."""
        return np.nan_to_num(ratio(self.counts, self.own))

    def beyond(self, days: ArrayLike) -> NDArray:
        """Chance to be observed beyond each day, (R, D)."""
        return self.after[:, np.searchsorted(self.moments, days, side="right")]


def auc_by_day(risk: NDArray, time: NDArray, event: NDArray, censoring: Censoring, day: float) -> NDArray:
    """Cumulative/dynamic AUC (R,): chance that who has the event by `day` scores above who does not (Blanche 2013,
    definition 2: the dead without the event are among those who do not)."""
    weights = np.where((time <= day) & (event > 0), censoring.weights(), 0.0)
    beyond = np.nan_to_num(ratio(censoring.counts, np.repeat(censoring.beyond([day]), len(time), axis=1)))
    case = (event == 1) & (time <= day)
    return weighted_auc(risk, weights * case, weights * ~case + beyond * (time > day))


def brier_by_day(predicted: NDArray, time: NDArray, event: NDArray, censoring: Censoring, days: NDArray) -> NDArray:
    """Mean weighted squared difference (R, D) between the predicted probability (n, D) of the event by each day and
    whether it happened (Graf 1999; Schoop 2011 with competing death)."""
    over = time[:, None] <= days[None, :]
    happened = over & (event == 1)[:, None]
    known = over & (event > 0)[:, None]
    ended = censoring.weights() @ (known * (happened - predicted) ** 2)
    going_on = np.nan_to_num(ratio(censoring.counts @ (~over * predicted**2), censoring.beyond(days)))
    return (ended + going_on) / censoring.counts.sum(axis=1, keepdims=True)


def integrated_brier(predicted: NDArray, time: NDArray, event: NDArray, censoring: Censoring, days: NDArray) -> NDArray:
    """Brier score averaged over `days` by the trapezoidal rule, shape (R,). predicted: (n, D)."""
    return np.trapezoid(brier_by_day(predicted, time, event, censoring, days), days, axis=1) / (days[-1] - days[0])


def resampled_uno_c(risk: NDArray, time: NDArray, event: NDArray, counts: NDArray, until: float) -> NDArray:
    """Uno's concordance up to a day, shape (R,): Harrell's pairs whose earlier event comes before `until`, weighted by
    the inverse square of the chance to be observed until then, so that it does not depend on how long others were
    followed (Uno 2011). Deaths (event 2) are censored at death, as in Harrell's."""
    comparable = comparable_pairs(time, event)[time[event == 1] < until]
    if not comparable.any():
        raise UndefinedFigureError(f"Uno's C needs a comparable pair with an event before day {until:g}")
    first = (event == 1) & (time < until)
    own = Censoring.of(time, event != 1, counts).own
    weights = np.nan_to_num(ratio(counts[:, first], own[:, first] ** 2))
    earlier = risk[first][:, None]
    concordant = comparable * (0.5 * (earlier == risk[None, :]) + (earlier > risk[None, :]))
    won = ((weights @ concordant) * counts).sum(axis=1)
    return ratio(won, ((weights @ comparable.astype(np.float64)) * counts).sum(axis=1))


def figures_by_day(
    risk: NDArray,
    time: NDArray,
    event: NDArray,
    draws: Draws,
    days: list[float],
    baseline: dict[str, Any] | None,
) -> dict[str, Any]:
    """Everything of this module for one modality combination.

    Args:
        risk: scores (n,). time: days (n,). event: 0 / 1 / 2, (n,). draws: from `bootstrap_draws`.
        days: the days to report.
        baseline: the model's stored hazards (`fit_baseline_hazards`), for probabilities; None if there are none.

    Returns:
        uno_c, uno_c_until, ibs, ibs_of_incidence, ibs_until, by_day: {day: {...}}; what cannot be estimated is None
        with a reason.
    """
    last = max((day for day in days if reasons_against(time, event, day) is None), default=None)
    entry: dict[str, Any] = {"uno_c_until": last, "ibs_until": last}
    if last is None:
        reason = reasons_against(time, event, max(days)) if days else "the task names no report_days"
        missing = Estimate(None, None, reason)
        entry |= missing.entry("uno_c") | missing.entry("ibs") | missing.entry("ibs_of_incidence")
        return entry | {"by_day": {f"{day:g}": _nothing_at(time, event, day) for day in days}}
    entry |= estimate(lambda drawn: resampled_uno_c(risk, time, event, drawn, last), draws.by_outcome).entry("uno_c")
    as_they_are = Censoring.of(time, event == 0, np.ones((1, len(time))))
    by_outcome, free = (Censoring.of(time, event == 0, counts) for counts in draws)

    def figure(compute: Callable[[Censoring], NDArray], resampled: Censoring) -> Estimate:
        return estimate_of_values(compute(as_they_are)[0], compute(resampled))

    grid = np.linspace(0, last, GRID_STEPS + 1)
    incidence = np.broadcast_to(_incidence_at(time, event, grid), (len(risk), len(grid)))
    entry |= figure(partial(integrated_brier, incidence, time, event, days=grid), free).entry("ibs_of_incidence")
    predicted, reason = _predicted(risk, grid, baseline)
    if predicted is None:
        entry |= Estimate(None, None, reason).entry("ibs")
    else:
        entry |= figure(partial(integrated_brier, predicted, time, event, days=grid), free).entry("ibs")
    entry["by_day"] = {}
    for day in days:
        if reasons_against(time, event, day) is not None:
            entry["by_day"][f"{day:g}"] = _nothing_at(time, event, day)
            continue
        at = _numbers(time, event, day)
        at |= figure(partial(auc_by_day, risk, time, event, day=day), by_outcome).entry("auc")
        at |= estimate(partial(_resampled_incidence, time, event, day), draws.free).entry("observed")
        when = np.array([day])
        constant = np.full((len(risk), 1), at["observed"])
        at["brier_of_incidence"] = float(brier_by_day(constant, time, event, as_they_are, when)[0, 0])
        predicted, reason = _predicted(risk, when, baseline)
        at["predicted"] = None if predicted is None else float(predicted.mean())
        if predicted is None:
            at |= Estimate(None, None, reason).entry("brier")
        else:
            at |= figure(partial(_brier_at, predicted, time, event, when), free).entry("brier")
        entry["by_day"][f"{day:g}"] = at
    return entry


def _brier_at(predicted: NDArray, time: NDArray, event: NDArray, when: NDArray, censoring: Censoring) -> NDArray:
    return brier_by_day(predicted, time, event, censoring, when)[:, 0]


def _numbers(time: NDArray, event: NDArray, day: float) -> dict[str, Any]:
    return {
        "events": int(((event == 1) & (time <= day)).sum()),
        "deaths": int(((event == 2) & (time <= day)).sum()),
        "observed_beyond": int((time > day).sum()),
    }


def _nothing_at(time: NDArray, event: NDArray, day: float) -> dict[str, Any]:
    missing = Estimate(None, None, reasons_against(time, event, day))
    figures = missing.entry("auc") | missing.entry("brier") | missing.entry("observed")
    return _numbers(time, event, day) | figures | {"predicted": None}


def _predicted(risk: NDArray, days: NDArray, baseline: dict[str, Any] | None) -> tuple[NDArray | None, str | None]:
    """Probability of the event by each day (n, D), or why there is none."""
    if baseline is None:
        return None, "the model stores no baseline hazard for this combination, so it gives no probability by a day"
    if days[-1] > baseline["days"][-1]:
        return None, f"the baseline hazard ends at day {baseline['days'][-1]:g}, before day {days[-1]:g}"
    return cumulative_incidence(risk, baseline, days), None


def _incidence_at(time: NDArray, event: NDArray, days: NDArray, counts: NDArray | None = None) -> NDArray:
    """Aalen-Johansen incidence (R, D) by each day."""
    moments, incidence = aalen_johansen(time, event, counts)
    started = np.concatenate([np.zeros((len(incidence), 1)), incidence], axis=1)
    return started[:, np.searchsorted(moments, days, side="right")]


def _resampled_incidence(time: NDArray, event: NDArray, day: float, counts: NDArray) -> NDArray:
    return _incidence_at(time, event, np.array([day]), counts)[:, 0]
