"""Decode echo clips that lie in DICOM files: header, number of frames, coding, colours."""

import io
import re
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..utils.errors import InputRefusedError
from .echo_checks import colour_fault, planar_fault
from .echo_video import read_video_stream
from .input_limits import LIMITS, MIB, InputLimits
from .optional_packages import require_package

try:
    from pydicom.dataset import FileMetaDataset
    from pydicom.pixels import get_decoder
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
except ImportError:
    get_decoder = apply_color_lut = FileMetaDataset = None
    ExplicitVRBigEndian = ExplicitVRLittleEndian = ImplicitVRLittleEndian = None
try:
    from PIL import Image
except ImportError:
    Image = None  # type: ignore[assignment]

JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
RLE = "1.2.840.10008.1.2.5"
_VIDEO = re.compile(r"1\.2\.840\.10008\.1\.2\.4\.10[0-8](\.1)?")
"""MPEG-2, MPEG-4 and HEVC."""
_ULTRASOUND = re.compile(r"1\.2\.840\.10008\.5\.1\.4\.1\.1\.(3|3\.1|6|6\.1|6\.2)")
"""Storage classes of ultrasound images, the retired ones included."""
_IMAGE_STARTS = (b"\xff\xd8", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  ")
"""First bytes of a JPEG (JPEG-LS too), a JPEG 2000 code stream and a JP2 file."""
_RGB_IDS = (ord("R"), ord("G"), ord("B"))


class DicomFrames(NamedTuple):
    """Decoded frames of a DICOM file.

    Attributes:
        frames: (frames, height, width, 3) uint8 as stored.
        colour_space: "YBR", "RGB" or "MONOCHROME".
        total: number of frames in the file.
        notes: what was assumed, as {"code", "text"}.
    """

    frames: np.ndarray
    colour_space: str
    total: int
    notes: list[dict[str, str]]


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
    for name in ("BitsAllocated", "BitsStored"):
        bits = dataset.get(name, 8 if name == "BitsStored" else None)
        if bits != 8:
            raise InputRefusedError(item, f"{bits} bits a sample, 8 are expected ({name}): rescale the pixels")
    if not _VIDEO.fullmatch(_syntax_of(dataset)):  # OpenCV returns RGB whatever a video stores
        colour_space_of(str(dataset.PhotometricInterpretation), item)
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


def _check_modality(dataset: Any, item: str) -> None:
    """Refuse a file of another modality than ultrasound."""
    modality = str(dataset.get("Modality") or "").strip()
    storage = str(dataset.get("SOPClassUID") or "")
    if modality and modality != "US":
        shown = modality if re.fullmatch(r"[A-Z0-9_ ]{1,16}", modality) else "of an unknown name"
        raise InputRefusedError(item, f"modality {shown}, an echo clip has modality US: not an echocardiogram")
    if not modality and storage and not _ULTRASOUND.fullmatch(storage):
        raise InputRefusedError(item, "no modality, and the storage class is not ultrasound: not an echocardiogram")


def _syntax_of(dataset: Any) -> str:
    """Read the transfer syntax UID; empty where the file states none."""
    meta = getattr(dataset, "file_meta", None)
    return str((meta.get("TransferSyntaxUID") if meta is not None else None) or "")


def _positive(dataset: Any, name: str, item: str) -> int:
    """Read a positive whole number of the header."""
    value = dataset.get(name)
    if not isinstance(value, int) or value < 1:
        raise InputRefusedError(item, f"{name} is missing or not a positive number: the header is damaged")
    return int(value)


def declared_frames(dataset: Any, item: str) -> int:
    """Read NumberOfFrames; 0 where the header has none.

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
    """Translate DICOM's photometric interpretation to "YBR", "RGB" or "MONOCHROME".

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
        f"photometric interpretation {photometric[:20]!r} is not supported (YBR_FULL, YBR_FULL_422, YBR_RCT, YBR_ICT, "
        "RGB, PALETTE COLOR and MONOCHROME2 are): convert the file to RGB",
    )


def header_notes(dataset: Any) -> list[dict[str, str]]:
    """Note what the header lacks, as {"code", "text"}."""
    notes = []
    if not dataset.get("Modality"):
        text = "the header states no modality; the file was taken for ultrasound"
        notes.append({"code": "modality_missing", "text": text})
    elif not _ULTRASOUND.fullmatch(str(dataset.get("SOPClassUID") or "")):
        text = "the modality is US, but the storage class is not ultrasound (a screen capture or an export?)"
        notes.append({"code": "storage_class", "text": text})
    return notes


