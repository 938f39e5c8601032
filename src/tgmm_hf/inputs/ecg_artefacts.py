"""Find hum, straight lines, lost samples, copied seconds, missing slow waves, and blocks in another order.

The functions take the leads as they were recorded, because filters would hide these faults.
`docs/results/checks/ecg.md` has the measured rates, decision 171 the reasons.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import scipy

from .ecg_beats import BEAT_BAND, band_pass
from .ecg_copied_seconds import copied_seconds
from .ecg_findings import LeadFindings
from .ecg_numbers import percentile, runs
from .ecg_slow_waves import MIN_SLOW, SLOW_HZ, slow_share

MAINS_HZ = (50.0, 60.0, 100.0, 120.0, 150.0, 180.0)
"""Frequencies (Hz) of mains, of rectified mains (twice as high), and of mains with saturated iron (three times)."""
HUM_MV, HUM_RATIO = 0.04, 10.0
"""Mains hum is named if its amplitude (mV) in a lead is at least HUM_MV and its power is at least HUM_RATIO times the
power of any frequency beside it. Public recordings have at most 0.025 mV."""
RAILWAY_HZ, RAILWAY_BESIDE_HZ, RAILWAY_SHARE = (16.2, 17.2), 3.0, 0.8
"""Railways of five European countries use 16 2/3 Hz. QRS complexes have this frequency too, so the hum is looked for
between them: one sine in RAILWAY_HZ must have HUM_MV and hold RAILWAY_SHARE of the energy in RAILWAY_HZ and
RAILWAY_BESIDE_HZ on each side. Of 1,647 public recordings the largest share is 0.62, and those in
millivolts have at most 0.31. Hum of 0.05 mV has 0.91 or more."""
RAILWAY_SECONDS, QUIET_PERCENT = 10.0, 60.0
"""Length (s) of the parts in which a sine is fitted, and the percentage of a part that lies between QRS complexes."""
HUM_SECONDS = 2.0
"""Length (s) of the parts whose spectra are compared. The median over the parts leaves out single disturbances."""
LINE_SECONDS = 2.0
"""Shortest straight line (s) that is looked for. Most hearts beat in the meantime."""
QUIET_RATIO = 0.3
"""A lead is quiet in a part of LINE_SECONDS if its rms is below this share of the LINE_PERCENTILE over all parts."""
LINE_NOISE, SHORT_SECONDS, QUIET_TENTH = 0.7, 0.05, 10.0
"""In a pause of the heart the noise goes on. A straight line in most leads is a gap that was filled if its rms, in
parts of SHORT_SECONDS, is below LINE_NOISE of the QUIET_TENTH percentile of all other parts. Of lines of 4 s drawn into
62 public recordings all but one have at most 0.61, pauses made of the quiet parts of 34 of them at least 1.05."""
EXACT_STEPS = 0.5
"""The rms around an exact line that was rounded is at most this many of the smallest steps of a lead."""
LINE_RATIO, LINE_PERCENTILE = 0.05, 75.0
"""A lead holds a straight line if the rms around the best line in some part of LINE_SECONDS is below LINE_RATIO of the
LINE_PERCENTILE over all parts. Of 1,647 public recordings one has such a lead: it has an artefact 1,000 times as large
as its noise. All others have at least 0.055."""
LOST_STEPS, LOST_RUNS = 3.0, 5
"""A run of exact zeros is lost samples if the samples before and after it have one sign and both are at least
LOST_STEPS times the median step of the lead. A lead is named from LOST_RUNS of them on. Public recordings have at most
one."""
GAP_SECONDS, GAP_LEADS = 0.2, 3
"""All leads, if there are at least GAP_LEADS, that hold their values for GAP_SECONDS have a gap. All 1,625 recordings
of PTB-XL at hand have no such run. Of 21 raw ones of three sources the longest run has 0.102 s."""
BLOCK_SECONDS = (0.25, 0.5, 1.0)
"""Lengths (s) of blocks that are looked for."""
MAX_SECONDS = 60.0
"""A longer recording is judged by its beginning."""
BLOCK_SCORE = 1.6
"""Smallest score of the borders of blocks. Public recordings have at most 1.3."""
_SIDE_HZ = 8.0
_CLOSE_HZ = 2.0
_NEAR = (-3, -2, -1, 1, 2, 3)


def check_artefacts(
    findings: LeadFindings,
    names: list[str],
    signal: np.ndarray,
    sampling_rate: float,
    in_mv: bool,
    beats: np.ndarray | None = None,
) -> None:
    """Note what `ecg_artefacts` finds in the leads that are used.

    Args:
        findings: the findings are added here.
        names: leads of the rows of `signal`.
        signal: (leads, samples) as recorded, without NaN, at least 4 s.
        sampling_rate: Hz.
        in_mv: False for normalised units, whose hum has no size.
        beats: the signal in `BEAT_BAND`, if it is at hand.
    """
    used = [lead not in findings.unusable for lead in names]
    names = [lead for lead in names if lead not in findings.unusable]
    if not names:
        return
    whole = signal.shape[1]
    signal = signal[used, : int(MAX_SECONDS * sampling_rate)]
    beats = None if beats is None or whole > int(RAILWAY_SECONDS * sampling_rate) else beats[used]
    hums = [mains_hum(signal, sampling_rate), railway_hum(signal, sampling_rate, beats)] if in_mv else []
    hum = max((hum for hum in hums if hum is not None), key=lambda hum: hum.amplitude, default=None)
    if hum is not None:
        findings.add(
            "ecg_mains_hum",
            names[hum.lead],
            f"lead {names[hum.lead]} has mains hum of {hum.amplitude:.2g} mV at {hum.hertz:g} Hz (below {HUM_MV:g} mV "
            "is usual): check electrodes and earth, or use the recorder's filter",
        )
    _check_straight_lines(findings, names, signal, sampling_rate)
    numbers = lost_samples(signal)
    named = [name for name, number in zip(names, numbers, strict=True) if number >= LOST_RUNS]
    if named:
        leads = f"lead {named[0]} falls" if len(named) == 1 else f"{len(named)} of {len(names)} leads fall"
        text = f"{leads} to exactly 0 and back {max(numbers)} times: samples were lost and filled with zeros"
        findings.add("ecg_lost_samples", named[0] if len(named) == 1 else None, text)
    gap = common_gap(signal, sampling_rate) if len(names) >= GAP_LEADS else None
    if gap is not None and gap[1] < LINE_SECONDS:  # a longer one is a straight line
        text = f"all {len(names)} leads hold their values for {gap[1]:.2g} s from {gap[0]:.1f} s on"
        findings.add("ecg_lost_samples", None, f"{text}: samples were lost and filled")
    _check_copied_seconds(findings, signal, sampling_rate)
    _check_slow_waves(findings, signal, sampling_rate)
    seconds = block_borders(signal, sampling_rate)
    if seconds is not None:
        findings.add(
            "ecg_blocks",
            None,
            f"all leads jump every {seconds:g} s: blocks of the recording are missing or in a wrong order",
        )


def _check_straight_lines(findings: LeadFindings, names: list[str], signal: np.ndarray, sampling_rate: float) -> None:
    """Note leads that run straight, unless most leads are quiet then and the noise goes on: the heart pauses."""
    lines = straight_lines(signal, sampling_rate)
    if not lines:
        return
    around = rms_around_lines(signal, int(LINE_SECONDS * sampling_rate))
    place = round(float(np.median(list(lines.values()))) * sampling_rate)
    quiet = around[:, place] < QUIET_RATIO * np.percentile(around, LINE_PERCENTILE, axis=1)
    noise = float(np.median([noise_of_line(signal[row], start, sampling_rate) for row, start in lines.items()]))
    if 2 * quiet.sum() > len(names) and noise >= LINE_NOISE:
        return
    if 2 * len(lines) > len(names):
        start = min(lines.values())
        text = f"{len(lines)} of {len(names)} leads run straight for {LINE_SECONDS:g} s or more from {start:.1f} s on"
        findings.add("ecg_straight_line", None, f"{text}, without the noise of the recording: a gap that was filled")
        return
    for row, start in lines.items():
        text = f"lead {names[row]} runs straight for {LINE_SECONDS:g} s or more from {start:.1f} s on"
        findings.add("ecg_straight_line", names[row], f"{text}: a gap that was filled")


def _check_copied_seconds(findings: LeadFindings, signal: np.ndarray, sampling_rate: float) -> None:
    """Note a part of a recording (leads, samples) that comes again, unless all of it repeats itself."""
    copied = copied_seconds(signal, sampling_rate)
    if copied is not None and not findings.has("ecg_repeated_beats"):
        findings.add(
            "ecg_repeated_beats",
            None,
            f"a second or more from {copied.first:.1f} s on comes again from {copied.second:.1f} s on, sample for "
            "sample: a part was copied",
        )


def _check_slow_waves(findings: LeadFindings, signal: np.ndarray, sampling_rate: float) -> None:
    """Note a recording (leads, samples) whose slow waves a high-pass filter removed."""
    share = slow_share(signal, sampling_rate)
    if share is not None and share < MIN_SLOW and not findings.has("ecg_no_clear_beats"):
        low, high = SLOW_HZ
        findings.add(
            "ecg_slow_waves_missing",
            None,
            f"waves of {low:g} to {high:g} Hz have {share:.2g} of the energy of the QRS complexes (at least "
            f"{MIN_SLOW:g} is usual): was the recording high-pass filtered at 3 Hz or more? Its ST segments and T "
            "waves are destroyed then",
        )


class MainsHum(NamedTuple):
    """The lead with the largest mains hum.

    Attributes:
        lead: row of the lead.
        hertz: frequency: one of `MAINS_HZ`, or 16.7 near railways.
        amplitude: mV.
    """

    lead: int
    hertz: float
    amplitude: float


def mains_hum(signal: np.ndarray, sampling_rate: float) -> MainsHum | None:
    """Find the lead with the largest mains hum.

    Args:
        signal: (leads, samples) in mV without NaN.
        sampling_rate: Hz. A frequency is not seen unless `sampling_rate` is at least twice as high, and 16 Hz more.

    Returns:
        The hum, or None if no lead has `HUM_MV`.
    """
    size = int(HUM_SECONDS * sampling_rate)
    if signal.shape[1] < size:
        return None
    window = np.hanning(size)
    starts = range(0, signal.shape[1] - size + 1, size)
    parts = (signal[:, start : start + size] for start in starts)
    spectra = [np.fft.rfft((part - part.mean(axis=1, keepdims=True)) * window, axis=1) for part in parts]
    power = np.median(np.square(np.abs(spectra)), axis=0)
    frequency = np.fft.rfftfreq(size, 1 / sampling_rate)
    hums: list[MainsHum] = []
    for hertz in MAINS_HZ:
        if hertz + _SIDE_HZ > sampling_rate / 2:
            continue
        distance = np.abs(frequency - hertz)
        top = power[:, distance <= 1].max(axis=1)
        # The largest frequency beside it, because an even heartbeat has lines too, each like the next one.
        beside = power[:, (distance > _CLOSE_HZ) & (distance <= _SIDE_HZ)].max(axis=1)
        amplitude = 2 * np.sqrt(np.where(top >= HUM_RATIO * beside, top - beside, 0)) / window.sum()
        lead = int(amplitude.argmax())
        hums.append(MainsHum(lead, hertz, float(amplitude[lead])))
    largest = max(hums, key=lambda hum: hum.amplitude, default=None)
    return largest if largest is not None and largest.amplitude >= HUM_MV else None


def railway_hum(signal: np.ndarray, sampling_rate: float, beats: np.ndarray | None = None) -> MainsHum | None:
    """Find the lead with the largest hum of 16 2/3 Hz, by sines that are fitted between the QRS complexes.

    Args:
        signal: (leads, samples) in mV without NaN.
        sampling_rate: Hz, above 50.
        beats: the signal in `BEAT_BAND`, if it is at hand. Only for a signal of one part.

    Returns:
        The hum, or None if no lead has `HUM_MV`.
    """
    size = min(signal.shape[1], int(RAILWAY_SECONDS * sampling_rate))
    starts = range(0, signal.shape[1] - size + 1, size)
    parts = [_railway_amplitudes(signal[:, start : start + size], sampling_rate, beats) for start in starts]
    amplitude = np.median(parts, axis=0)
    lead = int(amplitude.argmax())
    return MainsHum(lead, 16.7, float(amplitude[lead])) if amplitude[lead] >= HUM_MV else None


def _railway_amplitudes(part: np.ndarray, sampling_rate: float, beats: np.ndarray | None) -> np.ndarray:
    """Compute (leads,): amplitude of railway hum in a part (leads, samples); 0 where no sine has `RAILWAY_SHARE`."""
    low, high = RAILWAY_HZ
    band = band_pass(part, low - RAILWAY_BESIDE_HZ, high + RAILWAY_BESIDE_HZ, sampling_rate)
    beats = np.abs(band_pass(part, *BEAT_BAND, sampling_rate) if beats is None else beats)
    beats = (beats / np.maximum(beats.mean(axis=1, keepdims=True), 1e-12)).mean(axis=0)
    beats = scipy.ndimage.uniform_filter1d(beats, max(1, int(0.1 * sampling_rate)))
    quiet = beats < percentile(beats, QUIET_PERCENT)
    cosines, sines = _railway_waves(part.shape[1], sampling_rate)
    values = band * quiet
    windowed = values * np.hanning(part.shape[1])
    strongest = (np.square(windowed @ cosines.T) + np.square(windowed @ sines.T)).argmax(axis=1)
    # the best sine of the strongest frequency in each lead, by least squares over the quiet samples
    cosine, sine = cosines[strongest] * quiet, sines[strongest] * quiet
    waves = np.stack([cosine, sine], axis=1)
    gram, products = waves @ waves.transpose(0, 2, 1), waves @ values[:, :, None]
    weights = np.linalg.solve(gram, products)
    rest = np.square(values - (weights * waves).sum(axis=1)).sum(axis=1)
    is_sine = rest <= (1 - RAILWAY_SHARE) * np.square(values).sum(axis=1)
    amplitudes: np.ndarray = np.where(is_sine, np.hypot(weights[:, 0, 0], weights[:, 1, 0]), 0.0)
    return amplitudes


@lru_cache(maxsize=4)
def _railway_waves(size: int, sampling_rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Return cosines and sines of the frequencies in `RAILWAY_HZ`, each (frequencies, size).

    A product with these few waves is cheaper than a whole spectrum. The frequencies are those of a signal that is
    padded to four times its length.
    """
    frequency = np.fft.rfftfreq(4 * size, 1 / sampling_rate)
    frequency = frequency[(frequency >= RAILWAY_HZ[0]) & (frequency <= RAILWAY_HZ[1])]
    angles = 2 * np.pi * np.outer(frequency, np.arange(size) / sampling_rate)
    return np.cos(angles), np.sin(angles)


