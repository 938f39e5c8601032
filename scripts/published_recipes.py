"""Prepare files as the published code of ST-MEM, MEIT and EchoPrime does, written from a description of its steps.

ST-MEM and MEIT were made for WFDB records, EchoPrime for clips of YCbCr. They are research code, each for one clean
source of files, and do not claim to check a file. No line is copied from them. `read_ecg` also reads the first group of
a DICOM ECG by pydicom, as a user would who has such files.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pydicom
import wfdb
from pydicom.pixels import pixel_array
from scipy.signal import butter, resample, sosfiltfilt

from tgmm_hf.utils.names import LEADS

MEIT_SHAPE = (12, 5000)
ECHOPRIME_MEAN, ECHOPRIME_STD = (29.110628, 28.076836, 29.096405), (47.989223, 46.456997, 47.20083)


class SkippedError(Exception):
    """A rule of the recipe leaves the file out."""


def read_ecg(path: Path) -> tuple[np.ndarray, float, list[str]]:
    """Read a WFDB record or the first group of a DICOM ECG: (leads, samples), Hz, names as the file writes them."""
    if path.suffix != ".dcm":
        signal, fields = wfdb.rdsamp(str(path))
        return signal.T, fields["fs"], fields["sig_name"]
    dataset = pydicom.dcmread(path)
    group = dataset.WaveformSequence[0]
    names = [channel.ChannelSourceSequence[0].CodeMeaning for channel in group.ChannelDefinitionSequence]
    return dataset.waveform_array(0).T, float(group.SamplingFrequency), names


def st_mem_input(signal: np.ndarray, rate: float, names: Sequence[str]) -> np.ndarray:
    """Return (12, 2250) as ST-MEM's evaluation reads the second of its three crops.

    Leads by exact name, windows of 10 s (the first is taken), none shorter or with NaN; FFT resampling to 250 Hz, crop,
    high-pass 0.67 Hz, low-pass 40 Hz, one mean and standard deviation.
    """
    window = signal[[list(names).index(lead) for lead in LEADS], : int(10 * rate)]
    if window.shape[1] < 10 * rate:
        raise SkippedError("shorter than 10 s")
    if np.isnan(window).any():
        raise SkippedError("NaN")
    if rate != 250:
        window = resample(window, int(window.shape[1] * 250 / rate), axis=1)
    crop = window[:, (window.shape[1] - 2250) // 2 :][:, :2250]
    for cutoff, kind in ((0.67, "highpass"), (40.0, "lowpass")):
        crop = sosfiltfilt(butter(5, cutoff, btype=kind, fs=250, output="sos"), crop, axis=1)
    deviation = crop.std()
    return (crop - crop.mean()) / deviation if deviation > 0 else np.zeros_like(crop)


def meit_input(signal: np.ndarray, rate: float, names: Sequence[str]) -> np.ndarray:
    """Return (12, 5000) as MEIT reads MIMIC-IV-ECG: leads as stored, one minimum and maximum, NaN to 0.

    The record is put into a batch with one of the usual shape, as the code's loaders do. So another shape raises.
    """
    low, high = signal.min(), signal.max()
    scaled = np.nan_to_num((signal - low) / (high - low + 1e-8), nan=0.0, posinf=0.0, neginf=0.0)
    return np.stack([scaled, np.zeros(MEIT_SHAPE)])[0]


def st_mem(path: Path) -> np.ndarray:
    """Read a file and prepare it for ST-MEM."""
    return st_mem_input(*read_ecg(path))


def meit(path: Path) -> np.ndarray:
    """Read a file and prepare it for MEIT."""
    return meit_input(*read_ecg(path))


def echoprime(path: Path) -> np.ndarray:
    """Read a clip as it is stored and prepare it for EchoPrime. pydicom 3 needs `raw` for what pydicom 2 did."""
    return echoprime_input(pixel_array(pydicom.dcmread(path), raw=True))


def echoprime_input(pixels: np.ndarray) -> np.ndarray:
    """Return (3, 16, 224, 224) from the pixels of a clip as they are stored, (frames, height, width, 3) YCbCr."""
    if pixels.ndim < 3 or pixels.shape[2] == 3:
        raise SkippedError("a still")
    try:
        frames = mask_outside_sector(pixels)
    except Exception:  # the published function hands the pixels back as they are
        frames = pixels
    values = np.zeros((len(frames), 224, 224, 3))
    for value, frame in zip(values, frames, strict=True):
        value[:] = crop_and_scale(frame)
    normalised = ((values - ECHOPRIME_MEAN) / ECHOPRIME_STD).transpose(3, 0, 1, 2)
    padded = np.zeros((3, max(32, len(frames)), 224, 224))
    padded[:, : len(frames)] = normalised
    return padded[:, :32:2]


def crop_and_scale(frame: np.ndarray) -> np.ndarray:
    """Cut the centre square, cut 10 % off every side, resize to 224 x 224 with cubic interpolation."""
    height, width = frame.shape[:2]
    cut = abs(height - width) // 2
    if height > width:
        frame = frame[cut:-cut]
    elif width > height:
        frame = frame[:, cut:-cut]
    border_rows, border_columns = int(0.1 * frame.shape[0]), int(0.1 * frame.shape[1])
    frame = frame[border_rows : frame.shape[0] - border_rows, border_columns : frame.shape[1] - border_columns]
    return cv2.resize(frame, (224, 224), interpolation=cv2.INTER_CUBIC)


def mask_outside_sector(pixels: np.ndarray) -> np.ndarray:
    """Convert every frame from YUV to BGR and blacken what is not lit and moving.

    Lit is any grey in a sum over the frames (the first counted twice, 8 bits), eroded. Moving is where the last frame
    differs from the first. Then dilation, background filled from the corner, hulls of all contours, filled again.
    """
    colours = [cv2.cvtColor(frame, cv2.COLOR_YUV2BGR) for frame in pixels]
    grey = np.stack([cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_YUV2RGB), cv2.COLOR_RGB2GRAY) for frame in pixels])
    kernel = np.ones((3, 3), np.uint8)
    binary = (grey > 0).astype(np.int64)
    lit = cv2.erode((binary.sum(axis=0) + binary[0]).astype(np.uint8), kernel, iterations=10) > 0
    moving = grey[0] != grey[-1]
    moving[:20, :20] = False
    sector = cv2.dilate((lit & moving).astype(np.uint8) * 255, kernel, iterations=10)
    sector = _not_background(sector)
    contours, _ = cv2.findContours(sector, cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE)
    for contour in contours:
        cv2.drawContours(sector, [cv2.convexHull(contour)], -1, 255, 3)
    keep = _not_background(sector)
    return np.stack([cv2.bitwise_and(frame, frame, mask=keep) for frame in colours])


def _not_background(image: np.ndarray) -> np.ndarray:
    """Return 255 where a flood from the corner (0, 0) does not come, 0 elsewhere."""
    flooded = image.copy()
    cv2.floodFill(flooded, None, (0, 0), 100)
    return np.where(flooded == 100, 0, 255).astype(np.uint8)
