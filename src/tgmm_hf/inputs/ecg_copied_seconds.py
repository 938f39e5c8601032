"""Find seconds that are in a recording twice, sample by sample. They are copies, because noise never repeats itself.

`ecg_repeated_beats` finds a recording that repeats itself all the time. Here a single repeated part is enough, but it
must be equal. Decision 178 has the reasons, `docs/results/checks/ecg.md` the measured rates.
"""

from typing import NamedTuple

import numpy as np

COPIED_SECONDS = 1.0
"""Shortest part (s) that is looked for. Of 1,646 public recordings none has two equal parts of 0.1 s."""
MIN_CHANGED = 0.1
"""Smallest share of samples in a part that differ from the sample before. A constant recording has a
smaller share, and another finding."""
MAX_SECONDS = 60.0
"""Only the beginning of a longer recording is compared with itself."""


class CopiedSeconds(NamedTuple):
    """Two equal parts of a recording.

    Attributes:
        first: second at which the part begins.
        second: second at which its copy begins.
    """

    first: float
    second: float


def copied_seconds(signal: np.ndarray, sampling_rate: float) -> CopiedSeconds | None:
    """Find the first part of `COPIED_SECONDS` that comes again.

    Args:
        signal: (leads, samples) as recorded, in any unit.
        sampling_rate: Hz.

    Returns:
        The part and its copy, which do not overlap; None if there is none.
    """
    size = max(2, round(COPIED_SECONDS * sampling_rate))
    signal = signal[:, : int(MAX_SECONDS * sampling_rate)]
    number = signal.shape[1] - size + 1
    if number <= size:
        return None
    _, kinds = np.unique(np.ascontiguousarray(signal.T), axis=0, return_inverse=True)
    kinds = kinds.ravel().astype(np.uint64)
    factors = np.random.default_rng(0).integers(1, 2**63, size, dtype=np.uint64)
    # Equal parts have equal sums, because integers overflow in the same way.
    sums = np.zeros(number, dtype=np.uint64)
    for place, factor in enumerate(factors):
        sums += factor * kinds[place : place + number]
    order = np.argsort(sums, kind="stable")
    group_starts = np.flatnonzero(np.concatenate(([True], np.diff(sums[order]) != 0)))
    firsts = np.repeat(order[group_starts], np.diff(np.append(group_starts, number)))
    changes = np.concatenate(([0], np.cumsum(kinds[1:] != kinds[:-1])))
    moves = changes[size - 1 :] - changes[:number] >= MIN_CHANGED * size
    copies = np.flatnonzero((order - firsts >= size) & moves[order])
    if not len(copies):
        return None
    copy = copies[order[copies].argmin()]
    return CopiedSeconds(float(firsts[copy] / sampling_rate), float(order[copy] / sampling_rate))


__all__ = ["CopiedSeconds", "copied_seconds"]
