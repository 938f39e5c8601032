"""Decode the frames of a DICOM file: JPEG, JPEG 2000, RLE, uncompressed, palettes."""

import io
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .echo_pixels import luminance
from .optional_packages import LatePackage, require_package

try:
    from PIL import Image
except ImportError:
    Image = None  # type: ignore[assignment]
try:
    import simplejpeg
except ImportError:
    simplejpeg = None
pixel_module: Any = LatePackage("pydicom.pixels")
processing: Any = LatePackage("pydicom.pixels.processing")
uid: Any = LatePackage("pydicom.uid")

# Transfer syntax UIDs.
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
RLE = "1.2.840.10008.1.2.5"
_IMAGE_STARTS = (b"\xff\xd8", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  ")
"""First bytes of a JPEG (JPEG-LS too), a JPEG 2000 code stream and a JP2 file."""
_PADDING = re.compile(r"Corrupt JPEG data: [1-8] extraneous bytes")
"""What libjpeg says of a few bytes between the picture and the end marker, which some machines write."""
_ADOBE_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
"""Adobe's marker with transform 0: three components are RGB."""
_RGB_IDS = (ord("R"), ord("G"), ord("B"))  # component ids of a JPEG in RGB


class PixelsError(ValueError):
    """Damaged pixels, with a reason of our own. It may be repeated, because it holds no text of the file."""


def is_uncompressed(syntax: str) -> bool:
    """Tell whether the transfer syntax UID `syntax` stores pixels without compression (a deflated data set too)."""
    plain = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian)
    return syntax in plain or syntax.endswith(".1.99")


def compare_sizes(dataset: Any, stored: Sequence[int]) -> None:
    """Raise `ValueError` unless the decoded size `stored` (height, width) is the size that the header declares."""
    if tuple(stored) != (dataset.Rows, dataset.Columns):
        raise PixelsError(
            f"a frame of {stored[0]} x {stored[1]} pixels is stored, the header declares {dataset.Rows} x "
            f"{dataset.Columns}"
        )


def fragments_of_frames(data: bytes, syntax: str) -> list[list[slice]]:
    """Find the fragments of each frame in encapsulated pixel data.

    A frame of JPEG or JPEG 2000 starts where a fragment starts with an image's first bytes. An RLE frame is one
    fragment. The table of offsets is not used, because it is often wrong.

    Args:
        data: the value of PixelData.
        syntax: transfer syntax UID.

    Returns:
        One list per frame: the places of the frame's fragments in `data`.

    Raises:
        ValueError: if the fragments are damaged.
    """
    fragments = fragments_of(data)
    if syntax == RLE:
        return [[place] for place in fragments]
    frames: list[list[slice]] = []
    for place in fragments:
        if data.startswith(_IMAGE_STARTS, place.start, place.stop):
            frames.append([place])
        elif frames:
            frames[-1].append(place)
        else:
            raise PixelsError("the first fragment is no image")
    return frames


def fragments_of(data: bytes) -> list[slice]:
    """Find the fragments of encapsulated pixel data.

    Args:
        data: the value of PixelData.

    Returns:
        The places of the fragments in `data`, without the first item, which is the table of offsets.

    Raises:
        ValueError: if a fragment is damaged or cut short, or there is none.
    """
    if not data:
        raise ValueError("the file holds no pixel data")
    places: list[slice] = []
    position = 0
    while position + 8 <= len(data):
        tag, length = struct.unpack_from("<II", data, position)
        if tag == 0xE0DDFFFE:  # end of the sequence
            break
        if tag != 0xE000FFFE or position + 8 + length > len(data):
            raise PixelsError(f"fragment {len(places)} of the pixel data is damaged or cut short")
        places.append(slice(position + 8, position + 8 + length))
        position += 8 + length
    if not places:
        raise PixelsError("the pixel data hold no fragments")
    return places[1:]


