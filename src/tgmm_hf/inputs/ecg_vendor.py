"""Read ECG exports of other systems with `ecgdatakit`: GE MUSE, HL7 aECG, Philips, SCP-ECG, EDF.

The library decodes, this file decides. It recognises a format by its content, and refuses a size before it is decoded.
Of an XML file the library gets the waveforms only, because names and reports are none of its business. A warning of the
library becomes a note or a refusal. Texts of the library are never repeated, because they quote the file.
"""

import base64
import binascii
import re
import struct
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..utils.errors import InputRefusedError
from .ecg_header_findings import filter_findings, filters_of_record
from .ecg_lead_words import other_signal
from .ecg_recording import (
    MAX_VALUES,
    UNIT_NOT_STATED,
    Channel,
    EcgRecording,
    normalise_lead_name,
    recording_from_channels,
    refuse_size,
)
from .input_limits import MIB, check_file, refusal_of, refusing
from .optional_packages import require_package

try:
    import ecgdatakit
    from defusedxml import DefusedXmlException
    from defusedxml import ElementTree as SafeTree
    from ecgdatakit.parsing.codecs import LzwDecoder
    from ecgdatakit.parsing.parsers.edf import EDFParser
    from ecgdatakit.parsing.parsers.ge_muse_xml import GEMuseXMLParser
    from ecgdatakit.parsing.parsers.hl7_aecg import HL7aECGParser
    from ecgdatakit.parsing.parsers.scp_ecg import SCPECGParser
    from ecgdatakit.parsing.parsers.sierra_xml import SierraXMLParser
except ImportError:
    ecgdatakit = EDFParser = GEMuseXMLParser = HL7aECGParser = SCPECGParser = SierraXMLParser = None
    SafeTree = None

MUSE, AECG, PHILIPS, SCP, EDF = "GE MUSE XML", "HL7 aECG", "Philips XML", "SCP-ECG", "EDF"
OTHER_XML = "XML of another kind"
"""Answer of `vendor_format` for an XML file that is none of the three kinds."""
HEAD_BYTES = 16384
"""Bytes at the start of a file that decide on its format."""
MAX_XML_BYTES = 16 * MIB
"""A larger XML file is refused, because the parsed document takes about ten times as much memory. Ten seconds of twelve
leads take about 1 MiB."""
MAX_XML_TAGS = 200_000
"""Largest number of opening and closing tags. An export with all its measurements has some thousand."""
MAX_SCP_BYTES = MIB
"""SCP-ECG allows 65,535 bytes a lead, so that fifteen leads stay below this size."""
MAX_SCP_LEADS = 32
"""An SCP-ECG file with more leads is refused, because each lead is compared with each of up to 65,535 beats."""
MAX_UNPACKED_BYTES = 4 * MIB
"""Largest size of Philips samples after unpacking: twelve leads at 1,000 Hz for 170 s."""
MAX_CHANNELS = 256
"""A file with more channels is no ECG."""
MAX_EDF_RECORDS = 500_000
"""Largest number of data records of an EDF file. A record usually lasts one second."""

