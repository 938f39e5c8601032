"""From a model to metrics.json and the report, with a model whose right answers are known."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from closeness import assert_close
from lifelines.utils import concordance_index
from sklearn.metrics import brier_score_loss, recall_score, roc_auc_score, roc_curve
from statsmodels.stats.multitest import multipletests

from tgmm_hf.evaluation.calibration import fit_temperature, scaled
from tgmm_hf.evaluation.comparisons import delong_test
from tgmm_hf.evaluation.paper_tables import paper_tables
from tgmm_hf.evaluation.predictions import FULL, SUBSETS, collect_predictions
from tgmm_hf.evaluation.summary import compute_metrics, read_optimum
from tgmm_hf.evaluation.survival import fit_baseline_hazards
from tgmm_hf.evaluation.tables import by_day_tables, calibration_table, decision_table, headline
from tgmm_hf.reports.checklist import ITEMS, checklist
from tgmm_hf.reports.evaluation_report import metrics_table, write_atomically, write_outputs
from tgmm_hf.reports.figures import forest_figure, render

MODALITIES = ("labs", "ecg", "echo")
TASKS = {
    "hf_diagnosis": {"kind": "diagnosis"},
    "hf_risk": {"kind": "prognosis", "report_days": [365.0]},
    "retrieval": {"kind": "retrieval"},
}
DOCUMENTED = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text()


class FakeEncoded:
    def __init__(self, evidence, present):
        self.evidence, self.present = evidence, present

    def keep(self, modalities):
        kept = {m: mask if m in modalities else torch.zeros_like(mask) for m, mask in self.present.items()}
        return FakeEncoded(self.evidence, kept)


class FakeModel(torch.nn.Module):
    """Answers with the sum of the present modalities' evidence; counts how often it encodes."""

    def __init__(self, diverged=False):
        super().__init__()
        self.config = SimpleNamespace(tasks=TASKS)
        self.device = torch.device("cpu")
        self.diverged = diverged
        self.encoded = 0

    def encode(self, evidence, present):
        assert not self.training and not torch.is_grad_enabled()
        self.encoded += 1
        return FakeEncoded(evidence, {m: present[:, k] for k, m in enumerate(MODALITIES)})

    def answer(self, encoded, task, labels=None):
        masks = torch.stack([encoded.present[m] for m in MODALITIES], dim=1)
        if task == "retrieval":
            embeds = {
                m: torch.nn.functional.normalize(encoded.evidence[:, k], dim=-1) for k, m in enumerate(MODALITIES)
            }
            return SimpleNamespace(embeds=embeds, embeds_mask=encoded.present)
        score = (encoded.evidence[:, :, 0] * masks).sum(dim=1)
        score = torch.where(masks.any(dim=1), score, torch.nan) * (torch.nan if self.diverged else 1)
        return SimpleNamespace(
            probabilities=torch.stack([1 - score.sigmoid(), score.sigmoid()], dim=1),
            risk=score if task == "hf_risk" else None,
        )


class FakeDataset(list):
    def __getitem__(self, key):
        return [row[key] for row in self] if isinstance(key, str) else super().__getitem__(key)


def fake_cohort(n=160, seed=0, missing=0.2):
    """Rows with evidence (3, 4) per patient and a latent state behind it; every tenth patient has two rows."""
    generator = np.random.default_rng(seed)
    rows = FakeDataset()
    for i in range(n):
        state = generator.normal(size=4)
        present = generator.random(3) > missing
        present[generator.integers(3)] = True
        day = generator.exponential(600 * np.exp(-state[0]))
        rows.append(
            {
                "id": f"admission-{i}",
                "patient_id": f"patient-{i - 1 if i % 10 == 9 else i}",
                "evidence": state + generator.normal(size=(3, 4)),
                "present": present,
                "label": int(state[0] + 0.5 * generator.normal() > 0) if i % 7 else None,
                "time": min(day, 700.0),
                "event": int(day < 700) * (2 if i % 11 == 0 else 1),
            }
        )
    return rows


