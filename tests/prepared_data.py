"""A prepared data set of a few invented patients. It reads no files, so that tests of trainings are fast."""

import json
from pathlib import Path

import numpy as np
from datasets.arrow_writer import ArrowWriter

from tgmm_hf.data.admissions import AdmissionPreparer
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.inputs.image_processing_echo import EchoImageProcessor
from tgmm_hf.utils.names import VIEWS

SIZES = {"train": 24, "validation": 16, "test": 16}
TASKS = {"hf_diagnosis": "diagnosis", "hf_risk": "prognosis"}


def invented_patient(name: str, generator: np.random.Generator) -> dict:
    """Make one prepared row. Heart failure shows in every modality, and some patients lack one modality."""
    sick = bool(generator.random() < 0.5)
    missing = generator.choice(["nothing", "labs", "ecg", "echo"], p=[0.7, 0.1, 0.1, 0.1])
    ecg = generator.normal(0, 0.05, (2500, 12)).astype(np.float32)
    ecg[:: 150 if sick else 220] += 1.0
    views = generator.choice(len(VIEWS), size=2, replace=False)
    clips = generator.integers(0, 80 if sick else 200, (2, 16, 64, 64 * 3)).astype(
        np.uint8
    )  # as stored: the colours beside each other
    event = int(generator.random() < 0.5)
    return {
        "id": name,
        "patient_id": name,
        "labs": "" if missing == "labs" else json.dumps({"NTproBNP": 5000.0 if sick else 90.0, "age": 70.0}),
        "ecg": ecg[:0] if missing == "ecg" else ecg,
        "ecg_mask": [missing != "ecg"] * 12,
        "clips": clips[:0] if missing == "echo" else clips,
        "clip_views": [] if missing == "echo" else sorted(views.tolist()),
        "clip_frames": [] if missing == "echo" else [16, 16],
        "label_hf_diagnosis": int(sick),
        "time_hf_risk": None if sick else float(generator.uniform(30, 300 if event else 900)),
        "event_hf_risk": None if sick else event,
    }


def write_prepared_data(directory: Path, own_task: str | None = None) -> Path:
    """Write splits and `prepare.json` into an empty directory, as `tgmm prepare` does.

    `own_task` is the name of a further diagnosis, whose label is that of `hf_diagnosis`.
    """
    tasks = TASKS if own_task is None else {**TASKS, own_task: "diagnosis"}
    image_processor = EchoImageProcessor(size=64, num_frames=16)
    features = AdmissionPreparer(EcgFeatureExtractor(), image_processor, directory, tasks).features
    generator = np.random.default_rng(0)
    for split, size in SIZES.items():
        (directory / split).mkdir()
        with ArrowWriter(features=features, path=str(directory / split / "00000.arrow")) as writer:
            for number in range(size):
                patient = invented_patient(f"{split}{number}", generator)
                if own_task is not None:
                    patient[f"label_{own_task}"] = patient["label_hf_diagnosis"]
                writer.write(features.encode_example(patient))
            writer.finalize()
    content = {"data_hash": "invented", "geometry": {"image_size": 64, "num_frames": 16}}
    (directory / "prepare.json").write_text(json.dumps(content))
    return directory
