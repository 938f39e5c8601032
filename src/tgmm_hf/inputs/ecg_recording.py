"""Hold an ECG as a file or an array gives it: leads by name, units, and the refusals that every format shares."""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy

from ..utils.errors import InputRefusedError
from ..utils.names import LEADS
from .private_text import quoted

NORMALISED = "normalised"
"""Value of `units` for a signal that has lost its amplitude, such as a z-scored array."""
NORMALISED_UNITS = ("nu", "normalised", "normalized")
"""Spellings of these units in files, in lower case. WFDB writes "NU"."""
UNIT_NOT_STATED = "not stated"
"""Unit of a channel that has none."""
MAX_VALUES = 15_000_000
"""Largest number of samples x channels that a file may declare: 12 leads at 500 Hz for 41 minutes. It is compared
before anything is decoded, because a small file can declare any number."""
MAX_NAME_LENGTH = 100
"""A longer channel name is no lead name."""
PULSE_SECONDS = (0.1, 1.5)
"""Shortest and longest part at an end of a recording that is taken for a calibration pulse. Philips writes 0.4 s."""
PULSE_MV = 0.5
"""Smallest span (mV) of a calibration pulse; the usual pulse has 1 mV."""
EQUAL_MV = 0.025
"""Leads that differ less (mV) are equal. Exports round to 5 uV, and conversions smooth by up to 20 uV."""
NAMED_CHANNELS = 16
"""Largest number of channels without a lead that a note or a refusal names."""

_LEAD_NAME = re.compile(
    r"(?:mdc[\s_-]*)?(?:(?:ecg|ekg)[\s_-]*)?(?:lead[\s_:-]*)?(d?i{1,3}|d[123]|a?v[rlf]|[vc][1-6])|lead[\s_:-]*([123])"
)
_LEAD_BY_LOWER = {lead.lower(): lead for lead in LEADS}
_CHANNEL_KIND = re.compile(
    r"[+-]?(?:pleth|ppg|spo2|resp|abp|art|pap|cvp|icp|co2|etco2|eeg|emg|eog|temp|nbp|hr|ml(?:i{1,3}|v[1-6])|v[1-9]r?"
    r"|v[xyz]|[xyz]|pace|pacer|pacing|marker|event|av[rlf]|i{1,3})",
    re.IGNORECASE,
)
_ROMAN = {"1": "I", "2": "II", "3": "III"}
# Words beside a lead name that say that the channel is another signal, in brackets or after a comma.
_OTHER_SIGNAL = re.compile(
    r"inv|neg|minus|[-\u2212]|rev|flip|mirror|cop(?:y|ie)|dup|clone|mod|posterior|dorsal|median|average|mean|template"
    r"|simul|synth|bipolar|mason|lund|nehb|frank|\d"
)
# Unit in lower case -> millivolts.
_MILLIVOLTS = {
    "mv": 1.0,
    "millivolt": 1.0,
    "uv": 1e-3,
    "microvolt": 1e-3,
    "nv": 1e-6,
    "nanovolt": 1e-6,
    "v": 1e3,
    "volt": 1e3,
}


@dataclass
class EcgRecording:
    """An ECG as a file or an array gives it.

    Attributes:
        signal (`np.ndarray` of shape `(leads, samples)`): floating point. NaN marks a missing sample.
        sampling_rate (`float`): Hz.
        lead_names (`list[str]`): one name per row of `signal`.
        units (`str`): "mV" from a file. An array may also be in "uV", "nV", "V" or "normalised".
        source (`str`): file name for messages.
        notes (`list[str]`): what the reader left out or selected.
        checks (`list[dict]`): what the header says against a resting ECG, with `code`, `item` and `text`.
    """

    signal: np.ndarray
    sampling_rate: float
    lead_names: list[str]
    units: str = "mV"
    source: str = "ecg"
    notes: list[str] = field(default_factory=list)
    checks: list[dict[str, str]] = field(default_factory=list)


class Channel(NamedTuple):
    """One channel of a file.

    Attributes:
        name: as the file writes it.
        unit: of `values`, as the file writes it.
        values: (samples,) in that unit. NaN marks a missing sample.
        sampling_rate: Hz.
        problem: why the values have no known scale; "" if they have.
    """

    name: str
    unit: str
    values: np.ndarray
    sampling_rate: float
    problem: str = ""


