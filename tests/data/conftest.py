"""A small cohort in real file formats, and the processor for it."""

from pathlib import Path

import pytest
from cohort_files import FRAMES, SIZE, cohort_rows, write_clip, write_ecg, write_manifest

from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.data.tokenizer import task_texts, train_tokenizer
from tgmm_hf.processing_tgmm import TgmmProcessor, default_processor


@pytest.fixture(scope="session")
def config() -> TgmmConfig:
    return TgmmConfig.tiny(echo_config={"image_size": SIZE, "num_frames": FRAMES})


@pytest.fixture(scope="session")
def processor(config: TgmmConfig) -> TgmmProcessor:
    words = "Creatinine NTproBNP medical history of the patient is hypertension, diabetes; pg/mL"
    return default_processor(config, train_tokenizer([words, words, *task_texts(config.tasks)]))


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with the files of 10 patients and `cohort.csv`."""
    root = tmp_path_factory.mktemp("cohort")
    rows = cohort_rows(10)
    for number, row in enumerate(rows):
        if row["ecg_path"]:
            write_ecg(root / row["ecg_path"], number)
        for path in filter(None, row["echo_paths"].split(";")):
            write_clip(root / path, number)
    write_manifest(root / "cohort.csv", rows)
    return root
