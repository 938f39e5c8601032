"""`tgmm push`: what goes up, what is refused, and that what comes down again is the same model without the package."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from closeness import assert_close
from fresh_process import run_without_package
from hub_server import Hub, running_hub
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from tiny_models import random_batch, smallest_model, tiny_tokenizer

from tgmm_hf import TgmmModel, default_processor
from tgmm_hf.cli import main
from tgmm_hf.evaluation.unseen import weights_digest
from tgmm_hf.hub.card import model_card
from tgmm_hf.hub.push import NotForTheHubError, push_cohort, push_model
from tgmm_hf.training.saving import save_repository
from tgmm_hf.utils.errors import TgmmError

METRICS = {
    "data": "demo/data",
    "data_hash": "abc",
    "synthetic": True,
    "split": "test",
    "hf_diagnosis": {
        "labs": {"n": 61, "auc": 0.91, "auc_ci": [0.85, 0.97], "accuracy": 0.8, "accuracy_ci": [0.7, 0.9]}
    },
    "hf_risk": {"labs": {"n": 17, "c_index": 0.7, "c_index_ci": [0.6, 0.8]}, "ecg": {"n": 0, "c_index": None}},
    "retrieval": {"labs->ecg": {"n": 61, "lrap_3": 0.62, "lrap_3_ci": None}},
    "subgroups": {
        "hf_diagnosis": [
            {"grouping": "all", "group": "all", "n": 61, "positives": 30, "auc": 0.91, "auc_ci": [0.85, 0.97]}
            | {"sensitivity": 0.8, "sensitivity_ci": [0.7, 0.9], "specificity": 0.75, "specificity_ci": None},
            {"grouping": "sex", "group": "female", "n": 42, "positives": 0, "auc": None, "auc_missing": "one class"},
            {"grouping": "age", "group": "under 50", "n": 21, "positives": 0, "auc": None, "auc_missing": "one class"},
            {"grouping": "age", "group": "50 to 64", "n": 40, "positives": 30, "auc": None, "auc_missing": "few"},
            {"grouping": "sex", "group": "male", "n": 19, "positives": 7, "auc": None, "auc_missing": "n < 20"},
        ],
        "hf_risk": [{"grouping": "all", "group": "all", "n": 30, "events": 7, "c_index": 0.7, "c_index_ci": None}],
    },
    "warnings": ["hf_risk: n = 17"],
}
RUN = {
    "run": {"model": {"checkpoint": None}},
    "data_hash": "abc",
    "parameters": 1000,
    "epochs": 8.0,
    "seed": 0,
    "versions": {"torch": "2.14"},
}


def test_a_card_says_the_threshold_of_the_models_own_probability() -> None:
    point = {"value": 0.4, "of_model": 0.31, "rule": "Youden's index", "chosen_on": "validation split"}
    entry = {"n": 61, "auc": 0.9, "threshold": point, "temperature": 2.0}
    metrics = {"hf_diagnosis": {"labs+ecg+echo": entry}}
    card = model_card("a/b", config={"tasks": {}}, run=None, metrics=metrics, licences=[])
    assert "threshold 0.400 of the scaled probability (0.310 of the model's own): Youden" in card
    entry["temperature"] = None
    card = model_card("a/b", config={"tasks": {}}, run=None, metrics=metrics, licences=[])
    assert "threshold 0.400: Youden" in card


@pytest.mark.parametrize(
    ("sizes", "shown"),
    [((19, 42, 50), (False, False, True)), ((18, 19, 50), (False, False, True)), ((20, 42, 50), (True, True, True))],
)
def test_small_groups_do_not_follow_by_subtraction(sizes: tuple[int, ...], shown: tuple[bool, ...]) -> None:
    everybody = {"grouping": "all", "group": "all", "n": sum(sizes)}
    groups = [everybody, *({"grouping": "ethnicity", "group": f"g{n}", "n": n} for n in sizes)]
    entries = [group | {"positives": group["n"] // 2, "auc": 0.7, "auc_ci": None} for group in groups]
    card = model_card("a/b", config={"tasks": {}}, run=None, metrics={"subgroups": {"dx": entries}}, licences=[])
    assert tuple(f"| g{n} | {n} | {n // 2} |" in card for n in sizes) == shown


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


@pytest.fixture
def api(hub: Hub) -> HfApi:
    return HfApi(endpoint=hub.url, token="any")


@pytest.fixture(scope="module")
def model() -> TgmmModel:
    return smallest_model(seed=5)


@pytest.fixture
def saved(tmp_path: Path, model: TgmmModel) -> Path:
    save_repository(model, default_processor(model.config, tiny_tokenizer()), tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain uploads, and not offline: `make test` is, but the Hub of these tests is this machine."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)


PULL = """
import sys
sys.modules["tgmm_hf"] = None  # importing it raises ImportError
import json, pathlib
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoProcessor, pipeline

