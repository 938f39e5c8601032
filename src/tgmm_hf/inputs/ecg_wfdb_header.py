"""Parse WFDB headers and check what they declare, before a library reads the samples.

The format is described in the WFDB manual, header(5). The `wfdb` library accepts more than the manual, replaces missing
sampling rates and gains by defaults, and follows a header that names itself. So headers are checked here first.
"""

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..utils.errors import InputRefusedError
from .ecg_recording import refuse_size
from .input_limits import check_file, refusal_of

WFDB_SUFFIXES = (".hea", ".dat", ".mat")
HEADER_SUFFIXES = (".hea", ".HEA")
"""Some systems write names in capitals."""
MAX_HEADER_BYTES = 1_000_000
"""A longer header is no header. Twelve leads need about one thousand bytes."""
MAX_SEGMENTS = 10_000
"""Largest number of segments of one recording."""
UNCALIBRATED = "its gain is {}, so its values have no known scale"
"""Problem of a signal whose gain is missing, zero, negative or infinite."""

# Bytes per sample of the formats with a fixed size; packed formats have fractions. FLAC (508, 516, 524) has none.
_SAMPLE_BYTES = {8: 1, 16: 2, 24: 3, 32: 4, 61: 2, 80: 1, 160: 2, 212: 1.5, 310: 4 / 3, 311: 4 / 3}
_FLAC_FORMATS = (508, 516, 524)
_NO_FILE = 0
"""Format of a signal without a file, in the layout of a recording of segments."""
_SLACK_BYTES = 512
"""A signal file may be longer than declared by one block of padding."""
LARGEST_INTEGER = 2**32
"""Largest number in a signal line. Recorders write at most 32 bits."""
_GAIN = re.compile(r"(?P<gain>[^(/]*)(?:\((?P<baseline>[^)]*)\))?(?:/(?P<unit>.*))?", re.DOTALL)
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_FORMAT = re.compile(r"(\d{1,3})(?:x(\d{1,6}))?(?::(\d{1,9}))?(?:\+(\d{1,12}))?")


@dataclass
class WfdbSignal:
    """One signal line of a header.

    Attributes:
        file (`Path`): signal file.
        format (`int`): storage format of the WFDB manual.
        samples_per_frame (`int`): the signal's rate is this multiple of the frame rate.
        skew (`int`): frames by which the signal was recorded too late.
        offset (`int`): bytes before the first sample.
        gain (`float`): stored steps per unit.
        baseline (`int`): stored value that means zero.
        unit (`str`): physical unit.
        zero (`int`): value of the converter's middle.
        initial (`int`): first stored value, start of format 8.
        checksum (`int | None`): sum of the stored values, 16 bits; None where the header states none.
        name (`str`): description, for example "V1".
        problem (`str`): why the signal has no known scale; "" if it has.
    """

    file: Path
    format: int
    samples_per_frame: int
    skew: int
    offset: int
    gain: float
    baseline: int
    unit: str
    zero: int
    initial: int
    checksum: int | None
    name: str
    problem: str


@dataclass
class WfdbHeader:
    """A checked header: either signals, or segments that have headers of their own.

    Attributes:
        path (`Path`): the header file.
        frame_rate (`float`): Hz.
        frames (`int`): declared length; 0 if the header does not state it.
        signals (`list[WfdbSignal]`): empty for a recording of segments.
        segments (`list[tuple[str, int]]`): name and frames of every segment. "~" is a gap.
    """

    path: Path
    frame_rate: float
    frames: int
    signals: list[WfdbSignal]
    segments: list[tuple[str, int]]


def read_header(path: Path) -> WfdbHeader:
    """Read and check a header.

    Args:
        path: the header file, with its suffix.

    Returns:
        `WfdbHeader` with signals or with segments. The headers of the segments are not read.

    Raises:
        InputRefusedError: if a field is missing, damaged or beyond the documented limits.
    """
    lines = _header_lines(path)
    if not lines:
        raise _damaged(path, "it is empty")
    fields = lines[0].split()
    count = fields[0].rpartition("/")[2] if "/" in fields[0] else ""
    signals = _whole(path, fields[1] if len(fields) > 1 else "", "number of signals")
    frame_rate = _frame_rate(path, fields[2] if len(fields) > 2 else "")
    frames = _whole(path, fields[3], "number of samples") if len(fields) > 3 else 0
    if signals == 0:
        raise InputRefusedError(str(path), "the WFDB header lists no signal: nothing to read")
    refuse_size(path, frames * signals)
    if count.isascii() and count.isdigit():  # "³" is a digit too, but no number
        return WfdbHeader(path, frame_rate, frames, [], _segments(path, lines[1:], int(count)))
    if len(lines) < 1 + signals:
        raise _damaged(path, f"it announces {signals} signals and describes {len(lines) - 1}")
    files: dict[str, Path] = {}
    parsed = [_signal(path, line, files) for line in lines[1 : 1 + signals]]
    if all(signal.checksum == 0 and signal.initial == 0 for signal in parsed):
        for signal in parsed:
            signal.checksum = None  # written by hand: no header of real values has only zeros
    return WfdbHeader(path, frame_rate, frames, parsed, [])