def fake_collator(rows):
    known = torch.tensor([row["label"] is not None for row in rows])
    return {
        "evidence": torch.tensor(np.stack([row["evidence"] for row in rows]), dtype=torch.float32),
        "present": torch.tensor(np.stack([row["present"] for row in rows])),
        "labels": {
            "hf_diagnosis": {"label": torch.tensor([row["label"] or 0 for row in rows]), "mask": known},
            "hf_risk": {
                "time": torch.tensor([row["time"] for row in rows]),
                "event": torch.tensor([row["event"] for row in rows]),
                "mask": torch.ones(len(rows), dtype=torch.bool),
            },
            "retrieval": {},
        },
        "id": [row["id"] for row in rows],
    }


def optimum(dataset, seed=1):
    """A stand-in for truth.parquet: less noisy than the model under every subset."""
    frame = pd.DataFrame({"id": dataset["id"]})
    evidence = np.stack(dataset["evidence"])[:, :, 0]
    for subset in SUBSETS:
        columns = [MODALITIES.index(m) for m in subset.split("+")]
        frame[f"risk.{subset}"] = evidence[:, columns].mean(axis=1)
        frame[f"posterior.{subset}"] = 1 / (1 + np.exp(-frame[f"risk.{subset}"]))
    return frame.sample(frac=1, random_state=seed)  # another order than the dataset's


@pytest.fixture(scope="module")
def cohort():
    return fake_cohort()


@pytest.fixture(scope="module")
def predictions(cohort):
    return collect_predictions(FakeModel(), cohort, fake_collator, batch_size=32, progress=False)


@pytest.fixture(scope="module")
def validation():
    """Other patients of the same kind."""
    return collect_predictions(FakeModel(), fake_cohort(seed=1), fake_collator, batch_size=64, progress=False)


@pytest.fixture(scope="module")
def groups(cohort):
    generator = np.random.default_rng(2)
    present = np.stack(cohort["present"])
    own = ["+".join(m for m, there in zip(MODALITIES, row, strict=True) if there) for row in present]
    described = {name: ["one"] * len(cohort) for name in ("age", "ethnicity", "natriuretic", "cells", "views")}
    return pd.DataFrame(described | {"sex": generator.choice(["female", "male"], len(cohort)), "modalities": own})


@pytest.fixture(scope="module")
def metrics(predictions, cohort, validation, groups):
    reference = {
        "seed": 4,
        "hf_diagnosis": {FULL: {"auc": 0.9, "n": 5}, "labs": {"auc": None, "n": 0}},
        "population": {"retrieval": {"labs->ecg": {"lrap_3": 0.8, "lrap_full": 0.1, "n": 1000}}},
    }
    truth = optimum(cohort)
    return compute_metrics(
        predictions, TASKS, validation=validation, groups=groups, truth=truth, reference=reference, replicates=200
    )


def test_each_batch_is_encoded_once_and_training_mode_comes_back(cohort):
    model = FakeModel().train()
    collect_predictions(model, cohort, fake_collator, batch_size=32, progress=False)
    assert model.encoded == 5 and model.training


def test_batch_size_changes_nothing(cohort, predictions):
    other = collect_predictions(FakeModel(), cohort, fake_collator, batch_size=7, progress=False)
    order = ["task", "subset", "row"]
    left, right = (p.table.sort_values(order).reset_index(drop=True) for p in (predictions, other))
    pd.testing.assert_frame_equal(left, right, rtol=1e-6)
    np.testing.assert_allclose(predictions.embeds["ecg"], other.embeds["ecg"], rtol=1e-6)


