"""Prognosis by a given day: Uno's concordance, AUC and Brier score by day, integrated Brier score.

Censored follow-up is weighted by the inverse of the chance to be still observed (IPCW), estimated by the reverse
Kaplan-Meier curve of the scored rows, anew in every resample. An event counts as observed just before its time, so a
row of that time that is censored comes after it.

Figures by day ask "has the event happened by day t?". A patient who died without it by then has not had it, as in the
cumulative incidence that the model gives; only leaving the study is censoring. Concordance, Harrell's as Uno's, is of
the cause-specific hazard: there a death is censoring too.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgmm_hf.evaluation.metrics import Estimate, UndefinedFigureError, _ratio, estimate, weighted_auc
from tgmm_hf.evaluation.survival import aalen_johansen, comparable_pairs
from tgmm_hf.hazards_tgmm import cumulative_incidence

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


def observation_chance(time: NDArray, censored: NDArray, counts: NDArray, day: float) -> tuple[NDArray, NDArray]:
    """Chance to be observed up to just before each row's own time (R, n), and beyond `day` (R,).

    Args:
        time: (n,). censored: whether the row ends by censoring, bool (n,). counts: resamples (R, n).
    """
    order = np.argsort(time, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(time[order]) > 0])
    moments = time[order][starts]
    leaving = np.add.reduceat(counts[:, order], starts, axis=1)  # (R, T)
    censorings = np.add.reduceat(counts[:, order] * censored[order], starts, axis=1)
    at_risk = np.cumsum(leaving[:, ::-1], axis=1)[:, ::-1]
    # Who has the event at this moment leaves before those who are censored at it.
    hazard = np.nan_to_num(_ratio(censorings, at_risk - (leaving - censorings)))
    chance = np.concatenate([np.ones((len(counts), 1)), np.cumprod(1 - hazard, axis=1)], axis=1)
    return chance[:, np.searchsorted(moments, time)], chance[:, np.searchsorted(moments, day, side="right")]


def _weights(time: NDArray, event: NDArray, counts: NDArray, day: float) -> NDArray:
    """Inverse chance that a row's state at `day` is known, times its count, (R, n); 0 where it is not known."""
    own, beyond = observation_chance(time, event == 0, counts, day)
    known = (time <= day) & (event > 0)
    weights = np.where(known, _ratio(counts, own), 0.0)
    weights = np.where(time > day, _ratio(counts, np.broadcast_to(beyond[:, None], counts.shape)), weights)
    return np.nan_to_num(weights)


def resampled_auc_by_day(risk: NDArray, time: NDArray, event: NDArray, counts: NDArray, day: float) -> NDArray:
    """Cumulative/dynamic AUC (R,): chance that who has the event by `day` scores above who does not (Blanche 2013,
    definition 2: the dead without the event are among those who do not)."""
    weights = _weights(time, event, counts, day)
    case = (event == 1) & (time <= day)
    return weighted_auc(risk, weights * case, weights * ~case)


def resampled_brier_by_day(predicted: NDArray, time: NDArray, event: NDArray, counts: NDArray, day: float) -> NDArray:
    """Mean weighted squared difference (R,) between the predicted probability (n,) of the event by `day`, or (R, n)
    for one that differs between resamples, and whether it happened (Graf 1999; Schoop 2011 with competing death)."""
    happened = (event == 1) & (time <= day)
    return (_weights(time, event, counts, day) * (happened - predicted) ** 2).sum(axis=1) / counts.sum(axis=1)


def resampled_integrated_brier(
    predicted: NDArray, time: NDArray, event: NDArray, counts: NDArray, days: NDArray
) -> NDArray:
    """Brier score averaged over `days` by the trapezoidal rule, shape (R,). predicted: (n, D)."""
    scores = [resampled_brier_by_day(predicted[:, i], time, event, counts, day) for i, day in enumerate(days)]
    return np.trapezoid(np.stack(scores, axis=1), days, axis=1) / (days[-1] - days[0])


def resampled_uno_c(risk: NDArray, time: NDArray, event: NDArray, counts: NDArray, until: float) -> NDArray:
    """Uno's concordance up to a day, shape (R,): Harrell's pairs whose earlier event comes before `until`, weighted by
    the inverse square of the chance to be observed until then, so that it does not depend on how long others were
    followed (Uno 2011). Deaths (event 2) are censored at death, as in Harrell's."""
    comparable = comparable_pairs(time, event)[time[event == 1] < until]
    if not comparable.any():
        raise UndefinedFigureError(f"Uno's C needs a comparable pair with an event before day {until:g}")
    first = (event == 1) & (time < until)
    own, _ = observation_chance(time, event != 1, counts, until)
    weights = np.nan_to_num(_ratio(counts[:, first], own[:, first] ** 2))
    earlier = risk[first][:, None]
    concordant = comparable * (0.5 * (earlier == risk[None, :]) + (earlier > risk[None, :]))
    won = ((weights @ concordant) * counts).sum(axis=1)
    return _ratio(won, ((weights @ comparable.astype(np.float64)) * counts).sum(axis=1))


