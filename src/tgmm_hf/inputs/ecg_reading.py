"""Read ECG files (WFDB, DICOM waveform) into named leads in millivolts."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..utils.errors import InputRefusedError
from ..utils.names import LEADS
from .dicom_files import is_dicom, read_dicom
from .optional_packages import require_package

try:
    import wfdb
except ImportError:
    wfdb = None
try:
    from pydicom.waveforms import multiplex_array
except ImportError:
    multiplex_array = None

NORMALISED = "normalised"
"""Value of `units` for a signal that has lost its amplitude, such as a z-scored array."""
NORMALISED_UNITS = ("nu", "normalised", "normalized")
"""Spellings of these units in files, in lower case. WFDB writes "NU"."""

# Numbers behind the lead codes of DICOM CID 3001: "5.6.3-9-61" (SCPECG) and "2:61" (MDC) are both lead III.
_LEAD_OF_CODE = {"1": "I", "2": "II", "61": "III", "62": "aVR", "63": "aVL", "64": "aVF"} | {
    str(number + 2): f"V{number}" for number in range(1, 7)
}
_LEAD_CODE = re.compile(r"(?:5\.6\.3-9-|2:)(\d+)")
_LEAD_NAME = re.compile(r"(?:mdc[\s_-]*)?(?:(?:ecg|ekg)[\s_-]*)?(?:lead[\s_:-]*)?(i{1,3}|av[rlf]|v[1-6])")
_LEAD_BY_LOWER = {lead.lower(): lead for lead in LEADS}
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
    """

    signal: np.ndarray
    sampling_rate: float
    lead_names: list[str]
    units: str = "mV"
    source: str = "ecg"
    notes: list[str] = field(default_factory=list)


class _Channel(NamedTuple):
    """One channel of a file: its name, its unit and its values (samples,) in that unit."""

    name: str
    unit: str
    values: np.ndarray


def normalise_lead_name(name: str) -> str | None:
    """Translate a lead name as files write it to the model's name.

    Case, the prefixes "Lead", "ECG" and "MDC_ECG_LEAD_", text in brackets and text after a comma are ignored.
    "AVR", "Lead I (Einthoven)" and "aVR, augmented voltage, right" are understood.

    Args:
        name: for example "MDC_ECG_LEAD_V1".

    Returns:
        One of `LEADS`, or None for anything else. Modified and inverted leads ("MLII", "-aVR") give None, because they
        are not the standard leads.
    """
    text = re.sub(r"\(.*?\)", "", str(name)).split(",")[0].strip().lower()
    match = _LEAD_NAME.fullmatch(text)
    return _LEAD_BY_LOWER[match.group(1)] if match else None


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


def read_ecg(path: str | Path) -> EcgRecording:
    """Read a WFDB recording or a DICOM 12-lead waveform in millivolts.

    Channels that are not one of the twelve leads are left out, with a note. A recording in normalised units keeps them.

    Args:
        path: DICOM file, or WFDB recording with or without its suffix.

    Returns:
        `EcgRecording` in millivolts, or in normalised units.

    Raises:
        InputRefusedError: if the file is missing or damaged, or has no ECG lead in a known unit.
        ImportError: if wfdb or pydicom is needed and not installed.
    """
    path = Path(path)
    if is_dicom(path):
        return _read_dicom_ecg(path)
    stem = path.with_suffix("") if path.suffix.lower() in (".hea", ".dat", ".mat") else path
    if not stem.with_name(stem.name + ".hea").is_file():
        raise InputRefusedError(
            str(path), f"neither a WFDB recording ({stem.name}.hea is not there) nor a DICOM file: check the path"
        )
    return _read_wfdb(stem)