def check_sizes(header: WfdbHeader) -> int:
    """Compare the declared size with the signal files, before anything is decoded.

    Returns:
        The number of frames to read: declared, or computed from the sizes of the files if the header states none.

    Raises:
        InputRefusedError: if a signal file is missing or of another size than the header declares.
    """
    if any(signal.format == _NO_FILE for signal in header.signals):
        raise InputRefusedError(str(header.path), "the WFDB header describes signals without a file: nothing to read")
    frames = header.frames
    for file in dict.fromkeys(signal.file for signal in header.signals):
        signals = [signal for signal in header.signals if signal.file == file]
        available = file_size(header.path, file) - signals[0].offset
        if len({(signal.format, signal.offset) for signal in signals}) > 1:
            raise _damaged(header.path, "signals of one file have several formats or offsets")
        per_frame = sum(signal.samples_per_frame for signal in signals)
        sample_bytes = _SAMPLE_BYTES.get(signals[0].format)
        if not frames:
            if sample_bytes is None:
                raise _damaged(header.path, "it does not state the number of samples")
            frames = int(available / (sample_bytes * per_frame))
        refuse_size(header.path, frames * per_frame)
        if sample_bytes is not None:
            _compare_bytes(header, available, frames * per_frame * sample_bytes, signals)
    if frames < 1:
        raise InputRefusedError(str(header.path), "the signal files hold no samples: nothing to read")
    return frames


def file_size(header: Path, file: Path) -> int:
    """Return the bytes of the signal file `file`; refuse what is no regular file, because a pipe would never end."""
    try:
        check_file(file)
        return file.stat().st_size
    except (InputRefusedError, OSError) as error:
        reason = refusal_of(error, file).reason
        if _is_file(file.with_name(file.name + ".gz")):
            reason += "; it is there compressed (.gz): unpack it (gunzip), because its size is compared before reading"
        raise InputRefusedError(
            str(header), f"not readable as a WFDB recording: a file that the header needs: {reason}"
        ) from error


def _compare_bytes(header: WfdbHeader, available: int, needed: float, signals: list[WfdbSignal]) -> None:
    """Refuse a signal file that is shorter than declared, or longer without checksums to prove the format."""
    # the last sample of a packed format may end inside a group of bytes
    shorter = available < math.floor(needed)
    longer = available > math.ceil(needed) + _SLACK_BYTES and all(signal.checksum is None for signal in signals)
    if shorter or longer:
        raise InputRefusedError(
            str(header.path),
            f"header and signal file do not fit: format {signals[0].format} needs {needed:.0f} bytes, the WFDB signal "
            f"file of this record has {max(available, 0)}: the file is cut, or the format is another",
        )


def find_header(path: Path) -> Path | None:
    """Find the header of a WFDB recording that is named with or without a suffix; None if it is not there."""
    stem = path.with_suffix("") if path.suffix.lower() in WFDB_SUFFIXES else path
    if not stem.name:
        return None
    headers = (stem.with_name(stem.name + suffix) for suffix in HEADER_SUFFIXES)
    return next((header for header in headers if header.is_file()), None)


def read_comments(path: Path) -> list[str]:
    """Read the comments of a header, without their "#". They may name the patient.

    Raises:
        InputRefusedError: if the header is missing or too large.
    """
    lines = (line.strip() for line in _header_text(path).splitlines())
    return [line.lstrip("# ") for line in lines if line.startswith("#")]


def _header_lines(path: Path) -> list[str]:
    """Read the lines of a header that are neither empty nor comments."""
    return [line for line in _header_text(path).splitlines() if line.strip() and not line.lstrip().startswith("#")]


