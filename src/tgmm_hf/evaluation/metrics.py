"""Discrimination figures and their bootstrap intervals.

Notation: n rows (one row per admission), R bootstrap resamples. `counts` is a matrix (R, n): it says how often each row
was drawn in each resample. Every figure is computed for all resamples at once.

The code is our own, because it is vectorised over the resamples, and scikit-learn computes one resample per call. It
also makes paired differences simple: subtract two figures that were computed with the same counts. The tests compare
each figure with scikit-learn.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

from tgmm_hf.utils.names import BOOTSTRAP_RESAMPLES

LEVEL = 0.95


class UndefinedFigureError(ValueError):
    """A figure that has no value on these rows, such as an AUC of one class. The message is the reason."""


ALL_AGREE = "no interval: all bootstrap resamples agree, which says nothing about other patients"


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval, or the reason why it has none.

    Attributes:
        value: The figure on the rows themselves. None if it is undefined.
        interval: Bounds of the 95 % percentile bootstrap interval. None if it is undefined.
        reason: Why `value` or `interval` is None.
    """

    value: float | None
    interval: tuple[float, float] | None
    reason: str | None = None

    def entry(self, name: str) -> dict[str, Any]:
        """Return the keys of metrics.json: `name`, `name_ci` and, if a value is missing, `name_missing`."""
        entry: dict[str, Any] = {name: self.value, f"{name}_ci": None if self.interval is None else list(self.interval)}
        if self.reason is not None:
            entry[f"{name}_missing"] = self.reason
        return entry


def auc(score: ArrayLike, label: ArrayLike) -> float:
    """Compute the area under the ROC curve.

    It is the probability that a positive row scores above a negative row. Equal scores count one half.

    Args:
        score: Shape (n,). A higher score means that the row is more likely positive.
        label: Shape (n,), 0 or 1.

    Raises:
        UndefinedFigureError: If one class is missing.
    """
    score = np.asarray(score, dtype=np.float64)
    return float(resampled_auc(score, np.asarray(label), np.ones((1, len(score))))[0])


def resampled_auc(score: NDArray, label: NDArray, counts: NDArray) -> NDArray:
    """Compute the AUC of every resample.

    Args:
        score: As in `auc`, shape (n,).
        label: As in `auc`, shape (n,).
        counts: How often each row was drawn, shape (R, n).

    Returns:
        Shape (R,). NaN where a resample has one class only.

    Raises:
        UndefinedFigureError: If the rows have one class only.
        ValueError: If a score is NaN.
    """
    positive = binary(label)
    if positive.all() or not positive.any():
        raise UndefinedFigureError(
            f"AUC needs both classes: {int(positive.sum())} of {len(positive)} rows are positive"
        )
    if np.isnan(score).any():
        raise ValueError(
            f"{int(np.isnan(score).sum())} of {len(score)} scores are NaN. The model diverged or an input is broken: "
            "look at the training losses, then at these patients' inputs."
        )
    return weighted_auc(score, counts * positive, counts * ~positive)


def weighted_auc(score: NDArray, positives: NDArray, negatives: NDArray) -> NDArray:
    """Compute AUCs in which every row has one weight as a positive and another weight as a negative.

    Args:
        score: Shape (n,).
        positives: Weight of each row as a positive, not negative, shape (R, n).
        negatives: Weight of each row as a negative, not negative, shape (R, n).

    Returns:
        Shape (R,). NaN where all weights of one side are zero.
    """
    order = np.argsort(score, kind="stable")
    group_starts = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0])  # rows of equal score form one group
    positives = np.add.reduceat(positives[:, order].astype(np.float64), group_starts, axis=1)  # (R, groups)
    negatives = np.add.reduceat(negatives[:, order].astype(np.float64), group_starts, axis=1)
    negatives_below = np.cumsum(negatives, axis=1) - negatives
    won = (positives * (negatives_below + 0.5 * negatives)).sum(axis=1)
    return ratio(won, positives.sum(axis=1) * negatives.sum(axis=1))


def resampled_average_precision(score: NDArray, label: NDArray, counts: NDArray) -> NDArray:
    """Compute the average precision of every resample: the area under the precision-recall curve, not interpolated.

    A random score reaches the prevalence.

    Args:
        score: As in `auc`, shape (n,).
        label: As in `auc`, shape (n,).
        counts: How often each row was drawn, shape (R, n).

    Returns:
        Shape (R,).

    Raises:
        UndefinedFigureError: If no row is positive.
    """
    positive = binary(label)
    if not positive.any():
        raise UndefinedFigureError(f"precision and recall need a positive row: 0 of {len(positive)} rows are positive")
    order = np.argsort(-score, kind="stable")
    group_starts = np.flatnonzero(np.r_[True, np.diff(score[order]) < 0])
    drawn = counts[:, order].astype(np.float64)
    positives = np.add.reduceat(drawn * positive[order], group_starts, axis=1)
    rows = np.add.reduceat(drawn, group_starts, axis=1)
    precision = np.nan_to_num(ratio(np.cumsum(positives, axis=1), np.cumsum(rows, axis=1)))
    return ratio((positives * precision).sum(axis=1), positives.sum(axis=1))


def resampled_mean(value: NDArray, counts: NDArray) -> NDArray:
    """Compute the mean of `value` (n,) in every resample: counts (R, n) -> means (R,).

    Raises:
        UndefinedFigureError: If there are no rows.
    """
    if len(value) == 0:
        raise UndefinedFigureError("no rows")
    return ratio(counts @ value.astype(np.float64), counts.sum(axis=1))


class Bootstrap(NamedTuple):
    """Seed and number of the bootstrap resamples."""

    seed: int = 0
    replicates: int = BOOTSTRAP_RESAMPLES


