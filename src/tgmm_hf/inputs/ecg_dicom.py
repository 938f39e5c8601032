"""Read DICOM waveforms: stored samples by their declared format, groups joined, median beats left aside."""

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..utils.errors import InputRefusedError
from ..utils.names import LEADS
from .dicom_files import read_dicom, refuse_animal
from .ecg_header_findings import header_findings, refuse_other_waveforms
from .ecg_lead_words import other_signal
from .ecg_recording import (
    UNIT_NOT_STATED,
    Channel,
    EcgRecording,
    normalise_lead_name,
    recording_from_channels,
    refuse_size,
)
from .input_limits import refusing

MIN_RHYTHM_SECONDS = 5.0
"""Seconds. A shorter group counts as an averaged beat, and is read only if no group with leads is long enough."""

# Numbers behind the lead codes of DICOM CID 3001: "5.6.3-9-61" (SCPECG) and "2:61" (MDC) mean lead III.
_LEAD_OF_CODE = {"1": "I", "2": "II", "61": "III", "62": "aVR", "63": "aVL", "64": "aVF"} | {
    str(number + 2): f"V{number}" for number in range(1, 7)
}
_LEAD_CODE = re.compile(r"(?:5\.6\.3-9-|2:)(\d{1,6})")
_SAMPLE_TYPES = {"SB": "i1", "UB": "u1", "SS": "i2", "US": "u2", "SL": "i4", "UL": "u4"}
"""Waveform Sample Interpretation (5400,1006), DICOM C.10.9.1.5 -> NumPy type of a stored sample."""
_COMPRESSED = {"MB": "mu-law", "AB": "A-law"}
_LIMB_LEADS = frozenset(LEADS[:6])
USABLE_STATUS = ("", "OK", "UNZEROED")
"""Channel Status (003A,0205) of a channel that is used. An unzeroed channel has another level, which filters remove."""
BAD_STATUS = ("TEST DATA", "DISCONNECTED", "QUESTIONABLE", "INVALID", "UNCALIBRATED")
"""Other values that DICOM defines for the Channel Status (C.10.9.1.4.4)."""


class _Group(NamedTuple):
    """One multiplex group: where it stands and what decides whether it is read.

    Attributes:
        number: place in the waveform sequence, from 0.
        leads: names of the channels that are leads.
        rate: Hz.
        samples: samples per channel.
        offset: time offset of the group as the file states it, in milliseconds.
        original: whether the file calls the group original, not derived.
    """

    number: int
    leads: frozenset[str]
    rate: float
    samples: int
    offset: float
    original: bool

    @property
    def seconds(self) -> float:
        """Length of the group in seconds."""
        return self.samples / self.rate


def read_dicom_ecg(path: Path) -> EcgRecording:
    """Read the rhythm recording of a DICOM waveform file.

    Args:
        path: the file.

    Returns:
        `EcgRecording` with the leads of the selected groups, in millivolts or in normalised units.

    Raises:
        InputRefusedError: if the file holds no waveform, its format is not known, or its parts contradict each other.
        ImportError: if pydicom is not installed.
    """
    dataset = read_dicom(path)
    with refusing(path), _damage_refused(path):
        if not dataset.get("WaveformSequence"):
            raise InputRefusedError(
                str(path), "a DICOM file without waveforms: not an ECG (is it an image or a report?)"
            )
        refuse_animal(dataset, str(path))
        refuse_other_waveforms(dataset, str(path))
        groups = dataset.WaveformSequence
        described = [_describe(group, index, path) for index, group in enumerate(groups)]
        chosen = _rhythm_groups(described)
        _refuse_another_rhythm(groups, described, chosen, path)
        little_endian = dataset.original_encoding[1] is not False
        channels = [
            channel for entry in chosen for channel in _read_group(groups[entry.number], entry, little_endian, path)
        ]
        recording = recording_from_channels(channels, str(path))
        used = [groups[entry.number] for entry in chosen]
        recording.checks += header_findings(dataset, used, _filters_of(used))
    if len(groups) > 1:
        numbers = [str(entry.number + 1) for entry in chosen]
        plural = "s" if len(numbers) > 1 else ""
        recording.notes.append(f"read multiplex group{plural} {' and '.join(numbers)} of {len(groups)}")
    return recording


