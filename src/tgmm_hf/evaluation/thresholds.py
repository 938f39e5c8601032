"""Choose a decision threshold: by Youden's index, or by a sensitivity that must be reached."""

import numpy as np
from numpy.typing import NDArray


def youden_threshold(probability: NDArray, positive: NDArray) -> float:
    """Find the threshold with the largest sum of sensitivity and specificity (Youden, Cancer 1950;3:32-35).

    If several thresholds are equally good, the lowest is chosen, because it misses fewer patients. The threshold lies
    halfway between two probabilities, so that a rounding error cannot change a decision.

    Args:
        probability: Shape (n,).
        positive: bool, shape (n,), with both classes.
    """
    thresholds, sensitivity, specificity = rates_by_threshold(probability, positive)
    return float(thresholds[np.argmax(np.round(sensitivity + specificity, 12))])


def sensitivity_threshold(probability: NDArray, positive: NDArray, sensitivity: float) -> float:
    """Find the highest threshold whose sensitivity is at least `sensitivity`.

    Args:
        probability: Shape (n,).
        positive: bool, shape (n,), with both classes.
        sensitivity: Above 0, at most 1.

    Returns:
        The threshold. A patient is called positive if the probability is at or above it.

    Raises:
        ValueError: If `sensitivity` is out of range.
    """
    if not 0 < sensitivity <= 1:
        raise ValueError(f"The sensitivity must be above 0 and at most 1, got {sensitivity}.")
    thresholds, reached, _ = rates_by_threshold(probability, positive)
    return float(thresholds[np.flatnonzero(reached >= sensitivity - 1e-12)[-1]])


def rates_by_threshold(probability: NDArray, positive: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Return rising thresholds, and the sensitivity and specificity at each of them, three arrays of one length.

    The first threshold is 0. The others lie halfway between neighbouring probabilities. `probability` is (n,),
    `positive` is bool (n,).
    """
    values = np.unique(probability)
    thresholds = np.r_[0.0, (values[:-1] + values[1:]) / 2]
    decided = probability[None, :] >= thresholds[:, None]
    return thresholds, decided[:, positive].mean(axis=1), (~decided[:, ~positive]).mean(axis=1)
