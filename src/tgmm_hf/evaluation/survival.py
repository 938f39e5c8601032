"""Survival figures: concordance, incidence and survival curves, the log-rank test, and the baseline hazards that turn a
score into a probability.

Times are days from the index date. ``event`` is 0 (censored), 1 (the event of interest) or 2 (death without it).
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import chi2, norm

from tgmm_hf.evaluation.metrics import LEVEL, UndefinedFigureError, ratio

# A standardised slope of 10 multiplies the hazard by 22,000 per standard deviation: beyond it the data separate
# perfectly and the likelihood has no maximum, so the slope stops here.
_LARGEST_STANDARDISED_SLOPE = 10.0

FEWEST_EVENTS_LOG_RANK = 10


def c_index(risk: ArrayLike, time: ArrayLike, event: ArrayLike) -> float:
    """Harrell's concordance index: among comparable pairs, how often the patient with the earlier event has the higher
    score.

    Row i (with event 1) and row j are comparable if i's event comes before j's time, or at the same time if j has no
    event then. Two events at the same time are not comparable. Equal scores count one half. Competing deaths (event 2)
    are taken as censored at death: concordance of the cause-specific hazard, the quantity the Cox loss trains.

    Args:
        risk: shape (n,), higher = earlier event.
        time: shape (n,), days.
        event: shape (n,), 0 / 1 / 2.

    Raises:
        UndefinedFigureError: if no pair is comparable.
    """
    risk = np.asarray(risk, dtype=np.float64)
    return float(resampled_c_index(risk, np.asarray(time), np.asarray(event), np.ones((1, len(risk))))[0])


def resampled_c_index(risk: NDArray, time: NDArray, event: NDArray, counts: NDArray) -> NDArray:
    """Harrell's C of every resample, shape (R,). Arguments as `c_index`, counts (R, n)."""
    comparable = comparable_pairs(time, event)
    if not comparable.any():
        raise UndefinedFigureError(
            f"C-index needs a comparable pair: {int((event == 1).sum())} events among {len(event)} rows"
        )
    if np.isnan(risk).any():
        raise ValueError(
            f"{int(np.isnan(risk).sum())} of {len(risk)} risk scores are NaN: the model diverged or the input is broken"
        )
    earlier = risk[event == 1][:, None]
    concordant = comparable * (0.5 * (earlier == risk[None, :]) + (earlier > risk[None, :]))
    event_counts = counts[:, event == 1]  # (R, events)
    won = ((event_counts @ concordant) * counts).sum(axis=1)
    return ratio(won, ((event_counts @ comparable.astype(np.float64)) * counts).sum(axis=1))


def comparable_pairs(time: NDArray, event: NDArray) -> NDArray:
    """Boolean (events, n): pairs of a row with event 1 and a row known to be free of it longer."""
    own_time = time[event == 1][:, None]
    return (own_time < time[None, :]) | ((own_time == time[None, :]) & (event[None, :] != 1))


def aalen_johansen(time: NDArray, event: NDArray, counts: NDArray | None = None) -> tuple[NDArray, NDArray]:
    """Cumulative incidence of event 1 with death (event 2) competing, without a model.

    Args:
        time: shape (n,). event: shape (n,), 0 / 1 / 2.
        counts: resamples (R, n) for an interval; None for the rows as they are.

    Returns:
        Distinct times (T,) at which something happens, and the incidence (R, T) at and after each (R = 1 without
        counts).
    """
    counts = np.ones((1, len(time))) if counts is None else counts
    order = np.argsort(time, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(time[order]) > 0])
    moments = time[order][starts]
    happens = np.stack(  # per kind, resample, moment
        [np.add.reduceat(counts[:, order] * (event[order] == kind), starts, axis=1) for kind in range(3)]
    )
    leaving = happens.sum(axis=0)
    at_risk = np.cumsum(leaving[:, ::-1], axis=1)[:, ::-1]
    event_hazard = np.nan_to_num(ratio(happens[1], at_risk))
    any_hazard = np.nan_to_num(ratio(happens[1] + happens[2], at_risk))
    free = np.cumprod(1 - any_hazard, axis=1)
    free_before = np.concatenate([np.ones((len(counts), 1)), free[:, :-1]], axis=1)
    return moments, np.cumsum(free_before * event_hazard, axis=1)


def kaplan_meier(time: NDArray, event: NDArray) -> dict[str, NDArray]:
    """Share free of the event, deaths and the lost taken as censored, with pointwise 95 % bounds (Greenwood's variance
    on the log-log scale).

    Where death competes, one minus this overstates how many fall ill: see `aalen_johansen`.

    Args:
        time: shape (n,), n > 0. event: shape (n,); 1 is the event, 0 and 2 are censored.

    Returns:
        ``days`` (T,) distinct times, ``free``, ``low`` and ``high`` at and after each; the bounds are NaN until the
        first event and after the curve has reached 0.
    """
    moments, position = np.unique(time, return_inverse=True)
    events = np.bincount(position, weights=event == 1)
    at_risk = np.cumsum(np.bincount(position)[::-1])[::-1].astype(np.float64)
    free = np.cumprod(1 - events / at_risk)
    variance = np.cumsum(ratio(events, at_risk * (at_risk - events)))  # NaN once nobody is left
    with np.errstate(divide="ignore", invalid="ignore"):
        log_free = np.log(free)
        reach = norm.ppf((1 + LEVEL) / 2) * np.sqrt(variance) / log_free
        low, high = free ** np.exp(-reach), free ** np.exp(reach)
    return {"days": moments, "free": free, "low": low, "high": high}


