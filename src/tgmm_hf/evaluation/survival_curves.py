"""Incidence and survival curves, and the log-rank test.

Kaplan-Meier curves and the log-rank test come from lifelines. The Aalen-Johansen curve is our own code, because it is
vectorised over the bootstrap resamples. The tests compare it with lifelines.

Times are days from the index date. `event` is 0 (censored), 1 (the event) or 2 (death without the event).
"""

import numpy as np
from lifelines import KaplanMeierFitter
from lifelines.statistics import logrank_test
from numpy.typing import NDArray

from tgmm_hf.evaluation.metrics import LEVEL, UndefinedFigureError, ratio

FEWEST_EVENTS_LOG_RANK = 10


def aalen_johansen(time: NDArray, event: NDArray, counts: NDArray | None = None) -> tuple[NDArray, NDArray]:
    """Estimate the cumulative incidence of the event, with death competing and without a model.

    Source: Aalen and Johansen, Scand J Stat 1978;5:141-150.

    Args:
        time: Days, shape (n,).
        event: 0, 1 or 2, shape (n,).
        counts: Resamples for an interval, shape (R, n). None for the rows themselves.

    Returns:
        The distinct times (T,), and the incidence at and after each time (R, T). R is 1 without counts.
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
    """Estimate the share of patients without the event. Deaths and patients who left the study are censored.

    If death competes with the event, one minus this share is larger than the share that has the event: see
    `aalen_johansen`.

    Args:
        time: Days, shape (n,), n > 0.
        event: Shape (n,). 1 is the event, 0 and 2 are censored.

    Returns:
        `days`, the distinct times (T,), and at each time `free` with its pointwise 95 % bounds `low` and `high`
        (Greenwood's variance on the log-log scale). The bounds are NaN before the first event, and after the share has
        reached 0.
    """
    curve = KaplanMeierFitter(alpha=1 - LEVEL).fit(time, event == 1)
    days = np.unique(time)
    free = curve.survival_function_.loc[days].to_numpy()[:, 0]
    bounds = np.where(((free > 0) & (free < 1))[:, None], curve.confidence_interval_.loc[days].to_numpy(), np.nan)
    return {"days": days, "free": free, "low": bounds[:, 0], "high": bounds[:, 1]}


def log_rank(time: NDArray, event: NDArray, group: NDArray) -> tuple[float, float]:
    """Compare the cause-specific hazards of two groups by the log-rank test. Deaths are censored at death.

    Args:
        time: Days, shape (n,).
        event: 0, 1 or 2, shape (n,).
        group: Whether the row belongs to the first group, bool (n,).

    Returns:
        Chi-squared with one degree of freedom, and p.

    Raises:
        UndefinedFigureError: If a group is empty, if the groups are never at risk together, or with fewer than
            `FEWEST_EVENTS_LOG_RANK` events, because the normal approximation would be wrong.
    """
    happened = event == 1
    if group.all() or not group.any():
        raise UndefinedFigureError("all rows are in one risk group: nothing to compare")
    if happened.sum() < FEWEST_EVENTS_LOG_RANK:
        raise UndefinedFigureError(f"{int(happened.sum())} events: the test needs {FEWEST_EVENTS_LOG_RANK}")
    last_together = min(time[group].max(), time[~group].max())
    result = logrank_test(time[group], time[~group], happened[group], happened[~group])
    if not (happened & (time <= last_together)).any() or not np.isfinite(result.test_statistic):
        raise UndefinedFigureError("the two groups are never at risk together")
    return float(result.test_statistic), float(result.p_value)