repo, work, first, second = sys.argv[1], pathlib.Path(sys.argv[2]), *sys.argv[3:]
batch = torch.load(work / "batch.pt")
patient = {"labs": {"Creatinine": 1.4, "age": 71}}
pulled = {}
for name, pinned in {"first": {"revision": first}, "latest": {}}.items():
    pinned["trust_remote_code"] = True
    model = AutoModel.from_pretrained(repo, **pinned).eval()
    classifier = AutoModelForSequenceClassification.from_pretrained(repo, **pinned).eval()
    inputs = AutoProcessor.from_pretrained(repo, **pinned)(**patient, return_tensors="pt")
    with torch.no_grad():
        pulled[name] = {
            "model": model(**batch, task="hf_diagnosis").logits,
            "classifier": classifier(**batch).logits,
            "labs": model(**inputs, task="hf_diagnosis").logits,
            "pipeline": pipeline("cardiac-analysis", model=repo, device="cpu", **pinned)(patient),
            "marker": getattr(sys.modules[type(model).__module__], "MARKER", None),
        }
mixed = AutoModel.from_pretrained(repo, revision=second, code_revision=first, trust_remote_code=True).eval()
with torch.no_grad():
    pulled["mixed"] = {"model": mixed(**batch, task="hf_diagnosis").logits}
