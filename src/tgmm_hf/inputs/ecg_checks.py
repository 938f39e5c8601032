"""Check that twelve leads belong to one heart: limb arithmetic, amplitudes, electrodes, stillness, clipping, heartbeat.

Each check gives findings with a code. A finding may put leads out of use. A recording is refused where its limb leads
contradict each other and nothing tells which one is wrong, or where no lead holds a heartbeat. `ecg_heart_checks` adds
the checks of beats, their speed and their size.

The limits were set on public recordings (PTB-XL, Georgia, Chapman) and on the synthetic cohort.
`docs/results/checks/ecg.md` has the measured detection and false-alarm rates and the command.
"""

from collections.abc import Mapping
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
import scipy

from ..utils.errors import InputRefusedError
from ..utils.names import LEADS
from .ecg_artefacts import check_artefacts
from .ecg_beats import band_pass, beat_signals
from .ecg_electrodes import MIXED_EXCHANGES, exchanged_electrodes
from .ecg_equal_leads import COPY_RATIO, check_computed_leads, copied_leads
from .ecg_findings import LeadFindings
from .ecg_gain_steps import check_gain
from .ecg_heart_checks import check_heart
from .ecg_limb_leads import LIMB_LEADS, derive_limb_leads
from .ecg_numbers import in_long_runs, percentile, span
from .ecg_single_chest_leads import neighbours_of, turned_chest_lead
from .ecg_wrapped import check_wrapped_leads

LIMB_RATIO = 0.25
"""Largest misfit of a limb lead to the others (rms over rms, 1 to 20 Hz), whatever the noise. Real recordings have at
most 0.01, the synthetic cohort with its noise 0.13, exchanged or inverted leads from 0.3."""
CLEAN_LIMB_RATIO, NOISE_FACTOR = 0.1, 5.0
"""Without noise a smaller misfit is a contradiction. The limit is CLEAN_LIMB_RATIO, or NOISE_FACTOR times the misfit of
the four limb leads that fit best if that is larger, and at most LIMB_RATIO."""
QUIET_MV = 0.03
"""An rms below this (mV) is not used as a denominator, because noise would decide."""
MIN_AGREEING = 4
"""Number of limb leads that must agree before the other limb leads are called wrong. Two leads determine all six, and
two more confirm them."""
AMPLITUDE_JUMP = 3.0
"""Largest amplitude of a chest lead over its larger neighbour. Real recordings have at most 2.1."""
AMPLITUDE_DROP = 0.25
"""Smallest amplitude of a chest lead over the smaller one of two neighbours. Real recordings have at least 0.48."""
CHEST_LEADS = LEADS[6:]
CHEST_SIZE = (0.4, 6.0)
"""Smallest and largest span of the median chest lead over the span of the median limb lead. Real recordings have 0.9 to
3.4."""
FLAT_LIMB = 0.1
"""Smallest rms of lead I, II or III over the median of the other two. Real recordings have at least 0.3."""
STILL_SECONDS, STILL_SHARE = 0.3, 0.1
"""A lead is noted if runs of one value, each at least STILL_SECONDS long, fill at least STILL_SHARE of the recording.
Real recordings have no such run."""
CLIPPED_RUN, CLIPPED_SHARE = 0.006, 0.006
"""A lead is noted if runs at its highest or lowest value, each at least CLIPPED_RUN seconds and three samples long,
fill at least CLIPPED_SHARE of the recording. Real recordings have 0.003."""
QRS_BAND = (5.0, 25.0)
"""Band (Hz) that holds most of the energy of QRS complexes."""
MIN_QRS_MV = 0.02
"""Smallest peak (mV) of a lead in `QRS_BAND` that may be a beat."""
MIN_QRS_SHARE = 0.02
"""Smallest share of the band in a lead's energy above 0.5 Hz. Mains hum has 0.001, real leads 0.2 or more."""
PEAKED = 1.1
"""Variation of the band's energy over time (standard deviation over mean) that only beats reach: noise has 0.6 to 0.9,
the best lead of a real recording 1.0 to 7."""
PULSED, RHYTHMIC = 0.3, 0.6
"""A slow or wide rhythm is less peaked. It counts where the energy varies by PULSED and repeats itself with a
correlation of RHYTHMIC within 0.25 to 2 s; the highest of twelve leads of noise is 0.53."""
MIN_HEART_SECONDS = 4.0
"""A shorter recording may lie between two beats, so it is not searched for a heartbeat."""
ARM_QRS, ARM_P = -0.3, -0.03
"""Arm electrodes may be exchanged where QRS (balance of peaks, -1 to 1) and P wave (share of the lead's span) of lead I
are below these and aVR points up."""