def _decode_jpeg_frames(dataset: Any, indices: Sequence[int]) -> tuple[np.ndarray, str]:
    """Decode JPEG baseline frames with the numbers `indices`.

    Returns:
        (frames, height, width[, 3]) uint8, and "YBR_FULL", "RGB" or "MONOCHROME2".
    """
    require_package(Image, "pillow", "decoding JPEG clips")
    data, places = dataset.PixelData, fragments_of_frames(dataset.PixelData, JPEG_BASELINE)
    streams = (b"".join(data[place] for place in places[index]) for index in indices)
    size = dataset.Rows, dataset.Columns
    known: dict[bytes, str] = {}
    spaces: set[str] = set()
    frames = np.empty(0, np.uint8)
    for number, stream in enumerate(streams):
        space = _space_of(stream, size, known)
        spaces.add(space)
        if len(spaces) > 1:
            raise PixelsError("the frames have different colour spaces")
        if not number:
            shape = (dataset.Rows, dataset.Columns, *(() if space == "MONOCHROME2" else (3,)))
            frames = np.empty((len(indices), *shape), np.uint8)
        if not _decode_as_stored(stream, space, frames[number]):
            frames[number] = _decode_by_pillow(_open_jpeg(stream, size)[0], stream, space)
    return frames, spaces.pop()


def brightness_decoder(dataset: Any) -> Callable[[int], np.ndarray]:
    """Return a function that decodes the brightness of one frame from its number, which starts at 0.

    It returns (height, width): the first component of YBR and grey, the grey of RGB. It raises what `decode_frames`
    does.

    Args:
        dataset: pydicom `Dataset` with pixels, transfer syntax and number of frames.
    """
    data, size = dataset.PixelData, (dataset.Rows, dataset.Columns)
    is_jpeg = dataset.file_meta.TransferSyntaxUID == JPEG_BASELINE and simplejpeg is not None
    places = fragments_of_frames(data, JPEG_BASELINE) if is_jpeg else []
    known: dict[bytes, str] = {}

    def decode(index: int) -> np.ndarray:
        stream = b"".join(data[place] for place in places[index]) if is_jpeg else b""
        if is_jpeg and _space_of(stream, size, known) != "RGB":
            grey: np.ndarray = simplejpeg.decode_jpeg(stream, colorspace="GRAY", strict=True)[..., 0]
            return grey
        frames, photometric = decode_frames(dataset, [index])
        is_ybr = photometric.startswith("YBR_FULL")
        return frames[0] if frames.ndim == 3 else luminance(frames, "YBR" if is_ybr else "RGB")[0]

    return decode


def decode_jpeg(data: bytes, size: tuple[int, int]) -> tuple[np.ndarray, str]:
    """Decode one JPEG frame to its stored components and name their colour space.

    Args:
        data: the JPEG.
        size: (height, width) that the header declares.

    Returns:
        Two elements: the components (height, width[, 3]) uint8; and their colour space, "YBR_FULL", "RGB" or
        "MONOCHROME2".

    Raises:
        ValueError: if the frame has another size or number of components, or is damaged.
    """
    image, space = _open_jpeg(data, size)
    return _decode_by_pillow(image, data, space), space


def _space_of(data: bytes, size: tuple[int, int], known: dict[bytes, str]) -> str:
    """Name the colour space of a JPEG frame as `_open_jpeg` does, and refuse the same frames.

    The frames of a clip mostly have the same head. Pillow reads the head only, so one frame answers for all of them.

    Args:
        data: the JPEG.
        size: (height, width) that the header declares.
        known: head -> colour space of the frames before. A new head is added.
    """
    place = 2
    while data[place : place + 1] == b"\xff" and data[place + 1 : place + 2] != b"\xda":
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    head = data[:place]
    if place >= len(data):  # the head does not end as it should, so it answers for no other frame
        return _open_jpeg(data, size)[1]
    if head not in known:
        known[head] = _open_jpeg(data, size)[1]
    return known[head]


