"""A MoRE model on the Hub: pushed with its figures, pulled and used in a process without the package."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fresh_process import run_without_package
from heart_signal import make_heart
from hub_server import Hub, running_hub
from input_files import write_wfdb
from tiny_more import tiny_more_of_files
from transformers import pipeline

from tgmm_hf.evaluation.unseen import weights_digest
from tgmm_hf.hub.card import EncoderLicence
from tgmm_hf.hub.card_more import more_card
from tgmm_hf.hub.push import push_model
from tgmm_hf.training.saving import save_repository
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.names import LEADS

TASK = "zero-shot-ecg-classification"
PULL = """
import sys
sys.modules["tgmm_hf"] = None  # importing it raises ImportError
import json
from transformers import pipeline

name = pipeline(sys.argv[3], model=sys.argv[1], trust_remote_code=True, device="cpu")
print(json.dumps(name(sys.argv[2], candidate_labels=["a", "b"])["labels"]))
"""


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: Hub) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", "any")
    save_repository(*tiny_more_of_files(), tmp_path / "model")
    return tmp_path / "model"


def metrics_of(directory: Path, **changes: Any) -> dict[str, Any]:
    """Write what metrics.json of `tgmm evaluate` holds, with one direction and one finding."""
    figures = {f"recall_{limit}": limit / 16 for limit in (1, 5, 10)} | {"median_rank": 7.0}
    system = figures | {f"{name}_ci": [value / 2, value * 1.25] for name, value in figures.items()}
    area = {"auc": 0.8125, "auc_ci": [0.75, 0.875], "auprc": 0.5, "auprc_ci": None}
    finding = {"n": 9, "patients": 9, "positives": 4, "prevalence": 4 / 9, "systems": {"model": area}}
    direction = {"n": 9, "patients": 9, "candidates": 9, "systems": {"model": system}, "chance": figures}
    return {
        "family": "more", "model": "/home/x/m", "weights": weights_digest(directory), "data": "notes.csv",
        "split": "test", "patients": 9, "inputs": {"text": 9, "xray": 9, "ecg": 9}, "refused": 0,
        "retrieval": {"text->ecg": direction},
        "zero_shot": {"effusion": {"xray": finding}}, "warnings": [], "notes": [], **changes,
    }  # fmt: skip


@pytest.mark.slow
def test_a_pushed_model_gives_the_same_labels_in_a_clean_process(hub: Hub, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps(metrics_of(saved)))
    push_model(saved, "owner/more", metrics=tmp_path / "metrics.json")
    card = hub.repositories["model", "owner/more"].at("main").files["README.md"].decode()
    assert "0.062 (0.031 to 0.078)" in card and "0.812 (0.750 to 0.875)" in card and "effusion" in card
    assert "/home/x" not in card and f'pipeline("{TASK}", model="owner/more"' in card
    recording = write_wfdb(tmp_path, make_heart(5000, 500, 0), list(LEADS))
    there = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}
    printed = run_without_package(PULL, "owner/more", recording, TASK, work=tmp_path, **there)
    here = pipeline(TASK, model=str(saved), device="cpu")(str(recording), candidate_labels=["a", "b"])
    assert json.loads(printed) == here["labels"] != []


@pytest.mark.parametrize("change", [{"family": "meit"}, {"weights": "sha256:of-others"}])
def test_figures_of_another_model_are_refused(saved: Path, tmp_path: Path, change: dict[str, str]) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps(metrics_of(saved, **change)))
    with pytest.raises(TgmmError, match="these figures are of"):
        push_model(saved, "owner/refused", metrics=tmp_path / "metrics.json")


def test_the_card_names_parts_and_licences(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    card = more_card("me/more", config=config, licences=[EncoderLicence("some-text-encoder", "llama2", None, None)])
    assert "some-text-encoder" in card and "Not a medical device" in card and "32 x 32" in card and "roberta" in card
    assert "\nlicense: other\n" in card.split("---")[1] and "2410.16239" in card
