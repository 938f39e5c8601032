"""Damaged and hand-edited saved models give one line on the command line, whatever a library raises."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tiny_models import smallest_model, tiny_tokenizer
from transformers import AutoProcessor

from tgmm_hf import default_processor
from tgmm_hf.cli.application import OWN_ERRORS, USER_ERRORS, main
from tgmm_hf.data.prediction import load_pipeline
from tgmm_hf.training.saving import save_repository
from tgmm_hf.utils.errors import TgmmError

Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("saved") / "model"
    model = smallest_model()
    save_repository(model, default_processor(model.config, tiny_tokenizer()), directory)
    return directory


def text(name: str, content: bytes) -> Damage:
    return lambda directory: (directory / name).write_bytes(content)


def setting(name: str, *keys: object) -> Damage:
    """Set an entry of a JSON file: the last of `keys` is the value."""
    *path, last, value = keys

    def damage(directory: Path) -> None:
        content = json.loads((directory / name).read_text())
        inner = content
        for key in path:
            inner = inner[key]
        inner[last] = value
        (directory / name).write_text(json.dumps(content))

    return damage


CONFIG, PROCESSOR = "config.json", "processor_config.json"
DIAGNOSIS, RISK = ("tasks", "hf_diagnosis"), ("tasks", "hf_risk")
DAMAGES: dict[str, Damage] = {
    "empty weights": text("model.safetensors", b""),
    "weights are a web page": text("model.safetensors", b"<!doctype html><html>" * 9),
    "cut weights": lambda d: (d / "model.safetensors").write_bytes((d / "model.safetensors").read_bytes()[:5000]),
    "no weights": lambda d: (d / "model.safetensors").unlink(),
    "config is a list": text(CONFIG, b"[1]"),
    "config is null": text(CONFIG, b"null"),
    "config is a number": text(CONFIG, b"3"),
    "config is cut": text(CONFIG, b'{"a": '),
    "config is UTF-16": text(CONFIG, b"\xff\xfe\x00"),
    "size is text": setting(CONFIG, "hidden_size", "64"),
    "size is 0": setting(CONFIG, "hidden_size", 0),
    "size is negative": setting(CONFIG, "hidden_size", -4),
    "no heads": setting(CONFIG, "num_attention_heads", 0),
    "tasks are a list": setting(CONFIG, "tasks", [1]),
    "task is null": setting(CONFIG, *DIAGNOSIS, None),
    "candidates are text": setting(CONFIG, *DIAGNOSIS, "candidates", "ab"),
    "weight is text": setting(CONFIG, *DIAGNOSIS, "weight", "a"),
    "ids are text": setting(CONFIG, *DIAGNOSIS, "question_ids", "abc"),
    "ids are too large": setting(CONFIG, *DIAGNOSIS, "question_ids", [10**6]),
    "ids of another vocabulary": setting(CONFIG, *DIAGNOSIS, "candidate_ids", [[1], [2]]),
    "hazards are a list": setting(CONFIG, *RISK, "baseline_hazards", [1]),
    "hazards lack keys": setting(CONFIG, *RISK, "baseline_hazards", {"labs": {"risk_range": [0, 1]}}),
    "sets are text": setting(CONFIG, *DIAGNOSIS, "prediction_sets", "x"),
    "sets lack a candidate": setting(
        CONFIG, *DIAGNOSIS, "prediction_sets", {"subsets": {"labs": {"thresholds": {"0.9": [0.1]}}}}
    ),
    "levels are text": setting(CONFIG, *DIAGNOSIS, "set_levels", "x"),
    "level is 90": setting(CONFIG, *DIAGNOSIS, "set_levels", [90]),
    "encoder is a list": setting(CONFIG, "labs_config", [1]),
    "dtype is unknown": setting(CONFIG, "dtype", "floaty"),
    "fingerprint is text": setting(CONFIG, "weights_fingerprint", "x"),
    "processor is a list": text(PROCESSOR, b"[1]"),
    "rate is null": setting(PROCESSOR, "feature_extractor", "sampling_rate", None),
    "columns are a number": setting(PROCESSOR, "labs_columns", 3),
    "tokens are text": setting(PROCESSOR, "max_labs_tokens", "a"),
    "tokenizer is a list": text("tokenizer_config.json", b"[1]"),
    "tokenizer is cut": text("tokenizer.json", b'{"a'),
    "tokenizer class is a number": setting("tokenizer_config.json", "tokenizer_class", 3),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_an_error_that_the_command_line_prints_in_one_line(whole: Path, tmp_path: Path, damage: Damage):
    directory = tmp_path / "model"
    shutil.copytree(whole, directory)
    damage(directory)
    with pytest.raises((*USER_ERRORS, *OWN_ERRORS)):
        load_pipeline(str(directory))({"labs": {"age": 70, "NTproBNP": 500}})


def test_the_command_names_the_model_in_one_line(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    directory = tmp_path / "model"
    shutil.copytree(whole, directory)
    DAMAGES["cut weights"](directory)
    (tmp_path / "labs.json").write_text('{"age": 70}')
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(directory), "--labs", str(tmp_path / "labs.json"), "--out", str(tmp_path / "p.json")])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tgmm: ")]
    assert ended.value.code == 1 and len(lines) == 1 and str(directory) in lines[0]


@pytest.mark.parametrize("name", ["processor_config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named_and_never_replaced(whole: Path, tmp_path: Path, name: str):
    """Without tokenizer.json transformers makes a tokenizer that reads every word as unknown."""
    directory = tmp_path / "model"
    shutil.copytree(whole, directory)
    (directory / name).unlink()
    with pytest.raises(TgmmError) as refused:
        load_pipeline(str(directory))
    assert name in refused.value.reason


def test_a_damaged_settings_file_of_the_processor_is_named(whole: Path, tmp_path: Path):
    directory = tmp_path / "model"
    shutil.copytree(whole, directory)
    (directory / PROCESSOR).write_bytes((directory / PROCESSOR).read_bytes()[:-40])
    with pytest.raises(TgmmError) as refused:
        load_pipeline(str(directory))
    assert PROCESSOR in refused.value.reason


def test_without_the_command_line_a_missing_vocabulary_is_refused_too(whole: Path, tmp_path: Path):
    directory = tmp_path / "model"
    shutil.copytree(whole, directory)
    assert AutoProcessor.from_pretrained(directory).tokenizer.pad_token_id is not None
    (directory / "tokenizer.json").unlink()
    with pytest.raises(TgmmError):
        AutoProcessor.from_pretrained(directory)


def test_a_model_without_any_file_of_its_tokenizer_is_refused_by_name(whole: Path, tmp_path: Path):
    directory = tmp_path / "model"
    shutil.copytree(whole, directory)
    for path in directory.glob("tokenizer*.json"):
        path.unlink()
    with pytest.raises(TgmmError) as refused:
        load_pipeline(str(directory))
    assert "tokenizer_config.json is missing" in refused.value.reason and "sentencepiece" not in refused.value.reason


def test_a_tokenizer_without_padding_is_refused_at_loading(whole: Path, tmp_path: Path):
    directory = tmp_path / "model"
    shutil.copytree(whole, directory)
    setting("tokenizer_config.json", "pad_token", None)(directory)
    with pytest.raises(TgmmError):
        load_pipeline(str(directory))


def test_weights_that_are_not_finite_are_refused_with_their_part(whole: Path, tmp_path: Path):
    """The weight belongs to the ECG, and the patient has none, so that the answer itself would be a number."""
    directory = tmp_path / "model"
    shutil.copytree(whole, directory)
    tensors = load_file(directory / "model.safetensors")
    name = next(name for name in sorted(tensors) if name.startswith("ecg_encoder") and tensors[name].ndim == 2)
    tensors[name][0, 0] = float("inf")
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TgmmError) as refused:
        load_pipeline(str(directory))({"labs": {"age": 70}})
    assert "ecg_encoder" in refused.value.reason
