"""Describe an ECG by four hundred numbers, so that it can be compared with the recordings of the training.

No number stands for a fault. They say how energy, size, shape and rhythm lie in the recording, and how its leads belong
together. `training_likeness.py` tells which of them are unusual.
"""

from collections.abc import Sequence

import numpy as np

from ..utils.names import LEADS

SECONDS = 10.0
"""Largest part of a recording that is described: the middle, where the window of the model lies."""
FREE = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
"""Leads that do not follow from others by limb arithmetic."""
PAIRS = (("I", "II"), ("II", "aVF"), ("V1", "V2"), ("V2", "V3"), ("V3", "V4"), ("V4", "V5"), ("V5", "V6"), ("I", "V6"))
"""Leads that are compared in time."""
WIDE, WIDE_RATE = (0.67, 40.0), 100.0
"""Band (Hz) of a beat, and the rate (Hz) at which it is described."""
BANDS = ((0.67, 3.0), (3.0, 8.0), (8.0, 15.0), (15.0, 25.0), (25.0, 40.0))
"""Bands (Hz) of `WIDE` whose shares are described."""
PAIR_BANDS = ((1.0, 5.0), (5.0, 12.0), (12.0, 25.0), (25.0, 40.0))
"""Bands (Hz) in which two leads are compared."""
LONGEST_DELAY = 0.12
"""Seconds by which one lead may be shifted against another."""
BEFORE, AFTER, QRS = 0.3, 0.45, 0.07
"""Seconds of a beat before and after its steepest moment, and half of its QRS complex."""
SHORTEST = 1.6
"""A recording of fewer seconds is not described, because leads are compared over windows of a second."""
TINY = 1e-9
HIGHEST_CORRELATION = 0.9999
Values = dict[str, float]
"""Name of a number, such as "unexplained.V3" -> its value."""
WORDS = {
    "band1": ("the share of 0.67 to 3 Hz in the energy", True),
    "band2": ("the share of 3 to 8 Hz in the energy", True),
    "band3": ("the share of 8 to 15 Hz in the energy", True),
    "band4": ("the share of 15 to 25 Hz in the energy", True),
    "band5": ("the share of 25 to 40 Hz in the energy", True),
    "slow": ("the energy below 0.67 Hz over that of the beats", True),
    "fast": ("the energy above 40 Hz over that of the beats", True),
    "size": ("the deviation of the median lead", True),
    "ratio": ("the deviation over that of the median lead", True),
    "asymmetry": ("how far the lead points up (1) or down (-1)", False),
    "rest": ("the width of the middle half of the values over the whole span", True),
    "tails": ("the width of the middle 90 % of the values over the whole span", True),
    "tip": ("the largest value over the 99.8 % quantile of the values", True),
    "steep": ("the steepest slope over the span (per second)", True),
    "bent": ("the sharpest bend over the span (per second squared)", True),
    "quiet_short": ("the finest changes in the quietest 0.15 s over those of the usual 0.15 s", True),
    "busy_short": ("the finest changes in the busiest 0.15 s over those of the usual 0.15 s", True),
    "quiet_long": ("the finest changes in the quietest 0.5 s over those of the usual 0.5 s", True),
    "busy_long": ("the finest changes in the busiest 0.5 s over those of the usual 0.5 s", True),
    "jumps90": ("the finest changes at the busiest 10 % of the moments over the median moment", True),
    "jumps97": ("the finest changes at the busiest 3 % of the moments over those at 10 %", True),
    "jumps99": ("the finest changes at the busiest 1 % of the moments over those at 3 %", True),
    "jumps100": ("the finest changes at the busiest moment over those at the busiest 1 %", True),
    "alike": ("the correlation (as its arctanh)", False),
    "component2": ("the share of the second component of the leads", True),
    "component3": ("the share of the third component of the leads", True),
    "component4": ("the share of the fourth component of the leads", True),
    "component5": ("the share of the fifth component of the leads", True),
    "unexplained": ("the share of the lead that the other leads do not explain", True),
    "worst_second": ("the unexplained part in the worst second over that of a usual second", True),
    "halves": ("how well the other leads explain one half, by the weights of the other half (arctanh)", False),
    "half_size": ("the difference of the sizes of both halves (as a logarithm)", False),
    "half_skew": ("the difference of the directions of both halves", False),
    "delayed": ("the part that is not alike at the best delay", True),
    "gain_by_delay": ("the correlation that a delay adds", False),
    "coherent1": ("the part of 1 to 5 Hz that one lead does not have in common with the other", True),
    "coherent2": ("the part of 5 to 12 Hz that one lead does not have in common with the other", True),
    "coherent3": ("the part of 12 to 25 Hz that one lead does not have in common with the other", True),
    "coherent4": ("the part of 25 to 40 Hz that one lead does not have in common with the other", True),
    "beats": ("the number of beats in a second", True),
    "rhythm": ("the deviation of the time between beats over its mean", True),
    "interval": ("the median time between beats (s)", True),
    "next_interval": ("the change from one time between beats to the next over their mean", True),
    "later_beat": ("the likeness of the beats of both halves (arctanh of the correlation)", False),
    "beat_qrs": ("the difference between QRS complexes over the size of a beat", True),
    "beat_p": ("the difference between beats before the QRS complex over the size of a beat", True),
    "beat_t": ("the difference between beats after the QRS complex over the size of a beat", True),
    "other_beat_qrs": ("the difference of the strangest QRS complex over that of a usual one", True),
    "other_beat_p": ("the difference of the strangest beat before its QRS complex over that of a usual one", True),
    "other_beat_t": ("the difference of the strangest beat after its QRS complex over that of a usual one", True),
    "mean_qrs": ("the share of the QRS complex in the beat", True),
    "mean_p": ("the share of the time before the QRS complex in the beat", True),
    "mean_t": ("the share of the time after the QRS complex in the beat", True),
}
"""First part of a name -> its words, and whether the value is a logarithm."""


