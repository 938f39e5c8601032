"""Regressions and multilabels in the pipeline, in the tables of `tgmm predict`, in the reports and on the page."""

import copy
from typing import Any

import pytest
from heart_signal import make_heart
from test_pipeline_sets import answering
from tiny_models import smallest_model
from transformers import pipeline

from tgmm_hf.app.answering import differences
from tgmm_hf.app.fragments import answer_fragment
from tgmm_hf.cli.predict import _print_answer
from tgmm_hf.configuration_measured_tasks import CALIBRATION_KEY, INTERVALS_KEY
from tgmm_hf.configuration_tasks import DEFAULT_TASKS
from tgmm_hf.data.prediction_tables import _row
from tgmm_hf.explanation.scoring import question_of
from tgmm_hf.pipeline_binding import weights_id
from tgmm_hf.reports.patient_file import explain_patient
from tgmm_hf.reports.patient_report import ReportSettings
from tgmm_hf.utils.names import LEADS

PATIENT = {"id": "p1", "labs": {"NTproBNP": 5210, "age": 71}}
WORDS = {"question": DEFAULT_TASKS["hf_diagnosis"]["question"], "learnable_phrase": "ejection fraction"}
TASKS: dict[str, Any] = {
    "ef": {"kind": "regression", "unit": "%", "range": [5.0, 90.0], "center": 55.0, "scale": 10.0, **WORDS},
    "seen": {"kind": "multilabel", "findings": ["scar", "valve disease"], **WORDS},
    **DEFAULT_TASKS,
}


@pytest.fixture
def model() -> Any:
    return smallest_model(seed=2, tasks=copy.deepcopy(TASKS))


def store(model: Any, **half_widths: float | None) -> None:
    subsets = {"labs": {"n": 20, "half_widths": {level[1:].replace("_", "."): w for level, w in half_widths.items()}}}
    model.config.tasks["ef"][INTERVALS_KEY] = {"subsets": subsets, "weights": weights_id(model)}


def calibrate(model: Any, threshold: float, temperature: float | None = 2.0) -> None:
    subsets = {"labs": {"scar": {"threshold": threshold, "temperature": temperature, "n": 40, "positives": 20}}}
    model.config.tasks["seen"][CALIBRATION_KEY] = {"subsets": subsets, "weights": weights_id(model)}


def test_a_number_has_its_unit_and_a_finding_its_name(model):
    answer = answering(model)(PATIENT)
    assert set(answer["ef"]) == {"value", "unit", "range", "in_range"} and answer["ef"]["unit"] == "%"
    assert set(answer["seen"]) == {"findings"} and set(answer["seen"]["findings"]) == {"scar", "valve disease"}


def test_the_interval_lies_around_the_number(model):
    store(model, _0_9=8.0)
    answer = answering(model)(PATIENT)["ef"]
    assert answer["interval"]["low"] == pytest.approx(answer["value"] - 8)
    assert answer["interval"]["high"] == pytest.approx(answer["value"] + 8)
    assert "90 %" in answer["interval"]["text"]


def test_with_a_predicted_deviation_the_interval_is_in_its_units(model):
    tasks = copy.deepcopy(TASKS)
    tasks["ef"]["loss"] = "gaussian_nll"
    model = smallest_model(seed=2, tasks=tasks)
    store(model, _0_9=1.5)
    answer = answering(model)(PATIENT)["ef"]
    assert answer["interval"]["high"] - answer["value"] == pytest.approx(1.5 * answer["deviation"])


def test_several_levels_are_all_given(model):
    store(model, _0_8=5.0, _0_95=12.0)
    model.config.tasks["ef"]["set_levels"] = [0.8, 0.95]
    answer = answering(model)(PATIENT)["ef"]
    assert [each["level"] for each in answer["intervals"]] == [0.8, 0.95] and answer["interval"]["level"] == 0.8


def test_a_number_outside_the_range_is_marked_and_not_changed(model):
    model.config.tasks["ef"]["center"] = 400.0
    answer = answering(model)(PATIENT)
    assert answer["ef"]["value"] > 300 and answer["ef"]["in_range"] is False
    assert any(note.startswith("ef:") and "range" in note for note in answer["notes"])


def test_without_enough_validation_patients_there_is_no_interval(model):
    store(model, _0_9=None)
    answer = answering(model)(PATIENT)
    assert "interval" not in answer["ef"] and any(note.startswith("ef:") for note in answer["notes"])