_ROOTS = {"restingecg": MUSE, "annotatedecg": AECG, "restingecgdata": PHILIPS}
_FIRST_ELEMENT = re.compile(r"<(?:[A-Za-z_][\w.-]{0,100}:)?([A-Za-z_][\w.-]{0,100})")
_DOUBLED = re.compile(r"(.{1,20})_\d{1,4}")
"""The library writes the second lead of one name as "II_2"."""
# Part of a library's warning -> the note about it; "" where the reader deals with it or it concerns no rhythm.
_NOTES = {
    "rhythm series found; only the first": "the file holds several rhythm recordings; the first was read",
    "sequence sets in the rhythm series": "the file holds several sets of leads; the first was read",
    "Additional rhythm waveform ignored": "the file holds several rhythm recordings; the first was read",
    "Unrecognised sequences ignored": "sequences that are no lead were left out",
    "number of data records is -1": "the header states no number of data records; all complete ones were read",
    "is not an integer; rounded": "",
    "invalid range": "",
    "LeadAmplitudeUnits missing": "",
    "no signal resolution": "",
    "Section 6 amplitude multiplier is 0": "",
    "Section 5": "",
    "median beats": "",
    "QRS subtraction zones are truncated, ignored": "",
    "wrong tag length": "",
    "Section 12": "",
}
# Part of a library's warning or error -> reason of the refusal.
_REASONS = {
    "tags beyond the limit": f"it has more than {MAX_XML_TAGS:,} tags",
    "larger than the limit": f"its packed samples are larger than {MAX_UNPACKED_BYTES / MIB:.0f} MiB when unpacked",
    "CRC": "a checksum does not fit the content: the file was changed or damaged",
    "gaps between data records": "an EDF+D file with gaps in time: cut it to one part without a gap",
    "is non-zero for": "a lead starts at another level or time than it states: the leads may not fit each other",
    "entity declarations": "it declares XML entities, which are refused because they can fill the memory",
    "bimodal": "its rhythm is stored with bimodal compression, which is not read",
    "different sample rates": "rhythm and reference beat have different sampling rates, which is not read",
    "BDF": "a BDF file (24 bits): convert it to EDF",
    "Section 12": "long-term rhythm data (SCP-ECG version 3), which are not read",
    "ime increment": "its time increment is missing or in an unknown unit: the sampling rate is not known",
    "SampleBase": "its sampling rate is missing or not positive",
    "ampling rate": "its sampling rate is missing or not positive",
    "sample interval is 0": "its sampling rate is missing or not positive",
    "No rhythm": "it holds no rhythm recording",
    "no rhythm": "it holds no rhythm recording",
    "are unsupported": "a version of the format that is not read",
    "unsupported": "a variant of the format that is not read",
    "not supported": "a variant of the format that is not read",
    "truncated": "cut short, or its header contradicts its content",
    "declares": "cut short, or its header contradicts its content",
    "lies outside": "cut short, or its header contradicts its content",
    "expected": "cut short, or its header contradicts its content",
    "CountTotal": "cut short, or its header contradicts its content",
    "length is": "two parts of the file state different lengths",
    "byte(s) after": "the file is longer than its header states",
    "header size field": "the header states a wrong size of itself",
}


class _Layout(NamedTuple):
    """How a format is read.

    Attributes:
        max_bytes: largest file.
        parser: the library's parser; None without the library.
        check: gets path and content, and refuses what the library must not decode.
        reduce: for XML. Gets the parsed document and returns the part of it that the library gets.
        compare: for XML. Gets that part and the record of the library; raises `ValueError` for a contradiction.
    """

    max_bytes: int
    parser: Any
    check: Callable[[Path, bytes], None] | None = None
    reduce: Callable[[Any], Any] | None = None
    compare: Callable[[Any, Any], None] | None = None


def vendor_format(head: bytes) -> str | None:
    """Recognise a format by the first bytes of a file, whatever its suffix.

    Args:
        head: the first `HEAD_BYTES` bytes.

    Returns:
        A key of `LAYOUTS`, or `OTHER_XML`, or None if the bytes belong to no such format.
    """
    if head[:8] == b"\xffBIOSEMI" or (head[:8] == b"0       " and _digits(head[184:192]) and _digits(head[252:256])):
        return EDF
    if len(head) >= 32 and _is_scp(head):
        return SCP
    text = _as_text(head)
    if not text.lstrip("\ufeff \t\r\n").startswith("<"):
        return None
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    match = _FIRST_ELEMENT.search(text)
    return _ROOTS.get(match.group(1).lower(), OTHER_XML) if match else OTHER_XML


def read_vendor_ecg(path: Path, name: str) -> EcgRecording:
    """Read the rhythm recording of an export.

    Args:
        path: the file.
        name: its format, as `vendor_format` returns it.

    Returns:
        `EcgRecording` with the leads of the file in millivolts, and notes on what was left out.

    Raises:
        InputRefusedError: if the format is not read, the file is too large, damaged, or contradicts itself, or a lead
            has no known unit.
        ImportError: if `ecgdatakit` is not installed.
    """
    if name == OTHER_XML:
        raise InputRefusedError(
            str(path), f"an XML file, but neither {MUSE}, {AECG} nor {PHILIPS}: export it in one of them, or as DICOM"
        )
    require_package(ecgdatakit, '"tgmm-hf[formats]"', f"reading the {name} file {path}")
    layout = LAYOUTS[name]
    check_file(path)
    size = path.stat().st_size
    if size > layout.max_bytes:
        raise InputRefusedError(
            str(path),
            f"the {name} file has {size / MIB:,.1f} MiB, the limit is {layout.max_bytes / MIB:,.0f} MiB: cut it to the "
            "part that the model shall read",
        )
    with refusing(path, lambda error, item: _refusal_of_library(error, item, name)):
        content = path.read_bytes()
        if layout.check is not None:
            layout.check(path, content)
        record, remarks = _decode(path, content, layout)
        notes = _notes_of(remarks, path, name)
        channels = _channels(record, path, name)
        recording = recording_from_channels(channels, str(path))
    recording.notes[:0] = notes
    recording.checks += filter_findings(*filters_of_record(record))
    return recording


