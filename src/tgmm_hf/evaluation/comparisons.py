"""Significance tests of two models, or of two modality subsets, on the same patients.

A bootstrap interval measures how large a difference is. A test measures how surprising the difference would be if the
two models were equally good. No test here is applied to resamples or to seeds, because they are no independent
patients.

The code is our own. DeLong's test with several rows per patient is in neither scikit-learn nor scipy. Holm's adjustment
is in statsmodels, which is no dependency of the package: the tests compare with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, norm

from tgmm_hf.evaluation.metrics import UndefinedFigureError, binary


@dataclass(frozen=True)
class Comparison:
    """A difference, its standard error, the statistic z and the two-sided p-value."""

    difference: float
    standard_error: float
    statistic: float
    p: float


def delong_test(first: NDArray, second: NDArray, label: NDArray, patients: ArrayLike | None = None) -> Comparison:
    """Test the paired difference of two AUCs.

    The rows of one patient are added up before the variance is computed (Obuchowski, Biometrics 1997;53:567-578). With
    one row per patient this is the test of DeLong et al., Biometrics 1988;44:837-845.

    Args:
        first: Scores of the first model, shape (n,).
        second: Scores of the second model for the same rows, shape (n,).
        label: 0 or 1, shape (n,).
        patients: Patient of each row, shape (n,). None if every row is a different patient.

    Raises:
        UndefinedFigureError: If a class has fewer than two patients, or if both scores rank all pairs alike.
    """
    positive = binary(label)
    patients = np.arange(len(positive)) if patients is None else np.asarray(patients).astype(str)
    of_patient = np.unique(patients, return_inverse=True)[1]
    num_positive, num_negative = int(positive.sum()), int((~positive).sum())
    clusters_positive, clusters_negative = (len(np.unique(of_patient[side])) for side in (positive, ~positive))
    if min(clusters_positive, clusters_negative) < 2:
        raise UndefinedFigureError(
            f"DeLong's test needs two patients per class, there are {clusters_positive} and {clusters_negative}"
        )
    won_first, won_second = _placements(first, positive), _placements(second, positive)
    won = won_first - won_second  # (n,): share of the other class that a row wins against, first minus second model
    difference = float(won[positive].mean())
    clusters = of_patient.max() + 1
    by_patient = np.zeros((2, clusters))  # sum of the deviations of a patient's positive rows, and of the negative rows
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
    """Compute the share of the other class that each row is ranked correctly against, shape (n,).

    For a positive row it is the share of negatives below it, for a negative row the share of positives above it. Equal
    scores count one half.
    """
    result = np.empty(len(score))
    result[positive] = _share_below(score[positive], score[~positive])
    result[~positive] = 1 - _share_below(score[~positive], score[positive])
    return result


def _share_below(score: NDArray, opponents: NDArray) -> NDArray:
    ranked = np.sort(opponents)
    return (np.searchsorted(ranked, score, "left") + np.searchsorted(ranked, score, "right")) / (2 * len(ranked))


def mcnemar_test(first_right: NDArray, second_right: NDArray) -> tuple[int, int, float]:
    """Test two accuracies on the same rows by McNemar's exact test.

    Args:
        first_right: Whether the first model is right, bool (n,). Every row must be a different patient.
        second_right: Whether the second model is right, bool (n,).

    Returns:
        How often only the first model is right, how often only the second model is right, and p. Without such a row p
        is 1.
    """
    only_first = int((first_right & ~second_right).sum())
    only_second = int((second_right & ~first_right).sum())
    if only_first + only_second == 0:
        return 0, 0, 1.0
    return only_first, only_second, float(binomtest(only_first, only_first + only_second, 0.5).pvalue)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values for the number of tests in their family (Holm, Scand J Stat 1979;6:65-70).

    Args:
        p_values: One p-value per test. None for a test that could not be made: it stays None and is not counted.
    """
    ordered = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(ordered):
        largest = max(largest, min(1.0, p * (len(ordered) - rank)))
        adjusted[index] = largest
    return adjusted
