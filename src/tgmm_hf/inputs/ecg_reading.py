"""Read ECG files (WFDB, DICOM waveform) into named leads in millivolts."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..utils.errors import InputRefusedError
from ..utils.names import LEADS
from .dicom_files import is_dicom, read_dicom

try:
    import wfdb
except ImportError:
    wfdb = None
try:
    from pydicom.waveforms import multiplex_array
except ImportError:
    multiplex_array = None
NORMALISED_UNITS = ("nu", "normalised", "normalized")
"""Units of signals that have lost their amplitude; "NU" is what WFDB writes for them."""

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
class EcgRecord:
    """An ECG as read: named leads with their sampling rate.

    Attributes:
        signal (`np.ndarray` of shape `(leads, samples)`): floating point; NaN where the file has no value.
        sampling_rate (`float`): Hz.
        lead_names (`list[str]`): one name per row of `signal`.
        units (`str`): "mV", or "normalised" for a signal that has lost its amplitude (z-scored arrays).
        source (`str`): file or record name for messages.
        notes (`list[str]`): what the reader left out or converted.
    """

    signal: np.ndarray
    sampling_rate: float
    lead_names: list[str]
    units: str = "mV"
    source: str = "ecg"
    notes: list[str] = field(default_factory=list)


def normalise_lead_name(name: str) -> str | None:
    """The model's name ("I" ... "V6") of a lead as files write it, or `None` if it is none of the twelve.

    Case, a leading "Lead" / "ECG" / "MDC_ECG_LEAD_" and explanations in brackets or after a comma do not count:
    "AVR", "Lead I (Einthoven)", "MDC_ECG_LEAD_V1" and "aVR, augmented voltage, right" are understood. Modified or
    inverted leads ("MLII", "-aVR") are not the standard leads and give `None`.
    """
    text = re.sub(r"\(.*?\)", "", str(name)).split(",")[0].strip().lower()
    match = _LEAD_NAME.fullmatch(text)
    return _LEAD_BY_LOWER[match.group(1)] if match else None


def millivolts_per_unit(unit: str) -> float:
    """How many millivolts one `unit` is; case-insensitive ("mV", "mv", "uV", "µV", "V").

    Raises:
        ValueError: for a unit that is no voltage known here.
    """
    text = str(unit).strip().casefold().replace("\u03bc", "u").replace("\u00b5", "u")
    factor = _MILLIVOLTS.get(text, _MILLIVOLTS.get(text.removesuffix("s")))
    if factor is None:
        raise ValueError(f"unknown unit {unit!r}; known are mV, uV (µV), nV and V: convert the signal to millivolts")
    return factor


# ---- ECG


def read_ecg(path: str | Path) -> EcgRecord:
    """Reads a WFDB record (with or without its suffix) or a DICOM 12-lead waveform, in millivolts.

    Channels that are none of the twelve leads are left out and named in `notes`; calling two channels the same lead is
    refused by the feature extractor. A record in "NU" (normalised units, such as z-scored arrays) keeps them.

    Raises:
        InputRefusedError: the file is missing, unreadable, or has no ECG lead in a known unit.
    """
    path = Path(path)
    if is_dicom(path):
        return _read_dicom_ecg(path)
    record = path.with_suffix("") if path.suffix.lower() in (".hea", ".dat", ".mat") else path
    if not record.with_name(record.name + ".hea").is_file():
        raise InputRefusedError(
            str(path), f"neither a WFDB record ({record.name}.hea is not there) nor a DICOM file: check the path"
        )
    return _read_wfdb(record)


def _read_wfdb(record: Path) -> EcgRecord:
    if wfdb is None:
        raise ImportError(f"reading the WFDB record {record} needs wfdb: pip install wfdb")
    try:
        content = wfdb.rdrecord(str(record.absolute()))
    except (OSError, ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        # wfdb lets parsing errors of damaged headers and short signal files through as these
        raise InputRefusedError(
            str(record), f"not readable as a WFDB record ({error}): header and signal file are damaged or do not fit"
        ) from error
    if content.p_signal is None or content.p_signal.size == 0:
        raise InputRefusedError(str(record), "the WFDB header lists no signal: nothing to read")
    channels = list(zip(content.sig_name, content.units, content.p_signal.T, strict=True))
    return _record_from_channels(channels, float(content.fs), str(record))


def _read_dicom_ecg(path: Path) -> EcgRecord:
    dataset = read_dicom(path)
    if "WaveformSequence" not in dataset:
        raise InputRefusedError(str(path), "a DICOM file without waveforms: not an ECG (is it an image or a report?)")
    index = _rhythm_group(dataset, path)
    group = dataset.WaveformSequence[index]
    try:
        samples = multiplex_array(dataset, index, as_raw=True)
        channels = _dicom_channels(group, samples)
    except (AttributeError, KeyError, ValueError, TypeError) as error:
        # a damaged sequence: elements missing, fewer bytes than samples, another number of channels
        raise InputRefusedError(str(path), f"the waveform data cannot be decoded: {error}") from error
    record = _record_from_channels(channels, float(group.SamplingFrequency), str(path))
    if len(dataset.WaveformSequence) > 1:
        record.notes.append(f"read multiplex group {index + 1} of {len(dataset.WaveformSequence)}")
    return record


def _dicom_channels(group: Any, samples: np.ndarray) -> list[tuple[str, str, np.ndarray]]:
    """Name, unit and values of each channel; `samples` (samples, channels) as stored."""
    signal = samples.astype(np.float64).T
    if "WaveformPaddingValue" in group:
        signal[signal == _padding_value(group, samples.dtype)] = np.nan
    channels = []
    for values, channel in zip(signal, group.ChannelDefinitionSequence, strict=True):
        # DICOM C.10.9.1.4.2: value = sample x sensitivity x correction factor, plus the baseline in the same unit
        scale = float(channel.get("ChannelSensitivity", 1.0)) * float(
            channel.get("ChannelSensitivityCorrectionFactor", 1.0)
        )
        unit_codes = channel.get("ChannelSensitivityUnitsSequence")
        unit = str(unit_codes[0].CodeValue) if unit_codes else "not stated"
        values = values * scale + float(channel.get("ChannelBaseline", 0.0))
        channels.append((_dicom_lead_name(channel), unit, values))
    return channels


def _rhythm_group(dataset: Any, path: Path) -> int:
    """The group with most leads; among equals the recorded one (median beats are derived), then the longest."""

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
    """Lead name by the code, which does not depend on the language of the text; else the code's meaning."""
    codes = channel.get("ChannelSourceSequence")
    if not codes:
        return str(channel.get("ChannelLabel", "unnamed"))
    match = _LEAD_CODE.fullmatch(str(codes[0].get("CodeValue", "")))
    return (
        _LEAD_OF_CODE.get(match.group(1), codes[0].CodeMeaning)
        if match
        else str(codes[0].get("CodeMeaning", "unnamed"))
    )