def middle_of(signal: np.ndarray, rate: float) -> np.ndarray:
    """Copy the middle `SECONDS` of a signal (leads, samples) in `rate` Hz, or all of a shorter one."""
    middle, half = signal.shape[1] // 2, int(SECONDS * rate) // 2
    return np.array(signal[:, max(0, middle - half) : middle + half], np.float32)


def summarise_ecg(signal: np.ndarray, mask: np.ndarray, rate: float) -> Values:
    """Describe a recording.

    Args:
        signal: (12, samples), the leads in the order of `LEADS`, in any unit.
        mask: (12,) bool, usable leads.
        rate: sampling rate in Hz.

    Returns:
        Name -> value. A lead that is not usable has no numbers. Empty without a usable lead, and for a recording of
        less than `SHORTEST` seconds.
    """
    if np.shape(signal)[1] < SHORTEST * rate or not np.any(mask):
        return {}
    leads = [lead for lead, usable in zip(LEADS, mask, strict=True) if usable]
    raw = middle_of(np.asarray(signal), rate)[np.asarray(mask, bool)].astype(np.float64)
    raw -= raw.mean(axis=1, keepdims=True)
    spectrum = np.fft.rfft(raw, axis=1)
    hertz = np.fft.rfftfreq(raw.shape[1], 1 / rate)
    wide, wide_rate = _beat_band(spectrum, hertz, raw.shape[1], rate)
    # The ends of a recording are no neighbours, but the filter takes them for such.
    raw, wide = (part[:, int(0.2 * hz) : -int(0.2 * hz)] for part, hz in ((raw, rate), (wide, wide_rate)))
    values: Values = {}
    _bands(values, leads, spectrum, hertz)
    _shapes(values, leads, wide, wide_rate)
    _steps(values, leads, raw, rate)
    _relations(values, leads, wide, wide_rate)
    _pairs(values, leads, wide, wide_rate)
    _rhythm(values, leads, wide, wide_rate)
    return values


