"""Decode video files, and video streams that lie in DICOM files, with OpenCV."""

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..utils.errors import InputRefusedError
from .echo_between import brightness_range
from .echo_checks import change_of
from .input_limits import LIMITS, MIB, InputLimits, check_file
from .optional_packages import LatePackage, require_package

cv2: Any = LatePackage("cv2")

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov")

FRAMES_OFF = 2
"""A container's number of frames is an estimate; it may be wrong by this many frames."""
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
"""First boxes of MP4 and QuickTime files, at byte 4."""
_LATER_BOXES = (*_BOXES, b"moof", b"mfra", b"sidx", b"styp", b"uuid", b"meta", b"udta")
"""Boxes of MP4 and QuickTime files that may follow. Anything else behind the last box is no part of the video."""
_STREAMS = (b"\x00\x00\x01", b"\x00\x00\x00\x01", b"\x47")
"""Starts of raw streams: MPEG-2, H.264 and HEVC start codes, and the sync byte of a transport stream."""


_UNKNOWN_SIZE = 0xFFFFFFFF
"""Size of a RIFF part that was written before its length was known."""
_MAX_OFFSET = 1 << 62
"""Largest place in a file that is looked at; the system takes no larger one."""
_SLACK = 64
"""Bytes by which a container may state too large a size, because some programs count its head twice."""


class VideoFrames(NamedTuple):
    """Decoded frames of a video.

    Attributes:
        frames: (frames, height, width, 3) uint8 RGB, the frames 0, stride, 2 x stride, ...
        total: number of all frames of the file.
        changes: how much each frame up to the last decoded one differs from the frame before it, see `change_of`.
        between: lowest and highest brightness of the frames between, as in [`EchoClip`].
        rate: frames a second that the container states; None if it states none.
    """

    frames: np.ndarray
    total: int
    changes: list[float]
    between: np.ndarray | None = None
    rate: float | None = None


def count_video_frames(path: Path, limits: InputLimits = LIMITS) -> int:
    """Read the number of frames from the header of a video file, which may be a few frames wrong (`FRAMES_OFF`).

    A raw stream has no such header. Its frames are counted.

    Raises:
        InputRefusedError: if OpenCV cannot open the file, or its frames are too large.
        ImportError: if OpenCV is not installed.
    """
    video = _open_video(path, str(path), limits)
    total = _stated_frames(video)
    total = total or _count_rest(video, str(path), 0, limits)
    video.release()
    return total


def read_video(path: Path, num_frames: int, stride: int, limits: InputLimits = LIMITS) -> VideoFrames:
    """Decode the frames 0, stride, 2 x stride, ... of a video file.

    Args:
        path: the file.
        num_frames: largest number of frames to decode.
        stride: step between two decoded frames.
        limits: largest sizes.

    Returns:
        `VideoFrames` with at most `num_frames` frames.

    Raises:
        InputRefusedError: if the video is damaged or ends before the frames that its header declares.
        ImportError: if OpenCV is not installed.
    """
    return _decode(_open_video(path, str(path), limits), str(path), num_frames, stride, limits)


def read_video_stream(
    stream: bytes, item: str, num_frames: int, stride: int, limits: InputLimits = LIMITS
) -> VideoFrames:
    """Decode a video stream that lies in a DICOM file, like `read_video` decodes a file.

    The stream goes to a file in a private temporary directory, because OpenCV reads files only.

    Args:
        stream: the bytes of the video.
        item: name of the DICOM file, for messages.
        num_frames: largest number of frames to decode.
        stride: step between two decoded frames.
        limits: largest sizes.

    Returns:
        `VideoFrames` with at most `num_frames` frames.
    """
    require_package(cv2, "opencv-python-headless", "reading videos in DICOM files")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "stream.mp4"
        path.write_bytes(stream)
        return _decode(_open_video(path, item, limits), item, num_frames, stride, limits)