# ---- number of frames


def count_stored_frames(dataset: Any, syntax: str) -> int:
    """Count the frames in the pixel data, whatever the header declares.

    Args:
        dataset: pydicom `Dataset` with pixels and a header that `check_header` accepted.
        syntax: transfer syntax UID. A video's frames cannot be counted without decoding; the declared number counts.

    Raises:
        ValueError: if the pixel data are no whole number of frames, or their fragments are damaged.
    """
    if "PixelData" not in dataset:
        raise ValueError("the file holds no pixel data")
    if _VIDEO.fullmatch(syntax):
        return int(dataset.get("NumberOfFrames") or 0)
    if not _is_uncompressed(syntax):
        return len(fragments_of_frames(dataset.PixelData, syntax))
    size, length = _frame_bytes(dataset), len(dataset.PixelData)
    total, rest = divmod(length, size)
    if rest > 1 or (rest == 1 and not (total * size) % 2) or not total:
        raise ValueError(f"{length:,} bytes of pixel data are no whole number of frames of {size:,} bytes")
    return total


def _is_uncompressed(syntax: str) -> bool:
    """Tell whether the pixels are stored as they are."""
    return syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian) or syntax.endswith(".1.99")


def _frame_bytes(dataset: Any) -> int:
    """Compute the bytes of one uncompressed frame. YBR_FULL_422 stores two bytes a pixel."""
    samples = 2 if dataset.PhotometricInterpretation == "YBR_FULL_422" else dataset.SamplesPerPixel
    return int(dataset.Rows) * int(dataset.Columns) * int(samples)


def fragments_of_frames(data: bytes, syntax: str) -> list[list[slice]]:
    """Find the fragments of each frame in encapsulated pixel data.

    A frame of JPEG or JPEG 2000 starts where a fragment starts with an image's first bytes. An RLE frame is one
    fragment. The table of offsets is not used, because it is often wrong.

    Args:
        data: the value of PixelData.
        syntax: transfer syntax UID.

    Returns:
        For each frame the places of its fragments in `data`.

    Raises:
        ValueError: if the fragments are damaged.
    """
    fragments = _fragments(data)
    if syntax == RLE:
        return [[place] for place in fragments]
    frames: list[list[slice]] = []
    for place in fragments:
        if data[place].startswith(_IMAGE_STARTS):
            frames.append([place])
        elif frames:
            frames[-1].append(place)
        else:
            raise ValueError("the first fragment is no image")
    return frames


def _fragments(data: bytes) -> list[slice]:
    """Find the fragments of encapsulated pixel data, without the first item (the table of offsets)."""
    places, position = [], 0
    while position + 8 <= len(data):
        tag, length = struct.unpack_from("<II", data, position)
        if tag == 0xE0DDFFFE:  # end of the sequence
            break
        if tag != 0xE000FFFE or position + 8 + length > len(data):
            raise ValueError(f"fragment {len(places)} of the pixel data is damaged or cut short")
        places.append(slice(position + 8, position + 8 + length))
        position += 8 + length
    if not places:
        raise ValueError("the pixel data hold no fragments")
    return places[1:]


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

    Raises:
        InputRefusedError: if header and pixels contradict each other.
        ValueError: and other kinds from the decoders, if the pixels are damaged.
    """
    notes = header_notes(dataset)
    syntax = transfer_syntax(dataset, item, notes)
    if _VIDEO.fullmatch(syntax):
        stream = b"".join(dataset.PixelData[place] for place in _fragments(dataset.PixelData))
        frames, total = read_video_stream(stream, item, num_frames, stride, limits)
        _compare_sizes(dataset, frames.shape[1:3])
        return DicomFrames(frames, "RGB", total, notes)
    total = number_of_frames(dataset, syntax, item, notes)
    if total < 2:
        return DicomFrames(np.empty((0, 0, 0, 3), np.uint8), "RGB", total, notes)
    indices = range(0, min(total, num_frames * stride), stride)
    decode = _decode_jpeg_frames if syntax == JPEG_BASELINE else _decode_other_frames
    frames, space = decode(dataset, indices)
    if frames.dtype != np.uint8:
        raise InputRefusedError(item, f"pixels of {frames.dtype} were decoded, 8 bits are expected: rescale them")
    if frames.ndim == 3:
        frames = np.repeat(frames[..., None], 3, axis=-1)
    _check_colours(dataset, frames[0], space, syntax, item)
    return DicomFrames(frames, space, total, notes)


def transfer_syntax(dataset: Any, item: str, notes: list[dict[str, str]]) -> str:
    """Read the transfer syntax; assume it for uncompressed pixels where the file states none.

    Args:
        dataset: pydicom `Dataset` with pixels. An assumed syntax is written into it.
        item: file name for the message.
        notes: an assumption is added here.

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
    assumed = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    if getattr(dataset, "file_meta", None) is None:
        dataset.file_meta = FileMetaDataset()
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
        notes: that the frames were counted is added here.

    Raises:
        InputRefusedError: if both numbers contradict each other.
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


