"""From a risk score to the probability of the event by a given day, with the stored baseline hazards of a task.

Two causes compete: the event (incident heart failure), and death before the event. Each has a proportional
cause-specific hazard, ``dH1(t) exp(b1 (r - c))`` and ``dH2(t) exp(b2 (r - c))``. Here ``r`` is the risk score of the
patient, ``c`` the mean score of the patients that the hazards were fitted on, ``dH1`` and ``dH2`` the baseline hazards
of event and death, ``b1`` and ``b2`` their slopes. `tgmm train` fits the baseline hazards
(evaluation/baseline_hazards.py) and stores them in ``config.tasks[name]["baseline_hazards"]``, one for each subset.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

# exp(700) is about 1e304: the largest round exponent whose sum over 200 time points and two causes still fits a double.
_LARGEST_EXPONENT = 700.0


def cumulative_incidence(risk: ArrayLike, hazard: Mapping[str, Any], days: Sequence[float] | NDArray) -> NDArray:
    """Compute the probability that the event has happened by each day, with death as a competing cause.

    A step is the time between two stored days. In one step the hazards of event and death grow by
    ``a = dH1 exp(b1 (r - c))`` and ``b = dH2 exp(b2 (r - c))``, and their ratio is taken as constant. A patient who had
    neither event nor death before the step has the event in the step with probability
    ``a / (a + b) * (1 - exp(-(a + b)))``. The probabilities of event, death and neither then add up to one for every
    score. Without deaths the result is Breslow's ``1 - exp(-H1(t) exp(b1 (r - c)))``.

    Args:
        risk: risk scores of shape (B,), or one number.
        hazard: baseline hazard, a mapping with ``days`` (T,), ``event_cumulative_hazard`` (T,),
            ``death_cumulative_hazard`` (T,), ``event_slope`` (b1), ``death_slope`` (b2) and optionally ``risk_center``
            (the score ``c`` at which the hazards are given, 0 if absent).
        days: days after the index date, shape (D,).

    Returns:
        Array of shape (B, D) in [0, 1], non-decreasing along the days. NaN for a day after ``hazard["days"][-1]``:
        nobody was followed that long, so no estimate exists.

    Raises:
        ValueError: if a risk score is not finite, a day is negative, or the hazard's arrays do not fit together.
    """
    risk = np.atleast_1d(np.asarray(risk, dtype=np.float64))
    days = np.atleast_1d(np.asarray(days, dtype=np.float64))
    if risk.ndim != 1 or not np.isfinite(risk).all():
        raise ValueError(
            f"risk must be finite numbers of shape (B,), got shape {risk.shape} with "
            f"{(~np.isfinite(risk)).sum()} not finite"
        )
    if days.ndim != 1 or not (days >= 0).all():
        raise ValueError(f"days must be non-negative numbers of shape (D,), got {days.tolist()}")
    grid, event_steps, death_steps = _increments(hazard)

    centred = risk[:, None] - float(hazard.get("risk_center", 0.0))
    event_hazard = _scaled(event_steps, float(hazard["event_slope"]) * centred)  # (B, T)
    death_hazard = _scaled(death_steps, float(hazard["death_slope"]) * centred)
    total = event_hazard + death_hazard
    # Shifted, not "cumsum minus own step": beside a huge step the subtraction would lose all earlier ones.
    free_before = np.exp(-np.cumsum(np.concatenate([np.zeros((len(risk), 1)), total[:, :-1]], axis=1), axis=1))
    share = np.divide(event_hazard, total, out=np.zeros_like(total), where=total > 0)
    incidence = np.cumsum(free_before * share * -np.expm1(-total), axis=1)

    # A leading zero makes "before the first stored day" an ordinary position.
    incidence = np.concatenate([np.zeros((len(risk), 1)), np.minimum(incidence, 1.0)], axis=1)
    result = incidence[:, np.searchsorted(grid, days, side="right")]
    result[:, days > grid[-1]] = np.nan
    return result


def _increments(hazard: Mapping[str, Any]) -> tuple[NDArray, NDArray, NDArray]:
    """Return the stored days (T,) and the increments of the hazards of event and death, each (T,).

    Raises:
        ValueError: if a key is missing, the stored arrays do not fit together, or a cumulative hazard falls or is not
            finite.
    """
    needed = ("days", "event_cumulative_hazard", "death_cumulative_hazard", "event_slope", "death_slope")
    if missing := [name for name in needed if name not in hazard]:
        raise ValueError(f"the baseline hazard lacks {', '.join(missing)}: fit it again")
    grid = np.asarray(hazard["days"], dtype=np.float64)
    if grid.ndim != 1 or len(grid) == 0 or (np.diff(grid) <= 0).any():
        raise ValueError(f"hazard['days'] must be a rising list of at least one day, got {grid.tolist()[:5]} ...")
    steps = []
    for name in ("event_cumulative_hazard", "death_cumulative_hazard"):
        cumulative = np.asarray(hazard[name], dtype=np.float64)
        if cumulative.shape != grid.shape:
            raise ValueError(
                f"hazard['{name}'] has shape {cumulative.shape}, hazard['days'] {grid.shape}: fit it again"
            )
        increments = np.diff(cumulative, prepend=0.0)
        if not (np.isfinite(cumulative).all() and (increments >= 0).all()):
            raise ValueError(
                f"hazard['{name}'] must be finite, start at or above 0 and never fall: fit the baseline hazard again"
            )
        steps.append(increments)
    return grid, steps[0], steps[1]


def _scaled(steps: NDArray, exponent: NDArray) -> NDArray:
    """Compute ``steps * exp(exponent)``, shape (B, T), from steps (T,) and exponent (B, 1).

    The logarithms are added, because each factor alone could overflow.
    """
    with np.errstate(divide="ignore"):
        log_steps = np.log(steps)[None, :]
    return np.exp(np.minimum(log_steps + exponent, _LARGEST_EXPONENT))
