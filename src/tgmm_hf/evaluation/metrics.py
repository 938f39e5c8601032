"""Discrimination figures and their bootstrap intervals.

Notation: n rows (one per admission), R bootstrap resamples. A resample is a row of counts: how often each row was
drawn. Every figure can be computed for all resamples at once from the (R, n) matrix of counts, which makes intervals
cheap and paired differences trivial: subtract two figures taken under the same counts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

LEVEL = 0.95


class UndefinedFigureError(ValueError):
    """A figure has no value on these rows (one class only, no comparable pair, ...); the message is the reason."""


ALL_AGREE = "no interval: all bootstrap resamples agree, which says nothing of other patients"


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval, or the reason why there is none.

    Attributes:
        value: the figure on the rows as they are; None if undefined.
        interval: bounds of the 95 % percentile bootstrap interval; None if undefined.
        reason: why `value` or `interval` is None.
    """

    value: float | None
    interval: tuple[float, float] | None
    reason: str | None = None

    def entry(self, name: str) -> dict[str, Any]:
        """``{name: value, name_ci: [low, high]}`` and, where something is missing, ``name_missing: reason``."""
        entry: dict[str, Any] = {name: self.value, f"{name}_ci": None if self.interval is None else list(self.interval)}
        if self.reason is not None:
            entry[f"{name}_missing"] = self.reason
        return entry


def auc(score: ArrayLike, label: ArrayLike) -> float:
    """Area under the ROC curve: the probability that a positive row scores above a negative one, ties counting one
    half.

    Args:
        score: shape (n,), higher = more likely positive.
        label: shape (n,), 0 or 1.

    Raises:
        UndefinedFigureError: if one class is missing.
    """
    score = np.asarray(score, dtype=np.float64)
    return float(resampled_auc(score, np.asarray(label), np.ones((1, len(score))))[0])


def resampled_auc(score: NDArray, label: NDArray, counts: NDArray) -> NDArray:
    """AUC of every resample, shape (R,); NaN where a resample has one class only. Arguments as `auc`, counts (R, n)."""
    positive = binary(label)
    if positive.all() or not positive.any():
        raise UndefinedFigureError(
            f"AUC needs both classes: {int(positive.sum())} of {len(positive)} rows are positive"
        )
    if np.isnan(score).any():
        raise ValueError(
            f"{int(np.isnan(score).sum())} of {len(score)} scores are NaN: the model diverged or the input is broken"
        )
    return weighted_auc(score, counts * positive, counts * ~positive)


def weighted_auc(score: NDArray, positives: NDArray, negatives: NDArray) -> NDArray:
    """AUC in which every row counts with a weight as a positive, and with another as a negative.

    Args:
        score: shape (n,). positives, negatives: non-negative weights, shape (R, n).

    Returns:
        Shape (R,); NaN where all weights of a side are zero.
    """
    order = np.argsort(score, kind="stable")
    group_starts = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0])  # rows of equal score form one group
    positives = np.add.reduceat(positives[:, order].astype(np.float64), group_starts, axis=1)  # (R, groups)
    negatives = np.add.reduceat(negatives[:, order].astype(np.float64), group_starts, axis=1)
    negatives_below = np.cumsum(negatives, axis=1) - negatives
    won = (positives * (negatives_below + 0.5 * negatives)).sum(axis=1)
    return ratio(won, positives.sum(axis=1) * negatives.sum(axis=1))


def resampled_average_precision(score: NDArray, label: NDArray, counts: NDArray) -> NDArray:
    """Area under the precision-recall curve as average precision (no interpolation), shape (R,).

    Arguments as `resampled_auc`. Chance is the prevalence.
    """
    positive = binary(label)
    if not positive.any():
        raise UndefinedFigureError(f"precision and recall need a positive: 0 of {len(positive)} rows are")
    order = np.argsort(-score, kind="stable")
    group_starts = np.flatnonzero(np.r_[True, np.diff(score[order]) < 0])
    drawn = counts[:, order].astype(np.float64)
    found = np.add.reduceat(drawn * positive[order], group_starts, axis=1)
    named = np.add.reduceat(drawn, group_starts, axis=1)
    precision = np.nan_to_num(ratio(np.cumsum(found, axis=1), np.cumsum(named, axis=1)))
    return ratio((found * precision).sum(axis=1), found.sum(axis=1))


def accuracy(predicted: ArrayLike, label: ArrayLike) -> float:
    """Share of rows whose predicted candidate index equals the label, both of shape (n,)."""
    predicted = np.asarray(predicted)
    return float(resampled_mean(predicted == np.asarray(label), np.ones((1, len(predicted))))[0])


