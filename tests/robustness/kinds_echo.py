"""Hostile echo clips in DICOM files."""

import zlib
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
from input_files import as_ycbcr, make_clip, new_dicom, to_jpeg
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
)
from trials import Answer, Trial, damaged, equal, equal_or_marked, kind, marked, no_oracle, process

FRAMES, HEIGHT, WIDTH = 12, 96, 128
CLIPS = 3
EXACT, ROUNDED, LOSSY = 0.02, 0.15, 1.2
"""Tolerances in units of the normalised picture, 48 grey levels each: equal, colours converted, JPEG."""


@cache
def clip_of(seed: int, colour: bool = True) -> np.ndarray:
    """(FRAMES, HEIGHT, WIDTH, 3) uint8 RGB. Smooth, so that JPEG keeps it; every frame differs from the others."""
    clip = make_clip(FRAMES, HEIGHT, WIDTH, seed)
    smooth = np.stack([cv2.GaussianBlur(frame, (0, 0), 2.0) for frame in clip])
    fan = (smooth > 24).any(axis=(0, 3))
    for index in range(FRAMES):
        row, column = 40 + 2 * index, 52 + index
        smooth[index, row : row + 16, column : column + 16] = (210, 60, 30) if colour else (220, 220, 220)
    if not colour:
        smooth = smooth[..., :1].repeat(3, axis=-1)
    return np.where(fan[None, ..., None], smooth, 0).astype(np.uint8)


@cache
def right(seed: int, colour: bool = True) -> Answer:
    """The model input of a clip that is given as an array."""
    return process(echo={"A4C": clip_of(seed, colour)})


def read_clip(path: Path) -> Answer:
    return process(echo=[str(path)], views={path.name: "A4C"})


def dataset_of(frames: np.ndarray, photometric: str = "RGB", pixels: bytes | None = None) -> Any:
    dataset = new_dicom(UltrasoundMultiFrameImageStorage, ExplicitVRLittleEndian)
    dataset.Modality = "US"
    dataset.Rows, dataset.Columns = frames.shape[1:3]
    dataset.NumberOfFrames, dataset.SamplesPerPixel = len(frames), 1 if frames.ndim == 3 else 3
    if frames.ndim == 4:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    data = frames.tobytes() if pixels is None else pixels
    dataset.add_new("PixelData", "OB", data + b"\0" * (len(data) % 2))
    return dataset


def save(path: Path, dataset: Any, syntax: str = ExplicitVRLittleEndian) -> Path:
    dataset.file_meta.TransferSyntaxUID = syntax
    little, implicit = syntax != ExplicitVRBigEndian, syntax == ImplicitVRLittleEndian
    pydicom.dcmwrite(path, dataset, implicit_vr=implicit, little_endian=little, enforce_file_format=True)
    return path


def jpeg_dataset(frames: np.ndarray, photometric: str = "YBR_FULL_422") -> Any:
    dataset = dataset_of(frames, photometric)
    dataset["PixelData"].value = encapsulate([to_jpeg(frame, "RGB") for frame in frames])
    dataset["PixelData"].is_undefined_length = True
    return dataset


def ybr_422(frames: np.ndarray) -> bytes:
    """Store Y Y Cb Cr of pixels side by side."""
    ycc = as_ycbcr(frames)
    mean = (ycc[:, :, ::2, 1:].astype(int) + ycc[:, :, 1::2, 1:]) // 2
    return np.concatenate([ycc[:, :, ::2, :1], ycc[:, :, 1::2, :1], mean], axis=-1).astype(np.uint8).tobytes()


def palette_dataset(frames: np.ndarray, bits: int) -> Any:
    """Grey frames with an inverted palette, so that an unused palette shows."""
    dataset = dataset_of(255 - frames[..., 0], "PALETTE COLOR")
    for name in ("Red", "Green", "Blue"):
        setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", [256, 0, bits])
        table = np.arange(255, -1, -1)
        table = table.astype("u1") if bits == 8 else (table * 257).astype("<u2")
        dataset.add_new(f"{name}PaletteColorLookupTableData", "OW", table.tobytes())
    return dataset


def turn_words_of_palette(dataset: Any) -> None:
    """Turn the table of each colour to words with the high byte first, also where a byte is an entry."""
    for name in ("Red", "Green", "Blue"):
        element = dataset[f"{name}PaletteColorLookupTableData"]
        element.value = np.frombuffer(element.value, "<u2").byteswap().tobytes()


