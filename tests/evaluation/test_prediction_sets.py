"""Prediction sets: by hand, against an independent library, and their coverage on exchangeable draws."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from fake_model import FakeModel, fake_cohort, fake_collator
from scipy.stats import binom

from tgmm_hf.evaluation.outputs import metrics_text
from tgmm_hf.evaluation.prediction_sets import add_set_columns, fit_prediction_sets, fit_thresholds
from tgmm_hf.evaluation.predictions import FULL, collect_predictions
from tgmm_hf.evaluation.summary import compute_metrics
from tgmm_hf.evaluation.tables import prediction_set_table
from tgmm_hf.layers.prediction_sets import candidates_in_set, describe_set, fewest_patients, rank_of_threshold
from tgmm_hf.utils.names import SUBSET_NAMES

TASK = {"kind": "diagnosis", "candidates": ["no heart failure", "heart failure"]}


def draw(n: int, seed: int, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Labels, the last one rare, and probabilities of a model that is over-confident."""
    generator = np.random.default_rng(seed)
    label = generator.choice(classes, n, p=[0.85, 0.15] if classes == 2 else [0.6, 0.25, 0.15])
    logits = 3 * generator.normal(size=(n, classes)) + 4 * np.eye(classes)[label]
    values = np.exp(logits - logits.max(1, keepdims=True))
    return values / values.sum(1, keepdims=True), label


def test_the_ranks_are_those_of_the_finite_sample_rule():
    assert [rank_of_threshold(n, 0.9) for n in (8, 9, 10, 18, 19, 99)] == [9, 9, 10, 18, 18, 90]
    assert [fewest_patients(level) for level in (0.5, 0.8, 0.9, 0.95, 0.99)] == [1, 4, 9, 19, 99]
    for level in (0.8, 0.9, 0.95):
        fewest = fewest_patients(level)
        assert rank_of_threshold(fewest, level) <= fewest and rank_of_threshold(fewest - 1, level) > fewest - 1


def test_thresholds_by_hand():
    """Nine sick patients at 80 %: ceil(10 x 0.8) = 8, the eighth highest of their probabilities of being sick."""
    sick = np.array([0.9, 0.8, 0.7, 0.65, 0.6, 0.5, 0.4, 0.3, 0.1])
    well = np.array([0.1, 0.2, 0.3, 0.05])
    last = np.r_[sick, well]
    fitted = fit_thresholds(np.c_[1 - last, last], [1] * 9 + [0] * 4, [0.8, 0.9])
    assert fitted["n"] == [4, 9]
    # Four well patients: ceil(5 x 0.8) = 4, the fourth highest of 0.95, 0.9, 0.8, 0.7.
    assert fitted["thresholds"]["0.8"] == pytest.approx([0.7, 0.3])
    assert fitted["thresholds"]["0.9"] == [None, pytest.approx(0.1)]  # ceil(5 x 0.9) = 5 > 4


@pytest.mark.parametrize(
    ("probabilities", "thresholds", "kept"),
    [
        ([0.8, 0.2], [0.7, 0.3], [0]),
        ([0.3, 0.7], [0.7, 0.3], [1]),
        ([0.7, 0.3], [0.7, 0.3], [0, 1]),
        ([0.5, 0.5], [0.7, 0.6], [0, 1]),  # empty: nothing is left out
        ([0.99, 0.01], [0.7, None], [0, 1]),
        ([0.99, 0.01], None, [0, 1]),
        ([0.5, 0.3, 0.2], [0.4, 0.25, 0.4], [0, 1]),
    ],
)
def test_the_set_of_one_patient(probabilities, thresholds, kept):
    assert candidates_in_set(probabilities, thresholds) == kept


def test_words_and_notes():
    sets = {"subsets": {"labs": {"thresholds": {"0.9": [0.7, 0.3]}}, "ecg": {"thresholds": {"0.9": [0.7, None]}}}}
    task = TASK | {"prediction_sets": sets}
    one, notes = describe_set("hf", task, [0.1, 0.9], "labs", 0.9, True)
    assert one == {"level": 0.9, "candidates": ["heart failure"], "text": "heart failure"} and notes == []
    for subset, is_fitting in (("ecg", True), ("echo", True), ("labs", False)):
        several, notes = describe_set("hf", task, [0.1, 0.9], subset, 0.9, is_fitting)
        assert several["text"] == "cannot say at 90 %" and len(several["candidates"]) == 2 and len(notes) == 1


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("level", [0.8, 0.9])
def test_equal_to_crepes(classes, level):
    crepes = pytest.importorskip("crepes", reason="crepes is not installed: pip install crepes")
    probabilities, label = draw(300, seed=1, classes=classes)
    new, _ = draw(500, seed=2, classes=classes)
    fitted = fit_thresholds(probabilities, label, [level])["thresholds"][f"{level:g}"]
    ours = np.array([[p >= t for p, t in zip(row, fitted, strict=True)] for row in new])
    theirs = crepes.ConformalClassifier().fit(1 - probabilities[np.arange(300), label], bins=label)
    for candidate in range(classes):
        scores, bins = 1 - new[:, [candidate]], np.full(500, candidate)
        p_values = theirs.predict_p(scores, bins, smoothing=False)[:, 0]
        # Not its `predict_set`: 1 - 0.8 is a little less than 0.2 there, so that a p-value of 0.2 counts as above.
        assert (ours[:, candidate] == (p_values > 1 - level + 1e-9)).all()


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_each_class_is_covered_on_exchangeable_draws(level):
    """One new patient of each class for each of 1,500 validation splits: the number covered is at least binomial."""
    trials, covered = 1500, np.zeros(2)
    for trial in range(trials):
        probabilities, label = draw(60 + 11 + 1, seed=1000 + trial)
        thresholds = fit_thresholds(probabilities[:-12], label[:-12], [level])["thresholds"][f"{level:g}"]
        for candidate in (0, 1):
            own = np.flatnonzero(label[-12:] == candidate)
            if len(own):
                covered[candidate] += candidate in candidates_in_set(probabilities[-12:][own[0]], thresholds)
            else:
                covered[candidate] += level  # no new patient of this class: counted as expected
    assert (covered >= binom.ppf(0.001, trials, level)).all()
    assert covered[0] <= binom.ppf(0.999, trials, level + 0.06)  # and not by saying nothing


