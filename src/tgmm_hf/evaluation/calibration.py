"""Are the probabilities right, and what follows from acting on them: calibration, temperature, thresholds, net benefit.

Probabilities are those of the task's last candidate ("heart failure"). Temperature and threshold are chosen on
validation patients, one pair a modality combination, never on the patients that are scored.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from scipy.stats import binomtest

from tgmm_hf.evaluation.metrics import LEVEL, UndefinedFigureError, binary, ratio

SMALLEST_CLASS = 10
"""Validation patients of either class below which no threshold and no temperature is fitted."""

NET_BENEFIT_THRESHOLDS = np.linspace(0.02, 0.98, 49)

# float32 softmax may give exactly 0 or 1, whose logit is infinite.
_SMALLEST_PROBABILITY = 1e-6
_LARGEST_TEMPERATURE = 1e4
_NEWTON_STEPS = 30


@dataclass(frozen=True)
class OperatingPoint:
    """How probabilities become a decision: positive if ``scaled(probability, temperature) >= threshold``.

    Attributes:
        threshold: of the scaled probability.
        rule: how it was chosen.
        chosen_on: on whom, with numbers; or why it could not be chosen on anybody.
        temperature: None where probabilities are left as the model gives them.
    """

    threshold: float = 0.5
    rule: str = "0.5"
    chosen_on: str = "nobody"
    temperature: float | None = None

    def scaled(self, probability: NDArray) -> NDArray:
        return probability if self.temperature is None else scaled(probability, self.temperature)

    def entry(self) -> dict[str, Any]:
        return {
            "value": self.threshold,
            "of_model": self.of_model(),
            "rule": self.rule,
            "chosen_on": self.chosen_on,
        }

    def of_model(self) -> float:
        """The threshold of the model's own probability, which `tgmm predict` gives: who reaches it, reaches
        `threshold` once scaled."""
        return self.threshold if self.temperature is None else float(expit(self.temperature * logit(self.threshold)))


def choose_operating_point(
    probability: NDArray, positive: NDArray, *, sensitivity: float | None = None, temperature: bool = False
) -> OperatingPoint:
    """Threshold, and temperature if wanted, of one modality combination.

    The default rule is Youden's index: it states no use, so it favours neither side. Who has a use in mind states the
    sensitivity that it needs.

    Args:
        probability: of the validation patients, shape (n,). positive: 0 or 1, shape (n,).
        sensitivity: the highest threshold that reaches it; None for Youden's index.
        temperature: whether to scale probabilities.
    """
    label = binary(positive)
    rare = int(min(label.sum(), (~label).sum()))
    if rare < SMALLEST_CLASS:
        reason = f"nobody: the validation split has {rare} patients in the smaller class, {SMALLEST_CLASS} are needed"
        return OperatingPoint(chosen_on=reason)
    fitted = fit_temperature(probability, label) if temperature else None
    point = OperatingPoint(temperature=fitted)
    values = point.scaled(probability)
    _, reached, specificity = _rates_by_threshold(values, label)
    if (reached + specificity).max() <= 1 + 1e-12:
        reason = "nobody: on the validation split no threshold does better than chance"
        return OperatingPoint(chosen_on=reason, temperature=fitted)
    if sensitivity is None:
        threshold, rule = youden_threshold(values, label), "Youden's index"
    else:
        threshold, rule = sensitivity_threshold(values, label, sensitivity), f"sensitivity of at least {sensitivity:g}"
    return OperatingPoint(threshold, rule, f"validation split, n = {len(label)}, {int(label.sum())} positive", fitted)


def youden_threshold(probability: NDArray, positive: NDArray) -> float:
    """Where sensitivity + specificity is largest; of several the lowest, which misses fewer. Halfway between two
    probabilities, so that a rounding error moves nobody across."""
    thresholds, sensitivity, specificity = _rates_by_threshold(probability, positive)
    return float(thresholds[np.argmax(np.round(sensitivity + specificity, 12))])


def sensitivity_threshold(probability: NDArray, positive: NDArray, sensitivity: float) -> float:
    """The highest threshold whose sensitivity is at least the one wanted."""
    if not 0 < sensitivity <= 1:
        raise ValueError(f"a sensitivity lies above 0 and up to 1, got {sensitivity}")
    thresholds, reached, _ = _rates_by_threshold(probability, positive)
    return float(thresholds[np.flatnonzero(reached >= sensitivity - 1e-12)[-1]])


def _rates_by_threshold(probability: NDArray, positive: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Rising thresholds from 0 (everybody is positive), with sensitivity and specificity at each."""
    values = np.unique(probability)
    thresholds = np.r_[0.0, (values[:-1] + values[1:]) / 2]
    named = probability[None, :] >= thresholds[:, None]
    return thresholds, named[:, positive].mean(axis=1), (~named[:, ~positive]).mean(axis=1)


