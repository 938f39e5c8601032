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
    kinds = _kinds_of_samples(signal)
    repeats = np.bincount(kinds.astype(np.intp))
    if repeats[repeats > 1].sum() < 2 * size:  # a part and its copy have 2 * size samples or more
        return None
    factors = _factors(size)
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


def _kinds_of_samples(signal: np.ndarray) -> np.ndarray:
    """Number the different samples of (leads, samples): (samples,) uint64, equal where all leads are equal.

    The bits of a sample's leads are multiplied by random numbers and added. Equal samples have equal sums.
    """
    bits = (np.asarray(signal, np.float64) + 0.0).view(np.uint64)  # -0.0 becomes 0.0
    mixed = bits ^ (bits >> np.uint64(32))  # the low bits of short numbers are all zero
    sums = (mixed * _factors(len(bits))[:, None]).sum(axis=0, dtype=np.uint64)
    kinds: np.ndarray = np.unique(sums, return_inverse=True)[1].ravel().astype(np.uint64)
    return kinds


def _factors(number: int) -> np.ndarray:
    """Draw random odd factors (number,) uint64."""
    return np.random.default_rng(0).integers(1, 2**63, number, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


__all__ = ["CopiedSeconds", "copied_seconds"]
