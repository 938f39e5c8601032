"""Repair leads, units and gaps: any recording -> 12 named leads in millivolts at its own sampling rate.

Every model family starts here. A family's extractor then resamples, cuts, filters and scales as its model needs:

    recording = as_recording(ecg)                              # a file, a mapping or an `EcgRecording`
    require_rate(recording, lowest=80, purpose="...")          # what this family needs
    require_samples(recording, 5000, sampling_rate=500)
    harmonised = harmonise_recording(recording)                # 12 leads, mask, notes
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy

from ..utils.errors import InputRefusedError
from ..utils.names import LEADS
from .ecg_arrays import real_numbers, recording_from_mapping, without_other_leads
from .ecg_checks import check_leads
from .ecg_limb_leads import derive_limb_leads
from .ecg_numbers import runs
from .ecg_reading import read_ecg
from .ecg_recording import (
    NORMALISED,
    EcgRecording,
    millivolts_per_unit,
    normalise_lead_name,
)

LARGE_OFFSET_MV = 1000.0
"""A larger offset of a lead is subtracted. Electrodes and amplifiers make at most some hundred millivolts."""
FLAT_MV = 0.01
"""A lead with a smaller span (mV) counts as not connected: a tenth of the smallest standard mark on ECG paper."""
MAX_STILL_SECONDS = 2.0
"""A lead that repeats one value for longer counts as disconnected."""
IMPLAUSIBLE_MV = 20.0
"""A larger distance from the median (mV) is no heart. Paced and hypertrophic QRS complexes stay below 10 mV."""
TINY_MV = 0.05
"""A recording whose largest lead has a smaller span (mV) has lost a factor. No living heart writes so little."""
MAX_INTERPOLATED_SHARE = 0.1
"""A lead that lacks a larger share of its samples is masked."""


@dataclass
class HarmonisedEcg:
    """An ECG with the twelve leads in the model's order.

    Attributes:
        signal (`np.ndarray` of shape `(12, samples)`): mV, or the normalised units of the recording. Leads are in the
            order of `LEADS`. There is no NaN. Masked leads are zero.
        mask (`np.ndarray` of shape `(12,)`, bool): True for a usable lead.
        sampling_rate (`float`): Hz.
        notes (`list[str]`): which leads were derived, interpolated or masked, and why.
        source (`str`): file name for messages.
        checks (`list[dict]`): findings of the header and of `ecg_checks` with `code`, `item` and `text`. The notes hold
            the texts too.
    """

    signal: np.ndarray
    mask: np.ndarray
    sampling_rate: float
    notes: list[str] = field(default_factory=list)
    source: str = "ecg"
    checks: list[dict[str, str]] = field(default_factory=list)


class RepairedLead(NamedTuple):
    """One lead after `repair_lead`.

    Attributes:
        values: (samples,) without NaN, or None if the lead cannot be used.
        problem: why the lead cannot be used; "" if it can.
        note: what was interpolated; "" if nothing was.
    """

    values: np.ndarray | None
    problem: str = ""
    note: str = ""


def as_recording(ecg: Any) -> EcgRecording:
    """Read any accepted form of an ECG and check that its shape fits its lead names.

    Args:
        ecg: path of a file that `read_ecg` reads | `EcgRecording` | mapping with `signal` (leads, samples),
            `sampling_rate` (Hz), `lead_names` and optionally `units` ("mV", the default, "uV", "V" or "normalised"; or
            one for each lead) and `source` (name for messages). Right and posterior chest leads are left out.

    Returns:
        `EcgRecording` with the names and units that the input has. Masked samples of a NumPy array are NaN.

    Raises:
        InputRefusedError: if the file cannot be read, a key is missing or unknown, or the shape does not fit.
    """
    if isinstance(ecg, ValueError):  # a refusal in place of a file that must not be read
        raise ecg
    if isinstance(ecg, (str, Path)):
        recording = read_ecg(ecg)
    elif isinstance(ecg, Mapping):
        recording = recording_from_mapping(ecg)
    # no isinstance check on EcgRecording, because remote code may hold two copies of its module
    elif isinstance(ecg, np.ndarray) or not hasattr(ecg, "lead_names"):
        raise InputRefusedError(
            "ecg",
            f"a {type(ecg).__name__} without lead names: give a path, or a mapping with signal (leads, samples), "
            "sampling_rate (Hz) and lead_names",
        )
    else:
        recording = replace(ecg, signal=real_numbers(ecg.signal, ecg.source))
    shape = recording.signal.shape
    if recording.signal.ndim != 2 or shape[0] != len(recording.lead_names):
        turned = recording.signal.ndim == 2 and shape[1] == len(recording.lead_names)
        remedy = "transpose it (signal.T)" if turned else "give one row per lead name"
        raise InputRefusedError(
            recording.source, f"signal of shape {shape} with {len(recording.lead_names)} lead names: {remedy}"
        )
    return without_other_leads(recording)


def require_rate(recording: EcgRecording, lowest: float, purpose: str) -> None:
    """Refuse a recording whose sampling rate is below `lowest` Hz; `purpose` completes "are needed ..."."""
    if not np.isfinite(recording.sampling_rate) or recording.sampling_rate < lowest:
        raise InputRefusedError(
            recording.source,
            f"sampling rate {recording.sampling_rate:g} Hz, at least {lowest:g} Hz are needed {purpose}: "
            "check the rate or find the original recording",
        )


def require_samples(recording: EcgRecording, num_samples: int, sampling_rate: float) -> None:
    """Refuse a recording that gives fewer than `num_samples` samples after resampling to `sampling_rate` Hz."""
    samples = recording.signal.shape[1]
    if samples_at(samples, recording.sampling_rate, sampling_rate) < num_samples:
        seconds, needed = samples / recording.sampling_rate, num_samples / sampling_rate
        raise InputRefusedError(
            recording.source,
            f"{seconds:g} s long ({samples} samples at {recording.sampling_rate:g} Hz), {needed:g} s are needed: "
            "recordings are never padded; check the sampling rate or find a longer recording",
        )


def samples_at(samples: int, sampling_rate: float, new_rate: float) -> int:
    """Count the samples of a signal of `samples` samples after resampling from `sampling_rate` to `new_rate` Hz."""
    return int(samples * new_rate / sampling_rate)


def resample_leads(ecg: HarmonisedEcg, sampling_rate: float) -> HarmonisedEcg:
    """Resample the usable leads of a harmonised ECG to `sampling_rate` (Hz) by FFT. Masked leads stay zero."""
    samples = ecg.signal.shape[1]
    length = samples_at(samples, ecg.sampling_rate, sampling_rate)
    resampled = np.zeros((len(LEADS), length), dtype=np.float32)
    usable = ecg.signal[ecg.mask]
    resampled[ecg.mask] = usable if length == samples else scipy.signal.resample(usable, length, axis=-1)
    return replace(ecg, signal=resampled, sampling_rate=sampling_rate)


def harmonise_recording(recording: EcgRecording, *, max_gap_seconds: float = 0.1, min_leads: int = 6) -> HarmonisedEcg:
    """Bring a recording to the twelve leads in millivolts: names, units, gaps, derived limb leads.

    Args:
        recording: as `as_recording` returns it.
        max_gap_seconds: longest run of missing samples that is interpolated linearly, with a note. A lead with a longer
            one is masked.
        min_leads: with fewer usable leads the recording is refused.

    Returns:
        `HarmonisedEcg` with signal (12, samples) float64 at the recording's own rate.

    Raises:
        InputRefusedError: if leads are unknown or doubled, the unit is unknown, the amplitude belongs to another unit,
            or too few leads are usable.
    """
    names = standard_lead_names(recording)
    notes = list(recording.notes)
    usable: dict[str, np.ndarray] = {}
    problems = {lead: "missing" for lead in LEADS if lead not in names}
    millivolts, all_figures = _checked_millivolts(recording)
    for lead, values, figures in zip(names, millivolts, all_figures, strict=True):
        repaired = repair_lead(values, recording, max_gap_seconds, figures)
        if repaired.values is None:
            problems[lead] = repaired.problem
        else:
            usable[lead], note = _without_offset(repaired.values, figures)
            notes += [f"lead {lead}: {note}"] if note else []
        if repaired.note:
            notes.append(f"lead {lead}: {repaired.note}")
    findings = check_leads(usable, recording.sampling_rate, recording.source, recording.units != NORMALISED)
    findings.checks[:0] = recording.checks
    for lead, reason in findings.unusable.items():
        problems[lead] = reason
        del usable[lead]
    notes += [check["text"] for check in findings.checks if check["item"].removeprefix("ecg.") not in findings.unusable]
    if recording.units != NORMALISED:
        sources, derived = derive_limb_leads(usable, absent=[lead for lead in LEADS if lead not in names])
        usable |= derived
        if derived:
            notes.append(f"derived from {' and '.join(sources)}: {', '.join(derived)}")
    masked = {lead: problems[lead] for lead in LEADS if lead not in usable}
    if len(usable) < min_leads:
        raise InputRefusedError(
            recording.source,
            f"{len(usable)} usable leads, at least {min_leads} are needed (min_leads): {_by_problem(masked)}",
        )
    notes += [f"lead {lead} masked: {problem}" for lead, problem in masked.items()]
    zeros = np.zeros(recording.signal.shape[1])
    signal = np.stack([usable.get(lead, zeros) for lead in LEADS])
    mask = np.array([lead in usable for lead in LEADS])
    return HarmonisedEcg(signal, mask, recording.sampling_rate, notes, recording.source, findings.checks)


def _by_problem(problems: Mapping[str, str]) -> str:
    """Write the problems of leads, each problem once: "V2 is missing, each of I, II is flat".

    `problems` maps the name of a lead to its problem.
    """
    leads: dict[str, list[str]] = {}
    for lead, problem in problems.items():
        leads.setdefault(problem, []).append(lead)
    return ", ".join(
        f"{names[0]} {problem}" if len(names) == 1 else f"each of {', '.join(names)} {problem}"
        for problem, names in leads.items()
    )


def standard_lead_names(recording: EcgRecording) -> list[str]:
    """Translate the recording's lead names to the names of `LEADS`.

    Returns:
        One name per row of the signal.

    Raises:
        InputRefusedError: if a name is unknown, or two rows are the same lead.
    """
    names: list[str] = []
    for written in recording.lead_names:
        name = normalise_lead_name(written)
        if name is None:
            raise InputRefusedError(
                recording.source, f"lead name {written!r} is not known; known are {', '.join(LEADS)}"
            )
        if name in names:
            twin = recording.lead_names[names.index(name)]
            raise InputRefusedError(
                recording.source, f"{twin!r} and {written!r} both name lead {name}: keep one of them"
            )
        names.append(name)
    return names


def in_millivolts(recording: EcgRecording) -> np.ndarray:
    """Convert a recording to millivolts; infinite samples become NaN, normalised units stay.

    Returns:
        (leads, samples) float64.

    Raises:
        InputRefusedError: if the unit is unknown, or the amplitude belongs to another unit.
    """
    return _checked_millivolts(recording)[0]


def _checked_millivolts(recording: EcgRecording) -> tuple[np.ndarray, list["LeadFigures | None"]]:
    """Convert a recording as `in_millivolts` does, and compute the figures of its leads."""
    signal = np.asarray(recording.signal, dtype=np.float64)
    finite = np.isfinite(signal)
    signal = signal if finite.all() else np.where(finite, signal, np.nan)
    if recording.units == NORMALISED:
        return signal, _figures(signal, recording.sampling_rate)
    try:
        factor = millivolts_per_unit(recording.units)
        signal = signal if factor == 1 else signal * factor
    except ValueError as error:
        raise InputRefusedError(recording.source, f"{error}, or give units='normalised' for z-scored arrays") from error
    figures = _figures(signal, recording.sampling_rate)
    _check_amplitude(signal, figures, recording)
    return signal, figures


class LeadFigures(NamedTuple):
    """Figures of one lead without missing samples, which several checks need.

    Attributes:
        lowest: smallest value.
        highest: largest value.
        median: of the values. None if all leads are so small that no check asks for it.
        may_stand: whether a run of one value may last longer than `MAX_STILL_SECONDS`.
    """

    lowest: float
    highest: float
    median: float | None
    may_stand: bool

    @property
    def peak(self) -> float:
        """Largest distance from the median; without a median the span, which is at least as large."""
        if self.median is None:
            return self.highest - self.lowest
        return max(self.highest - self.median, self.median - self.lowest)


def _figures(millivolts: np.ndarray, sampling_rate: float) -> list[LeadFigures | None]:
    """Compute the figures of all leads (leads, samples) at once; None for a lead with a missing sample.

    A run that is twice as long as a block holds a whole block.
    """
    if not millivolts.shape[1]:
        return [None] * len(millivolts)
    lowest, highest = millivolts.min(axis=1), millivolts.max(axis=1)
    is_small = (highest - lowest <= IMPLAUSIBLE_MV) & (np.maximum(highest, -lowest) <= LARGE_OFFSET_MV)
    median = [None] * len(millivolts) if is_small.all() else np.median(millivolts, axis=1).tolist()
    equal = millivolts[:, 1:] == millivolts[:, :-1]
    block = max(1, int(min(MAX_STILL_SECONDS * sampling_rate, equal.shape[1])) // 2)
    number = equal.shape[1] // block
    blocks = equal[:, : number * block].reshape(len(equal), number, block)
    may_stand = blocks.all(axis=2).any(axis=1)
    figures = zip(lowest.tolist(), highest.tolist(), median, may_stand.tolist(), strict=True)
    return [None if np.isnan(low) else LeadFigures(low, *others) for low, *others in figures]


def repair_lead(
    values: np.ndarray, recording: EcgRecording, max_gap_seconds: float, figures: LeadFigures | None = None
) -> RepairedLead:
    """Interpolate short gaps of one lead, or say why the lead cannot be used.

    Args:
        values: (samples,) mV or normalised units. NaN marks a missing sample.
        recording: gives the sampling rate and the units.
        max_gap_seconds: longest run of missing samples that is interpolated.
        figures: of the values, if they are at hand.

    Returns:
        `RepairedLead`: the values without NaN and a note, or None and the problem.
    """
    note = ""
    missing = np.isnan(values) if figures is None else np.zeros(0, bool)
    if missing.any():
        problem, note = _judge_gaps(missing, recording.sampling_rate, max_gap_seconds)
        if problem:
            return RepairedLead(None, problem)
        positions = np.arange(values.size)
        values = np.interp(positions, positions[~missing], values[~missing])
    figures = figures or _figures(values[None], recording.sampling_rate)[0]
    if figures is None or recording.units == NORMALISED:
        problem = "is flat" if figures is None or figures.highest == figures.lowest else ""
    else:
        problem = _implausible(values, figures, recording.sampling_rate)
    return RepairedLead(None if problem else values, problem, note)


def typical_peak(millivolts: np.ndarray) -> float:
    """Compute the median over leads of the largest distance from the lead's median (mV); input (leads, samples)."""
    return float(np.median(np.nanmax(np.abs(millivolts - np.nanmedian(millivolts, axis=1, keepdims=True)), axis=1)))