def _read_wfdb(stem: Path) -> EcgRecording:
    """Read a WFDB recording; `stem` is its path without suffix."""
    require_package(wfdb, "wfdb", f"reading the WFDB recording {stem}")
    try:
        content = wfdb.rdrecord(str(stem.absolute()))
    except (OSError, ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        # wfdb raises all of these for damaged headers and for signal files that are too short
        raise InputRefusedError(
            str(stem), f"not readable as a WFDB recording ({error}): header and signal file are damaged or do not fit"
        ) from error
    if content.p_signal is None or content.p_signal.size == 0:
        raise InputRefusedError(str(stem), "the WFDB header lists no signal: nothing to read")
    channels = map(_Channel, content.sig_name, content.units, content.p_signal.T)
    return _recording_from_channels(list(channels), float(content.fs), str(stem))


def _read_dicom_ecg(path: Path) -> EcgRecording:
    """Read the rhythm recording of a DICOM waveform file."""
    dataset = read_dicom(path)
    if "WaveformSequence" not in dataset:
        raise InputRefusedError(str(path), "a DICOM file without waveforms: not an ECG (is it an image or a report?)")
    index = _rhythm_group(dataset, path)
    group = dataset.WaveformSequence[index]
    try:
        samples = multiplex_array(dataset, index, as_raw=True)
        channels = _dicom_channels(group, samples)
    except (AttributeError, KeyError, ValueError, TypeError) as error:
        # A damaged sequence lacks elements or bytes, or has another number of channels than its header says.
        raise InputRefusedError(str(path), f"the waveform data cannot be decoded: {error}") from error
    recording = _recording_from_channels(channels, float(group.SamplingFrequency), str(path))
    if len(dataset.WaveformSequence) > 1:
        recording.notes.append(f"read multiplex group {index + 1} of {len(dataset.WaveformSequence)}")
    return recording


def _dicom_channels(group: Any, samples: np.ndarray) -> list[_Channel]:
    """Scale the channels of a multiplex group; `samples` (samples, channels) are as stored."""
    signal = samples.astype(np.float64).T
    if "WaveformPaddingValue" in group:
        signal[signal == _padding_value(group, samples.dtype)] = np.nan
    channels = []
    for stored, channel in zip(signal, group.ChannelDefinitionSequence, strict=True):
        # DICOM C.10.9.1.4.2: value = sample x sensitivity x correction factor, plus the baseline in the same unit
        scale = float(channel.get("ChannelSensitivity", 1.0)) * float(
            channel.get("ChannelSensitivityCorrectionFactor", 1.0)
        )
        unit_codes = channel.get("ChannelSensitivityUnitsSequence")
        unit = str(unit_codes[0].CodeValue) if unit_codes else "not stated"
        values = stored * scale + float(channel.get("ChannelBaseline", 0.0))
        channels.append(_Channel(_dicom_lead_name(channel), unit, values))
    return channels


def _rhythm_group(dataset: Any, path: Path) -> int:
    """Select the multiplex group with most leads, then an original one (median beats are derived), then the longest."""

    def worth(index: int) -> tuple[int, bool, float]:
        group = dataset.WaveformSequence[index]
        leads = {normalise_lead_name(_dicom_lead_name(channel)) for channel in group.ChannelDefinitionSequence} - {None}
        seconds = group.NumberOfWaveformSamples / group.SamplingFrequency
        return len(leads), str(group.get("WaveformOriginality", "")).upper() == "ORIGINAL", float(seconds)

    try:
        return max(range(len(dataset.WaveformSequence)), key=worth)
    except (AttributeError, ValueError, ZeroDivisionError, TypeError) as error:
        raise InputRefusedError(str(path), f"the waveform sequence is incomplete: {error}") from error


def _dicom_lead_name(channel: Any) -> str:
    """Name a channel by its code, because the text beside the code may be in any language."""
    codes = channel.get("ChannelSourceSequence")
    if not codes:
        return str(channel.get("ChannelLabel", "unnamed"))
    match = _LEAD_CODE.fullmatch(str(codes[0].get("CodeValue", "")))
    if match is None:
        return str(codes[0].get("CodeMeaning", "unnamed"))
    return _LEAD_OF_CODE.get(match.group(1), codes[0].CodeMeaning)


def _padding_value(group: Any, dtype: np.dtype) -> float:
    """Read the stored value that marks a missing sample."""
    value = group.WaveformPaddingValue
    return float(np.frombuffer(value, dtype=dtype)[0]) if isinstance(value, bytes) else float(value)


def _recording_from_channels(channels: list[_Channel], sampling_rate: float, source: str) -> EcgRecording:
    """Keep the channels that are leads and bring them to one unit."""
    leads = [channel for channel in channels if normalise_lead_name(channel.name) is not None]
    foreign = [channel.name for channel in channels if normalise_lead_name(channel.name) is None]
    if not leads:
        raise InputRefusedError(source, f"none of the channels {foreign} is one of the leads {', '.join(LEADS)}")
    normalised = [channel.unit.strip().casefold() in NORMALISED_UNITS for channel in leads]
    if any(normalised) and not all(normalised):
        raise InputRefusedError(
            source, "some leads are in volts, others in normalised units (NU): they cannot be compared"
        )
    units = NORMALISED if all(normalised) else "mV"
    signal = np.stack([_in_common_unit(channel, units, source) for channel in leads])
    notes = [f"channels that are no standard lead were left out: {', '.join(foreign)}"] if foreign else []
    return EcgRecording(signal, sampling_rate, [channel.name for channel in leads], units, source, notes)


def _in_common_unit(channel: _Channel, units: str, source: str) -> np.ndarray:
    """Convert the values (samples,) of a lead to millivolts; normalised values stay as they are."""
    values = np.asarray(channel.values, dtype=np.float64)
    if units == NORMALISED:
        return values
    try:
        return values * millivolts_per_unit(channel.unit)
    except ValueError as error:
        raise InputRefusedError(source, f"lead {channel.name}: {error}") from error
