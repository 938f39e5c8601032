"""A small cohort in real file formats: WFDB records and uncompressed multi-frame DICOM clips."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import wfdb
from heart_signal import make_heart
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid

from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.data.tokenizer import task_texts, train_tokenizer
from tgmm_hf.processing_tgmm import TgmmProcessor, default_processor
from tgmm_hf.utils.names import LEADS

SIZE, FRAMES = 32, 4


def small_config() -> TgmmConfig:
    """Configuration for clips of `SIZE` and `FRAMES`."""
    return TgmmConfig.tiny(echo_config={"image_size": SIZE, "num_frames": FRAMES})


def small_processor(config: TgmmConfig) -> TgmmProcessor:
    """Processor with a tokenizer that knows the words of the cohort."""
    words = "Creatinine NTproBNP medical history of the patient is hypertension, diabetes; pg/mL"
    return default_processor(config, train_tokenizer([words, words, *task_texts(config.tasks)]))


def write_ecg(path: Path, seed: int, seconds: float = 10.0) -> None:
    """Write a WFDB recording, format 16, 500 Hz, with one beat per second."""
    signal = make_heart(int(seconds * 500), 500, seed).T
    path.parent.mkdir(parents=True, exist_ok=True)
    units, formats = ["mV"] * 12, ["16"] * 12
    wfdb.wrsamp(path.name, 500, units, list(LEADS), signal, fmt=formats, write_dir=str(path.parent))


def write_clip(path: Path, seed: int, frames: int = 10) -> None:
    """Write an uncompressed RGB ultrasound clip of 48 x 64 pixels: a disc of changing size.

    Its patches of 4 x 4 pixels change a little by frame. Noise, and a picture that stands still, would be refused.
    """
    random = np.random.default_rng(seed)
    patches = random.integers(60, 180, (1, 12, 16)) + random.integers(0, 75, (frames, 12, 16))
    texture = patches.astype(np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    rows, columns = np.mgrid[:48, :64]
    pixels = np.zeros((frames, 48, 64, 3), np.uint8)
    for index in range(frames):
        radius = 14 + 4 * np.sin(index)
        disc = (rows - 24) ** 2 + (columns - 32) ** 2 < radius**2
        pixels[index, disc] = texture[index, disc, None]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.NumberOfFrames, dataset.SamplesPerPixel = "US", frames, 3
    dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
    dataset.Rows, dataset.Columns = 48, 64
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = pixels.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, dataset)


def cohort_rows(patients: int) -> list[dict[str, Any]]:
    """Rows of a cohort table (CSV style) with mixed modalities: every third patient lacks labs, ECG or echo in turn."""
    rows = []
    for number in range(patients):
        row: dict[str, Any] = {
            "id": f"a{number}",
            "patient_id": f"p{number}",
            "split": ("train", "train", "train", "validation", "test")[number % 5],
            "labs.Creatinine": "" if number % 3 == 0 else round(0.8 + 0.1 * number, 2),
            "labs.NT-proBNP": "" if number % 3 == 0 else 100 * number,
            "unit.NT-proBNP": "pg/mL",
            "labs.medical history": "" if number % 3 == 0 else "hypertension, diabetes",
            "ecg_path": "" if number % 3 == 1 else f"ecg/{number}",
            "echo_paths": "" if number % 3 == 2 else f"echo/{number}_a.dcm;echo/{number}_b.dcm",
            "echo_views": "" if number % 3 == 2 else "A4C;Parasternal_Long",
            "label.hf_diagnosis": number % 2,
            "time.hf_risk": "" if number % 2 else 100.5 + number,
            "event.hf_risk": "" if number % 2 else number % 3,
        }
        rows.append(row)
    return rows


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path
