"""The figures of a diagnosis under one modality subset."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tgmm_hf.evaluation.calibration import (
    OperatingPoint,
    calibration_curve,
    decision_curve,
    resampled_intercept,
    resampled_slope,
)
from tgmm_hf.evaluation.metrics import (
    Draws,
    estimate,
    estimate_share,
    resampled_auc,
    resampled_average_precision,
    resampled_mean,
)


def diagnosis_figures(rows: pd.DataFrame, draws: Draws, point: OperatingPoint) -> dict[str, Any]:
    """Compute discrimination, decisions at a threshold, calibration and net benefit of scored admissions.

    Args:
        rows: Admissions with a known label. Columns: label, positive, predicted, probability (of the last candidate).
        draws: Resamples from `bootstrap_draws`.
        point: Temperature and threshold that were chosen on validation patients.
    """
    probability, positive = rows["probability"].to_numpy(np.float64), rows["positive"].to_numpy(np.float64)
    prevalence = float(positive.mean()) if len(rows) else None
    entry: dict[str, Any] = {"positives": int(positive.sum()), "prevalence": prevalence}
    entry |= estimate(lambda drawn: resampled_auc(probability, positive, drawn), draws.by_outcome).entry("auc")
    precision = estimate(lambda drawn: resampled_average_precision(probability, positive, drawn), draws.free)
    entry |= precision.entry("auprc")
    right = (rows["predicted"] == rows["label"]).to_numpy()
    entry |= estimate_share(right, draws.free).entry("accuracy")
    entry["accuracy_of_majority"] = float(rows["label"].value_counts(normalize=True).max()) if len(rows) else None
    entry |= {"auc_chance": 0.5, "auprc_chance": prevalence}
    scaled = point.scaled(probability)
    entry |= {"temperature": point.temperature, "threshold": point.entry()}
    entry |= decision_figures(scaled >= point.threshold, positive, draws)
    entry |= estimate(lambda drawn: resampled_mean((scaled - positive) ** 2, drawn), draws.free).entry("brier")
    entry["brier_of_prevalence"] = None if prevalence is None else prevalence * (1 - prevalence)
    for name, figure in (("intercept", resampled_intercept), ("slope", resampled_slope)):
        entry |= estimate(partial(figure, scaled, positive), draws.free).entry(f"calibration_{name}")
    entry["calibration_curve"] = calibration_curve(scaled, positive) if len(rows) else []
    entry["decision_curve"] = decision_curve(scaled, positive, draws.free)
    return entry


def decision_figures(decided: NDArray, positive: NDArray, draws: Draws) -> dict[str, Any]:
    """Compute sensitivity, specificity and both predictive values of a yes-or-no decision, with intervals.

    Args:
        decided: Whether the decision is "positive", bool (n,).
        positive: Whether the admission is positive, 0 or 1, (n,).
        draws: Resamples from `bootstrap_draws`.
    """
    is_positive = positive == 1
    entry: dict[str, Any] = {}
    for name, right, among, counts in (
        ("sensitivity", decided, is_positive, draws.by_outcome),
        ("specificity", ~decided, ~is_positive, draws.by_outcome),
        ("ppv", is_positive, decided, draws.free),
        ("npv", ~is_positive, ~decided, draws.free),
    ):
        entry |= estimate_share(right[among], counts[:, among]).entry(name)
    return entry
