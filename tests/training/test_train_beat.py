"""Training of Beat: windows of recordings, a falling loss, stopping and going on, and what is saved."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from command_line import run as run_command
from transformers import AutoFeatureExtractor, AutoModel

from tgmm_hf import BeatConfig, BeatModel
from tgmm_hf.data.instructions import read_instructions
from tgmm_hf.data.processed_ecgs import ProcessedArrays
from tgmm_hf.training.base_trainer import BaseTrainer
from tgmm_hf.training.beat_arguments import BeatRunArguments
from tgmm_hf.training.beat_data import RecordingRows, WindowCollator, recording_splits, recordings_of
from tgmm_hf.training.settings_files import parse_dataclass
from tgmm_hf.training.train_beat import train_beat, validate_beat
from tgmm_hf.utils.errors import TgmmError

SMALL = {"seq_length": 500, "num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 128}
SMALL |= {"num_attention_heads": 2, "attention_head_size": 32, "codebook_size": 16}


def settings(file: Path, output: Path, **sections: Any) -> dict[str, Any]:
    """Settings of a training that takes seconds. `sections` replace single settings."""
    whole: dict[str, Any] = {
        "output": str(output),
        "data": {"file": str(file)},
        "model": {"overrides": SMALL},
        "optimisation": {"epochs": 4, "batch_size": 4, "learning_rate": 2e-3},
    }
    return {
        name: {**value, **sections.get(name, {})} if isinstance(value, dict) else value for name, value in whole.items()
    }


def train(content: dict[str, Any]) -> dict[str, Any]:
    return train_beat(parse_dataclass(BeatRunArguments, content))


@pytest.fixture(scope="module")
def trained(reporter_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    output = tmp_path_factory.mktemp("beat") / "model"
    return output, train(settings(reporter_file, output))


def test_a_window_is_scaled_by_itself_and_the_second_after_it_in_the_same_way():
    config = BeatConfig(seq_length=1000)
    recording = np.random.default_rng(0).normal(3, 2, size=(12, 2500)).astype(np.float32)
    batch = WindowCollator(config, training=False)([{"recording": recording}])
    start = (2500 - 1250) // 2
    seen, after = recording[:, start : start + 1000], recording[:, start + 1000 : start + 1250]
    mean, deviation = seen.mean(1, keepdims=True), seen.std(1, keepdims=True)
    np.testing.assert_allclose(batch["input_values"][0], (seen - mean) / deviation, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(batch["next_values"][0], (after - mean) / deviation, rtol=1e-4, atol=1e-5)


def test_a_lead_that_hardly_moves_does_not_make_the_second_after_it_large():
    recording = np.ones((12, 2500), dtype=np.float32)
    recording[:, 1700:] = 2
    batch = WindowCollator(BeatConfig(seq_length=1000), training=False)([{"recording": recording}])
    assert float(batch["input_values"].abs().max()) == 0 and 1 < float(batch["next_values"].max()) <= 20


def test_places_are_drawn_in_training_from_the_seed_and_reach_both_ends():
    config = BeatConfig(seq_length=1000)
    rows = [{"recording": np.repeat(np.arange(1252, dtype=np.float32)[None], 12, 0) ** 2}] * 200
    first, again, third = (WindowCollator(config, True, seed)(rows)["next_values"] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, third)
    assert len(torch.unique(first[:, 0, 0])) == 3  # a window and the second after it fit at three places


def test_a_recording_of_several_rows_counts_once_and_refused_ones_are_left_out(reporter_file: Path):
    rows = list(read_instructions(reporter_file, "train"))
    assert recordings_of([*rows, *rows[:3]]) == rows
    rows += list(read_instructions(reporter_file, "validation"))
    values = np.zeros((len(rows), 12, 2500), np.float16)
    splits = recording_splits(rows, ProcessedArrays(values, {1: "no beat"}))
    assert splits["train"].numbers == [0, *range(2, 24)] and len(splits["validation"]) == 8
    with pytest.raises(TgmmError, match="none of the 8 recordings"):
        recording_splits(rows, ProcessedArrays(values, dict.fromkeys(range(24, 32), "no beat")))


def test_the_loss_falls_and_the_record_says_what_was_trained(trained):
    output, record = trained
    losses = [line["eval_loss"] for line in record["history"] if "eval_loss" in line]
    assert len(losses) == 4 and losses[-1] < losses[0]
    lines = [line for line in record["history"] if "reconstruction_loss" in line]
    assert lines and all({"prediction_loss", "quantization_loss"} <= set(line) for line in lines)
    assert record == json.loads((output / "run.json").read_text())
    assert record["run"]["family"] == "beat" and record["recordings"] == {"train": 24, "validation": 8}
    assert "synthetic/p0" in json.loads((Path(f"{output}-training") / "patients.json").read_text())["trained"]


def test_the_saved_model_reads_files_with_its_extractor(trained, reporter_file: Path):
    output, record = trained
    model = AutoModel.from_pretrained(output)
    extractor = AutoFeatureExtractor.from_pretrained(output)
    ecg = next(iter(read_instructions(reporter_file, "test"))).ecg
    windows = extractor(ecg, return_tensors="pt")["input_values"]
    assert windows.shape == (1, 3, 12, 500)
    codes = model.encode(windows[0])
    assert codes.shape == (windows.shape[1], 10, 2)
    assert model.decode(codes).shape == windows[0].shape
    assert record["parameters"] == sum(p.numel() for p in model.parameters())


def test_validation_figures_equal_a_pass_over_all_and_leave_the_codebooks_alone(trained):
    model = BeatModel.from_pretrained(trained[0]).train()
    ecgs = ProcessedArrays(np.random.default_rng(0).normal(size=(5, 12, 2500)).astype(np.float16), {})
    rows, collator = RecordingRows(range(5), ecgs), WindowCollator(model.config, training=False)
    before = model.quantizer.codebook(0).vectors.clone()
    figures = validate_beat(model, rows, 2, collator)
    assert model.training and torch.equal(before, model.quantizer.codebook(0).vectors)
    with torch.no_grad():
        output = model.eval()(**collator([rows[index] for index in range(5)]))
    assert figures["loss"] == pytest.approx(float(output.loss), rel=1e-5)
    assert figures["reconstruction_loss"] == pytest.approx(float(output.reconstruction_loss), rel=1e-5)
    usage = model.code_usage(output.codes)
    assert [figures["core_codes_used"], figures["residual_codes_used"]] == pytest.approx(usage.tolist())


def test_a_stopped_run_goes_on_and_ends_as_if_it_had_not_stopped(trained, reporter_file: Path, tmp_path, monkeypatch):
    save, saved = BaseTrainer._save_checkpoint, []

    def stop(self, *args: Any) -> None:
        save(self, *args)
        saved.append(1)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(BaseTrainer, "_save_checkpoint", stop)
    with pytest.raises(KeyboardInterrupt):
        train(settings(reporter_file, tmp_path / "model"))
    record = train(settings(reporter_file, tmp_path / "model"))
    assert record["resumed_from"] == "checkpoint-12"
    whole, resumed = (BeatModel.from_pretrained(directory) for directory in (trained[0], tmp_path / "model"))
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], weight, rtol=1e-5, atol=1e-6)


def test_a_finished_run_stays_and_a_checkpoint_is_trained_further(trained, reporter_file: Path, tmp_path):
    output, record = trained
    assert train(settings(reporter_file, output)) == record
    with pytest.raises(ValueError, match="learning_rate was 0.002, now 0.1"):
        train(settings(reporter_file, output, optimisation={"learning_rate": 0.1}))
    model = {"checkpoint": str(output), "overrides": {}}
    further = train(settings(reporter_file, tmp_path / "model", model=model, optimisation={"epochs": 1}))
    first = next(line["eval_loss"] for line in record["history"] if "eval_loss" in line)
    assert further["kept_metric"]["loss"] < first


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": {"seconds": 2}}, "500 samples.*has 750.*3 or more"),
        ({"data": {"seconds": 0}}, "data.seconds must be above 0"),
        ({"model": {"checkpoint": "elsewhere"}}, "leave it out, or model.overrides"),
        ({"optimisation": {"epochs": 0}}, "epochs must be above 0"),
        ({"model": {"overrides": {"sequence": 1}}}, "sequence"),
    ],
)
def test_wrong_settings_are_refused(reporter_file: Path, tmp_path: Path, changes, words):
    with pytest.raises((ValueError, TypeError), match=words):
        train(settings(reporter_file, tmp_path / "model", **changes))


@pytest.mark.parametrize("command", ["train", "pretrain"])
def test_both_commands_take_the_file(reporter_file: Path, tmp_path: Path, command: str):
    content = {"family": "beat", **settings(reporter_file, tmp_path / "model", optimisation={"epochs": 1})}
    (tmp_path / "beat.yaml").write_text(yaml.safe_dump(content))
    assert run_command(command, tmp_path / "beat.yaml") == 0
    assert (tmp_path / "model" / "model.safetensors").is_file()
