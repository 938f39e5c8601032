"""Recall@k of retrieval as an `evaluate` module: `evaluate.load("metrics/recall_at_k")`."""

from collections.abc import Sequence
from functools import partial

import datasets
import evaluate
import numpy as np

from tgmm_hf.evaluation.metrics import bootstrap_counts, estimate, resampled_mean

DESCRIPTION = """\
Share of queries whose right candidate is among the k best. Equal scores count against the right candidate."""

INPUTS = """\
Args:
    predictions: Scores of the candidates of every query. All queries have the same number of candidates.
    references: Index of the right candidate of every query.
    ranks: The values of k, [1, 2] by default.
    bootstrap: Number of resamples of queries for the 95 % percentile intervals.
    seed: Seed of the resamples.
Returns:
    recall_<k> and recall_<k>_ci [low, high] for every k."""


class RecallAtK(evaluate.Metric):
    """Recall at several ranks with bootstrap intervals."""

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
        if not np.isfinite(scores).all():
            raise ValueError("predictions hold scores that are not finite. Such a query has no ranking: leave it out.")
        rank = (scores >= scores[np.arange(len(scores)), right][:, None]).sum(axis=1)
        counts = bootstrap_counts(np.arange(len(rank)), None, bootstrap, seed)
        result: dict = {}
        for k in ranks:
            result |= estimate(partial(resampled_mean, rank <= k), counts).entry(f"recall_{k}")
        return result