def bootstrap_counts(patients: ArrayLike, strata: ArrayLike | None, replicates: int, seed: int) -> NDArray:
    """Draw R bootstrap resamples of patients.

    Patients are drawn with replacement, not rows, so all rows of one patient are drawn together. Each stratum keeps its
    number of patients. With the label as stratum, every resample has both classes and the prevalence of the sample.

    Args:
        patients: Patient id of each row, shape (n,).
        strata: Class of each row, shape (n,). None for no strata. Patients whose rows have several classes form strata
            of their own, one for each combination of classes.
        replicates: R, the number of resamples.
        seed: Seed of numpy's default generator.

    Returns:
        How often each row is drawn, shape (R, n), float64.
    """
    patient_names, patient_of_row = np.unique(np.asarray(patients).astype(str), return_inverse=True)
    if strata is None:
        stratum_of_patient = np.zeros(len(patient_names), dtype=int)
    else:
        frame = pd.DataFrame({"patient": patient_of_row, "stratum": np.asarray(strata).astype(str)})
        mixtures = frame.groupby("patient")["stratum"].agg(lambda values: "/".join(sorted(set(values))))
        _, stratum_of_patient = np.unique(mixtures.to_numpy().astype(str), return_inverse=True)
    generator = np.random.default_rng(seed)
    counts = np.zeros((replicates, len(patient_names)))
    for stratum in range(stratum_of_patient.max(initial=-1) + 1):
        members = np.flatnonzero(stratum_of_patient == stratum)
        counts[:, members] = generator.multinomial(
            len(members), np.full(len(members), 1 / len(members)), size=replicates
        )
    return counts[:, patient_of_row]


class Draws(NamedTuple):
    """Two sets of resamples of the same rows.

    Attributes:
        by_outcome: Counts (R, n) in which each outcome keeps its number of patients. For figures that do not depend on
            the prevalence: AUC, concordance, sensitivity, specificity. Every resample has all classes.
        free: Counts (R, n) without strata. For figures that depend on the prevalence: calibration, Brier scores,
            accuracy, predictive values, net benefit, AUPRC, incidence. With a fixed prevalence their intervals would be
            too narrow.
    """

    by_outcome: NDArray
    free: NDArray


def bootstrap_draws(patients: ArrayLike, outcome: ArrayLike | None, replicates: int, seed: int) -> Draws:
    """Draw both sets of resamples of `Draws`.

    Args:
        patients: Patient id of each row, shape (n,).
        outcome: Stratum of each row, shape (n,). None for no strata in either set.
        replicates: R, the number of resamples.
        seed: Seed of both sets.
    """
    return Draws(
        bootstrap_counts(patients, outcome, replicates, seed), bootstrap_counts(patients, None, replicates, seed)
    )


def estimate(figure: Callable[[NDArray], NDArray], counts: NDArray) -> Estimate:
    """Compute a figure with its 95 % percentile interval.

    Args:
        figure: Function from counts (R, n) to values (R,), such as `lambda c: resampled_auc(score, label, c)`.
        counts: Resamples from `bootstrap_counts`, shape (R, n).

    Returns:
        The figure of the rows and its interval. If the figure is undefined, both are None with the reason.
    """
    try:
        value = float(figure(np.ones((1, counts.shape[1])))[0])
    except UndefinedFigureError as error:
        return Estimate(None, None, str(error))
    return estimate_of_values(value, figure(counts))


def estimate_of_values(value: float, values: NDArray) -> Estimate:
    """Join a figure of the rows themselves with the interval of the same figure in the resamples.

    Args:
        value: The figure of the rows. NaN if it is undefined.
        values: The figure of every resample, shape (R,). NaN where it is undefined.

    Returns:
        The estimate. It has no interval if fewer than 95 % of the resamples are defined, or if all resamples agree.
    """
    if np.isnan(value):
        return Estimate(None, None, "undefined on these rows")
    defined = values[~np.isnan(values)]
    if len(defined) < LEVEL * len(values) or len(values) == 0:
        return Estimate(value, None, f"defined in only {len(defined)} of {len(values)} bootstrap resamples")
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if high - low <= 1e-12:  # such as an AUC of 1: the interval [1, 1] would look like certainty
        return Estimate(float(value), None, ALL_AGREE)
    return Estimate(float(value), (float(low), float(high)))


def estimate_share(value: NDArray, counts: NDArray) -> Estimate:
    """Compute a share with its bootstrap interval, or with Wilson's interval if all resamples agree.

    All resamples agree if every row of a stratum has the same value, for example at a sensitivity of 1. A bootstrap
    interval would then have width zero, which is wrong.

    Args:
        value: Whether each row counts, bool, shape (n,).
        counts: Resamples from `bootstrap_counts`, shape (R, n).
    """
    result = estimate(lambda drawn: resampled_mean(value, drawn), counts)
    if result.reason != ALL_AGREE:
        return result
    wilson = binomtest(int(value.sum()), len(value)).proportion_ci(LEVEL, method="wilson")
    return Estimate(result.value, (float(wilson.low), float(wilson.high)))


def binary(label: NDArray) -> NDArray:
    """Convert labels 0 and 1 of shape (n,) to bool.

    Raises:
        ValueError: If a label is neither 0 nor 1.
    """
    if not np.isin(label, (0, 1)).all():
        raise ValueError(f"Labels must be 0 or 1, got {np.unique(label)[:5].tolist()}. Correct the label column.")
    return np.asarray(label).astype(bool)


def ratio(numerator: NDArray, denominator: NDArray) -> NDArray:
    """Divide two arrays of one shape. The quotient is NaN, without a warning, where the denominator is not above 0."""
    return np.divide(numerator, denominator, out=np.full(denominator.shape, np.nan), where=denominator > 0)