@contextmanager
def _damage_refused(path: Path) -> Iterator[None]:
    """Refuse what pydicom and numpy raise for elements that are missing, of another type or of another length."""
    try:
        from pydicom.errors import BytesLengthException
    except ImportError:  # without pydicom there is no file to be refused
        BytesLengthException = ValueError

    # pydicom raises NotImplementedError for a damaged value representation
    by_name = (AttributeError, IndexError, KeyError, NotImplementedError, OverflowError, TypeError, ValueError)
    try:
        yield
    except InputRefusedError:
        raise
    except OSError as error:
        if error.errno is not None:  # the file system, not the content
            raise
        raise InputRefusedError(str(path), "a sequence of the header is cut short: the file is damaged") from error
    except (*by_name, BytesLengthException, struct.error) as error:
        raise InputRefusedError(
            str(path), f"the waveform data cannot be decoded ({type(error).__name__}): an element is damaged or missing"
        ) from error


def _describe(group: Any, index: int, path: Path) -> _Group:
    """Read the header of the multiplex group at place `index`; refuse a missing field, a bad rate or a huge size."""
    for name in ("NumberOfWaveformSamples", "SamplingFrequency", "ChannelDefinitionSequence"):
        if group.get(name) in (None, ""):
            raise InputRefusedError(str(path), f"the waveform sequence is incomplete: {name} is missing")
    rate, samples = float(group.SamplingFrequency), int(group.NumberOfWaveformSamples)
    if not 0 < rate < float("inf"):
        raise InputRefusedError(str(path), f"SamplingFrequency is {rate:g} Hz, a positive number is needed")
    refuse_size(path, samples * len(group.ChannelDefinitionSequence))
    names = [normalise_lead_name(_lead_name(channel, path)) for channel in group.ChannelDefinitionSequence]
    original = str(group.get("WaveformOriginality", "")).upper() == "ORIGINAL"
    return _Group(
        index,
        frozenset(name for name in names if name),
        rate,
        samples,
        float(group.get("MultiplexGroupTimeOffset") or 0.0),
        original,
    )


def _rhythm_groups(groups: list[_Group]) -> list[_Group]:
    """Select the groups to read: one group, or the groups that are parts of one recording.

    Groups are parts of one recording if they have the same rate, length, offset and originality, and no lead twice. The
    choice prefers, in this order: at least `MIN_RHYTHM_SECONDS` long, most leads, original, longest.
    """

    def moment(group: _Group) -> tuple[float, int, float, bool]:
        return group.rate, group.samples, group.offset, group.original

    candidates = [[group] for group in groups]
    for _, members in groupby(sorted(groups, key=moment), key=moment):
        together = sorted((group for group in members if group.leads), key=lambda group: group.number)
        names = [lead for group in together for lead in group.leads]
        if len(together) > 1 and len(names) == len(set(names)):
            candidates.append(together)

    def worth(candidate: list[_Group]) -> tuple[bool, int, bool, float]:
        leads = frozenset().union(*(group.leads for group in candidate))
        seconds = candidate[0].seconds
        return bool(leads) and seconds >= MIN_RHYTHM_SECONDS, _obtainable(leads), candidate[0].original, seconds

    return max(candidates, key=worth)


def _refuse_another_rhythm(groups: Any, described: list[_Group], chosen: list[_Group], path: Path) -> None:
    """Refuse a file with another group of the same time and leads that holds another signal."""
    first = chosen[0]
    for group in described:
        same_moment = (group.rate, group.samples, group.offset) == (first.rate, first.samples, first.offset)
        shared = [entry for entry in chosen if entry.leads == group.leads]
        if group in chosen or not (same_moment and group.leads and shared and group.original == first.original):
            continue
        if groups[group.number].get("WaveformData") != groups[shared[0].number].get("WaveformData"):
            raise InputRefusedError(
                str(path),
                "two groups of one time and the same leads hold different signals: it is unclear which one is right",
            )


def _obtainable(leads: frozenset[str]) -> int:
    """Count the leads that can be read or derived from `leads`; two limb leads give all six limb leads."""
    return len(leads | _LIMB_LEADS) if len(leads & _LIMB_LEADS) > 1 else len(leads)


