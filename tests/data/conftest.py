"""A small cohort in real file formats, and the processor for it."""

from pathlib import Path
from typing import Any

import pytest
from cohort_files import cohort_rows, small_config, small_processor, write_clip, write_ecg, write_table

from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.data.prepare import prepare
from tgmm_hf.processing_tgmm import TgmmProcessor


@pytest.fixture(scope="session")
def config() -> TgmmConfig:
    return small_config()


@pytest.fixture(scope="session")
def processor(config: TgmmConfig) -> TgmmProcessor:
    return small_processor(config)


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
    write_table(root / "cohort.csv", rows)
    return root


@pytest.fixture(scope="session")
def prepared(
    cohort: Path, processor: TgmmProcessor, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """Directory of the prepared cohort, and its summary."""
    out = tmp_path_factory.mktemp("prepared") / "out"
    return out, prepare(cohort / "cohort.csv", out, processor)
