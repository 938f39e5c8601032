"""Harrell's concordance index.

The code is our own, because it is vectorised over the bootstrap resamples. The tests compare it with lifelines.

Times are days from the index date. `event` is 0 (censored), 1 (the event) or 2 (death without the event).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tgmm_hf.evaluation.metrics import UndefinedFigureError, ratio


def c_index(risk: ArrayLike, time: ArrayLike, event: ArrayLike) -> float:
    """Compute Harrell's C: in comparable pairs, how often the patient with the earlier event has the higher score.

    A pair is comparable if one patient has the event before the other patient's time, or at the same time if the other
    patient does not have the event then. Two events at the same time are not comparable. Equal scores count one half.
    Competing deaths (event 2) are censored at death. Therefore this is the concordance of the cause-specific hazard,
    which the Cox loss trains. Source: Harrell et al., JAMA 1982;247:2543-2546.

    Args:
        risk: Scores, shape (n,). A higher score means an earlier event.
        time: Days, shape (n,).
        event: 0, 1 or 2, shape (n,).

    Raises:
        UndefinedFigureError: If no pair is comparable.
    """
    risk = np.asarray(risk, dtype=np.float64)
    return float(resampled_c_index(risk, np.asarray(time), np.asarray(event), np.ones((1, len(risk))))[0])


def resampled_c_index(risk: NDArray, time: NDArray, event: NDArray, counts: NDArray) -> NDArray:
    """Compute Harrell's C of every resample.

    Args:
        risk: As in `c_index`, shape (n,).
        time: As in `c_index`, shape (n,).
        event: As in `c_index`, shape (n,).
        counts: How often each row was drawn, shape (R, n).

    Returns:
        Shape (R,). NaN where a resample has no comparable pair.

    Raises:
        UndefinedFigureError: If the rows have no comparable pair.
        ValueError: If a score is NaN.
    """
    comparable = comparable_pairs(time, event)
    if not comparable.any():
        raise UndefinedFigureError(
            f"C-index needs a comparable pair: {int((event == 1).sum())} events among {len(event)} rows"
        )
    if np.isnan(risk).any():
        raise ValueError(
            f"{int(np.isnan(risk).sum())} of {len(risk)} risk scores are NaN. The model diverged or an input is "
            "broken: look at the training losses, then at these patients' inputs."
        )
    earlier = risk[event == 1][:, None]
    concordant = comparable * (0.5 * (earlier == risk[None, :]) + (earlier > risk[None, :]))
    event_counts = counts[:, event == 1]  # (R, events)
    won = ((event_counts @ concordant) * counts).sum(axis=1)
    return ratio(won, ((event_counts @ comparable.astype(np.float64)) * counts).sum(axis=1))


def comparable_pairs(time: NDArray, event: NDArray) -> NDArray:
    """Find the comparable pairs: a row with event 1, and a row that is free of the event for longer.

    Args:
        time: Days, shape (n,).
        event: 0, 1 or 2, shape (n,).

    Returns:
        bool, shape (number of events, n).
    """
    event_time = time[event == 1][:, None]
    return (event_time < time[None, :]) | ((event_time == time[None, :]) & (event[None, :] != 1))
