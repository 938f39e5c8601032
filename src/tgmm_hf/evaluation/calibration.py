"""Calibration, temperature, thresholds and net benefit: are the probabilities right, and what follows from using them?

All probabilities are those of the task's last candidate, such as "heart failure". Each modality subset has its own
temperature and threshold. They are chosen on validation patients, never on the patients that are scored.

The calibration slope and intercept are our own code, because they are vectorised over the bootstrap resamples. The
tests compare them with statsmodels, and the calibration curve with scikit-learn.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from scipy.stats import binomtest

from tgmm_hf.evaluation.metrics import LEVEL, UndefinedFigureError, binary, ratio
from tgmm_hf.evaluation.thresholds import rates_by_threshold, sensitivity_threshold, youden_threshold
from tgmm_hf.utils.probabilities import finite_logit, scaled

SMALLEST_CLASS = 10
"""Number of validation patients that each class needs, so that a threshold and a temperature are fitted."""

NET_BENEFIT_THRESHOLDS = np.linspace(0.02, 0.98, 49)

_LARGEST_TEMPERATURE = 1e4
_NEWTON_STEPS = 30


@dataclass(frozen=True)
class OperatingPoint:
    """The rule that turns probabilities into decisions: positive if `scaled(probability, temperature) >= threshold`.

    Attributes:
        threshold: Threshold of the scaled probability.
        rule: How the threshold was chosen, in words.
        chosen_on: The patients that the threshold was chosen on, with numbers; or why it could not be chosen.
        temperature: Divides the logits. None if the model's probabilities are not scaled.
    """

    threshold: float = 0.5
    rule: str = "0.5"
    chosen_on: str = "nobody"
    temperature: float | None = None

    def scaled(self, probability: NDArray) -> NDArray:
        """Return the model's probabilities (n,) scaled by the temperature; unchanged if there is none."""
        return probability if self.temperature is None else scaled(probability, self.temperature)

    def entry(self) -> dict[str, Any]:
        """Return the threshold as metrics.json writes it."""
        return {
            "value": self.threshold,
            "of_model": self.of_model(),
            "rule": self.rule,
            "chosen_on": self.chosen_on,
        }

    def of_model(self) -> float:
        """Return the threshold for the unscaled probability that `tgmm predict` gives.

        A patient reaches it exactly if the scaled probability reaches `threshold`.
        """
        return self.threshold if self.temperature is None else float(expit(self.temperature * logit(self.threshold)))


def choose_operating_point(
    probability: NDArray, positive: NDArray, *, sensitivity: float | None = None, temperature: bool = False
) -> OperatingPoint:
    """Choose the threshold of one modality subset and, if wanted, its temperature.

    The default rule is Youden's index, because it favours neither sensitivity nor specificity. Users who know what the
    model is for should state the sensitivity that they need.

    Args:
        probability: Probabilities of the validation patients, shape (n,).
        positive: 0 or 1, shape (n,).
        sensitivity: Choose the highest threshold that reaches this sensitivity. None for Youden's index.
        temperature: Whether to fit a temperature that scales the probabilities.

    Returns:
        Threshold and temperature. If a class has fewer than `SMALLEST_CLASS` patients, the threshold is 0.5 without a
        temperature. If no threshold is better than chance, the threshold is 0.5.
    """
    label = binary(positive)
    rare = int(min(label.sum(), (~label).sum()))
    if rare < SMALLEST_CLASS:
        reason = f"nobody: the validation split has {rare} patients in the smaller class, {SMALLEST_CLASS} are needed"
        return OperatingPoint(chosen_on=reason)
    fitted = fit_temperature(probability, label) if temperature else None
    point = OperatingPoint(temperature=fitted)
    values = point.scaled(probability)
    _, reached, specificity = rates_by_threshold(values, label)
    if (reached + specificity).max() <= 1 + 1e-12:
        reason = "nobody: on the validation split no threshold is better than chance"
        return OperatingPoint(chosen_on=reason, temperature=fitted)
    if sensitivity is None:
        threshold, rule = youden_threshold(values, label), "Youden's index"
    else:
        threshold, rule = sensitivity_threshold(values, label, sensitivity), f"sensitivity of at least {sensitivity:g}"
    return OperatingPoint(threshold, rule, f"validation split, n = {len(label)}, {int(label.sum())} positive", fitted)


