"""Retrieval between X-rays, ECGs and notes: the rank of the right patient among all candidates.

A query is an input of one kind, a candidate an input of another kind. A candidate of the same patient is right,
from any study. The rank is 1 + the number of wrong candidates that score at or above the best right candidate
(equal scores count against the model). Where a note is query or candidate, candidates of other patients with an equal
note are neither right nor wrong, because no model can tell them apart.

Notation in shape comments: n queries, m candidates, R bootstrap resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from tgmm_hf.evaluation.metrics import Estimate, bootstrap_counts, estimate, resampled_mean
from tgmm_hf.evaluation.report_controls import MODEL, exchanged_ecgs

KINDS = ("text", "xray", "ecg")
"""What a query or a candidate may be."""
DIRECTIONS = tuple((query, target) for query in KINDS for target in KINDS if query != target)
"""The six pairs of the kind of a query and of its candidates."""
SHUFFLED = "shuffled"
"""Control in which the queries, or the scores, are exchanged among patients."""
RANKS = (1, 5, 10)
"""Recall is the share of queries whose rank is at most this."""


@dataclass(frozen=True)
class Inputs:
    """The encoded inputs of one kind.

    Attributes:
        vectors: (n, p), of length one.
        patients: Patient of each input, (n,).
        notes: Texts of the notes that go with each input, n sets.
    """

    vectors: NDArray
    patients: NDArray
    notes: Sequence[set[str]]


class Ranking(NamedTuple):
    """The ranks of all queries of one direction.

    Attributes:
        queries: Numbers of the queries that have a right and a wrong candidate, (n,).
        rank: Rank of the best right candidate, (n,).
        right: Number of right candidates, (n,).
        wrong: Number of wrong candidates, (n,).
    """

    queries: NDArray
    rank: NDArray
    right: NDArray
    wrong: NDArray


def rank_right(queries: Inputs, targets: Inputs, similarity: NDArray, *, equal_notes: bool) -> Ranking:
    """Rank the candidates of every query.

    Args:
        queries: The queries.
        targets: The candidates.
        similarity: (n, m).
        equal_notes: Leave out candidates of other patients with an equal note.

    Raises:
        ValueError: If a similarity is not finite.
    """
    if not np.isfinite(similarity).all():
        raise ValueError(
            f"{int((~np.isfinite(similarity)).sum())} of {similarity.size} similarities are not finite. The model "
            "diverged: look at the training losses."
        )
    is_right = queries.patients[:, None] == targets.patients
    is_wrong = ~is_right
    if equal_notes:
        is_wrong &= ~_share_a_note(queries.notes, targets.notes)
    kept = np.flatnonzero(is_right.any(1) & is_wrong.any(1))
    is_right, is_wrong, similarity = is_right[kept], is_wrong[kept], similarity[kept]
    best = np.where(is_right, similarity, -np.inf).max(1, initial=-np.inf)
    ahead = ((similarity >= best[:, None]) & is_wrong).sum(1)
    return Ranking(kept, 1 + ahead, is_right.sum(1), is_wrong.sum(1))


def _share_a_note(queries: Sequence[set[str]], targets: Sequence[set[str]]) -> NDArray:
    """Tell which queries and candidates have a note in common, (n, m) bool."""
    with_note: dict[str, list[int]] = {}
    for place, texts in enumerate(targets):
        for text in texts:
            with_note.setdefault(text, []).append(place)
    shared = np.zeros((len(queries), len(targets)), dtype=bool)
    for row, texts in enumerate(queries):
        for text in texts:
            shared[row, with_note.get(text, [])] = True
    return shared


def evaluate_note_direction(
    queries: Inputs, targets: Inputs, *, equal_notes: bool, seed: int, replicates: int
) -> dict[str, Any]:
    """Compute the retrieval figures of one direction, of the model and of queries that were exchanged among patients.

    Args:
        queries: The queries.
        targets: The candidates.
        equal_notes: See `rank_right`.
        seed: Seed of the bootstrap and of the exchange.
        replicates: Number of resamples of patients.

    Returns:
        "n" queries, their "patients", "candidates", "systems": name -> recall_1, recall_5, recall_10 and median_rank
        with intervals, and "chance": the same figures of a random order. Without queries "missing" says why.
    """
    similarity = queries.vectors.astype(np.float64) @ targets.vectors.astype(np.float64).T
    ranking = rank_right(queries, targets, similarity, equal_notes=equal_notes)
    patients = queries.patients[ranking.queries]
    result: dict[str, Any] = {"n": len(patients), "patients": len(set(patients)), "candidates": len(targets.patients)}
    if result["patients"] < 2:
        reason = f"retrieval needs two patients with both kinds, there are {result['patients']}"
        return {**result, "systems": {}, "chance": {}, "missing": reason}
    counts = bootstrap_counts(patients, None, replicates, seed)
    exchanged = np.arange(len(queries.patients))
    partners = exchanged_ecgs(list(patients), np.random.default_rng(seed))
    exchanged[ranking.queries] = ranking.queries[partners]
    shuffled = rank_right(queries, targets, similarity[exchanged], equal_notes=equal_notes)
    result["systems"] = {MODEL: rank_figures(ranking.rank, counts), SHUFFLED: rank_figures(shuffled.rank, counts)}
    return {**result, "chance": chance_figures(ranking.right, ranking.wrong)}


def rank_figures(rank: NDArray, counts: NDArray) -> dict[str, Any]:
    """Compute recall and median rank with their intervals.

    Args:
        rank: Rank of each query, (n,).
        counts: Resamples of the queries by patient, (R, n).
    """
    entry: dict[str, Any] = {}
    for limit in RANKS:
        entry |= estimate(partial(resampled_mean, rank <= limit), counts).entry(f"recall_{limit}")
    median: Estimate = estimate(partial(resampled_median, rank), counts)
    return entry | median.entry("median_rank")


def resampled_median(value: NDArray, counts: NDArray) -> NDArray:
    """Compute the lower median of `value` (n,) in every resample: counts (R, n) -> (R,)."""
    order = np.argsort(value, kind="stable")
    drawn = np.cumsum(counts[:, order], axis=1)
    place = (drawn * 2 >= drawn[:, -1:]).argmax(1)
    return value[order][place].astype(np.float64)


def chance_figures(right: NDArray, wrong: NDArray) -> dict[str, float]:
    """Compute the expected figures of a random order of the candidates.

    Args:
        right: Number of right candidates of each query, (n,).
        wrong: Number of wrong candidates, (n,).

    Returns:
        Expected recalls, and the median of the rank over queries and orders.
    """
    low, high = 1, int(wrong.max()) + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if chance_recall(right, wrong, middle) > 0.5 - 1e-9 else (middle + 1, high)
    return {**{f"recall_{limit}": chance_recall(right, wrong, limit) for limit in RANKS}, "median_rank": float(low)}


def chance_recall(right: NDArray, wrong: NDArray, limit: int) -> float:
    """Compute the chance that a right candidate is among the first `limit` of a random order, mean over queries."""
    none_right = hypergeom.pmf(0, right + wrong, right, np.minimum(limit, right + wrong))
    return float(1 - np.mean(none_right))


def directions_of(inputs: dict[str, Inputs]) -> Sequence[tuple[str, str]]:
    """List the directions whose two kinds are there."""
    return [pair for pair in DIRECTIONS if all(len(inputs[kind].patients) for kind in pair)]
