"""Training of MoRE: the table, stored inputs, a falling loss, stopping and going on, and what is saved."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from closeness import assert_close, assert_same_training
from command_line import run as run_command
from finding_tables import draw_finding, write_table
from heart_signal import make_heart
from input_files import write_wfdb
from safetensors.torch import load_file
from tiny_more import SMALL_BLOCKS
from transformers import AutoModel, AutoProcessor
from xray_files import draw_chest, write_picture, write_xray

from tgmm_hf import LEADS, MoreModel
from tgmm_hf.data.note_tables import read_note_table
from tgmm_hf.evaluation.evaluate_more import MoreEvaluationSettings, compute_more_evaluation
from tgmm_hf.training.base_trainer import BaseTrainer
from tgmm_hf.training.more_arguments import MoreDataArguments, MoreRunArguments
from tgmm_hf.training.more_augmentation import augment_ecg, augment_xray
from tgmm_hf.training.more_data import NoteCollator, split_rows, stored_inputs
from tgmm_hf.training.settings_files import parse_dataclass
from tgmm_hf.training.train_more import read_rows, starting_more, train_more, validate_more
from tgmm_hf.utils.errors import TgmmError

FINDINGS = ("clear lungs", "a large effusion", "a bright heart", "a pneumothorax")
MODEL = {
    "text_config": {"model_type": "bert", **SMALL_BLOCKS, "max_position_embeddings": 64},
    "vocab_size": 300,
    "overrides": {
        "xray_config": {**SMALL_BLOCKS, "image_size": 32, "patch_size": 8},
        "ecg_config": {**SMALL_BLOCKS, "stem_size": 16},
        "projection_dim": 16,
        "temperature": 0.1,
    },
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 patients for training and 8 for validation; some lack the X-ray or the ECG; one X-ray is of a hand."""
    directory = tmp_path_factory.mktemp("notes")
    rows = []
    for number in range(34):
        kind, split = number % 4, "train" if number < 24 else "validation" if number < 32 else "test"
        row = {"id": f"r{number}", "patient_id": f"p{number}", "split": split}
        write_picture(directory / f"{number}.png", draw_finding(kind, number))
        row |= {"xray": f"{number}.png", "xray_report": f"The X-ray shows {FINDINGS[kind]}."}
        if number % 3:
            (directory / str(number)).mkdir()
            write_wfdb(directory / str(number), make_heart(5000, 500, number), list(LEADS))
            row |= {"ecg": f"{number}/record", "ecg_report": f"Sinus rhythm, rate {60 + kind}."}
        rows.append(row)
    write_xray(directory / "hand.dcm", BodyPartExamined="HAND")
    rows[5]["xray"] = "hand.dcm"
    rows[6] |= {"xray": "0.png"}  # one X-ray in two rows
    return write_table(directory / "notes.csv", rows)


def settings(table: Path, output: Path, **sections: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "output": str(output),
        "data": {"file": str(table), "max_text_tokens": 64, "augment": False},
        "model": MODEL,
        "optimisation": {
            "epochs": 6,
            "batch_size": 12,
            "accumulation_steps": 1,
            "learning_rate": 3e-3,
            "logging_steps": 2,
        },
    }
    return {
        name: {**value, **sections.get(name, {})} if isinstance(value, dict) else value for name, value in whole.items()
    }


def parsed(content: dict[str, Any]) -> MoreRunArguments:
    return parse_dataclass(MoreRunArguments, content)


