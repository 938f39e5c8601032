"""Pre-training of encoders: masks, no use of labels, stopped runs, and trainings that start from the encoders."""

import json
import os
import shutil
import signal
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from closeness import assert_close, assert_same_training
from datasets import Dataset
from prepared_data import FRAMES, SIZE, SMALL_ECHO
from transformers import AutoTokenizer, Trainer
from typer.testing import CliRunner

from tgmm_hf.cli import app
from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.data.tokenizer import cohort_tokenizer
from tgmm_hf.encoders.encoder_loading import load_encoder
from tgmm_hf.evaluation.unseen import SEEN, check_unseen, seen_patients, training_directory
from tgmm_hf.inputs.image_processing_echo import EchoImageProcessor
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.processing_tgmm import default_processor
from tgmm_hf.training import pretrain as module
from tgmm_hf.training.arguments import parse_arguments
from tgmm_hf.training.masking_collators import LabsMaskingCollator, value_spans
from tgmm_hf.training.pretrain import pretrain
from tgmm_hf.training.pretraining_arguments import PretrainArguments, read_pretrain_arguments
from tgmm_hf.training.settings_files import parse_dataclass
from tgmm_hf.training.starting_model import build, new_config
from tgmm_hf.training.train import train

OVERRIDES = {"echo_config": SMALL_ECHO, "ecg_config": {"num_hidden_layers": 2}}
TEXT = "age of the patient is 63; drug history of the patient is Omeprazole, Metoprolol Tartrate; BMI of it is 24.1"


def settings(prepared_dir: Path, output: Path, **changes: Any) -> PretrainArguments:
    few = {"epochs": 2, "batch_size": 8}
    base = {"output": str(output), "data": {"directory": str(prepared_dir)}, "model": {"overrides": OVERRIDES}}
    return parse_dataclass(
        PretrainArguments, {**base, "labs": few, "ecg": few, "echo": {**few, "max_views": 1}} | changes
    )


