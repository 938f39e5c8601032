"""Read echo clips (multi-frame DICOM, video) into frames."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from ..utils.errors import InputRefusedError
from .dicom_files import is_dicom, read_dicom
from .echo_between import range_of_array
from .echo_brightness import ClipBrightness, brightness_of
from .echo_checks import (
    REPEATED_SHARE,
    change_of,
    colour_fault,
    content_fault,
    planar_fault,
    repeated_share,
    repeats_note,
)
from .echo_decoders import PixelsError
from .echo_dicom import check_header, count_frames, declared_frames, decode_dicom_clip
from .echo_header_notes import frame_rate_notes
from .echo_layout import LAYOUT_FRAMES, layout_fault
from .echo_motion import motion_doubts
from .echo_shape import shape_doubts
from .echo_video import VIDEO_SUFFIXES, count_video_frames, read_video
from .input_limits import LIMITS, InputLimits, refusal_of, refusing

SMALLEST_SIDE = 96
"""Pixels. Frames with a smaller side are named. The smallest public clips have 112 x 112 (EchoNet-Dynamic)."""


@dataclass
class EchoClip:
    """Decoded frames of a clip.

    Attributes:
        frames (`np.ndarray` of shape `(frames, height, width, 3)`, uint8): only the frames that the model reads.
        colour_space (`str`): "YBR" (full range, components Y, Cb, Cr), "RGB" or "MONOCHROME" (three equal channels).
        total_frames (`int`): number of frames in the file.
        source (`str`): file name for messages.
        notes (`list[dict[str, str]]`): {"code", "text"} for what was assumed and for what makes the clip doubtful.
        between (`np.ndarray` of shape `(2, height, width)`, uint8): lowest and highest brightness of the frames between
            the frames that the model reads, for the sector mask. None if they were not looked at.
        stated_views (`frozenset[str]`): views that the header allows; empty if it names none.
    """

    frames: np.ndarray
    colour_space: str
    total_frames: int
    source: str = "clip"
    notes: list[dict[str, str]] = field(default_factory=list)
    between: np.ndarray | None = None
    stated_views: frozenset[str] = frozenset()


def list_echo_files(directory: str | Path, allow_outside: bool = False) -> list[Path]:
    """List the DICOM and video files under a study directory.

    A `.dcm` file that is not DICOM, such as an interrupted transfer, is listed too, because reading it gives the reason
    why it cannot be used.

    Args:
        directory: searched with all its subdirectories; hidden files and DICOMDIR are left out.
        allow_outside: follow links that lead out of the directory. They are left out by default.

    Returns:
        Paths in sorted order. DICOM is recognised by content or suffix, video by suffix.

    Raises:
        InputRefusedError: if there is no such directory, or no echo file in it.
    """
    return study_files(directory, allow_outside)[0]


def study_files(directory: str | Path, allow_outside: bool = False) -> tuple[list[Path], list[Path]]:
    """List the echo files under a study directory, and the links that were not followed.

    Args:
        directory: as in `list_echo_files`.
        allow_outside: follow links that lead out of the directory. Then no link is left out.

    Returns:
        Two sorted lists of paths: the DICOM and video files; and the links that lead out of the directory and were not
        followed.

    Raises:
        InputRefusedError: if there is no such directory, or no echo file in it.
    """
    directory = Path(directory)
    try:
        if directory.is_file():
            raise InputRefusedError(
                str(directory),
                "a file, not a study directory: give {view: file}, or a list of files with their view names",
            )
        if not directory.is_dir():
            raise InputRefusedError(str(directory), "no such study directory: check the path")
    except (OSError, ValueError) as error:
        raise refusal_of(error, directory) from error
    inside, outside = [], []
    for path in sorted(_walk(directory, allow_outside)):
        if path.name.startswith("."):
            continue
        if not allow_outside and leads_outside(path, directory):
            outside.append(path)
        elif path.is_file():
            inside.append(path)
    clips = [path for path in inside if path.suffix.lower() in (*VIDEO_SUFFIXES, ".dcm") or is_dicom(path)]
    clips = [path for path in clips if path.name.upper() != "DICOMDIR"]
    if not clips and not outside:
        raise InputRefusedError(
            str(directory), f"no echo file among {len(inside)} files: expected DICOM or {' / '.join(VIDEO_SUFFIXES)}"
        )
    return clips, outside


def leads_outside(path: str | Path, directory: str | Path) -> bool:
    """Tell whether a path, with its links and `..` resolved, lies outside a directory.

    A path that the system cannot look up, such as a circle of links, counts as inside: no file can be read there.
    """
    try:
        return not Path(path).resolve().is_relative_to(Path(directory).resolve())
    except (OSError, ValueError, RuntimeError):
        return False


def _walk(directory: Path, follow: bool) -> Iterator[Path]:
    """List the files under a directory, and the links to directories unless they are followed.

    Each directory is entered once, so a link to a directory above it ends.
    """
    seen = {directory.resolve()}
    for folder, folders, files in os.walk(directory, followlinks=follow):
        yield from (Path(folder) / name for name in files)
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        if not follow:
            yield from (Path(folder) / name for name in links)
            continue
        targets = {name: (Path(folder) / name).resolve() for name in folders}
        folders[:] = [name for name in sorted(folders) if targets[name] not in seen]
        seen |= {targets[name] for name in folders}


def count_echo_frames(path: str | Path, limits: InputLimits = LIMITS) -> int:
    """Read the number of frames of a clip from its header; count them in the pixels where the header has none.

    Args:
        path: multi-frame DICOM, or a video file.
        limits: largest sizes.

    Returns:
        The number of frames, at least 2.

    Raises:
        InputRefusedError: if the file is not an image, is a still, or has a colour space that is not supported.
        ImportError: if pydicom or OpenCV is needed and not installed.
    """
    path = Path(path)
    with refusing(path, _refusal):
        if path.suffix.lower() in VIDEO_SUFFIXES:
            return _refuse_still(count_video_frames(path, limits), path)
        dataset = read_dicom(path, stop_before_pixels=True, limits=limits)
        check_header(dataset, str(path), limits)
        total = declared_frames(dataset, str(path))
        if not total:
            total = count_frames(read_dicom(path, limits=limits), str(path), limits)
    return _refuse_still(total, path)


def read_echo_clip(path: str | Path, num_frames: int = 16, stride: int = 2, limits: InputLimits = LIMITS) -> EchoClip:
    """Decode only the frames 0, stride, 2 x stride, ... of a clip.

    In DICOM files, Pillow decodes JPEG baseline, OpenCV decodes MPEG and HEVC, pydicom decodes uncompressed, RLE and
    JPEG 2000. Colours stay as stored, because EchoPrime's mask and colours start from YBR. Palettes become RGB. Videos
    give RGB.

    Args:
        path: multi-frame DICOM, `.mp4`, `.mov` or `.avi`.
        num_frames: largest number of frames to decode.
        stride: step between two decoded frames, in frames of the file.
        limits: largest sizes that the file may have or declare.

    Returns:
        `EchoClip` with at most `num_frames` frames.

    Raises:
        InputRefusedError: if the file is not a clip, is a still, shows nothing, is damaged, or has a coding without a
            decoder.
        ImportError: if pydicom, Pillow or OpenCV is needed and not installed.
    """
    path = Path(path)
    with refusing(path, _refusal):
        clip = _decode(path, num_frames, stride, limits)
        _refuse_still(clip.total_frames, path)
        brightness = ClipBrightness(brightness_of(clip.frames, clip.colour_space))
        if (fault := content_fault(brightness)) is not None:
            raise InputRefusedError(str(path), fault)
    clip.notes += clip_notes(clip, num_frames, brightness)
    return clip


def clip_from_array(array: np.ndarray, num_frames: int = 16, stride: int = 2) -> EchoClip:
    """Check an array of all frames of a clip and choose the frames that the model reads.

    Args:
        array: (frames, height, width, 3) uint8 RGB.
        num_frames: largest number of frames to choose.
        stride: step between two chosen frames.

    Returns:
        `EchoClip` with at most `num_frames` frames, RGB, and notes on what makes it doubtful.

    Raises:
        InputRefusedError: if the array has another type or shape, masked pixels, or one frame only, or if its colours
            or frames are cut wrongly.
    """
    if np.ma.isMaskedArray(array):
        raise InputRefusedError("array", "a masked array: fill the masked pixels, or leave the clip out")
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] != 3:
        raise InputRefusedError(
            "array", f"{array.dtype} of shape {array.shape}, expected uint8 RGB (frames, height, width, 3)"
        )
    _refuse_still(len(array), "array")
    if not array.size:
        raise InputRefusedError("array", f"an array without pixels, of shape {array.shape}")
    fault = (
        planar_fault(array[0], "RGB", 0) or colour_fault(array[0], "RGB") or layout_fault(array[:LAYOUT_FRAMES], "RGB")
    )
    if fault is not None:
        raise InputRefusedError("array", f"{fault}. Give (frames, height, width, 3) RGB, one frame after the other")
    clip = EchoClip(array[: num_frames * stride : stride], "RGB", len(array), "array")
    changes = [change_of(*pair) for pair in pairwise(array[: (num_frames - 1) * stride + 1])]
    note = repeats_note(changes)
    clip.notes = [] if note is None else [note]
    clip.notes += clip_notes(clip, num_frames, ClipBrightness(brightness_of(clip.frames, "RGB")))
    clip.between = range_of_array(array, num_frames, stride)
    return clip


def clip_notes(clip: EchoClip, num_frames: int, brightness: ClipBrightness) -> list[dict[str, str]]:
    """Note what makes the decoded frames of a clip doubtful.

    Args:
        clip: its frames, colour space and total number of frames.
        num_frames: number of frames that the model wants.
        brightness: of the frames.

    Returns:
        One {"code", "text"} for each doubt; empty without doubts.
    """
    notes, frames, total = [], clip.frames, clip.total_frames
    if len(frames) < num_frames:
        text = f"{len(frames)} of the {num_frames} frames are real, because the file has {total}; the rest is padding"
        notes.append({"code": "few_frames", "text": text})
    side = min(frames.shape[1:3])
    if side < SMALLEST_SIDE:
        text = f"the smaller side of the frames has {side} pixels (at least {SMALLEST_SIDE} are usual): a thumbnail?"
        notes.append({"code": "frame_small", "text": text})
    notes += motion_doubts(brightness)
    notes += shape_doubts(brightness, any(note["code"] == "mostly_still" for note in notes))
    share = repeated_share(frames)
    if share >= REPEATED_SHARE and not any(note["code"] == "frames_repeated" for note in clip.notes):
        text = f"{share:.0%} of the frames repeat the frame before them: parts of the clip are frozen"
        notes.append({"code": "frames_repeated", "text": text})
    return notes


def _decode(path: Path, num_frames: int, stride: int, limits: InputLimits) -> EchoClip:
    """Decode a DICOM file or video like `read_echo_clip`, without a check of what the clip shows."""
    if path.suffix.lower() in VIDEO_SUFFIXES:
        video = read_video(path, num_frames, stride, limits)
        note = repeats_note(video.changes)
        notes = [*frame_rate_notes(video.rate), *([] if note is None else [note])]
        return EchoClip(video.frames, "RGB", video.total, str(path), notes, video.between)
    dataset = read_dicom(path, limits=limits)
    check_header(dataset, str(path), limits)
    if declared_frames(dataset, str(path)) == 1:  # a still needs no decoder
        _refuse_still(1, path)
    read = decode_dicom_clip(dataset, str(path), num_frames, stride, limits)
    return EchoClip(read.frames, read.colour_space, read.total, str(path), read.notes, read.between, read.stated_views)


def _refuse_still(total: int, path: Path | str) -> int:
    """Return `total`, the number of frames of a file; refuse the file if it has fewer than two."""
    if total < 2:
        raise InputRefusedError(str(path), f"a single-frame still ({total} frame; a clip has at least 2): skipped")
    return total


def _refusal(error: Exception, path: Path | str) -> InputRefusedError:
    """Turn what a decoder raised into the refusal to raise. A library's text is left out: it may quote the header."""
    # NotImplementedError: pydicom knows no decoder for the transfer syntax
    foreseen = (OSError, ValueError, RuntimeError, NotImplementedError, AttributeError, EOFError)
    is_bomb = type(error).__name__ == "DecompressionBombError"  # Pillow's, for a picture of more pixels than it decodes
    is_foreseen = (is_bomb or isinstance(error, foreseen)) and not isinstance(
        error, (InputRefusedError, RecursionError)
    )
    if not is_foreseen or getattr(error, "errno", None) is not None:
        return refusal_of(error, path)
    return InputRefusedError(
        str(path),
        f"frames cannot be decoded ({_why(error)}): the file is damaged, or convert it to uncompressed, RLE, JPEG "
        "baseline or JPEG 2000 first (for example with DCMTK's dcmdjpeg)",
    )


def _why(error: Exception) -> str:
    """Write the reason of our own errors, and the kind of a library's error."""
    if isinstance(error, PixelsError):
        return str(error)
    if "missing dependencies" in str(error):  # pydicom, where no installed package decodes the transfer syntax
        return "no installed package decodes this transfer syntax"
    return type(error).__name__