def _padding_value(group: Any, dtype: np.dtype) -> float:
    value = group.WaveformPaddingValue
    return float(np.frombuffer(value, dtype=dtype)[0]) if isinstance(value, bytes) else float(value)


def _record_from_channels(channels: list[tuple[str, str, np.ndarray]], sampling_rate: float, source: str) -> EcgRecord:
    names, rows, foreign = [], [], []
    normalised = {
        unit.strip().casefold() in NORMALISED_UNITS
        for name, unit, _ in channels
        if normalise_lead_name(name) is not None
    }
    if len(normalised) == 2:
        raise InputRefusedError(source, "some leads are in volts, others in normalised units (NU): they do not compare")
    for name, unit, values in channels:
        if normalise_lead_name(name) is None:
            foreign.append(name)
            continue
        if True in normalised:
            rows.append(np.asarray(values, dtype=np.float64))
            names.append(name)
            continue
        try:
            rows.append(np.asarray(values, dtype=np.float64) * millivolts_per_unit(unit))
        except ValueError as error:
            raise InputRefusedError(source, f"lead {name}: {error}") from error
        names.append(name)
    if not rows:
        raise InputRefusedError(source, f"none of the channels {foreign} is one of the leads {', '.join(LEADS)}")
    notes = [f"channels that are no standard lead were left out: {', '.join(foreign)}"] if foreign else []
    units = "normalised" if True in normalised else "mV"
    return EcgRecord(np.stack(rows), sampling_rate, names, units, source, notes)
