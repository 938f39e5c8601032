"""`pipeline("cardiac-analysis")`: batches, mixed modalities, generators, and answers that are plain JSON."""

import json
from collections.abc import Iterator
from types import GeneratorType

import numpy as np
import pytest
import torch
from heart_signal import make_heart
from input_files import make_patches
from tiny_models import smallest_model, tiny_tokenizer
from transformers import pipeline

import tgmm_hf
from tgmm_hf.evaluation.baseline_hazards import fit_baseline_hazards
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.names import LEADS, MODALITIES

TASKS = ["hf_diagnosis", "hf_risk", "retrieval"]


@pytest.fixture(scope="module")
def pipe() -> tgmm_hf.TgmmCardiacPipeline:
    model = smallest_model(seed=2)
    processor = tgmm_hf.default_processor(model.config, tiny_tokenizer())
    return pipeline("cardiac-analysis", model=model, processor=processor, device="cpu")


def ecg(seed: int) -> dict:
    signal = make_heart(2500, 250, seed)
    return {"signal": signal, "sampling_rate": 250, "lead_names": list(LEADS)}


def clip(seed: int) -> np.ndarray:
    return make_patches(seed=seed)


def patients() -> list[dict]:
    """Five patients with different modalities, the last with none that can be used."""
    return [
        {"id": "all", "labs": {"Creatinine": 1.4, "age": 71}, "ecg": ecg(0), "echo": {"A4C": clip(0)}},
        {"id": "labs", "labs": {"NTproBNP": 5210}},
        {"id": "ecg", "ecg": ecg(1)},
        {"id": "echo", "echo": {"A2C": clip(1), "A4C": clip(2)}},
        {"id": "short", "ecg": {**ecg(2), "signal": ecg(2)["signal"][:, :1000]}},
    ]


def numbers(answer: dict) -> list[float]:
    embeds = [number for vector in answer["retrieval"]["embeds"].values() for number in vector]
    return [*answer["hf_diagnosis"]["probabilities"].values(), answer["hf_risk"]["risk"], *embeds]


def test_registered_by_name(pipe):
    assert isinstance(pipe, tgmm_hf.TgmmCardiacPipeline)


@pytest.mark.parametrize("batch_size", [2, 5])
def test_a_batch_of_mixed_patients_equals_its_singles(pipe, batch_size):
    together = pipe(patients(), tasks=TASKS, batch_size=batch_size)
    assert [answer["id"] for answer in together] == [patient["id"] for patient in patients()]
    for answer, patient in zip(together[:4], patients(), strict=False):
        alone = pipe(patient, tasks=TASKS)
        assert numbers(answer) == pytest.approx(numbers(alone), abs=1e-5)
        given = {name for name in MODALITIES if name in patient}
        assert {name for name in MODALITIES if answer["used"][name]} == given
        assert set(answer["retrieval"]["embeds"]) == given
    assert "hf_diagnosis" not in together[4] and "9" in together[4]["refused"][0]["reason"]


def test_answers_are_plain_json(pipe):
    answers = pipe(patients(), tasks=TASKS, batch_size=3)
    assert json.loads(json.dumps(answers, allow_nan=False)) == answers


def test_a_generator_is_read_batch_by_batch(pipe):
    """An endless stream can be analysed: no more is read than the answers taken need."""
    read = 0

    def endless() -> Iterator[dict]:
        nonlocal read
        while True:
            read += 1
            yield {"id": read, "labs": {"age": 40 + read % 50}}

    answers = pipe(endless(), tasks="hf_diagnosis", batch_size=4)
    assert isinstance(answers, GeneratorType) and read == 0
    assert [next(answers)["id"] for _ in range(5)] == [1, 2, 3, 4, 5] and read == 8
    assert "hf_risk" not in next(answers)


def test_defaults_of_the_pipeline_hold_for_its_calls(pipe):
    fixed = pipeline("cardiac-analysis", model=pipe.model, processor=pipe.processor, tasks=["hf_risk"], batch_size=2)
    assert [("hf_risk" in a, "hf_diagnosis" in a) for a in fixed(patients()[:3])] == [(True, False)] * 3


def test_three_windows_are_averaged(pipe):
    long = {**ecg(3), "signal": make_heart(5000, 250, 3)}
    centre, three = (pipe({"ecg": long}, crop=crop) for crop in ("center", "three"))
    assert centre["hf_diagnosis"] != three["hf_diagnosis"]
    assert sum(three["hf_diagnosis"]["probabilities"].values()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ((["labs"], {}), "A patient is a dict.*got str"),
        (({"lab": {}}, {}), r"\['lab'\]"),
        (({"labs": {"age": 70}}, {"tasks": ["stroke"]}), "stroke"),
        (({"labs": {"age": 70}}, {"top_k": 1}), "top_k"),
        (({"labs": {"age": 70}}, {"tasks": 5}), "tasks"),
        (({"labs": {"age": 70}}, {"batch_size": "8"}), "batch_size"),
        (({"labs": {"age": 70}}, {"batch_size": -1}), "batch_size"),
        (("record", {}), "A patient is a dict"),
    ],
)
def test_misuse_is_named(pipe, call, message):
    inputs, options = call
    with pytest.raises((ValueError, TypeError, AttributeError), match=message):
        pipe(inputs, **options)


def test_half_precision_answers(pipe):
    half = pipeline("cardiac-analysis", model=smallest_model(seed=2).to(torch.bfloat16), processor=pipe.processor)
    for answer, full in zip(half(patients()[:4]), pipe(patients()[:4]), strict=True):
        assert list(answer["hf_diagnosis"]["probabilities"].values()) == pytest.approx(
            list(full["hf_diagnosis"]["probabilities"].values()), abs=0.05
        )


def test_a_score_beyond_the_fitted_patients_is_said(pipe: tgmm_hf.TgmmCardiacPipeline) -> None:
    patient = {"labs": {"Creatinine": 1.4, "age": 71}}
    risk = pipe(patient, tasks=["hf_risk"])["hf_risk"]["risk"]
    task = pipe.model.config.tasks["hf_risk"]
    random = np.random.default_rng(0)
    for shift, outside in ((0.0, False), (9.0, True)):
        scores = np.append(random.normal(risk + shift, 1, 48), [risk + shift - 3, risk + shift + 3])
        time, event = random.exponential(900, 50), random.integers(0, 3, 50)
        task["baseline_hazards"] = {"labs": fit_baseline_hazards(scores, time, event)}
        answer = pipe(patient, tasks=["hf_risk"])
        assert any("extrapolated" in note for note in answer["notes"]) is outside
        assert answer["hf_risk"]["risk_by_day"]
    del task["baseline_hazards"]


def test_a_damaged_weight_gives_no_answer():
    model = smallest_model(seed=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter[...] = float("nan")
    damaged = pipeline(
        "cardiac-analysis", model=model, processor=tgmm_hf.default_processor(model.config, tiny_tokenizer())
    )
    with pytest.raises(TgmmError):
        damaged({"labs": {"Sodium": 140}})