def test_what_was_fitted_for_other_weights_is_not_used(model):
    store(model, _0_9=8.0)
    calibrate(model, 0.0)
    model.config.tasks["ef"][INTERVALS_KEY]["weights"] = "sha256:other"
    model.config.tasks["seen"][CALIBRATION_KEY]["weights"] = "sha256:other"
    answer = answering(model)(PATIENT)
    assert "interval" not in answer["ef"] and "decisions" not in answer["seen"]
    assert sum(note.startswith(("ef:", "seen:")) for note in answer["notes"]) == 2


def test_a_mean_over_several_ecg_windows_is_noted_beside_what_was_fitted_on_one(model):
    width = {"subsets": {"labs+ecg": {"n": 20, "half_widths": {"0.9": 8.0}}}, "weights": weights_id(model)}
    model.config.tasks["ef"][INTERVALS_KEY] = width
    ecg = {"signal": make_heart(5000, 500), "sampling_rate": 500, "lead_names": list(LEADS)}
    for crop, number in (("center", 0), ("three", 1)):
        answer = answering(model)({**PATIENT, "ecg": ecg}, crop=crop)
        assert "interval" in answer["ef"]
        assert sum("ef: intervals" in note for note in answer["notes"]) == number


@pytest.mark.parametrize(("threshold", "present"), [(0.0, True), (1.1, False)])
def test_a_finding_is_decided_at_its_threshold(model, threshold, present):
    calibrate(model, threshold)
    answer = answering(model)(PATIENT)
    assert answer["seen"]["decisions"] == {"scar": {"present": present, "threshold": threshold}}
    assert any("valve disease" in note for note in answer["notes"])
    raw, calibrated = answer["seen"]["findings"]["scar"], answer["seen"]["calibrated"]["scar"]
    assert abs(calibrated - 0.5) < abs(raw - 0.5)  # a temperature above 1 makes a probability more cautious


def test_tables_and_terminal_hold_both_kinds(model, capsys):
    store(model, _0_9=8.0)
    calibrate(model, 0.0)
    answer = answering(model)(PATIENT)
    row = _row(answer)
    assert row["ef.value"] == answer["ef"]["value"] and row["ef.unit"] == "%" and row["ef.in_range"] == 1
    assert row["ef.low"] < row["ef.value"] < row["ef.high"] and row["ef.level"] == 0.9
    assert row["seen.scar"] == answer["seen"]["findings"]["scar"] and row["seen.scar.present"] == 1
    for name in ("ef", "seen"):
        _print_answer(name, answer[name], answer["notes"])
    printed = capsys.readouterr().out
    assert "%" in printed and "scar" in printed and "interval" in printed


def test_the_page_shows_both_kinds_and_escapes_names(model):
    model.config.tasks["ef"]["center"] = 400.0
    store(model, _0_9=8.0)
    calibrate(model, 0.0)
    answer = answering(model)(PATIENT)
    answer["seen"]["findings"]["<b>"] = 0.5
    html = answer_fragment(answer, {"ef": "How high?", "seen": "Which?"})
    assert "outside the range" in html and answer["ef"]["interval"]["text"] in html
    assert "valve disease" in html and "present" in html and "<b>" not in html
    names = [name for name, _, _ in differences(answer, answer)]
    assert "ef: %" in names and "seen: probability of scar" in names


def test_the_patient_report_shows_both_kinds_without_contributions(model):
    store(model, _0_9=8.0)
    calibrate(model, 0.0)
    explained = explain_patient(answering(model), PATIENT, ["ef", "seen"])
    content, page = explained.content(ReportSettings()), explained.page(ReportSettings())
    assert [answer["kind"] for answer in content["answers"]] == ["regression", "multilabel"]
    assert content["answers"][0]["intervals"][0]["text"] in page and "valve disease" in page
    assert explained.explanation is None and any("contributions" in note for note in content["notes"])


@pytest.mark.parametrize("task", ["ef", "seen"])
def test_an_explanation_of_such_a_task_is_refused(model, task):
    with pytest.raises(ValueError, match="diagnosis or a prognosis"):
        question_of(model.config.tasks, task)


def test_a_saved_model_answers_alike_with_its_own_code(model, tmp_path):
    from tiny_models import tiny_tokenizer

    from tgmm_hf import default_processor
    from tgmm_hf.training.saving import save_repository

    store(model, _0_9=8.0)
    expected = answering(model)(PATIENT)
    save_repository(model, default_processor(model.config, tiny_tokenizer()), tmp_path / "m")
    loaded = pipeline("cardiac-analysis", model=str(tmp_path / "m"))(PATIENT)
    assert loaded["ef"]["value"] == pytest.approx(expected["ef"]["value"], rel=1e-4)
    assert "interval" in loaded["ef"] and not loaded["checks"]
    files = {path.name for path in (tmp_path / "m").glob("*.py")}
    assert {"measured_answers.py", "configuration_measured_tasks.py", "prediction_intervals.py"} <= files