@pytest.mark.parametrize("subset", SUBSETS)
def test_only_patients_with_the_whole_subset_are_scored(cohort, predictions, subset):
    columns = [MODALITIES.index(m) for m in subset.split("+")]
    expected = [row["id"] for row in cohort if row["present"][columns].all()]
    scored = predictions.scored("hf_risk", subset)
    assert scored["id"].tolist() == expected
    assert scored["patient_id"].tolist() == [row["patient_id"] for row in cohort if row["id"] in set(expected)]


def test_figures_equal_their_oracles(cohort, metrics):
    for subset in SUBSETS:
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


def test_optimum_is_taken_on_the_same_patients_and_paired(metrics):
    single = metrics["hf_diagnosis"]["ecg"]  # one modality: the fake optimum ranks as the model does
    assert single["bayes_auc"] == pytest.approx(single["auc"], abs=1e-6)
    assert single["auc_minus_bayes"] == pytest.approx(0, abs=1e-6)
    assert single["auc_minus_bayes_ci"] is None and "all bootstrap resamples agree" in single["auc_minus_bayes_missing"]
    assert metrics["hf_diagnosis"][FULL]["bayes_auc_test_split"] == 0.9
    assert "bayes_auc_test_split" not in metrics["hf_diagnosis"]["labs"]
    assert metrics["retrieval"]["labs->ecg"]["bayes_lrap_3_population"] == 0.8
    assert "bayes_lrap_full_population" not in metrics["retrieval"]["labs->ecg"]
    assert metrics["hf_risk"][FULL]["bayes_c_index"] is not None


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
    assert set(metrics["hf_diagnosis"]) == set(metrics["hf_risk"]) == set(SUBSETS)
    assert len(metrics["retrieval"]) == 6
    assert {"auc", "auc_ci", "accuracy", "accuracy_ci", "bayes_auc", "n"} <= set(metrics["hf_diagnosis"][FULL])
    assert {"c_index", "c_index_ci", "bayes_c_index", "n", "events"} <= set(metrics["hf_risk"][FULL])
    retrieval = {"lrap_3", "lrap_3_ci", "recall_1_3", "recall_2_3", "lrap_full", "n", "lrap_3_chance", "lrap_4"}
    assert retrieval <= set(metrics["retrieval"]["labs->ecg"])
    json.dumps(metrics, allow_nan=False)


def test_thresholds_come_from_validation_patients(predictions, validation, metrics):
    for subset in SUBSETS:
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


def test_temperature_and_a_stated_sensitivity(predictions, validation, metrics):
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
    assert "1.000" in metrics_table(metrics)


@pytest.mark.parametrize("events", [9, 10])
def test_a_c_index_of_few_events_is_no_headline(predictions, events):
    rows = predictions.table[(predictions.table["task"] == "hf_risk") & (predictions.table["subset"] == FULL)]
    kept = rows["id"][rows["event"] == 1][:events].tolist() + rows["id"][rows["event"] != 1][:20].tolist()
    few = replace(predictions, table=predictions.table[predictions.table["id"].isin(kept)])
    metrics = compute_metrics(few, {"hf_risk": {"kind": "prognosis"}}, replicates=20)
    figure, behind = headline("hf_risk", "prognosis", metrics["hf_risk"])
    value = f"{metrics['hf_risk'][FULL]['c_index']:.3f}"
    assert (value in figure) is (events == 10) and f"{events} events" in behind
    assert value in metrics_table(metrics)  # the table has it all the same
    assert ("too few events" in metrics_table(metrics).splitlines()[0]) is (events == 9)


def test_a_slope_without_interval_says_why(metrics):
    reason = "defined in only 3 of 50 bootstrap resamples"
    changed = {"calibration_slope": 1.094, "calibration_slope_ci": None, "calibration_slope_missing": reason}
    entries = metrics["hf_diagnosis"] | {FULL: metrics["hf_diagnosis"][FULL] | changed}
    assert calibration_table("dx", entries).rows[-1][4] == f"1.094 ({reason})"


