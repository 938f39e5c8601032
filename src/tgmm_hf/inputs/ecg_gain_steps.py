"""Find a gain that changes inside a recording: from one beat on, leads are larger or smaller by one factor.

A heart changes from beat to beat, and the leads change differently then, because its axis turns. A gain that is
switched changes leads by one factor and leaves the others as they were.

None of 1,646 public recordings (PTB-XL, Georgia, Chapman) has such a change. `docs/results/checks/ecg.md` has the
rates.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy

from ..utils.names import LEADS
from .ecg_findings import LeadFindings

MIN_BEATS = 3
"""Smallest number of beats before and after the change."""
STEP = 0.4
"""Smallest change, as the logarithm of the factor: 1.5 times as large or as small."""
APART = 0.15
"""All beats on one side of the change must differ at least so much (logarithm) from all beats on the other side."""
ALIKE = 0.25
"""Largest difference (logarithm) between the changes of two leads of one gain, and of a lead that does not change."""
SMALL_QRS = 0.15
"""A lead is left aside if its QRS has less than this share of the median lead's, because noise decides there."""
MAX_SECONDS = 60.0
"""Only the beginning of a longer recording is looked at."""
_REFRACTORY, _HALF_BEAT, _PEAK = 0.3, 0.08, 0.4
"""Seconds between two beats, seconds around a peak, and the height of a peak over the highest one within a second."""


class GainStep(NamedTuple):
    """A change of the gain.

    Attributes:
        second: when the first changed beat comes.
        factor: size after the change over the size before.
        leads: names of the leads that change.
    """

    second: float
    factor: float
    leads: list[str]


def check_gain(findings: LeadFindings, names: Sequence[str], beats: np.ndarray, sampling_rate: float) -> None:
    """Add a finding if the gain changes inside the recording. Arguments as of `gain_step`."""
    step = gain_step(names, beats[:, : int(MAX_SECONDS * sampling_rate)], sampling_rate)
    if step is None:
        return
    which = f"lead {step.leads[0]} is" if len(step.leads) == 1 else f"{len(step.leads)} leads are"
    text = (
        f"from {step.second:.1f} s on {which} {step.factor:.2g} times as large as before, by one factor: was the gain "
        "changed while recording, or is it breathing, or another form of the beats?"
    )
    findings.add("ecg_gain_step", step.leads[0] if len(step.leads) == 1 else None, text)


def gain_step(names: Sequence[str], beats: np.ndarray, sampling_rate: float) -> GainStep | None:
    """Find the moment from which some or all leads have another gain.

    Args:
        names: of the leads.
        beats: (leads, samples), 5 to 25 Hz.
        sampling_rate: Hz.

    Returns:
        The change; None if there is none, or fewer than `MIN_BEATS` beats on a side.
    """
    places, sizes = _sizes_of_beats(beats, sampling_rate)
    if len(places) < 2 * MIN_BEATS:
        return None
    kept = np.median(sizes, axis=1) >= SMALL_QRS * np.median(sizes)
    kept &= sizes.min(axis=1) > 0
    if kept.sum() < 2:
        return None
    logarithms = np.log(sizes[kept])
    limb = np.array([name in LEADS[:6] for name in names])[kept]  # one limb lead alone contradicts the other ones
    best: tuple[float, int, np.ndarray, float] | None = None
    for split in range(MIN_BEATS, len(places) - MIN_BEATS + 1):
        left, right = logarithms[:, :split], logarithms[:, split:]
        change = np.median(right, axis=1) - np.median(left, axis=1)
        gap = np.maximum(right.min(axis=1) - left.max(axis=1), left.min(axis=1) - right.max(axis=1))
        changed = (np.abs(change) >= STEP) & (gap >= APART)
        if not changed.any() or np.ptp(change[changed]) > ALIKE:
            continue
        if not (changed | (np.abs(change) <= ALIKE)).all() or 0 < changed[limb].sum() < limb.sum():
            continue
        score = float(gap[changed].min())
        if best is None or score > best[0]:
            best = score, split, changed, float(np.exp(np.median(change[changed])))
    if best is None:
        return None
    _, split, changed, factor = best
    leads = [name for name, is_changed in zip(np.array(names)[kept].tolist(), changed, strict=True) if is_changed]
    return GainStep(float(places[split] / sampling_rate), factor, leads)


def _sizes_of_beats(beats: np.ndarray, sampling_rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Find the beats and measure them.

    Returns:
        Two arrays: samples of the peaks (beats,); and the largest distance from zero around each (leads, beats).
    """
    scale = np.maximum(np.median(np.abs(beats), axis=1, keepdims=True), 1e-12)
    energy = np.sqrt(np.mean(np.square(beats / scale), axis=0))
    highest = scipy.ndimage.maximum_filter1d(energy, max(1, round(2 * sampling_rate)))
    half = round(_HALF_BEAT * sampling_rate)
    apart = max(1, round(_REFRACTORY * sampling_rate))
    places = scipy.signal.find_peaks(energy / highest, height=_PEAK, distance=apart)[0]
    places = places[(places >= 2 * half) & (places < beats.shape[1] - 2 * half)]
    around = places[:, None] + np.arange(-half, half + 1)
    return places, np.abs(beats[:, around]).max(axis=-1)


__all__ = ["GainStep", "check_gain", "gain_step"]
