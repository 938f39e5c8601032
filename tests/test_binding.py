"""A model and its processor that were not saved together are named in every prediction, or refused."""

import json
import logging
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import random_batch, smallest_model, tiny_tokenizer
from transformers import Trainer, TrainingArguments

from tgmm_hf import TgmmForSequenceClassification, TgmmModel, TgmmProcessor, default_processor
from tgmm_hf.data.prediction import load_pipeline
from tgmm_hf.inputs.processor_fingerprint import processor_fingerprint
from tgmm_hf.layers.weights_fingerprint import changed_parts, weights_fingerprint
from tgmm_hf.training.saving import save_repository
from tgmm_hf.utils.errors import TgmmError

PATIENT = {"labs": {"NTproBNP": 5210, "age": 71}}
WEIGHT = "labs_encoder.encoder.layer.0.attention.self.query.weight"
LABELS = {"hf_diagnosis": {"label": torch.tensor([0, 1, 0, 1])}}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = smallest_model(seed=3)
    save_repository(model, default_processor(model.config, tiny_tokenizer()), tmp_path / "model")
    return tmp_path / "model"


def codes(directory: Path) -> list[str]:
    return [check["code"] for check in load_pipeline(str(directory))(PATIENT)["checks"]]


def edit(path: Path, **changes: Any) -> None:
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | changes))


def edit_weights(directory: Path, change: Any) -> None:
    weights = load_file(directory / "model.safetensors")
    save_file({name: change(name, value).contiguous() for name, value in weights.items()},
              directory / "model.safetensors", {"format": "pt"})  # fmt: skip


def test_what_was_saved_together_has_no_check_and_names_itself(saved: Path):
    answer = load_pipeline(str(saved))(PATIENT)
    assert answer["checks"] == [] and not [note for note in answer["notes"] if note.startswith(("model", "processor"))]
    config = json.loads((saved / "config.json").read_text())
    assert answer["model_fingerprint"] == config["weights_fingerprint"]["id"]
    assert answer["processor_fingerprint"].startswith("sha256:")


def test_a_transposed_weight_is_found(saved: Path):
    edit_weights(saved, lambda name, value: value.T if name == WEIGHT else value)
    assert codes(saved) == ["model_weights_changed"]


@pytest.mark.parametrize("setting", ["candidates", "question", "hidden_act"])
def test_a_changed_setting_of_the_model_is_named(saved: Path, setting: str):
    path = saved / "config.json"
    config = json.loads(path.read_text())
    if setting == "hidden_act":
        config["labs_config"]["hidden_act"] = "relu"
    elif setting == "candidates":
        config["tasks"]["hf_diagnosis"]["candidates"].reverse()
    else:
        config["tasks"]["hf_diagnosis"]["question"] += " now"
    path.write_text(json.dumps(config))
    assert codes(saved) == ["model_settings_changed"]
    pipe = load_pipeline(str(saved), strictness="refuse")
    with pytest.raises(TgmmError, match="configuration"):
        pipe(PATIENT)


def test_figures_that_were_fitted_on_patients_and_then_edited_are_named(tmp_path: Path):
    model = smallest_model(seed=3)
    model.config.tasks["hf_diagnosis"]["thresholds"] = {"labs": {"value": 0.4}}
    save_repository(model, default_processor(model.config, tiny_tokenizer()), tmp_path / "model")
    assert codes(tmp_path / "model") == []
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["tasks"]["hf_diagnosis"]["thresholds"]["labs"]["value"] = 0.05
    edit(tmp_path / "model" / "config.json", **config)
    assert codes(tmp_path / "model") == ["model_settings_changed"]


def test_exchanged_layers_and_a_scaled_weight_are_found(saved: Path):
    second = WEIGHT.replace("layer.0", "layer.1")
    weights = load_file(saved / "model.safetensors")
    pairs = {WEIGHT: weights[second], second: weights[WEIGHT]}
    edit_weights(saved, lambda name, value: pairs.get(name, value))
    assert codes(saved) == ["model_weights_changed"]
    edit_weights(saved, lambda name, value: 1.5 * weights[name] if name == WEIGHT else weights[name])
    assert codes(saved) == ["model_weights_changed"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"feature_extractor": {"sampling_rate": 500}}, "feature_extractor.sampling_rate"),
        ({"image_processor": {"image_mean": [0.1, 0.1, 0.1]}}, "image_processor.image_mean"),
        ({"labs_flags": True}, "labs_flags"),
    ],
)
def test_a_changed_setting_of_the_processor_is_named(saved: Path, change: dict, named: str):
    path = saved / "processor_config.json"
    settings = json.loads(path.read_text())
    for key, value in change.items():
        settings[key] = {**settings[key], **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(settings))
    (check,) = load_pipeline(str(saved))(PATIENT)["checks"]
    assert check["code"] == "model_processor_mismatch" and named in check["text"]


def test_another_vocabulary_is_found(saved: Path):
    path = saved / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["heart"], vocabulary["failure"] = vocabulary["failure"], vocabulary["heart"]
    path.write_text(json.dumps(content))
    assert codes(saved) == ["model_processor_mismatch"]


