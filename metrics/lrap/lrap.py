"""Label ranking average precision of retrieval as an `evaluate` module: `evaluate.load("metrics/lrap")`."""

from functools import partial

import datasets
import evaluate
import numpy as np

from tgmm_hf.evaluation.metrics import bootstrap_counts, estimate, resampled_mean

DESCRIPTION = """\
Mean of 1 / rank of the right candidate: label ranking average precision with one right candidate per query. Equal
scores count against the right candidate, so equal scores for all candidates give the worst figure."""

INPUTS = """\
Args:
    predictions: Scores of the candidates of every query. All queries have the same number of candidates.
    references: Index of the right candidate of every query.
    bootstrap: Number of resamples of queries for the 95 % percentile interval.
    seed: Seed of the resamples.
Returns:
    lrap and lrap_ci [low, high]."""


class Lrap(evaluate.Metric):
    """Label ranking average precision with its bootstrap interval."""

    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": datasets.List(datasets.Value("float64")), "references": datasets.Value("int64")}
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="Tsoumakas G et al., Mining multi-label data. 2009.",
            inputs_description=INPUTS,
            features=datasets.Features(features),
        )

    def _compute(self, predictions: list, references: list, bootstrap: int = 1000, seed: int = 0) -> dict:
        scores, right = np.asarray(predictions, dtype=np.float64), np.asarray(references)
        if not np.isfinite(scores).all():
            raise ValueError("predictions hold scores that are not finite. Such a query has no ranking: leave it out.")
        rank = (scores >= scores[np.arange(len(scores)), right][:, None]).sum(axis=1)
        counts = bootstrap_counts(np.arange(len(rank)), None, bootstrap, seed)
        return estimate(partial(resampled_mean, 1.0 / rank), counts).entry("lrap")