def lead_spans(millivolts: np.ndarray) -> np.ndarray:
    """Measure highest minus lowest value of every lead (leads,) in mV; `millivolts` (leads, samples)."""
    return np.nanmax(millivolts, axis=1) - np.nanmin(millivolts, axis=1)


def _judge_gaps(missing: np.ndarray, sampling_rate: float, max_gap_seconds: float) -> tuple[str, str]:
    """Decide whether the gaps of a lead can be interpolated.

    Args:
        missing: (samples,) bool, with at least one True.
        sampling_rate: Hz.
        max_gap_seconds: longest run that may be interpolated.

    Returns:
        Two texts: why the lead cannot be used, and what is interpolated. One of the two is empty.
    """
    if missing.all():
        return "has no values", ""
    longest = _longest_run(missing) / sampling_rate
    if longest > max_gap_seconds:
        return f"has a gap of {longest:.3g} s, the limit is {max_gap_seconds:g} s", ""
    if missing.mean() > MAX_INTERPOLATED_SHARE:
        return f"lacks {missing.mean():.0%} of its samples, the limit is {MAX_INTERPOLATED_SHARE:.0%}", ""
    return "", f"{missing.sum()} missing samples interpolated, longest gap {longest:.3g} s"


def _implausible(millivolts: np.ndarray, figures: LeadFigures, sampling_rate: float) -> str:
    """Say why the values (samples,) of a lead cannot be a heart's; "" if they can."""
    span = figures.highest - figures.lowest
    if span < FLAT_MV:
        return f"is flat ({span:.2g} mV from lowest to highest, the limit is {FLAT_MV:g} mV)"
    if figures.may_stand:
        still = _longest_run(np.diff(millivolts) == 0) / sampling_rate
        if still > MAX_STILL_SECONDS:
            return f"stands still for {still:.3g} s, the limit is {MAX_STILL_SECONDS:g} s"
    if figures.peak > IMPLAUSIBLE_MV:
        return f"reaches {figures.peak:.3g} mV, the limit is {IMPLAUSIBLE_MV:g} mV"
    return ""


