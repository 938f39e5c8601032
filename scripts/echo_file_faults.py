"""Make echo files with a wrong header, wrong colours or damaged pixels, for `measure_echo_checks.py`."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.encoders import RLELosslessEncoder
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

from tgmm_hf.inputs.echo_reading import EchoClip

FRAMES = 32
"""Frames of a clip that faults are planted into."""


@dataclass
class Fault:
    """One kind of fault.

    Attributes:
        name: what is wrong.
        plant: writes a faulty file from RGB frames (frames, height, width, 3) to a path.
        right: whether the file can be read right in spite of the fault; then `frames` has the expected frames.
        is_known_gap: nobody claims that this fault is found.
        same_as: None for a fault. Else the file shall be read without a word, and the model shall see the same as in
            the file that this function writes.
    """

    name: str
    plant: Callable[[Path, np.ndarray], None]
    right: bool = False
    is_known_gap: bool = False
    same_as: Callable[[Path, np.ndarray], None] | None = None


# ---- files


def write(path: Path, frames: np.ndarray, photometric: str = "RGB", syntax: str = ExplicitVRLittleEndian, **header):
    """Write frames as a multi-frame ultrasound DICOM file; `header` overwrites elements, None deletes them."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["measure"])
    meta.TransferSyntaxUID = syntax
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.PhotometricInterpretation = "US", photometric
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames.shape[:3]
    dataset.SamplesPerPixel = 1 if frames.ndim == 3 else 3
    if frames.ndim == 4:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = frames.tobytes()
    if syntax == RLELossless:
        dataset.PixelData = encapsulate([rle_of(frame.tobytes(), frame.shape) for frame in frames])
        dataset["PixelData"].VR = "OB"
        if frames.ndim == 4:
            dataset.PlanarConfiguration = 1
    elif syntax == JPEGBaseline8Bit:
        dataset.PixelData = encapsulate([jpeg_without_marker(frame) for frame in frames])
        dataset["PixelData"].VR = "OB"
    for name, value in header.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)


@lru_cache(maxsize=256)
def rle_of(content: bytes, shape: tuple[int, ...]) -> bytes:
    """Encode a frame of `shape` as RLE. Frames are kept, because the encoder is slow and many faults share them."""
    samples = 1 if len(shape) == 2 else 3
    encoded: bytes = RLELosslessEncoder.encode(
        content,
        rows=shape[0],
        columns=shape[1],
        samples_per_pixel=samples,
        number_of_frames=1,
        bits_allocated=8,
        bits_stored=8,
        pixel_representation=0,
        planar_configuration=0,
        photometric_interpretation="RGB" if samples == 3 else "MONOCHROME2",
    )
    return encoded


def jpeg_without_marker(frame: np.ndarray) -> bytes:
    """Encode YCbCr components (height, width, 3) as JPEG and remove the JFIF marker."""
    buffer = io.BytesIO()
    Image.fromarray(frame, mode="YCbCr").save(buffer, "JPEG", quality=95, subsampling=0)
    data = buffer.getvalue()
    return data[:2] + data[4 + int.from_bytes(data[4:6], "big") :]


def ycbcr(frames: np.ndarray) -> np.ndarray:
    """Convert RGB frames to YCbCr."""
    return np.stack([np.asarray(Image.fromarray(frame).convert("YCbCr")) for frame in frames])


def rgb_frames(clip: EchoClip) -> np.ndarray:
    """Return the frames of a clip as RGB."""
    if clip.colour_space != "YBR":
        return clip.frames
    return np.stack([np.asarray(Image.fromarray(frame, mode="YCbCr").convert("RGB")) for frame in clip.frames])


# ---- faults


def region(spatial_format: int) -> pydicom.Dataset:
    """Make an ultrasound region of a header; 1 is a 2-D picture, 3 spectral Doppler."""
    item = pydicom.Dataset()
    item.RegionSpatialFormat = spatial_format
    return item


