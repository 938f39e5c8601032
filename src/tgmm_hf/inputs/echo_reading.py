"""Read echo clips (multi-frame DICOM, video) into frames."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..utils.errors import InputRefusedError
from .dicom_files import is_dicom, read_dicom
from .optional_packages import require_package

try:
    from pydicom.encaps import generate_frames
    from pydicom.pixels import get_decoder
    from pydicom.pixels.processing import apply_color_lut
except ImportError:
    generate_frames = get_decoder = apply_color_lut = None
try:
    from PIL import Image
except ImportError:
    Image = None  # type: ignore[assignment]
try:
    import cv2
except ImportError:
    cv2 = None  # type: ignore[assignment]

JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
VIDEO_SUFFIXES = (".mp4", ".avi")


@dataclass
class EchoClip:
    """Decoded frames of a clip.

    Attributes:
        frames (`np.ndarray` of shape `(frames, height, width, 3)`, uint8): the frames that the model reads, no others.
        colour_space (`str`): "YBR" (full range, components Y, Cb, Cr), "RGB" or "MONOCHROME" (three equal channels).
        total_frames (`int`): number of frames in the file.
        source (`str`): file name for messages.
    """

    frames: np.ndarray
    colour_space: str
    total_frames: int
    source: str = "clip"


def list_echo_files(directory: str | Path) -> list[Path]:
    """List the DICOM and video files under a study directory.

    A `.dcm` file that is not DICOM, such as an interrupted transfer, is listed too, because reading it gives the reason
    why it cannot be used.

    Args:
        directory: searched with all its subdirectories; hidden files and DICOMDIR are left out.

    Returns:
        Paths in sorted order. DICOM is recognised by content or suffix, video by suffix.

    Raises:
        InputRefusedError: if there is no such directory, or no echo file in it.
    """
    directory = Path(directory)
    if directory.is_file():
        raise InputRefusedError(
            str(directory), "a file, not a study directory: give {view: file}, or a list of files with their view names"
        )
    if not directory.is_dir():
        raise InputRefusedError(str(directory), "no such study directory: check the path")
    files = sorted(path for path in directory.rglob("*") if path.is_file() and not path.name.startswith("."))
    clips = [path for path in files if path.suffix.lower() in (*VIDEO_SUFFIXES, ".dcm") or is_dicom(path)]
    clips = [path for path in clips if path.name.upper() != "DICOMDIR"]
    if not clips:
        raise InputRefusedError(
            str(directory), f"no echo file among {len(files)} files: expected DICOM or {' / '.join(VIDEO_SUFFIXES)}"
        )
    return clips


def count_echo_frames(path: str | Path) -> int:
    """Read the number of frames of a clip from its header.

    Raises:
        InputRefusedError: if the file is not an image, is a still, or has a colour space that is not supported.
        ImportError: if pydicom or OpenCV is needed and not installed.
    """
    path = Path(path)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        video = _open_video(path)
        total = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        video.release()
    else:
        total = _check_clip_header(read_dicom(path, stop_before_pixels=True), path)
    return _refuse_still(total, path)


def read_echo_clip(path: str | Path, num_frames: int = 16, stride: int = 2) -> EchoClip:
    """Decode the frames 0, stride, 2 x stride, ... of a clip, and no others.

    In DICOM files, Pillow decodes JPEG baseline; pydicom decodes uncompressed, RLE and JPEG 2000. Colours stay as
    stored, because EchoPrime's mask and colours start from YBR. Palettes become RGB. Video files give RGB.

    Args:
        path: multi-frame DICOM, `.mp4` or `.avi`.
        num_frames: largest number of frames to decode.
        stride: step between two decoded frames, in frames of the file.

    Returns:
        `EchoClip` with at most `num_frames` frames.

    Raises:
        InputRefusedError: if the file is not a clip, is a still, is damaged, or has a coding without a decoder.
        ImportError: if pydicom, Pillow or OpenCV is needed and not installed.
    """
    path = Path(path)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return _read_video(path, num_frames, stride)
    dataset = read_dicom(path)
    total = _refuse_still(_check_clip_header(dataset, path), path)
    indices = list(range(0, min(total, num_frames * stride), stride))
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise InputRefusedError(str(path), "the header states no transfer syntax: frames cannot be decoded")
    try:
        if syntax == JPEG_BASELINE:
            frames, space = _decode_jpeg_frames(dataset, indices, total)
        else:
            frames, space = _decode_other_frames(dataset, indices)
    except (OSError, ValueError, RuntimeError, NotImplementedError, AttributeError, EOFError) as error:
        # pydicom and Pillow raise these for damaged streams, and NotImplementedError also for codings without a
        # decoder. Nothing is hidden, because the refusal holds the cause.
        raise InputRefusedError(
            str(path),
            f"frames stored as {syntax.name} cannot be decoded ({error}): the file is damaged, or convert it to "
            "uncompressed, RLE, JPEG baseline or JPEG 2000 first (for example with DCMTK's dcmdjpeg)",
        ) from error
    if frames.dtype != np.uint8:
        raise InputRefusedError(str(path), f"pixels of {frames.dtype} were decoded, 8 bits are expected: rescale them")
    if frames.ndim == 3:
        frames = np.repeat(frames[..., None], 3, axis=-1)
    return EchoClip(frames, space, total, str(path))


def _check_clip_header(dataset: Any, path: Path) -> int:
    """Check that the header describes pixels that can be used, and return the number of frames."""
    if "Rows" not in dataset or "PhotometricInterpretation" not in dataset:
        raise InputRefusedError(str(path), "a DICOM file without an image: not an echo clip (a report or a waveform?)")
    if dataset.get("BitsAllocated") != 8:
        raise InputRefusedError(
            str(path), f"{dataset.get('BitsAllocated')} bits a sample, 8 are expected: rescale the pixels"
        )
    _colour_space(dataset.PhotometricInterpretation, path)
    return int(dataset.get("NumberOfFrames") or 1)


def _colour_space(photometric: str, path: Path | str) -> str:
    """Translate DICOM's photometric interpretation to "YBR", "RGB" or "MONOCHROME"."""
    if photometric in ("YBR_FULL", "YBR_FULL_422"):
        return "YBR"
    if photometric in ("RGB", "YBR_RCT", "YBR_ICT", "PALETTE COLOR"):
        # RCT and ICT are part of JPEG 2000; its decoder reverses them
        return "RGB"
    if photometric == "MONOCHROME2":
        return "MONOCHROME"
    raise InputRefusedError(
        str(path),
        f"photometric interpretation {photometric!r} is not supported (YBR_FULL, YBR_FULL_422, YBR_RCT, YBR_ICT, RGB, "
        "PALETTE COLOR and MONOCHROME2 are): convert the file to RGB",
    )


