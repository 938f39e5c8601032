"""Drawn chest X-rays and their files, for tests."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid


def draw_chest(rows: int = 300, columns: int = 260, seed: int = 0, top: int = 255) -> np.ndarray:
    """Two dark lungs, a bright heart on the picture's right, ribs and noise: (rows, columns) from 0 to `top`."""
    y, x = np.mgrid[0:rows, 0:columns].astype(float)
    y, x = y / rows, x / columns
    lungs = sum(np.exp(-(((x - at) / 0.14) ** 4) - ((y - 0.45) / 0.32) ** 4) for at in (0.28, 0.72))
    heart = np.exp(-(((x - 0.58) / 0.13) ** 2) - ((y - 0.6) / 0.14) ** 2)
    ribs = 0.04 * np.sin(2 * np.pi * 9 * (y + 0.2 * np.abs(x - 0.5)))
    noise = 0.01 * np.random.default_rng(seed).standard_normal((rows, columns))
    picture = np.clip(0.75 - 0.55 * lungs + 0.35 * heart + ribs + noise, 0, 1)
    return np.rint(picture * top).astype(np.uint16 if top > 255 else np.uint8)


def write_xray(path: Path, pixels: np.ndarray | None = None, **elements: Any) -> Path:
    """Write a DX file. An element of None is left out."""
    pixels = draw_chest(top=4095) if pixels is None else pixels
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", generate_uid()
    bits = 8 * pixels.dtype.itemsize
    settings = {
        "Modality": "DX", "BodyPartExamined": "CHEST", "ViewPosition": "PA", "PatientOrientation": ["L", "F"],
        "Rows": pixels.shape[0], "Columns": pixels.shape[1], "SamplesPerPixel": 1, "BitsAllocated": bits,
        "BitsStored": 12 if bits == 16 else 8, "HighBit": 11 if bits == 16 else 7,
        "PixelRepresentation": int(pixels.dtype.kind == "i"), "PhotometricInterpretation": "MONOCHROME2",
    }  # fmt: skip
    for name, value in {**settings, **elements}.items():
        if value is not None:
            setattr(dataset, name, value)
    dataset.PixelData = np.ascontiguousarray(pixels).tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_picture(path: Path, pixels: np.ndarray | None = None, **options: Any) -> Path:
    Image.fromarray(draw_chest() if pixels is None else pixels).save(path, **options)
    return path