pulled["mixed"]["marker"] = getattr(sys.modules[type(mixed).__module__], "MARKER", None)
torch.save(pulled, work / "pulled.pt")
assert not any(name.startswith("tgmm_hf.") for name in sys.modules)
"""


def pull(hub: Hub, work: Path, *revisions: str) -> dict:
    """What a clean process gets from the Hub at the first revision, the latest, and with weights and code mixed."""
    there = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}
    run_without_package(PULL, "owner/tgmm", work, *revisions, work=work, **there)
    return torch.load(work / "pulled.pt", weights_only=False)


def test_pushed_over_http_and_pulled_in_a_clean_process(
    hub: Hub, tmp_path: Path, saved: Path, model: TgmmModel, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Pushed twice, the second time with other weights and code: `revision` and `code_revision` tell them apart."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", "any")
    batch = random_batch(model.config, batch_size=2)
    torch.save(batch, tmp_path / "batch.pt")
    with pytest.raises(SystemExit) as stopped:
        main(["push", str(saved), "owner/tgmm"])
    assert stopped.value.code == 0
    first = hub.repositories["model", "owner/tgmm"].branches["main"]
    assert first in capsys.readouterr().out
    other = smallest_model(seed=6)
    save_repository(other, default_processor(other.config, tiny_tokenizer()), saved)
    with (saved / "modeling_tgmm.py").open("a") as code:
        code.write('\nMARKER = "second"\n')
    second = push_model(saved, "owner/tgmm").oid

    pulled = pull(hub, tmp_path, first, second)
    expected = {}
    for name, pushed in (("first", model), ("latest", other)):
        with torch.no_grad():
            expected[name] = pushed(**batch, task="hf_diagnosis").logits
        found = pulled[name]
        assert_close(found["model"], expected[name])
        assert_close(found["classifier"], expected[name])
        probabilities = torch.tensor(list(found["pipeline"]["hf_diagnosis"]["probabilities"].values()))
        assert torch.allclose(probabilities, found["labs"][0].softmax(-1), atol=1e-6)
    assert [pulled[name]["marker"] for name in ("first", "latest", "mixed")] == [None, "second", None]
    assert [pulled[name]["pipeline"]["code_revision"] for name in ("first", "latest")] == [first, second]
    assert_close(pulled["mixed"]["model"], expected["latest"])


def test_private_repository_branch_and_card(hub: Hub, api: HfApi, saved: Path, tmp_path: Path) -> None:
    (saved / "run.json").write_text(json.dumps(RUN))
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS | {"weights": weights_digest(saved)}))
    encoder = tmp_path / "st-mem"
    encoder.mkdir()
    (encoder / "README.md").write_text(
        "---\nlicense: cc-by-nc-4.0\nlicense_link: https://example.org/l\n---\n# ST-MEM\n"
    )
    commit = push_model(
        saved,
        "owner/branched",
        private=True,
        revision="experiment",
        metrics=tmp_path / "metrics.json",
        encoders=[encoder],
        accept_licences=True,
        api=api,
    )
    repository = hub.repositories["model", "owner/branched"]
    assert repository.private and repository.branches["experiment"] == commit.oid
    assert set(repository.at("main").files) == {".gitattributes"}
    files = repository.at("experiment").files
    assert "run.json" not in files and "model.safetensors" in files

    card = files["README.md"].decode()
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["license"] == "other" and metadata["library_name"] == "transformers"
    (entry,) = metadata["model-index"]
    measured = {r["task"]["name"]: {m["type"] for m in r["metrics"]} for r in entry["results"]}
    assert measured["hf_diagnosis from labs"] == {"auc", "accuracy"} and measured["hf_risk from labs"] == {"c_index"}
    figures = {(r["task"]["name"], m["type"]): m for r in entry["results"] for m in r["metrics"]}
    auc = figures["hf_diagnosis from labs", "auc"]
    assert auc["value"] == 0.91 and auc["args"] == {"confidence_interval": [0.85, 0.97], "n": 61}
    assert ("hf_risk from ecg", "c_index") not in figures  # nobody was scored
    for text in ("cc-by-nc-4.0", "`abc`", "0.850 to 0.970", "Not a medical device", "@article", "n = 17", "synthetic"):
        assert text in card, text
    assert "| all | all | 61 | 30 | 0.910 (0.850 to 0.970) | 0.800 (0.700 to 0.900) | 0.750 |" in card
    assert "| age, years | under 50 | 21 | < 10 | not scored: one class |  |  |" in card
    assert "| sex | male | < 20 | - | not scored |  |  |" in card  # 19 and 7 might name people
    assert "| sex | female | not shown | - | not shown |  |  |" in card  # 61 - 42 would be 19
    assert "| all | all | 30 | < 10 | 0.700 |" in card
    assert "| labs | 0.910 (0.850 to 0.970) | 61 | 0.700 (0.600 to 0.800) | 17 |" in card
    assert "| NTproBNP | pg/mL |" in card and "pip install" in card


@pytest.mark.parametrize("stray", ["patient.json", "prediction.json", "notes.txt", "echo.dcm", "training/a.json"])
def test_anything_else_in_the_directory_is_refused(hub: Hub, api: HfApi, saved: Path, stray: str) -> None:
    (saved / stray).parent.mkdir(exist_ok=True)
    (saved / stray).write_text("{}")
    with pytest.raises(NotForTheHubError, match=stray):
        push_model(saved, "owner/refused", api=api)
    assert ("model", "owner/refused") not in hub.repositories


def test_a_link_out_of_the_directory_is_refused(api: HfApi, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("{}")
    (saved / "vocab.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(NotForTheHubError, match=r"vocab\.json"):
        push_model(saved, "owner/refused", api=api)


def test_incomplete_models_are_refused(api: HfApi, saved: Path) -> None:
    (saved / "tokenizer.json").unlink()
    (saved / "model.safetensors").unlink()
    with pytest.raises(NotForTheHubError, match=r"lacks tokenizer\.json, model\.safetensors"):
        push_model(saved, "owner/refused", api=api)


def test_a_card_of_ones_own_is_kept(hub: Hub, api: HfApi, saved: Path, tmp_path: Path) -> None:
    (saved / "README.md").write_text("# mine\n")
    push_model(saved, "owner/own-card", api=api)
    assert hub.repositories["model", "owner/own-card"].at("main").files["README.md"] == b"# mine\n"
    with pytest.raises(ValueError, match="uploaded as it is"):
        push_model(saved, "owner/own-card", metrics=tmp_path / "metrics.json", api=api)


def test_figures_of_other_weights_are_refused(hub: Hub, api: HfApi, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS | {"weights": "sha256:0"}))
    with pytest.raises(ValueError, match=r"metrics\.json: .* of other weights \(sha256:0; "):
        push_model(saved, "owner/refused", metrics=tmp_path / "metrics.json", api=api)
    assert ("model", "owner/refused") not in hub.repositories


def test_an_encoder_without_a_declared_licence_is_refused(api: HfApi, saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no README\.md"):
        push_model(saved, "owner/refused", encoders=[tmp_path], api=api)
    (tmp_path / "README.md").write_text("# an encoder\n")
    with pytest.raises(ValueError, match="declares no licence"):
        push_model(saved, "owner/refused", encoders=[tmp_path], api=api)


def test_closed_licences_have_to_be_acknowledged_and_all_are_in_the_card(
    hub: Hub, api: HfApi, saved: Path, tmp_path: Path
) -> None:
    config = json.loads((saved / "config.json").read_text())
    config["encoder_sources"] = {
        "labs": {"source": "bert", "license": "mit", "license_name": None, "license_link": None},
        "ecg": {
            "source": "st_mem",
            "license": "cc-by-nc-4.0",
            "license_name": None,
            "license_link": "https://x.org/nc",
        },
    }
    (saved / "config.json").write_text(json.dumps(config))
    (saved / "view_classifier").mkdir()
    (saved / "view_classifier" / "README.md").write_text("---\nlicense: other\nlicense_name: views-licence\n---\n")
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    with pytest.raises(NotForTheHubError, match="(?s)cc-by-nc-4.0.*views-licence.*accept-licences") as refused:
        push_model(saved, "owner/licences", encoders=[tmp_path], api=api)
    assert "bert" not in str(refused.value)
    push_model(saved, "owner/licences", encoders=[tmp_path], accept_licences=True, api=api)
    card = hub.repositories["model", "owner/licences"].at("main").files["README.md"].decode()
    for text in ("license: other", "`bert`: mit", "cc-by-nc-4.0, https://x.org/nc", "views-licence", "apache-2.0"):
        assert text in card, text


def synthetic_cohort(directory: Path) -> Path:
    (directory / "ecg").mkdir(parents=True)
    for name in ("truth.parquet", "views.csv", "synth.json", "ecg/1.hea", "ecg/1.dat"):
        (directory / name).write_bytes(np.random.default_rng(0).bytes(20))
    table = pa.table({"id": ["1"], "ecg_path": ["ecg/1"], "echo_paths": pa.array([None], pa.list_(pa.string()))})
    pq.write_table(table, directory / "cohort.parquet")
    (directory / "bayes.json").write_text(json.dumps({"population": {"hf_diagnosis": {"labs": {"auc": 0.8}}}}))
    return directory


def test_synthetic_cohorts_can_be_published_and_no_others(hub: Hub, api: HfApi, tmp_path: Path) -> None:
    cohort = synthetic_cohort(tmp_path / "cohort")
    push_cohort(cohort, "owner/cohort", api=api)
    files = hub.repositories["dataset", "owner/cohort"].at("main").files
    assert files["ecg/1.dat"] == (cohort / "ecg" / "1.dat").read_bytes()
    assert "Every patient is invented" in files["README.md"].decode()
    for stray in ("notes.docx", "ecg/2.hea", "mine/smith.dcm", "hospital_labs.csv"):
        (cohort / stray).parent.mkdir(exist_ok=True)
        (cohort / stray).write_text("")
        with pytest.raises(NotForTheHubError, match=stray):
            push_cohort(cohort, "owner/cohort", api=api)
        (cohort / stray).unlink()
    (cohort / "truth.parquet").unlink()
    with pytest.raises(NotForTheHubError, match="Only synthetic cohorts"):
        push_cohort(cohort, "owner/cohort", api=api)


def test_publishing_data_needs_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["push-data", str(synthetic_cohort(tmp_path / "cohort")), "owner/cohort"])
    assert stopped.value.code == 2 and "--publish" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["bad", "a/b/c", "owner/", "owner/na me", "../up"])
def test_a_wrong_name_is_refused_before_files_and_network(name: str, tmp_path: Path) -> None:
    for push in (push_model, push_cohort):
        with pytest.raises(TgmmError, match="owner/name"):
            push(tmp_path / "none", name)


def test_without_a_network_there_is_one_sentence(saved: Path) -> None:
    with pytest.raises(TgmmError, match="cannot be reached"):
        push_model(saved, "owner/name", api=HfApi(endpoint="http://127.0.0.1:9", token="any"))


def test_a_hub_that_says_no_is_one_sentence(saved: Path) -> None:
    class Refusing(HfApi):
        def create_repo(self, *_: Any, **__: Any) -> Any:
            raise HfHubHTTPError("no", response=SimpleNamespace(status_code=403, request=None, headers={}))

    with pytest.raises(TgmmError, match="hf auth login"):
        push_model(saved, "owner/name", api=Refusing())


def test_an_offline_switch_is_named(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(TgmmError, match="HF_HUB_OFFLINE"):
        push_model(saved, "owner/name")
