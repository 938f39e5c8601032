"""Tell from the shape of the waves whether the sampling rate of an ECG is right.

A rate that is declared too low makes the heart slow and its waves wide; a rate that is too high makes it fast and its
waves narrow. Single times do not tell, because a slow heart and a wide QRS complex are common. Four times together do:
the time between beats, the time from QRS complex to T wave, and two widths of the QRS complex.

The weights come from a linear discriminant between public recordings and the same recordings at twice their time
scale. `docs/results/checks/ecg.md` has the rates, decision 140 the reasons.
"""

from typing import NamedTuple

import numpy as np
import scipy

from .ecg_beats import BeatSignals
from .ecg_numbers import percentile

REFERENCE = (0.84, 0.25, 0.04, 17.0)
"""`WaveTimes` of the median public recording of an adult."""
WEIGHTS = (0.16, 0.31, -0.19, -0.72)
"""Exponents of `WaveTimes` over `REFERENCE` in the stretch. They make a recording that is stretched by a factor differ
by this factor. The width of the complex counts against its frequency, because a bundle branch block is wide alone."""
DOUBTFUL_STRETCH, DOUBTFUL_INTERVAL = (0.7, 1.4), (0.5, 1.2)
"""The sampling rate is doubtful if stretch and seconds between beats are both below the first or both above the second
number. The interval counts as well, because a bundle branch block widens the waves alone, and is
common in heart failure."""
IMPOSSIBLE_STRETCH, IMPOSSIBLE_INTERVAL = (0.42, 2.4), (0.5, 1.4)
"""The sampling rate is refused in the same way. Public recordings have stretches of 0.57 to 1.8. The interval counts,
because dying hearts have wide waves."""
MAX_SECONDS = 60.0
"""A longer recording is judged by its beginning."""
_HERTZ = 250.0
_GAP_LEVEL = 0.15


class WaveTimes(NamedTuple):
    """Times of the waves of a median beat.

    Attributes:
        interval: seconds between beats.
        t_delay: seconds from the QRS complex to the T wave.
        width: seconds after which the slopes of a QRS complex are over.
        frequency: Hz below which half of the energy of the slopes lies.
    """

    interval: float
    t_delay: float
    width: float
    frequency: float

    @property
    def stretch(self) -> float:
        """How many times as slow as in the median adult the waves are."""
        ratios = np.log(np.array(self) / np.array(REFERENCE))
        return float(np.exp(ratios @ np.array(WEIGHTS)))

    def are_beyond(self, stretches: tuple[float, float], intervals: tuple[float, float]) -> bool:
        """Tell whether stretch and interval are both below the first or both above the second of two limits."""
        is_fast = self.stretch < stretches[0] and self.interval < intervals[0]
        return is_fast or (self.stretch > stretches[1] and self.interval > intervals[1])


def wave_times(signals: BeatSignals) -> WaveTimes | None:
    """Measure the times of the waves; None if the recording shows no beats with rest between them."""
    step = max(1, int(signals.sampling_rate // _HERTZ))
    rate = signals.sampling_rate / step
    leads = signals.wide[:, ::step][:, : int(MAX_SECONDS * rate)]
    leads = leads / np.maximum(leads.std(axis=1, keepdims=True), 1e-12)
    slopes = np.gradient(leads, axis=1) * rate
    energy = np.square(slopes).mean(axis=0)
    energy = np.minimum(energy, percentile(energy, 99))
    width = _complex_width(energy)
    if width is None:
        return None
    smooth = scipy.ndimage.uniform_filter1d(energy, width)
    peaks, _ = scipy.signal.find_peaks(smooth, height=0.3 * percentile(smooth, 99), distance=max(1, int(2.5 * width)))
    if len(peaks) < 2:
        return None
    interval = float(np.median(np.diff(peaks)))
    t_delay = _t_delay(leads, peaks, width, interval)
    if t_delay is None:
        return None
    spectrum = np.square(np.abs(np.fft.rfft(slopes * np.hanning(leads.shape[1]), axis=1))).sum(axis=0).cumsum()
    frequency = float(np.searchsorted(spectrum, spectrum[-1] / 2)) * rate / leads.shape[1]
    return WaveTimes(interval / rate, t_delay / rate, width / rate, max(frequency, 0.1))


def _complex_width(energy: np.ndarray) -> int | None:
    """Find how long a QRS complex is, from the autocorrelation of the energy (samples,) of the slopes.

    Returns:
        The first lag (samples) from which the autocorrelation stays low until three times the lag. None if it never
        does.
    """
    size = energy.size
    spectrum = np.fft.rfft(energy - np.median(energy), 2 * size)
    products = np.fft.irfft(np.square(np.abs(spectrum)))[: size // 2]
    high = np.flatnonzero(products >= _GAP_LEVEL * products[0])
    following = np.append(high[1:], products.size)
    ends = high[following >= 3 * (high + 1)]
    return int(ends[0]) + 1 if ends.size and ends[0] < size // 6 else None


def _t_delay(leads: np.ndarray, peaks: np.ndarray, width: int, interval: float) -> float | None:
    """Measure samples from QRS complex to T wave: the highest hump of the median beat after the complex.

    Args:
        leads: (leads, samples), each scaled by its standard deviation.
        peaks: (beats,) places of the complexes.
        width: samples of a complex.
        interval: samples between beats.

    Returns:
        The delay, or None with fewer than two whole beats or without a hump.
    """
    before, after = int(1.5 * width), int(0.7 * interval)
    whole = peaks[(peaks >= before) & (peaks + after < leads.shape[1])]
    first = before + int(1.2 * width)
    if len(whole) < 2 or before + after - first < 4:
        return None
    beat = np.median(leads[:, whole[:, None] + np.arange(-before, after)], axis=1)
    size = np.sqrt(np.square(beat - np.median(beat, axis=1, keepdims=True)).mean(axis=0))
    size = scipy.ndimage.uniform_filter1d(size, width)[first:]
    humps, _ = scipy.signal.find_peaks(size)
    return float(first - before + humps[size[humps].argmax()]) if len(humps) else None