def straight_lines(signal: np.ndarray, sampling_rate: float) -> dict[int, float]:
    """Find leads that run straight for `LINE_SECONDS` or more.

    Args:
        signal: (leads, samples) without NaN.
        sampling_rate: Hz.

    Returns:
        Row of a lead -> second at which its straightest part begins. Empty for recordings below twice `LINE_SECONDS`.
    """
    size = int(LINE_SECONDS * sampling_rate)
    if signal.shape[1] < 2 * size:
        return {}
    around = rms_around_lines(signal, size)
    limits = LINE_RATIO * percentile(around, LINE_PERCENTILE)
    starts = around.argmin(axis=1)
    return {
        lead: float(start / sampling_rate) for lead, start in enumerate(starts) if around[lead, start] < limits[lead]
    }


def noise_of_line(lead: np.ndarray, start: float, sampling_rate: float) -> float:
    """Compare the noise on a straight line with the noise of the quiet parts of the same lead.

    Args:
        lead: (samples,) without NaN.
        start: second at which the line begins; it takes `LINE_SECONDS` or more.
        sampling_rate: Hz.

    Returns:
        Median rms of the short parts on the line, over the `QUIET_TENTH` percentile of all short parts beside the line.
        Infinity if nothing lies beside the line.
    """
    short = max(4, round(SHORT_SECONDS * sampling_rate))
    rest = rms_around_lines(lead[None], short)[0]
    first = int(start * sampling_rate)
    last = min(first + int(LINE_SECONDS * sampling_rate) - short, len(rest) - 1)
    level = float(np.median(rest[first : last + 1]))
    floor = 0.005 * float(np.percentile(rest, LINE_PERCENTILE))  # an exact line has no noise but that of the sums
    is_line = rest <= 2 * max(level, floor)  # the line may be longer than LINE_SECONDS
    is_line[first : last + 1] = True
    before, after = np.flatnonzero(~is_line[:first]), np.flatnonzero(~is_line[last:])
    low = int(before[-1]) + 1 if len(before) else 0
    high = last + int(after[0]) if len(after) else len(rest)
    beside = np.concatenate([rest[:low], rest[high:]])
    quiet = float(np.percentile(beside, QUIET_TENTH)) if len(beside) else 0.0
    step = np.abs(np.diff(lead))
    smallest = float(step[step > 0].min()) if step.any() else 0.0
    is_exact = level <= EXACT_STEPS * smallest or level <= floor
    return 0.0 if is_exact else level / quiet if quiet > 0 else np.inf


