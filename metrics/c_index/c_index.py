"""Harrell's C-index for `evaluate.load("metrics/c_index")`."""

from functools import partial

import datasets
import evaluate
import numpy as np

from tgmm_hf.evaluation.metrics import bootstrap_counts, estimate
from tgmm_hf.evaluation.survival import resampled_c_index

DESCRIPTION = """\
Among comparable patients, how often the one with the earlier event has the higher risk score (Harrell). Equal scores
count one half; a competing death is censored at death. Chance is 0.5."""

INPUTS = """\
Args:
    predictions: risk scores, higher = earlier event.
    references: [days, event] of each patient; event is 0 (censored), 1 (the event) or 2 (death without it).
    bootstrap: resamples of patients for the 95 % percentile interval, stratified by event.
    seed: of the resampling.
Returns:
    c_index, c_index_ci [low, high]; None with c_index_missing, the reason, where there is no comparable pair."""


class CIndex(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": datasets.Value("float64"), "references": datasets.List(datasets.Value("float64"))}
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="Harrell FE et al., Evaluating the yield of medical tests. JAMA 1982;247:2543-2546.",
            inputs_description=INPUTS,
            features=datasets.Features(features),
        )

    def _compute(self, predictions: list, references: list, bootstrap: int = 1000, seed: int = 0) -> dict:
        risk, outcome = np.asarray(predictions, dtype=np.float64), np.asarray(references, dtype=np.float64)
        if outcome.ndim != 2 or outcome.shape[1] != 2:
            raise ValueError(
                f"references must be [days, event] of each patient, got an array of shape {outcome.shape}."
            )
        time, event = outcome.T
        counts = bootstrap_counts(np.arange(len(risk)), event, bootstrap, seed)
        return estimate(partial(resampled_c_index, risk, time, event), counts).entry("c_index")
