"""`configs/finetune.yaml`: a saved model learns a task of one's own, and is reported on this task."""

import json
from pathlib import Path

import yaml
from command_line import run
from prepared_data import SMALL_ECHO, write_prepared_data

from tgmm_hf import TgmmConfig
from tgmm_hf.inputs.training_likeness import unpack
from tgmm_hf.training import likeness_fit

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "finetune.yaml"


def test_a_saved_model_learns_a_task_of_its_own_and_is_reported_on_it(tmp_path, monkeypatch):
    monkeypatch.setattr(likeness_fit, "FEWEST_PATIENTS", 20)
    monkeypatch.setattr(likeness_fit, "FEWEST_VALUES", 10)
    data = write_prepared_data(tmp_path_of(tmp_path, "data"), own_task="kidney")
    settings = {
        "output": str(tmp_path / "first"),
        "data": {"directory": str(data), "max_views": 1},
        "tasks": {"hf_diagnosis": None},
        "model": {"size": "tiny", "overrides": {"echo_config": SMALL_ECHO, "ecg_config": {"num_hidden_layers": 1}}},
        "optimisation": {"epochs": 1, "batch_size": 8},
    }
    (tmp_path / "first.yaml").write_text(yaml.safe_dump(settings))
    assert run("train", tmp_path / "first.yaml") == 0
    changes = {"output": tmp_path / "second", "data.directory": data, "model.checkpoint": tmp_path / "first"}
    changes |= {"optimisation.epochs": 1, "optimisation.batch_size": 8}
    options = [word for name, value in changes.items() for word in ("--set", f"{name}={value}")]
    assert run("train", CONFIG, *options) == 0
    assert list(TgmmConfig.from_pretrained(tmp_path / "second").tasks) == ["hf_diagnosis", "kidney"]
    for name in ("first", "second"):  # each training describes its inputs anew
        settings = json.loads((tmp_path / name / "processor_config.json").read_text())
        weights = json.loads((tmp_path / name / "config.json").read_text())["weights_fingerprint"]["id"]
        described = unpack(settings["training_inputs"])
        assert described["weights"] == weights and described["ecg"]["names"]

    out = tmp_path / "figures"
    assert run("evaluate", tmp_path / "second", data, "--out", out, "--bootstrap", 100) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert "kidney" in metrics and "hf_diagnosis" not in metrics
    assert any(warning.startswith("hf_diagnosis: not scored") for warning in metrics["warnings"])
    words = ("evaluate", tmp_path / "second", data, "--out", out, "--bootstrap", 100, "--task", "hf_diagnosis")
    assert run(*words) == 0
    assert "kidney" not in json.loads((out / "metrics.json").read_text())


def tmp_path_of(directory: Path, name: str) -> Path:
    (directory / name).mkdir()
    return directory / name