def _open_video(path: Path, item: str, limits: InputLimits) -> Any:
    """Open a video file with OpenCV and return OpenCV's `VideoCapture`, or refuse the file.

    Only files that start as a video does are given to OpenCV, because its library also follows playlists, and a
    playlist may name other files and addresses. With CAP_FFMPEG a "%d" in a path is not a row of pictures.
    """
    require_package(cv2, "opencv-python-headless", "reading videos")
    check_file(path, limits)
    with path.open("rb") as file:
        head = file.read(12)
    is_video = (head[:4] == b"RIFF" and head[8:12] == b"AVI ") or head[4:8] in _BOXES or head.startswith(_STREAMS)
    if not is_video:
        raise InputRefusedError(item, "OpenCV cannot open the video: its content is no MP4, MOV, AVI or MPEG")
    if (stated := _stated_size(path)) > path.stat().st_size + _SLACK:
        raise InputRefusedError(
            item,
            f"the video has {path.stat().st_size:,} bytes, its head states {stated:,}: it is cut short, copy it again",
        )
    video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG if "%" in str(path) else cv2.CAP_ANY)
    if not video.isOpened():
        raise InputRefusedError(item, "OpenCV cannot open the video: the file is damaged or of another codec")
    height, width = int(video.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(video.get(cv2.CAP_PROP_FRAME_WIDTH))
    if height * width > limits.max_frame_pixels:
        video.release()
        raise InputRefusedError(
            item,
            f"frames of {height:,} x {width:,} pixels, the limit is {limits.max_frame_pixels:,} pixels: raise "
            "max_frame_pixels of the input limits if the file is right",
        )
    return video


def _stated_size(path: Path) -> int:
    """Read how many bytes of a file the outermost parts of its container take; 0 where the container states none.

    An AVI file is one RIFF part, or several if it is long. An MP4 or QuickTime file is a row of boxes.
    """
    with path.open("rb") as file:
        head = file.read(16)
        if head[:4] == b"RIFF":
            size = int.from_bytes(head[4:8], "little")
            return 0 if size == _UNKNOWN_SIZE else size + 8
        start = 0
        while head[4:8] in (_LATER_BOXES if start else _BOXES):
            size = int.from_bytes(head[:4], "big")
            size = int.from_bytes(head[8:16], "big") if size == 1 else size
            if size < 8:  # 0: the box reaches to the end of the file
                break
            start += size
            file.seek(min(start, _MAX_OFFSET))
            head = file.read(16)
    return start


def _decode(video: Any, item: str, num_frames: int, stride: int, limits: InputLimits = LIMITS) -> VideoFrames:
    """Decode the frames 0, stride, ... of an open `VideoCapture` and close it. The result is as in `read_video`."""
    total, frames, grabbed = _stated_frames(video), [], 0
    rate = float(video.get(cv2.CAP_PROP_FPS))
    before, changes, between = None, [], []
    wanted = (num_frames - 1) * stride + 1
    while grabbed < wanted and video.grab():
        frame = video.retrieve()[1]
        if before is not None and frame.shape != before.shape:
            raise InputRefusedError(item, "the frames of the video change their size: it is damaged or spliced")
        if before is not None:
            changes.append(change_of(before, frame))
        before = frame
        if grabbed % stride == 0:
            frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
        elif grabbed % stride == stride // 2:
            between.append(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY))
        grabbed += 1
    if grabbed == wanted:
        grabbed = total or _count_rest(video, item, grabbed, limits)
    video.release()
    if not frames:
        raise InputRefusedError(item, f"no frame could be decoded (the header says {total}): the video is damaged")
    if grabbed < min(wanted, total - FRAMES_OFF):
        raise InputRefusedError(
            item, f"the video ends after {grabbed} frames, its header says {total}: it is cut short or damaged"
        )
    return VideoFrames(np.stack(frames), grabbed, changes, brightness_range(between), rate if rate > 0 else None)


def _stated_frames(video: Any) -> int:
    """Read the number of frames that the container of an open `VideoCapture` states; 0 for a raw stream."""
    return max(int(video.get(cv2.CAP_PROP_FRAME_COUNT)), 0)


def _count_rest(video: Any, item: str, grabbed: int, limits: InputLimits) -> int:
    """Count the frames of a raw stream to its end, `grabbed` of which were read; refuse a clip that is too large."""
    size = 3 * int(video.get(cv2.CAP_PROP_FRAME_HEIGHT)) * int(video.get(cv2.CAP_PROP_FRAME_WIDTH))
    while video.grab():
        grabbed += 1
        if grabbed * size > limits.max_clip_bytes:
            raise InputRefusedError(
                item,
                f"the video decodes to more than {limits.max_clip_bytes / MIB:,.0f} MiB: raise max_clip_bytes of the "
                "input limits if the file is right",
            )
    return grabbed
