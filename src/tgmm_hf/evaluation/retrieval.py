"""Cross-modal retrieval: find a patient's own record of another modality among candidates.

The number of candidates (one right, the rest of other patients) is not stated in the paper; 3, 4 and the full gallery
are reported. With few candidates the figure is the exact expectation over all ways to draw the negatives, not a
simulation: if b of the N possible negatives score at or above the right one (ties count against the model), the number
among m drawn negatives is hypergeometric(N, b, m).
"""

from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from tgmm_hf.evaluation.metrics import Estimate, UndefinedFigureError, bootstrap_counts, estimate, resampled_mean

DIRECTIONS = tuple(
    (query, target) for query in ("labs", "ecg", "echo") for target in ("labs", "ecg", "echo") if query != target
)
CANDIDATES: tuple[int | None, ...] = (3, 4, None)  # None: the full gallery

CHANCE_DRAWS = 10_000
"""Simulated rankings by lot, whatever the number of bootstrap resamples: what is above chance must not hang on that."""


def beaten_by(similarity: NDArray, patients: NDArray) -> tuple[NDArray, NDArray]:
    """How many negatives score at or above the right candidate, and how many negatives there are.

    Args:
        similarity: (n, n), row = query, column = gallery; the right candidate of query i is column i.
        patients: patient id per row, shape (n,). Other records of the same patient are neither right nor wrong: left
            out.

    Returns:
        ahead (n,) and negatives (n,), integers.
    """
    if not np.isfinite(similarity).all():
        raise ValueError(
            f"{int((~np.isfinite(similarity)).sum())} of {similarity.size} similarities are not finite: "
            "the model diverged or the input is broken"
        )
    others = patients[:, None] != patients[None, :]
    ahead = ((similarity >= np.diagonal(similarity)[:, None]) & others).sum(axis=1)
    return ahead, others.sum(axis=1)


def expected_scores(ahead: NDArray, negatives: NDArray, candidates: int | None) -> dict[str, NDArray]:
    """Expected LRAP, Recall@1 and Recall@2 of every query.

    With one right answer at rank k, label ranking average precision is 1 / k and Recall@r is 1 if k <= r.

    Args:
        ahead: (n,) negatives at or above the right one. negatives: (n,) negatives to draw from.
        candidates: 3, 4, ... including the right one; None takes all.

    Returns:
        ``{"lrap": (n,), "recall_1": (n,), "recall_2": (n,)}``.

    Raises:
        UndefinedFigureError: if a query has fewer negatives than are to be drawn.
    """
    if candidates is None:
        return {"lrap": 1.0 / (1 + ahead), "recall_1": (ahead < 1).astype(float), "recall_2": (ahead < 2).astype(float)}
    drawn = candidates - 1
    if negatives.min() < drawn:
        raise UndefinedFigureError(
            f"{candidates} candidates need {drawn} records of other patients, there are {int(negatives.min())}"
        )
    outrank = np.arange(drawn + 1)
    chances = hypergeom.pmf(outrank[None, :], negatives[:, None], ahead[:, None], drawn)  # (n, drawn + 1)
    return {"lrap": chances @ (1.0 / (1 + outrank)), "recall_1": chances[:, 0], "recall_2": chances[:, :2].sum(axis=1)}


def chance_level(figure: str, candidates: int) -> float:
    """Expected figure of a ranking by lot among `candidates`: harmonic mean rank, or r / candidates."""
    if figure == "lrap":
        return float((1.0 / np.arange(1, candidates + 1)).mean())
    return min(1.0, int(figure.removeprefix("recall_")) / candidates)


def evaluate_direction(
    query: NDArray, gallery: NDArray, patients: NDArray, *, seed: int, replicates: int
) -> dict[str, Any]:
    """All retrieval figures of one direction, with intervals over queries and chance levels.

    Args:
        query: L2-normalised embeddings (n, D). gallery: (n, D), row i belongs to query i. patients: (n,).

    Returns:
        For each figure in lrap, recall_1, recall_2 and each of 3, 4, full: value, ``_ci``, ``_chance``; for LRAP also
        ``_chance_ci``, the central 95 % of what ranking by lot reaches with as many queries. Missing figures are None
        with a reason.
    """
    result: dict[str, Any] = {"n": len(query), "patients": len(np.unique(patients))}
    similarity = query.astype(np.float64) @ gallery.astype(np.float64).T
    ahead, negatives = beaten_by(similarity, patients)
    counts = bootstrap_counts(patients, None, replicates, seed)
    for candidates in CANDIDATES:
        suffix = "full" if candidates is None else str(candidates)
        try:
            if len(np.unique(patients)) < 2:
                raise UndefinedFigureError(
                    f"a gallery needs two patients with both modalities, there are {len(np.unique(patients))}"
                )
            scores = expected_scores(ahead, negatives, candidates)
        except UndefinedFigureError as error:
            for figure in ("lrap", "recall_1", "recall_2"):
                result |= Estimate(None, None, str(error)).entry(f"{figure}_{suffix}")
            continue
        for figure, values in scores.items():
            result |= estimate(partial(resampled_mean, values), counts).entry(f"{figure}_{suffix}")
            result[f"{figure}_{suffix}_chance"] = chance_level(figure, candidates or len(query))
        low, high = _chance_interval(tuple(negatives.tolist()), candidates)
        result[f"lrap_{suffix}_chance_ci"] = [low, high]
    return result


@lru_cache(maxsize=16)
def _chance_interval(negatives: tuple[int, ...], candidates: int | None) -> tuple[float, float]:
    """Central 95 % of the mean LRAP when every query's right record takes a random rank, independently.

    Pairing the embeddings at random would give a narrower range (all ranks of a gallery are used once), zero for an
    encoder that has collapsed: then any rounding would count as above chance.
    """
    of_query = np.array(negatives)
    possible, which = np.unique(of_query, return_inverse=True)  # one number, where every patient has one record
    by_rank = np.zeros((len(possible), possible.max() + 1))
    for row, count in enumerate(possible):
        by_rank[row, : count + 1] = expected_scores(np.arange(count + 1), np.full(count + 1, count), candidates)["lrap"]
    generator, at_once = np.random.default_rng(0), 100
    means = []
    for _ in range(CHANCE_DRAWS // at_once):
        ranks = (generator.random((at_once, len(of_query))) * (of_query + 1)).astype(np.int64)
        means.append(by_rank[which, ranks].mean(axis=1))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