def fit_temperature(probability: NDArray, positive: NDArray) -> float:
    """Fit the temperature with the smallest log loss, between 1/10,000 and 10,000 (Guo et al., ICML 2017).

    With more than two candidates, it is the temperature of the last candidate against all others, because only the
    probability of the last candidate is reported.

    Args:
        probability: Shape (n,).
        positive: 0 or 1, shape (n,).
    """
    label, value = binary(positive), finite_logit(probability)

    def log_loss(log_temperature: float) -> float:
        sign = np.where(label, 1.0, -1.0)
        return float(np.logaddexp(0.0, -sign * value / np.exp(log_temperature)).mean())

    bound = np.log(_LARGEST_TEMPERATURE)
    return float(np.exp(minimize_scalar(log_loss, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-8}).x))


def resampled_intercept(probability: NDArray, label: NDArray, counts: NDArray) -> NDArray:
    """Compute the calibration intercept: the shift of all logits that makes the mean probability right.

    Above 0 the model's probabilities are too low on average, below 0 they are too high. It is also called calibration
    in the large.

    Args:
        probability: Shape (n,).
        label: 0 or 1, shape (n,).
        counts: How often each row was drawn, shape (R, n).

    Returns:
        Shape (R,). NaN where a resample has no such shift.
    """
    positive, value = binary(label), finite_logit(probability)
    _need_both_classes(positive)
    shift = np.zeros(len(counts))
    for _ in range(_NEWTON_STEPS):
        fitted = expit(value + shift[:, None])
        gradient = (counts * (positive - fitted)).sum(axis=1)
        step = np.clip(np.nan_to_num(ratio(gradient, (counts * fitted * (1 - fitted)).sum(axis=1))), -4.0, 4.0)
        shift += step
        if np.abs(step).max(initial=0.0) < 1e-10:
            break
    return np.where(np.abs(step) < 1e-6, shift, np.nan)


def resampled_slope(probability: NDArray, label: NDArray, counts: NDArray) -> NDArray:
    """Compute the calibration slope: the slope of a logistic regression of the outcome on the logits.

    1 is right. Below 1 the probabilities are too extreme.

    Args:
        probability: Shape (n,).
        label: 0 or 1, shape (n,).
        counts: How often each row was drawn, shape (R, n).

    Returns:
        Shape (R,). NaN where the probabilities separate the classes perfectly, because then no slope exists.
    """
    return _recalibration(probability, label, counts)[1]


def _recalibration(probability: NDArray, label: NDArray, counts: NDArray) -> tuple[NDArray, NDArray]:
    """Fit the logistic regression of the outcome on the logits, in every resample, by Newton's method.

    The arguments are those of `resampled_slope`.

    Returns:
        Intercept (R,) and slope (R,); NaN where the classes are separated.

    Raises:
        UndefinedFigureError: If a class is missing, or all probabilities are equal.
    """
    positive, value = binary(label), finite_logit(probability)
    _need_both_classes(positive)
    centre, spread = value.mean(), value.std()
    if spread < 1e-9:
        raise UndefinedFigureError("all rows have the same probability, so they have no slope")
    x = (value - centre) / spread
    intercept, slope = np.zeros(len(counts)), np.zeros(len(counts))
    for _ in range(_NEWTON_STEPS):
        fitted = expit(intercept[:, None] + slope[:, None] * x)
        residual, weight = counts * (positive - fitted), counts * fitted * (1 - fitted)
        total, first, second = weight.sum(axis=1), weight @ x, weight @ x**2
        determinant = total * second - first**2
        gradient, gradient_x = residual.sum(axis=1), residual @ x
        step = np.nan_to_num(ratio(second * gradient - first * gradient_x, determinant))
        step_x = np.nan_to_num(ratio(total * gradient_x - first * gradient, determinant))
        intercept, slope = intercept + np.clip(step, -4, 4), slope + np.clip(step_x, -4, 4)
        largest = np.maximum(np.abs(step), np.abs(step_x))
        if largest.max(initial=0.0) < 1e-10:
            break
    # If the classes are separated, the coefficients grow by about one per step and never converge.
    converged = (largest < 1e-6) & (determinant > 1e-12)
    slope = np.where(converged, slope / spread, np.nan)
    return np.where(converged, intercept - slope * centre, np.nan), slope


