"""Label ranking average precision of retrieval for `evaluate.load("metrics/lrap")`."""

from functools import partial

import datasets
import evaluate
import numpy as np

from tgmm_hf.evaluation.metrics import bootstrap_counts, estimate, resampled_mean

DESCRIPTION = """\
Mean of 1 / rank of the right candidate: label ranking average precision with one right answer a query. Ties count
against it, so equal scores for all candidates give the worst figure."""

INPUTS = """\
Args:
    predictions: scores of a query's candidates, equally many for every query.
    references: index of the right candidate of every query.
    bootstrap: resamples of queries for the 95 % percentile interval. seed: of the resampling.
Returns:
    lrap, lrap_ci [low, high]."""


class Lrap(evaluate.Metric):
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
        rank = (scores >= scores[np.arange(len(scores)), right][:, None]).sum(axis=1)
        counts = bootstrap_counts(np.arange(len(rank)), None, bootstrap, seed)
        return estimate(partial(resampled_mean, 1.0 / rank), counts).entry("lrap")
