"""Figures of regressions and multilabels: against scikit-learn and by hand, from predictions to the report."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from fake_model import FakeModel, fake_cohort, fake_collator
from sklearn.metrics import average_precision_score, mean_absolute_error, r2_score, roc_auc_score

from tgmm_hf.configuration_measured_tasks import INTERVALS_KEY
from tgmm_hf.evaluation.metrics import bootstrap_counts
from tgmm_hf.evaluation.outputs import metrics_text, write_outputs
from tgmm_hf.evaluation.prediction_intervals import fit_prediction_intervals
from tgmm_hf.evaluation.predictions import FULL, Predictions, collect_predictions
from tgmm_hf.evaluation.regression import resampled_deviation, resampled_r2
from tgmm_hf.evaluation.robustness import _headline
from tgmm_hf.evaluation.summary import compute_metrics
from tgmm_hf.evaluation.tables import tasks_of
from tgmm_hf.hub.card_results import evaluation_results, results_section, subgroup_section
from tgmm_hf.reports.evaluation_report import write_report
from tgmm_hf.training.validation import validation_metrics
from tgmm_hf.utils.names import SUBSET_NAMES

EF = {
    "kind": "regression", "unit": "%", "range": [5.0, 90.0], "cut_points": [40.0, 50.0], "loss": "huber",
    "candidates": [], "training_values": {"n": 100, "mean": 54.0, "median": 55.0}, "weight": 1.0,
}  # fmt: skip
SEEN = {"kind": "multilabel", "findings": ["scar", "valve", "never"], "candidates": [], "weight": 1.0}
TASKS: dict[str, Any] = {"ef": EF, "seen": SEEN}


class MeasuringModel(FakeModel):
    """Reads the value and the findings off the sum of the present modalities' evidence."""

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        self.config = SimpleNamespace(tasks=TASKS)
        self.shift = shift

    def _settings_of(self, task: str) -> Any:
        return TASKS[task]

    def answer(self, encoded: Any, task: str, labels: Any = None) -> Any:
        masks = torch.stack([encoded.present[m] for m in ("labs", "ecg", "echo")], dim=1)
        mean = (encoded.evidence * masks[:, :, None]).sum(dim=1) / masks.sum(dim=1).clamp(min=1)[:, None]
        mean = torch.where(masks.any(dim=1)[:, None], mean, torch.nan)
        if task == "ef":
            return SimpleNamespace(value=50 + 12 * mean[:, 0] + self.shift, deviation=None)
        return SimpleNamespace(probabilities=mean[:, :3].sigmoid())


def collator(rows: Any) -> dict[str, Any]:
    batch = fake_collator(rows)
    names = [row["id"] for row in rows]
    value = torch.tensor([row["measured"] for row in rows])
    findings = torch.tensor(np.stack([row["findings"] for row in rows]))
    batch["labels"] = {
        "ef": {"value": value.nan_to_num(), "mask": ~value.isnan()},
        "seen": {"findings": findings.nan_to_num(), "mask": ~findings.isnan()},
    }
    return batch | {"id": names}


def cohort(n: int = 200, seed: int = 0) -> Any:
    generator = np.random.default_rng(seed + 100)
    rows = fake_cohort(n, seed)
    for number, row in enumerate(rows):
        row["measured"] = np.nan if number % 9 == 0 else 50 + 12 * row["evidence"][:, 0].mean() + generator.normal(0, 6)
        findings = (row["evidence"].mean(axis=0)[:3] + generator.normal(size=3) > 0).astype(float)
        findings[2] = 0.0
        findings[generator.random(3) < 0.2] = np.nan
        row["findings"] = findings
    return rows


@pytest.fixture(scope="module")
def predictions() -> Predictions:
    return collect_predictions(MeasuringModel(), cohort(), collator, batch_size=64, progress=False)


@pytest.fixture(scope="module")
def validation() -> Predictions:
    return collect_predictions(MeasuringModel(), cohort(seed=1), collator, batch_size=64, progress=False)


@pytest.fixture(scope="module")
def tasks(validation: Predictions) -> dict[str, Any]:
    fitted = fit_prediction_intervals(validation, "ef", EF)
    return {**TASKS, "ef": {**EF, INTERVALS_KEY: {"subsets": fitted}}}


@pytest.fixture(scope="module")
def truth(predictions: Predictions) -> pd.DataFrame:
    """A stand-in for truth.parquet: half of the model's error."""
    frame = pd.DataFrame({"id": predictions.ids})
    for subset in SUBSET_NAMES:
        rows = predictions.scored("ef", subset).set_index("id")
        frame[f"value.{subset}"] = ((rows["value"] + rows["measured"]) / 2).reindex(frame["id"]).to_numpy()
        seen = predictions.scored("seen", subset).set_index("id")
        for column, finding in enumerate(SEEN["findings"]):
            cells = seen["probabilities"].map(lambda each, column=column: each[column])
            frame[f"finding.{finding}.{subset}"] = cells.reindex(frame["id"]).to_numpy()
    return frame.sample(frac=1, random_state=0)


