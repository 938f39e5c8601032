"""Harrell's C-index as an `evaluate` module: `evaluate.load("metrics/c_index")`."""

from functools import partial

import datasets
import evaluate
import numpy as np

from tgmm_hf.evaluation.metrics import bootstrap_counts, estimate
from tgmm_hf.evaluation.survival import resampled_c_index

DESCRIPTION = """\
In comparable pairs of patients, how often the patient with the earlier event has the higher risk score (Harrell). Equal
scores count one half. A competing death is censored at death. Random scores reach 0.5."""

INPUTS = """\
Args:
    predictions: Risk scores. A higher score means an earlier event.
    references: [days, event] of each patient. The event is 0 (censored), 1 (the event) or 2 (death without the event).
    bootstrap: Number of resamples for the 95 % percentile interval, stratified by event.
    seed: Seed of the resamples.
Returns:
    c_index and c_index_ci [low, high]. Without a comparable pair they are None, and c_index_missing is the reason."""


class CIndex(evaluate.Metric):
    """Harrell's concordance index with its bootstrap interval."""

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
                f"references must be [days, event] of each patient, shape (n, 2), got shape {outcome.shape}."
            )
        time, event = outcome.T
        counts = bootstrap_counts(np.arange(len(risk)), event, bootstrap, seed)
        return estimate(partial(resampled_c_index, risk, time, event), counts).entry("c_index")