def _compare_sizes(dataset: Any, stored: Sequence[int]) -> None:
    """Raise unless a decoded frame has the height and width of the header."""
    if tuple(stored) != (dataset.Rows, dataset.Columns):
        raise ValueError(
            f"a frame of {stored[0]} x {stored[1]} pixels is stored, the header declares {dataset.Rows} x "
            f"{dataset.Columns}"
        )


def _check_colours(dataset: Any, frame: np.ndarray, space: str, syntax: str, item: str) -> None:
    """Refuse a clip whose first frame contradicts the declared colours."""
    photometric, planar = dataset.PhotometricInterpretation, dataset.get("PlanarConfiguration")
    reason = None
    if _is_uncompressed(syntax) and photometric in ("RGB", "YBR_FULL") and planar in (0, 1):
        reason = planar_fault(frame, space, planar)
    if photometric != "PALETTE COLOR":
        reason = reason or colour_fault(frame, space)
    if reason is not None:
        raise InputRefusedError(item, f"{reason}: correct the header, or convert the file to RGB")


def _decode_jpeg_frames(dataset: Any, indices: Sequence[int]) -> tuple[np.ndarray, str]:
    """Decode JPEG baseline frames of a DICOM file; returns (frames, height, width[, 3]) and the colour space."""
    require_package(Image, "pillow", "decoding JPEG clips")
    data, places = dataset.PixelData, fragments_of_frames(dataset.PixelData, JPEG_BASELINE)
    decoded = []
    for index in indices:
        stream = b"".join(data[place] for place in places[index])
        decoded.append(decode_jpeg(stream, (dataset.Rows, dataset.Columns)))
    if len({space for _, space in decoded}) > 1:
        raise ValueError("the frames have different colour spaces")
    return np.stack([frame for frame, _ in decoded]), decoded[0][1]


def decode_jpeg(data: bytes, size: tuple[int, int]) -> tuple[np.ndarray, str]:
    """Decode one JPEG frame to its stored components and name their colour space.

    The stream decides by libjpeg's rule, because headers often say RGB where the stream is YCbCr. A JFIF marker means
    YCbCr. An Adobe marker states the transform. Without a marker, the component ids "R", "G", "B" mean RGB, and all
    others YCbCr.

    Args:
        data: the JPEG.
        size: (height, width) that the header declares.

    Returns:
        (height, width[, 3]) uint8, and "YBR", "RGB" or "MONOCHROME".

    Raises:
        ValueError: if the frame has another size or number of components.
    """
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    if image.size != (size[1], size[0]):  # before decoding, which costs as much as the size in the stream asks for
        raise ValueError(
            f"a frame of {image.size[1]} x {image.size[0]} pixels, the header declares {size[0]} x {size[1]}"
        )
    if image.mode == "L":
        return np.asarray(image), "MONOCHROME"
    if image.mode != "RGB":
        raise ValueError(f"a JPEG frame of mode {image.mode}, expected grey or three components")
    if "jfif" in image.info:
        space = "YBR"
    elif "adobe_transform" in image.info:
        space = "YBR" if image.info["adobe_transform"] == 1 else "RGB"
    else:
        space = "RGB" if tuple(layer[0] for layer in image.layer) == _RGB_IDS else "YBR"
    if space == "YBR":
        image.draft("YCbCr", image.size)  # return the components as they are, without colour conversion
    return np.asarray(image), space