def _read_group(group: Any, entry: _Group, little_endian: bool, path: Path) -> list[Channel]:
    """Scale the stored samples of a multiplex group (DICOM C.10.9.1.4.2).

    Args:
        group: pydicom `Dataset` of the group.
        entry: the header of the group.
        little_endian: byte order of the file.
        path: the file, for messages.

    Returns:
        One `Channel` per channel, leads or not, in the order of the file. A padding value becomes NaN.
    """
    definitions = group.ChannelDefinitionSequence
    samples = _stored_samples(group, entry, little_endian, path)
    padding = _padding_value(group, samples.dtype.newbyteorder("<" if little_endian else ">"))
    channels = []
    for stored, channel in zip(samples.T, definitions, strict=True):
        missing = np.zeros(stored.size, dtype=bool) if padding is None else stored == padding
        values = _extend_sign(stored, missing, channel, path).astype(np.float64)
        values[missing] = np.nan
        # value = sample x sensitivity x correction factor, plus the baseline in the same unit
        scale = _number(channel, "ChannelSensitivity", 0.0) * _number(
            channel, "ChannelSensitivityCorrectionFactor", 1.0
        )
        baseline = _number(channel, "ChannelBaseline", 0.0)
        usable = 0 < scale < float("inf") and np.isfinite(baseline)
        problem = "" if usable else f"its sensitivity is {scale:g}, so its values have no known scale"
        problem = problem or _status_problem(channel) or _words_problem(channel, path)
        skew = _number(channel, "ChannelTimeSkew", 0.0) + _number(channel, "ChannelSampleSkew", 0.0) / entry.rate
        if abs(skew) * entry.rate >= 1:
            problem = problem or f"it is {1000 * skew:.4g} ms apart from the other leads (channel skew)"
        unit_codes = channel.get("ChannelSensitivityUnitsSequence")
        unit = str(unit_codes[0].CodeValue) if unit_codes else UNIT_NOT_STATED
        scaled = values * scale + baseline if usable else values
        channels.append(Channel(_lead_name(channel, path), unit, scaled, entry.rate, problem))
    return channels


def _status_problem(channel: Any) -> str:
    """Say why the Channel Status forbids to use a channel; "" if it does not. One word of several is enough."""
    values = channel.get("ChannelStatus") or []
    for value in [values] if isinstance(values, str) else values:
        status = " ".join(str(value).upper().split())
        if status not in USABLE_STATUS:
            word = status if status in BAD_STATUS else "(not a value of DICOM)"
            return f"the recorder states the channel status {word}"
    return ""


def _words_problem(channel: Any, path: Path) -> str:
    """Say why the words of a channel forbid to use it as the lead of its code; "" if they do not."""
    lead = normalise_lead_name(_lead_name(channel, path))
    if lead is None:
        return ""
    codes = [*(channel.get("ChannelSourceSequence") or []), *(channel.get("ChannelSourceModifiersSequence") or [])]
    texts = [str(code.get("CodeMeaning") or "") for code in codes]
    return other_signal(lead, [*texts, str(channel.get("ChannelLabel") or "")])


def _filters_of(groups: list[Any]) -> tuple[float | None, float | None]:
    """Read the ends of the strictest filter (Hz) of the channels of some groups; None where none is stated."""
    channels = [channel for group in groups for channel in group.ChannelDefinitionSequence]
    lowest = [_number(channel, "FilterLowFrequency", 0.0) for channel in channels]
    highest = [frequency for channel in channels if (frequency := _number(channel, "FilterHighFrequency", 0.0)) > 0]
    return max(lowest, default=None), min(highest, default=None)