def _open_jpeg(data: bytes, size: tuple[int, int]) -> tuple[Any, str]:
    """Read the head of a JPEG frame and name the colour space of its components.

    The stream decides by libjpeg's rule, because headers often say RGB where the stream is YCbCr. A JFIF marker means
    YCbCr. An Adobe marker states the transform. Without a marker, the component ids "R", "G", "B" mean RGB, and all
    other ids YCbCr.

    Args:
        data: the JPEG.
        size: (height, width) that the header declares.

    Returns:
        Two elements: Pillow's image, not decoded; and "YBR_FULL", "RGB" or "MONOCHROME2".

    Raises:
        ValueError: if the frame has another size or number of components.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG",))
    except Image.DecompressionBombError as error:  # a size that Pillow refuses before it can be compared
        raise ValueError(f"a frame of far more pixels than the header declares ({size[0]} x {size[1]})") from error
    if image.size != (size[1], size[0]):  # before decoding, which costs as much as the size in the stream asks for
        raise PixelsError(
            f"a frame of {image.size[1]} x {image.size[0]} pixels, the header declares {size[0]} x {size[1]}"
        )
    if image.mode == "L":
        return image, "MONOCHROME2"
    if image.mode != "RGB":
        raise PixelsError(f"a JPEG frame of mode {image.mode}, expected grey or three components")
    if "jfif" in image.info:
        space = "YBR_FULL"
    elif "adobe_transform" in image.info:
        space = "YBR_FULL" if image.info["adobe_transform"] == 1 else "RGB"
    else:
        ids = tuple(layer[0] for layer in image.layer)  # type: ignore[attr-defined]
        space = "RGB" if ids == _RGB_IDS else "YBR_FULL"
    return image, space


def _decode_by_pillow(image: Any, data: bytes, space: str) -> np.ndarray:
    """Decode a JPEG that `_open_jpeg` opened with Pillow; refuse a damaged one."""
    refuse_damaged_jpeg(data)
    if space == "YBR_FULL":
        image.draft("YCbCr", image.size)  # return the components as they are, without colour conversion
    return np.asarray(image)


def _decode_as_stored(data: bytes, space: str, out: np.ndarray) -> bool:
    """Decode a JPEG with simplejpeg, which costs half of what Pillow does and tells of damage.

    simplejpeg always converts YCbCr. A stream that says that it holds RGB is not converted, so the head is changed to
    say so. The values are those of Pillow, bit by bit.

    Args:
        data: the JPEG.
        space: as `_open_jpeg` names it.
        out: (height, width[, 3]) uint8, to write to.

    Returns:
        False if the stream cannot be decoded this way, or is damaged. Then Pillow shall try.
    """
    if simplejpeg is None:
        return False
    is_grey = space == "MONOCHROME2"
    try:
        stream = data if is_grey else _as_rgb(data)
        simplejpeg.decode_jpeg(stream, colorspace="GRAY" if is_grey else "RGB", strict=True, buffer=out)
    except ValueError:
        return False
    return True


def _as_rgb(data: bytes) -> bytes:
    """Return a JPEG whose head says that its components are RGB: without JFIF marker, with Adobe's transform 0."""
    kept, place = [data[:2], _ADOBE_RGB], 2
    while data[place : place + 1] == b"\xff" and 0xE0 <= data[place + 1] <= 0xEF:
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if data[place + 1] not in (0xE0, 0xEE):
            kept.append(data[place:end])
        place = end
    return b"".join([*kept, data[place:]])


def decode_frames(dataset: Any, indices: Sequence[int]) -> tuple[np.ndarray, str]:
    """Decode frames of a DICOM file to their stored components.

    Args:
        dataset: pydicom `Dataset` with pixels, transfer syntax and number of frames.
        indices: numbers of the frames to decode, from 0.

    Returns:
        Two elements: the frames (frames, height, width[, 3]); and their photometric interpretation in DICOM's words,
        which may differ from the header: "YBR_FULL" for JPEG in YCbCr, "RGB" for a palette.

    Raises:
        ValueError: and other kinds from the decoders, if the pixels are damaged or contradict the header.
    """
    if dataset.file_meta.TransferSyntaxUID == JPEG_BASELINE:
        return _decode_jpeg_frames(dataset, indices)
    return _decode_other_frames(dataset, indices)


def refuse_damaged_jpeg(data: bytes) -> None:
    """Raise `ValueError` for a JPEG that libjpeg repairs while it decodes, because Pillow does not tell.

    libjpeg fills what is lost with grey, and the picture is another one then. The check decodes the smallest size that
    libjpeg offers, which costs a seventh of decoding. It finds half of the damages that change the picture.
    """
    if simplejpeg is None:
        return
    small = {"min_height": 1, "min_width": 1, "fastdct": True, "fastupsample": True}
    try:
        simplejpeg.decode_jpeg(data, colorspace="GRAY", strict=True, **small)
    except ValueError as error:
        if not _PADDING.match(str(error)):
            raise PixelsError(f"a JPEG frame is damaged ({str(error)[:80]})") from error