def colour_faults() -> Iterator[Fault]:
    """Yield clips whose colours contradict the header."""
    planes = "PlanarConfiguration"
    yield Fault("YBR declared as RGB", lambda p, f: write(p, ycbcr(f), "RGB"))
    yield Fault("RGB declared as YBR", lambda p, f: write(p, f, "YBR_FULL"))
    yield Fault("YBR declared as RGB, RLE", lambda p, f: write(p, ycbcr(f), "RGB", RLELossless))
    yield Fault("RGB by pixel declared as by plane", lambda p, f: write(p, f, **{planes: 1}))
    yield Fault(
        "RGB by plane declared as by pixel", lambda p, f: write(p, f, PixelData=np.moveaxis(f, -1, 1).tobytes())
    )
    for planar in (0, 1):
        yield Fault(
            f"RGB by volume, declared with PlanarConfiguration {planar}",
            lambda p, f, n=planar: write(p, f, PixelData=np.moveaxis(f, -1, 0).tobytes(), **{planes: n}),
        )
    yield Fault("YBR by pixel declared as by plane", lambda p, f: write(p, ycbcr(f), "YBR_FULL", **{planes: 1}))
    yield Fault(
        "JPEG without marker declared as RGB", lambda p, f: write(p, ycbcr(f), "RGB", JPEGBaseline8Bit), right=True
    )
    yield Fault("palette of 16 bits holds 8-bit colours", write_palette, right=True)


def write_palette(path: Path, frames: np.ndarray) -> None:
    """Write the brightness with a grey palette of 16-bit entries that hold 0 to 255."""
    write(path, frames[..., 1].copy(), "PALETTE COLOR")
    dataset = pydicom.dcmread(path)
    for name in ("Red", "Green", "Blue"):
        dataset.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        dataset.add_new(f"{name}PaletteColorLookupTableData", "OW", np.arange(256, dtype="<u2").tobytes())
    dataset.save_as(path)


