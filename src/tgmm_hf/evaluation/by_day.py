"""Figures of a prognosis by a given day: Uno's concordance, AUC and Brier score by day, integrated Brier score.

The figures correct for censored follow-up. Each patient is weighted by 1 / probability that a patient is still observed
(IPCW). A reverse Kaplan-Meier curve of the scored rows estimates this probability, anew for every resample. If an event
and a censoring have the same time, the event comes first.

AUC and Brier score by day ask whether the event has happened by day t. A patient who died without the event has not had
it, as in the cumulative incidence that the model gives. Only patients who leave the study are censored. Concordance
(Harrell's and Uno's) is about the cause-specific hazard. Therefore a death counts as censoring in a concordance.

The code is our own, because it is vectorised over the bootstrap resamples. The tests compare it with scikit-survival,
which is no dependency of the package because of its licence (GPL-3.0).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

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
from tgmm_hf.evaluation.survival import comparable_pairs
from tgmm_hf.evaluation.survival_curves import aalen_johansen
from tgmm_hf.layers.hazards import cumulative_incidence

FEWEST_EVENTS = 10
"""Number of events by a day, and of rows observed beyond it, that a figure by that day needs."""

GRID_STEPS = 20
"""Number of steps of the integral over days."""


def reasons_against(time: NDArray, event: NDArray, day: float) -> str | None:
    """Return the reason why these rows are too few for a figure by a day; None if they are enough.

    Args:
        time: Days, shape (n,).
        event: 0, 1 or 2, shape (n,).
        day: The day.
    """
    happened, after = int(((event == 1) & (time <= day)).sum()), int((time > day).sum())
    if happened < FEWEST_EVENTS or after < FEWEST_EVENTS:
        return (
            f"{happened} events by day {day:g} and {after} rows observed beyond it: {FEWEST_EVENTS} of each are needed"
        )
    return None


@dataclass(frozen=True)
class Censoring:
    """The probability that a patient is still observed, in every resample.

    Attributes:
        counts: How often each of n rows was drawn in each of R resamples, shape (R, n).
        at_own_time: Probability to be observed until just before the time of the row itself, shape (R, n).
        moments: Distinct times in days, rising, shape (T,).
        after: First column: probability to be observed before the first moment, which is 1. Further columns:
            probability to be observed beyond each moment. Shape (R, T + 1).
    """

    counts: NDArray
    at_own_time: NDArray
    moments: NDArray
    after: NDArray

    @classmethod
    def estimate(cls, time: NDArray, censored: NDArray, counts: NDArray) -> "Censoring":
        """Estimate the probabilities.

        Args:
            time: Days, shape (n,).
            censored: Whether the follow-up of the row ends by censoring, bool (n,).
            counts: How often each row was drawn, shape (R, n).
        """
        order = np.argsort(time, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(time[order]) > 0])
        moments = time[order][starts]
        leaving = np.add.reduceat(counts[:, order], starts, axis=1)  # (R, T)
        censorings = np.add.reduceat(counts[:, order] * censored[order], starts, axis=1)
        at_risk = np.cumsum(leaving[:, ::-1], axis=1)[:, ::-1]
        # Rows with an event at a moment leave before the rows that are censored at the same moment.
        hazard = np.nan_to_num(ratio(censorings, at_risk - (leaving - censorings)))
        after = np.concatenate([np.ones((len(counts), 1)), np.cumprod(1 - hazard, axis=1)], axis=1)
        return cls(counts, after[:, np.searchsorted(moments, time)], moments, after)

    def weights(self) -> NDArray:
        """Return the weights of the rows, (R, n): counts / probability to be observed until the time of the row."""
        return np.nan_to_num(ratio(self.counts, self.at_own_time))

    def beyond(self, days: ArrayLike) -> NDArray:
        """Return the probability to be observed beyond each day, shape (R, D)."""
        return self.after[:, np.searchsorted(self.moments, days, side="right")]


def auc_by_day(risk: NDArray, time: NDArray, event: NDArray, censoring: Censoring, day: float) -> NDArray:
    """Compute the cumulative/dynamic AUC: how often a patient with the event by `day` scores above one without it.

    Patients who died without the event belong to the patients without it (Blanche et al., Stat Med 2013;32:5381-5397,
    definition 2).

    Args:
        risk: Scores, shape (n,).
        time: Days, shape (n,).
        event: 0, 1 or 2, shape (n,).
        censoring: Censoring of R resamples.
        day: The day.

    Returns:
        Shape (R,).
    """
    weights = np.where((time <= day) & (event > 0), censoring.weights(), 0.0)
    beyond = np.nan_to_num(ratio(censoring.counts, np.repeat(censoring.beyond([day]), len(time), axis=1)))
    case = (event == 1) & (time <= day)
    return weighted_auc(risk, weights * case, weights * ~case + beyond * (time > day))


def brier_by_day(predicted: NDArray, time: NDArray, event: NDArray, censoring: Censoring, days: NDArray) -> NDArray:
    """Compute the Brier score by each day: the weighted mean of the squared errors of the predicted probabilities.

    Source: Graf et al., Stat Med 1999;18:2529-2545; with competing death Schoop et al., Biom J 2011;53:88-112.

    Args:
        predicted: Probability of the event by each day, shape (n, D).
        time: Days, shape (n,).
        event: 0, 1 or 2, shape (n,).
        censoring: Censoring of R resamples.
        days: The days, shape (D,).

    Returns:
        Shape (R, D).
    """
    over = time[:, None] <= days[None, :]
    happened = over & (event == 1)[:, None]
    is_decided = over & (event > 0)[:, None]
    ended = censoring.weights() @ (is_decided * (happened - predicted) ** 2)
    continuing = np.nan_to_num(ratio(censoring.counts @ (~over * predicted**2), censoring.beyond(days)))
    return (ended + continuing) / censoring.counts.sum(axis=1, keepdims=True)


def integrated_brier(predicted: NDArray, time: NDArray, event: NDArray, censoring: Censoring, days: NDArray) -> NDArray:
    """Average the Brier score over the time from the first to the last of `days`, by the trapezoidal rule.

    The arguments are those of `brier_by_day`, with at least two rising days.

    Returns:
        Shape (R,).
    """
    return np.trapezoid(brier_by_day(predicted, time, event, censoring, days), days, axis=1) / (days[-1] - days[0])


def resampled_uno_c(risk: NDArray, time: NDArray, event: NDArray, counts: NDArray, until: float) -> NDArray:
    """Compute Uno's concordance up to a day.

    It is Harrell's concordance with two changes. Only pairs count whose earlier event comes before `until`. A pair is
    weighted by 1 / (probability to be observed until this event) squared. Therefore the figure does not depend on how
    long patients were followed. Deaths (event 2) are censored at death. Source: Uno et al., Stat Med 2011;30:1105-1117.

    Args:
        risk: Scores, shape (n,).
        time: Days, shape (n,).
        event: 0, 1 or 2, shape (n,).
        counts: How often each row was drawn, shape (R, n).
        until: Day before which the events count.

    Returns:
        Shape (R,).

    Raises:
        UndefinedFigureError: If no pair is comparable.
    """
    comparable = comparable_pairs(time, event)[time[event == 1] < until]
    if not comparable.any():
        raise UndefinedFigureError(f"Uno's C needs a comparable pair with an event before day {until:g}")
    first = (event == 1) & (time < until)
    observed = Censoring.estimate(time, event != 1, counts).at_own_time
    weights = np.nan_to_num(ratio(counts[:, first], observed[:, first] ** 2))
    earlier = risk[first][:, None]
    concordant = comparable * (0.5 * (earlier == risk[None, :]) + (earlier > risk[None, :]))
    won = ((weights @ concordant) * counts).sum(axis=1)
    return ratio(won, ((weights @ comparable.astype(np.float64)) * counts).sum(axis=1))


class FollowUp(NamedTuple):
    """Scores and outcomes of n admissions.

    Attributes:
        risk: Scores, shape (n,). A higher score means an earlier event.
        time: Days, shape (n,).
        event: 0 (censored), 1 (event) or 2 (death without the event), shape (n,).
    """

    risk: NDArray
    time: NDArray
    event: NDArray


class _Weights(NamedTuple):
    """Censoring of the rows themselves (R = 1) and of both sets of resamples of `Draws`, for all figures."""

    rows: Censoring
    by_outcome: Censoring
    free: Censoring

    @classmethod
    def from_draws(cls, rows: FollowUp, draws: Draws) -> "_Weights":
        censored = rows.event == 0
        ones = np.ones((1, len(rows.time)))
        return cls(
            *(Censoring.estimate(rows.time, censored, counts) for counts in (ones, draws.by_outcome, draws.free))
        )

    def estimate(self, figure: Callable[[Censoring], NDArray], resampled: Censoring) -> Estimate:
        return estimate_of_values(figure(self.rows)[0], figure(resampled))


def figures_by_day(rows: FollowUp, draws: Draws, days: list[float], hazards: dict[str, Any] | None) -> dict[str, Any]:
    """Compute all figures of this module for one modality subset.

    Args:
        rows: Scores and outcomes of n admissions.
        draws: Resamples from `bootstrap_draws`.
        days: The days to report.
        hazards: The model's baseline hazards (`fit_baseline_hazards`), for probabilities. None if it stores none.

    Returns:
        "uno_c" and "ibs" (integrated Brier score) up to the last reported day with enough rows ("uno_c_until",
        "ibs_until"); "ibs_of_incidence", the score of a model that gives all patients the incidence; and "by_day": day
        as text -> figures of the day. Intervals have the suffix _ci. A figure that cannot be estimated is None, and its
        key with the suffix _missing gives the reason.
    """
    risk, time, event = rows
    last = max((day for day in days if reasons_against(time, event, day) is None), default=None)
    entry: dict[str, Any] = {"uno_c_until": last, "ibs_until": last}
    if last is None:
        reason = reasons_against(time, event, max(days)) if days else "the task names no report_days"
        missing = Estimate(None, None, reason)
        entry |= missing.entry("uno_c") | missing.entry("ibs") | missing.entry("ibs_of_incidence")
        return entry | {"by_day": {f"{day:g}": _nothing_at(time, event, day) for day in days}}
    entry |= estimate(lambda drawn: resampled_uno_c(risk, time, event, drawn, last), draws.by_outcome).entry("uno_c")
    weights = _Weights.from_draws(rows, draws)
    entry |= _integrated(rows, weights, last, hazards)
    entry["by_day"] = {}
    for day in days:
        is_possible = reasons_against(time, event, day) is None
        at = _figures_at(rows, draws, weights, day, hazards) if is_possible else _nothing_at(time, event, day)
        entry["by_day"][f"{day:g}"] = at
    return entry


def _integrated(rows: FollowUp, weights: _Weights, last: float, hazards: dict[str, Any] | None) -> dict[str, Any]:
    """Compute "ibs" of the model and "ibs_of_incidence" until day `last`, see [`figures_by_day`]."""
    risk, time, event = rows
    grid = np.linspace(0, last, GRID_STEPS + 1)
    incidence = np.broadcast_to(_incidence_at(time, event, grid), (len(risk), len(grid)))
    constant = partial(integrated_brier, incidence, time, event, days=grid)
    entry = weights.estimate(constant, weights.free).entry("ibs_of_incidence")
    predicted, reason = _predicted(risk, grid, hazards)
    if predicted is None:
        return entry | Estimate(None, None, reason).entry("ibs")
    figure = partial(integrated_brier, predicted, time, event, days=grid)
    return entry | weights.estimate(figure, weights.free).entry("ibs")


def _figures_at(
    rows: FollowUp, draws: Draws, weights: _Weights, day: float, hazards: dict[str, Any] | None
) -> dict[str, Any]:
    """Compute the figures of one day: auc, brier, brier_of_incidence, predicted (mean), observed, and numbers.

    `weights` is the censoring of the rows and resamples, `hazards` the model's baseline hazards or None. "predicted"
    and "brier" are None if the model gives no probability by this day.
    """
    risk, time, event = rows
    at = _numbers(time, event, day)
    at |= weights.estimate(partial(auc_by_day, risk, time, event, day=day), weights.by_outcome).entry("auc")
    at |= estimate(partial(_resampled_incidence, time, event, day), draws.free).entry("observed")
    when = np.array([day])
    constant = np.full((len(risk), 1), at["observed"])
    at["brier_of_incidence"] = float(brier_by_day(constant, time, event, weights.rows, when)[0, 0])
    predicted, reason = _predicted(risk, when, hazards)
    at["predicted"] = None if predicted is None else float(predicted.mean())
    if predicted is None:
        return at | Estimate(None, None, reason).entry("brier")
    return at | weights.estimate(partial(_brier_at, predicted, time, event, when), weights.free).entry("brier")


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


def _predicted(risk: NDArray, days: NDArray, hazards: dict[str, Any] | None) -> tuple[NDArray | None, str | None]:
    """Return the probability of the event by each day (n, D) and None, or None and the reason why there is none.

    Args:
        risk: Scores, shape (n,).
        days: Rising days, shape (D,).
        hazards: The model's baseline hazards, None if it stores none.
    """
    if hazards is None:
        return None, "the model stores no baseline hazard for this subset, so it gives no probability by a day"
    if days[-1] > hazards["days"][-1]:
        return None, f"the baseline hazard ends at day {hazards['days'][-1]:g}, before day {days[-1]:g}"
    return cumulative_incidence(risk, hazards, days), None


def _incidence_at(time: NDArray, event: NDArray, days: NDArray, counts: NDArray | None = None) -> NDArray:
    """Compute the Aalen-Johansen incidence by each of D days, shape (R, D). Without `counts` R is 1."""
    moments, incidence = aalen_johansen(time, event, counts)
    started = np.concatenate([np.zeros((len(incidence), 1)), incidence], axis=1)
    return started[:, np.searchsorted(moments, days, side="right")]


def _resampled_incidence(time: NDArray, event: NDArray, day: float, counts: NDArray) -> NDArray:
    return _incidence_at(time, event, np.array([day]), counts)[:, 0]
