"""From predictions to the figures of metrics.json, with a model whose right answers are known."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from closeness import assert_close
from fake_model import TASKS, FakeModel, fake_cohort, fake_collator
from lifelines.utils import concordance_index
from sklearn.metrics import brier_score_loss, recall_score, roc_auc_score, roc_curve
from statsmodels.stats.multitest import multipletests

from tgmm_hf.evaluation.baseline_hazards import fit_baseline_hazards
from tgmm_hf.evaluation.calibration import fit_temperature
from tgmm_hf.evaluation.comparisons import delong_test
from tgmm_hf.evaluation.outputs import metrics_text
from tgmm_hf.evaluation.paper_tables import paper_tables
from tgmm_hf.evaluation.predictions import FULL, collect_predictions
from tgmm_hf.evaluation.summary import compute_metrics
from tgmm_hf.evaluation.tables import decision_table, headline
from tgmm_hf.utils.names import MODALITIES, SUBSET_NAMES
from tgmm_hf.utils.probabilities import scaled

DOCUMENTED = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text()


def test_figures_equal_scikit_learn_and_lifelines(cohort, metrics):
    for subset in SUBSET_NAMES:
        columns = [MODALITIES.index(m) for m in subset.split("+")]
        rows = [row for row in cohort if row["present"][columns].all()]
        score = np.array([row["evidence"][columns, 0].sum() for row in rows])
        risk = concordance_index([r["time"] for r in rows], -score, [r["event"] == 1 for r in rows])
        assert metrics["hf_risk"][subset]["c_index"] == pytest.approx(risk, abs=1e-6)
        assert metrics["hf_risk"][subset]["n"] == len(rows)
        assert metrics["hf_risk"][subset]["deaths"] == sum(row["event"] == 2 for row in rows)
        known = np.array([row["label"] is not None for row in rows])
        label = np.array([row["label"] for row in rows])[known].astype(int)
        entry = metrics["hf_diagnosis"][subset]
        assert entry["auc"] == pytest.approx(roc_auc_score(label, score[known]), abs=1e-6)
        assert entry["accuracy"] == pytest.approx(np.mean((score[known] > 0) == label), abs=1e-9)
        assert entry["auc_ci"][0] < entry["auc"] < entry["auc_ci"][1]
        assert (entry["n"], entry["positives"]) == (known.sum(), label.sum())


def test_comparisons_are_paired_on_the_tri_modal_patients(predictions, metrics):
    comparisons = metrics["comparisons"]["hf_diagnosis"]
    assert comparisons["best_single"] in MODALITIES
    entry = comparisons[f"{FULL} - labs"]
    full = predictions.scored("hf_diagnosis", FULL).dropna(subset="label")
    labs = predictions.scored("hf_diagnosis", "labs").set_index("row").loc[full["row"]]
    expected = roc_auc_score(full["label"], full["probability"]) - roc_auc_score(labs["label"], labs["probability"])
    assert entry["n"] == len(full) and entry["auc_difference"] == pytest.approx(expected, abs=1e-6)
    assert entry["auc_difference_ci"][0] > 0  # three noisy looks at one state beat one


def test_metrics_json_has_the_agreed_shape(metrics):
    assert set(metrics["hf_diagnosis"]) == set(metrics["hf_risk"]) == set(SUBSET_NAMES)
    assert len(metrics["retrieval"]) == 6
    assert {"auc", "auc_ci", "accuracy", "accuracy_ci", "bayes_auc", "n"} <= set(metrics["hf_diagnosis"][FULL])
    assert {"c_index", "c_index_ci", "bayes_c_index", "n", "events"} <= set(metrics["hf_risk"][FULL])
    retrieval = {"lrap_3", "lrap_3_ci", "recall_1_3", "recall_2_3", "lrap_full", "n", "lrap_3_chance", "lrap_4"}
    assert retrieval <= set(metrics["retrieval"]["labs->ecg"])
    json.dumps(metrics, allow_nan=False)


def test_thresholds_come_from_validation_patients(predictions, validation, metrics):
    for subset in SUBSET_NAMES:
        entry = metrics["hf_diagnosis"][subset]
        own = validation.scored("hf_diagnosis", subset).dropna(subset="label")
        false_rate, true_rate, thresholds = roc_curve(own["label"], own["probability"], drop_intermediate=False)
        best = thresholds[np.flatnonzero(np.isclose(true_rate - false_rate, (true_rate - false_rate).max()))]
        below = own["probability"][own["probability"] < best.min()].max()
        assert below < entry["threshold"]["value"] < best.min()  # halfway to the next
        assert f"n = {len(own)}" in entry["threshold"]["chosen_on"]
        scored = predictions.scored("hf_diagnosis", subset).dropna(subset="label")
        named = scored["probability"] >= entry["threshold"]["value"]
        assert entry["sensitivity"] == pytest.approx(recall_score(scored["label"], named), abs=1e-12)
        assert entry["specificity"] == pytest.approx(recall_score(1 - scored["label"], ~named), abs=1e-12)
        risk = validation.scored("hf_risk", subset)["risk"]
        assert metrics["hf_risk"][subset]["risk_groups"]["cut"] == pytest.approx(risk.median())
    assert metrics["validation"] == {"n": 160}


def test_temperature_and_sensitivity_are_chosen_on_validation(predictions, validation, metrics):
    entries = compute_metrics(
        predictions, TASKS, validation=validation, sensitivity=0.9, temperature=True, replicates=50
    )["hf_diagnosis"]
    other = entries["ecg"]
    plain = metrics["hf_diagnosis"]["ecg"]
    own = validation.scored("hf_diagnosis", "ecg").dropna(subset="label")
    temperature = fit_temperature(own["probability"].to_numpy(), own["label"].to_numpy())
    assert plain["temperature"] is None and other["temperature"] == pytest.approx(temperature)
    rows = predictions.scored("hf_diagnosis", "ecg").dropna(subset="label")
    used = scaled(rows["probability"].to_numpy(), temperature)
    assert other["brier"] == pytest.approx(brier_score_loss(rows["label"], used), abs=1e-12) != plain["brier"]
    assert other["auc"] == plain["auc"] and other["accuracy"] == plain["accuracy"]
    assert "0.9" in other["threshold"]["rule"]
    # who has the model's own probability, as from `tgmm predict`, decides alike by of_model
    value, of_model = other["threshold"]["value"], other["threshold"]["of_model"]
    np.testing.assert_array_equal(rows["probability"] >= of_model, used >= value)
    assert of_model == pytest.approx(1 / (1 + ((1 - value) / value) ** temperature)) and abs(of_model - value) > 0.01
    assert plain["threshold"]["of_model"] == plain["threshold"]["value"]
    assert decision_table("dx", entries).rows[1][1:3] == [f"{value:.3f}", f"{of_model:.3f}"]
    assert "unscaled" not in " ".join(decision_table("dx", metrics["hf_diagnosis"]).header)
    own_of_all = entries[FULL]["threshold"]["of_model"]
    assert f"({own_of_all:.2f} of the model's own)" in headline("dx", "diagnosis", entries)[1]


@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_risks_by_day_that_are_worse_than_the_incidence_are_warned_of(predictions, shift):
    own = predictions.scored("hf_risk", FULL)
    baseline = fit_baseline_hazards(own["risk"].to_numpy(), own["time"].to_numpy(), own["event"].to_numpy())
    baseline["risk_center"] -= shift  # everybody's risk is far too high; the ranks stay
    tasks = TASKS | {"hf_risk": TASKS["hf_risk"] | {"baseline_hazards": {FULL: baseline}}}
    metrics = compute_metrics(predictions, tasks, replicates=20)
    day = metrics["hf_risk"][FULL]["by_day"]["365"]
    assert (day["brier"] > day["brier_of_incidence"]) is (shift > 0)
    assert any("worse than giving everybody the incidence" in text for text in metrics["warnings"]) is (shift > 0)


def test_a_perfect_auc_has_no_interval_and_a_warning(predictions):
    perfect = replace(predictions, table=predictions.table.assign(probability=predictions.table["positive"]))
    metrics = compute_metrics(perfect, {"hf_diagnosis": {"kind": "diagnosis"}}, replicates=50)
    entry = metrics["hf_diagnosis"]["labs+ecg+echo"]
    assert entry["auc"] == 1 and entry["auc_ci"] is None and "resamples agree" in entry["auc_missing"]
    assert any("auc is 1 in every resample" in warning for warning in metrics["warnings"])
    assert "1.000" in metrics_text(metrics)


def test_nothing_is_chosen_without_validation_patients(predictions):
    metrics = compute_metrics(predictions, TASKS, replicates=20)
    point = metrics["hf_diagnosis"]["labs"]["threshold"]
    assert point["value"] == 0.5 and "no validation split" in point["chosen_on"]
    assert metrics["hf_risk"]["labs"]["risk_groups"] is None and metrics["validation"] is None


def test_delong_and_mcnemar_are_paired_and_adjusted_by_holm(predictions, metrics):
    comparisons = metrics["comparisons"]["hf_diagnosis"]
    full = predictions.scored("hf_diagnosis", FULL).dropna(subset="label")
    labs = predictions.scored("hf_diagnosis", "labs").set_index("row").loc[full["row"]]
    entry = comparisons[f"{FULL} - labs"]
    expected = delong_test(
        full["probability"].to_numpy(), labs["probability"].to_numpy(), full["label"].to_numpy(), full["patient_id"]
    )
    assert entry["delong_p"] == pytest.approx(expected.p)
    assert entry["mcnemar_n"] == full["patient_id"].nunique() < len(full)  # one admission a patient
    entries = [entry for entry in comparisons.values() if isinstance(entry, dict)]
    for test in ("delong_p", "mcnemar_p"):
        adjusted = multipletests([entry[test] for entry in entries], method="holm")[1]
        assert [entry[f"{test}_holm"] for entry in entries] == pytest.approx(adjusted.tolist())


def test_a_modality_that_nobody_has_is_left_out_of_the_comparisons():
    rows = fake_cohort(60)
    for row in rows:
        row["present"] = np.array([True, True, False])
    metrics = compute_metrics(
        collect_predictions(FakeModel(), rows, fake_collator, progress=False), TASKS, replicates=20
    )
    comparisons = metrics["comparisons"]["hf_diagnosis"]
    assert [name for name in comparisons if " - " in name] == ["labs+ecg - labs", "labs+ecg - ecg"]
    assert comparisons["best_single"] in ("labs", "ecg") and comparisons["best_pair"] is None
    assert not any("n = 0" in warning for warning in metrics["warnings"])
    tables = paper_tables(metrics)
    assert set(tables) == {"table3.csv", "table4.csv"}  # the paper's infarction task has no echo
    header, accuracy, *_ = csv.reader(tables["table4.csv"].splitlines())
    assert header == ["Task", "Metric", "Model", "Lab", "ECG", "Lab+ECG"]
    value = metrics["hf_diagnosis"]["labs+ecg"]["accuracy"]
    assert accuracy[:3] == ["hf_diagnosis", "ACC", "TGMM"] and accuracy[-1].startswith(f"{value:.2f} (")
    components = {"fusion": "cmta", "guidance": "human", "response": "decoder"}
    assert "TGMM with fusion cmta" in paper_tables({**metrics, "components": components})["table4.csv"]


def test_every_key_is_documented(metrics):
    named = set(re.findall(r"`([^`]+)`", DOCUMENTED))
    patterns = [re.compile(re.sub(r"<\w+>", r"[\\w.]+", name)) for name in named]

    def check(value, path):
        for key, inside in value.items() if isinstance(value, dict) else ():
            names = [key.removesuffix("_ci"), key.removesuffix("_missing"), key]
            is_name = key in TASKS or key in SUBSET_NAMES or "->" in key or " - " in key or path.endswith("by_day")
            assert is_name or any(p.fullmatch(name) for p in patterns for name in names), f"{path}/{key}"
            check(inside, f"{path}/{key}")
        for inside in value if isinstance(value, list) else ():
            check(inside, path)

    check(metrics, "")


def test_same_seed_gives_the_same_figures(predictions, metrics, cohort):
    first, second = (compute_metrics(predictions, TASKS, seed=s, replicates=50) for s in (0, 0))
    assert_close(first, second)
    assert compute_metrics(predictions, TASKS, seed=1, replicates=50) != first
    assert "bayes_auc" not in first["hf_diagnosis"][FULL]
