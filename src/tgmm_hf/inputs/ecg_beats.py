"""Tell whether twelve leads look like beats: short complexes of one shape, with rest between them.

The heartbeat check of `ecg_checks` refuses a recording without energy that comes in beats. A sawtooth, a chirp or an
EEG rhythm passes it. This check finds them, but ventricular tachycardia and fibrillation are waves as well. So it only
doubts a recording and never refuses it.

The limits were set on public recordings (PTB-XL, Georgia, Chapman) and on synthetic signals, so the rates on the same
recordings are a little too good. `scripts/measure_ecg_checks.py` measures them.
"""

from typing import NamedTuple

import numpy as np
import scipy

from .ecg_numbers import percentile, zero_phase

WAVE_KURTOSIS = 2.9
"""Kurtosis of a wave that never rests: a square wave has 1, a sine 1.5, a sawtooth 1.8. The median lead of a real
recording has at least 2.97."""
NOISE_KURTOSIS, NOISE_LIKENESS = 3.8, 0.93
"""A noise has a kurtosis of 3, and its bursts are less alike than beats are."""
BURST_KURTOSIS, BURST_LIKENESS = 8.0, 0.7
"""A rhythm that swells and fades (EEG) reaches a kurtosis of 7. Real recordings below 8 have a likeness of 0.9."""
NARROW_SHARE = 0.5
"""Largest share of a lead's energy in a band of `NARROW_HZ`. Real recordings have at most 0.29."""
NARROW_HZ, NARROW_FROM = 3.0, 7.0
"""Width (Hz) of the band of `NARROW_SHARE`, and the lowest frequency (Hz) that it may hold."""
SECOND_SHARE = 0.005
"""Smallest share of the second principal component of the leads. A heart turns its axis during a beat, so real
recordings have at least 0.052. Copies of one signal have 0."""
WIDE_BAND, BEAT_BAND = (0.5, 40.0), (5.0, 25.0)
"""Bands (Hz): all waves of a beat, and the QRS complex."""
SEGMENT_SECONDS, MAX_SEGMENTS = 10.0, 12
"""A long recording is judged by the median of at most MAX_SEGMENTS parts of this length."""
_EDGE_SECONDS = 0.25
_HALF_BEAT, _SHIFT = 0.1, 0.04
"""Seconds around a peak that are compared, and how far the peak may be off."""


class BeatSignals(NamedTuple):
    """The leads of a recording in the bands that the checks of beats use.

    Attributes:
        wide: (leads, samples) in `WIDE_BAND`, without the ends.
        qrs: (leads, samples) in `BEAT_BAND`, without the ends.
        sampling_rate: Hz.
    """

    wide: np.ndarray
    qrs: np.ndarray
    sampling_rate: float


class BeatShape(NamedTuple):
    """Figures that tell beats from waves and noise.

    Attributes:
        kurtosis: of the median lead, 0.5 to 40 Hz. A sine has 1.5, noise 3, an ECG about 17.
        likeness: median correlation of the complexes with their median, -1 to 1; 1 with fewer than three complexes.
        narrow: share (0 to 1) of the median lead's energy in its strongest band of 3 Hz above 7 Hz.
        second: share (0 to 0.5) of the second principal component of the leads; 1 with one lead.
    """

    kurtosis: float
    likeness: float
    narrow: float
    second: float


def beat_signals(signal: np.ndarray, sampling_rate: float, beats: np.ndarray | None = None) -> BeatSignals:
    """Filter a recording once for all checks of its beats.

    Args:
        signal: (leads, samples) without NaN, at least 1 s, in any unit.
        sampling_rate: Hz, above 50.
        beats: the signal in `BEAT_BAND`, if it is at hand.
    """
    edge = int(_EDGE_SECONDS * sampling_rate)  # a filter answers to the ends of the recording
    wide = band_pass(signal, WIDE_BAND[0], min(WIDE_BAND[1], 0.45 * sampling_rate), sampling_rate)
    qrs = band_pass(signal, *BEAT_BAND, sampling_rate) if beats is None else beats
    return BeatSignals(wide[:, edge:-edge], qrs[:, edge:-edge], sampling_rate)


def beat_doubt(signals: BeatSignals) -> str | None:
    """Say why a recording of at least 4 s does not look like beats; None if it does."""
    shape = beat_shape(signals)
    if shape.second < SECOND_SHARE:
        return "all leads are copies of one signal, but a heart shows each lead another side"
    if shape.kurtosis < WAVE_KURTOSIS:
        return "the leads never rest, but a heart rests between its beats"
    if shape.narrow > NARROW_SHARE:
        return "the leads hold one frequency, but a beat holds many"
    is_noise = shape.kurtosis < NOISE_KURTOSIS and shape.likeness < NOISE_LIKENESS
    if is_noise or (shape.kurtosis < BURST_KURTOSIS and shape.likeness < BURST_LIKENESS):
        return "the bursts of the leads differ from each other, but the beats of a heart are alike"
    return None


