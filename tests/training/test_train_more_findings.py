"""Training of MoRE for findings: which weights learn, unknown labels, the best epoch, stopping and going on."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from closeness import assert_same_training
from command_line import run as run_command
from finding_tables import write_labelled
from safetensors.torch import load_file
from tiny_more import SMALL_BLOCKS, tiny_more
from tiny_reporters import byte_tokenizer
from transformers import AutoModelForImageClassification, AutoProcessor

from tgmm_hf import MoreForClassification
from tgmm_hf.families.more.processing_more import MoreProcessor
from tgmm_hf.inputs.feature_extraction_more import MoreFeatureExtractor
from tgmm_hf.inputs.image_processing_xray import MoreImageProcessor
from tgmm_hf.training.base_trainer import BaseTrainer
from tgmm_hf.training.more_findings_arguments import MoreFindingsRunArguments
from tgmm_hf.training.saving import save_repository
from tgmm_hf.training.settings_files import parse_dataclass
from tgmm_hf.training.train_more_findings import starting_classifier, train_more_findings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with two blocks in each encoder, and a table of 40 patients."""
    folder = tmp_path_factory.mktemp("findings")
    text = {"model_type": "roberta", **SMALL_BLOCKS, "vocab_size": 300, "max_position_embeddings": 130}
    model = tiny_more(text_config=text, ecg_config={**SMALL_BLOCKS, "stem_size": 16})
    extractor = MoreFeatureExtractor(sampling_rate=100, num_samples=1000)
    processor = MoreProcessor(MoreImageProcessor(size=32), extractor, byte_tokenizer(), 120)
    save_repository(model, processor, folder / "model")
    write_labelled(folder, {"train": 24, "validation": 8, "test": 8})
    return folder


def settings(folder: Path, output: Path, **sections: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "output": str(output),
        "data": {"file": str(folder / "notes.csv"), "labels": ["left", "hidden"], "augment": False},
        "model": {"checkpoint": str(folder / "model"), "trained_blocks": 1},
        "optimisation": {"epochs": 5, "batch_size": 8, "learning_rate": 3e-3, "logging_steps": 2},
    }
    whole["optimisation"] |= {"early_stopping_patience": None}
    return {
        name: {**value, **sections.get(name, {})} if isinstance(value, dict) else value for name, value in whole.items()
    }


def parsed(content: dict[str, Any]) -> MoreFindingsRunArguments:
    return parse_dataclass(MoreFindingsRunArguments, content)


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    output = tmp_path_factory.mktemp("more") / "model"
    return output, train_more_findings(parsed(settings(folder, output, optimisation={"keep": "last"})))


def test_only_the_last_blocks_the_projections_and_the_new_layer_learn(trained, folder: Path):
    before = load_file(folder / "model" / "model.safetensors")
    torch.manual_seed(0)
    after = {name.removeprefix("more."): value for name, value in load_file(trained[0] / "model.safetensors").items()}
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    names = [f"{tower}_encoder.layers.1.attention.{part}_proj.weight" for tower in ("xray", "ecg") for part in "qkv"]
    assert {name for name in moved if "projection." not in name} == set(names)
    assert {name.split(".")[0] for name in moved if "projection." in name} == {"xray_projection", "ecg_projection"}
    assert set(after) - set(before) == {"classifier.weight", "classifier.bias"}
    run = parsed(settings(folder, trained[0]))
    torch.manual_seed(run.seed)
    start = starting_classifier(run)[0].classifier.weight
    assert not torch.allclose(after["classifier.weight"], start, atol=1e-3)  # the published code never trains it


def test_the_finding_is_learned_and_unknown_labels_are_counted(trained):
    record = trained[1]
    lines = [line for line in record["history"] if "eval_loss" in line]
    assert {"eval_auroc", "eval_auroc_left", "eval_auroc_hidden"} <= set(lines[-1])
    assert lines[-1]["eval_auroc_left"] > 0.85
    assert record["labels"]["train"]["left"]["unknown"] == 9
    assert record["rows"] == {"train": 24, "validation": 8}
    assert record["kept_metric"] == {"auroc": lines[-1]["eval_auroc"]}
    assert record == json.loads((trained[0] / "run.json").read_text())