@pytest.fixture(scope="module")
def groups(predictions: Predictions) -> pd.DataFrame:
    generator = np.random.default_rng(2)
    number = len(predictions.ids)
    columns = {name: ["one"] * number for name in ("age", "ethnicity", "natriuretic", "cells", "views")}
    return pd.DataFrame(columns | {"sex": generator.choice(["female", "male"], number), "modalities": [FULL] * number})


@pytest.fixture(scope="module")
def metrics(
    predictions: Predictions, validation: Predictions, tasks: Any, truth: pd.DataFrame, groups: pd.DataFrame
) -> dict[str, Any]:
    reference = {"ef": {FULL: {"mae": 4.8, "n": 5}}, "seen": {FULL: {"macro_auc": 0.9, "n": 5}}}
    return compute_metrics(
        predictions, tasks, validation=validation, groups=groups, truth=truth, reference=reference, replicates=100
    )


def test_errors_are_those_of_scikit_learn(metrics, predictions):
    rows = predictions.scored("ef", FULL).dropna(subset="measured")
    entry = metrics["ef"][FULL]
    assert entry["n"] == len(rows) < len(predictions.scored("ef", FULL))
    assert entry["mae"] == pytest.approx(mean_absolute_error(rows["measured"], rows["value"]))
    assert entry["r2"] == pytest.approx(r2_score(rows["measured"], rows["value"]))
    assert entry["rmse"] == pytest.approx(np.sqrt(((rows["value"] - rows["measured"]) ** 2).mean()))
    assert entry["mae_of_median"] == pytest.approx((rows["measured"] - 55).abs().mean())
    assert entry["mae_ci"][0] < entry["mae"] < entry["mae_ci"][1]


def test_agreement_is_that_of_bland_and_altman(metrics, predictions):
    rows = predictions.scored("ef", FULL).dropna(subset="measured")
    difference = rows["value"] - rows["measured"]
    entry = metrics["ef"][FULL]
    assert entry["bias"] == pytest.approx(difference.mean())
    assert entry["limit_high"] == pytest.approx(difference.mean() + 1.96 * difference.std(ddof=1))
    assert entry["limit_low"] == pytest.approx(difference.mean() - 1.96 * difference.std(ddof=1))


def test_cut_points_tell_who_was_measured_below_them(metrics, predictions):
    rows = predictions.scored("ef", FULL).dropna(subset="measured")
    entry = metrics["ef"][FULL]["cut_points"]
    for cut in (40.0, 50.0):
        assert entry[f"{cut:g}"]["auc"] == pytest.approx(roc_auc_score(rows["measured"] < cut, -rows["value"]))
        assert entry[f"{cut:g}"]["n_below"] == (rows["measured"] < cut).sum()


def test_a_resample_is_the_same_as_repeated_rows():
    generator = np.random.default_rng(0)
    value, measured = generator.normal(55, 10, 30), generator.normal(55, 10, 30)
    counts = bootstrap_counts(np.arange(30), None, 5, 0)
    for row, r2, spread in zip(
        counts, resampled_r2(value, measured, counts), resampled_deviation(value, counts), strict=True
    ):
        repeated = np.repeat(np.arange(30), row.astype(int))
        assert r2 == pytest.approx(r2_score(measured[repeated], value[repeated]))
        assert spread == pytest.approx(value[repeated].std(ddof=1))


def test_intervals_hold_new_patients_as_often_as_they_promise(metrics, tasks):
    for subset in SUBSET_NAMES:
        entry = metrics["ef"][subset][INTERVALS_KEY]["0.9"]
        assert entry["coverage"] > 0.8 and entry["n"] == metrics["ef"][subset]["n"]
        half = tasks["ef"][INTERVALS_KEY]["subsets"][subset]["half_widths"]["0.9"]
        assert entry["width"] == pytest.approx(2 * half)


def test_the_half_width_is_the_right_order_statistic(validation):
    rows = validation.scored("ef", "ecg").dropna(subset="measured").drop_duplicates("patient_id")
    errors = sorted((rows["value"] - rows["measured"]).abs())
    fitted = fit_prediction_intervals(validation, "ef", EF)["ecg"]
    assert fitted["half_widths"]["0.9"] == errors[int(np.ceil((len(errors) + 1) * 0.9)) - 1]


def test_with_too_few_patients_there_is_no_half_width(validation):
    few = Predictions(validation.table[validation.table["row"] < 8], {}, {}, validation.ids, validation.patient_ids)
    assert fit_prediction_intervals(few, "ef", EF)["labs"]["half_widths"]["0.9"] is None


def test_a_wrong_model_is_warned_of(tasks):
    shifted = collect_predictions(MeasuringModel(30.0), cohort(), collator, batch_size=64, progress=False)
    warnings = compute_metrics(shifted, tasks, replicates=50)["warnings"]
    assert any("intervals" in warning for warning in warnings)
    assert any("median" in warning for warning in warnings)


