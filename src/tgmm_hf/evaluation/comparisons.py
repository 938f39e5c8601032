"""Tests of one model against another, or of one modality combination against another, on the same patients.

A bootstrap interval says how large a difference is; these say how surprising it would be without one. No test here is
applied to bootstrap resamples or to seeds as if they were independent patients.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, norm
from scipy.stats import t as student

from tgmm_hf.evaluation.metrics import UndefinedFigureError, binary


@dataclass(frozen=True)
class Comparison:
    """A difference, its standard error, the statistic (z or t) and the two-sided p-value."""

    difference: float
    standard_error: float
    statistic: float
    p: float


def delong_test(first: NDArray, second: NDArray, label: NDArray, patients: ArrayLike | None = None) -> Comparison:
    """Paired difference of two AUCs (DeLong 1988); rows of one patient are added up before the variance is taken
    (Obuchowski 1997), which with one row a patient is DeLong's.

    Args:
        first, second: scores of the same rows, shape (n,). label: 0 or 1. patients: patient of each row; None: all
            differ.

    Raises:
        UndefinedFigureError: if a class has fewer than two patients, or the two scores rank all pairs alike.
    """
    positive = binary(label)
    patients = np.arange(len(positive)) if patients is None else np.asarray(patients).astype(str)
    of_patient = np.unique(patients, return_inverse=True)[1]
    num_positive, num_negative = int(positive.sum()), int((~positive).sum())
    clusters_positive, clusters_negative = (len(np.unique(of_patient[side])) for side in (positive, ~positive))
    if min(clusters_positive, clusters_negative) < 2:
        raise UndefinedFigureError(
            f"DeLong's test needs two patients a class, there are {clusters_positive} and {clusters_negative}"
        )
    won_first, won_second = _placements(first, positive), _placements(second, positive)
    won = won_first - won_second  # (n,): share of the other class that a row wins against, the first less the second
    difference = float(won[positive].mean())
    clusters = of_patient.max() + 1
    by_patient = np.zeros((2, clusters))  # sums of deviations, as positives and as negatives
    for row, side in enumerate((positive, ~positive)):
        np.add.at(by_patient[row], of_patient[side], won[side] - difference)
    of_positives, of_negatives = by_patient
    variance = (
        clusters_positive / (clusters_positive - 1) * (of_positives**2).sum() / num_positive**2
        + clusters_negative / (clusters_negative - 1) * (of_negatives**2).sum() / num_negative**2
        + 2 * clusters / (clusters - 1) * (of_positives * of_negatives).sum() / (num_positive * num_negative)
    )
    if variance <= 1e-15:
        raise UndefinedFigureError("both scores rank every pair alike: there is nothing to test")
    error = float(np.sqrt(variance))
    return Comparison(difference, error, difference / error, float(2 * norm.sf(abs(difference / error))))


def _placements(score: NDArray, positive: NDArray) -> NDArray:
    """Of each positive row the share of negatives below it, of each negative the share of positives above it, ties
    counting one half; shape (n,)."""
    low, high = np.sort(score[~positive]), np.sort(score[positive])
    result = np.empty(len(score))
    ours = score[positive]
    result[positive] = (np.searchsorted(low, ours, "left") + np.searchsorted(low, ours, "right")) / (2 * len(low))
    ours = score[~positive]
    beaten = (np.searchsorted(high, ours, "left") + np.searchsorted(high, ours, "right")) / (2 * len(high))
    result[~positive] = 1 - beaten
    return result


def mcnemar_test(first_right: NDArray, second_right: NDArray) -> tuple[int, int, float]:
    """Exact test of two accuracies on the same rows: how often only the first is right, only the second, and p.

    The rows must be of different patients. Without a discordant row p is 1.
    """
    only_first = int((first_right & ~second_right).sum())
    only_second = int((second_right & ~first_right).sum())
    if only_first + only_second == 0:
        return 0, 0, 1.0
    return only_first, only_second, float(binomtest(only_first, only_first + only_second, 0.5).pvalue)


def corrected_t_test(differences: Sequence[float], test_to_train: float) -> Comparison:
    """Difference of two models over repeated folds, whose training sets overlap (Nadeau and Bengio 2003).

    Args:
        differences: of the figure, one a fold of a repetition: ten for two folds repeated five times.
        test_to_train: patients tested over patients trained on, in one fold: 1 for two folds, 1.25 if a fifth of the
            training half is kept for validation.

    Raises:
        UndefinedFigureError: with fewer than two differences, or if all are equal.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all() or not test_to_train > 0:
        raise ValueError(f"needs finite differences and a positive ratio, got {differences} and {test_to_train}")
    if len(values) < 2 or np.ptp(values) == 0:
        raise UndefinedFigureError(f"{len(values)} differences without a spread: nothing to test")
    error = float(np.sqrt((1 / len(values) + test_to_train) * values.var(ddof=1)))
    statistic = float(values.mean()) / error
    return Comparison(float(values.mean()), error, statistic, float(2 * student.sf(abs(statistic), len(values) - 1)))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values adjusted for the number of tests in their family (Holm 1979); None stays None and is not counted."""
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[index] = largest
    return adjusted