def normalise_lead_name(name: str) -> str | None:
    """Translate a lead name as files write it to the model's name.

    Case, the prefixes "Lead", "ECG" and "MDC_ECG_LEAD_", text in brackets and text after a comma are ignored.
    "AVR", "VR", "Lead I (Einthoven)", "DII", "D2", "C1" and "aVR, augmented voltage, right" are understood.

    Args:
        name: for example "MDC_ECG_LEAD_V1".

    Returns:
        One of `LEADS`, or None for anything else. Modified, inverted and copied leads ("MLII", "-aVR",
        "aVR (inverted)", "I (copy)") give None, because they are not the standard leads.
    """
    text = str(name).strip().lower()
    return None if len(text) > MAX_NAME_LENGTH else _lead_of(text)


@lru_cache(maxsize=256)
def _lead_of(text: str) -> str | None:
    """Translate a name in lower case as `normalise_lead_name` does."""
    base = re.split(r"[(,]", text, maxsplit=1)[0]
    if _is_other_signal(text[len(base) :], base):
        return None
    match = _LEAD_NAME.fullmatch(base.strip())
    if match is None:
        return None
    core = match.group(1) or match.group(2)
    if core.startswith("c"):
        return f"V{core[1:]}"
    if core in ("vr", "vl", "vf"):  # an old spelling; unaugmented leads contradict the limb leads, which are compared
        return _LEAD_BY_LOWER[f"a{core}"]
    core = core.removeprefix("d")
    return _ROMAN.get(core) or _LEAD_BY_LOWER[core]


def _is_other_signal(remark: str, base: str) -> bool:
    """Tell whether the remark beside a lead name makes it another signal; "V4 (right)" is V4R."""
    right = "right" in remark and "avr" not in base
    return right or _OTHER_SIGNAL.search(remark) is not None


def millivolts_per_unit(unit: str) -> float:
    """Convert one `unit` to millivolts.

    Args:
        unit: "mV", "uV", "µV", "nV" or "V" in any case, or the word in full.

    Returns:
        How many millivolts one `unit` is.

    Raises:
        ValueError: if the unit is not a known voltage.
    """
    text = str(unit).strip().casefold().replace("\u03bc", "u").replace("\u00b5", "u")
    factor = _MILLIVOLTS.get(text, _MILLIVOLTS.get(text.removesuffix("s")))
    if factor is None:
        raise ValueError(f"unknown unit {unit!r}; known are mV, uV (µV), nV and V: convert the signal to millivolts")
    return factor


def refuse_size(source: str | Path, values: float, what: str = "samples x channels") -> None:
    """Refuse a file that declares more than `MAX_VALUES` values, before any of them is decoded."""
    if values > MAX_VALUES:
        raise InputRefusedError(
            str(source),
            f"the header declares {values:.4g} {what}, the limit is {MAX_VALUES:,}: cut the recording to the part that "
            "the model shall read",
        )


LOWEST_PULSE_RATE = 50.0
"""Hz. At a lower rate no calibration pulse is looked for, and the processor refuses the recording for its rate."""


def recording_from_channels(channels: list[Channel], source: str) -> EcgRecording:
    """Keep the channels that are leads and bring them to one unit and one sampling rate.

    Args:
        channels: all channels of the file.
        source: file name for messages.

    Returns:
        `EcgRecording` at the highest sampling rate of the leads. Units are "mV", or "normalised" if every lead has
        normalised units. The notes name the channels and leads that were left out.

    Raises:
        InputRefusedError: if no channel is a lead in a known unit, or units contradict each other.
    """
    named = [channel._replace(name=normalise_lead_name(channel.name) or "") for channel in channels]
    leads = [channel for channel in named if channel.name]
    foreign = [
        describe_channel(written.name, number)
        for number, (written, channel) in enumerate(zip(channels, named, strict=True), start=1)
        if not channel.name
    ]
    if len(foreign) > NAMED_CHANNELS:
        foreign[NAMED_CHANNELS:] = [f"and {len(foreign) - NAMED_CHANNELS} more"]
    if not leads:
        raise InputRefusedError(
            source, f"none of the channels {', '.join(foreign)} is one of the leads {', '.join(LEADS)}"
        )
    notes = [f"channels that are no standard lead were left out: {', '.join(foreign)}"] if foreign else []
    problems = [f"lead {lead.name} was left out: {lead.problem}" for lead in leads if lead.problem]
    leads = [lead for lead in leads if not lead.problem]
    if not leads:
        raise InputRefusedError(source, f"no lead has a known scale ({problems[0]}): the amplitudes are unknown")
    units = _common_unit(leads, source)
    rates = {lead.sampling_rate for lead in leads}
    if len(rates) > 1:
        written = ", ".join(f"{rate:g}" for rate in sorted(rates))
        notes.append(f"leads with sampling rates of {written} Hz were brought to {max(rates):g} Hz")
    length = max(lead.values.size for lead in leads if lead.sampling_rate == max(rates))
    signal = np.stack([_at_length(_in_unit(lead, units, source), length) for lead in leads])
    if units != NORMALISED and max(rates) >= LOWEST_PULSE_RATE:
        signal, pulses = cut_calibration_pulses(signal, max(rates))
        notes += pulses
    return EcgRecording(signal, max(rates), [lead.name for lead in leads], units, source, notes + problems)


