"""Recall@k of retrieval for `evaluate.load("metrics/recall_at_k")`."""

from collections.abc import Sequence
from functools import partial

import datasets
import evaluate
import numpy as np

from tgmm_hf.evaluation.metrics import bootstrap_counts, estimate, resampled_mean

DESCRIPTION = "Share of queries whose right candidate is among the k best. Ties count against it."

INPUTS = """\
Args:
    predictions: scores of a query's candidates, equally many for every query.
    references: index of the right candidate of every query.
    ranks: the k, [1, 2] by default.
    bootstrap: resamples of queries for the 95 % percentile intervals. seed: of the resampling.
Returns:
    recall_<k>, recall_<k>_ci [low, high] for every k."""


class RecallAtK(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": datasets.List(datasets.Value("float64")), "references": datasets.Value("int64")}
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features(features),
        )

    def _compute(
        self, predictions: list, references: list, ranks: Sequence[int] = (1, 2), bootstrap: int = 1000, seed: int = 0
    ) -> dict:
        scores, right = np.asarray(predictions, dtype=np.float64), np.asarray(references)
        rank = (scores >= scores[np.arange(len(scores)), right][:, None]).sum(axis=1)
        counts = bootstrap_counts(np.arange(len(rank)), None, bootstrap, seed)
        result: dict = {}
        for k in ranks:
            result |= estimate(partial(resampled_mean, rank <= k), counts).entry(f"recall_{k}")
        return result
