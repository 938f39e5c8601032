"""A tiny model, its processor and a patient with all modalities."""

import pytest
from heart_signal import make_heart
from input_files import make_patches
from tiny_models import smallest_model, tiny_tokenizer

import tgmm_hf
from tgmm_hf.explanation.scoring import PatientScore, question_of
from tgmm_hf.utils.names import LEADS

LABS = {"Creatinine": 1.4, "age": 71, "NTproBNP": 5210, "gender": "F", "Sodium": 139}


@pytest.fixture(scope="session")
def model():
    return smallest_model(seed=2)


@pytest.fixture(scope="session")
def processor(model):
    return tgmm_hf.default_processor(model.config, tiny_tokenizer())


@pytest.fixture(scope="session")
def patient():
    return {
        "id": "one",
        "labs": LABS,
        "ecg": {"signal": make_heart(5000, 500, 0), "sampling_rate": 500, "lead_names": list(LEADS)},
        "echo": {"A4C": make_patches(seed=0), "A2C": make_patches(seed=1), "SSN": make_patches(seed=2)},
    }


@pytest.fixture(scope="session")
def inputs(processor, patient):
    given = {name: patient[name] for name in ("labs", "ecg", "echo")}
    return dict(processor(**given, return_tensors="pt"))


@pytest.fixture(scope="session")
def score(model, inputs):
    return PatientScore(model, inputs, question_of(model.config.tasks, "hf_diagnosis"))


@pytest.fixture(scope="session")
def labs(processor):
    return processor.labs_text(LABS)