def _decode_other_frames(dataset: Any, indices: Sequence[int]) -> tuple[np.ndarray, str]:
    """Decode uncompressed, RLE and JPEG 2000 frames; returns (frames, height, width[, 3]) and the colour space."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if not _is_uncompressed(syntax):
        _check_streams(dataset, indices, syntax)
    decoder = get_decoder(syntax)
    # one call per frame, because pydicom 3.0's iter_array reads uncompressed YBR_FULL_422 wrongly after the first frame
    decoded = [decoder.as_array(dataset, index=index, raw=True) for index in indices]
    stacked, photometric = np.stack([frame for frame, _ in decoded]), decoded[0][1]["photometric_interpretation"]
    _compare_sizes(dataset, stacked.shape[1:3])
    if photometric == "PALETTE COLOR":
        stacked = apply_palette(stacked, dataset)
    return stacked, colour_space_of(photometric, "frames")


def _check_streams(dataset: Any, indices: Sequence[int], syntax: str) -> None:
    """Check the size that each compressed frame declares or can have, before a decoder allocates it."""
    places = fragments_of_frames(dataset.PixelData, syntax)
    raw = dataset.Rows * dataset.Columns * dataset.SamplesPerPixel
    for index in indices:
        head = dataset.PixelData[places[index][0]][:4096]
        start = head.find(b"\xff\x4f\xff\x51")
        if syntax == RLE and sum(place.stop - place.start for place in places[index]) > 2 * raw + 1024:
            raise ValueError(f"RLE frame {index} is longer than twice its {raw:,} decoded bytes")
        if start >= 0 and len(head) >= start + 24:
            width, height, left, top = struct.unpack_from(">IIII", head, start + 8)
            _compare_sizes(dataset, (height - top, width - left))


# ---- palettes


def apply_palette(indices: np.ndarray, dataset: Any) -> np.ndarray:
    """Look up the colours of a palette; `indices` (..., height, width) uint8 -> (..., height, width, 3) uint8.

    Entries of 16 bits are scaled by what the three tables hold, because many files store 8-bit colours in 16-bit
    entries.

    Raises:
        ValueError: if a table is missing or of another length than its descriptor says.
    """
    if "SegmentedRedPaletteColorLookupTableData" in dataset and "RedPaletteColorLookupTableData" not in dataset:
        colours = apply_color_lut(indices, dataset)[..., :3]
        return (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)
    tables = [_palette_table(dataset, colour) for colour in ("Red", "Green", "Blue")]
    if max(int(table.max()) for table, _ in tables) > 255:
        tables = [(table >> 8, first) for table, first in tables]
    channels = []
    for table, first in tables:
        entry = np.clip(np.arange(256) - first, 0, len(table) - 1)
        channels.append(table[entry].astype(np.uint8)[indices])
    return np.stack(channels, axis=-1)


def _palette_table(dataset: Any, colour: str) -> tuple[np.ndarray, int]:
    """Read one table of a palette, and the first index that it maps."""
    descriptor = dataset.get(f"{colour}PaletteColorLookupTableDescriptor")
    data = dataset.get(f"{colour}PaletteColorLookupTableData")
    if not descriptor or len(descriptor) != 3 or not data:
        raise ValueError(f"the palette has no table for {colour.lower()}")
    number = int(descriptor[0]) or 1 << 16
    if len(data) in (number, number + number % 2):
        table = np.frombuffer(data, np.uint8)[:number]
        if _is_big_endian(dataset) and dataset[f"{colour}PaletteColorLookupTableData"].VR == "OW":
            table = np.frombuffer(data, np.uint8).reshape(-1, 2)[:, ::-1].reshape(-1)[:number]  # words are swapped
    elif len(data) == 2 * number:
        table = np.frombuffer(data, ">u2" if _is_big_endian(dataset) else "<u2")
    else:
        raise ValueError(f"the palette's table for {colour.lower()} has {len(data)} bytes for {number} entries")
    return table.astype(np.uint16), int(descriptor[1])


def _is_big_endian(dataset: Any) -> bool:
    """Tell whether the file stores words with the high byte first."""
    return bool(dataset.file_meta.TransferSyntaxUID == ExplicitVRBigEndian)
