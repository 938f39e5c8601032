"""Cross-modal retrieval: find the same patient's input of another modality among candidates.

A query is the embedding of one modality of a patient. A candidate is an embedding of another modality. The right
candidate is of the same patient. A negative is a candidate of another patient. The gallery is the set of all
candidates. The paper does not state how many candidates a query is compared with. Therefore figures are reported for 3
candidates, for 4 candidates and for the full gallery.

With 3 or 4 candidates the figure is the exact expectation over all ways to draw the negatives, not a simulation. Let b
of the N possible negatives score at or above the right candidate (equal scores count against the model). Then the
number of such negatives among m drawn negatives has the hypergeometric distribution (N, b, m). No library has this, so
the code is our own. The tests compare the full gallery with scikit-learn.
"""

from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from tgmm_hf.evaluation.metrics import Estimate, UndefinedFigureError, bootstrap_counts, estimate, resampled_mean
from tgmm_hf.utils.names import MODALITIES

DIRECTIONS = tuple((query, target) for query in MODALITIES for target in MODALITIES if query != target)
"""The six pairs of a query's modality and its candidates' modality."""
CANDIDATES: tuple[int | None, ...] = (3, 4, None)
"""Numbers of candidates that figures are reported for. None: the full gallery."""

CHANCE_DRAWS = 10_000
"""Number of simulated random rankings. It is fixed, so that the chance level does not depend on `--bootstrap`."""


def beaten_by(similarity: NDArray, patients: NDArray) -> tuple[NDArray, NDArray]:
    """Count, for each query, the negatives that score at or above the right candidate, and all negatives.

    Args:
        similarity: Shape (n, n). A row is a query, a column a candidate. The right candidate of query i is column i.
        patients: Patient id of each row, shape (n,). Other rows of the query's own patient are not counted,
            because they are neither right nor wrong.

    Returns:
        Number of negatives at or above the right candidate (n,), and number of all negatives (n,).

    Raises:
        ValueError: If a similarity is not finite.
    """
    if not np.isfinite(similarity).all():
        raise ValueError(
            f"{int((~np.isfinite(similarity)).sum())} of {similarity.size} similarities are not finite. The model "
            "diverged or an input is broken: look at the training losses, then at these patients' inputs."
        )
    is_negative = patients[:, None] != patients[None, :]
    ahead = ((similarity >= np.diagonal(similarity)[:, None]) & is_negative).sum(axis=1)
    return ahead, is_negative.sum(axis=1)


def expected_scores(ahead: NDArray, negatives: NDArray, candidates: int | None) -> dict[str, NDArray]:
    """Compute the expected LRAP, Recall@1 and Recall@2 of every query.

    If the right candidate has rank k, the label ranking average precision is 1 / k, and Recall@r is 1 if k <= r.

    Args:
        ahead: Number of negatives at or above the right candidate, shape (n,).
        negatives: Number of all negatives, shape (n,).
        candidates: Number of candidates of a query, the right one included, such as 3. None takes the full gallery.

    Returns:
        `lrap`, `recall_1` and `recall_2`, each of shape (n,).

    Raises:
        UndefinedFigureError: If a query has fewer than `candidates` - 1 negatives.
    """
    if candidates is None:
        return {"lrap": 1.0 / (1 + ahead), "recall_1": (ahead < 1).astype(float), "recall_2": (ahead < 2).astype(float)}
    drawn = candidates - 1
    if negatives.min() < drawn:
        raise UndefinedFigureError(
            f"{candidates} candidates need {drawn} admissions of other patients, there are {int(negatives.min())}"
        )
    outrank = np.arange(drawn + 1)
    chances = hypergeom.pmf(outrank[None, :], negatives[:, None], ahead[:, None], drawn)  # (n, drawn + 1)
    return {"lrap": chances @ (1.0 / (1 + outrank)), "recall_1": chances[:, 0], "recall_2": chances[:, :2].sum(axis=1)}


def chance_level(figure: str, candidates: int) -> float:
    """Compute the expected figure of a random ranking.

    Args:
        figure: "lrap", "recall_1" or "recall_2".
        candidates: Number of candidates of a query, the right one included.
    """
    if figure == "lrap":
        return float((1.0 / np.arange(1, candidates + 1)).mean())
    return min(1.0, int(figure.removeprefix("recall_")) / candidates)


def evaluate_direction(
    query: NDArray, gallery: NDArray, patients: NDArray, *, seed: int, replicates: int
) -> dict[str, Any]:
    """Compute all retrieval figures of one direction, with intervals over queries and chance levels.

    Args:
        query: L2-normalised embeddings of the queries, shape (n, D).
        gallery: L2-normalised embeddings of the candidates, shape (n, D). Row i is the right candidate of query i.
        patients: Patient id of each row, shape (n,).
        seed: Seed of the bootstrap.
        replicates: Number of resamples.

    Returns:
        "n" and "patients". For lrap, recall_1 and recall_2, each with the suffix _3, _4 and _full (number of
        candidates): the value; its interval (suffix _ci); and the expected value of a random ranking (suffix _chance).
        For lrap also the central 95 % of random rankings of n queries (suffix _chance_ci). A figure without a value is
        None, and its key with the suffix _missing gives the reason.
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
    """Simulate the central 95 % of the mean LRAP of random rankings.

    Each query draws the rank of its right candidate independently. Shuffling the pairs instead would give a range that
    is too narrow (zero when all embeddings are equal), so rounding errors would look better than chance.

    Args:
        negatives: For each query, the number of wrong candidates in the whole gallery.
        candidates: Number of candidates that a query is shown: the right one, and wrong ones drawn at random. None
            shows the whole gallery.

    Returns:
        2.5 % and 97.5 % quantile of the mean LRAP over `CHANCE_DRAWS` simulations.
    """
    of_query = np.array(negatives)
    possible, which = np.unique(of_query, return_inverse=True)  # one number if every patient has one admission
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
