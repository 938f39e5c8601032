"""ECG and echo files in several formats, written for tests."""

import io
from pathlib import Path

import numpy as np
import wfdb
from heart_signal import make_heart
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
    TwelveLeadECGWaveformStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)
from scipy.ndimage import gaussian_filter

MIMIC_LEADS = ["I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6"]


def make_ecg(leads: int = 12, samples: int = 5000, seed: int = 0) -> np.ndarray:
    """(leads, samples) mV of a heart at 500 Hz, each lead with its own amplitude; the first twelve are LEADS."""
    heart = make_heart(samples, 500.0, seed)
    return np.stack([heart[lead % 12] * (1 + lead // 12) for lead in range(leads)])


def write_wfdb(
    directory: Path, signal: np.ndarray, names: list[str], fmt: str = "16", units: str = "mV", **kwargs
) -> Path:
    wfdb.wrsamp(
        "record",
        fs=kwargs.get("fs", 500),
        units=kwargs.get("unit_list", [units] * len(names)),
        sig_name=names,
        p_signal=signal.T,
        fmt=[fmt] * len(names),
        adc_gain=[kwargs.get("gain", 1000.0)] * len(names),
        baseline=[0] * len(names),
        write_dir=str(directory),
    )
    return directory / "record"


def new_dicom(sop_class: str, syntax: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    dataset.PatientName = "Doe^Jane"
    return dataset


def waveform_group(
    signal_uv: np.ndarray, meanings: list[str], rate: float, originality: str, unit: str | None = "uV"
) -> Dataset:
    """Multiplex group of 16-bit samples with 2 uV a step; `meanings` are lead names or SCPECG code values."""
    group = Dataset()
    group.WaveformOriginality = originality
    group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = signal_uv.shape
    group.SamplingFrequency = rate
    group.WaveformBitsAllocated, group.WaveformSampleInterpretation = 16, "SS"
    group.ChannelDefinitionSequence = []
    for meaning in meanings:
        channel, source = Dataset(), Dataset()
        source.CodeValue = meaning if meaning[0].isdigit() else "x"
        source.CodingSchemeDesignator, source.CodeMeaning = "SCPECG", meaning
        channel.ChannelSourceSequence = [source]
        channel.ChannelSensitivity, channel.ChannelSensitivityCorrectionFactor = 2.0, 1.0
        channel.ChannelBaseline, channel.WaveformBitsStored = 10.0, 16
        if unit is not None:
            code = Dataset()
            code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = unit, "UCUM", unit
            channel.ChannelSensitivityUnitsSequence = [code]
        group.ChannelDefinitionSequence.append(channel)
    group.WaveformData = np.rint((signal_uv.T - 10) / 2).astype("<i2").tobytes()
    return group


def write_ecg_dicom(path: Path, groups: list[Dataset]) -> Path:
    dataset = new_dicom(TwelveLeadECGWaveformStorage, ExplicitVRLittleEndian)
    dataset.WaveformSequence = groups
    dataset.save_as(path, enforce_file_format=True)
    return path


def make_frames(frames: int = 40, height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """(frames, height, width, 3) uint8: smooth colours under a fine texture (JPEG keeps both), each frame brighter."""
    rows, columns = np.mgrid[0:height, 0:width]
    texture = gaussian_filter(np.random.default_rng(seed).normal(size=(height, width)), 1)
    base = np.stack([rows * 3, columns * 2, rows + columns], axis=-1) + (6 * texture / texture.std())[..., None]
    return np.clip(base[None] + np.arange(frames)[:, None, None, None], 0, 255).astype(np.uint8)


def to_jpeg(frame: np.ndarray, mode: str, **kwargs) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame, mode=mode).save(buffer, "JPEG", quality=98, subsampling=0, **kwargs)
    return buffer.getvalue()


def to_jpeg2000(frame: np.ndarray, irreversible: bool) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG2000", irreversible=irreversible, no_jp2=True, mct=1)
    return buffer.getvalue()


def write_echo_dicom(
    path: Path, frames: np.ndarray, syntax: str = ExplicitVRLittleEndian, photometric: str = "RGB", pixel_data=None
) -> Path:
    dataset = new_dicom(UltrasoundMultiFrameImageStorage, syntax)
    dataset.Rows, dataset.Columns = frames.shape[1:3]
    dataset.NumberOfFrames = len(frames)
    dataset.SamplesPerPixel = 1 if frames.ndim == 3 else 3
    if dataset.SamplesPerPixel == 3:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated = dataset.BitsStored = 8 * frames.dtype.itemsize
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
    if syntax == RLELossless:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.PixelData = frames.tobytes()
        dataset.compress(RLELossless)
    elif pixel_data is None:
        dataset.PixelData = frames.tobytes()
    else:
        dataset.PixelData = encapsulate(pixel_data)
        dataset["PixelData"].VR = "OB"
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def make_clip(frames: int = 40, height: int = 240, width: int = 320, seed: int = 0, colour: bool = False) -> np.ndarray:
    """(frames, height, width, 3) uint8 RGB: a fan of speckle with a beating cavity, text above, an ECG strip below."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    radius = np.hypot(rows - 10, columns - width / 2)
    fan = (np.abs(np.arctan2(columns - width / 2, rows - 10)) < 0.6) & (radius > 20) & (radius < 0.85 * height)
    grey = np.zeros((frames, height, width), dtype=np.uint8)
    for index in range(frames):
        speckle = generator.integers(60, 200, (height, width))
        cavity = np.hypot(rows - 120, columns - width / 2) < 30 + 8 * np.sin(2 * np.pi * index / 24)
        grey[index] = np.where(fan, np.where(cavity, speckle // 4, speckle), 0)
    clip = np.repeat(grey[..., None], 3, axis=-1)
    if colour:
        clip[:, 130:160, width // 2 - 10 : width // 2 + 10] = (200, 30, 40)
    clip[:, 4:14, 4:60] = 255  # text, does not move
    trace = (height - 12 + 4 * np.sin(np.arange(width) / 5)).astype(int)
    for index in range(frames):
        clip[index, np.roll(trace, index), np.arange(width)] = (0, 255, 0)
    return clip


def make_patches(frames: int = 4, height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """(frames, height, width, 3) uint8 RGB: patches of 4 x 4 pixels of random colour, which change a little by frame.

    White noise, and frames that have nothing in common, would be refused.
    """
    generator = np.random.default_rng(seed)
    shape = (-(-height // 4), -(-width // 4), 3)
    patches = generator.integers(0, 180, shape, np.uint8) + generator.integers(0, 75, (frames, *shape), np.uint8)
    return patches.repeat(4, axis=1).repeat(4, axis=2)[:, :height, :width]


def write_clip(path: Path, clip: np.ndarray, photometric: str = "RGB", jpeg: bool = False) -> Path:
    """Write a clip (frames, height, width[, 3]) uncompressed, or as JPEG of its YCbCr."""
    if not jpeg:
        return write_echo_dicom(path, clip, photometric=photometric)
    return write_echo_dicom(path, clip, JPEGBaseline8Bit, photometric, [to_jpeg(frame, "RGB") for frame in clip])


def as_ycbcr(rgb: np.ndarray) -> np.ndarray:
    """Convert RGB frames to YCbCr by JPEG's coefficients, which are DICOM's."""
    return np.stack([np.asarray(Image.fromarray(frame).convert("YCbCr")) for frame in rgb])


def colour_distance(first: np.ndarray, second: np.ndarray) -> int:
    return int(np.abs(first.astype(int) - second.astype(int)).max())