def _decode_other_frames(dataset: Any, indices: Sequence[int]) -> tuple[np.ndarray, str]:
    """Decode uncompressed, RLE and JPEG 2000 frames with the numbers `indices`.

    Returns:
        (frames, height, width[, 3]), and the photometric interpretation of the frames.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if not is_uncompressed(syntax):
        _check_streams(dataset, indices, syntax)
    decoder = pixel_module.get_decoder(syntax)
    # one call per frame, because pydicom 3.0's iter_array reads uncompressed YBR_FULL_422 wrongly after the first frame
    decoded = [decoder.as_array(dataset, index=index, raw=True) for index in indices]
    stacked, photometric = np.stack([frame for frame, _ in decoded]), decoded[0][1]["photometric_interpretation"]
    compare_sizes(dataset, stacked.shape[1:3])
    if photometric == "PALETTE COLOR":
        return apply_palette(stacked, dataset), "RGB"
    return stacked, photometric


def _check_streams(dataset: Any, indices: Sequence[int], syntax: str) -> None:
    """Raise `ValueError` if a compressed frame declares another size than the header, or is too long for that size.

    The check comes before the decoder, because the decoder allocates the size that the frame declares.
    """
    places = fragments_of_frames(dataset.PixelData, syntax)
    raw = dataset.Rows * dataset.Columns * dataset.SamplesPerPixel * (dataset.BitsAllocated // 8)
    for index in indices:
        head = dataset.PixelData[places[index][0]][:4096]
        start = head.find(b"\xff\x4f\xff\x51")
        if syntax == RLE and sum(place.stop - place.start for place in places[index]) > 2 * raw + 1024:
            raise PixelsError(f"RLE frame {index} is longer than twice its {raw:,} decoded bytes")
        if syntax == RLE and index == indices[0]:
            _check_rle_segment(dataset.PixelData[places[index][0]], dataset.Rows * dataset.Columns)
        if start >= 0 and len(head) >= start + 24:
            width, height, left, top = struct.unpack_from(">IIII", head, start + 8)
            compare_sizes(dataset, (height - top, width - left))


def _check_rle_segment(frame: bytes, expected: int) -> None:
    """Raise unless the first segment of an RLE frame decodes to one byte a pixel, with at most two bytes of padding.

    pydicom warns only of a segment that is too long, and the picture is another one then.
    """
    number, start, end = struct.unpack_from("<3I", frame)
    segment = frame[start : end if number > 1 else len(frame)]
    position = length = 0
    while position < len(segment):
        code = segment[position]
        if code < 128:
            length, position = length + code + 1, position + code + 2
        elif code > 128:
            length, position = length + 257 - code, position + 2
        else:
            position += 1
    if not expected <= length <= expected + 2:
        raise PixelsError(f"an RLE segment of {length:,} bytes is stored, the header declares {expected:,} pixels")


# ---- palettes


def apply_palette(indices: np.ndarray, dataset: Any) -> np.ndarray:
    """Look up the colours of a palette: `indices` (..., height, width) uint8 -> RGB (..., height, width, 3) uint8.

    Entries of 16 bits are scaled by what the three tables hold, because many files store 8-bit colours in 16-bit
    entries.

    Raises:
        ValueError: if a table is missing or of another length than its descriptor says.
    """
    if "SegmentedRedPaletteColorLookupTableData" in dataset and "RedPaletteColorLookupTableData" not in dataset:
        colours = processing.apply_color_lut(indices, dataset)[..., :3]
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
    """Read the table of one colour ("Red", "Green" or "Blue") of a palette.

    Returns:
        Two elements: the entries (entries,) uint16; and the pixel value that the first entry belongs to.

    Raises:
        ValueError: if the table is missing or of another length than its descriptor says.
    """
    descriptor = dataset.get(f"{colour}PaletteColorLookupTableDescriptor")
    data = dataset.get(f"{colour}PaletteColorLookupTableData")
    if not descriptor or len(descriptor) != 3 or not data:
        raise PixelsError(f"the palette has no table for {colour.lower()}")
    number = int(descriptor[0]) or 1 << 16
    if len(data) in (number, number + number % 2):
        table = np.frombuffer(data, np.uint8)[:number]
        if _is_big_endian(dataset) and dataset[f"{colour}PaletteColorLookupTableData"].VR == "OW":
            table = np.frombuffer(data, np.uint8).reshape(-1, 2)[:, ::-1].reshape(-1)[:number]  # words are swapped
    elif len(data) == 2 * number:
        table = np.frombuffer(data, ">u2" if _is_big_endian(dataset) else "<u2")
    else:
        raise PixelsError(f"the palette's table for {colour.lower()} has {len(data)} bytes for {number} entries")
    return table.astype(np.uint16), int(descriptor[1])


def _is_big_endian(dataset: Any) -> bool:
    """Tell whether the file stores words with the high byte first."""
    return bool(dataset.file_meta.TransferSyntaxUID == uid.ExplicitVRBigEndian)
