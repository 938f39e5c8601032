"""A page with a small model with random weights, which answers on the loopback interface."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from cohort_files import small_config, small_processor, write_clip, write_ecg

from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.pipeline_tgmm import TgmmCardiacPipeline

NAME = "Doe-Jane-19470311"
"""Name of a patient that stands in file names and values. It must not be in any log."""


@pytest.fixture(scope="session")
def pipe() -> TgmmCardiacPipeline:
    torch.manual_seed(0)
    config = small_config()
    processor = small_processor(config)
    config.tokenize_tasks(processor.tokenizer)
    model = TgmmModel(config)
    model.initialise_texts()
    return TgmmCardiacPipeline(model=model.eval(), processor=processor)


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Files of one patient as a user has them."""
    folder = tmp_path_factory.mktemp("inputs")
    write_ecg(folder / NAME, 3)
    write_ecg(folder / "later", 4)
    write_clip(folder / f"{NAME}_a4c.dcm", 5)
    labs = folder / "labs.json"
    labs.write_text('{"age": 71, "Creatinine": [88, "umol/L"], "NTproBNP": 900}')
    return SimpleNamespace(
        folder=folder,
        labs=labs,
        ecg=[folder / f"{NAME}.hea", folder / f"{NAME}.dat"],
        later=[folder / "later.hea", folder / "later.dat"],
        clip=folder / f"{NAME}_a4c.dcm",
    )


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def page_of(pipe: TgmmCardiacPipeline, **options: Any) -> Iterator[SimpleNamespace]:
    """Run a page; `.url`, and `.files`, its directories."""
    from tgmm_hf.app.private_files import private_files
    from tgmm_hf.app.server import running_page

    before = dict(os.environ)
    with private_files() as files, running_page(pipe, files, port=free_port(), **options) as page:
        yield SimpleNamespace(url=page.local_url, files=files, blocks=page)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def page(pipe: TgmmCardiacPipeline) -> Iterator[SimpleNamespace]:
    pytest.importorskip("gradio")
    with page_of(pipe) as running:
        yield running


def kept_files(files: Any) -> list[Path]:
    """Every file below the directories of a page that holds something."""
    return [path for path in files.root.rglob("*") if path.is_file() and path.name != "lock" and path.stat().st_size]
