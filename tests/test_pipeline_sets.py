"""Prediction sets in the pipeline: stored thresholds, several levels, and sets that belong to other weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from heart_signal import make_heart
from tiny_models import smallest_model, tiny_tokenizer
from transformers import pipeline

from tgmm_hf import TgmmModel, default_processor
from tgmm_hf.pipeline_binding import weights_id
from tgmm_hf.training.saving import save_repository
from tgmm_hf.utils.names import LEADS

PATIENT = {"labs": {"NTproBNP": 5210, "age": 71}}


@pytest.fixture
def model() -> Any:
    return smallest_model(seed=2)


def answering(model: Any) -> Any:
    return pipeline("cardiac-analysis", model=model, processor=default_processor(model.config, tiny_tokenizer()))


def store(model: Any, thresholds: dict[str, list[float | None]], subset: str = "labs") -> None:
    sets = {"subsets": {subset: {"thresholds": thresholds}}, "weights": weights_id(model)}
    model.config.tasks["hf_diagnosis"]["prediction_sets"] = sets


def test_a_model_without_sets_gives_none(model):
    assert set(answering(model)(PATIENT)["hf_diagnosis"]) == {"probabilities"}


@pytest.mark.parametrize(
    ("shift", "text", "size"),
    [((-0.1, 0.1), "no heart failure", 1), ((0.1, -0.1), "heart failure", 1), ((-0.1, -0.1), "cannot say at 90 %", 2)],
)
def test_thresholds_below_the_probability_keep_a_candidate(model, shift, text, size):
    pipe = answering(model)
    probabilities = list(pipe(PATIENT)["hf_diagnosis"]["probabilities"].values())
    store(model, {"0.9": [p + s for p, s in zip(probabilities, shift, strict=True)]})
    answer = pipe(PATIENT)
    found = answer["hf_diagnosis"]["prediction_set"]
    assert (found["level"], found["text"], len(found["candidates"])) == (0.9, text, size)
    assert not any("hf_diagnosis" in note for note in answer["notes"])


@pytest.mark.parametrize("thresholds", [[1.1, 1.1], [0.0, None]])
def test_no_candidate_and_too_few_patients_leave_nothing_out(model, thresholds):
    store(model, {"0.9": thresholds})
    answer = answering(model)(PATIENT)
    assert answer["hf_diagnosis"]["prediction_set"]["text"] == "cannot say at 90 %"
    assert sum(note.startswith("hf_diagnosis") for note in answer["notes"]) == 1


def test_a_subset_without_patients_cannot_say(model):
    store(model, {"0.9": [0.0, 1.0]}, subset="ecg")
    answer = answering(model)(PATIENT)
    assert len(answer["hf_diagnosis"]["prediction_set"]["candidates"]) == 2


def test_several_levels_are_all_given(model):
    store(model, {"0.8": [1.0, 0.0], "0.95": [0.0, 0.0]})
    model.config.tasks["hf_diagnosis"]["set_levels"] = [0.8, 0.95]
    answer = answering(model)(PATIENT)["hf_diagnosis"]
    assert answer["prediction_set"] == answer["prediction_sets"][0]
    assert [(each["level"], each["text"]) for each in answer["prediction_sets"]] == [
        (0.8, "heart failure"),
        (0.95, "cannot say at 95 %"),
    ]


def test_sets_and_hazards_of_other_weights_are_not_used(model, tmp_path: Path):
    store(model, {"0.9": [1.0, 0.0]})
    hazard = {"days": [365.0], "event_cumulative_hazard": [0.1], "death_cumulative_hazard": [0.0], "event_slope": 0.0,
              "death_slope": 0.0, "risk_range": [-99.0, 99.0], "weights": weights_id(model)}  # fmt: skip
    model.config.tasks["hf_risk"]["baseline_hazards"] = {"labs": hazard}
    processor = default_processor(model.config, tiny_tokenizer())
    save_repository(model, processor, tmp_path / "first")
    tuned = TgmmModel.from_pretrained(tmp_path / "first")
    before = pipeline("cardiac-analysis", model=tuned, processor=processor)(PATIENT)
    assert before["hf_diagnosis"]["prediction_set"]["text"] == "heart failure"
    assert not any("other weights" in note for note in before["notes"])
    with torch.no_grad():
        tuned.labs_encoder.get_input_embeddings().weight.mul_(1.1)
    save_repository(tuned, processor, tmp_path / "second")
    saved = TgmmModel.from_pretrained(tmp_path / "second")
    after = pipeline("cardiac-analysis", model=saved, processor=processor)(PATIENT)
    assert after["checks"] == [] and sum("other weights" in note for note in after["notes"]) == 2
    assert len(after["hf_diagnosis"]["prediction_set"]["candidates"]) == 2
    # After a cast the sets are still those of the model.
    TgmmModel.from_pretrained(tmp_path / "first", dtype=torch.bfloat16).save_pretrained(tmp_path / "cast")
    cast = pipeline("cardiac-analysis", model=TgmmModel.from_pretrained(tmp_path / "cast"), processor=processor)
    assert not any("other weights" in note for note in cast(PATIENT)["notes"])


def test_averaged_windows_are_noted(model):
    store(model, {"0.9": [1.0, 0.0]}, subset="ecg")
    signal = make_heart(5000, 250, 3)
    recording = {"signal": signal, "sampling_rate": 250, "lead_names": list(LEADS)}
    notes = answering(model)({"ecg": recording}, crop="three")["notes"]
    assert sum("one ECG window" in note for note in notes) == 1


def test_with_the_package_a_directory_needs_no_flag(model, tmp_path: Path):
    save_repository(model, default_processor(model.config, tiny_tokenizer()), tmp_path / "model")
    answer = pipeline("cardiac-analysis", model=str(tmp_path / "model"))(PATIENT)
    assert answer["checks"] == [] and "hf_diagnosis" in answer