# ---- recognising


def _digits(field: bytes) -> bool:
    """Tell whether a field of an EDF header is a whole number padded with spaces."""
    return re.fullmatch(rb"[0-9]{1,8} *", field) is not None


def _is_scp(head: bytes) -> bool:
    """Tell whether an SCP-ECG record starts here: section 0 at byte 6 lists itself first."""
    section, length = struct.unpack_from("<HI", head, 8)
    first, _, place = struct.unpack_from("<HII", head, 22)
    return section == 0 and length >= 26 and (length - 16) % 10 == 0 and first == 0 and place == 7


def _as_text(head: bytes) -> str:
    """Decode the start of an XML file for recognition; UTF-16 is known by its byte order mark."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return head.decode("utf-16", errors="ignore")
    return head.decode("utf-8", errors="ignore")


# ---- decoding


def _decode(path: Path, content: bytes, layout: _Layout) -> tuple[Any, list[str]]:
    """Let the library decode a file.

    Returns:
        Two elements: the library's record, and the texts of its warnings.
    """
    parser = layout.parser()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if layout.reduce is None:
            return parser.parse(path), [str(entry.message) for entry in caught]
        document = layout.reduce(parse_xml(content))
        with tempfile.TemporaryDirectory(prefix="tgmm-ecg-") as folder:
            reduced = Path(folder) / "ecg.xml"
            reduced.write_bytes(SafeTree.tostring(document))
            record = parser.parse(reduced)
        if layout.compare is not None:
            layout.compare(document, record)
    return record, [str(entry.message) for entry in caught]


def parse_xml(content: bytes) -> Any:
    """Parse an XML file without entities and without namespaces. It needs `defusedxml`.

    Many exports state UTF-8 and hold Latin letters. Such a file is read as Latin-1, because only names differ then.
    """
    if SafeTree is None:
        raise ValueError("no XML library")
    if content.count(b"<") > MAX_XML_TAGS:
        raise ValueError("tags beyond the limit")
    try:
        root = SafeTree.fromstring(content)
    except SafeTree.ParseError:
        text = re.sub(r"\A\s{0,100}<\?xml[^>]{0,300}\?>", "", content.decode("latin-1"))
        root = SafeTree.fromstring(text)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
    return root


def _keep(parent: Any, tags: tuple[str, ...]) -> Any:
    """Remove all children of an element but those with one of the `tags`; return the element."""
    parent[:] = [child for child in parent if child.tag in tags]
    return parent


def _reduce_muse(root: Any) -> Any:
    """Keep the rhythm waveforms of a MUSE document."""
    kinds = ((waveform, waveform.findtext("WaveformType") or "") for waveform in _keep(root, ("Waveform",)))
    root[:] = [waveform for waveform, kind in kinds if kind.strip().lower() != "median"]
    return root


def _reduce_aecg(root: Any) -> Any:
    """Keep the series of an aECG document with its filters, without derived series, annotations, subject and trial."""
    for component in _keep(root, ("component",)):
        for series in _keep(component, ("series",)):
            _keep(series, ("code", "component", "controlVariable"))  # the filters are control variables
    return root


def _reduce_philips(root: Any) -> Any:
    """Keep version, signal characteristics and rhythm of a Philips document."""
    _keep(root, ("documentinfo", "dataacquisition", "waveforms"))
    for tag, kept in (
        ("documentinfo", ("documenttype", "documentversion")),
        ("dataacquisition", ("signalcharacteristics",)),
        ("waveforms", ("parsedwaveforms",)),
    ):
        for element in root.findall(tag):
            _keep(element, kept)
    for waveforms in root.iter("parsedwaveforms"):
        _refuse_unpacked_size(waveforms)
    return root


def _refuse_unpacked_size(waveforms: Any) -> None:
    """Raise `ValueError` for packed Philips samples of more than `MAX_UNPACKED_BYTES`; an honest file has 0.2 MiB."""
    if not (waveforms.get("compression") or waveforms.get("compressmethod")):
        return
    try:
        data = base64.b64decode("".join((waveforms.text or "").split()), validate=True)
    except binascii.Error:
        return  # not packed, or damaged: the library says so
    total = position = 0
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "little")
        decoder = LzwDecoder(data[position + 8 : position + 8 + length], bits=10)
        while decoder.read() >= 0:
            total += 1
            if total > MAX_UNPACKED_BYTES:
                raise ValueError("samples larger than the limit")
        position += 8 + length


def _compare_philips(root: Any, record: Any) -> None:
    """Raise `ValueError` if unpacked Philips samples are more than the header declares; the library drops the rest."""
    declared = sum(len(lead.samples) for lead in record.leads)
    for waveforms in root.iter("parsedwaveforms"):
        if waveforms.get("compression") or waveforms.get("compressmethod"):
            continue
        words = (waveforms.text or "").split()
        stored = len(base64.b64decode("".join(words))) // 2 if waveforms.get("dataencoding") == "Base64" else len(words)
        if stored != declared:
            raise ValueError(f"{declared} samples are expected, {stored} are stored")


def _check_edf(path: Path, content: bytes) -> None:
    """Refuse an EDF header that declares too many signals or data records."""
    for what, field, limit in (
        ("signals", content[252:256], MAX_CHANNELS),
        ("data records", content[236:244], MAX_EDF_RECORDS),
    ):
        if _digits(field) and int(field) > limit:
            raise InputRefusedError(str(path), f"the EDF header declares {int(field):,} {what}, the limit is {limit:,}")


def _check_scp(path: Path, content: bytes) -> None:
    """Refuse an SCP-ECG file that lists too many leads, or more samples of a lead than its bytes can hold.

    The library allocates the declared number before it decodes. A sample takes at least one bit.
    """
    for pointer in range(22, min(6 + int.from_bytes(content[10:14], "little"), len(content) - 9), 10):
        section, _, place = struct.unpack_from("<HII", content, pointer)
        if section != 3 or place + 17 > len(content):
            continue
        start = place - 1 + 18
        if content[start - 2] > MAX_SCP_LEADS:
            raise InputRefusedError(str(path), f"{content[start - 2]} leads, the limit is {MAX_SCP_LEADS}: no ECG")
        for lead in range(content[start - 2]):
            if start + 9 * lead + 8 > len(content):
                break
            first, last = struct.unpack_from("<II", content, start + 9 * lead)
            if last - first > 8 * len(content):
                raise InputRefusedError(
                    str(path),
                    f"a lead of {last - first + 1:,} samples is declared, the file has {len(content):,} bytes",
                )


# ---- what the library returned


def _channels(record: Any, path: Path, name: str) -> list[Channel]:
    """Turn the leads of the library's record into channels; refuse leads that do not cover one time."""
    if len(record.leads) > MAX_CHANNELS:
        raise InputRefusedError(str(path), f"{len(record.leads):,} channels, the limit is {MAX_CHANNELS}: no ECG")
    refuse_size(path, sum(len(lead.samples) for lead in record.leads))
    starts = {lead.annotations.get("start_sample", "1") for lead in record.leads}
    delays = {float(lead.annotations.get("LeadTimeOffset") or 0) for lead in record.leads}
    if len(starts) > 1 or len(delays) > 1:
        raise InputRefusedError(
            str(path),
            "its leads start at different times (a sequential recording): the model reads twelve leads at once",
        )
    labels = [lead.label for lead in record.leads]
    channels = [
        _channel(lead, _label(lead.label, labels), rate)
        for lead, rate in zip(record.leads, _rates(record, name), strict=True)
    ]
    lengths = {
        (channel.sampling_rate, len(channel.values)) for channel in channels if normalise_lead_name(channel.name)
    }
    seconds = [length / rate for rate, length in lengths if rate > 0]
    if seconds and max(seconds) - min(seconds) > 1.5 / min(rate for rate, _ in lengths):
        raise InputRefusedError(
            str(path), f"its leads last {min(seconds):g} to {max(seconds):g} s: they do not belong to one recording"
        )
    return channels