def _stored_samples(group: Any, entry: _Group, little_endian: bool, path: Path) -> np.ndarray:
    """Decode the stored samples of a group by their declared format.

    Returns:
        (samples, channels), integers as stored.

    Raises:
        InputRefusedError: if the format is not known, or the number of bytes contradicts the header.
    """
    written = str(group.get("WaveformSampleInterpretation", "")).upper()
    if written not in _SAMPLE_TYPES:
        law = f" ({_COMPRESSED[written]})" if written in _COMPRESSED else ""
        raise InputRefusedError(
            str(path),
            f"waveform sample interpretation {_sample_format(written)}{law} is not read; known are "
            f"{', '.join(_SAMPLE_TYPES)}: export the recording with linear samples",
        )
    dtype = np.dtype(_SAMPLE_TYPES[written]).newbyteorder("<" if little_endian else ">")
    allocated = int(group.get("WaveformBitsAllocated") or 0)
    channels = len(group.ChannelDefinitionSequence)
    data = group.get("WaveformData") or b""
    needed = entry.samples * channels * dtype.itemsize
    declared = int(group.get("NumberOfWaveformChannels") or 0)
    if allocated != 8 * dtype.itemsize or declared != channels or not needed <= len(data) <= needed + needed % 2:
        raise InputRefusedError(
            str(path),
            f"the waveform data cannot be decoded: {declared} channels ({channels} described) x {entry.samples} "
            f"samples of {allocated} bits ({written}) need {needed} bytes, the file has {len(data)}",
        )
    samples = np.frombuffer(data[:needed], dtype=dtype).reshape(entry.samples, channels)
    return samples.astype(dtype.newbyteorder("="))


def _sample_format(written: str) -> str:
    """Quote a sample interpretation of two letters; other text may name the patient."""
    return repr(written) if re.fullmatch("(?:[A-Z]{2})?", written) else "of another name"


def _extend_sign(stored: np.ndarray, missing: np.ndarray, channel: Any, path: Path) -> np.ndarray:
    """Extend the sign of samples (samples,) that fill fewer bits than they are stored in.

    Some writers fill the upper bits with the sign, some with zeros. Any other bits contradict the header.

    Args:
        stored: (samples,), integers as stored.
        missing: (samples,) bool, True for the padding value, which is not checked.
        channel: header of the channel.
        path: the file, for messages.

    Returns:
        (samples,) int64.

    Raises:
        InputRefusedError: if a sample does not fit the declared number of bits.
    """
    allocated = 8 * stored.dtype.itemsize
    bits = int(channel.get("WaveformBitsStored") or allocated)
    values = stored.astype(np.int64)
    present = values[~missing]
    signed = stored.dtype.kind == "i"
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    if bits > allocated or not present.size or (present.min() >= low and present.max() <= high):
        fits = bits <= allocated
    else:
        fits = signed and present.min() >= 0 and present.max() < 1 << bits
        values = np.where(values >= 1 << bits - 1, values - (1 << bits), values)
    if not fits:
        raise InputRefusedError(
            str(path),
            f"WaveformBitsStored is {bits} of {allocated}, the samples of a lead reach from {present.min(initial=0)} "
            f"to {present.max(initial=0)}: header and samples contradict each other",
        )
    return values


def _padding_value(group: Any, dtype: np.dtype) -> int | None:
    """Read the stored value that marks a missing sample, None if there is none; `dtype` has the file's byte order."""
    value = group.get("WaveformPaddingValue")
    if value is None or value == b"" or value == "":
        return None
    if isinstance(value, bytes):
        return int(np.frombuffer(value[: dtype.itemsize], dtype=dtype)[0])
    return int(value)


def _number(channel: Any, name: str, default: float) -> float:
    """Read a number of a channel; an element without content has the default."""
    value = channel.get(name)
    return default if value is None or value == "" else float(value)


def _lead_name(channel: Any, path: Path) -> str:
    """Name a channel by its code, because the text beside the code may be in any language.

    Returns:
        One of `LEADS`, or the channel's own text ("unnamed" without text) if the code names none of them.

    Raises:
        InputRefusedError: if code and text, or the label, name different leads.
    """
    codes = channel.get("ChannelSourceSequence")
    label = str(channel.get("ChannelLabel") or "")
    if not codes:
        return label or "unnamed"
    value, meaning = str(codes[0].get("CodeValue") or ""), str(codes[0].get("CodeMeaning") or "unnamed")
    match = _LEAD_CODE.fullmatch(value)
    by_code = _LEAD_OF_CODE.get(match.group(1), "another lead") if match else normalise_lead_name(value)
    names = [by_code, normalise_lead_name(meaning), normalise_lead_name(label)]
    stated = dict.fromkeys(name for name in names if name is not None)
    if len(stated) > 1:
        raise InputRefusedError(
            str(path), f"code, meaning and label of one channel name different leads: {', '.join(stated)}"
        )
    return by_code if by_code in LEADS else meaning