def figures_by_day(
    risk: NDArray,
    time: NDArray,
    event: NDArray,
    counts: NDArray,
    days: list[float],
    baseline: dict[str, Any] | None,
) -> dict[str, Any]:
    """Everything of this module for one modality combination.

    Args:
        risk: scores (n,). time: days (n,). event: 0 / 1 / 2, (n,). counts: resamples (R, n).
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
        for name in ("uno_c", "ibs", "ibs_of_incidence"):
            entry |= Estimate(None, None, reason).entry(name)
    else:
        entry |= estimate(lambda drawn: resampled_uno_c(risk, time, event, drawn, last), counts).entry("uno_c")
        entry |= _integrated(risk, time, event, counts, last, baseline)
    entry["by_day"] = {f"{day:g}": _at_day(risk, time, event, counts, day, baseline) for day in days}
    return entry


def _integrated(
    risk: NDArray, time: NDArray, event: NDArray, counts: NDArray, last: float, baseline: dict[str, Any] | None
) -> dict[str, Any]:
    """Integrated Brier score of the model, and of giving everybody the observed incidence of these rows."""
    days = np.linspace(0, last, GRID_STEPS + 1)
    moments, incidence = aalen_johansen(time, event)
    everybody = np.r_[0.0, incidence[0]][np.searchsorted(moments, days, side="right")]
    constant = np.broadcast_to(everybody, (len(risk), len(days)))
    entry = estimate(lambda drawn: resampled_integrated_brier(constant, time, event, drawn, days), counts).entry(
        "ibs_of_incidence"
    )
    predicted, reason = _predicted(risk, days, baseline)
    if predicted is None:
        return entry | Estimate(None, None, reason).entry("ibs")
    return entry | estimate(
        lambda drawn: resampled_integrated_brier(predicted, time, event, drawn, days), counts
    ).entry("ibs")


def _at_day(
    risk: NDArray, time: NDArray, event: NDArray, counts: NDArray, day: float, baseline: dict[str, Any] | None
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "events": int(((event == 1) & (time <= day)).sum()),
        "deaths": int(((event == 2) & (time <= day)).sum()),
        "observed_beyond": int((time > day).sum()),
    }
    against = reasons_against(time, event, day)
    if against is not None:
        for name in ("auc", "brier", "observed"):
            entry |= Estimate(None, None, against).entry(name)
        return entry | {"predicted": None}
    entry |= estimate(lambda drawn: resampled_auc_by_day(risk, time, event, drawn, day), counts).entry("auc")
    entry |= estimate(lambda drawn: _incidence_at(time, event, drawn, day), counts).entry("observed")
    predicted, reason = _predicted(risk, np.array([day]), baseline)
    if predicted is None:
        return entry | Estimate(None, None, reason).entry("brier") | {"predicted": None}
    entry |= estimate(lambda drawn: resampled_brier_by_day(predicted[:, 0], time, event, drawn, day), counts).entry(
        "brier"
    )
    entry["brier_of_incidence"] = float(
        resampled_brier_by_day(np.full(len(risk), entry["observed"]), time, event, np.ones((1, len(risk))), day)[0]
    )
    return entry | {"predicted": float(predicted.mean())}


def _predicted(risk: NDArray, days: NDArray, baseline: dict[str, Any] | None) -> tuple[NDArray | None, str | None]:
    """Probability of the event by each day (n, D), or why there is none."""
    if baseline is None:
        return None, "the model stores no baseline hazard for this combination, so it gives no probability by a day"
    if days[-1] > baseline["days"][-1]:
        return None, f"the baseline hazard ends at day {baseline['days'][-1]:g}, before day {days[-1]:g}"
    return cumulative_incidence(risk, baseline, days), None


def _incidence_at(time: NDArray, event: NDArray, counts: NDArray, day: float) -> NDArray:
    moments, incidence = aalen_johansen(time, event, counts)
    return np.concatenate([np.zeros((len(counts), 1)), incidence], axis=1)[
        :, np.searchsorted(moments, day, side="right")
    ]