def calibration_curve(probability: NDArray, label: NDArray) -> list[dict[str, Any]]:
    """Compute the mean predicted and the observed share in up to ten groups of about equal size.

    The aim is ten rows or more in a group. Equal probabilities stay together, so that a group can be smaller.

    The intervals are Wilson's and not the bootstrap's, because a group without a positive row would have a bootstrap
    interval of width zero.

    Args:
        probability: Shape (n,).
        label: 0 or 1, shape (n,).

    Returns:
        For each group a dict: "predicted" (mean probability), "observed" (share of positive rows), "observed_ci", "n".
        Empty with fewer than 20 rows.
    """
    positive = binary(label)
    number = min(10, len(positive) // 10)
    if number < 2:
        return []
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, number + 1)))
    group = np.searchsorted(edges[1:-1], probability, side="left")  # equal probabilities stay together
    points = []
    for members in (group == index for index in np.unique(group)):
        happened, n = int(positive[members].sum()), int(members.sum())
        interval = binomtest(happened, n).proportion_ci(LEVEL, method="wilson")
        points.append(
            {
                "predicted": float(probability[members].mean()),
                "observed": happened / n,
                "observed_ci": [float(interval.low), float(interval.high)],
                "n": n,
            }
        )
    return points


def recalibration_line(probability: NDArray, label: NDArray, grid: NDArray) -> NDArray | None:
    """Compute the share of positive rows that a logistic recalibration expects at each probability of `grid`.

    Args:
        probability: Shape (n,).
        label: 0 or 1, shape (n,).
        grid: Probabilities, shape (G,).

    Returns:
        Shape (G,). None if no recalibration can be fitted.
    """
    try:
        intercept, slope = _recalibration(probability, label, np.ones((1, len(probability))))
    except UndefinedFigureError:
        return None
    return None if np.isnan(slope[0]) else expit(intercept[0] + slope[0] * finite_logit(grid))


def resampled_net_benefit(probability: NDArray, label: NDArray, counts: NDArray) -> NDArray:
    """Compute the net benefit at `NET_BENEFIT_THRESHOLDS` (Vickers and Elkin, Med Decis Making 2006;26:565-574).

    It is (true positives - odds x false positives) / all rows, with the odds of the threshold, t / (1 - t).

    Args:
        probability: Shape (n,).
        label: 0 or 1, shape (n,).
        counts: How often each row was drawn, shape (R, n).

    Returns:
        Shape (R, T), for T thresholds.
    """
    positive = binary(label)
    decided = (probability[:, None] >= NET_BENEFIT_THRESHOLDS[None, :]).astype(np.float64)  # (n, T)
    odds = NET_BENEFIT_THRESHOLDS / (1 - NET_BENEFIT_THRESHOLDS)
    gain = (counts * positive) @ decided - odds * ((counts * ~positive) @ decided)
    return gain / counts.sum(axis=1, keepdims=True)


def decision_curve(probability: NDArray, label: NDArray, counts: NDArray) -> dict[str, Any] | None:
    """Compute the net benefit of acting on the model, with pointwise intervals, and of acting on all patients.

    The net benefit of acting on no patient is 0.

    Args:
        probability: Shape (n,).
        label: 0 or 1, shape (n,).
        counts: How often each row was drawn, shape (R, n).

    Returns:
        "threshold", "net_benefit", "net_benefit_ci" (lower bounds, upper bounds) and "act_on_all", lists of one length.
        None without rows.
    """
    if not len(probability):
        return None
    ones = np.ones((1, len(probability)))
    low, high = np.quantile(
        resampled_net_benefit(probability, label, counts), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0
    )
    return {
        "threshold": NET_BENEFIT_THRESHOLDS.tolist(),
        "net_benefit": resampled_net_benefit(probability, label, ones)[0].tolist(),
        "net_benefit_ci": [low.tolist(), high.tolist()],
        "act_on_all": resampled_net_benefit(np.ones(len(probability)), label, ones)[0].tolist(),
    }


def _need_both_classes(positive: NDArray) -> None:
    if positive.all() or not positive.any():
        raise UndefinedFigureError(
            f"calibration needs both classes: {int(positive.sum())} of {len(positive)} rows are positive"
        )
