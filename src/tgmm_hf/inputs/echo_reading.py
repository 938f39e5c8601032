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
    """The decoded frames of a clip.

    Attributes:
        frames (`np.ndarray` of shape `(frames, height, width, 3)`, uint8): only the frames that were asked for.
        colour_space (`str`): "YBR" (full range, components Y, Cb, Cr), "RGB" or "MONOCHROME" (three equal channels).
        total_frames (`int`): number of frames in the file.
        source (`str`): file name for messages.
    """

    frames: np.ndarray
    colour_space: str
    total_frames: int
    source: str = "clip"


# ---- echo


def list_echo_files(directory: str | Path) -> list[Path]:
    """DICOM (by content or suffix) and video files (by suffix) under a study directory, sorted by path.

    A `.dcm` file that is no DICOM, such as a transfer cut short, is among them: reading it says so.

    Raises:
        InputRefusedError: no such directory, or no such file in it.
    """
    directory = Path(directory)
    if directory.is_file():
        raise InputRefusedError(
            str(directory), "a file, not a study directory: give {view: file}, or a list of files with their view names"
        )
    if not directory.is_dir():
        raise InputRefusedError(str(directory), "no such study directory: check the path")
    files = sorted(path for path in directory.rglob("*") if path.is_file() and not path.name.startswith("."))
    found = [path for path in files if path.suffix.lower() in (*VIDEO_SUFFIXES, ".dcm") or is_dicom(path)]
    found = [path for path in found if path.name.upper() != "DICOMDIR"]
    if not found:
        raise InputRefusedError(
            str(directory), f"no echo file among {len(files)} files: expected DICOM or {' / '.join(VIDEO_SUFFIXES)}"
        )
    return found


def count_echo_frames(path: str | Path) -> int:
    """Number of frames of a clip, from the header alone.

    Raises:
        InputRefusedError: no image, a still, or a colour space that cannot be used.
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
    """Decodes frames 0, stride, 2 x stride, ... of a clip, at most `num_frames` of them, and no others.

    DICOM: JPEG baseline through Pillow; uncompressed, RLE and JPEG 2000 through pydicom. Colours stay as stored (YBR is
    *not* converted: EchoPrime's mask and colours start from it); palettes are looked up to RGB. Video files give RGB.

    Args:
        path: multi-frame DICOM, `.mp4` or `.avi`.
        num_frames: frames wanted.
        stride: step between them, in frames of the file.

    Raises:
        InputRefusedError: no clip, a still, damaged, or stored in a way that cannot be decoded here.
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
        # Raised by pydicom and Pillow for damaged streams and, NotImplementedError too, for codings without a decoder;
        # nothing is swallowed: the record is refused with the cause in its reason.
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
    """Number of frames, after a check that the header describes pixels that can be used."""
    if "Rows" not in dataset or "PhotometricInterpretation" not in dataset:
        raise InputRefusedError(str(path), "a DICOM file without an image: not an echo clip (a report or a waveform?)")
    if dataset.get("BitsAllocated") != 8:
        raise InputRefusedError(
            str(path), f"{dataset.get('BitsAllocated')} bits a sample, 8 are expected: rescale the pixels"
        )
    _colour_space(dataset.PhotometricInterpretation, path)
    return int(dataset.get("NumberOfFrames") or 1)


def _colour_space(photometric: str, path: Path | str) -> str:
    if photometric in ("YBR_FULL", "YBR_FULL_422"):
        return "YBR"
    if photometric in ("RGB", "YBR_RCT", "YBR_ICT", "PALETTE COLOR"):
        # the two wavelet colour transforms are part of JPEG 2000 and undone by its decoder
        return "RGB"
    if photometric == "MONOCHROME2":
        return "MONOCHROME"
    raise InputRefusedError(
        str(path),
        f"photometric interpretation {photometric!r} is not supported (YBR_FULL, YBR_FULL_422, YBR_RCT, YBR_ICT, RGB, "
        "PALETTE COLOR and MONOCHROME2 are): convert the file to RGB",
    )


def _refuse_still(total: int, path: Path) -> int:
    if total < 2:
        raise InputRefusedError(str(path), f"a single-frame still ({total} frame; a clip has at least 2): skipped")
    return total


def _decode_jpeg_frames(dataset: Any, indices: list[int], total: int) -> tuple[np.ndarray, str]:
    if Image is None:
        raise ImportError("decoding JPEG clips needs Pillow: pip install pillow")
    stream: Iterator[bytes] = islice(generate_frames(dataset.PixelData, number_of_frames=total), indices[-1] + 1)
    wanted = set(indices)
    decoded = [
        _decode_jpeg(data, dataset.PhotometricInterpretation) for index, data in enumerate(stream) if index in wanted
    ]
    if len(decoded) != len(indices):
        raise ValueError(f"{len(decoded)} of {len(indices)} frames found in the pixel data")
    return np.stack([frame for frame, _ in decoded]), decoded[0][1]


def _decode_jpeg(data: bytes, photometric: str) -> tuple[np.ndarray, str]:
    """One JPEG frame as its stored components, and the colour space these are in.

    The stream's own markers win over the header, which often says RGB where the stream is YCbCr: an Adobe marker states
    the transform, a JFIF marker means YCbCr. Only without either the header decides.
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
        image.draft("YCbCr", image.size)  # hand out the components as they are, no colour conversion
    return np.asarray(image), space


def _decode_other_frames(dataset: Any, indices: list[int]) -> tuple[np.ndarray, str]:
    decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
    # one call a frame: pydicom 3.0's iter_array reads uncompressed YBR_FULL_422 wrongly from the second frame on
    decoded = [decoder.as_array(dataset, index=index, raw=True) for index in indices]
    stacked, photometric = np.stack([frame for frame, _ in decoded]), decoded[0][1]["photometric_interpretation"]
    if photometric == "PALETTE COLOR":
        colours = apply_color_lut(stacked, dataset)
        stacked = (colours >> 8).astype(np.uint8) if colours.dtype == np.uint16 else colours
    return stacked, _colour_space(photometric, "frames")


def _open_video(path: Path) -> Any:
    if cv2 is None:
        raise ImportError(f"reading the video {path} needs OpenCV: pip install opencv-python-headless")
    video = cv2.VideoCapture(str(path))
    if not video.isOpened():
        raise InputRefusedError(
            str(path), "OpenCV cannot open the video: the file is missing, damaged or of another codec"
        )
    return video


def _read_video(path: Path, num_frames: int, stride: int) -> EchoClip:
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
