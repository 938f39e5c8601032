"""Read WFDB recordings: each signal at its own rate, checksums compared, segments only where they belong together."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ..utils.errors import InputRefusedError
from .ecg_header_findings import filter_findings
from .ecg_header_words import filters_of_words, findings_of_words, free_text_notes
from .ecg_recording import Channel, EcgRecording, recording_from_channels, refuse_size
from .ecg_wfdb_header import WfdbHeader, WfdbSignal, check_sizes, inside, read_comments, read_header
from .input_limits import refusing
from .optional_packages import LatePackage, require_package

wfdb: Any = LatePackage("wfdb")

_SIXTEEN_BITS = {16: "<i2", 61: ">i2"}
"""Formats of 16 bits -> numpy's type of their values."""
_NO_SAMPLE = -(2**15)
"""Value of 16 bits that stands for a missing sample."""
BIG_ENDIAN = {61: 16}
"""Format of big-endian values -> the same format in little-endian order. The library fails on the former."""


def read_wfdb(stem: Path, suffix: str = ".hea") -> EcgRecording:
    """Read a WFDB recording.

    Args:
        stem: path without suffix.
        suffix: of the header; some systems write names in capitals.

    Returns:
        `EcgRecording` with the leads of the file, in millivolts or in normalised units.

    Raises:
        InputRefusedError: if header and signal files are damaged, contradict each other, or hold none of
            the twelve leads.
        ImportError: if wfdb is not installed.
    """
    require_package(wfdb, "wfdb", "reading WFDB recordings")
    try:
        with refusing(stem):
            header = read_header(stem.with_name(stem.name + suffix))
            channels = _read_segments(header) if header.segments else _read_channels(header)
            recording = recording_from_channels(channels, str(stem))
            comments = read_comments(header.path)
            recording.checks += filter_findings(*filters_of_words(comments)) + findings_of_words(comments)
            recording.notes += free_text_notes(comments)
            return recording
    except InputRefusedError as error:
        # the recording is named as the caller named it, not by the file of a segment
        raise InputRefusedError(str(stem), error.reason) from error


def _read_channels(header: WfdbHeader) -> list[Channel]:
    """Read the signals of one header as channels in their physical units, each at its own sampling rate."""
    frames = check_sizes(header)
    if all(signal.format in _SIXTEEN_BITS and signal.samples_per_frame == 1 for signal in header.signals):
        stored = _read_sixteen_bits(header, frames)
        _compare_checksums(header, stored.sum(axis=1, dtype=np.int64).tolist())
        physical = _scaled(stored, header.signals)
    else:
        content = _decode(header, frames)
        _compare_checksums(header, [int(np.sum(values, dtype=np.int64)) for values in content.e_d_signal])
        physical = content.dac(expanded=True)
    return [
        Channel(
            signal.name,
            signal.unit,
            _without_skew(values, signal),
            header.frame_rate * signal.samples_per_frame,
            signal.problem,
        )
        for signal, values in zip(header.signals, physical, strict=True)
    ]


def _read_sixteen_bits(header: WfdbHeader, frames: int) -> np.ndarray:
    """Read the stored values of signals of 16 bits, which need no library: (signals, frames) int16.

    `check_sizes` has compared the length of the files.
    """
    by_file: dict[Path, list[int]] = {}
    for index, signal in enumerate(header.signals):
        by_file.setdefault(signal.file, []).append(index)
    stored = np.empty((len(header.signals), frames), np.int16)
    for file, indices in by_file.items():
        first = header.signals[indices[0]]
        with file.open("rb") as stream:  # what this raises, `read_wfdb` turns into a refusal
            stream.seek(first.offset)
            content = stream.read(2 * frames * len(indices))
        values = np.frombuffer(content, _SIXTEEN_BITS[first.format]).reshape(frames, len(indices))
        stored[indices] = values.T
    return stored


def _scaled(stored: np.ndarray, signals: list[WfdbSignal]) -> np.ndarray:
    """Convert stored values (signals, samples) of 16 bits to the physical units; "no sample" becomes NaN."""
    baselines, gains = np.array([[signal.baseline, signal.gain] for signal in signals], np.float64).T[:, :, None]
    values: np.ndarray = (stored - baselines) / gains
    values[stored == _NO_SAMPLE] = np.nan
    return values


def _without_skew(values: np.ndarray, signal: WfdbSignal) -> np.ndarray:
    """Move the samples of a signal that was recorded `skew` frames too late; NaN fills the end.

    The library moves them before the checksum can be compared, and the checksum is that of the stored samples.
    """
    late = min(signal.skew * signal.samples_per_frame, len(values))
    return np.concatenate([values[late:], np.full(late, np.nan)]) if late else values


def _decode(header: WfdbHeader, frames: int) -> Any:
    """Let the library decode the stored values.

    The library gets a header that says the same in its narrow syntax (no dots or folders in names, no dates), in a
    folder of its own beside links to the signal files.
    """
    files = list(dict.fromkeys(signal.file for signal in header.signals))
    lines = [f"record {len(header.signals)} 1 {frames}"]
    for index, signal in enumerate(header.signals):
        lines.append(
            f"file{files.index(signal.file)}.dat {BIG_ENDIAN.get(signal.format, signal.format)}"
            f"x{signal.samples_per_frame}+{signal.offset} "
            f"{signal.gain!r}({signal.baseline})/mV 16 {signal.zero} {signal.initial} {signal.checksum or 0} 0 s{index}"
        )
    with refusing(header.path), tempfile.TemporaryDirectory(prefix="tgmm-wfdb-") as name:
        folder = Path(name)
        for index, file in enumerate(files):
            first = next(signal for signal in header.signals if signal.file == file)
            if first.format in BIG_ENDIAN:
                _swap_bytes(file, folder / f"file{index}.dat", first.offset)
            else:
                _link(file.absolute(), folder / f"file{index}.dat")
        (folder / "record.hea").write_text("\n".join(lines) + "\n")
        return wfdb.rdrecord(str(folder / "record"), physical=False, smooth_frames=False)