def beat_shape(signals: BeatSignals) -> BeatShape:
    """Compute the figures of `BeatShape`: the median over parts of `SEGMENT_SECONDS`."""
    step = max(1, int(signals.sampling_rate // 100))
    sizes = signals.wide.std(axis=1)
    moves = sizes > 1e-9 * sizes.max()
    wide, beats = signals.wide[moves, ::step], signals.qrs[moves, ::step]
    rate = signals.sampling_rate / step
    size = min(wide.shape[1], int(SEGMENT_SECONDS * rate))
    number = min(MAX_SEGMENTS, wide.shape[1] // size)
    starts = np.linspace(0, wide.shape[1] - size, number).astype(int)
    parts = [_shape_of_part(wide[:, start : start + size], beats[:, start : start + size], rate) for start in starts]
    return BeatShape(*np.median(parts, axis=0).tolist())


def _shape_of_part(wide: np.ndarray, beats: np.ndarray, rate: float) -> BeatShape:
    """Compute the figures of one part from its leads (leads, samples) in `WIDE_BAND` and in `BEAT_BAND`."""
    wide = wide - wide.mean(axis=1, keepdims=True)
    scaled = wide / np.maximum(wide.std(axis=1, keepdims=True), 1e-12)
    kurtosis = float(np.median((scaled**4).mean(axis=1)))
    components = np.linalg.eigvalsh(scaled @ scaled.T)
    second = float(components[-2] / components.sum()) if len(scaled) > 1 else 1.0
    return BeatShape(kurtosis, _likeness(beats, rate), float(np.median(_narrow_shares(scaled, rate))), second)


def _narrow_shares(leads: np.ndarray, rate: float) -> np.ndarray:
    """Compute (leads,): the share of each lead's energy in its strongest band of `NARROW_HZ` above `NARROW_FROM`."""
    power = np.square(np.abs(np.fft.rfft(leads, axis=1)))
    resolution = rate / leads.shape[1]
    above = power[:, int(NARROW_FROM / resolution) :]
    width = max(1, int(NARROW_HZ / resolution))
    sums = np.cumsum(np.pad(above, ((0, 0), (1, 0))), axis=1)
    return (sums[:, width:] - sums[:, :-width]).max(axis=1) / power.sum(axis=1)


def _likeness(beats: np.ndarray, rate: float) -> float:
    """Compute the median correlation of the complexes of all leads with their median complex.

    Args:
        beats: (leads, samples) in `BEAT_BAND`.
        rate: Hz.
    """
    beats = beats / np.maximum(beats.std(axis=1, keepdims=True), 1e-12)
    energy = scipy.ndimage.uniform_filter1d(np.square(beats).mean(axis=0), max(1, int(0.1 * rate)))
    peaks, _ = scipy.signal.find_peaks(energy, height=0.3 * percentile(energy, 99), distance=max(1, int(0.2 * rate)))
    _, _, likeness = aligned_complexes(beats, peaks, rate)
    return float(np.median(likeness)) if len(likeness) >= 3 else 1.0


def aligned_complexes(leads: np.ndarray, peaks: np.ndarray, rate: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut the complexes around peaks out of all leads, each moved to where it is most like the median complex.

    Args:
        leads: (leads, samples).
        peaks: (peaks,) places of the complexes.
        rate: Hz.

    Returns:
        Three arrays: the peaks that are far enough from the ends (complexes,); their complexes (complexes, values) of
        length 1; and the correlation of each complex with the median complex (complexes,).
    """
    half, shift = int(_HALF_BEAT * rate), int(_SHIFT * rate)
    peaks = peaks[(peaks >= half + shift) & (peaks + half + shift < leads.shape[1])]
    if len(peaks) == 0:
        return peaks, np.zeros((0, 0)), np.zeros(0)
    places = peaks[:, None, None] + np.arange(-shift, shift + 1)[:, None] + np.arange(-half, half)
    windows = np.moveaxis(leads[:, places], 0, 2).reshape(len(peaks), 2 * shift + 1, -1)  # (peaks, shifts, values)
    windows = windows / np.maximum(np.linalg.norm(windows, axis=-1, keepdims=True), 1e-12)
    chosen = windows[:, shift]
    likeness = np.zeros(windows.shape[:2])
    for _ in range(2):  # the second median is sharper, because the complexes are aligned by the first
        template = np.median(chosen, axis=0)
        likeness = windows @ (template / max(float(np.linalg.norm(template)), 1e-12))
        chosen = windows[np.arange(len(peaks)), likeness.argmax(axis=1)]
    return peaks, chosen, likeness.max(axis=1)


def band_pass(signal: np.ndarray, low: float, high: float, sampling_rate: float) -> np.ndarray:
    """Filter (leads, samples) with a zero-phase Butterworth band-pass of order 2, `low` to `high` Hz."""
    return zero_phase(2, (low, high), "band", sampling_rate)(signal)
