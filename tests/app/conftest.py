"""A page with a small model with random weights, which answers on the loopback interface."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from cohort_files import small_config, small_processor, write_clip, write_ecg
from running_page import NAME, page_of

from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.pipeline_tgmm import TgmmCardiacPipeline


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


@pytest.fixture(scope="session")
def page(pipe: TgmmCardiacPipeline) -> Iterator[SimpleNamespace]:
    pytest.importorskip("gradio")
    with page_of(pipe) as running:
        yield running
