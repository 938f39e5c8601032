"""A saved repository needs little: `transformers torch scipy` for labs and ECG arrays, `wfdb pydicom` for ECG and echo
files (wfdb brings Pillow, by matplotlib), `opencv-python-headless` for echo clips."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cohort_files import write_clip, write_ecg
from heart_signal import make_heart
from tiny_models import smallest_model, tiny_tokenizer

from tgmm_hf import default_processor
from tgmm_hf.training.saving import save_repository
from tgmm_hf.utils.names import LEADS

ROOT = Path(__file__).resolve().parents[1]

PREDICT = """
import importlib.util, json, pathlib, sys
import numpy as np
from transformers import AutoModel, AutoModelForSequenceClassification, AutoProcessor, pipeline

directory, work, given = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
others = ("tgmm_hf", "datasets", "wfdb", "pydicom", "PIL", "cv2")
present = [name for name in others if importlib.util.find_spec(name)]
AutoModel.from_pretrained(directory, trust_remote_code=True)
AutoModelForSequenceClassification.from_pretrained(directory, trust_remote_code=True)
AutoProcessor.from_pretrained(directory, trust_remote_code=True)
patient = json.loads((work / "patient.json").read_text())
if given == "arrays":
    patient["ecg"]["signal"] = np.load(work / "signal.npy")
else:
    patient["ecg"] = str(work / "record")
    patient |= {"echo": str(work / "study"), "views": {"a4c.dcm": "A4C"}}
analyse = pipeline("cardiac-analysis", model=directory, trust_remote_code=True, device="cpu")
print(json.dumps({"present": present, "answer": analyse(patient)}))
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("clean")
    model = smallest_model()
    save_repository(model, default_processor(model.config, tiny_tokenizer()), work / "model")
    np.save(work / "signal.npy", make_heart(2500, 250))
    patient = {"labs": {"Creatinine": 1.4, "age": 71}, "ecg": {"sampling_rate": 250, "lead_names": list(LEADS)}}
    (work / "patient.json").write_text(json.dumps(patient))
    write_ecg(work / "record", seed=0)
    write_clip(work / "study" / "a4c.dcm", seed=0)
    return work


@pytest.fixture(scope="module")
def python(work: Path) -> Path:
    """Interpreter of a new virtual environment with torch, transformers and scipy."""
    run([sys.executable, "-m", "venv", str(work / "venv")])
    python = work / "venv" / "bin" / "python"
    run(["sh", str(ROOT / "scripts" / "install_torch.sh"), str(python), "torch"])
    install(python, "transformers", "scipy")
    return python


def run(command: list[str], cwd: Path | None = None) -> str:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "HF_HOME")}
    if cwd is not None:
        environment["HF_HOME"] = str(cwd / "home")
    completed = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr[-3000:]
    return completed.stdout


def install(python: Path, *packages: str) -> None:
    run([str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", *packages])


@pytest.mark.slow
def test_a_clean_environment_predicts_from_arrays_then_from_files(work: Path, python: Path) -> None:
    command = [str(python), "-c", PREDICT, str(work / "model"), str(work)]

    def predict(given: str, modalities: set[str]) -> list[str]:
        """Packages that were there; the answer rests on all that was given."""
        result = json.loads(run([*command, given], cwd=work).splitlines()[-1])
        answer = result["answer"]
        assert not answer["refused"] and {name for name, used in answer["used"].items() if used} == modalities
        assert sum(answer["hf_diagnosis"]["probabilities"].values()) == pytest.approx(1, abs=1e-6)
        return result["present"]

    assert predict("arrays", {"labs", "ecg"}) == []
    with pytest.raises(AssertionError, match="needs wfdb: pip install wfdb"):
        run([*command, "files"], cwd=work)
    install(python, "wfdb", "pydicom")
    with pytest.raises(AssertionError, match="needs opencv-python-headless: pip install opencv-python-headless"):
        run([*command, "files"], cwd=work)
    install(python, "opencv-python-headless")
    assert "tgmm_hf" not in predict("files", {"labs", "ecg", "echo"})