def _header_text(path: Path) -> str:
    """Read a header as text."""
    size = file_size(path, path)
    if size > MAX_HEADER_BYTES:
        raise _damaged(path, f"it has {size} bytes, the limit is {MAX_HEADER_BYTES:,}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise refusal_of(error, path) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _frame_rate(path: Path, text: str) -> float:
    """Return the frames per second of a field such as "500" or "500/100(0)", in which a counter follows the rate."""
    try:
        rate = float(text.split("/")[0])
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise InputRefusedError(
            str(path), f"sampling rate of the header is {_quote(text)}, a positive number is needed"
        )
    return rate


def _segments(path: Path, lines: list[str], count: int) -> list[tuple[str, int]]:
    """Read the `count` lines of a recording of segments: (name, number of frames) of each segment."""
    if count != len(lines) or not 1 <= count <= MAX_SEGMENTS:
        raise _damaged(path, f"it announces {count} segments and describes {len(lines)} (limit {MAX_SEGMENTS:,})")
    segments = []
    for line in lines:
        name, _, frames = line.strip().rpartition(" ")
        name = name.strip()
        if name != "~":
            inside(path, name)
        segments.append((name, _whole(path, frames, "length of a segment")))
    return segments


def _signal(path: Path, line: str, files: dict[str, Path]) -> WfdbSignal:
    """Read one signal line: file, format, gain, resolution, zero, first value, checksum, block size, description.

    `files` maps the names of the lines before to their files, because most signals lie in one file. A name is added.
    """
    fields = line.split(maxsplit=8)
    match = _FORMAT.fullmatch(fields[1]) if len(fields) > 1 else None
    storage = int(match.group(1)) if match else 0
    without_file = fields[0] == "~" and storage == _NO_FILE
    if match is None or not (without_file or storage in _SAMPLE_BYTES or storage in _FLAC_FORMATS):
        raise _damaged(path, f"signal format {_quote(fields[1] if len(fields) > 1 else '')} is not known")
    numbers: list[int | None] = [_integer(path, text) for text in fields[3:7]]
    _, zero, initial, checksum = numbers + [None] * (4 - len(numbers))
    gain, baseline, unit, problem = _calibration(path, fields[2] if len(fields) > 2 else "")
    if not without_file and fields[0] not in files:
        files[fields[0]] = _in_any_case(inside(path, fields[0]))
    return WfdbSignal(
        file=path if without_file else files[fields[0]],
        format=storage,
        samples_per_frame=int(match.group(2) or 1) or 1,
        skew=int(match.group(3) or 0),
        offset=int(match.group(4) or 0),
        gain=gain,
        baseline=(zero or 0) if baseline is None else baseline,
        unit=unit or "mV",
        zero=zero or 0,
        initial=initial or 0,
        checksum=checksum,
        name=fields[8].strip() if len(fields) > 8 else "",
        problem=problem,
    )


def _calibration(path: Path, text: str) -> tuple[float, int | None, str, str]:
    """Read the calibration of a signal, such as "200(0)/mV": gain, baseline, unit.

    Returns:
        Four elements: the gain in stored steps per unit (1 if it cannot be used), the baseline or None, the unit or "",
        and why the gain cannot be used ("" if it can).
    """
    match = _GAIN.fullmatch(text)
    if match is None:
        raise _damaged(path, f"gain {_quote(text)} is no number")
    written = match.group("gain")
    baseline = match.group("baseline")
    try:
        gain = float(written or "0")
    except ValueError as error:
        raise _damaged(path, f"gain {_quote(written)} is no number") from error
    problem = "" if 0 < gain < math.inf else UNCALIBRATED.format(_quote(written))
    return (
        1.0 if problem else gain,
        None if not baseline else _integer(path, baseline),
        match.group("unit") or "",
        problem,
    )


@lru_cache(maxsize=64)
def inside(header: Path, name: str) -> Path:
    """Return the path of a file that a header names; refuse a name that leads out of the header's folder."""
    parts = re.split(r"[/\\]", name)
    if name.startswith(("/", "\\", "~")) or ".." in parts or ":" in name or "\0" in name:
        raise InputRefusedError(
            str(header), "the WFDB header names a file outside its own folder, or none: it is not followed"
        )
    return header.parent.joinpath(*parts)


def _is_file(path: Path) -> bool:
    """Tell whether a path is a file. A path that the system cannot look up, such as one that is too long, is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def _in_any_case(file: Path) -> Path:
    """Return the file that is there under this name in capitals or small letters, if it is the only one."""
    try:
        if file.exists():
            return file
        alike = [path for path in file.parent.iterdir() if path.name.casefold() == file.name.casefold()]
    except OSError:  # no such folder: the file is refused where it is opened
        return file
    return alike[0] if len(alike) == 1 else file


def _whole(path: Path, text: str, what: str) -> int:
    """Read a whole number that is not negative; `what` names the field in the refusal."""
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise _damaged(path, f"{what} is {_quote(text)}")
    return int(text)


def _integer(path: Path, text: str) -> int:
    """Read an integer, which may be negative; refuse any other text."""
    if not _INTEGER.fullmatch(text):
        raise _damaged(path, f"{_quote(text)} stands where an integer belongs")
    if abs(int(text)) > LARGEST_INTEGER:  # the scaled values would lose their digits
        raise _damaged(path, f"an integer of {len(text)} digits, no recorder has more than 32 bits")
    return int(text)


def _damaged(path: Path, reason: str) -> InputRefusedError:
    """Build the refusal of a damaged header."""
    return InputRefusedError(str(path), f"not readable as a WFDB recording: the header is damaged: {reason}")


def _quote(text: str) -> str:
    """Quote a number of a header; other text may name the patient, so it is not repeated."""
    if not text:
        return "missing"
    return text[:20] if re.fullmatch(r"[0-9.+\-/():xe]+|[+-]?nan|[+-]?inf", text.lower()) else "text"