def _refuse_still(total: int, path: Path) -> int:
    """Refuse a file with one frame; return the number of frames."""
    if total < 2:
        raise InputRefusedError(str(path), f"a single-frame still ({total} frame; a clip has at least 2): skipped")
    return total


def _decode_jpeg_frames(dataset: Any, indices: list[int], total: int) -> tuple[np.ndarray, str]:
    """Decode JPEG baseline frames of a DICOM file; returns (frames, height, width[, 3]) and the colour space."""
    require_package(Image, "pillow", "decoding JPEG clips")
    stream: Iterator[bytes] = islice(generate_frames(dataset.PixelData, number_of_frames=total), indices[-1] + 1)
    wanted = set(indices)
    decoded = [
        _decode_jpeg(data, dataset.PhotometricInterpretation) for index, data in enumerate(stream) if index in wanted
    ]
    if len(decoded) != len(indices):
        raise ValueError(f"{len(decoded)} of {len(indices)} frames found in the pixel data")
    return np.stack([frame for frame, _ in decoded]), decoded[0][1]


def _decode_jpeg(data: bytes, photometric: str) -> tuple[np.ndarray, str]:
    """Decode one JPEG frame to its stored components and name their colour space.

    The markers of the stream decide, because headers often say RGB where the stream is YCbCr. An Adobe marker states
    the transform; a JFIF marker means YCbCr. Without a marker the header decides.
    """
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    if image.mode == "L":
        return np.asarray(image), "MONOCHROME"
    if image.mode != "RGB":
        raise ValueError(f"a JPEG frame of mode {image.mode}, expected grey or three components")
    if "adobe_transform" in image.info:
        space = "YBR" if image.info["adobe_transform"] == 1 else "RGB"
    else:
        space = "YBR" if "jfif" in image.info or photometric.startswith("YBR") else "RGB"
    if space == "YBR" or "adobe_transform" not in image.info:
        image.draft("YCbCr", image.size)  # return the components as they are, without colour conversion
    return np.asarray(image), space


def _decode_other_frames(dataset: Any, indices: list[int]) -> tuple[np.ndarray, str]:
    """Decode uncompressed, RLE and JPEG 2000 frames; returns (frames, height, width[, 3]) and the colour space."""
    decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
    # one call per frame, because pydicom 3.0's iter_array reads uncompressed YBR_FULL_422 wrongly after the first frame
    decoded = [decoder.as_array(dataset, index=index, raw=True) for index in indices]
    stacked, photometric = np.stack([frame for frame, _ in decoded]), decoded[0][1]["photometric_interpretation"]
    if photometric == "PALETTE COLOR":
        colours = apply_color_lut(stacked, dataset)
        stacked = (colours >> 8).astype(np.uint8) if colours.dtype == np.uint16 else colours
    return stacked, _colour_space(photometric, "frames")


def _open_video(path: Path) -> Any:
    """Open a video file with OpenCV, or refuse it."""
    require_package(cv2, "opencv-python-headless", f"reading the video {path}")
    video = cv2.VideoCapture(str(path))
    if not video.isOpened():
        raise InputRefusedError(
            str(path), "OpenCV cannot open the video: the file is missing, damaged or of another codec"
        )
    return video


def _read_video(path: Path, num_frames: int, stride: int) -> EchoClip:
    """Decode the frames 0, stride, 2 x stride, ... of a video file as RGB."""
    video = _open_video(path)
    total = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    frames = []
    for index in range((num_frames - 1) * stride + 1):
        if not video.grab():
            break
        if index % stride == 0:
            frames.append(cv2.cvtColor(video.retrieve()[1], cv2.COLOR_BGR2RGB))
    video.release()
    if not frames:
        raise InputRefusedError(str(path), f"no frame could be decoded (the header says {total}): the video is damaged")
    _refuse_still(max(total, len(frames)), path)
    return EchoClip(np.stack(frames), "RGB", max(total, len(frames)), str(path))
