"""A prepared data set of a few invented patients. It reads no files, so that tests of trainings are fast."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from datasets.arrow_writer import ArrowWriter

from tgmm_hf.data.admissions import AdmissionPreparer
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.inputs.image_processing_echo import EchoImageProcessor
from tgmm_hf.utils.names import VIEWS

SIZE, FRAMES = 32, 4
"""Pixels of a side, and frames, of a prepared clip."""
SMALL_ECHO = {
    "image_size": SIZE,
    "num_frames": FRAMES,
    "stage_depths": [1, 1],
    "stage_widths": [8, 16],
    "stage_heads": [1, 2],
    "hidden_size": 16,
}
"""Settings of an echo encoder that takes these clips."""
SIZES = {"train": 24, "validation": 16, "test": 16}
TASKS = {"hf_diagnosis": "diagnosis", "hf_risk": "prognosis"}


def invented_patient(name: str, generator: np.random.Generator) -> dict:
    """Make one prepared row. Heart failure shows in every modality, and some patients lack one modality."""
    sick = bool(generator.random() < 0.5)
    missing = generator.choice(["nothing", "labs", "ecg", "echo"], p=[0.7, 0.1, 0.1, 0.1])
    ecg = generator.normal(0, 0.05, (2500, 12)).astype(np.float32)
    ecg[:: 150 if sick else 220] += 1.0
    views = generator.choice(len(VIEWS), size=2, replace=False)
    clips = generator.integers(0, 80 if sick else 200, (2, FRAMES, SIZE, SIZE * 3)).astype(
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
        "clip_frames": [] if missing == "echo" else [FRAMES, FRAMES],
        "label_hf_diagnosis": int(sick),
        "time_hf_risk": None if sick else float(generator.uniform(30, 300 if event else 900)),
        "event_hf_risk": None if sick else event,
    }


def measured_outcomes(patient: dict, number: int) -> dict:
    """Make a value and findings of a prepared row. Every seventh value and every fifth finding are not known."""
    sick = patient["label_hf_diagnosis"]
    findings = {"failure": sick, "lot": number % 2} if number % 5 else {"failure": sick}
    return {
        "value_ef": None if number % 7 == 6 else 60.0 - 25.0 * sick + number % 3,
        "findings_seen": None if number % 11 == 10 else json.dumps(findings),
    }


def write_prepared_data(directory: Path, own_task: str | None = None, measured: bool = False) -> Path:
    """Write splits and `prepare.json` into an empty directory, as `tgmm prepare` does.

    `own_task` is the name of a further diagnosis, whose label is that of `hf_diagnosis`. With `measured` there is a
    regression "ef", low with heart failure, and a multilabel "seen" with the findings "failure" and "lot".
    """
    tasks = TASKS if own_task is None else {**TASKS, own_task: "diagnosis"}
    tasks = {**tasks, "ef": "regression", "seen": "multilabel"} if measured else tasks
    image_processor = EchoImageProcessor(size=SIZE, num_frames=FRAMES)
    features = AdmissionPreparer(EcgFeatureExtractor(), image_processor, directory, tasks).features
    generator = np.random.default_rng(0)
    for split, size in SIZES.items():
        (directory / split).mkdir()
        with ArrowWriter(features=features, path=str(directory / split / "00000.arrow")) as writer:
            for number in range(size):
                patient = invented_patient(f"{split}{number}", generator)
                if own_task is not None:
                    patient[f"label_{own_task}"] = patient["label_hf_diagnosis"]
                if measured:
                    patient |= measured_outcomes(patient, number)
                writer.write(features.encode_example(patient))
            writer.finalize()
    content: dict[str, Any] = {"data_hash": "invented", "geometry": {"image_size": SIZE, "num_frames": FRAMES}}
    if measured:
        content["units"] = {"ef": "%"}
    (directory / "prepare.json").write_text(json.dumps(content))
    return directory
