"""A saved model without optional packages answers from lab rows and ECG arrays, and names the package for the rest."""

import json
from pathlib import Path

import numpy as np
from fresh_process import run_without_package
from input_files import make_clip, make_ecg, write_clip
from tiny_models import smallest_model, tiny_tokenizer
from vendor_files import write_csv

from tgmm_hf.processing_tgmm import default_processor
from tgmm_hf.utils.names import LEADS

ANSWER = """
import json, sys
for name in ("tgmm_hf", "wfdb", "PIL", "cv2", "ecgdatakit", "defusedxml"):
    sys.modules[name] = None  # importing it raises ImportError
import numpy as np
from transformers import pipeline

directory = sys.argv[1]
analyse = pipeline("cardiac-analysis", model=directory + "/model", trust_remote_code=True, device="cpu")
ecg = {"signal": np.load(directory + "/signal.npy"), "sampling_rate": 500, "lead_names": json.loads(sys.argv[2])}
answers = {"arrays": analyse({"labs": {"Creatinine": 1.4}, "ecg": ecg})}
answers["table"] = analyse({"ecg": directory + "/table.csv"})
clip = np.load(directory + "/clip.npy")
for name, patient in {
    "clip array": {"echo": {"A4C": clip}},
    "clip file": {"echo": {"A4C": directory + "/clip.dcm"}},
    "video": {"echo": {"A4C": directory + "/clip.mp4"}},
    "recording": {"ecg": directory + "/recording"},
    "export": {"ecg": directory + "/export.xml"},
}.items():
    try:
        analyse(patient)
    except ImportError as error:
        answers[name] = str(error)
print(json.dumps(answers))
"""


def test_a_saved_model_names_the_package_that_an_input_needs(tmp_path: Path) -> None:
    model = smallest_model()
    model.save_pretrained(tmp_path / "model")
    default_processor(model.config, tiny_tokenizer()).save_pretrained(tmp_path / "model")
    np.save(tmp_path / "signal.npy", make_ecg())
    np.save(tmp_path / "clip.npy", make_clip(frames=10))
    write_clip(tmp_path / "clip.dcm", make_clip(frames=10))
    (tmp_path / "clip.mp4").write_bytes(b"any")
    (tmp_path / "recording.hea").write_text("any")
    (tmp_path / "export.xml").write_text("<RestingECG></RestingECG>")
    write_csv(tmp_path / "table.csv", make_ecg(), list(LEADS), ("# sampling_rate: 500", "# units: mV"))
    printed = run_without_package(ANSWER, tmp_path, json.dumps(LEADS), work=tmp_path)
    answers = json.loads(printed.splitlines()[-1])
    used = answers["arrays"]["used"]
    assert used["labs"] == ["Creatinine"] and used["ecg"] == list(LEADS) and not answers["arrays"]["refused"]
    assert answers["clip array"].endswith("pip install opencv-python-headless")
    assert answers["clip file"].endswith("pip install opencv-python-headless")
    assert answers["video"].endswith("pip install opencv-python-headless")
    assert answers["recording"].endswith("pip install wfdb")
    assert answers["export"].endswith('pip install "tgmm-hf[formats]"')
    assert answers["table"]["used"]["ecg"] == list(LEADS) and not answers["table"]["refused"]