@pytest.fixture(scope="module")
def trained(table: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    output = tmp_path_factory.mktemp("more") / "model"
    return output, train_more(parsed(settings(table, output)))


def test_the_loss_falls_and_the_record_says_what_was_trained(trained):
    output, record = trained
    lines = [line for line in record["history"] if "eval_loss" in line]
    assert len(lines) == 6 and {"eval_lrap_xray", "eval_lrap_ecg"} <= set(lines[0])
    losses = [line["loss"] for line in record["history"] if "loss" in line]
    assert losses[-1] < 0.8 * losses[0]
    assert record["rows"] == {"train": 24, "validation": 8}
    assert record["run"]["family"] == "more" and record["parts"]["text_encoder"][0] > 0
    assert record == json.loads((output / "run.json").read_text())
    assert any("temperature" in line for line in record["history"])


@pytest.mark.slow
def test_notes_of_new_patients_find_the_xrays_that_they_describe(tmp_path: Path):
    """Chance is about 0.13: one right X-ray among it and the 30 with another finding."""
    rows = []
    for number in range(200):
        kind = number % 4
        write_picture(tmp_path / f"{number}.png", draw_finding(kind, number))
        row = {"id": f"r{number}", "patient_id": f"p{number}", "split": "train" if number < 160 else "validation"}
        rows.append({**row, "xray": f"{number}.png", "report": f"The X-ray shows {FINDINGS[kind]}."})
    content = settings(write_table(tmp_path / "notes.csv", rows), tmp_path / "model")
    content["optimisation"] |= {"epochs": 16, "batch_size": 32, "keep": "last"}
    history = train_more(parsed(content))["history"]
    assert [line["eval_lrap_xray"] for line in history if "eval_lrap_xray" in line][-1] > 0.9
    assert not any("eval_lrap_ecg" in line for line in history)  # nobody has an ECG


def test_refused_files_are_listed_without_their_paths(trained):
    content = (Path(f"{trained[0]}-training") / "refused.csv").read_text()
    rows = list(csv.DictReader(content.splitlines()))
    assert [(row["id"], row["split"], row["item"]) for row in rows] == [("r5", "train", "xray")]
    assert "HAND" in rows[0]["reason"] and "hand.dcm" not in content


def test_the_saved_model_reads_files_with_its_processor(trained, table: Path):
    model, processor = AutoModel.from_pretrained(trained[0]).eval(), AutoProcessor.from_pretrained(trained[0])
    row = read_note_table(table)[25]
    batch = processor(xray=row.xray, ecg=row.ecg, text=row.text, return_tensors="pt")
    with torch.no_grad():
        output = model(**batch)
    assert type(model) is MoreModel and output.logits_per_xray.shape == output.logits_per_ecg.shape == (1, 1)


def test_the_test_split_of_the_training_is_evaluated_and_the_train_split_is_refused(trained, table: Path):
    model = str(trained[0])
    metrics, _ = compute_more_evaluation(model, table, MoreEvaluationSettings(bootstrap=100, progress=False))
    assert metrics["inputs"] == {"text": 2, "xray": 2, "ecg": 1} and metrics["training"]["seed"] == 0
    assert not [warning for warning in metrics["warnings"] if "could not be checked" in warning]
    assert metrics["checks"] == [] and metrics["retrieval"]["text->xray"]["n"] == 2
    with pytest.raises(ValueError, match="trained on"):
        compute_more_evaluation(model, table, MoreEvaluationSettings("train", progress=False))


def test_stored_inputs_make_the_batches_of_the_processor(trained, table: Path, tmp_path: Path):
    run = parsed(settings(table, tmp_path / "model"))
    run.training_directory.mkdir()
    rows = read_rows(run)
    processor = AutoProcessor.from_pretrained(trained[0])
    splits = split_rows(rows, inputs := stored_inputs(run, rows, processor, should_save=True))
    assert len(inputs.xrays.values) == 31 and len(inputs.xray_number) == 30  # 32 rows share one file; one is refused
    found = NoteCollator(processor, training=False)([splits["train"][index] for index in (0, 1, 5)])
    given = [splits["train"].rows[index] for index in (0, 1, 5)]
    expected = processor(
        xray=[given[0].xray, given[1].xray, None], ecg=[None, given[1].ecg, given[2].ecg],
        text=[row.text for row in given], return_tensors="pt",
    )  # fmt: skip
    assert found["xray_mask"].tolist() == [True, True, False] and found["ecg_mask"].tolist() == [False, True, True]
    for name, value in expected.items():
        assert_close(found[name], value, atol=1e-3)  # ECGs are stored in half precision


def test_validation_does_not_depend_on_the_batch_size(trained, table: Path, tmp_path: Path):
    run = parsed(settings(table, tmp_path / "model"))
    run.training_directory.mkdir()
    rows, processor = read_rows(run), AutoProcessor.from_pretrained(trained[0])
    part = split_rows(rows, stored_inputs(run, rows, processor, should_save=True))["validation"]
    model = MoreModel.from_pretrained(trained[0]).train()
    collator = NoteCollator(processor, training=False)
    one, three = (validate_more(model, part, size, collator) for size in (8, 3))
    assert model.training
    assert_close(one, three, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        whole = model.eval()(**collator([part[index] for index in range(8)]), return_loss=True)
    assert one["loss"] == pytest.approx(whole.loss.item(), rel=1e-4)


def test_a_stopped_run_goes_on_to_the_same_weights(trained, table: Path, tmp_path: Path, monkeypatch):
    output = tmp_path / "model"
    run = parsed(settings(table, output))
    save, calls = BaseTrainer._save_checkpoint, []

    def save_and_stop(self, *arguments: Any) -> None:
        save(self, *arguments)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(BaseTrainer, "_save_checkpoint", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train_more(run)
    monkeypatch.setattr(BaseTrainer, "_save_checkpoint", save)
    assert train_more(run)["resumed_from"]
    found, expected = (load_file(path / "model.safetensors") for path in (output, trained[0]))
    assert_same_training(found, expected)
    before = (output / "model.safetensors").stat().st_mtime_ns
    train_more(run)  # a finished run is not trained again
    assert (output / "model.safetensors").stat().st_mtime_ns == before


def test_the_command_takes_the_file_and_augments(table: Path, tmp_path: Path):
    content = {
        "family": "more",
        **settings(table, tmp_path / "model", data={"augment": True}, optimisation={"epochs": 1}),
    }
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(content))
    assert run_command("train", tmp_path / "more.yaml") == 0
    assert (tmp_path / "model" / "model.safetensors").is_file()
    further = settings(table, tmp_path / "further", optimisation={"epochs": 1})
    further["model"] = {"checkpoint": str(tmp_path / "model")}
    assert train_more(parsed(further))["kept_metric"]["loss"] > 0


# ---- random changes


def test_changes_of_an_xray_keep_its_sides():
    picture = draw_chest(224, 224)
    generator = np.random.default_rng(0)
    changed = [augment_xray(picture, generator) for _ in range(60)]
    assert all(each.shape == (224, 224) and each.dtype == np.uint8 for each in changed)
    assert sum(np.array_equal(each, picture) for each in changed) < 10
    ramp = np.repeat(np.arange(224, dtype=np.uint8)[None], 224, axis=0)
    for _ in range(60):
        columns = augment_xray(ramp, generator).astype(int).mean(0)
        assert columns[-1] >= columns[0]  # never mirrored


def test_a_crop_of_an_xray_shows_the_smallest_area_or_more(monkeypatch: pytest.MonkeyPatch):
    shown: list[float] = []
    resize = cv2.resize

    def note_size(crop: np.ndarray, *arguments: Any, **options: Any) -> np.ndarray:
        shown.append(crop.size / 224**2)
        return resize(crop, *arguments, **options)

    monkeypatch.setattr(cv2, "resize", note_size)
    generator, picture = np.random.default_rng(0), draw_chest(224, 224)
    for smallest in (0.2, 0.7):
        shown.clear()
        for _ in range(100):
            augment_xray(picture, generator, smallest)
        assert smallest - 0.01 < min(shown) < smallest + 0.1
    shown.clear()
    assert [augment_xray(picture, generator, 1).shape for _ in range(20)] == [(224, 224)] * 20 and not shown
    with pytest.raises(ValueError, match="smallest_area"):
        MoreDataArguments("notes.csv", smallest_area=0)


def test_changes_of_an_ecg_keep_the_leads_together():
    generator = np.random.default_rng(0)
    time = np.arange(1000.0)
    values = np.stack([time * (lead + 1) for lead in range(12)])
    changed = [augment_ecg(values, generator) for _ in range(60)]
    assert any(np.array_equal(each, values) for each in changed)
    assert sum(not np.array_equal(each, values) for each in changed) > 20
    for each in changed:
        assert each.shape == values.shape
        np.testing.assert_allclose(each, each[0] * np.arange(1, 13)[:, None], rtol=1e-6, atol=1e-6)


# ---- tables and settings that are refused


def test_wrong_tables_are_refused_without_quoting_cells(tmp_path: Path):
    good = {"id": "a", "patient_id": "Doe", "split": "train", "xray": "x.png", "report": "text"}
    wrong = [
        [{key: value for key, value in good.items() if key != "split"}],
        [{key: value for key, value in good.items() if key != "xray"}],
        [{**good, "xray_report": "b"}],
        [{key: value for key, value in good.items() if key != "report"}],
        [{**good, "split": "learning"}],
        [{**good, "id": ""}],
        [good, good],
        [good, {**good, "id": "b", "split": "test"}],
        [{**good, "xray": "../x.png"}],
        [{**good, "report": ""}, {**good, "id": "b", "patient_id": "c"}],
    ]
    for number, rows in enumerate(wrong):
        with pytest.raises(TgmmError) as error:
            read_note_table(write_table(tmp_path / f"{number}.csv", rows))
        assert "Doe" not in str(error.value)
    outside = read_note_table(tmp_path / "8.csv", allow_outside=True)
    assert outside[0].text == "text" and outside[0].ecg is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": {"checkpoint": "elsewhere"}}, "Name one"),
        ({"model": {"text_config": {}}}, "Name one"),
        ({"model": {"text_config": {"hidden_size": 32}}}, "model_type"),
        ({"model": {"overrides": {"projection": 1}}}, "projection"),
        ({"model": {"overrides": {"ecg_config": {"seq_length": 1003}}}}, "multiple of 10"),
        ({"data": {"max_text_tokens": 70}}, "takes 64"),
        ({"data": {"max_text_tokens": 2}}, "at least 3"),
        ({"optimisation": {"epochs": 0}}, "above 0"),
        ({"optimisation": {"batch_size": 100}}, "24 usable rows"),
    ],
)
def test_wrong_settings_are_refused(table: Path, tmp_path: Path, changes, words):
    with pytest.raises((ValueError, TypeError), match=words):
        train_more(parsed(settings(table, tmp_path / "model", **changes)))