@kind("echo_format")
def echo_format(random, folder):
    """Right files in every dress. The frames come in their order, with their colours.

    The words of a palette in big endian are turned here, as the standard asks for tables of type OW, because pydicom
    writes the bytes of a table as they are.
    """
    seed, colour = int(random.integers(CLIPS)), bool(random.integers(2))
    frames = clip_of(seed, colour)
    way = str(
        random.choice(
            [
                "rgb",
                "planar",
                "ybr",
                "422",
                "grey",
                "palette8",
                "palette16",
                "rle",
                "jpeg",
                "jpeg_rgb",
                "no_frames",
                "no_preamble",
            ]
        )
    )
    syntax, tolerance = ExplicitVRLittleEndian, ROUNDED
    if way in ("grey", "palette8", "palette16"):
        colour = False
        frames = clip_of(seed, colour)
    if way == "planar":
        dataset = dataset_of(frames, pixels=np.ascontiguousarray(frames.transpose(0, 3, 1, 2)).tobytes())
        dataset.PlanarConfiguration = 1
    elif way == "ybr":
        dataset, tolerance = dataset_of(as_ycbcr(frames), "YBR_FULL"), LOSSY
    elif way == "422":
        dataset, tolerance = dataset_of(frames, "YBR_FULL_422", ybr_422(frames)), LOSSY
    elif way == "grey":
        dataset = dataset_of(frames[..., 0], "MONOCHROME2")
    elif way.startswith("palette"):
        dataset = palette_dataset(frames, int(way[7:]))
    elif way in ("jpeg", "jpeg_rgb"):
        dataset, syntax, tolerance = (
            jpeg_dataset(frames, "RGB" if way == "jpeg_rgb" else "YBR_FULL_422"),
            JPEGBaseline8Bit,
            LOSSY,
        )
    else:
        dataset = dataset_of(frames)
    if way == "no_frames":
        del dataset.NumberOfFrames
    if way == "rle":
        dataset.compress(RLELossless)
        syntax = RLELossless
    elif syntax == ExplicitVRLittleEndian:
        syntax = [syntax, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian][
            random.integers(4)
        ]
        if syntax == ExplicitVRBigEndian and way.startswith("palette"):
            turn_words_of_palette(dataset)
    path = save(folder / "clip.dcm", dataset, syntax)
    if way == "no_preamble":
        path.write_bytes(path.read_bytes()[132:])
    return Trial(
        f"{way} {'colour' if colour else 'grey'} {syntax[-6:]}",
        partial(read_clip, path),
        equal(right(seed, colour), tolerance),
    )