def test_findings_are_scored_on_the_patients_of_whom_they_are_known(metrics, predictions):
    rows = predictions.scored("seen", FULL)
    score, present = (np.stack(rows[name]) for name in ("probabilities", "findings"))
    expected = {}
    for column, name in enumerate(("scar", "valve")):
        of_finding = ~np.isnan(present[:, column])
        expected[name] = roc_auc_score(present[of_finding, column], score[of_finding, column])
        entry = metrics["seen"][FULL]["findings"][name]
        assert entry["n"] == of_finding.sum() and entry["positives"] == np.nansum(present[:, column])
        assert entry["auc"] == pytest.approx(expected[name])
        average = average_precision_score(present[of_finding, column], score[of_finding, column])
        assert entry["auprc"] == pytest.approx(average)
    entry = metrics["seen"][FULL]
    assert entry["findings"]["never"]["auc"] is None and entry["findings"]["never"]["auc_missing"]
    assert entry["macro_findings"] == 2 and entry["macro_left_out"] == ["never"]
    assert any("leave out never" in warning for warning in metrics["warnings"])
    assert entry["macro_auc"] == pytest.approx(np.mean(list(expected.values())))


def test_thresholds_of_findings_are_chosen_on_validation_patients(metrics):
    threshold = metrics["seen"][FULL]["findings"]["scar"]["threshold"]
    assert threshold["rule"] == "Youden's index" and "validation" in threshold["chosen_on"]
    assert metrics["seen"][FULL]["findings"]["never"]["threshold"]["value"] == 0.5


def test_the_optimum_stands_beside_the_figure(metrics):
    entry = metrics["ef"][FULL]
    assert entry["bayes_mae"] == pytest.approx(entry["mae"] / 2)
    assert entry["mae_minus_bayes"] == pytest.approx(entry["mae"] / 2)
    assert metrics["seen"][FULL]["macro_auc_minus_bayes"] == pytest.approx(0)
    assert entry["bayes_mae_test_split"] == 4.8


def test_the_best_single_modality_has_the_smallest_error(metrics):
    comparison = metrics["comparisons"]["ef"]
    errors = {name: metrics["ef"][name]["mae"] for name in ("labs", "ecg", "echo")}
    full_only = {name: comparison[f"{FULL} - {name}"]["mae_difference"] for name in errors}
    assert comparison["best_single"] == max(full_only, key=full_only.__getitem__)


def test_report_card_and_tables_show_both_kinds(metrics, predictions, tmp_path: Path):
    named = {**metrics, "data": "cohort", "data_hash": "x", "split": "test", "model": "m"}
    write_report(named, predictions, tmp_path)
    write_outputs(named, predictions, tmp_path)
    assert [kind for _, kind, _ in tasks_of(json.loads((tmp_path / "metrics.json").read_text()))] == [
        "regression", "multilabel",
    ]  # fmt: skip
    for name in ("ef_agreement", "ef_mae", "seen_findings", "seen_macro_auc", "ef_subgroups"):
        assert (tmp_path / "figures" / f"{name}.svg").is_file(), name
    for name in ("ef", "ef_agreement", "ef_intervals", "seen", "seen_by_finding", "ef_subgroups"):
        assert (tmp_path / "tables" / f"{name}.csv").is_file(), name
    page, text = (tmp_path / "report.html").read_text(), metrics_text(named)
    for shown in ("Bland-Altman", "scar", "macro AUC", f"{metrics['ef'][FULL]['mae']:.3f}"):
        assert shown in page and shown in text, shown
    card = results_section(named) + subgroup_section(named)[0]
    assert "mean absolute error" in card and "| scar |" in card and "prediction intervals" in card
    assert {result.metric_type for result in evaluation_results(named)} >= {"mae", "macro_auc", "bias"}


def test_worse_inputs_are_scored_by_the_error(predictions):
    point = _headline(predictions.scored("ef", FULL), "regression", SimpleNamespace(replicates=20, seed=0))
    assert point["mae"] > 0 and "mae_ci" in point


def test_the_score_of_an_epoch_is_higher_for_the_better_model(predictions):
    config = SimpleNamespace(tasks=TASKS)
    good = validation_metrics(predictions, config, ["ef", "seen"])
    shifted = collect_predictions(MeasuringModel(30.0), cohort(), collator, batch_size=64, progress=False)
    bad = validation_metrics(shifted, config, ["ef", "seen"])
    assert good["ef_score"] > 0 > bad["ef_score"] and good["loss"] < bad["loss"]
    assert good["ef_mae"] < bad["ef_mae"] and good["seen_macro_auc"] == bad["seen_macro_auc"]


def test_an_answer_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="finite"):
        collect_predictions(MeasuringModel(float("nan")), cohort(20), collator, batch_size=20, progress=False)