def check_leads(leads: Mapping[str, np.ndarray], sampling_rate: float, source: str, in_mv: bool) -> LeadFindings:
    """Check the usable leads of a recording, recorded ones only.

    Args:
        leads: lead -> values (samples,) without NaN, mV or normalised units.
        sampling_rate: Hz.
        source: file name for messages.
        in_mv: False for normalised units, whose leads have lost their ratios.

    Returns:
        `LeadFindings`: all findings, and the leads that must not be used.

    Raises:
        InputRefusedError: if limb leads contradict each other and the wrong ones are not known, no lead holds a
            heartbeat, or `check_heart` refuses the recording.
    """
    findings = LeadFindings()
    if not leads or sampling_rate <= 2 * QRS_BAND[1]:
        return findings
    names, signal = list(leads), np.stack(list(leads.values()))
    if signal.shape[1] < sampling_rate:
        return findings
    band = dict(zip(names, band_pass(signal, 1.0, 20.0, sampling_rate), strict=True))
    beats, still = band_pass(signal, *QRS_BAND, sampling_rate), _still_samples(signal, sampling_rate)
    check_wrapped_leads(findings, names, signal, sampling_rate)
    for row, lead in enumerate(names):
        _check_still(findings, lead, still[row])
        _check_clipped(findings, lead, signal[row], sampling_rate)
    if signal.shape[1] >= MIN_HEART_SECONDS * sampling_rate:
        _refuse_without_heartbeat(signal, beats, still, sampling_rate, source, in_mv)
        check_heart(findings, names, beat_signals(signal, sampling_rate, beats), source, in_mv)
        check_artefacts(findings, names, signal, sampling_rate, in_mv, beats)
        check_gain(findings, names, beats, sampling_rate)
    if in_mv:
        sizes = dict(zip(names, span(np.stack(list(band.values())), 0.5).tolist(), strict=True))
        _check_limb_arithmetic(findings, band, source)
        _check_flat_limb(findings, band)
        _check_amplitudes(findings, sizes)
        _check_chest_size(findings, sizes)
    _check_equal_leads(findings, leads, band)
    check_computed_leads(findings, leads, band)
    _check_arm_electrodes(findings, leads, beats, sampling_rate)
    _check_electrodes(findings, band, in_mv)
    _check_turned_chest_lead(findings, band)
    return findings


def limb_misfit(band: Mapping[str, np.ndarray]) -> float:
    """Measure how badly limb leads fit each other.

    The leads are fitted by two free ones (Einthoven, Goldberger); with I, II and III alone this is I + III - II.

    Args:
        band: lead -> values (samples,) in mV, all filtered alike.

    Returns:
        Largest rms of a lead's misfit over the lead's rms; 0 with fewer than three leads.
    """
    names = [lead for lead in LIMB_LEADS if lead in band]
    return _misfit(names, _products(names, band))


def has_heartbeat(signal: np.ndarray, sampling_rate: float, in_mv: bool = True) -> bool:
    """Tell whether any lead holds something like QRS complexes.

    Args:
        signal: (leads, samples) without NaN.
        sampling_rate: Hz, above 50.
        in_mv: False for normalised units.

    Returns:
        True if at least one lead has beats.
    """
    beats, still = band_pass(signal, *QRS_BAND, sampling_rate), _still_samples(signal, sampling_rate)
    return _any_beats(signal, beats, still, sampling_rate, in_mv)


def _any_beats(signal: np.ndarray, beats: np.ndarray, still: np.ndarray, sampling_rate: float, in_mv: bool) -> bool:
    """Tell the same as `has_heartbeat` from the signal, the signal in `QRS_BAND` and its still samples.

    The leads are filtered one by one, because the first one usually has beats.
    """
    edge = int(0.25 * sampling_rate)  # a filter answers to the ends of the recording
    inside = slice(edge, -edge)
    for row in range(len(signal)):
        wide = band_pass(signal[row : row + 1], 0.5, min(150.0, 0.45 * sampling_rate), sampling_rate)[0]
        if _beats(wide[inside], beats[row, inside], still[row, inside], sampling_rate, in_mv):
            return True
    return False