def _beat_band(spectrum: np.ndarray, hertz: np.ndarray, size: int, rate: float) -> tuple[np.ndarray, float]:
    """Return the leads in the band of a beat at about `WIDE_RATE` or less, and the rate of the result in Hz."""
    kept = spectrum * ((hertz >= WIDE[0]) & (hertz <= WIDE[1]))
    fewer = size if rate <= WIDE_RATE else 2 * round(size * WIDE_RATE / rate / 2)
    return np.fft.irfft(kept[:, : fewer // 2 + 1], fewer, axis=1) * (fewer / size), rate * fewer / size


def _log(values: np.ndarray | float, floor: float = TINY) -> np.ndarray:
    """Take the logarithm of values that may be 0."""
    return np.log(np.maximum(values, floor))


def _put(values: Values, name: str, leads: Sequence[str], numbers: np.ndarray) -> None:
    """Add one number for each lead."""
    values.update(zip([f"{name}.{lead}" for lead in leads], numbers.tolist(), strict=True))


def _bands(values: Values, leads: Sequence[str], spectrum: np.ndarray, hertz: np.ndarray) -> None:
    """Add the shares of the energy in bands, by lead."""
    power = np.square(spectrum.real) + np.square(spectrum.imag)

    def energy(low: float, high: float) -> np.ndarray:
        first, end = np.searchsorted(hertz, (low, high))
        return np.asarray(power[:, first:end].sum(axis=1))

    whole = energy(*WIDE) + TINY
    for index, band in enumerate(BANDS, start=1):
        _put(values, f"band{index}", leads, _log(energy(*band) / whole, 1e-6))
    _put(values, "slow", leads, _log(energy(hertz[1], WIDE[0]) / whole, 1e-3))
    if hertz[-1] > 1.1 * WIDE[1]:
        _put(values, "fast", leads, _log(energy(WIDE[1], np.inf) / whole, 1e-6))


def _shapes(values: Values, leads: Sequence[str], wide: np.ndarray, rate: float) -> None:
    """Add the size of each lead, how its values are spread between the extremes, and how sharp its peaks are."""
    sizes = _log(wide.std(axis=1), 1e-3)
    values["size"] = float(np.median(sizes))
    _put(values, "ratio", leads, sizes - values["size"])
    ordered = np.sort(wide, axis=1)
    places = [round(share * (ordered.shape[1] - 1)) for share in (0.002, 0.05, 0.25, 0.5, 0.75, 0.95, 0.998)]
    lowest, low, quarter, median, upper, high, highest = ordered[:, places].T
    span = highest - lowest + TINY
    _put(values, "asymmetry", leads, (highest + lowest - 2 * median) / span)
    _put(values, "rest", leads, _log((upper - quarter) / span, 1e-4))
    _put(values, "tails", leads, _log((high - low) / span, 1e-4))
    largest = np.maximum(-ordered[:, 0], ordered[:, -1])
    _put(values, "tip", leads, _log(largest / (np.maximum(highest, -lowest) + TINY), 1e-4))
    slope = np.diff(wide, axis=1) * rate
    _put(values, "steep", leads, _log(np.abs(slope).max(axis=1) / span, 1e-3))
    _put(values, "bent", leads, _log(np.abs(np.diff(slope, axis=1)).max(axis=1) * rate / span, 1e-3))


def _steps(values: Values, leads: Sequence[str], raw: np.ndarray, rate: float) -> None:
    """Add how even the finest changes are: a filled gap has none, and a cut has a large one."""
    fine = np.square(np.diff(raw, 2, axis=1))
    total = np.cumsum(np.pad(fine, ((0, 0), (1, 0))), axis=1)
    for name, seconds in (("short", 0.15), ("long", 0.5)):
        size = max(2, int(seconds * rate))
        step = max(1, size // 6)
        energy = np.sort(total[:, size::step] - total[:, :-size:step], axis=1)
        usual = energy[:, energy.shape[1] // 2] + TINY**2
        _put(values, f"quiet_{name}", leads, _log(energy[:, 0] / usual, 1e-8))
        _put(values, f"busy_{name}", leads, _log(energy[:, -1] / usual, 1e-8))
    ordered = np.sort(np.log(fine.sum(axis=0) + TINY**2))
    levels = ordered[[round(share * (ordered.size - 1)) for share in (0.5, 0.9, 0.97, 0.99, 1.0)]]
    for percent, change in zip((90, 97, 99, 100), np.diff(levels), strict=True):
        values[f"jumps{percent}"] = float(change)


def _relations(values: Values, leads: Sequence[str], wide: np.ndarray, rate: float) -> None:
    """Add how far each lead follows from the others: over all time, from one half to the other, and by the second."""
    names = [lead for lead in FREE if lead in leads]
    if len(names) < 3:
        return
    free = wide[[leads.index(name) for name in names]]
    free = free / (free.std(axis=1, keepdims=True) + TINY)
    size = free.shape[1]
    gram = free @ free.T / size
    likeness = np.arctanh(np.clip(gram, -HIGHEST_CORRELATION, HIGHEST_CORRELATION))
    for row, name in enumerate(names):
        _put(values, f"alike.{name}", names[row + 1 :], likeness[row, row + 1 :])
    roots = np.linalg.eigvalsh(gram)[::-1] / len(names)
    for index, root in enumerate(roots[1:5], start=2):
        values[f"component{index}"] = float(_log(root, 1e-6))
    power = np.square(_error_weights(gram) @ free)
    _put(values, "unexplained", names, _log(power.mean(axis=1), 1e-7))
    seconds = max(2, int(size / rate))
    by_second = np.sort(np.add.reduceat(power, np.arange(seconds) * size // seconds, axis=1), axis=1)
    _put(values, "worst_second", names, _log(by_second[:, -1] / (by_second[:, seconds // 2] + TINY), 1e-4))
    _halves(values, names, (free[:, : size // 2], free[:, size // 2 :]))


def _halves(values: Values, names: Sequence[str], halves: tuple[np.ndarray, np.ndarray]) -> None:
    """Add how the two halves (free leads, samples) of a recording differ."""
    grams = [half @ half.T / half.shape[1] for half in halves]
    worst = np.ones(len(names))
    for fitted, tried in (grams, grams[::-1]):
        weights = _error_weights(fitted)
        kept, error = np.einsum("ij,ji->i", weights, tried), np.einsum("ij,jk,ik->i", weights, tried, weights)
        sizes = np.diag(tried)
        estimates = np.maximum(sizes - 2 * kept + error, TINY)
        worst = np.minimum(worst, (sizes - kept) / np.sqrt(estimates * np.maximum(sizes, TINY)))
    _put(values, "halves", names, np.arctanh(np.clip(worst, -HIGHEST_CORRELATION, HIGHEST_CORRELATION)))
    sizes = np.stack([np.diag(gram) for gram in grams])
    _put(values, "half_size", names, np.abs(np.subtract(*_log(sizes, 1e-6))))
    cubes = np.stack([(half * half * half).mean(axis=1) for half in halves])
    _put(values, "half_skew", names, np.abs(np.subtract(*np.arcsinh(cubes / (sizes + TINY) ** 1.5))))


def _error_weights(gram: np.ndarray) -> np.ndarray:
    """Compute the weights (leads, leads) that give each lead minus its best estimate from the others."""
    inverse = np.linalg.inv(gram + (1e-6 * np.trace(gram) / len(gram) + TINY) * np.eye(len(gram)))
    return np.asarray(inverse / np.diag(inverse)[:, None])


def _pairs(values: Values, leads: Sequence[str], wide: np.ndarray, rate: float) -> None:
    """Add how alike neighbouring leads are with a delay, and by bands."""
    pairs = [pair for pair in PAIRS if pair[0] in leads and pair[1] in leads]
    if not pairs:
        return
    names = [".".join(pair) for pair in pairs]
    first, second = ([leads.index(pair[side]) for pair in pairs] for side in (0, 1))
    slopes = np.diff(wide, axis=1)
    slopes /= np.sqrt(np.square(slopes).sum(axis=1, keepdims=True)) + TINY
    spectrum = np.fft.rfft(slopes, axis=1)
    products = np.fft.irfft(spectrum[first] * spectrum[second].conj(), slopes.shape[1], axis=1)
    reach = int(LONGEST_DELAY * rate)
    near = np.abs(np.concatenate([products[:, -reach:], products[:, : reach + 1]], axis=1))
    _put(values, "delayed", names, _log(1.0 - near.max(axis=1), 1e-5))
    _put(values, "gain_by_delay", names, near.max(axis=1) - near[:, reach])
    length = int(rate)
    pieces = np.lib.stride_tricks.sliding_window_view(wide, length, axis=1)[:, :: length // 2]
    pieces = np.fft.rfft((pieces - pieces.mean(axis=2, keepdims=True)) * np.hanning(length), axis=2)
    power = (np.square(pieces.real) + np.square(pieces.imag)).sum(axis=1)
    cross = (pieces[first] * pieces[second].conj()).sum(axis=1)
    shares = (np.square(cross.real) + np.square(cross.imag)) / (power[first] * power[second] + TINY**3)
    hertz = np.fft.rfftfreq(length, 1 / rate)
    for index, band in enumerate(PAIR_BANDS, start=1):
        start, end = np.searchsorted(hertz, band)
        _put(values, f"coherent{index}", names, _log(1.0 - shares[:, start:end].mean(axis=1), 1e-5))


def _rhythm(values: Values, leads: Sequence[str], wide: np.ndarray, rate: float) -> None:
    """Add the rate and evenness of the beats, how much they differ from their mean, and the parts of the mean beat."""
    slopes = np.diff(wide, axis=1)
    width = max(1, int(0.1 * rate))
    energy = np.square(slopes / (slopes.std(axis=1, keepdims=True) + TINY)).mean(axis=0)
    peaks = _peaks(np.convolve(energy, np.ones(width) / width, mode="same"), int(0.25 * rate))
    values["beats"] = float(_log(len(peaks) * rate / energy.size, 0.05))
    steps = np.diff(peaks)
    if steps.size >= 2:
        values["rhythm"] = float(_log(steps.std() / steps.mean(), 1e-3))
        values["interval"] = float(_log(np.median(steps) / rate))
        values["next_interval"] = float(_log(np.abs(np.diff(steps)).mean() / steps.mean(), 1e-3))
    before, after = int(BEFORE * rate), int(AFTER * rate)
    whole = [peak for peak in peaks if peak >= before and peak + after < wide.shape[1]]
    if len(whole) >= 3:
        beats = np.stack([wide[:, peak - before : peak + after] for peak in whole])
        _beats(values, leads, beats, before, int(QRS * rate))


def _beats(values: Values, leads: Sequence[str], beats: np.ndarray, centre: int, near: int) -> None:
    """Add how the beats (beats, leads, samples) differ, whose QRS complexes are at most `near` from the `centre`."""
    mean = np.median(beats, axis=0)
    size = mean.var(axis=1) + TINY
    early, late = beats[: len(beats) // 2].mean(axis=0), beats[len(beats) // 2 :].mean(axis=0)
    early, late = (part - part.mean(axis=1, keepdims=True) for part in (early, late))
    norms = np.sqrt(np.square(early).sum(axis=1) * np.square(late).sum(axis=1)) + TINY
    likeness = np.clip((early * late).sum(axis=1) / norms, -HIGHEST_CORRELATION, HIGHEST_CORRELATION)
    _put(values, "later_beat", leads, np.arctanh(likeness))
    differences = np.square(beats - mean)
    parts = {"p": slice(0, centre - near), "qrs": slice(centre - near, centre + near), "t": slice(centre + near, None)}
    for part, place in parts.items():
        left = np.sort(differences[..., place].mean(axis=2) / size, axis=1)
        by_beat = np.sort(left[:, left.shape[1] // 2])
        typical = by_beat[len(by_beat) // 2]
        values[f"beat_{part}"] = float(_log(typical, 1e-4))
        values[f"other_beat_{part}"] = float(_log(by_beat[-1] / (typical + 1e-4), 1e-2))
        _put(values, f"mean_{part}", leads, _log(np.square(mean[:, place]).mean(axis=1) / size, 1e-3))


def _peaks(energy: np.ndarray, distance: int) -> np.ndarray:
    """Find the peaks of an energy (samples,) that are high and at least `distance` samples apart, highest first."""
    limit = 0.3 * np.sort(energy)[round(0.985 * (energy.size - 1))]
    inner = energy[1:-1]
    places = np.flatnonzero((inner >= energy[:-2]) & (inner > energy[2:]) & (inner > limit)) + 1
    is_free = np.ones(energy.size, bool)
    taken = []
    for place in places[np.argsort(-energy[places], kind="stable")].tolist():
        if is_free[place]:
            taken.append(place)
            is_free[max(0, place - distance) : place + distance + 1] = False
    return np.sort(np.array(taken, int))


__all__ = ["SECONDS", "WORDS", "middle_of", "summarise_ecg"]