def _check_amplitude(millivolts: np.ndarray, figures: list[LeadFigures | None], recording: EcgRecording) -> None:
    """Refuse a recording whose typical lead is far too large or too small, because its unit must be wrong."""
    whole = [figure for figure in figures if figure is not None]
    if whole and len(whole) == len(figures):
        peaks = [figure.peak for figure in whole]
        peak = float(np.median(peaks)) if max(peaks) > IMPLAUSIBLE_MV else max(peaks)
        span = max(figure.highest - figure.lowest for figure in whole)
    else:
        leads = millivolts[~np.isnan(millivolts).all(axis=1)]
        if leads.size == 0:
            return
        peak, span = typical_peak(leads), float(lead_spans(leads).max())
    if peak > IMPLAUSIBLE_MV:
        raise InputRefusedError(
            recording.source,
            f"amplitude of {peak:.4g} mV in the typical lead, at most {IMPLAUSIBLE_MV:g} mV is plausible: the signal "
            f"was read as {recording.units!r}. Of a file, the unit or gain in its header may be wrong. Of an array, "
            "give units='uV', or units='normalised' if it is already scaled.",
        )
    if 0 < span < TINY_MV:
        raise InputRefusedError(
            recording.source,
            f"amplitude of {span:.2g} mV in the largest lead, at least {TINY_MV:g} mV is plausible: "
            f"the signal was read as {recording.units!r}. Of a file, the unit or gain in its header may be wrong. Of "
            "an array, give units='mV', or multiply volts by 1000.",
        )


def _without_offset(values: np.ndarray, figures: LeadFigures | None) -> tuple[np.ndarray, str]:
    """Subtract the median of a lead if it is so large that the signal would lose its digits in single precision.

    Returns:
        Two elements: the values (samples,), and a note, "" if nothing was changed.
    """
    if figures is not None and figures.median is None:
        return values, ""
    offset = float(np.median(values)) if figures is None else float(figures.median or 0)
    if abs(offset) <= LARGE_OFFSET_MV:
        return values, ""
    return values - offset, f"an offset of {offset:.3g} mV was subtracted"


def _longest_run(flags: np.ndarray) -> int:
    """Count the samples of the longest run of True in `flags` (samples,); 0 without any True."""
    starts, ends = runs(flags)
    return int((ends - starts).max(initial=0))
