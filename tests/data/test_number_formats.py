"""A saved model answers in bfloat16 and int8 nearly as in float32, and an evaluation says in which format."""

from pathlib import Path

import pytest
import torch
from cohort_files import small_config, small_processor

from tgmm_hf.data.predicted_table import describe_run
from tgmm_hf.data.prediction import load_model, load_pipeline, predict
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.training.saving import save_repository

LABS = {"id": "a", "labs": {"NTproBNP": 5210, "Creatinine": 1.4, "age": 71}}
LARGEST_CHANGE = 0.02
"""Of a probability. The weights are random, so the probabilities are near 1/2: a small change says that it works."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = small_config()
    processor = small_processor(config)
    config.tokenize_tasks(processor.tokenizer)
    torch.manual_seed(0)
    model = TgmmModel(config)
    model.initialise_texts()
    directory = tmp_path_factory.mktemp("saved") / "model"
    save_repository(model.eval(), processor, directory)
    return directory


@pytest.fixture(scope="module")
def expected(saved: Path):
    return next(predict(load_pipeline(str(saved)), [LABS]))


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_a_prediction_changes_little_and_keeps_what_was_fitted(saved: Path, expected, dtype: str):
    pipe = load_pipeline(str(saved), dtype=dtype)
    answer = next(predict(pipe, [LABS]))
    before, now = (list(one["hf_diagnosis"]["probabilities"].values()) for one in (expected, answer))
    assert max(abs(a - b) for a, b in zip(before, now, strict=True)) < LARGEST_CHANGE
    assert before != now  # else it was float32
    assert not answer["checks"]  # a number format is no change of the weights
    assert describe_run(pipe, [LABS], None)["dtype"] == dtype
    assert any("coverage" in note for note in answer["notes"])
    assert not any("coverage" in note for note in expected["notes"])


def test_the_running_statistics_stay_in_float32(saved: Path):
    model = load_model(str(saved), "bfloat16")
    names = {name: value.dtype for name, value in model.state_dict().items()}
    assert {kind for name, kind in names.items() if "standardise" in name} <= {torch.float32, torch.int64}
    assert names["echo_encoder.embeddings.patch_embedding.weight"] == torch.bfloat16


def test_linear_layers_are_smaller_in_int8(saved: Path):
    model = load_model(str(saved), "int8")
    assert not any(type(module) is torch.nn.Linear for module in model.ecg_encoder.modules())


def test_another_format_is_refused(saved: Path):
    with pytest.raises(ValueError, match="'int4' is not known; known are float32"):
        load_model(str(saved), "int4")
