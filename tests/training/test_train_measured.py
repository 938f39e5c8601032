"""A training with a regression and a multilabel: what it stores, and how its model is evaluated and predicts."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prepared_data import SMALL_ECHO, write_prepared_data
from test_train import TASKS as PAPER_TASKS

from tgmm_hf.data.prediction import load_model
from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.evaluation.predictions import FULL
from tgmm_hf.reports.evaluation_report import evaluate_with_report
from tgmm_hf.training.arguments import RunArguments, parse_arguments
from tgmm_hf.training.train import train
from tgmm_hf.utils.errors import TgmmError

WORDS = {"question": "How is the heart of this patient?", "learnable_phrase": "ejection fraction"}
TASKS: dict[str, Any] = {
    "ef": {"kind": "regression", "unit": "%", "range": [5, 90], "cut_points": [50], **WORDS},
    "seen": {"kind": "multilabel", "findings": ["lot", "failure"], **WORDS},
}
MODEL = {
    "overrides": {
        "echo_config": SMALL_ECHO,
        "ecg_config": {"num_hidden_layers": 1},
    }
}


def settings(data: Path, output: Path, tasks: dict[str, Any] = TASKS, **model: Any) -> RunArguments:
    return parse_arguments(
        {
            "output": str(output),
            "data": {"directory": str(data)},
            "tasks": copy.deepcopy(tasks),
            "model": {**MODEL, **model} if "checkpoint" not in model else model,
            "optimisation": {"epochs": 1, "batch_size": 8, "logging_steps": 1},
        }
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prepared_data(tmp_path_factory.mktemp("measured"), measured=True)


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    output = tmp_path_factory.mktemp("run") / "model"
    return output, train(settings(data, output))


def test_the_training_logs_losses_and_figures_of_both_kinds(trained):
    names = {name for line in trained[1]["history"] for name in line}
    assert {"ef/huber", "seen/bce", "eval_ef_mae", "eval_ef_score", "eval_seen_macro_auc", "eval_score"} <= names


def test_controls_scale_and_intervals_are_stored_with_the_model(trained, data):
    task = load_model(str(trained[0])).config.tasks["ef"]
    cells = load_prepared(data)["train"].with_format(None)["value_ef"]
    values = np.array([cell for cell in cells if cell is not None])
    assert task["training_values"]["n"] == len(values) < len(cells)
    assert task["center"] == task["training_values"]["mean"] == pytest.approx(values.mean(), rel=1e-5)
    assert task["scale"] == pytest.approx(values.std(), rel=1e-5)
    assert task["training_values"]["median"] == pytest.approx(np.median(values))
    stored = task["prediction_intervals"]
    assert stored["subsets"]["labs"]["half_widths"]["0.9"] > 0 and stored["weights"]


def test_evaluation_and_report_score_both_tasks(trained, data, tmp_path: Path):
    metrics = evaluate_with_report(str(trained[0]), data, tmp_path / "out", bootstrap=50, progress=False)
    assert metrics["ef"][FULL]["mae_of_median"] > 0 and metrics["ef"][FULL]["mae"] > 0
    assert metrics["ef"][FULL]["prediction_intervals"]["0.9"]["coverage"] is not None
    assert metrics["seen"][FULL]["findings"]["failure"]["positives"] > 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Bland-Altman" in page and "failure" in page


def test_findings_are_known_by_name_whatever_their_order(trained, data):
    """The task lists "lot" first, the prepared data "failure". Exchanged columns would exchange the counts."""
    rows = load_prepared(data)["test"].with_format(None)
    sick = [row["label_hf_diagnosis"] for row in rows if row["findings_seen"]]
    metrics = evaluate_with_report(str(trained[0]), data, trained[0].parent / "again", bootstrap=20, progress=False)
    figures = dict.fromkeys(TASKS["seen"]["findings"], 0)
    for subset in ("labs", "ecg", "echo"):
        for name in figures:
            figures[name] = max(figures[name], metrics["seen"][subset]["findings"][name]["n"])
    assert figures["failure"] > figures["lot"]
    assert metrics["seen"]["labs"]["findings"]["failure"]["positives"] <= sum(sick)


def test_a_checkpoint_keeps_its_scale_and_gets_the_controls_of_the_new_training(trained, data, tmp_path: Path):
    first = load_model(str(trained[0])).config.tasks["ef"]
    changed = {"ef": {"range": [0, 100]}, "seen": None}
    train(settings(data, tmp_path / "model", changed, checkpoint=str(trained[0])))
    task = load_model(str(tmp_path / "model")).config.tasks["ef"]
    assert (task["center"], task["scale"]) == (first["center"], first["scale"]) and task["range"] == [0, 100]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"ef": {"loss": "gaussian_nll"}}, "ef.loss.*huber.*gaussian_nll"),
        ({"ef": {"unit": "share"}}, "ef.unit.*%.*share"),
        ({"seen": {"findings": ["failure"]}}, "seen.findings"),
        ({"seen": {"findings": TASKS["seen"]["findings"][::-1]}}, "seen.findings"),
    ],
)
def test_settings_that_give_the_head_of_a_checkpoint_another_meaning_are_refused(
    trained, data, tmp_path, changes, named
):
    with pytest.raises(ValueError, match=named):
        train(settings(data, tmp_path / "model", changes, checkpoint=str(trained[0])))


@pytest.mark.slow
def test_both_kinds_train_beside_the_other_tasks(data, tmp_path: Path):
    both = {**copy.deepcopy(PAPER_TASKS), **copy.deepcopy(TASKS)}
    both["ef"]["loss"] = "gaussian_nll"
    record = train(settings(data, tmp_path / "all", both))
    names = {name for line in record["history"] for name in line}
    assert {"ef/gaussian_nll", "hf_diagnosis/mc", "hf_risk/cox"} <= names
    assert load_model(str(tmp_path / "all")).config.tasks["hf_risk"]["baseline_hazards"]


def test_data_without_values_are_refused(tmp_path: Path):
    plain = write_prepared_data(tmp_path)
    with pytest.raises(ValueError, match="value_ef"):
        train(settings(plain, tmp_path.parent / "never", {"ef": TASKS["ef"]}))


def test_data_prepared_in_another_unit_are_refused(data, tmp_path):
    tasks = {**TASKS, "ef": {**TASKS["ef"], "unit": "ml"}}
    with pytest.raises(TgmmError, match="ef: its values were prepared in %, and the model has ml"):
        train(settings(data, tmp_path / "model", tasks))


def test_a_finding_that_no_training_patient_has_a_label_of_is_refused(data, tmp_path):
    tasks = {**TASKS, "seen": {**TASKS["seen"], "findings": ["lot", "oedema"]}}
    with pytest.raises(ValueError, match="known label of oedema"):
        train(settings(data, tmp_path / "model", tasks))