def _channel(lead: Any, label: str, rate: float) -> Channel:
    """Scale a lead of the library to its physical unit, with a problem where its scale is not usable."""
    problem = ""
    if not lead.resolution_unit:
        problem = "the file states no scale or unit for it, so its values have no known scale"
    elif not 0 < lead.resolution < float("inf") or not np.isfinite(lead.offset):
        problem = f"its scale is {lead.resolution:g}, so its values have no known scale"
    elif str(lead.annotations.get("LeadOff", "")).strip():
        problem = "the file states that its electrode was off"
    elif (standard := normalise_lead_name(label)) is not None:
        problem = other_signal(standard, [lead.transducer or ""])
    # samples that are physical already have a resolution of 1
    values = np.asarray(lead.samples, dtype=np.float64)
    values = values if problem else values * lead.resolution + lead.offset
    return Channel(label, lead.resolution_unit or UNIT_NOT_STATED, values, rate, problem)


def _label(label: str, labels: list[str]) -> str:
    """Undo the library's second names ("II_2"), so that a lead that occurs twice is refused as such."""
    match = _DOUBLED.fullmatch(label)
    return match.group(1) if match and match.group(1) in labels else label


def _rates(record: Any, name: str) -> list[float]:
    """Return the exact sampling rate (Hz) of each lead; the library rounds it to a whole number."""
    details = record.raw_metadata
    rates = [float(lead.sampling_rate) for lead in record.leads]
    if name == EDF:
        exact = details.get("exact_sampling_rates", {})
        rates = [float(exact.get(lead.label, rate)) for lead, rate in zip(record.leads, rates, strict=True)]
    if name == AECG:
        rates = [round(float(details["rhythm_time"]["sampling_rate_exact"]), 6)] * len(rates)
    if name == SCP:
        rates = [1e6 / details["rhythm_sample_interval_us"]] * len(rates)
    if not all(0 < rate < float("inf") for rate in rates):
        raise ValueError("sampling rate")
    return rates