@kind("echo_geometry")
def echo_geometry(random, folder):
    """A header that contradicts the pixels."""
    seed = int(random.integers(CLIPS))
    frames = clip_of(seed)
    dataset = dataset_of(frames)
    name = str(
        random.choice(
            [
                "Rows",
                "Columns",
                "NumberOfFrames",
                "SamplesPerPixel",
                "BitsAllocated",
                "BitsStored",
                "swapped",
                "pixels",
                "HighBit",
                "PixelRepresentation",
            ]
        )
    )
    value: Any = None
    if name == "swapped":
        dataset.Rows, dataset.Columns = WIDTH, HEIGHT
    elif name == "pixels":
        value = int(
            random.choice([-1, 1, -2, 1000, -1000, HEIGHT * WIDTH * 3, -HEIGHT * WIDTH * 3, -len(dataset.PixelData)])
        )
        data = dataset.PixelData[:value] if value < 0 else dataset.PixelData + bytes(value)
        dataset["PixelData"].value = data + b"\0" * (len(data) % 2)
    else:
        usual = {"Rows": HEIGHT, "Columns": WIDTH, "NumberOfFrames": FRAMES}.get(name, 8)
        value = [0, 1, usual - 1, usual + 1, 2 * usual, usual // 2, 65535, 16, None][random.integers(9)]
        if name == "NumberOfFrames":
            value = [value, "-3", 2**31 - 1][random.integers(3)]
        setattr(dataset, name, value)
    return Trial(
        f"{name} {value}", partial(read_clip, save(folder / "clip.dcm", dataset)), equal_or_marked(right(seed), ROUNDED)
    )


@kind("echo_photometric")
def echo_photometric(random, folder):
    """Another colour space or order of planes than the header says."""
    seed = int(random.integers(CLIPS))
    frames = clip_of(seed)
    stored = str(random.choice(["rgb", "ybr", "planar"]))
    data = {"rgb": frames, "ybr": as_ycbcr(frames), "planar": np.ascontiguousarray(frames.transpose(0, 3, 1, 2))}[
        stored
    ]
    dataset = dataset_of(frames, pixels=data.tobytes())
    dataset.PhotometricInterpretation = photometric = str(
        random.choice(
            ["RGB", "YBR_FULL", "YBR_FULL_422", "MONOCHROME2", "MONOCHROME1", "CMYK", "YBR_RCT", "rgb", "PALETTE COLOR"]
        )
    )
    dataset.PlanarConfiguration = planar = [0, 1, 2, None][random.integers(4)]
    what = f"{stored} as {photometric}, planar {planar}"
    return Trial(what, partial(read_clip, save(folder / "clip.dcm", dataset)), equal_or_marked(right(seed), LOSSY))


@kind("echo_element")
def echo_element(random, folder):
    """An element that is missing, empty or of another value."""
    seed = int(random.integers(CLIPS))
    dataset = dataset_of(clip_of(seed))
    names = (
        "Modality",
        "SOPClassUID",
        "Rows",
        "Columns",
        "NumberOfFrames",
        "SamplesPerPixel",
        "PlanarConfiguration",
        "PhotometricInterpretation",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
        "PixelData",
        "SOPInstanceUID",
        "PatientName",
    )
    name = str(random.choice(names))
    value = ["missing", None, 0, -1, "x", 65535, [1, 2], "\\", "OT", 1e9][random.integers(10)]
    with pydicom.config.disable_value_validation():
        try:
            if value == "missing":
                delattr(dataset, name)
            else:
                dataset[name].value = value
            path = save(folder / "clip.dcm", dataset)
        except Exception:
            if name in dataset:
                delattr(dataset, name)
            path, value = save(folder / "clip.dcm", dataset), "missing"
    return Trial(f"{name} = {value!r}", partial(read_clip, path), equal_or_marked(right(seed), LOSSY))


@kind("echo_content")
def echo_content(random, folder):
    """Files without an echo in them."""
    frames = clip_of(0).copy()
    way = str(random.choice(["black", "white", "grey", "frozen", "noise", "tiny", "still", "CT", "OT", "MR", "line"]))
    modality = "US"
    if way in ("black", "white", "grey"):
        frames[:] = {"black": 0, "white": 255, "grey": 128}[way]
    elif way == "frozen":
        frames[:] = frames[0]
    elif way == "noise":
        frames = random.integers(0, 255, frames.shape, dtype=np.uint8)
    elif way == "tiny":
        frames = frames[:, :1, :1]
    elif way == "still":
        frames = frames[:1]
    elif way in ("CT", "OT", "MR"):
        modality = way
    else:
        frames[:] = 0
        frames[:, 20, :] = 255
    dataset = dataset_of(frames)
    dataset.Modality = modality
    return Trial(way, partial(read_clip, save(folder / "clip.dcm", dataset)), marked())


@cache
def plain_bytes(way: str) -> bytes:
    file = BytesIO()
    dataset = jpeg_dataset(clip_of(0)) if way == "jpeg" else dataset_of(clip_of(0))
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit if way == "jpeg" else ExplicitVRLittleEndian
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


@kind("echo_bytes")
def echo_bytes(random, folder):
    """Damaged bytes: in the header, or in JPEG streams. A file that is cut must be refused."""
    way = str(random.choice(["raw", "jpeg"]))
    content = plain_bytes(way)
    judge: Any = no_oracle
    if random.random() < 0.4:
        length = int(random.integers(200, len(content) - 20))
        what, content, judge = f"cut to {length}", content[:length], marked()
    elif way == "raw":
        head = len(content) - FRAMES * HEIGHT * WIDTH * 3
        what, changed = damaged(random, content[:head])
        content = changed + content[head:]
    else:
        what, content = damaged(random, content)
    (folder / "clip.dcm").write_bytes(content)
    return Trial(f"{way} {what}", partial(read_clip, folder / "clip.dcm"), judge)


def fragments(streams: list[bytes]) -> bytes:
    """Write each stream as one fragment behind an empty offset table. pydicom's own function writes no empty stream."""
    items = [b"", *(stream + b"\0" * (len(stream) % 2) for stream in streams)]
    return b"".join(b"\xfe\xff\x00\xe0" + len(item).to_bytes(4, "little") + item for item in items)


@kind("echo_jpeg")
def echo_jpeg(random, folder):
    """JPEG streams that lie: sizes, markers, fragments, other pictures."""
    frames = clip_of(0)
    streams = [bytearray(to_jpeg(frame, "RGB")) for frame in frames]
    way = str(
        random.choice(
            [
                "size",
                "size_all",
                "empty",
                "text",
                "exchange",
                "grey",
                "progressive",
                "png",
                "one_less",
                "one_more",
                "end",
            ]
        )
    )
    judge: Any = equal_or_marked(right(0), LOSSY)
    where = int(random.integers(0, 2)) * 2
    if way in ("size", "size_all"):
        for stream in streams if way == "size_all" else [streams[where]]:
            place = stream.index(b"\xff\xc0") + 5
            stream[place : place + 4] = [b"\x4e\x20\x4e\x20", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\x60\0\x40"][
                random.integers(4)
            ]
        judge = marked() if way == "size_all" else no_oracle
    elif way in ("empty", "text", "png", "grey", "progressive"):
        buffer = BytesIO()
        if way == "png":
            Image.fromarray(frames[0]).save(buffer, "PNG")
        elif way == "grey":
            Image.fromarray(frames[0, ..., 0]).save(buffer, "JPEG", quality=98)
        elif way == "progressive":
            Image.fromarray(frames[where]).save(buffer, "JPEG", quality=98, subsampling=0, progressive=True)
        streams[where] = bytearray({"empty": b"", "text": b"hello world "}.get(way, buffer.getvalue()))
    elif way == "exchange":
        streams[where] = bytearray(random.bytes(len(streams[where])))
    elif way == "one_less":
        del streams[-1]
    elif way == "one_more":
        streams.append(streams[0])
    else:
        streams[where] = streams[where][: len(streams[where]) // 2]
    dataset = dataset_of(frames, "YBR_FULL_422")
    dataset["PixelData"].value = fragments([bytes(stream) for stream in streams])
    dataset["PixelData"].is_undefined_length = True
    return Trial(f"{way} {where}", partial(read_clip, save(folder / "clip.dcm", dataset, JPEGBaseline8Bit)), judge)


@cache
def deflated_bomb(start: int, mebibytes: int) -> bytes:
    """A deflated data set with as many zeros behind it."""
    squeeze = zlib.compressobj(1, zlib.DEFLATED, -15)
    parts = [squeeze.compress(plain_bytes("raw")[start:])]
    parts += [squeeze.compress(bytes(1 << 20)) for _ in range(mebibytes)]
    return b"".join([*parts, squeeze.flush()])


@kind("echo_bomb")
def echo_bomb(random, folder):
    """Small files that ask for much memory."""
    way = str(random.choice(["rle", "deflate", "frames", "large", "jpeg_large"]))
    path, judge = folder / "clip.dcm", marked()
    if way == "frames":
        dataset = dataset_of(clip_of(0))
        dataset.NumberOfFrames = int(random.choice([10**6, 2**31 - 1]))
        save(path, dataset)
    elif way == "large":
        dataset = dataset_of(clip_of(0))
        dataset.Rows = dataset.Columns = int(random.choice([20_000, 65_535]))
        save(path, dataset)
    elif way == "deflate":
        content = plain_bytes("raw")
        start = 144 + int.from_bytes(content[140:144], "little")
        large = random.random() < 0.5
        body = deflated_bomb(start, 600 if large else 200)
        judge = marked() if large else no_oracle  # zeros behind the last element change nothing
        head = content[:start].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
        head = head[:140] + (int.from_bytes(content[140:144], "little") + 2).to_bytes(4, "little") + head[144:]
        length = head.index(b"1.2.840.10008.1.2.1.99") - 2
        head = head[:length] + (22).to_bytes(2, "little") + head[length + 2 :]
        path.write_bytes(head + body)
    elif way == "rle":
        frames = np.zeros((2, 8, 8, 3), np.uint8)
        dataset = dataset_of(frames)
        dataset.Rows = dataset.Columns = int(random.choice([2000, 4000, 60_000]))
        run = b"\x81\x00" * (4_000_000 // 128)
        segment = (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56) + run
        dataset["PixelData"].value = encapsulate([segment, segment])
        dataset["PixelData"].is_undefined_length = True
        save(path, dataset, RLELossless)
    else:
        buffer = BytesIO()
        Image.fromarray(np.zeros((6000, 6000), np.uint8)).save(buffer, "JPEG")
        dataset = dataset_of(clip_of(0), "YBR_FULL_422")
        dataset["PixelData"].value = encapsulate([buffer.getvalue()] * FRAMES)
        dataset["PixelData"].is_undefined_length = True
        save(path, dataset, JPEGBaseline8Bit)
    return Trial(way, partial(read_clip, path), judge)
