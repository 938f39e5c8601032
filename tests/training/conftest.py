"""Fixtures of the tests of trainings."""

from pathlib import Path

import pytest
from datasets.arrow_writer import ArrowWriter

from tgmm_hf.data.admissions import AdmissionPreparer
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.inputs.image_processing_echo import EchoImageProcessor
from tgmm_hf.utils.names import VIEWS

SIZES = {"train": 24, "validation": 16, "test": 16}
TASKS = {"hf_diagnosis": "diagnosis", "hf_risk": "prognosis"}


def invented_patient(name: str, generator: np.random.Generator) -> dict:
    """One prepared row; heart failure shows in every modality, and some patients lack one."""
    sick = bool(generator.random() < 0.5)
    lacking = generator.choice(["nothing", "labs", "ecg", "echo"], p=[0.7, 0.1, 0.1, 0.1])
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
        "labs": "" if lacking == "labs" else json.dumps({"NTproBNP": 5000.0 if sick else 90.0, "age": 70.0}),
        "ecg": ecg[:0] if lacking == "ecg" else ecg,
        "ecg_mask": [lacking != "ecg"] * 12,
        "clips": clips[:0] if lacking == "echo" else clips,
        "clip_views": [] if lacking == "echo" else sorted(views.tolist()),
        "clip_frames": [] if lacking == "echo" else [16, 16],
        "label_hf_diagnosis": int(sick),
        "time_hf_risk": None if sick else float(generator.uniform(30, 300 if event else 900)),
        "event_hf_risk": None if sick else event,
    }


@pytest.fixture(scope="session")
def prepared_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory as `tgmm prepare` leaves it."""
    directory = tmp_path_factory.mktemp("prepared")
    image_processor = EchoImageProcessor(size=64, num_frames=16)
    features = AdmissionPreparer(EcgFeatureExtractor(), image_processor, directory, TASKS).features
    generator = np.random.default_rng(0)
    for split, size in SIZES.items():
        (directory / split).mkdir()
        with ArrowWriter(features=features, path=str(directory / split / "00000.arrow")) as writer:
            for number in range(size):
                writer.write(features.encode_example(invented_patient(f"{split}{number}", generator)))
            writer.finalize()
    record = {"data_hash": "invented", "geometry": {"image_size": 64, "num_frames": 16}}
    (directory / "prepare.json").write_text(json.dumps(record))
    return directory
