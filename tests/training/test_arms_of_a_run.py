"""A training with a labs encoder that reads numbers, and with the ResNet: columns come from the training rows."""

import json
import logging

import pytest
import torch
from prepared_data import SMALL_ECHO, write_prepared_data

from tgmm_hf.data.collator import TgmmCollator
from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.training.arguments import parse_arguments
from tgmm_hf.training.saving import save_repository
from tgmm_hf.training.starting_model import build

CELLS = {"labs_config": {"model_type": "lab_cells", "hidden_size": 32, "num_attention_heads": 4}}
RESNET = {"ecg_config": {"model_type": "ecg_resnet", "stage_depths": [1, 1], "stage_widths": [4, 8]}}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return load_prepared(write_prepared_data(tmp_path_factory.mktemp("data")))


def settings(tmp_path, **model):
    return parse_arguments(
        {
            "output": str(tmp_path / "model"),
            "data": {"directory": "unused"},
            "tasks": {"hf_diagnosis": None},
            "model": model,
        }
    )


@pytest.mark.parametrize("arm", [CELLS, {"labs_numbers": True}], ids=["cells", "numbers"])
def test_columns_and_scales_are_those_of_the_training_rows(arm, prepared, tmp_path):
    overrides = {**arm, **RESNET, "echo_config": SMALL_ECHO}
    model, processor = build(settings(tmp_path, size="tiny", overrides=overrides), prepared)
    names = [scale["column"] for scale in model.config.labs_scales]
    assert names == ["NTproBNP", "age"] == processor.labs_columns and processor.labs_scales == model.config.labs_scales
    labs = [json.loads(row) for row in prepared["train"].with_format(None)["labs"] if row]
    mean = torch.tensor([row["age"] for row in labs]).asinh().mean()
    assert model.config.labs_scales[1]["mean"] == pytest.approx(float(mean), abs=1e-4)
    batch = TgmmCollator(processor, model.config, training=True)([prepared["train"][i] for i in range(6)])
    output = model.train()(**{name: batch[name] for name in batch if name != "id"}, task="hf_diagnosis")
    assert torch.isfinite(output.loss)


def test_further_columns_of_later_data_are_named_and_not_used(prepared, tmp_path, caplog):
    model, processor = build(settings(tmp_path, size="tiny", overrides={**CELLS, "echo_config": SMALL_ECHO}), prepared)
    save_repository(model, processor, tmp_path / "first")

    def with_zinc(row):
        return {"labs": json.dumps({**json.loads(row["labs"]), "zinc": 80.0}) if row["labs"] else ""}

    later = prepared["train"].with_format(None).map(with_zinc)
    with caplog.at_level(logging.WARNING):
        again, processor_again = build(
            settings(tmp_path, checkpoint=str(tmp_path / "first")), {"train": later, "validation": later}
        )
    assert "zinc" in caplog.text
    assert again.config.labs_scales == model.config.labs_scales == processor_again.labs_scales
    inputs = [TgmmCollator(each, again.config, training=False)([row]) for each, row in (
        (processor, prepared["train"][0]), (processor_again, later[0])
    )]  # fmt: skip
    assert torch.equal(inputs[0]["input_ids"], inputs[1]["input_ids"])