def geometry_faults() -> Iterator[Fault]:
    """Yield clips whose sizes contradict the header."""
    for name, syntax in (("raw", ExplicitVRLittleEndian), ("JPEG", JPEGBaseline8Bit), ("RLE", RLELossless)):

        def wrong(path: Path, frames: np.ndarray, syntax: str = syntax, **header) -> None:
            is_jpeg = syntax == JPEGBaseline8Bit
            write(path, ycbcr(frames) if is_jpeg else frames, "YBR_FULL" if is_jpeg else "RGB", syntax, **header)

        yield Fault(f"number of frames missing, {name}", lambda p, f, w=wrong: w(p, f, NumberOfFrames=None), right=True)
        yield Fault(f"one frame too many declared, {name}", lambda p, f, w=wrong: w(p, f, NumberOfFrames=len(f) + 1))
        yield Fault(f"half of the frames declared, {name}", lambda p, f, w=wrong: w(p, f, NumberOfFrames=len(f) // 2))
        yield Fault(
            f"rows and columns exchanged, {name}",
            lambda p, f, w=wrong: w(p, f, Rows=f.shape[2], Columns=f.shape[1]),
        )
        yield Fault(
            f"half of the rows, double the columns, {name}",
            lambda p, f, w=wrong: w(p, f[:, : f.shape[1] // 2 * 2], Rows=f.shape[1] // 2, Columns=f.shape[2] * 2),
        )
        yield Fault(f"one column too many, {name}", lambda p, f, w=wrong: w(p, f, Columns=f.shape[2] + 1))
    for number, name in ((2, "double"), (3, "three times")):
        yield Fault(f"{name} the rows, frames / {number}, raw", lambda p, f, n=number: write_cut(p, f, n, False))
        yield Fault(f"rows / {number}, {name} the frames, raw", lambda p, f, n=number: write_cut(p, f, n, True))
    yield Fault("pixel data cut by 10 %", lambda p, f: write(p, f, PixelData=f.tobytes()[: f.size * 9 // 20 * 2]))
    yield Fault("pixel data longer by 10 %", lambda p, f: write(p, f, PixelData=f.tobytes() + bytes(f.size // 20 * 2)))
    yield Fault("file cut in the middle", cut_file)


def write_cut(path: Path, frames: np.ndarray, number: int, more_frames: bool) -> None:
    """Write raw frames with a header that declares `number` times the frames and fewer rows, or the other way round."""
    length, height = len(frames) // number * number, frames.shape[1] // number * number
    cut = np.ascontiguousarray(frames[:length, :height])
    if more_frames:
        write(path, cut, NumberOfFrames=length * number, Rows=height // number)
    else:
        write(path, cut, NumberOfFrames=length // number, Rows=height * number)


def time_faults() -> Iterator[Fault]:
    """Yield clips that are too slow, because each frame stands in the file several times, or whose rate is wrong."""
    for times in (2, 3):
        for name, syntax in (("raw", ExplicitVRLittleEndian), ("JPEG", JPEGBaseline8Bit), ("RLE", RLELossless)):
            yield Fault(f"each frame {times} times, {name}", lambda p, f, n=times, s=syntax: write_repeated(p, f, n, s))
    yield Fault(
        "each frame 2 times, with other noise, JPEG",
        lambda p, f: write_repeated(p, f, 2, JPEGBaseline8Bit, np.random.default_rng(0)),
    )
    yield Fault("each frame 2 times, a video (AVI)", lambda p, f: write_video(p, np.repeat(f, 2, axis=0)))
    for milliseconds in ("1000", "1"):
        yield Fault(f"{milliseconds} ms a frame in the header", lambda p, f, t=milliseconds: write(p, f, FrameTime=t))


def write_repeated(path: Path, frames: np.ndarray, times: int, syntax: str, noise: np.random.Generator | None = None):
    """Write each frame several times. With `noise`, a generator, the repeated frames differ by -1 to 1."""
    repeated = np.repeat(frames[:FRAMES], times, axis=0)
    if noise is not None:
        for frame in repeated:
            frame[:] = np.clip(frame + noise.integers(-1, 2, frame.shape), 0, 255)
    is_jpeg = syntax == JPEGBaseline8Bit
    write(path, ycbcr(repeated) if is_jpeg else repeated, "YBR_FULL" if is_jpeg else "RGB", syntax)


def write_video(path: Path, frames: np.ndarray) -> None:
    """Write frames as a video of the same path, with the suffix .avi instead of .dcm."""
    writer = cv2.VideoWriter(str(path.with_suffix(".avi")), cv2.VideoWriter_fourcc(*"MJPG"), 30, frames.shape[2:0:-1])
    for frame in frames:
        writer.write(frame[..., ::-1].copy())
    writer.release()


def damage_faults() -> Iterator[Fault]:
    """Yield clips whose compressed pixels are damaged."""
    yield Fault("JPEG of one frame ends in the middle", lambda p, f: write_damaged(p, f, JPEGBaseline8Bit, 0))
    for name, syntax in (("JPEG", JPEGBaseline8Bit), ("RLE", RLELossless)):
        yield Fault(
            f"20 random bytes changed, {name}",
            lambda p, f, s=syntax: write_damaged(p, f, s, 20),
            is_known_gap=True,  # compressed pixels carry no checksum
        )


def write_damaged(path: Path, frames: np.ndarray, syntax: str, number: int) -> None:
    """Write a clip and change random bytes of its pixel data; 0 cuts the JPEG of the third frame."""
    is_jpeg = syntax == JPEGBaseline8Bit
    stored = ycbcr(frames) if is_jpeg else frames
    if not number:
        streams = [jpeg_without_marker(frame) for frame in stored]
        streams[2] = streams[2][: len(streams[2]) // 2] + b"\xff\xd9"
        write(path, stored, "YBR_FULL", syntax, PixelData=encapsulate(streams))
        return
    write(path, stored, "YBR_FULL" if is_jpeg else "RGB", syntax)
    content, places = bytearray(path.read_bytes()), np.random.default_rng(0)
    for position in places.integers(3000, len(content) - 10, number):
        content[position] = places.integers(0, 256)
    path.write_bytes(content)


def cut_file(path: Path, frames: np.ndarray) -> None:
    """Write a JPEG clip and keep the first half of the file."""
    write(path, ycbcr(frames), "YBR_FULL", JPEGBaseline8Bit)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