def test_a_pretrained_text_encoder_is_trained_with_adapters(table: Path, tmp_path: Path):
    from tiny_reporters import byte_tokenizer
    from transformers import BertConfig, BertModel

    BertModel(BertConfig(vocab_size=300, max_position_embeddings=64, **SMALL_BLOCKS)).save_pretrained(tmp_path / "bert")
    byte_tokenizer().save_pretrained(tmp_path / "bert")
    content = settings(table, tmp_path / "model")
    content["model"] = {"text_encoder": str(tmp_path / "bert"), "overrides": {**MODEL["overrides"], "lora_rank": 4}}
    run = parsed(content)
    model, processor = starting_more(run, read_rows(run))
    trained, total = model.parameter_counts()["text_encoder"]
    assert 0 < trained < total / 4 and processor.max_text_tokens == 64


@pytest.mark.slow
def test_two_processes_train_although_few_patients_have_an_ecg(table: Path, tmp_path: Path):
    """A step in which only one process has an ECG made the other one stay away from the backward pass."""
    rows = list(csv.DictReader(table.open()))
    for row in rows[3:]:
        row |= {"ecg": "", "ecg_report": ""}
    few = write_table(table.parent / "few.csv", rows)
    content = settings(few, tmp_path / "model", optimisation={"epochs": 2, "batch_size": 4})
    (tmp_path / "more.yaml").write_text(yaml.safe_dump({"family": "more", **content}))
    script = Path(__file__).parents[2] / "scripts" / "train_tgmm.py"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    completed = subprocess.run([*command, str(tmp_path / "more.yaml")], capture_output=True, text=True, timeout=300)
    assert completed.returncode == 0, completed.stderr[-3000:]
    assert json.loads((tmp_path / "model" / "run.json").read_text())["processes"] == 2