def lost_samples(signal: np.ndarray) -> list[int]:
    """Count for each lead the runs of zeros in the midst of samples that are far from zero.

    Args:
        signal: (leads, samples) without NaN.

    Returns:
        Number of runs of each lead. A run at an end of the recording does not count.
    """
    counts = []
    for values in signal:
        starts, ends = runs(values == 0)
        if len(starts) < LOST_RUNS:  # too few for a finding, and their number alone is of no use
            counts.append(0)
            continue
        inside = (starts > 0) & (ends < len(values))
        before, after = values[starts[inside] - 1], values[ends[inside]]
        if np.count_nonzero(before * after > 0) < LOST_RUNS:
            counts.append(0)
            continue
        steps = np.abs(np.diff(values))
        step = float(np.median(steps[steps > 0])) if steps.any() else np.inf
        # A signal that crosses zero has two signs around it.
        is_lost = (before * after > 0) & (np.minimum(np.abs(before), np.abs(after)) >= LOST_STEPS * step)
        counts.append(int(is_lost.sum()))
    return counts


def common_gap(signal: np.ndarray, sampling_rate: float) -> tuple[float, float] | None:
    """Find the longest time in which every lead holds its value, from `GAP_SECONDS` on.

    Args:
        signal: (leads, samples) without NaN.
        sampling_rate: Hz.

    Returns:
        Second at which it begins, and its length in seconds; None if there is none.
    """
    starts, ends = runs((np.diff(signal, axis=1) == 0).all(axis=0))
    if not len(starts):
        return None
    longest = int(np.argmax(ends - starts))
    start, length = starts[longest] / sampling_rate, (ends[longest] - starts[longest]) / sampling_rate
    return (float(start), float(length)) if length >= GAP_SECONDS else None