def resampled_mean(value: NDArray, counts: NDArray) -> NDArray:
    """Mean of `value` (n,) in every resample (R, n) -> (R,)."""
    if len(value) == 0:
        raise UndefinedFigureError("no rows")
    return ratio(counts @ value.astype(np.float64), counts.sum(axis=1))


def bootstrap_counts(patients: ArrayLike, strata: ArrayLike | None, replicates: int, seed: int) -> NDArray:
    """How often each row is drawn in each resample.

    Patients, not rows, are drawn with replacement, so all rows of a patient come together. Within strata the number of
    patients is kept: with the label as stratum every resample has both classes and the prevalence of the sample.

    Args:
        patients: patient id per row, shape (n,).
        strata: class per row, shape (n,), or None for no strata. A patient whose rows differ belongs to the stratum of
            that mixture.
        replicates: R.
        seed: of numpy's default generator.

    Returns:
        Array of shape (R, n), float64 (it is multiplied, not indexed).
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
    """Two sets of resamples of the same rows: for figures within outcome classes, and for all others.

    Attributes:
        by_outcome: numbers of patients kept within each outcome, (R, n). For figures that do not depend on the
            prevalence (AUC, concordance, sensitivity, specificity): every resample has all classes.
        free: all patients drawn alike, (R, n). For figures that do (calibration, Brier scores, accuracy, predictive
            values, net benefit, AUPRC, incidence): with the prevalence held fixed their intervals are too narrow.
    """

    by_outcome: NDArray
    free: NDArray


def bootstrap_draws(patients: ArrayLike, outcome: ArrayLike, replicates: int, seed: int) -> Draws:
    """Both sets of resamples; arguments as of `bootstrap_counts`, with the outcome as stratum."""
    return Draws(
        bootstrap_counts(patients, outcome, replicates, seed), bootstrap_counts(patients, None, replicates, seed)
    )


def estimate(figure: Callable[[NDArray], NDArray], counts: NDArray) -> Estimate:
    """A figure with its 95 % percentile interval.

    Args:
        figure: function from counts (R, n) to values (R,), for example ``lambda c: resampled_auc(score, label, c)``.
        counts: from `bootstrap_counts`.
    """
    try:
        value = float(figure(np.ones((1, counts.shape[1])))[0])
    except UndefinedFigureError as error:
        return Estimate(None, None, str(error))
    return estimate_of_values(value, figure(counts))


def estimate_of_values(value: float, values: NDArray) -> Estimate:
    """A figure on the rows as they are, and its interval from the same figure in every resample (R,)."""
    if np.isnan(value):
        return Estimate(None, None, "undefined on these rows")
    defined = values[~np.isnan(values)]
    if len(defined) < LEVEL * len(values) or len(values) == 0:
        return Estimate(value, None, f"defined in only {len(defined)} of {len(values)} bootstrap resamples")
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if high - low <= 1e-12:  # as of an AUC of 1: [1, 1] would read as certainty
        return Estimate(float(value), None, ALL_AGREE)
    return Estimate(float(value), (float(low), float(high)))


def estimate_share(value: NDArray, counts: NDArray) -> Estimate:
    """Mean of a yes-or-no column with its interval: the bootstrap's, or Wilson's where all resamples agree.

    They agree where every row of a stratum has the same value (a sensitivity of 1): the bootstrap then says nothing
    about the uncertainty, and an interval of no width would be a lie.

    Args:
        value: bool, shape (n,). counts: from `bootstrap_counts`, (R, n).
    """
    result = estimate(lambda drawn: resampled_mean(value, drawn), counts)
    if result.reason != ALL_AGREE:
        return result
    wilson = binomtest(int(value.sum()), len(value)).proportion_ci(LEVEL, method="wilson")
    return Estimate(result.value, (float(wilson.low), float(wilson.high)))


def binary(label: NDArray) -> NDArray:
    """Labels 0 and 1 as bool; others are refused."""
    if not np.isin(label, (0, 1)).all():
        raise ValueError(f"labels must be 0 or 1, got {np.unique(label)[:5].tolist()}")
    return np.asarray(label).astype(bool)


def ratio(numerator: NDArray, denominator: NDArray) -> NDArray:
    """Quotient with NaN, not a warning, where the denominator is zero."""
    return np.divide(numerator, denominator, out=np.full(denominator.shape, np.nan), where=denominator > 0)