def cut_calibration_pulses(millivolts: np.ndarray, sampling_rate: float) -> tuple[np.ndarray, list[str]]:
    """Cut off a calibration pulse at the start or the end of a recording.

    Philips ends a recording with 0.4 s of a 1 mV pulse in every lead. No heart writes the same into all leads, and the
    limb leads do not add up there (I + III = II).

    Args:
        millivolts: (leads, samples).
        sampling_rate: Hz.

    Returns:
        Two elements: the signal without pulses; and a note for each pulse.
    """
    notes = []
    for end, backwards in (("start", False), ("end", True)):
        ordered = millivolts[:, ::-1] if backwards else millivolts
        length = _pulse_length(ordered, sampling_rate)
        if length:
            millivolts = millivolts[:, : millivolts.shape[1] - length] if backwards else millivolts[:, length:]
            notes.append(
                f"the {end} ({length / sampling_rate:.2g} s) is a calibration pulse in all leads and was cut off"
            )
    return millivolts, notes


def _pulse_length(millivolts: np.ndarray, sampling_rate: float) -> int:
    """Count the first samples of (leads, samples) that are a calibration pulse; 0 if they are none."""
    shortest, longest = (round(seconds * sampling_rate) for seconds in PULSE_SECONDS)
    part = millivolts[:, : longest + 1]
    if len(part) < 3 or part.shape[1] <= longest:
        return 0
    differs = ~(np.ptp(part, axis=0) < EQUAL_MV)  # a missing sample (NaN) is not equal
    length = int(differs.argmax()) if differs.any() else longest + 1
    is_pulse = shortest <= length <= longest and float(np.ptp(part[:, :length])) >= PULSE_MV
    return length if is_pulse else 0


def describe_channel(name: str, number: int) -> str:
    """Name a channel that is no lead for a note: its name if known, else "channel <number>", as text may be private."""
    text = name.strip()
    return text if _CHANNEL_KIND.fullmatch(text) else f"channel {number}"


def _common_unit(leads: list[Channel], source: str) -> str:
    """Name the unit of the recording: "mV", or "normalised" if every lead has normalised units; refuse a mixture."""
    normalised = [lead.unit.strip().casefold() in NORMALISED_UNITS for lead in leads]
    if any(normalised) and not all(normalised):
        raise InputRefusedError(
            source, "some leads are in volts, others in normalised units (NU): they cannot be compared"
        )
    return NORMALISED if all(normalised) else "mV"


def _in_unit(channel: Channel, units: str, source: str) -> np.ndarray:
    """Return the values (samples,) of a lead in `units`: millivolts, or normalised units as they are."""
    values = np.asarray(channel.values, dtype=np.float64)
    if units == NORMALISED:
        return values
    try:
        return values * millivolts_per_unit(channel.unit)
    except ValueError as error:
        unit = repr(channel.unit) if channel.unit == UNIT_NOT_STATED else quoted(channel.unit)
        raise InputRefusedError(
            source, f"lead {channel.name}: unknown unit {unit}; known are mV, uV (µV), nV and V: convert the file"
        ) from error


def _at_length(values: np.ndarray, length: int) -> np.ndarray:
    """Resample one lead (samples,) to (length,) by FFT; missing samples stay missing (NaN)."""
    if values.size == length:
        return values
    missing = np.isnan(values)
    if missing.all():
        return np.full(length, np.nan)
    positions = np.arange(values.size)
    resampled: Any = scipy.signal.resample(np.interp(positions, positions[~missing], values[~missing]), length)
    nearest = np.minimum((np.arange(length) * values.size) // length, values.size - 1)
    resampled[missing[nearest]] = np.nan
    return resampled
