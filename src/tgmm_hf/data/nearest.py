"""The vectors that are nearest to a vector: compared with all, or found in a graph where there are very many.

The graph (HNSW, package usearch, extra `search`) finds nearly all of the nearest ones without a look at all vectors.
The similarities of what it finds are exact.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgmm_hf.utils.files import whole_file

try:
    from usearch.index import Index
except ImportError:
    Index = None

APPROXIMATE_ABOVE = 100_000
"""Number of vectors of an index above which graphs are made."""
CONNECTIVITY = 32
"""Neighbours of a vector in the graph."""
BLOCK = 256
"""Cosines whose maximum is compared first in an exact search."""
EXPANSION_ADD, EXPANSION_SEARCH = 200, 400
"""Candidates that are looked at while a vector is added, and during a search. More find more, and take longer."""


def can_make_graphs() -> bool:
    """Tell whether the package for graphs is installed."""
    return Index is not None


def make_graph(vectors: NDArray, places: NDArray, path: Path) -> None:
    """Write the graph of vectors, whole or not at all. Equal vectors give equal graphs, because one thread adds them.

    Args:
        vectors: (n, p) float32, of length one.
        places: (n,) numbers by which a search names them.
        path: the file.
    """
    graph = _graph(vectors.shape[1])
    graph.add(places.astype(np.uint64), np.ascontiguousarray(vectors, np.float32), threads=1)
    with whole_file(path) as building:
        graph.save(str(building))


def nearest_in_graph(path: Path, query: NDArray, number: int) -> tuple[NDArray, NDArray]:
    """Find the nearest vectors of a graph. The file is mapped into memory, not read as a whole.

    Args:
        path: file of `make_graph`.
        query: (p,) of length one.
        number: largest number of results.

    Returns:
        Places and cosines, nearest first.
    """
    graph = _graph(len(query))
    graph.view(str(path))
    graph.expansion_search = max(EXPANSION_SEARCH, 2 * number)
    matches = graph.search(np.ascontiguousarray(query, np.float32), number)
    return matches.keys.astype(np.int64), 1 - matches.distances.astype(np.float64)


def nearest_of_all(vectors: NDArray, query: NDArray, number: int) -> tuple[NDArray, NDArray]:
    """Compare a vector with all vectors.

    Args:
        vectors: (n, p) of length one.
        query: (p,) of length one.
        number: largest number of results.

    Returns:
        Numbers of the rows and cosines, nearest first. Of equal cosines the earlier row comes first.
    """
    similarity = vectors @ query
    # A sort of all takes five times as long as the product. As many values as results are at least as large as that
    # block's maximum which has the rank `number`, so nothing below it is a result.
    maxima = np.maximum.reduceat(similarity, np.arange(0, len(similarity), BLOCK)) if len(similarity) else similarity
    if 0 < number < len(maxima):
        candidates = np.flatnonzero(similarity >= np.partition(maxima, -number)[-number])
    else:
        candidates = np.arange(len(similarity))
    best = candidates[np.argsort(-similarity[candidates], kind="stable")[:number]]
    return best, similarity[best]


def _graph(width: int) -> Any:
    """Make an empty graph for vectors of a width."""
    return Index(
        ndim=width,
        metric="cos",
        dtype="f32",
        connectivity=CONNECTIVITY,
        expansion_add=EXPANSION_ADD,
        expansion_search=EXPANSION_SEARCH,
    )
