"""Check that a recording runs forwards: the T wave comes after the QRS complex and is larger than the P wave before it.

The average beat is compared with its mirror image in time. `docs/results/checks/ecg.md` has the measured rates,
decision 170 the reasons.
"""

from itertools import pairwise

import numpy as np
import scipy

from .ecg_beats import BeatSignals
from .ecg_numbers import percentile

BACKWARDS = -2.0
"""A recording with a lower score is named. The score of a recording played backwards is the negative score. Of 1,647
public recordings the lowest has -1.85, the next -0.95, and the median 5.2."""
WEIGHTS = (1.0, 0.7, 2.8, 0.8)
"""Weights of the four parts of `PART_SECONDS`, from a logistic regression of public recordings against the same
recordings played backwards."""
FIRST_SECONDS, PART_SECONDS = 0.04, 0.08
"""Distance (s) of the first part from the QRS complex, and length (s) of each part."""
MIN_INTERVAL = 0.45
"""With fewer seconds between beats nothing is said, because the T wave stands beside the next beat."""
MAX_SECONDS = 60.0
"""A longer recording is judged by its beginning."""
_HERTZ, _FLOOR, _SMOOTH = 100.0, 0.1, 0.05


def time_direction(signals: BeatSignals) -> float | None:
    """Compute the score of `BACKWARDS`.

    Args:
        signals: at least 4 s.

    Returns:
        The score, positive if the recording runs forwards; None with fewer than three beats, or with a fast heart.
    """
    step = max(1, int(signals.sampling_rate // _HERTZ))
    rate = signals.sampling_rate / step
    wide, qrs = (leads[:, ::step][:, : int(MAX_SECONDS * rate)] for leads in (signals.wide, signals.qrs))
    wide, qrs = (leads / np.maximum(leads.std(axis=1, keepdims=True), 1e-12) for leads in (wide, qrs))
    energy = scipy.ndimage.uniform_filter1d(np.square(qrs).mean(axis=0), max(1, int(0.08 * rate)))
    peaks, _ = scipy.signal.find_peaks(energy, height=0.35 * percentile(energy, 99), distance=int(0.3 * rate))
    half = int((FIRST_SECONDS + (len(WEIGHTS) + 0.5) * PART_SECONDS) * rate)
    whole = peaks[(peaks >= half) & (peaks + half < wide.shape[1])]
    if len(whole) < 3 or np.median(np.diff(peaks)) < MIN_INTERVAL * rate:
        return None
    beat = np.median(wide[:, whole[:, None] + np.arange(-half, half + 1)], axis=1)
    return float(mirror_parts(beat, rate) @ np.array(WEIGHTS))


def mirror_parts(beat: np.ndarray, rate: float) -> np.ndarray:
    """Compare the parts of a beat after the QRS complex with those before it.

    Args:
        beat: (leads, samples), the average beat with its QRS complex in the middle, each lead of about size 1.
        rate: Hz.

    Returns:
        (parts,) logarithms: size after the QRS complex over size before it, at the same distance.
    """
    size = np.sqrt(np.square(beat - np.median(beat, axis=1, keepdims=True)).mean(axis=0))
    level = np.log(scipy.ndimage.uniform_filter1d(size, max(1, round(_SMOOTH * rate))) + _FLOOR)
    difference = (level - level[::-1])[beat.shape[1] // 2 :]
    edges = [round((FIRST_SECONDS + number * PART_SECONDS) * rate) for number in range(len(WEIGHTS) + 1)]
    return np.array([difference[start:end].mean() for start, end in pairwise(edges)])


__all__ = ["mirror_parts", "time_direction"]