def _swap_bytes(file: Path, copy: Path, offset: int) -> None:
    """Write a copy of a signal file of 16-bit big-endian values, with its bytes swapped behind `offset`."""
    content = file.read_bytes()
    values = np.frombuffer(content, ">i2", count=max(0, len(content) - offset) // 2, offset=min(offset, len(content)))
    copy.write_bytes(content[:offset] + values.astype("<i2").tobytes())


def _link(file: Path, link: Path) -> None:
    """Make `link` a link to the signal file `file`, or a copy if the system allows no links."""
    try:
        link.symlink_to(file)
    except (OSError, NotImplementedError):  # pathlib raises the latter on a system without links
        shutil.copyfile(file, link)


def _compare_checksums(header: WfdbHeader, sums: list[int]) -> None:
    """Refuse signals whose stored values have not the sum that the header states (16 bits, WFDB manual)."""
    for signal, whole in zip(header.signals, sums, strict=True):
        if signal.checksum is None:
            continue
        total = whole % 65536
        if total != signal.checksum % 65536:
            raise InputRefusedError(
                str(header.path),
                f"the checksum of a signal is {total}, the header of the WFDB record states {signal.checksum % 65536}: "
                "the signal file was changed or damaged, or its format is another",
            )


def _read_segments(header: WfdbHeader) -> list[Channel]:
    """Read a recording of segments and join them in time.

    A first segment of length 0 is a layout: it names all leads, and a segment may lack some. Otherwise every segment
    has the same leads in the same order.

    Returns:
        One channel per lead over the whole time. Samples of a gap, or of a segment without the lead, are NaN.

    Raises:
        InputRefusedError: if the segments do not fit each other or the header.
    """
    (first, length), *rest = header.segments
    by_layout = length == 0 and first != "~"
    layout = _segment_header(header, first) if by_layout else None
    parts: list[tuple[int, list[Channel]]] = []
    refuse_size(header.path, sum(frames for _, frames in header.segments), "frames in all segments")
    for name, frames in rest if by_layout else header.segments:
        if name == "~" or frames == 0:
            parts.append((frames, []))
            continue
        part = _segment_header(header, name)
        if part.frame_rate != header.frame_rate:
            raise InputRefusedError(
                str(header.path), f"segments of {header.frame_rate:g} and {part.frame_rate:g} Hz: they do not join"
            )
        if part.frames not in (0, frames):
            raise InputRefusedError(
                str(header.path),
                f"a segment of the WFDB record has {part.frames} frames, the header of all segments states {frames}",
            )
        part.frames = frames
        parts.append((frames, _read_channels(part)))
    names = [signal.name for signal in layout.signals] if layout else None
    return _join(header, parts, names)


def _segment_header(header: WfdbHeader, name: str) -> WfdbHeader:
    """Read the header of the segment `name`; refuse a segment of segments, because it may name itself."""
    path = inside(header.path, name)
    segment = read_header(path.with_name(path.name + ".hea"))
    if segment.segments:
        raise InputRefusedError(str(header.path), "a segment of the WFDB record has segments itself: not allowed")
    return segment


def _join(header: WfdbHeader, parts: list[tuple[int, list[Channel]]], names: list[str] | None) -> list[Channel]:
    """Join segments in time by lead name.

    Args:
        header: of the whole recording.
        parts: (frames, channels) of every segment, in time. A gap has no channels.
        names: leads of the layout. None without a layout: then segments with other leads or orders are refused.

    Returns:
        One channel per lead.
    """
    total = sum(frames for frames, _ in parts)
    described = [channels for _, channels in parts if channels]
    if not described:
        raise InputRefusedError(str(header.path), "no segment of the WFDB record has samples: nothing to read")
    orders = {tuple(channel.name for channel in channels) for channels in described}
    if names is None and len(orders) > 1:
        raise InputRefusedError(
            str(header.path),
            "the segments of the WFDB record have other leads, or other orders of leads: they do not join",
        )
    templates = {channel.name: channel for channels in described for channel in channels}
    refuse_size(header.path, total * sum(_per_frame(header, channel) for channel in templates.values()))
    return [_join_channel(header, parts, templates[name]) for name in names or next(iter(orders)) if name in templates]


def _join_channel(header: WfdbHeader, parts: list[tuple[int, list[Channel]]], template: Channel) -> Channel:
    """Join the lead of `template` over all `parts`, see `_join`; NaN fills a segment without the lead."""
    per_frame = _per_frame(header, template)
    pieces = []
    for frames, channels in parts:
        piece = next((channel for channel in channels if channel.name == template.name), None)
        if piece is None:
            pieces.append(np.full(frames * per_frame, np.nan))
            continue
        if (piece.unit, piece.sampling_rate) != (template.unit, template.sampling_rate):
            raise InputRefusedError(
                str(header.path), "unit or sampling rate of a lead change between segments: they do not join"
            )
        if piece.problem:
            template = template._replace(problem=piece.problem)
        pieces.append(piece.values)
    return template._replace(values=np.concatenate(pieces))


def _per_frame(header: WfdbHeader, channel: Channel) -> int:
    """Count the samples that one frame of the recording holds of a channel."""
    return round(channel.sampling_rate / header.frame_rate)