def test_a_strict_run_refuses_and_a_warning_comes_once(saved: Path, caplog: Any, monkeypatch: Any):
    edit(saved / "processor_config.json", labs_flags=True)
    pipe = load_pipeline(str(saved))
    monkeypatch.setattr(logging.getLogger("tgmm_hf"), "propagate", True)
    with caplog.at_level(logging.WARNING):
        assert len(pipe([PATIENT, PATIENT], batch_size=1)) == 2
    assert sum("labs_flags" in record.getMessage() for record in caplog.records) <= 1
    pipe.processor.default_strictness = "refuse"
    with pytest.raises(TgmmError, match="labs_flags"):
        pipe(PATIENT)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_cast_and_shards_are_no_change(saved: Path, tmp_path: Path, dtype: torch.dtype):
    model = TgmmModel.from_pretrained(saved, dtype=dtype)
    processor = TgmmProcessor.from_pretrained(saved)
    model.save_pretrained(tmp_path / "cast", max_shard_size="100KB")
    processor.save_pretrained(tmp_path / "cast")
    assert len(list((tmp_path / "cast").glob("*.safetensors"))) > 1
    assert codes(tmp_path / "cast") == []
    # A cast that did not pass through save_pretrained.
    edit_weights(saved, lambda name, value: value if "standardise" in name else value.to(dtype))
    assert codes(saved) == []
    # A cast hides no transposed weight.
    edit_weights(saved, lambda name, value: value.T if name == WEIGHT else value)
    assert codes(saved) == ["model_weights_changed"]


def test_fine_tuning_with_the_trainer_and_saving_again_is_no_alarm(saved: Path, tmp_path: Path):
    model = TgmmForSequenceClassification.from_pretrained(saved)
    batch = random_batch(model.config)
    rows = [{name: value[i] for name, value in batch.items()} | {"labels": i % 2} for i in range(4)]
    arguments = TrainingArguments(
        tmp_path / "run", max_steps=1, learning_rate=1e-3, use_cpu=True, report_to="none", remove_unused_columns=False
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=rows)
    trainer.train()
    trainer.save_model(tmp_path / "tuned")
    TgmmProcessor.from_pretrained(saved).save_pretrained(tmp_path / "tuned")
    before, after = (json.loads((path / "config.json").read_text()) for path in (saved, tmp_path / "tuned"))
    assert before["weights_fingerprint"]["id"] != after["weights_fingerprint"]["id"]
    assert codes(tmp_path / "tuned") == []


def test_a_processor_that_was_changed_for_further_training_is_a_note(saved: Path, tmp_path: Path):
    model, processor = TgmmModel.from_pretrained(saved), TgmmProcessor.from_pretrained(saved)
    with torch.no_grad():
        model.labs_encoder.get_input_embeddings().weight.mul_(1.1)
    processor.labs_flags = True
    model.save_pretrained(tmp_path / "tuned")
    processor.save_pretrained(tmp_path / "tuned")
    answer = load_pipeline(str(tmp_path / "tuned"))(PATIENT)
    assert answer["checks"] == [] and any("labs_flags" in note for note in answer["notes"])
    save_repository(model, processor, tmp_path / "tuned")
    assert not any("labs_flags" in note for note in load_pipeline(str(tmp_path / "tuned"))(PATIENT)["notes"])


def test_a_model_without_fingerprint_gives_no_more_than_a_note(saved: Path):
    edit(saved / "config.json", weights_fingerprint=None, processor_fingerprint=None)
    answer = load_pipeline(str(saved))(PATIENT)
    assert answer["checks"] == [] and len([note for note in answer["notes"] if note.startswith("model")]) == 1
    assert answer["model_fingerprint"].startswith("sha256:")


def test_training_in_memory_is_noticed_without_loading_again(saved: Path):
    pipe = load_pipeline(str(saved))
    before = pipe(PATIENT)
    model = pipe.model.train()
    model(**random_batch(model.config), labels=LABELS).loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    after = pipe(PATIENT)
    assert before["checks"] == [] and [check["code"] for check in after["checks"]] == ["model_weights_changed"]
    assert before["model_fingerprint"] != after["model_fingerprint"]


def test_an_adapter_is_named_and_is_no_change_of_the_base(saved: Path):
    pipe = load_pipeline(str(saved))
    plain = pipe(PATIENT)["model_fingerprint"]
    pipe.model = peft.get_peft_model(pipe.model, peft.LoraConfig(target_modules=r".*labs_encoder.*query"))
    answer = pipe(PATIENT)
    assert answer["checks"] == [] and answer["model_fingerprint"].startswith(f"{plain}+adapter:")


def test_a_chosen_threshold_is_a_note(saved: Path):
    answer = load_pipeline(str(saved), view_threshold=0.5)(PATIENT)
    assert answer["checks"] == [] and any("view_threshold" in note for note in answer["notes"])


def test_a_quantised_model_is_not_compared(saved: Path):
    pipe = load_pipeline(str(saved))
    pipe.model = torch.ao.quantization.quantize_dynamic(pipe.model, {torch.nn.Linear}, dtype=torch.qint8)
    answer = pipe(PATIENT)
    assert answer["checks"] == [] and any("quantised" in note for note in answer["notes"])


def test_both_classes_have_one_fingerprint(saved: Path):
    classifier = TgmmForSequenceClassification.from_pretrained(saved)
    assert weights_fingerprint(classifier) == weights_fingerprint(TgmmModel.from_pretrained(saved))


def test_one_small_step_is_found_in_float32():
    model = smallest_model()
    before = weights_fingerprint(model)
    model.train()(**random_batch(model.config), labels=LABELS).loss.backward()
    torch.optim.AdamW(model.parameters(), lr=1e-5).step()
    assert "labs_encoder" in changed_parts(model, before, weights_fingerprint(model))


def test_a_new_setting_of_a_later_version_is_no_difference(saved: Path):
    config = json.loads((saved / "config.json").read_text())
    del config["processor_fingerprint"]["settings"]["feature_extractor.max_gap_seconds"]
    (saved / "config.json").write_text(json.dumps(config))
    assert codes(saved) == []


def test_strictness_shapes_no_input(saved: Path):
    processor = TgmmProcessor.from_pretrained(saved)
    before = processor_fingerprint(processor)
    processor.default_strictness = "refuse"
    assert processor_fingerprint(processor) == before
