"""`tgmm push` publishes no path, no patient and no run log: identities are planted wherever a model was made."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_models import smallest_config, tiny_tokenizer

from tgmm_hf import TgmmModel, default_processor
from tgmm_hf.evaluation.unseen import weights_digest
from tgmm_hf.hub.push import NotForTheHubError, push_model
from tgmm_hf.training.saving import save_repository

MARK = "qxidentity"


class Recorder:
    """Client of the Hub that keeps what would be uploaded."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def create_repo(self, *_: Any, **__: Any) -> None:
        """Make no repository."""

    def create_commit(self, _repo: str, operations: list[Any], **_options: Any) -> Any:
        for operation in operations:
            with operation.as_file() as file:
                self.files[operation.path_in_repo] = file.read()
        return SimpleNamespace(commit_url="", oid="")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A model whose encoder, settings and data lay in folders with a patient's name; its run log beside it."""
    home = tmp_path / f"{MARK}home"
    tokenizer = tiny_tokenizer()
    model = TgmmModel(smallest_config())
    for part in (model, model.config):
        part.name_or_path = str(home / "start")
    run = {
        "run": {
            "output": str(home / "model"),
            "data": {"directory": str(home / "data")},
            "model": {"checkpoint": None},
        },
        **{"data_hash": "abc", "parameters": 1000, "epochs": 8.0, "seed": 0, "versions": {"torch": "2.14"}},
        **{"host": f"{MARK}machine", "patients": [f"{MARK}patient"]},
    }
    save_repository(model, default_processor(model.config, tokenizer), home / "model", run)
    for name in ("patients.json", "log.txt"):
        path = home / "model-training" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{MARK}patient")
    return home / "model"


def test_nothing_of_where_a_model_was_made_goes_up(saved: Path) -> None:
    metrics = saved.parent / "metrics.json"
    entry = {"n": 61, "auc": 0.91, "auc_ci": [0.85, 0.97], "accuracy": 0.8, "accuracy_ci": [0.7, 0.9]}
    metrics.write_text(json.dumps({
        **{"data": str(saved.parent / "data"), "data_hash": "abc", "split": "test", "synthetic": False},
        **{"weights": weights_digest(saved), "hf_diagnosis": {"labs": entry}, "hf_risk": {}, "retrieval": {}},
        **{"subgroups": {}, "warnings": [], "model": str(saved)},
    }))  # fmt: skip
    hub = Recorder()
    push_model(saved, "owner/model", metrics=metrics, api=hub)  # type: ignore[arg-type]
    assert "README.md" in hub.files and "config.json" in hub.files and "run.json" not in hub.files
    assert not any("patients" in name or name.endswith((".txt", ".log", ".csv")) for name in hub.files)
    for name, content in hub.files.items():
        where = content.lower().find(MARK.encode())
        assert where < 0, f"{name}: {content[max(where - 200, 0) : where + 100]!r}"


@pytest.mark.parametrize(
    "name",
    [
        *("patients.json", "refused.csv", "prediction.json", "predictions.csv", "metrics.json", "trainer_log.jsonl"),
        *("training_args.bin", "optimizer.pt", "events.out.tfevents.1", "view_classifier/run.json", ".hidden"),
        *("data/00000.arrow", "report.html", "pytorch_model.bin", "Smith.py", "config.json.bak"),
    ],
)
def test_a_file_that_no_saved_model_has_stops_the_upload(name: str, saved: Path) -> None:
    (saved / name).parent.mkdir(exist_ok=True)
    (saved / name).write_text(MARK)
    hub = Recorder()
    with pytest.raises(NotForTheHubError):
        push_model(saved, "owner/model", api=hub)  # type: ignore[arg-type]
    assert hub.files == {}


def test_a_link_does_not_go_up(saved: Path) -> None:
    (saved.parent / "elsewhere.json").write_text(MARK)
    (saved / "vocab.json").symlink_to(saved.parent / "elsewhere.json")
    with pytest.raises(NotForTheHubError):
        push_model(saved, "owner/model", api=Recorder())  # type: ignore[arg-type]