@pytest.fixture(scope="module")
def encoders(prepared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("pretrained") / "encoders"
    pretrain(settings(prepared_dir, output), progress=False)
    return output


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return dict(load_encoder(directory.name, directory).state_dict())


def test_values_of_a_text_are_found_item_by_item() -> None:
    assert [TEXT[start:end] for start, end in value_spans(TEXT)] == ["63", "Omeprazole", "Metoprolol Tartrate", "24.1"]


def test_whole_values_are_hidden_and_nothing_else(prepared_dir: Path) -> None:
    config = new_config(settings(prepared_dir, Path("unused")).model)
    rows = load_prepared(prepared_dir)["train"]
    tokenizer = cohort_tokenizer(rows, config.tasks, 600)
    processor = default_processor(config, tokenizer)
    patients = [{"labs": json.dumps({"NTproBNP": 5310.0, "age": 70.0, "drug history": "Furosemide, Apixaban"})}] * 50
    batch = LabsMaskingCollator(processor, config, 0.5, training=True, seed=0)(patients)
    hidden = batch["labels"] != -100
    plain = tokenizer(processor.labs_text(json.loads(patients[0]["labs"])).text, return_offsets_mapping=True)
    values = value_spans(processor.labs_text(json.loads(patients[0]["labs"])).text)
    parts = [
        torch.tensor([start <= a and b <= end and b > a for a, b in plain["offset_mapping"]]) for start, end in values
    ]
    assert len(parts) == 4
    for row in hidden:
        for part in parts:
            assert len(set(row[part].tolist())) == 1  # all tokens of a value, or none
        assert not row[~torch.stack(parts).any(0)].any()
    share = torch.stack([hidden[:, part][:, 0] for part in parts]).float().mean()
    assert 0.38 < share < 0.62
    ids = torch.tensor(plain["input_ids"])
    assert torch.equal(batch["labels"][hidden], ids.expand_as(hidden)[hidden])
    assert torch.equal(batch["input_ids"][~hidden], ids.expand_as(hidden)[~hidden])
    masked = (batch["input_ids"][hidden] == tokenizer.mask_token_id).float().mean()
    assert 0.74 < masked < 0.86  # 80 %


def test_no_label_is_read(prepared_dir: Path, encoders: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def without_labels(directory: str) -> Any:
        prepared, data = read_data(directory)
        answers = [name for name in prepared["train"].column_names if name.startswith(("label_", "time_", "event_"))]
        assert answers
        return prepared.remove_columns(answers), data

    read_data = module.read_data
    monkeypatch.setattr(module, "read_data", without_labels)
    pretrain(settings(prepared_dir, tmp_path / "encoders"), progress=False)
    for modality in ("labs", "ecg", "echo"):
        first, second = (weights(directory / modality) for directory in (encoders, tmp_path / "encoders"))
        assert_same_training(first, second)  # the same seed as well


def test_an_encoder_may_have_its_own_data(prepared_dir: Path, encoders: Path, tmp_path: Path) -> None:
    """Then `data.directory` is not read. The place of the data is not compared, only its hash."""
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(prepared_dir, elsewhere)
    output = tmp_path / "encoders"
    few = {"epochs": 2, "batch_size": 8}
    own = {"labs": {**few, "directory": str(elsewhere)}, "ecg": None, "echo": None}
    pretrain(settings(tmp_path / "not there", output, **own), progress=False)
    first, second = weights(encoders / "labs"), weights(output / "labs")
    assert_same_training(first, second)
    first, second = (
        json.loads((directory / "labs" / "pretrain.json").read_text())["settings"] for directory in (encoders, output)
    )
    assert first == second
    record = elsewhere / "prepare.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "data_hash": "another"}))
    with pytest.raises(ValueError, match="other settings or data"):
        pretrain(settings(tmp_path / "not there", output, **own), progress=False)


def test_encoders_learn_and_write_how_they_were_trained(prepared_dir: Path, encoders: Path) -> None:
    rows = load_prepared(prepared_dir)["train"].with_format(None)
    for modality in ("labs", "ecg", "echo"):
        record = json.loads((encoders / modality / "pretrain.json").read_text())
        assert record["settings"]["data_hash"] == "invented"
        losses = [line["eval_loss"] for line in record["history"] if "eval_loss" in line]
        assert len(losses) == 2
        assert losses[1] < losses[0]
    rows_with_ecg = json.loads((encoders / "ecg" / "pretrain.json").read_text())["rows"]
    assert rows_with_ecg["train"] == sum(any(mask) for mask in rows["ecg_mask"]) < len(rows)
    assert AutoTokenizer.from_pretrained(encoders / "labs").mask_token == "[MASK]"


def test_an_encoder_of_version_0_1_is_finished_and_its_patients_are_known(
    prepared_dir: Path, encoders: Path, tmp_path: Path
) -> None:
    """`pretrain.json` of version 0.1 has other names."""
    output = tmp_path / "encoders"
    shutil.copytree(encoders, output)
    record = json.loads((output / "labs" / "pretrain.json").read_text())
    old = {**record, "told": record["settings"], "records": record["rows"]}
    del old["settings"], old["rows"]
    (output / "labs" / "pretrain.json").write_text(json.dumps(old))
    again = pretrain(settings(prepared_dir, output, ecg=None, echo=None), progress=False)
    assert again["labs"] == record
    splits = load_prepared(prepared_dir)
    assert seen_patients("another", splits, [output / "labs"])["complete"]
    old["told"]["data_hash"] = "of another training"
    (output / "labs" / "pretrain.json").write_text(json.dumps(old))
    assert not seen_patients("another", splits, [output / "labs"])["complete"]


def test_validation_hides_the_same_in_every_epoch(prepared_dir: Path, encoders: Path, tmp_path: Path) -> None:
    """Otherwise a falling loss may be luck."""
    losses = {}

    class Twice(module.PretrainingTrainer):
        def train(self, *args: Any, **kwargs: Any) -> Any:
            before = torch.get_rng_state()
            losses["first"] = self.evaluate()["eval_loss"]
            torch.manual_seed(99)
            losses["second"] = self.evaluate()["eval_loss"]
            torch.set_rng_state(before)
            return super().train(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PretrainingTrainer", Twice)
        pretrain(settings(prepared_dir, tmp_path / "encoders", labs=None, echo=None), progress=False)
    assert_close(losses["first"], losses["second"])


def test_at_least_one_value_of_a_text_is_hidden(prepared_dir: Path) -> None:
    config = new_config(settings(prepared_dir, Path("unused")).model)
    tokenizer = cohort_tokenizer(load_prepared(prepared_dir)["train"], config.tasks, 600)
    collator = LabsMaskingCollator(default_processor(config, tokenizer), config, 0.01, training=True, seed=0)
    batch = collator([{"labs": json.dumps({"age": 70.0})}] * 20)
    assert ((batch["labels"] != -100).sum(1) > 0).all()


def test_the_image_processor_beside_an_encoder_is_used(prepared_dir: Path, encoders: Path, tmp_path: Path) -> None:
    copied = tmp_path / "echo"
    shutil.copytree(encoders / "echo", copied)
    EchoImageProcessor(size=SIZE, num_frames=FRAMES, image_mean=[1.0, 2.0, 3.0]).save_pretrained(copied)
    base = {"output": "unused", "data": {"directory": str(prepared_dir)}, "tasks": {"hf_diagnosis": None}}
    run = parse_arguments({**base, "model": {"encoders": {"echo": str(copied)}}})
    _, processor = build(run, load_prepared(prepared_dir))
    assert list(processor.image_processor.image_mean) == [1.0, 2.0, 3.0]


def test_the_command_prints_the_losses_and_warns_if_they_hardly_fell(
    prepared_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "pretrain.yaml"
    content = {"output": str(tmp_path / "encoders"), "data": {"directory": str(prepared_dir)}, "model": {}}
    config.write_text(json.dumps(content))  # JSON is YAML

    def invented(arguments: PretrainArguments) -> dict[str, Any]:
        assert set(arguments.objectives) == {"ecg"}
        return {"ecg": {"history": [{"eval_loss": 1.02}, {"loss": 1.0}, {"eval_loss": 1.003}]}}

    monkeypatch.setattr(module, "pretrain", invented)
    result = CliRunner().invoke(app, ["pretrain", str(config), "--set", "ecg.epochs=2"])
    assert result.exit_code == 0, result.output
    assert "ecg: validation loss after the first and the last epoch 1.0200 -> 1.0030" in result.output
    assert "Warning" in result.output and "hardly fell" in result.output
    monkeypatch.setattr(module, "pretrain", lambda _: {"ecg": {"history": [{"eval_loss": 1.02}]}})
    result = CliRunner().invoke(app, ["pretrain", str(config), "--set", "ecg.epochs=1"])
    assert "last epoch 1.0200\n" in result.output and "hardly fell" not in result.output


def test_finished_encoders_are_not_trained_again(
    prepared_dir: Path, encoders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_again(*args: Any, **kwargs: Any) -> None:
        pytest.fail("it was trained again")

    monkeypatch.setattr(Trainer, "train", train_again)
    assert set(pretrain(settings(prepared_dir, encoders), progress=False)) == {"labs", "ecg", "echo"}
    other = settings(prepared_dir, encoders, ecg={"epochs": 3, "batch_size": 8})
    with pytest.raises(ValueError, match="holds an encoder of other settings"):
        pretrain(other, progress=False)


def test_a_directory_with_other_files_is_refused_before_any_work(
    prepared_dir: Path, encoders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "read_data", None)
    shutil.copytree(encoders, tmp_path / "encoders")
    anew = settings(prepared_dir, tmp_path / "encoders", resume="never")
    with pytest.raises(TypeError, match="NoneType"):  # all three may be replaced: the work starts
        pretrain(anew)
    (tmp_path / "encoders" / "ecg" / "notes.txt").write_text("somebody's own")
    with pytest.raises(FileExistsError, match=r"ecg holds 1 entry .*notes\.txt"):
        pretrain(anew)
    (tmp_path / "encoders" / "ecg" / "notes.txt").unlink()
    (tmp_path / "encoders" / "echo-training" / "notes.txt").write_text("somebody's own")
    with pytest.raises(FileExistsError, match=r"echo-training holds 1 entry .*notes\.txt"):
        pretrain(anew)


def _killed_after_one_epoch(arguments: PretrainArguments) -> None:
    save = Trainer._save_checkpoint

    def save_and_die(self: Trainer, *args: Any, **kwargs: Any) -> None:
        save(self, *args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    Trainer._save_checkpoint = save_and_die
    pretrain(arguments, progress=False)


@pytest.mark.slow
def test_a_killed_run_gives_the_same_weights(prepared_dir: Path, encoders: Path, tmp_path: Path) -> None:
    arguments = settings(prepared_dir, tmp_path / "encoders", labs=None, echo=None)
    process = get_context("spawn").Process(target=_killed_after_one_epoch, args=(arguments,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "encoders" / "ecg").exists()
    pretrain(arguments, progress=False)
    first, second = (weights(directory / "ecg") for directory in (encoders, tmp_path / "encoders"))
    assert_same_training(first, second)


def run_from(encoders: Path, prepared_dir: Path, output: Path, **model: Any) -> Any:
    return parse_arguments(
        {
            "output": str(output),
            "data": {"directory": str(prepared_dir)},
            "tasks": {"hf_diagnosis": None},
            "model": {"encoders": {name: str(encoders / name) for name in ("labs", "ecg", "echo")}, **model},
            "optimisation": {"epochs": 1, "batch_size": 8, "early_stopping_patience": None, "keep": "last"},
        }
    )


def test_a_training_starts_from_the_encoders(prepared_dir: Path, encoders: Path, tmp_path: Path) -> None:
    run = run_from(encoders, prepared_dir, tmp_path / "model", trainable_layers=1)
    model, processor = build(run, load_prepared(prepared_dir))
    for modality, encoder in model.encoders.items():
        stored = weights(encoders / modality)
        assert all(torch.equal(value, stored[name]) for name, value in encoder.state_dict().items())
    assert len(processor.tokenizer) == model.config.labs_config.vocab_size
    assert model.config.hidden_size == 64
    assert set(model.config.encoder_sources) == {"labs", "ecg", "echo"}
    train(run)
    trained = TgmmModel.from_pretrained(tmp_path / "model")
    before, after = (list(each.ecg_encoder.layers) for each in (model, trained))
    frozen, last = ([layer.state_dict() for layer in pair] for pair in zip(before, after, strict=True))
    assert all(torch.equal(frozen[0][name], frozen[1][name]) for name in frozen[0])
    assert not all(torch.equal(last[0][name], last[1][name]) for name in last[0])


def test_patients_of_the_pretraining_are_not_tested_on(prepared_dir: Path, encoders: Path, tmp_path: Path) -> None:
    run = run_from(encoders, prepared_dir, tmp_path / "model", trainable_layers=0)
    seen_by_encoder = training_directory(encoders / "ecg") / SEEN
    seen = json.loads(seen_by_encoder.read_text())
    content = json.dumps(seen | {"patients": [*seen["patients"], "test0"]})
    original = seen_by_encoder.read_text()
    try:
        seen_by_encoder.write_text(content)
        train(run)
        with pytest.raises(ValueError, match="1 of the patients to be scored"):
            check_unseen(tmp_path / "model", "invented", load_prepared(prepared_dir)["test"], "test")
    finally:
        seen_by_encoder.write_text(original)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labs": None, "ecg": None, "echo": None}, "at least one encoder"),
        ({"model": {"checkpoint": "somewhere"}}, "starts from random weights"),
        ({"ecg": {"epoch": 2}}, "ecg.epoch"),
    ],
)
def test_wrong_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(Path("data"), Path("out"), **changes)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"encoders": {"mri": "x"}}, "names mri"),
        ({"encoders": {"ecg": "x"}, "checkpoint": "y"}, "encoders of its own"),
        ({"encoders": {"ecg": "x"}, "overrides": {"ecg_config": {}}}, "would change a pretrained encoder"),
    ],
)
def test_contradictory_starts_are_refused(model: dict[str, Any], message: str) -> None:
    base = {"output": "o", "data": {"directory": "d"}, "tasks": {"hf_diagnosis": None}}
    with pytest.raises(ValueError, match=message):
        parse_arguments({**base, "model": model})


def test_an_encoder_that_does_not_exist_is_named() -> None:
    base = {"output": "o", "data": {"directory": "d"}, "tasks": {"hf_diagnosis": None}}
    run = parse_arguments({**base, "model": {"encoders": {"ecg": "grid/nowhere/ecg"}}})
    with pytest.raises(FileNotFoundError, match="model.encoders.ecg: grid/nowhere/ecg is no directory"):
        new_config(run.model, run.tasks)


def test_committed_configurations_are_valid() -> None:
    paths = sorted((Path(__file__).resolve().parents[2] / "configs").glob("pretrain*.yaml"))
    assert [set(read_pretrain_arguments(path).objectives) for path in paths] == [{"ecg"}, {"labs", "ecg", "echo"}]


def test_a_split_without_the_modality_is_refused(
    prepared_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(rows: Dataset, modality: str) -> Dataset:
        return rows.select([])

    monkeypatch.setattr(module, "_patients_with", nobody)
    with pytest.raises(ValueError, match="Nobody in the train and the validation split"):
        pretrain(settings(prepared_dir, tmp_path / "encoders"), progress=False)
