"""Tell whether a recording repeats one beat exactly, or changes its beats for good: a heart does neither.

A heart varies its intervals, breathing moves its axis, and electrodes add noise. So no recording repeats itself
exactly. Two recordings that were joined have beats of one shape before the join and of another shape after it.
`docs/results/checks/ecg.md` has the measured rates, decision 142 the reasons.
"""

from typing import NamedTuple

import numpy as np
import scipy

from .ecg_beats import BeatSignals, aligned_complexes
from .ecg_numbers import percentile

REPETITION = 0.999
"""Correlation of a recording in the QRS band with itself one or more beats later that only copies reach. Public
recordings have at most 0.994, the median 0.46."""
REPETITION_SECONDS = (0.25, 3.0)
"""Shortest and longest time (s) after which a recording may repeat itself."""
MAX_SECONDS = 60.0
"""Only the beginning of a longer recording is compared with itself."""
CHANGE = 0.15
"""Two recordings were joined if the beats before and after a moment are less alike (median correlation) by this than
the beats on each side among themselves. Public recordings have at most 0.12."""
SIDE_BEATS, CHANGE_SECONDS = 3, 30.0
"""Smallest number of beats on each side, and the longest recording (s) that is searched for a change: a long recording
may change its rhythm."""
_HERTZ = 250.0


class ChangedBeats(NamedTuple):
    """The moment at which the beats change.

    Attributes:
        seconds: from the start of the recording.
        across: median correlation of beats before with beats after the moment.
        within: median correlation of beats on the same side, of the less uniform side.
    """

    seconds: float
    across: float
    within: float


def repetition(signals: BeatSignals) -> tuple[float, float]:
    """Find the time after which a recording is most like itself.

    Returns:
        Two numbers: the correlation, at most 1, and the time in seconds. The correlation is 0 if the recording is too
        short.
    """
    step = max(1, int(signals.sampling_rate // _HERTZ))
    rate = signals.sampling_rate / step
    leads = signals.qrs[:, ::step][:, : int(MAX_SECONDS * rate)]
    leads = leads / np.maximum(leads.std(axis=1, keepdims=True), 1e-12)
    size = leads.shape[1]
    first, last = int(REPETITION_SECONDS[0] * rate), min(int(REPETITION_SECONDS[1] * rate), size // 2)
    if last - first < 3:
        return 0.0, 0.0
    spectrum = np.square(np.abs(np.fft.rfft(leads, 2 * size, axis=1))).sum(axis=0)
    power = np.concatenate(([0.0], np.cumsum(np.square(leads).sum(axis=0))))
    lags = np.arange(first, last + 1)
    overlaps = np.sqrt(power[size - lags] * (power[size] - power[lags]))
    likeness = np.fft.irfft(spectrum)[lags] / np.maximum(overlaps, 1e-12)
    best = int(likeness[1:-1].argmax()) + 1
    before, top, after = likeness[best - 1 : best + 2]
    bend = before - 2 * top + after
    # the top of the parabola through three samples, because a beat may last a broken number of samples
    peak = top - (before - after) ** 2 / (8 * bend) if bend < 0 else top
    return float(min(peak, 1.0)), float(lags[best] / rate)


def changed_beats(signals: BeatSignals) -> ChangedBeats | None:
    """Find the moment at which the shape of the beats changes for good; None if there is none."""
    step = max(1, int(signals.sampling_rate // 100))
    rate = signals.sampling_rate / step
    leads = signals.wide[:, ::step]
    if leads.shape[1] > CHANGE_SECONDS * rate:
        return None
    leads = leads / np.maximum(leads.std(axis=1, keepdims=True), 1e-12)
    energy = np.square(np.gradient(leads, axis=1)).mean(axis=0)
    energy = scipy.ndimage.uniform_filter1d(np.minimum(energy, percentile(energy, 99)), max(1, int(0.08 * rate)))
    peaks, _ = scipy.signal.find_peaks(energy, height=0.3 * percentile(energy, 99), distance=int(0.25 * rate))
    peaks, complexes, _ = aligned_complexes(leads, peaks, rate)
    if len(peaks) < 2 * SIDE_BEATS:
        return None
    likeness = complexes @ complexes.T
    best = max(_change_at(number, likeness) for number in range(SIDE_BEATS, len(peaks) - SIDE_BEATS + 1))
    gap, number, across, within = best
    return ChangedBeats(float(peaks[number] / rate), across, within) if gap > CHANGE else None


def _change_at(number: int, likeness: np.ndarray) -> tuple[float, int, float, float]:
    """Measure the change before beat `number`.

    Args:
        number: index of the first beat after the change.
        likeness: (beats, beats) correlations.

    Returns:
        The change, `number`, and the fields `across` and `within` of `ChangedBeats`.
    """
    sides = (likeness[:number, :number], likeness[number:, number:])
    within = min(float(np.median(side[np.triu_indices(len(side), 1)])) for side in sides)
    across = float(np.median(likeness[:number, number:]))
    return within - across, number, across, within
