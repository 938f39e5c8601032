"""A saved directory works in a clean process where the package cannot be imported, with identical numbers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from closeness import assert_close
from fresh_process import run_without_package
from heart_signal import make_heart
from tiny_models import random_batch, smallest_model, tiny_tokenizer

from tgmm_hf.modeling_tgmm import TgmmForSequenceClassification, TgmmModel
from tgmm_hf.pipeline_tgmm import code_revision
from tgmm_hf.processing_tgmm import default_processor

PATIENT = {
    "labs": {"Creatinine": 1.4, "age": 71, "gender": "F"},
    "ecg": {"sampling_rate": 250, "lead_names": ["I", "II", *[f"V{i}" for i in range(1, 7)]]},
}

CLEAN_PROCESS = """
import sys
sys.modules["tgmm_hf"] = None  # importing it raises ImportError
import json, pathlib
import numpy as np, torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoProcessor, pipeline

directory, work = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
batch = torch.load(work / "batch.pt")
patient = json.loads((work / "patient.json").read_text())
patient["ecg"]["signal"] = np.load(work / "signal.npy")

config = AutoConfig.from_pretrained(directory, trust_remote_code=True)
model = AutoModel.from_pretrained(directory, trust_remote_code=True).eval()
classifier = AutoModelForSequenceClassification.from_pretrained(directory, trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained(directory, trust_remote_code=True)
pipe = pipeline("cardiac-analysis", model=str(directory), trust_remote_code=True, device="cpu")
with torch.no_grad():
    outputs = {
        "diagnosis": model(**batch, task="hf_diagnosis").logits,
        "embeds": model(**batch, task="retrieval").embeds["echo"],
        "classifier": classifier(**batch).logits,
    }
inputs = processor(labs=patient["labs"], ecg=patient["ecg"], return_tensors="pt")
torch.save({**outputs, "inputs": dict(inputs)}, work / "clean.pt")
short = {**patient, "ecg": {**patient["ecg"], "signal": patient["ecg"]["signal"][:, :1000]}, "echo": str(work)}
answers = {"pipeline": pipe(patient), "refused": pipe(short), "tasks": list(config.tasks)}
by_object = pipeline("cardiac-analysis", model=model, processor=processor, device="cpu")
assert set(by_object(patient)) == set(answers["pipeline"]) and by_object(patient)["checks"] == []
(work / "clean.json").write_text(json.dumps(answers))
model.save_pretrained(work / "again")
processor.save_pretrained(work / "again")
assert not any(name.startswith("tgmm_hf.") for name in sys.modules)
"""


def run_clean(directory: Path, work: Path, home: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    completed = subprocess.run(
        [sys.executable, "-c", CLEAN_PROCESS, str(directory), str(work)],
        env=environment,
        cwd=work,
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 0, completed.stderr[-3000:]


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def model():
    return smallest_model(seed=3)


def test_clean_process_loads_everything_and_answers_the_same(tmp_path, model):
    processor = default_processor(model.config, tiny_tokenizer())
    saved = tmp_path / "tgmm"
    model.save_pretrained(saved)
    processor.save_pretrained(saved)
    batch = random_batch(model.config)
    torch.save(batch, tmp_path / "batch.pt")
    signal = make_heart(2500, 250)[[0, 1, *range(6, 12)]]
    np.save(tmp_path / "signal.npy", signal)
    (tmp_path / "patient.json").write_text(json.dumps(PATIENT))

    run_clean(saved, tmp_path, tmp_path / "home")

    clean = torch.load(tmp_path / "clean.pt")
    with torch.no_grad():
        assert_close(clean["diagnosis"], model(**batch, task="hf_diagnosis").logits)
        assert_close(clean["classifier"], clean["diagnosis"])
        assert_close(clean["embeds"], model(**batch, task="retrieval").embeds["echo"])
    patient = {**PATIENT, "ecg": {**PATIENT["ecg"], "signal": signal}}
    inputs = processor(labs=patient["labs"], ecg=patient["ecg"], return_tensors="pt")
    assert_close(clean["inputs"], inputs)
    report = json.loads((tmp_path / "clean.json").read_text())
    assert report["tasks"] == list(model.config.tasks)
    answer = report["pipeline"]
    assert answer["used"]["labs"] and answer["used"]["ecg"] and not answer["used"]["echo"]
    assert answer["code_revision"] == code_revision(model, processor)
    assert sum(answer["hf_diagnosis"]["probabilities"].values()) == pytest.approx(1, abs=1e-6)

    # An ECG of 4 s and a directory without clips are refused with their reasons, the labs still answer.
    refused = report["refused"]
    assert "4" in refused["refused"][0]["reason"] and "9" in refused["refused"][0]["reason"]
    assert len(refused["refused"]) >= 2 and refused["used"]["labs"] and not refused["used"]["ecg"]
    assert sum(refused["hf_diagnosis"]["probabilities"].values()) == pytest.approx(1, abs=1e-6)

    # What was loaded from code in a directory saves again, code included.
    fresh = {"HF_HOME": str(tmp_path / "home2"), "HF_HUB_OFFLINE": "1"}
    run_without_package(CLEAN_PROCESS, tmp_path / "again", tmp_path, work=tmp_path, **fresh)
    assert_close(torch.load(tmp_path / "clean.pt")["diagnosis"], clean["diagnosis"])


def test_a_repository_saved_from_the_head_serves_the_base_model_too(tmp_path, model):
    head = TgmmForSequenceClassification(model.config)
    head.tgmm.load_state_dict(model.state_dict())
    head.save_pretrained(tmp_path)
    from tgmm_hf.modeling_tgmm import TgmmModel

    again = TgmmModel.from_pretrained(tmp_path).eval()
    batch = random_batch(model.config)
    with torch.no_grad():
        assert_close(again(**batch, task="hf_risk").logits, model(**batch, task="hf_risk").logits)
    auto_map = json.loads((tmp_path / "config.json").read_text())["auto_map"]
    assert set(auto_map) == {"AutoConfig", "AutoModel", "AutoModelForSequenceClassification"}


def test_a_subclass_stands_in_the_place_of_its_base_class(tmp_path, model):
    """A class of a notebook has no file that could travel, so its base class is saved and a warning says so."""

    class NotebookModel(TgmmModel):
        pass

    NotebookModel.__module__ = "__main__"
    NotebookModel(model.config).save_pretrained(tmp_path / "notebook")
    auto_map = json.loads((tmp_path / "notebook" / "config.json").read_text())["auto_map"]
    assert auto_map["AutoModel"] == "modeling_tgmm.TgmmModel"
    assert (tmp_path / "notebook" / "modeling_tgmm.py").is_file()

    class OwnModel(TgmmModel):
        pass

    assert OwnModel(model.config).hub_classes()["AutoModel"] is OwnModel