# ---- warnings and errors


def _notes_of(remarks: list[str], path: Path, name: str) -> list[str]:
    """Turn the library's warnings into notes; refuse the file for a warning that is none of the harmless ones."""
    notes = []
    for remark in remarks:
        note = next((text for part, text in _NOTES.items() if part in remark), None)
        if note is None:
            raise InputRefusedError(str(path), _reason(remark, name))
        if note and note not in notes:
            notes.append(note)
    return notes


def _reason(text: str, name: str) -> str:
    """Give the reason for a warning or an error of the library, in words that quote nothing of the file."""
    reason = next((words for part, words in _REASONS.items() if part in text), None)
    return f"not usable as {name}: {reason or 'its content is damaged, or of a variant that is not read'}"


def _refusal_of_library(error: Exception, item: Path | str, name: str) -> InputRefusedError:
    """Turn what the library raised into the refusal to raise."""
    if isinstance(error, InputRefusedError):
        return InputRefusedError(str(item), error.reason)
    if isinstance(error, (MemoryError, RecursionError)) or getattr(error, "errno", None) is not None:
        return refusal_of(error, item)
    if isinstance(error, DefusedXmlException):
        return InputRefusedError(str(item), _reason("entity declarations", name))
    foreseen = (ArithmeticError, AttributeError, LookupError, SyntaxError, TypeError, ValueError, struct.error)
    if isinstance(error, (*foreseen, ecgdatakit.ECGDataKitError)):
        return InputRefusedError(str(item), _reason(str(error), name))
    return refusal_of(error, item)


LAYOUTS = {
    MUSE: _Layout(MAX_XML_BYTES, GEMuseXMLParser, reduce=_reduce_muse),
    AECG: _Layout(MAX_XML_BYTES, HL7aECGParser, reduce=_reduce_aecg),
    PHILIPS: _Layout(MAX_XML_BYTES, SierraXMLParser, reduce=_reduce_philips, compare=_compare_philips),
    SCP: _Layout(MAX_SCP_BYTES, SCPECGParser, check=_check_scp),
    EDF: _Layout(2 * MAX_VALUES, EDFParser, check=_check_edf),
}
"""Format -> how it is read."""
