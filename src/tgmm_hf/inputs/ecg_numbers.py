"""Zero-phase filters and percentiles for ECGs: the numbers of scipy and numpy, at a fraction of their cost.

`scipy.signal.sosfiltfilt` computes the start of the filter at every call, and `numpy.percentile` sorts the wanted
places in a general way. An ECG of ten seconds is so short that this costs more than the work itself.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import scipy


class ZeroPhaseFilter(NamedTuple):
    """A filter that runs forwards and backwards, as `scipy.signal.sosfiltfilt` does.

    Attributes:
        sections: (sections, 6), second-order sections.
        start: (sections, 2), state of the filter for a constant input of 1.
        edge: samples by which a signal is extended at each end.
    """

    sections: np.ndarray
    start: np.ndarray
    edge: int

    def __call__(self, signal: np.ndarray) -> np.ndarray:
        """Filter (leads, samples); the shape stays.

        Raises:
            ValueError: if the signal is not longer than `edge`.
        """
        samples = signal.shape[1]
        if samples <= self.edge:
            raise ValueError(f"{samples} samples, the filter needs more than {self.edge}")
        first, last = signal[:, :1], signal[:, -1:]
        before = 2 * first - signal[:, self.edge : 0 : -1]
        after = 2 * last - signal[:, -2 : -(self.edge + 2) : -1]
        extended = np.concatenate([before, signal, after], axis=1)
        for _ in range(2):  # forwards, then backwards
            start = self.start[:, None] * extended[None, :, :1]
            extended = scipy.signal.sosfilt(self.sections, extended, axis=1, zi=start)[0][:, ::-1]
        return extended[:, self.edge : self.edge + samples]


@lru_cache(maxsize=64)
def zero_phase(order: int, hertz: float | tuple[float, float], kind: str, sampling_rate: float) -> ZeroPhaseFilter:
    """Design a Butterworth filter once, because the design takes as long as the filtering.

    Args:
        order: of the filter.
        hertz: cutoff, or both cutoffs of a band.
        kind: "highpass", "lowpass" or "band".
        sampling_rate: Hz.
    """
    sections = scipy.signal.butter(order, hertz, btype=kind, fs=sampling_rate, output="sos")
    taps = 2 * len(sections) + 1 - min(int((sections[:, 2] == 0).sum()), int((sections[:, 5] == 0).sum()))
    return ZeroPhaseFilter(sections, scipy.signal.sosfilt_zi(sections), 3 * taps)


def percentile(values: np.ndarray, percent: float) -> np.ndarray:
    """Compute a percentile along the last axis by linear interpolation, as `numpy.percentile` does.

    Args:
        values: (..., values) without NaN.
        percent: 0 to 100.

    Returns:
        (...,), or a number for (values,).
    """
    last = values.shape[-1] - 1
    place = percent / 100 * last
    low = min(int(place), last)
    high, share = min(low + 1, last), place - low
    ordered = np.partition(values, (low, high) if high > low else low, axis=-1)
    one, two = ordered[..., low], ordered[..., high]
    between: np.ndarray = one + (two - one) * share if share < 0.5 else two - (two - one) * (1 - share)
    return between


def span(values: np.ndarray, percent: float) -> np.ndarray:
    """Compute the distance of the percentiles `100 - percent` and `percent` along the last axis."""
    distance: np.ndarray = percentile(values, 100 - percent) - percentile(values, percent)
    return distance


def in_long_runs(flags: np.ndarray, length: int) -> np.ndarray:
    """Return `flags` (samples,) bool with True only in runs of at least `length` samples."""
    if np.count_nonzero(flags) < length:
        return np.zeros_like(flags)
    starts, ends = runs(flags)
    is_long = ends - starts >= length
    if not is_long.any():
        return np.zeros_like(flags)
    steps = np.zeros(flags.size + 1, dtype=np.int8)
    steps[starts[is_long]], steps[ends[is_long]] = 1, -1
    kept: np.ndarray = steps[:-1].cumsum(dtype=np.int8).astype(bool)
    return kept


def runs(flags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the runs of True in `flags` (samples,) bool: their first samples, and one past their last samples."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).view(np.int8)))
    return edges[::2], edges[1::2]


__all__ = ["ZeroPhaseFilter", "in_long_runs", "percentile", "runs", "span", "zero_phase"]
