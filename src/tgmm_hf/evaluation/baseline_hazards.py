"""Baseline hazards: they turn the risk score of a prognosis into a probability by day.

A baseline hazard is the hazard of a patient with an average score. The code is our own, because the model stores the
hazards at days of its choice and as plain numbers, and because ties share one risk set (Breslow). `CoxPHFitter` of
lifelines uses Efron's ties only. The tests compare with lifelines on days without ties.

Times are days from the index date. `event` is 0 (censored), 1 (the event) or 2 (death without the event).
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

# A standardised slope of 10 multiplies the hazard by 22,000 per standard deviation. A larger slope means that the
# scores separate the events perfectly and the likelihood has no maximum. Therefore the slope stops here.
_LARGEST_STANDARDISED_SLOPE = 10.0


def fit_baseline_hazards(
    risk: ArrayLike, time: ArrayLike, event: ArrayLike, *, fitted_on: str = "train", days: ArrayLike | None = None
) -> dict[str, Any]:
    """Fit two Cox models with the risk score as the only covariate, and their Breslow baseline hazards.

    One model is for the event, the other for death without the event. Each maximises the Breslow partial likelihood, in
    which events at the same time share one risk set. `tgmm_hf.layers.hazards.cumulative_incidence` reads the result.

    Args:
        risk: Scores of the model, shape (n,). The model must not be trained on these patients, because the scores of
            training patients are spread too far.
        time: Days, shape (n,).
        event: 0, 1 or 2, shape (n,).
        fitted_on: Name of these rows, for the report.
        days: Rising days to store, none beyond the longest follow-up. None stores every day with an event or a death.
            A model that is shared needs `published_days`, because they name no patient's own days.

    Returns:
        JSON-able dict: days, event_cumulative_hazard, death_cumulative_hazard (at the score `risk_center`),
        event_slope, death_slope, risk_center, risk_range (lowest and highest score), n, events, deaths, fitted_on. The
        slope is 0 if the cause never happens or the score is constant. Without `days`, the last day is the longest
        follow-up. No probability is read beyond the last day.

    Raises:
        ValueError: If shapes differ, a value is not finite, a time is negative, or `days` are out of range.
    """
    risk, time, event = _checked(risk, time, event)
    center = float(risk.mean())
    slopes = {cause: _cox_slope(risk - center, time, event == cause) for cause in (1, 2)}
    stored = np.unique(np.append(time[event > 0], time.max()) if days is None else np.asarray(days, dtype=np.float64))
    if len(stored) == 0 or stored[-1] > time.max():
        raise ValueError(
            f"There must be days, all of them up to the longest follow-up, {time.max():g}, got {stored.tolist()}."
        )
    hazards = {
        cause: _breslow_hazard(slopes[cause] * (risk - center), time, event == cause, stored) for cause in (1, 2)
    }
    return {
        "days": stored.tolist(),
        "event_cumulative_hazard": hazards[1].tolist(),
        "death_cumulative_hazard": hazards[2].tolist(),
        "event_slope": slopes[1],
        "death_slope": slopes[2],
        "risk_center": center,
        "risk_range": [float(risk.min()), float(risk.max())],
        "n": len(risk),
        "events": int((event == 1).sum()),
        "deaths": int((event == 2).sum()),
        "fitted_on": fitted_on,
    }


def _checked(*values: ArrayLike) -> tuple[NDArray, NDArray, NDArray]:
    """Convert risk, time and event to float64 arrays (n,).

    Raises:
        ValueError: If the shapes differ, there is no row, or a value is not finite or not allowed.
    """
    risk, time, event = (np.asarray(column, dtype=np.float64) for column in values)
    if not (risk.ndim == 1 and risk.shape == time.shape == event.shape and len(risk) > 0):
        raise ValueError(
            "risk, time and event must not be empty and must have one shape (n,), "
            f"got {risk.shape}, {time.shape}, {event.shape}."
        )
    is_finite = np.isfinite(risk).all() and np.isfinite(time).all()
    if not (is_finite and (time >= 0).all() and np.isin(event, (0, 1, 2)).all()):
        raise ValueError(
            "risk and time must be finite, time must not be negative, and event must be 0, 1 or 2. Drop rows without "
            "follow-up first."
        )
    return risk, time, event


def published_days(time: ArrayLike, report_days: Iterable[float]) -> list[float]:
    """List the days that a shared model stores: the whole weeks of the follow-up and the reported days.

    A shared model must not hold the days of events, because a day of an event may identify a patient.

    Args:
        time: Follow-up of each patient in days, shape (n,).
        report_days: The task's `report_days`.

    Returns:
        Rising days up to the longest follow-up. With a shorter follow-up than all of them, only its last day.
    """
    last = float(np.max(time))
    return sorted({float(day) for day in [*np.arange(7, last + 1, 7), *report_days] if day <= last} or {last})


def _cox_slope(covariate: NDArray, time: NDArray, event: NDArray) -> float:
    """Return the slope of a Cox model with one covariate, in which events at the same time share one risk set.

    Args:
        covariate: Shape (n,).
        time: Days, shape (n,).
        event: bool, shape (n,).

    Returns:
        The slope that maximises the partial likelihood; 0 without events or with a constant covariate. It is limited to
        `_LARGEST_STANDARDISED_SLOPE` per standard deviation.
    """
    spread = float(covariate.std())
    # If a model gives all patients one score, its float32 scores differ by rounding errors only. They have no slope.
    if not event.any() or spread <= 1e-6 * max(1.0, float(np.abs(covariate).max())):
        return 0.0
    standardised = covariate / spread
    first_at_risk = np.searchsorted(np.sort(time), time[event], side="left")
    order = np.argsort(time, kind="stable")
    ordered = standardised[order]

    def score(slope: float) -> float:
        relative = np.exp(slope * (ordered - ordered.max() if slope > 0 else ordered - ordered.min()))
        total = np.cumsum(relative[::-1])[::-1]
        weighted = np.cumsum((relative * ordered)[::-1])[::-1]
        # If all relative hazards of a risk set underflow, the largest score is far away. The row's own score then
        # replaces the mean.
        means = np.divide(weighted, total, out=ordered.copy(), where=total > 0)
        return float(standardised[event].sum() - means[first_at_risk].sum())

    bound = _LARGEST_STANDARDISED_SLOPE
    if score(bound) >= 0 and score(-bound) <= 0:  # only if every risk set is constant
        return 0.0
    if score(bound) >= 0:
        return bound / spread
    if score(-bound) <= 0:
        return -bound / spread
    return float(brentq(score, -bound, bound, xtol=1e-12)) / spread


def _breslow_hazard(log_relative: NDArray, time: NDArray, event: NDArray, days: NDArray) -> NDArray:
    """Compute Breslow's cumulative baseline hazard at `days` (D,).

    Each event adds 1 / sum of the relative hazards of the patients who are then at risk.

    Args:
        log_relative: Logarithm of each patient's hazard relative to the baseline, shape (n,).
        time: Days, shape (n,).
        event: bool, shape (n,).
        days: Days, shape (D,).
    """
    order = np.argsort(time, kind="stable")
    total = np.cumsum(np.exp(log_relative[order])[::-1])[::-1]
    event_times = np.sort(time[event])
    steps = 1.0 / total[np.searchsorted(time[order], event_times, side="left")]
    cumulative = np.concatenate([[0.0], np.cumsum(steps)])
    return cumulative[np.searchsorted(event_times, days, side="right")]