def fit_temperature(probability: NDArray, positive: NDArray) -> float:
    """Temperature with the least log loss, between 1/10,000 and 10,000 (Guo et al. 2017).

    With more than two candidates it is the temperature of the last one against the rest, whose probability is all
    that is reported.
    """
    label, value = binary(positive), _logit(probability)

    def log_loss(log_temperature: float) -> float:
        sign = np.where(label, 1.0, -1.0)
        return float(np.logaddexp(0.0, -sign * value / np.exp(log_temperature)).mean())

    bound = np.log(_LARGEST_TEMPERATURE)
    return float(np.exp(minimize_scalar(log_loss, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-8}).x))


def scaled(probability: NDArray, temperature: float) -> NDArray:
    """Probabilities whose logits are divided by the temperature; ranks stay."""
    return expit(_logit(probability) / temperature)


def resampled_intercept(probability: NDArray, label: NDArray, counts: NDArray) -> NDArray:
    """Calibration in the large, shape (R,): the shift of all logits that makes the mean prediction right.

    Above 0 the model's probabilities are too low on the whole, below 0 too high.
    """
    positive, value = binary(label), _logit(probability)
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
    """Slope of the logistic regression of the outcome on the logits, shape (R,). 1 is right, below 1 the
    probabilities are too extreme. NaN where a resample separates the classes perfectly, so that no slope exists."""
    return _recalibration(probability, label, counts)[1]


def _recalibration(probability: NDArray, label: NDArray, counts: NDArray) -> tuple[NDArray, NDArray]:
    """Intercept and slope (R,) of the logistic regression of the outcome on the logits, by Newton's method."""
    positive, value = binary(label), _logit(probability)
    _need_both_classes(positive)
    centre, spread = value.mean(), value.std()
    if spread < 1e-9:
        raise UndefinedFigureError("all rows have the same probability: no slope can be read from that")
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
    # Under separation the coefficients grow for ever by about one a step.
    converged = (largest < 1e-6) & (determinant > 1e-12)
    slope = np.where(converged, slope / spread, np.nan)
    return np.where(converged, intercept - slope * centre, np.nan), slope


def calibration_curve(probability: NDArray, label: NDArray) -> list[dict[str, Any]]:
    """Mean predicted and observed share in up to ten groups of equal size (at least ten rows), with Wilson intervals.

    Wilson's, not the bootstrap's: a group without a positive would have an interval of no width.
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
    """Observed share that the logistic recalibration gives at each predicted one in `grid`; None where undefined."""
    try:
        intercept, slope = _recalibration(probability, label, np.ones((1, len(probability))))
    except UndefinedFigureError:
        return None
    return None if np.isnan(slope[0]) else expit(intercept[0] + slope[0] * _logit(grid))


def resampled_net_benefit(probability: NDArray, label: NDArray, counts: NDArray) -> NDArray:
    """Net benefit at `NET_BENEFIT_THRESHOLDS` (Vickers and Elkin 2006), shape (R, T).

    True positives less false positives, a false one weighted by the odds of the threshold, as a share of all rows.
    """
    positive = binary(label)
    named = (probability[:, None] >= NET_BENEFIT_THRESHOLDS[None, :]).astype(np.float64)  # (n, T)
    odds = NET_BENEFIT_THRESHOLDS / (1 - NET_BENEFIT_THRESHOLDS)
    gain = (counts * positive) @ named - odds * ((counts * ~positive) @ named)
    return gain / counts.sum(axis=1, keepdims=True)


def decision_curve(probability: NDArray, label: NDArray, counts: NDArray) -> dict[str, Any] | None:
    """Net benefit of acting on the model, with pointwise intervals, and of acting on everybody. On nobody: 0.

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


def _logit(probability: NDArray) -> NDArray:
    return logit(np.clip(probability, _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY))


def _need_both_classes(positive: NDArray) -> None:
    if positive.all() or not positive.any():
        raise UndefinedFigureError(
            f"calibration needs both classes: {int(positive.sum())} of {len(positive)} rows are positive"
        )