def test_the_checklist_says_on_whom_things_were_chosen(metrics):
    answer = {number: text for number, _, text in checklist(metrics)}["12a"]
    assert metrics["hf_diagnosis"][FULL]["threshold"]["chosen_on"] in answer
    assert metrics["hf_risk"][FULL]["risk_groups"]["chosen_on"] in answer
    # a validation split that was too small: 0.5, and the cut of the baseline
    few = metrics | {"validation": {"n": 9}}
    for task, key, chosen in (
        ("hf_diagnosis", "threshold", "nobody: 9 patients"),
        ("hf_risk", "risk_groups", "mean of train"),
    ):
        entry = metrics[task][FULL]
        few[task] = metrics[task] | {FULL: entry | {key: entry[key] | {"chosen_on": chosen}}}
    answer = {number: text for number, _, text in checklist(few)}["12a"]
    assert "nobody: 9 patients" in answer and "mean of train" in answer and "validation" not in answer


def test_figures_by_day_are_shown_if_any_combination_has_them(metrics):
    entries = metrics["hf_risk"]
    nothing = entries[FULL] | {"uno_c": None, "uno_c_until": None, "uno_c_missing": "8 events", "by_day": {}}
    weighted, by_day = by_day_tables("risk", entries | {FULL: nothing})
    for table in (weighted, by_day):
        assert [row[0] for row in table.rows] == [subset for subset in SUBSETS if subset != FULL]
    (reason,) = by_day_tables("risk", dict.fromkeys(SUBSETS, nothing))
    assert reason.rows == [["8 events"]]


def test_nothing_is_chosen_without_validation_patients(predictions):
    metrics = compute_metrics(predictions, TASKS, replicates=20)
    point = metrics["hf_diagnosis"]["labs"]["threshold"]
    assert point["value"] == 0.5 and "no validation split" in point["chosen_on"]
    assert metrics["hf_risk"]["labs"]["risk_groups"] is None and metrics["validation"] is None


def test_tests_are_paired_and_adjusted(predictions, metrics):
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
            is_name = key in TASKS or key in SUBSETS or "->" in key or " - " in key or path.endswith("by_day")
            assert is_name or any(p.fullmatch(name) for p in patterns for name in names), f"{path}/{key}"
            check(inside, f"{path}/{key}")
        for inside in value if isinstance(value, list) else ():
            check(inside, path)

    check(metrics, "")


def test_same_seed_same_figures(predictions, metrics, cohort):
    first, second = (compute_metrics(predictions, TASKS, seed=s, replicates=50) for s in (0, 0))
    assert_close(first, second)
    assert compute_metrics(predictions, TASKS, seed=1, replicates=50) != first
    assert "bayes_auc" not in first["hf_diagnosis"][FULL]


def test_missing_class_and_absent_modality_give_reasons(tmp_path):
    rows = fake_cohort(30)
    for row in rows:
        row["present"] = np.array([True, True, False])
        row["label"], row["event"] = 1, 0
    predictions = collect_predictions(FakeModel(), rows, fake_collator, progress=False)
    metrics = compute_metrics(predictions, TASKS, truth=optimum(rows), replicates=20)
    entry = metrics["hf_diagnosis"]["labs+ecg"]
    assert (
        entry["auc"] is None and "30 of 30 rows are positive" in entry["auc_missing"] and entry["accuracy"] is not None
    )
    assert metrics["hf_diagnosis"][FULL] | {"n": 0, "auc": None, "accuracy": None} == metrics["hf_diagnosis"][FULL]
    assert "0 events" in metrics["hf_risk"]["labs"]["c_index_missing"]
    assert metrics["retrieval"]["labs->ecg"]["n"] == 30 and metrics["retrieval"]["labs->echo"]["lrap_3"] is None
    assert metrics["warnings"]
    write_outputs(metrics, predictions, tmp_path)  # draws and writes all the same
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics


def test_bad_requests_are_refused(cohort):
    with pytest.raises(ValueError, match="unknown tasks \\['hf'\\].*hf_diagnosis"):
        collect_predictions(FakeModel(), cohort, fake_collator, tasks=["hf"], progress=False)
    with pytest.raises(ValueError, match="unknown modality subsets"):
        collect_predictions(FakeModel(), cohort, fake_collator, subsets=["ecg+labs"], progress=False)
    with pytest.raises(ValueError, match="no rows"):
        collect_predictions(FakeModel(), FakeDataset(), fake_collator, progress=False)
    with pytest.raises(ValueError, match="not finite"):
        collect_predictions(FakeModel(diverged=True), cohort, fake_collator, progress=False)


def test_everything_is_written_and_the_page_stands_alone(predictions, metrics, tmp_path):
    metrics = metrics | {"model": "demo/model", "split": "test", "synthetic": True, "versions": {"torch": "x<y"}}
    write_outputs(metrics, predictions, tmp_path)
    figures = ("auc", "roc", "calibration", "decision", "subgroups")
    names = {f"hf_diagnosis_{figure}" for figure in figures} | {"retrieval"}
    names |= {f"hf_risk_{figure}" for figure in ("c_index", "risk_groups", "subgroups")}
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        f"{n}.{e}" for n in names for e in ("svg", "png")
    }
    assert not list(tmp_path.rglob(".*"))  # no temporary file left
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == len(names) and "no clinical evidence" in page and "not a medical device" in page
    assert "x&lt;y" in page and "<script" not in page and "src=" not in page
    assert not any(row in page for row in predictions.ids[:20])  # figures, no patients
    assert {item[0] for item in checklist(metrics)} == {number for number, _ in ITEMS} and "Not known" in page
    tables = {path.name for path in (tmp_path / "tables").iterdir()}
    assert tables == {f"{name}.csv" for name in ("table2", "table3", "table5", "tripod_ai")} | {
        f"{task}_subgroups.csv" for task in ("hf_diagnosis", "hf_risk")
    }
    table = (tmp_path / "metrics.txt").read_text()
    assert f"{metrics['hf_diagnosis'][FULL]['auc']:.3f}" in table and "no clinical evidence" in table
    written = pd.read_parquet(tmp_path / "predictions.parquet")
    pd.testing.assert_frame_equal(written, predictions.table)
    embeddings = np.load(tmp_path / "embeddings.npz")
    np.testing.assert_array_equal(embeddings["ecg_embeds"], predictions.embeds["ecg"])


def test_svg_figures_are_identical_for_identical_figures(metrics):
    first, second = (render(forest_figure(metrics["hf_risk"], "c_index", "risk"), "svg") for _ in range(2))
    assert first == second and b"C-index" in first


def test_table_lines_up(metrics):
    first, *blocks = metrics_table(metrics).split("\n\n")
    assert f"hf_diagnosis: AUC {metrics['hf_diagnosis'][FULL]['auc']:.3f}" in first.splitlines()[0]
    for block in blocks[:3]:
        lines = block.split("\n")[1:]
        assert len({len(line.rstrip()) for line in lines if not line.startswith("-")}) <= 2, block


def test_a_failed_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "metrics.json"
    target.write_text("old")
    with pytest.raises(OSError):
        write_atomically(target, lambda path: (path.write_text("ha"), (_ for _ in ()).throw(OSError("disk full"))))
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_optimum_files(tmp_path, cohort):
    for given in (tmp_path, tmp_path / "bayes.json"):
        with pytest.raises(FileNotFoundError, match="There is no .*bayes.json.*synthetic cohort.*tgmm synth"):
            read_optimum(given)
    (tmp_path / "bayes.json").write_text('{"seed": 1}')
    assert read_optimum(tmp_path)[0] is None
    optimum(cohort).to_parquet(tmp_path / "truth.parquet")
    truth, reference = read_optimum(tmp_path / "bayes.json")
    assert len(truth) == len(cohort) and reference == {"seed": 1}
