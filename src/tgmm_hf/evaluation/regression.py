"""The figures of a regression under one modality subset: errors, agreement (Bland-Altman), cut points, intervals."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tgmm_hf.configuration_measured_tasks import TRAINING_VALUES_KEY
from tgmm_hf.evaluation.metrics import (
    Draws,
    Estimate,
    UndefinedFigureError,
    estimate,
    ratio,
    resampled_auc,
    resampled_mean,
)
from tgmm_hf.evaluation.prediction_intervals import interval_figures

LIMITS = 1.96
"""Deviations of the differences between the bias and a limit of agreement (Bland and Altman, Lancet 1986;1:307)."""


def regression_figures(rows: pd.DataFrame, draws: Draws, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Compute the figures of scored admissions.

    Args:
        rows: Admissions with a known value. Columns: value (of the model), measured; deviation where there is one.
        draws: Resamples from `bootstrap_draws`.
        settings: The task's settings. The controls are the mean and the median of the training patients.

    Returns:
        Entry of metrics.json: "unit", "out_of_range" (number of answers outside the range of the task), "mae", "rmse",
        "r2", "bias" (model minus measured), "limit_low" and "limit_high" (of agreement), "mae_of_mean", "mae_of_median"
        and "mae_minus_mae_of_median" with their intervals, "cut_points" (value -> "auc" of telling who is below it and
        "n_below") and "prediction_intervals" if the model stores some.
    """
    value, measured = (rows[name].to_numpy(np.float64) for name in ("value", "measured"))
    error, (low, high) = value - measured, settings["range"]
    entry: dict[str, Any] = {"unit": settings["unit"], "range": [low, high]}
    entry["out_of_range"] = int(((value < low) | (value > high)).sum())
    figures: dict[str, Callable[[NDArray], NDArray]] = {
        "mae": partial(resampled_mean, np.abs(error)),
        "rmse": lambda counts: np.sqrt(resampled_mean(error**2, counts)),
        "r2": partial(resampled_r2, value, measured),
        "bias": partial(resampled_mean, error),
        "limit_low": lambda counts: resampled_mean(error, counts) - LIMITS * resampled_deviation(error, counts),
        "limit_high": lambda counts: resampled_mean(error, counts) + LIMITS * resampled_deviation(error, counts),
    }
    for name, figure in figures.items():
        entry |= estimate(figure, draws.free).entry(name)
    entry |= _controls(error, measured, draws.free, settings.get(TRAINING_VALUES_KEY))
    entry["cut_points"] = {f"{cut:g}": _cut_point(value, measured, cut, draws) for cut in settings["cut_points"]}
    return entry | interval_figures(rows, draws, settings)


def resampled_r2(value: NDArray, measured: NDArray, counts: NDArray) -> NDArray:
    """Compute the coefficient of determination of every resample: counts (R, n) -> (R,).

    It is one minus the squared errors over those of the mean of the resample: 1 is perfect, 0 is no better than a
    constant, below 0 is worse.

    Raises:
        UndefinedFigureError: If fewer than two different values were measured.
    """
    if len(np.unique(measured)) < 2:
        raise UndefinedFigureError(f"R2 needs two different measured values, there are {len(np.unique(measured))}")
    spread = resampled_deviation(measured, counts) ** 2 * (counts.sum(axis=1) - 1)
    return 1 - ratio(counts @ (value - measured) ** 2, spread)


def resampled_deviation(values: NDArray, counts: NDArray) -> NDArray:
    """Compute the standard deviation (n - 1) of every resample: counts (R, n) -> (R,). NaN for fewer than two rows."""
    mean, number = resampled_mean(values, counts), counts.sum(axis=1)
    # Around one fixed centre first, because the difference of two large squares would lose digits.
    center = float(values.mean())
    squares = counts @ (values - center) ** 2 - number * (mean - center) ** 2
    return np.sqrt(np.maximum(ratio(squares, number - 1), 0.0))


def _controls(error: NDArray, measured: NDArray, counts: NDArray, training: Mapping[str, Any] | None) -> dict[str, Any]:
    """Compute the mean absolute error of giving everybody the training mean, or the training median."""
    if training is None:
        missing = Estimate(None, None, "the model stores no values of its training patients")
        names = ("mae_of_mean", "mae_of_median", "mae_minus_mae_of_median")
        return {key: part for name in names for key, part in missing.entry(name).items()}
    entry: dict[str, Any] = {}
    for name in ("mean", "median"):
        constant = np.abs(measured - training[name])
        entry |= estimate(partial(resampled_mean, constant), counts).entry(f"mae_of_{name}")
    gain = np.abs(error) - np.abs(measured - training["median"])
    return entry | estimate(partial(resampled_mean, gain), counts).entry("mae_minus_mae_of_median")


def _cut_point(value: NDArray, measured: NDArray, cut: float, draws: Draws) -> dict[str, Any]:
    """Compute how well the value of the model tells who was measured below a cut point: {"n_below", "auc", ...}."""
    below = (measured < cut).astype(np.float64)
    entry: dict[str, Any] = {"n_below": int(below.sum())}
    return entry | estimate(partial(resampled_auc, -value, below), draws.free).entry("auc")