def _beats(wide: np.ndarray, qrs: np.ndarray, still: np.ndarray, sampling_rate: float, in_mv: bool) -> bool:
    """Tell whether one lead has energy in the QRS band that comes in beats.

    Args:
        wide: (samples,), the lead from 0.5 to 150 Hz.
        qrs: (samples,), the lead in `QRS_BAND`.
        still: (samples,) bool, True in runs of one value.
        sampling_rate: Hz.
        in_mv: False for normalised units.
    """
    share = np.square(qrs).mean() / max(np.square(wide).mean(), 1e-30)
    if share < MIN_QRS_SHARE or (in_mv and percentile(np.abs(qrs), 99.5) < MIN_QRS_MV):
        return False
    step = max(1, int(sampling_rate // 50))
    energy = scipy.ndimage.uniform_filter1d(np.square(qrs), max(1, int(0.12 * sampling_rate)))[::step]
    rate = sampling_rate / step
    moving = energy[~still[::step]]
    if moving.size < rate:
        return False
    peaks, _ = scipy.signal.find_peaks(energy, height=0.3 * percentile(energy, 99), distance=max(1, int(0.2 * rate)))
    variation = moving.std() / moving.mean()
    if peaks.size < 2 or variation < PULSED:
        return False
    return bool(variation > PEAKED or _repetition(energy, rate) > RHYTHMIC)


def _repetition(energy: np.ndarray, rate: float) -> float:
    """Find the highest autocorrelation (1 for lag 0) of the energy (samples,) at lags of 0.25 to 2 s."""
    size = energy.size
    spectrum = np.fft.rfft(energy - energy.mean(), 2 * size)
    products = np.fft.irfft(np.square(np.abs(spectrum)))[:size] / (size - np.arange(size))
    return float(products[int(0.25 * rate) : min(int(2.0 * rate), size)].max() / products[0])


def _refuse_without_heartbeat(
    signal: np.ndarray, beats: np.ndarray, still: np.ndarray, sampling_rate: float, source: str, in_mv: bool
) -> None:
    """Refuse a recording (leads, samples) of noise, hum, a ramp or anything else without beats."""
    if not _any_beats(signal, beats, still, sampling_rate, in_mv):
        raise InputRefusedError(
            source,
            f"no heartbeat in any of {len(signal)} leads: no energy of QRS complexes ({QRS_BAND[0]:g} to "
            f"{QRS_BAND[1]:g} Hz) that comes in beats; is it noise, mains hum or another signal?",
        )


def _check_limb_arithmetic(findings: LeadFindings, band: dict[str, np.ndarray], source: str) -> None:
    """Put limb leads out of use that contradict at least `MIN_AGREEING` limb leads that agree.

    Args:
        findings: the leads are added here.
        band: lead -> values (samples,) in mV, 1 to 20 Hz.
        source: file name for messages.

    Raises:
        InputRefusedError: if leads contradict each other and no `MIN_AGREEING` limb leads agree.
    """
    names = [lead for lead in LIMB_LEADS if lead in band]
    products = _products(names, band)
    misfit = _misfit(names, products)
    noise = min((_misfit(four, products) for four in combinations(names, MIN_AGREEING)), default=1.0)
    limit = min(LIMB_RATIO, max(CLEAN_LIMB_RATIO, NOISE_FACTOR * noise))
    if misfit <= limit:
        return
    for size in range(len(names) - 1, MIN_AGREEING - 1, -1):
        fits = {agreeing: _misfit(agreeing, products) for agreeing in combinations(names, size)}
        best = min(fits, key=lambda agreeing: fits[agreeing])
        if fits[best] <= limit / 2 or (size == MIN_AGREEING and fits[best] <= limit):
            for lead in names:
                if lead not in best:
                    findings.put_out("ecg_limb_arithmetic", lead, f"contradicts {', '.join(best)} (I + III = II)")
            return
    raise InputRefusedError(
        source,
        f"the limb leads {', '.join(names)} contradict each other (misfit {misfit:.2g} of their size, at most "
        f"{limit:.2g} is plausible; I + III = II): leads are exchanged, inverted, scaled or not simultaneous",
    )


def _products(names: list[str], band: Mapping[str, np.ndarray]) -> dict[tuple[str, str], float]:
    """Compute (lead, lead) -> the mean over time of the product of the two signals in `band`."""
    if not names:
        return {}
    signals = np.stack([band[lead] for lead in names])
    gram = signals @ signals.T / signals.shape[1]
    return {(one, two): float(gram[i, j]) for i, one in enumerate(names) for j, two in enumerate(names)}


def _misfit(names: Any, products: Mapping[tuple[str, str], float]) -> float:
    """Compute the result of `limb_misfit` for the leads `names` from what `_products` returns."""
    if len(names) < 3:
        return 0.0
    remainder = _remainder(tuple(names))
    gram = np.array([[products[one, two] for two in names] for one in names])
    residual = np.sqrt(np.maximum(np.diag(remainder @ gram @ remainder.T), 0))
    return float((residual / np.maximum(np.sqrt(np.diag(gram)), QUIET_MV)).max())


@lru_cache(maxsize=128)
def _remainder(names: tuple[str, ...]) -> np.ndarray:
    """Compute (leads, leads): what is left of limb leads after their fit by two free ones."""
    weights = np.array([LIMB_LEADS[lead] for lead in names])
    remainder: np.ndarray = np.eye(len(names)) - weights @ np.linalg.pinv(weights)
    return remainder


def _check_flat_limb(findings: LeadFindings, band: dict[str, np.ndarray]) -> None:
    """Note a nearly flat lead among I, II and III: the right leg's electrode may be on an arm."""
    sizes = {lead: float(band[lead].std()) for lead in ("I", "II", "III") if lead in band}
    if len(sizes) < 3:
        return
    lead = min(sizes, key=lambda name: sizes[name])
    typical = float(np.median([size for name, size in sizes.items() if name != lead]))
    if sizes[lead] < FLAT_LIMB * typical and typical > QUIET_MV:
        findings.add(
            "ecg_flat_limb_lead",
            lead,
            f"lead {lead} is nearly flat ({sizes[lead]:.2g} mV, I, II and III have {typical:.2g} mV): the electrode of "
            "the right leg may be exchanged with that of an arm",
        )


def _check_amplitudes(findings: LeadFindings, sizes: Mapping[str, float]) -> None:
    """Note a chest lead that is much smaller than both neighbours, or much larger than its neighbours.

    V1 and V6 have one neighbour, and a small V1 is common, so they are not called small. Neighbours that are called
    small make no lead large. `sizes` has lead -> span in mV, 1 to 20 Hz.
    """
    chest = [lead for lead in CHEST_LEADS if lead in sizes]
    beside = {
        lead: [other for other in chest if abs(CHEST_LEADS.index(other) - CHEST_LEADS.index(lead)) == 1]
        for lead in chest
    }
    near = {lead: [sizes[other] for other in beside[lead]] for lead in chest}
    enclosed = [lead for lead in chest if len(near[lead]) == 2 and min(near[lead]) > QUIET_MV]
    small = {lead for lead in enclosed if sizes[lead] < AMPLITUDE_DROP * min(near[lead])}
    for lead in chest:
        references = [sizes[neighbour] for neighbour in beside[lead] if neighbour not in small]
        is_large = bool(references) and sizes[lead] > AMPLITUDE_JUMP * max(*references, QUIET_MV)
        if lead not in findings.unusable and (is_large or lead in small):
            findings.add(
                "ecg_amplitude",
                lead,
                f"lead {lead} spans {sizes[lead]:.3g} mV, its neighbours "
                f"{' and '.join(f'{size:.3g} mV' for size in near[lead])}: is its gain right?",
            )


def _check_chest_size(findings: LeadFindings, sizes: Mapping[str, float]) -> None:
    """Note chest leads that are all too small or too large for the limb leads; `sizes` has lead -> span in mV."""
    limb, chest = (
        [size for lead, size in sizes.items() if (lead in LIMB_LEADS) == is_limb and lead not in findings.unusable]
        for is_limb in (True, False)
    )
    if min(len(limb), len(chest)) < 4 or np.median(limb) < QUIET_MV:
        return
    ratio = float(np.median(chest) / np.median(limb))
    if not CHEST_SIZE[0] <= ratio <= CHEST_SIZE[1]:
        findings.add(
            "ecg_chest_size",
            None,
            f"the chest leads span {np.median(chest):.2g} mV, the limb leads {np.median(limb):.2g} mV (ratio "
            f"{ratio:.2g}, {CHEST_SIZE[0]:g} to {CHEST_SIZE[1]:g} is usual): is the gain of the chest leads right?",
        )


def _check_equal_leads(findings: LeadFindings, leads: Mapping[str, np.ndarray], band: dict[str, np.ndarray]) -> None:
    """Put chest leads out of use that are copies of another lead, also scaled or turned over.

    A pair with a limb lead that is out of use is left out.
    """
    for (one, two), factor in copied_leads(leads, band).items():
        if any(lead in findings.unusable and lead in LIMB_LEADS for lead in (one, two)):
            continue
        for lead, other, times in ((one, two, factor), (two, one, 1 / factor)):
            if lead not in LIMB_LEADS:
                reason = f"equals lead {other}" if abs(times - 1) < COPY_RATIO else f"is lead {other} x {times:.3g}"
                findings.put_out("ecg_equal_leads", lead, reason)


def _check_electrodes(findings: LeadFindings, band: Mapping[str, np.ndarray], in_mv: bool) -> None:
    """Note limb or chest electrodes that were probably exchanged; `band` has lead -> (samples,).

    A recording without clear beats, with leads of two hearts, or with a finding that is about the same electrodes, is
    not judged.
    """
    if findings.has("ecg_no_clear_beats", "ecg_beats_at_other_times", "ecg_beats_change", "ecg_chest_leads_turned"):
        return
    usable = {lead: values for lead, values in band.items() if lead not in findings.unusable}
    if in_mv:
        usable |= derive_limb_leads(usable, [lead for lead in LIMB_LEADS if lead not in band])[1]
    exchange = exchanged_electrodes(usable, in_mv)
    if exchange is None:
        return
    fit = f"the leads fit each other better (by {exchange.gain:.1f}) if this is undone: {exchange.name}"
    if not exchange.of_limbs:
        findings.add("ecg_chest_leads_exchanged", None, f"chest leads may be exchanged, which are no neighbours: {fit}")
    elif exchange.name in MIXED_EXCHANGES or not findings.has("ecg_arm_electrodes"):
        findings.add(
            "ecg_limb_electrodes",
            None,
            f"the limb electrodes may be exchanged or rotated: {fit} (dextrocardia looks alike, and chest leads that "
            "are all upside down or in reverse order)",
        )


def _check_turned_chest_lead(findings: LeadFindings, band: dict[str, np.ndarray]) -> None:
    """Note one chest lead that is upside down; `band` has lead -> (samples,).

    A recording whose chest leads are all named, whose arm electrodes may be exchanged (aVR is a neighbour of V1 and
    V6), or whose beats change at one moment, is not judged.
    """
    explaining_codes = (
        "ecg_chest_leads_turned",
        "ecg_chest_leads_exchanged",
        "ecg_arm_electrodes",
        "ecg_limb_electrodes",
        "ecg_beats_change",
    )
    if findings.has(*explaining_codes):
        return
    usable = {lead: values for lead, values in band.items() if lead not in findings.unusable}
    turned = turned_chest_lead(usable)
    if turned is not None:
        lead, likeness = turned
        beside = " and ".join(f"{'-' if sign < 0 else ''}{other}" for other, sign in neighbours_of(lead, usable))
        findings.add(
            "ecg_chest_leads_turned",
            lead,
            f"lead {lead} looks like the opposite of {beside} (correlation {likeness:.2f}): is it upside down?",
        )


def _check_still(findings: LeadFindings, lead: str, still: np.ndarray) -> None:
    """Note a lead that stands still, where `still` (samples,) is True, for at least `STILL_SHARE` of the time."""
    share = float(still.mean())
    if share >= STILL_SHARE:
        findings.add("ecg_still", lead, f"lead {lead} stands still for {share:.0%} of the time")


def _check_clipped(findings: LeadFindings, lead: str, values: np.ndarray, sampling_rate: float) -> None:
    """Note a lead that stays at its highest or lowest value for at least `CLIPPED_SHARE` of the time."""
    length = max(3, int(CLIPPED_RUN * sampling_rate))
    share = max(float(in_long_runs(values == limit, length).mean()) for limit in (values.max(), values.min()))
    if share >= CLIPPED_SHARE:
        findings.add("ecg_clipped", lead, f"lead {lead} is clipped: {share:.1%} of its samples are at its limits")


def _check_arm_electrodes(
    findings: LeadFindings, leads: Mapping[str, np.ndarray], beats: np.ndarray, sampling_rate: float
) -> None:
    """Note a recording that looks as if the electrodes of the arms were exchanged.

    The exchange turns lead I over and swaps aVR with aVL, so P wave and QRS complex of I point down and aVR may point
    up. Dextrocardia looks alike. `beats` has all leads in `QRS_BAND`.
    """
    if not {"I", "aVR"} <= leads.keys():
        return
    beat = _median_beat(np.stack([leads["I"], leads["aVR"]]), beats, sampling_rate)
    if beat is None:
        return
    one, right = beat
    qrs, p_wave = _qrs_balance(one, sampling_rate), _p_wave(one, sampling_rate)
    if qrs < ARM_QRS and p_wave < ARM_P and _qrs_balance(right, sampling_rate) > 0:
        findings.add(
            "ecg_arm_electrodes",
            None,
            "the electrodes of the arms may be exchanged: QRS complex and P wave of lead I are negative and aVR is "
            "upright (dextrocardia looks alike)",
        )


_BEFORE, _AFTER = 0.35, 0.15
"""Seconds of a beat before and after its QRS complex."""


def _median_beat(wanted: np.ndarray, qrs: np.ndarray, sampling_rate: float) -> np.ndarray | None:
    """Average the beats of some leads by the median.

    Args:
        wanted: (leads, samples), the leads to average.
        qrs: (all leads, samples) in `QRS_BAND`, where the beats are found.
        sampling_rate: Hz.

    Returns:
        The median beat (leads, samples) from `_BEFORE` seconds before the QRS complex to `_AFTER` seconds after it.
        None with fewer than three beats.
    """
    qrs = qrs / np.maximum(qrs.std(axis=1, keepdims=True), 1e-9)
    energy = scipy.ndimage.uniform_filter1d(np.square(qrs).mean(axis=0), max(1, int(0.08 * sampling_rate)))
    peaks, _ = scipy.signal.find_peaks(energy, height=0.35 * percentile(energy, 99), distance=int(0.3 * sampling_rate))
    before, after = int(_BEFORE * sampling_rate), int(_AFTER * sampling_rate)
    whole = [peak for peak in peaks if peak >= before and peak + after < qrs.shape[1]]
    if len(whole) < 3:
        return None
    smooth = band_pass(wanted, 0.5, 30.0, sampling_rate) if sampling_rate > 60 else wanted
    return np.median([smooth[:, peak - before : peak + after] for peak in whole], axis=0)


def _part(beat: np.ndarray, start: float, end: float, sampling_rate: float) -> np.ndarray:
    """Cut seconds `start` to `end` around the QRS complex out of a beat (samples,)."""
    centre = int(_BEFORE * sampling_rate)
    return beat[centre + round(start * sampling_rate) : centre + round(end * sampling_rate) + 1]


def _qrs_balance(beat: np.ndarray, sampling_rate: float) -> float:
    """Measure how far the QRS complex of a beat (samples,) points up (1) or down (-1)."""
    qrs = _part(beat, -0.06, 0.06, sampling_rate) - np.median(_part(beat, -0.10, -0.06, sampling_rate))
    return float((qrs.max() + qrs.min()) / max(np.ptp(qrs), 1e-9))


def _p_wave(beat: np.ndarray, sampling_rate: float) -> float:
    """Measure the P wave of a beat (samples,) as a share of the beat's span; negative if the wave points down."""
    part = _part(beat, -0.26, -0.07, sampling_rate)
    wave = part - np.linspace(part[0], part[-1], part.size)
    return float(wave[np.abs(wave).argmax()] / max(np.ptp(beat), 1e-9))


def _still_samples(signal: np.ndarray, sampling_rate: float) -> np.ndarray:
    """Return (leads, samples) bool: True in a run of one value that lasts at least `STILL_SECONDS`."""
    equal = np.zeros(signal.shape, dtype=bool)
    np.equal(signal[:, 1:], signal[:, :-1], out=equal[:, :-1])
    return np.stack([in_long_runs(lead, int(STILL_SECONDS * sampling_rate)) for lead in equal])