def rms_around_lines(signal: np.ndarray, size: int) -> np.ndarray:
    """Compute the rms around the best straight line in each part of `size` samples.

    Args:
        signal: (leads, samples).
        size: samples of a part, at least 3.

    Returns:
        (leads, samples - size + 1), for each part at its first sample.
    """
    centred = signal - signal.mean(axis=1, keepdims=True)
    places = np.arange(signal.shape[1])

    def sums(values: np.ndarray) -> np.ndarray:
        total = np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=1)
        return total[:, size:] - total[:, :-size]

    mass, squares = sums(centred), sums(np.square(centred))
    middle = np.arange(mass.shape[1]) + (size - 1) / 2
    moment = sums(centred * places) - middle * mass
    spread = size * (size**2 - 1) / 12  # sum of squared distances from the middle of a part
    rest: np.ndarray = np.sqrt(np.maximum(squares - mass**2 / size - moment**2 / spread, 0) / size)
    return rest


def block_borders(signal: np.ndarray, sampling_rate: float) -> float | None:
    """Find the length of blocks at whose borders all leads jump.

    The step from one sample to the next is compared with the steps beside it. The score is the mean logarithm of this
    ratio over the borders, times the root of their number, because the mean varies less with more borders.

    Args:
        signal: (leads, samples) without NaN.
        sampling_rate: Hz.

    Returns:
        Length of the blocks in seconds, or None if the recording has no such borders.
    """
    steps = np.diff(signal / np.maximum(signal.std(axis=1, keepdims=True), 1e-12), axis=1)
    energy = np.square(steps).mean(axis=0)
    floor = max(float(np.median(energy)), 0.01 * float(energy.mean()), 1e-12)
    near = np.mean([np.roll(energy, shift) for shift in _NEAR], axis=0)
    jumps = np.log((energy + floor) / (near + floor))
    scores: dict[float, float] = {}
    for seconds in BLOCK_SECONDS:
        size = round(seconds * sampling_rate)
        number = len(jumps) // size
        if size < 8 or number < 4:
            continue
        means = jumps[: number * size].reshape(number, size).mean(axis=0)
        # The step number size - 1 leads from one block into the next one.
        if means[-1] >= means.max():
            scores[seconds] = float(means[-1] * np.sqrt(number))
    best = max(scores, key=lambda seconds: scores[seconds], default=None)
    return best if best is not None and scores[best] > BLOCK_SCORE else None


__all__ = [
    "MainsHum",
    "block_borders",
    "lost_samples",
    "mains_hum",
    "noise_of_line",
    "railway_hum",
    "rms_around_lines",
    "straight_lines",
]