def log_rank(time: NDArray, event: NDArray, group: NDArray) -> tuple[float, float]:
    """Log-rank test of two groups' cause-specific hazards, deaths censored at death: chi-squared (1 degree) and p.

    Args:
        time: shape (n,). event: shape (n,). group: bool, shape (n,).

    Raises:
        UndefinedFigureError: if a group is empty, or with fewer than `FEWEST_EVENTS_LOG_RANK` events, where the normal
            approximation does not hold.
    """
    happened = event == 1
    if group.all() or not group.any():
        raise UndefinedFigureError("all rows are in one risk group: nothing to compare")
    if happened.sum() < FEWEST_EVENTS_LOG_RANK:
        raise UndefinedFigureError(f"{int(happened.sum())} events: the test needs {FEWEST_EVENTS_LOG_RANK}")
    moments = np.unique(time[happened])
    at_risk = (time[None, :] >= moments[:, None]).sum(axis=1)
    at_risk_group = ((time[None, :] >= moments[:, None]) & group).sum(axis=1)
    events = ((time[None, :] == moments[:, None]) & happened).sum(axis=1)
    events_group = ((time[None, :] == moments[:, None]) & happened & group).sum(axis=1)
    share = at_risk_group / at_risk
    spread = events * share * (1 - share) * ratio((at_risk - events).astype(float), (at_risk - 1).astype(float))
    variance = float(np.nansum(spread))
    if variance == 0:
        raise UndefinedFigureError("the two groups are never at risk together")
    statistic = float((events_group - events * share).sum()) ** 2 / variance
    return statistic, float(chi2.sf(statistic, 1))


def fit_baseline_hazards(
    risk: ArrayLike, time: ArrayLike, event: ArrayLike, *, fitted_on: str = "train", days: ArrayLike | None = None
) -> dict[str, Any]:
    """Cause-specific Cox models with the risk score as the only covariate, and their Breslow baseline hazards.

    One model for the event and one for death without it, each by the Breslow partial likelihood (ties share one risk
    set). `tgmm_hf.layers.hazards.cumulative_incidence` reads the result.

    Args:
        risk: model scores, shape (n,); of patients the model was not trained on, whose own are spread too far.
        time: days, shape (n,). event: 0 / 1 / 2, shape (n,).
        fitted_on: what the rows were, for the record.
        days: rising days to store, none beyond the longest follow-up; every day with an event or a death when None. A
            model that is shared takes `published_days`, which are nobody's.

    Returns:
        JSON-able dict: days, event_cumulative_hazard, death_cumulative_hazard (at score `risk_center`), event_slope,
        death_slope, risk_center, risk_range (lowest and highest score), n, events, deaths, fitted_on. A cause that
        never happens, or a constant score, has slope 0. Without `days` the last one is the longest follow-up; no
        probability is ever read beyond the last.

    Raises:
        ValueError: if shapes differ, a value is not finite, or a time is negative.
    """
    risk, time, event = (np.asarray(values, dtype=np.float64) for values in (risk, time, event))
    if not (risk.ndim == 1 and risk.shape == time.shape == event.shape and len(risk) > 0):
        raise ValueError(
            "risk, time and event must be non-empty and of one shape (n,), "
            f"got {risk.shape}, {time.shape}, {event.shape}"
        )
    if not (
        np.isfinite(risk).all() and np.isfinite(time).all() and (time >= 0).all() and np.isin(event, (0, 1, 2)).all()
    ):
        raise ValueError(
            "risk and time must be finite, time non-negative and event 0, 1 or 2: drop rows without follow-up first"
        )
    center = float(risk.mean())
    slopes = {cause: _cox_slope(risk - center, time, event == cause) for cause in (1, 2)}
    stored = np.unique(np.append(time[event > 0], time.max()) if days is None else np.asarray(days, dtype=np.float64))
    if len(stored) == 0 or stored[-1] > time.max():
        raise ValueError(f"days must be some days up to the longest follow-up, {time.max():g}, got {stored.tolist()}")
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


def published_days(time: ArrayLike, report_days: Iterable[float]) -> list[float]:
    """Whole weeks of the follow-up, and the days that are reported: no patient's own days go into a shared model."""
    last = float(np.max(time))
    return sorted({float(day) for day in [*np.arange(7, last + 1, 7), *report_days] if day <= last} or {last})


def _cox_slope(covariate: NDArray, time: NDArray, event: NDArray) -> float:
    """Maximum of the one-covariate partial likelihood: the root of its score function, which falls monotonically."""
    spread = float(covariate.std())
    # float32 scores of a collapsed model differ only by rounding: no slope can be read from that.
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
        # A risk set whose relative hazards all underflow lies far from the largest score; its own last row then stands
        # for it.
        means = np.divide(weighted, total, out=ordered.copy(), where=total > 0)
        return float(standardised[event].sum() - means[first_at_risk].sum())

    bound = _LARGEST_STANDARDISED_SLOPE
    if score(bound) >= 0 and score(-bound) <= 0:  # only when every risk set is constant
        return 0.0
    if score(bound) >= 0:
        return bound / spread
    if score(-bound) <= 0:
        return -bound / spread
    return float(brentq(score, -bound, bound, xtol=1e-12)) / spread


def _breslow_hazard(log_relative: NDArray, time: NDArray, event: NDArray, days: NDArray) -> NDArray:
    """Cumulative baseline hazard at `days`: one over the risk set's summed relative hazard, per event."""
    order = np.argsort(time, kind="stable")
    total = np.cumsum(np.exp(log_relative[order])[::-1])[::-1]
    event_times = np.sort(time[event])
    steps = 1.0 / total[np.searchsorted(time[order], event_times, side="left")]
    cumulative = np.concatenate([[0.0], np.cumsum(steps)])
    return cumulative[np.searchsorted(event_times, days, side="right")]