@pytest.fixture(scope="module")
def figures():
    model = FakeModel()
    tasks = {"hf_diagnosis": TASK}
    model.config = SimpleNamespace(tasks=tasks)
    run = {"tasks": ["hf_diagnosis"], "batch_size": 64, "progress": False}
    validation = collect_predictions(model, fake_cohort(400, seed=5), fake_collator, **run)
    test = collect_predictions(model, fake_cohort(400, seed=6), fake_collator, **run)
    fitted = fit_prediction_sets(validation, "hf_diagnosis", TASK)
    task = TASK | {"prediction_sets": {"subsets": fitted}, "set_levels": [0.9, 0.8]}
    refitted = fit_prediction_sets(validation, "hf_diagnosis", task)
    task["prediction_sets"]["subsets"] = refitted
    groups = pd.DataFrame(dict.fromkeys(("age", "ethnicity", "natriuretic", "cells", "views"), ["one"] * 400))
    groups["sex"] = np.where(np.arange(400) % 2, "female", "male")
    present = np.stack(fake_cohort(400, seed=6)["present"])
    groups["modalities"] = ["+".join(np.array(["labs", "ecg", "echo"])[row]) for row in present]
    return test, task, compute_metrics(test, {"hf_diagnosis": task}, groups=groups, replicates=200)


def test_coverage_size_and_cannot_say_are_measured(figures):
    test, task, metrics = figures
    for subset in SUBSET_NAMES:
        rows = test.scored("hf_diagnosis", subset).dropna(subset="label")
        for level in ("0.9", "0.8"):
            entry = metrics["hf_diagnosis"][subset]["prediction_sets"][level]
            thresholds = task["prediction_sets"]["subsets"][subset]["thresholds"][level]
            kept = [candidates_in_set([1 - p, p], thresholds) for p in rows["probability"]]
            covered = [label in own for label, own in zip(rows["label"], kept, strict=True)]
            assert entry["n"] == len(rows) and entry["coverage"] == pytest.approx(np.mean(covered), abs=0.01)
            assert entry["size"] == pytest.approx(np.mean([len(own) for own in kept]), abs=0.01)
            assert entry["cannot_say"] == pytest.approx(np.mean([len(own) == 2 for own in kept]), abs=0.01)
            assert entry["coverage_ci"][0] <= entry["coverage"] <= entry["coverage_ci"][1]
            by_class = entry["by_class"]
            assert sum(each["n"] for each in by_class.values()) == len(rows)
            assert all(each["coverage"] > float(level) - 0.1 for each in by_class.values())
    assert metrics["hf_diagnosis"][FULL]["prediction_sets"]["0.9"]["cannot_say"] < 0.6


def test_subgroups_and_table_hold_the_sets(figures):
    _, _, metrics = figures
    groups = {(e["grouping"], e["group"]): e for e in metrics["subgroups"]["hf_diagnosis"]}
    assert 0.7 < groups[("sex", "female")]["prediction_sets"]["0.9"]["coverage"] <= 1
    table = prediction_set_table("hf_diagnosis", metrics["hf_diagnosis"], metrics["subgroups"]["hf_diagnosis"])
    assert ["0.9", FULL, "heart failure"] in [row[:3] for row in table.rows]
    assert any(row[2] == "sex: female" for row in table.rows)
    assert metrics_text(metrics)


def test_a_shifted_cohort_is_warned_of(figures):
    test, task, _ = figures
    shifted = test.table.assign(
        probability=1 - test.table["probability"],
        probabilities=[values[::-1] for values in test.table["probabilities"]],
    )
    predictions = type(test)(shifted, {}, {}, test.ids, test.patient_ids)
    warnings = compute_metrics(predictions, {"hf_diagnosis": task}, replicates=200)["warnings"]
    assert sum("prediction sets" in warning for warning in warnings) == 1


def test_a_patient_counts_once_in_the_fit(figures):
    test, task, _ = figures
    rows = test.scored("hf_diagnosis", FULL).dropna(subset="label")
    fitted = fit_prediction_sets(test, "hf_diagnosis", task)[FULL]
    assert sum(fitted["n"]) == rows["patient_id"].nunique() < len(rows)


def test_a_task_without_sets_has_no_columns(figures):
    test, _, _ = figures
    rows = test.scored("hf_diagnosis", FULL).dropna(subset="label")
    assert set(add_set_columns(rows, TASK).columns) == set(rows.columns)
