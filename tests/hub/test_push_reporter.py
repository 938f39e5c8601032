"""A MEIT model on the Hub: pushed with its figures, pulled and used in a process without the package."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fresh_process import run_without_package
from heart_signal import make_heart
from hub_server import Hub, running_hub
from input_files import write_wfdb
from tiny_reporters import fit_batch_norms, tiny_processor, tiny_reporter

from tgmm_hf.data.ecg_reports import load_report_pipeline
from tgmm_hf.evaluation.unseen import weights_digest
from tgmm_hf.hub.push import push_model
from tgmm_hf.training.saving import save_repository
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.names import LEADS

PULL = """
import sys
sys.modules["tgmm_hf"] = None  # importing it raises ImportError
import json
from transformers import pipeline

report = pipeline("ecg-report", model=sys.argv[1], trust_remote_code=True, device="cpu")
print(json.dumps(report({"ecg": sys.argv[2]}, generate_kwargs={"max_new_tokens": 8})["report"]))
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
    model = tiny_reporter("llama")
    fit_batch_norms(model)
    save_repository(model.eval(), tiny_processor(), tmp_path / "model")
    return tmp_path / "model"


def metrics_of(directory: Path, **changes: Any) -> dict[str, Any]:
    """Write what metrics.json of `tgmm evaluate` holds, with two systems."""

    def system(f1: float) -> dict[str, Any]:
        figures = {f"{mean}_{name}": f1 for mean in ("micro", "macro") for name in ("precision", "recall", "f1")}
        entry = {**figures, **{f"{key}_ci": [f1 - 0.1, f1 + 0.1] for key in figures}, "bleu_4": 0.25, "bleu_4_ci": None}
        return {**entry, "denied": 0, "false_denials": None, "statements": {}}

    return {
        "family": "meit", "model": "m", "weights": weights_digest(directory), "data": "/home/x/instructions.jsonl",
        "split": "test", "n": 7, "patients": 7, "refused": 0, "references_hash": "sha256:0123456789abcdef",
        "datasets": ["synthetic"], "truth": "statements", "systems": {"model": system(0.625), "shuffled": system(0.25)},
        "differences": {"shuffled": {"micro_f1_difference": 0.375, "micro_f1_difference_ci": [0.2, 0.5]}},
        "controls_missing": {}, "implementations": {}, "metrics_missing": {}, "certainty": {}, "certainty_counts": {},
        "robustness": None, "warnings": [], "notes": [], **changes,
    }  # fmt: skip


@pytest.mark.slow
def test_a_pushed_reporter_writes_the_same_report_in_a_clean_process(hub: Hub, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps(metrics_of(saved)))
    push_model(saved, "owner/reporter", metrics=tmp_path / "metrics.json")
    card = hub.repositories["model", "owner/reporter"].at("main").files["README.md"].decode()
    assert "0.625 (0.525 to 0.725)" in card and "+0.375" in card and "BLEU-4" in card and "shuffled" in card
    assert "/home/x" not in card
    write_wfdb(tmp_path, make_heart(5000, 500, 0), list(LEADS))
    there = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}
    printed = run_without_package(PULL, "owner/reporter", tmp_path / "record", work=tmp_path, **there)
    here = load_report_pipeline(str(saved))({"ecg": str(tmp_path / "record")}, generate_kwargs={"max_new_tokens": 8})
    assert json.loads(printed) == here["report"]


def test_figures_of_a_bench_stand_in_the_card(hub: Hub, saved: Path, tmp_path: Path) -> None:
    closed = {
        "systems": {name: {"all": {"n": 20, "accuracy_likelihood": share, "accuracy_likelihood_ci": None}}
                    for name, share in (("model", 0.75), ("no ECG", 0.25))},
        "differences": {"no ECG": {"all": {"accuracy_likelihood_difference": 0.5,
                                           "accuracy_likelihood_difference_ci": [0.3, 0.7]}}},
        "controls_missing": {},
    }  # fmt: skip
    bench = {"family": "bench", "model_family": "meit", "closed": closed, "open": None, "report": None}
    figures = metrics_of(saved, **bench, prediction=None, reconstruction=None, kinds_missing={})
    (tmp_path / "metrics.json").write_text(json.dumps(figures))
    push_model(saved, "owner/bench", metrics=tmp_path / "metrics.json")
    card = hub.repositories["model", "owner/bench"].at("main").files["README.md"].decode()
    assert "0.750" in card and "+0.500 (+0.300 to +0.700)" in card and "/home/x" not in card


@pytest.mark.parametrize(
    "change",
    [{"family": "tgmm"}, {"weights": "sha256:of-others"}, {"family": "bench", "model_family": "heartcare"}],
)
def test_figures_of_another_model_are_refused(saved: Path, tmp_path: Path, change: dict[str, str]) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps(metrics_of(saved, **change)))
    with pytest.raises(TgmmError, match="these figures are of"):
        push_model(saved, "owner/refused", metrics=tmp_path / "metrics.json")