def test_the_saved_model_names_the_findings_of_files(trained, folder: Path):
    model = AutoModelForImageClassification.from_pretrained(trained[0]).eval()
    processor = AutoProcessor.from_pretrained(trained[0])
    assert type(model) is MoreForClassification and model.config.id2label == {0: "left", 1: "hidden"}
    assert model.config.xray_config.drop_key == 0.2 and model.config.ecg_config.drop_key_schedule == "linear"
    with torch.no_grad():
        logits = model(**processor(xray=str(folder / "33.png"), return_tensors="pt")).logits
    assert logits.shape == (1, 2) and bool(logits.isfinite().all())


def test_frozen_batch_norms_keep_their_statistics_in_training(folder: Path):
    model, _ = starting_classifier(parsed(settings(folder, folder / "nowhere")))
    model.train()
    assert not model.more.ecg_encoder.embeddings.norm1.training and model.more.ecg_projection.norm1.training
    whole, _ = starting_classifier(parsed(settings(folder, folder / "nowhere", model={"trained_blocks": None})))
    assert whole.train().more.ecg_encoder.embeddings.norm1.training
    assert not any(weight.requires_grad for weight in whole.more.text_encoder.parameters())


def test_a_stopped_run_goes_on_to_the_same_weights(trained, folder: Path, tmp_path: Path, monkeypatch):
    output = tmp_path / "model"
    run = parsed(settings(folder, output, optimisation={"keep": "last"}))
    save, calls = BaseTrainer._save_checkpoint, []

    def save_and_stop(self, *arguments: Any) -> None:
        save(self, *arguments)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(BaseTrainer, "_save_checkpoint", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train_more_findings(run)
    monkeypatch.setattr(BaseTrainer, "_save_checkpoint", save)
    assert train_more_findings(run)["resumed_from"]
    found, expected = (load_file(path / "model.safetensors") for path in (output, trained[0]))
    assert_same_training(found, expected)


def test_the_command_keeps_the_epoch_with_the_best_auroc_and_stops_early(folder: Path, tmp_path: Path):
    content = settings(
        folder, tmp_path / "model", data={"augment": True}, optimisation={"epochs": 9, "early_stopping_patience": 1}
    )
    (tmp_path / "findings.yaml").write_text(yaml.safe_dump({"family": "more", "objective": "findings", **content}))
    assert run_command("train", tmp_path / "findings.yaml") == 0
    record = json.loads((tmp_path / "model" / "run.json").read_text())
    figures = [line["eval_auroc"] for line in record["history"] if "eval_auroc" in line]
    assert record["kept_metric"]["auroc"] == max(figures) and len(figures) < 9
    (tmp_path / "findings.yaml").write_text(yaml.safe_dump({"family": "more", "objective": "reports", **content}))
    assert run_command("train", tmp_path / "findings.yaml") == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": {"labels": ["left", "right"]}}, "label_right"),
        ({"data": {"labels": "left"}}, "must be a list"),
        ({"data": {"labels": ["left", 3]}}, "type str"),
        ({"data": {"labels": []}}, "one finding or more"),
        ({"data": {"labels": ["left", "left"]}}, "each once"),
        ({"model": {"trained_blocks": 3}}, "has 2 blocks"),
        ({"model": {"trained_blocks": -1}}, "0 or more"),
        ({"model": {"drop_key": 1.5}}, "drop_key"),
        ({"optimisation": {"epochs": 0}}, "above 0"),
        ({"optimisation": {"early_stopping_patience": 0}}, "1 or more"),
        ({"optimisation": {"early_stopping_patience": 2, "keep": "last"}}, "keep is last"),
    ],
)
def test_wrong_settings_are_refused(folder: Path, tmp_path: Path, changes, words):
    with pytest.raises((ValueError, TypeError), match=words):
        train_more_findings(parsed(settings(folder, tmp_path / "model", **changes)))


def test_a_validation_split_of_one_class_is_refused(folder: Path, tmp_path: Path):
    rows = (folder / "notes.csv").read_text().splitlines()
    header, *cells = [row.split(",") for row in rows]
    place = header.index("label_left")
    for row in cells:
        row[place] = "1" if "validation" in row else row[place]
    (folder / "one_class.csv").write_text("\n".join(",".join(row) for row in [header, *cells]))
    content = settings(folder, tmp_path / "model", data={"file": str(folder / "one_class.csv"), "labels": ["left"]})
    with pytest.raises(ValueError, match="validation split"):
        train_more_findings(parsed(content))
