"""Decode echo clips that lie in DICOM files: header, number of frames, coding, colours."""

import re
from typing import Any, NamedTuple

import numpy as np

from ..utils.errors import InputRefusedError
from .dicom_files import refuse_animal
from .echo_between import BrightnessOfDataset, indices_between
from .echo_brightness import brightness_of
from .echo_checks import colour_fault, planar_fault, repeats_note
from .echo_decoders import PixelsError, compare_sizes, decode_frames, fragments_of, fragments_of_frames, is_uncompressed
from .echo_header_notes import PICTURE, TRACES, ULTRASOUND, VOLUME, header_notes, region_formats, traces_of
from .echo_layout import LAYOUT_FRAMES, layout_fault
from .echo_stated_view import stated_views
from .echo_video import FRAMES_OFF, VideoFrames, read_video_stream
from .input_limits import LIMITS, MIB, InputLimits
from .optional_packages import LatePackage

pydicom: Any = LatePackage("pydicom")
uid: Any = LatePackage("pydicom.uid")
_VIDEO = re.compile(r"1\.2\.840\.10008\.1\.2\.4\.10[0-8](\.1)?")
"""Transfer syntax UIDs of video streams: MPEG-2, MPEG-4 and HEVC."""

CONSECUTIVE = 11
"""Frames from the start of a clip that are decoded one after the other, to see whether they repeat each other. The
model reads every second frame, in which a clip that holds each frame twice looks like a good one."""
_DEFINED_TERMS = (
    *("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "HSV", "ARGB", "CMYK", "XYB"),
    *("YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_PARTIAL_422", "YBR_ICT", "YBR_RCT"),
)
"""Photometric interpretations that DICOM defines, or defined."""


class DicomFrames(NamedTuple):
    """Decoded frames of a DICOM file.

    Attributes:
        frames: (frames, height, width, 3) uint8 as stored.
        colour_space: "YBR", "RGB" or "MONOCHROME".
        total: number of frames in the file.
        notes: {"code", "text"} for each assumption.
        between: lowest and highest brightness of the frames between, as in [`EchoClip`].
        stated_views: views that the header allows; empty if it names none.
    """

    frames: np.ndarray
    colour_space: str
    total: int
    notes: list[dict[str, str]]
    between: np.ndarray | None = None
    stated_views: frozenset[str] = frozenset()


# ---- header


def check_header(dataset: Any, item: str, limits: InputLimits = LIMITS) -> None:
    """Check that the header describes pixels that can be used, and a size within the limits.

    Args:
        dataset: pydicom `Dataset`; the pixels are not needed.
        item: file name for the message.
        limits: largest sizes.

    Raises:
        InputRefusedError: with what is wrong.
    """
    if "Rows" not in dataset or "PhotometricInterpretation" not in dataset:
        raise InputRefusedError(item, "a DICOM file without an image: not an echo clip (a report or a waveform?)")
    _check_modality(dataset, item)
    _check_regions(dataset, item)
    for name in ("BitsAllocated", "BitsStored"):
        bits = dataset.get(name, 8 if name == "BitsStored" else None)
        if bits != 8:
            raise InputRefusedError(item, f"{bits} bits a sample, 8 are expected ({name}): rescale the pixels")
    syntax = _syntax_of(dataset)
    if not _VIDEO.fullmatch(syntax):  # OpenCV returns RGB whatever a video stores
        _check_photometric(dataset, syntax, item)
    rows, columns, samples = (_positive(dataset, name, item) for name in ("Rows", "Columns", "SamplesPerPixel"))
    if samples not in (1, 3):
        raise InputRefusedError(item, f"{samples} samples a pixel, 1 or 3 are expected: not an echo clip")
    if rows * columns > limits.max_frame_pixels:
        raise InputRefusedError(
            item,
            f"frames of {rows:,} x {columns:,} pixels, the limit is {limits.max_frame_pixels:,} pixels: raise "
            "max_frame_pixels of the input limits if the file is right",
        )
    size = rows * columns * samples * declared_frames(dataset, item)
    if size > limits.max_clip_bytes:
        raise InputRefusedError(
            item,
            f"the header declares {size / MIB:,.0f} MiB of pixels, the limit is {limits.max_clip_bytes / MIB:,.0f} MiB"
            ": raise max_clip_bytes of the input limits if the file is right",
        )


def _check_photometric(dataset: Any, syntax: str, item: str) -> None:
    """Refuse colours that are not supported, or that the number of samples or the transfer syntax contradicts."""
    photometric, samples = str(dataset.PhotometricInterpretation), dataset.get("SamplesPerPixel")
    colour_space_of(photometric, item)
    expected = 1 if photometric in ("MONOCHROME2", "PALETTE COLOR") else 3
    if samples in (1, 3) and samples != expected:
        raise InputRefusedError(
            item, f"{photometric} has {expected} samples a pixel, the header states {samples}: correct the header"
        )
    if photometric in ("YBR_RCT", "YBR_ICT") and is_uncompressed(syntax):
        raise InputRefusedError(item, f"{photometric} is a part of JPEG 2000, but the pixels are not compressed")


def _check_modality(dataset: Any, item: str) -> None:
    """Refuse a file whose modality is not US, a volume, and a file without modality that is not ultrasound."""
    refuse_animal(dataset, item)
    modality = str(dataset.get("Modality") or "").strip().upper()
    storage = str(dataset.get("SOPClassUID") or "")
    if modality and modality != "US":
        shown = modality if re.fullmatch("[A-Z]{2}|ECG|EPS|HD|IVUS|OCT|OPT", modality) else "of another name"
        raise InputRefusedError(item, f"modality {shown}, an echo clip has modality US: not an echocardiogram")
    if storage == VOLUME:
        raise InputRefusedError(
            item, "the storage class is an ultrasound volume, whose frames are slices: export a 2-D clip instead"
        )
    if not modality and storage and not ULTRASOUND.fullmatch(storage):
        raise InputRefusedError(item, "no modality, and the storage class is not ultrasound: not an echocardiogram")


def _check_regions(dataset: Any, item: str) -> None:
    """Refuse a file whose header names regions of spectral Doppler or M-mode, and no region with a 2-D picture."""
    formats = region_formats(dataset)
    if formats & set(TRACES) and PICTURE not in formats:
        raise InputRefusedError(item, f"the header names no 2-D picture but {traces_of(formats)}: not a clip of a view")


def _syntax_of(dataset: Any) -> str:
    """Read the transfer syntax UID; empty where the file states none."""
    meta = getattr(dataset, "file_meta", None)
    return str((meta.get("TransferSyntaxUID") if meta is not None else None) or "")


def _positive(dataset: Any, name: str, item: str) -> int:
    """Read the header's number `name`; refuse the file if the number is missing or not positive."""
    value = dataset.get(name)
    if not isinstance(value, int) or value < 1:
        raise InputRefusedError(item, f"{name} is missing or not a positive number: the header is damaged")
    return int(value)


def declared_frames(dataset: Any, item: str) -> int:
    """Read NumberOfFrames; 0 where the header has none.

    Returns:
        The declared number of frames. 0 means that the header declares none.

    Raises:
        InputRefusedError: if the value is no whole number or negative.
    """
    value = dataset.get("NumberOfFrames")
    if value is None or value == "":
        return 0
    try:
        number = int(value)
    except (TypeError, ValueError) as error:
        raise InputRefusedError(item, "NumberOfFrames is not one whole number: the header is damaged") from error
    if number < 0:
        raise InputRefusedError(item, f"NumberOfFrames is {number}: the header is damaged")
    return number


def colour_space_of(photometric: str, item: str) -> str:
    """Translate DICOM's photometric interpretation.

    Returns:
        "YBR", "RGB" or "MONOCHROME".

    Raises:
        InputRefusedError: if it is not supported.
    """
    if photometric in ("YBR_FULL", "YBR_FULL_422"):
        return "YBR"
    if photometric in ("RGB", "YBR_RCT", "YBR_ICT", "PALETTE COLOR"):
        # RCT and ICT are part of JPEG 2000; its decoder reverses them
        return "RGB"
    if photometric == "MONOCHROME2":
        return "MONOCHROME"
    raise InputRefusedError(
        item,
        f"photometric interpretation {_term(photometric)} is not supported (YBR_FULL, YBR_FULL_422, YBR_RCT, YBR_ICT, "
        "RGB, PALETTE COLOR and MONOCHROME2 are): convert the file to RGB",
    )


def _term(photometric: str) -> str:
    """Quote a photometric interpretation that DICOM defines (PS3.3, C.7.6.3.1.2); other text may name the patient."""
    return repr(photometric) if photometric in _DEFINED_TERMS else "of another name"


# ---- number of frames


def count_stored_frames(dataset: Any, syntax: str) -> int:
    """Count the frames in the pixel data, whatever the header declares.

    Args:
        dataset: pydicom `Dataset` with pixels and a header that `check_header` accepted.
        syntax: transfer syntax UID. A video's frames cannot be counted without decoding; the declared number counts.

    Returns:
        The number of frames; 0 for a video without a declared number.

    Raises:
        ValueError: if the pixel data are no whole number of frames, or their fragments are damaged.
    """
    if not dataset.get("PixelData"):
        raise PixelsError("the file holds no pixel data")
    if not isinstance(dataset.PixelData, bytes):
        raise PixelsError("the pixel data are a sequence of elements and no bytes: the header is damaged")
    if _VIDEO.fullmatch(syntax):
        return int(dataset.get("NumberOfFrames") or 0)
    if not is_uncompressed(syntax):
        return len(fragments_of_frames(dataset.PixelData, syntax))
    size, length = _frame_bytes(dataset), len(dataset.PixelData)
    total, rest = divmod(length, size)
    if rest > 1 or (rest == 1 and not (total * size) % 2) or not total:
        raise PixelsError(f"{length:,} bytes of pixel data are no whole number of frames of {size:,} bytes")
    return total


def _frame_bytes(dataset: Any) -> int:
    """Compute the bytes of one uncompressed frame from the header. YBR_FULL_422 stores two bytes per pixel."""
    samples = 2 if dataset.PhotometricInterpretation == "YBR_FULL_422" else dataset.SamplesPerPixel
    return int(dataset.Rows) * int(dataset.Columns) * int(samples)


# ---- decoding


def decode_dicom_clip(
    dataset: Any, item: str, num_frames: int, stride: int, limits: InputLimits = LIMITS
) -> DicomFrames:
    """Decode the frames 0, stride, 2 x stride, ... of a DICOM file whose header `check_header` accepted.

    Args:
        dataset: pydicom `Dataset` with pixels.
        item: file name for messages.
        num_frames: largest number of frames to decode.
        stride: step between two decoded frames.
        limits: largest sizes.

    Returns:
        `DicomFrames` with at most `num_frames` frames.

    Raises:
        InputRefusedError: if header and pixels contradict each other.
        ValueError: and other kinds from the decoders, if the pixels are damaged.
    """
    notes = header_notes(dataset)
    syntax = transfer_syntax(dataset, item, notes)
    if _VIDEO.fullmatch(syntax):
        video = _decode_video(dataset, item, num_frames, stride, limits)
        if (note := repeats_note(video.changes)) is not None:
            notes.append(note)
        _compare_video_frames(dataset, item, video.total, notes)
        return DicomFrames(video.frames, "RGB", video.total, notes, video.between, stated_views(dataset))
    total = number_of_frames(dataset, syntax, item, notes)
    if total < 2:
        return DicomFrames(np.empty((0, 0, 0, 3), np.uint8), "RGB", total, notes)
    indices = range(0, min(total, num_frames * stride), stride)
    frames, photometric = decode_frames(dataset, indices)
    space = colour_space_of(photometric, item)
    if frames.dtype != np.uint8:
        raise InputRefusedError(item, f"pixels of {frames.dtype} were decoded, 8 bits are expected: rescale them")
    frames = _with_colours(frames)
    brightness = BrightnessOfDataset(dataset, frames.shape[1:3])
    if space == "YBR":  # its first component is the brightness
        number = sum(index < CONSECUTIVE for index in indices)
        brightness.pictures.update(zip(indices, brightness_of(frames[:number], space), strict=False))
    changes = brightness.changes(min(total, CONSECUTIVE, num_frames * stride))
    if (note := repeats_note(changes, are_all=False)) is not None:
        notes.append(note)
    _check_colours(dataset, frames[0], space, syntax, item)
    if is_uncompressed(syntax):
        _check_layout(dataset, total, space, item)
    between = brightness.range_of(indices_between(total, num_frames, stride))
    return DicomFrames(frames, space, total, notes, between, stated_views(dataset))


def _decode_video(dataset: Any, item: str, num_frames: int, stride: int, limits: InputLimits) -> VideoFrames:
    """Decode the video in a DICOM file."""
    stream = b"".join(dataset.PixelData[place] for place in fragments_of(dataset.PixelData))
    video = read_video_stream(stream, item, num_frames, stride, limits)
    compare_sizes(dataset, video.frames.shape[1:3])
    return video


def _compare_video_frames(dataset: Any, item: str, counted: int, notes: list[dict[str, str]]) -> None:
    """Refuse a video that holds another number of frames than the header declares; note a few frames and no number."""
    declared = declared_frames(dataset, item)
    if declared and abs(declared - counted) > FRAMES_OFF:
        raise InputRefusedError(
            item,
            f"the header declares {declared} frames, the video holds {counted}: header and video contradict each other",
        )
    if declared != counted:
        states = f"{declared} frames" if declared else "no number of frames"
        notes.append({"code": "frames_counted", "text": f"the header states {states}; the video holds {counted}"})


def count_frames(dataset: Any, item: str, limits: InputLimits = LIMITS) -> int:
    """Count the frames of a DICOM file whose header declares no number. A video is decoded for that.

    Args:
        dataset: pydicom `Dataset` with pixels and a header that `check_header` accepted.
        item: file name for messages.
        limits: largest sizes.

    Returns:
        The number of frames.

    Raises:
        InputRefusedError: if the pixels are compressed and the file does not say how, or the video is too large.
        ValueError: if the frames cannot be counted.
    """
    syntax = transfer_syntax(dataset, item, [])
    if _VIDEO.fullmatch(syntax):
        return _decode_video(dataset, item, 1, 1, limits).total
    return number_of_frames(dataset, syntax, item, [])


def transfer_syntax(dataset: Any, item: str, notes: list[dict[str, str]]) -> str:
    """Read the transfer syntax; assume it for uncompressed pixels where the file states none.

    Args:
        dataset: pydicom `Dataset` with pixels. An assumed syntax is written into it.
        item: file name for the message.
        notes: an assumption is added here, as {"code", "text"}.

    Returns:
        The transfer syntax UID.

    Raises:
        InputRefusedError: if the pixels are compressed and the file does not say how.
    """
    if syntax := _syntax_of(dataset):
        return syntax
    if "PixelData" in dataset and dataset["PixelData"].is_undefined_length:
        raise InputRefusedError(
            item, "the header states no transfer syntax and the pixels are compressed: frames cannot be decoded"
        )
    implicit, little = dataset.original_encoding
    explicit = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
    assumed = uid.ImplicitVRLittleEndian if implicit else explicit
    if getattr(dataset, "file_meta", None) is None:
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = assumed
    text = f"the header states no transfer syntax; the pixels were read as {assumed.name}"
    notes.append({"code": "transfer_syntax_assumed", "text": text})
    return str(assumed)


def number_of_frames(dataset: Any, syntax: str, item: str, notes: list[dict[str, str]]) -> int:
    """Compare the declared number of frames with the stored number; take the stored one where none is declared.

    Args:
        dataset: pydicom `Dataset` with pixels. A counted number is written into it.
        syntax: transfer syntax UID.
        item: file name for the message.
        notes: a note {"code", "text"} is added here if the frames were counted.

    Returns:
        The number of frames.

    Raises:
        InputRefusedError: if the declared and the stored number contradict each other.
        ValueError: if the stored frames cannot be counted.
    """
    counted, declared = count_stored_frames(dataset, syntax), declared_frames(dataset, item)
    if not declared:
        if counted > 1:
            text = f"the header states no number of frames; the pixel data hold {counted}"
            notes.append({"code": "frames_counted", "text": text})
        dataset.NumberOfFrames = counted
    elif declared != counted:
        raise InputRefusedError(
            item,
            f"frames cannot be decoded: the header declares {declared} frames of {dataset.Rows} x {dataset.Columns} "
            f"pixels, the pixel data hold {counted}: header and pixels contradict each other",
        )
    return counted


def _check_layout(dataset: Any, total: int, space: str, item: str) -> None:
    """Refuse an uncompressed clip whose first frames show that the header cuts the pixel data wrongly."""
    frames = _with_colours(decode_frames(dataset, range(min(total, LAYOUT_FRAMES)))[0])
    has_planes = dataset.PhotometricInterpretation != "PALETTE COLOR"
    if (fault := layout_fault(frames, space, has_planes)) is not None:
        raise InputRefusedError(item, f"{fault}. Correct rows, frames and planes of the header, or export again")


def _with_colours(frames: np.ndarray) -> np.ndarray:
    """Repeat a single component three times: (frames, height, width[, 3]) -> (frames, height, width, 3)."""
    return np.repeat(frames[..., None], 3, axis=-1) if frames.ndim == 3 else frames


def _check_colours(dataset: Any, frame: np.ndarray, space: str, syntax: str, item: str) -> None:
    """Refuse a clip whose first frame contradicts the declared colours."""
    photometric, planar = dataset.PhotometricInterpretation, dataset.get("PlanarConfiguration")
    reason = None
    if is_uncompressed(syntax) and photometric in ("RGB", "YBR_FULL") and planar in (0, 1):
        reason = planar_fault(frame, space, planar)
    if photometric != "PALETTE COLOR":
        reason = reason or colour_fault(frame, space)
    if reason is not None:
        raise InputRefusedError(item, f"{reason}: correct the header, or convert the file to RGB")
