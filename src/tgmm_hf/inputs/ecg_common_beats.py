"""Check that the leads beat at the same times: a chest lead without beats, and limb and chest leads of two hearts.

All leads look at one heart, so their QRS complexes come at the same times, whatever their shapes. Here the sizes of the
leads in the QRS band are compared over time. `docs/results/checks/ecg.md` has the measured rates, decision 141 the
reasons.
"""

from typing import NamedTuple

import numpy as np
import scipy

from .ecg_beats import BeatSignals
from .ecg_limb_leads import LIMB_LEADS
from .ecg_numbers import percentile

LEAD_LIKENESS = 0.3
"""A chest lead has no beats if its size over time correlates less with that of the other leads. Noise reaches 0.29. Of
public recordings 0.2 % have such a lead."""
GROUP_LIKENESS, DOUBTFUL_LIKENESS = 0.55, 0.8
"""Limb and chest leads do not beat together if their sizes over time correlate less: refused below the first limit,
doubtful below the second. Two patients reach 0.51. 0.1 % of public recordings have less than 0.8, none less than
0.74."""
COHERENT = 0.6
"""A group of leads is one heart if the median correlation of its leads with the group is at least this."""
_HERTZ, _SMOOTH_SECONDS = 50.0, 0.1


class CommonBeats(NamedTuple):
    """What the comparison of leads found.

    Attributes:
        without_beats: chest lead -> correlation of its size over time with that of the other leads.
        groups: correlation of limb leads with chest leads; None if one group has fewer than two leads or is no heart
            by itself.
    """

    without_beats: dict[str, float]
    groups: float | None


def common_beats(names: list[str], signals: BeatSignals) -> CommonBeats:
    """Compare the times at which leads beat.

    Args:
        names: leads of the rows of `signals`.
        signals: at least 4 s.

    Returns:
        `CommonBeats`.
    """
    sizes = _sizes_over_time(signals)
    is_limb = np.array([name in LIMB_LEADS for name in names])
    groups = _likeness_of_groups(sizes, is_limb)
    if len(names) < 3:
        return CommonBeats({}, groups)
    likeness = _likeness_to_others(sizes, np.ones(len(names), dtype=bool))
    good = is_limb | (likeness >= LEAD_LIKENESS)
    if not good.all() and good.sum() > 1:
        likeness = _likeness_to_others(sizes, good)
    low = {
        name: float(value)
        for name, value, limb in zip(names, likeness, is_limb, strict=True)
        if not limb and value < LEAD_LIKENESS
    }
    return CommonBeats(low, groups)


def _sizes_over_time(signals: BeatSignals) -> np.ndarray:
    """Compute (leads, times): the size of each lead in the QRS band, smoothed; largest values cut, scaled."""
    step = max(1, int(signals.sampling_rate // _HERTZ))
    width = max(1, int(_SMOOTH_SECONDS * signals.sampling_rate))
    sizes = np.sqrt(np.maximum(scipy.ndimage.uniform_filter1d(np.square(signals.qrs), width, axis=1)[:, ::step], 0))
    sizes = np.minimum(sizes, percentile(sizes, 98)[:, None])
    sizes -= sizes.mean(axis=1, keepdims=True)
    return sizes / np.maximum(sizes.std(axis=1, keepdims=True), 1e-12)


def _likeness_to_others(sizes: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Correlate each lead of `sizes` (leads, times) with the median of the other leads that are `good` (leads,)."""
    ordered = np.sort(sizes[good], axis=0)
    medians = np.empty_like(sizes)
    left = len(ordered) - 1
    low, high = (left - 1) // 2, left // 2
    # Without a lead, the sizes above its own size move one place down.
    for place in dict.fromkeys((low, high)):
        above = ordered[place + 1]
        without = np.where(sizes[good] <= ordered[place], above, ordered[place])
        medians[good] = without if place == low else (medians[good] + without) / 2
    medians[~good] = np.median(ordered, axis=0)
    return _correlations(sizes, medians)


def _likeness_of_groups(sizes: np.ndarray, is_limb: np.ndarray) -> float | None:
    """Correlate limb leads with chest leads; None where one of the groups is too small or is no heart by itself."""
    groups = [sizes[is_limb], sizes[~is_limb]]
    if min(map(len, groups)) < 2:
        return None
    for group in groups:
        if np.median(_likeness_to_others(group, np.ones(len(group), dtype=bool))) < COHERENT:
            return None
    return _correlation(groups[0].mean(axis=0), groups[1].mean(axis=0))


def _correlations(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Correlate each row of (rows, times) with the same row of another array; 0 if one of them does not move."""
    one, two = one - one.mean(axis=1, keepdims=True), two - two.mean(axis=1, keepdims=True)
    scale = np.sqrt(np.einsum("ij,ij->i", one, one) * np.einsum("ij,ij->i", two, two))
    likeness: np.ndarray = np.einsum("ij,ij->i", one, two) / np.maximum(scale, 1e-12)
    return likeness


def _correlation(one: np.ndarray, two: np.ndarray) -> float:
    """Correlate two signals (times,); 0 if one of them does not move."""
    one, two = one - one.mean(), two - two.mean()
    return float(one @ two / max(float(np.sqrt((one @ one) * (two @ two))), 1e-12))
