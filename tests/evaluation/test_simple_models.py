"""The simple models: they learn what is in the laboratory row, from the train split only, and say where they cannot."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from closeness import assert_close
from datasets.arrow_writer import ArrowWriter
from lifelines.utils import concordance_index
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from tgmm_hf.cli import app
from tgmm_hf.data.admissions import AdmissionPreparer
from tgmm_hf.data.lab_rows import store_labs
from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.evaluation.late_fusion import fuse
from tgmm_hf.evaluation.metrics import UndefinedFigureError
from tgmm_hf.evaluation.simple_model_evaluation import evaluate_simple_models
from tgmm_hf.evaluation.simple_model_features import read_features, read_lvef
from tgmm_hf.evaluation.simple_models import fit_cox
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.inputs.image_processing_echo import EchoImageProcessor
from tgmm_hf.inputs.lab_text import LabsText

SIZES = {"train": 240, "validation": 80, "test": 120}


def invented_row(name: str, generator: np.random.Generator) -> dict:
    """Creatinine in two units and a word of the history say something of the disease; the echo is there if ill."""
    sick = bool(generator.random() < 0.5)
    creatinine = float(np.exp(generator.normal(0.3 if sick else 0.0, 0.3)))
    labs = {
        "NTproBNP": [float(np.exp(generator.normal(8 if sick else 7, 1))), "pg/mL"],
        "crea": [creatinine, "mg/dL"] if generator.random() < 0.5 else [creatinine * 88.402, "umol/L"],
        "gender": "female" if generator.random() < 0.5 else "male",
        "medical history": "Hypertension; oedema" if sick and generator.random() < 0.5 else "hypertension",
    }
    labs = {key: value for key, value in labs.items() if generator.random() < 0.9}
    risk = np.log(creatinine)
    event_time, leaving = generator.exponential(600 * np.exp(-3 * risk)), generator.uniform(100, 900)
    return {
        "id": name,
        "patient_id": name,
        "labs": store_labs(LabsText.from_row(labs)) if generator.random() < 0.95 else "",
        "ecg": np.zeros((0, 12), np.float32),
        "ecg_mask": [False] * 12,
        "clips": np.zeros((0, 16, 64, 192), np.uint8),
        "clip_views": [1] if sick else [],
        "clip_frames": [16] if sick else [],
        "label_ill": int(sick),
        "label_rare": int(name == "train0"),
        "time_risk": float(min(event_time, leaving)),
        "event_risk": int(event_time < leaving),
    }


def write_data(directory: Path, change=lambda split, row: row) -> Path:
    tasks = {"ill": "diagnosis", "rare": "diagnosis", "risk": "prognosis"}
    preparer = AdmissionPreparer(EcgFeatureExtractor(), EchoImageProcessor(size=64, num_frames=16), directory, tasks)
    generator = np.random.default_rng(0)
    for split, size in SIZES.items():
        (directory / split).mkdir(parents=True)
        with ArrowWriter(features=preparer.features, path=str(directory / split / "00000.arrow")) as writer:
            for number in range(size):
                row = change(split, invented_row(f"{split}{number}", generator))
                writer.write(preparer.features.encode_example(row))
            writer.finalize()
    (directory / "prepare.json").write_text(json.dumps({"data_hash": "invented"}))
    return directory


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def result(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return evaluate_simple_models(data, out, bootstrap=100), pd.read_parquet(out / "predictions.parquet"), out


def figures(record: dict, task: str) -> dict:
    return {name: entry for name, entry in record["tasks"][task].items() if "missing" not in entry}


def test_figures_equal_scikit_learn_and_lifelines_on_the_written_predictions(result):
    record, predictions, out = result
    assert json.loads((out / "simple_models.json").read_text()) == json.loads(json.dumps(record))
    for name, entry in figures(record, "ill").items():
        rows = predictions[(predictions["task"] == "ill") & (predictions["simple_model"] == name)]
        assert entry["n"] == len(rows) <= SIZES["test"] and rows["id"].str.startswith("test").all()
        assert entry["auc"] == pytest.approx(roc_auc_score(rows["label"], rows["probability"]), abs=1e-9)
        assert entry["auc"] == 1 or entry["auc_ci"][0] <= entry["auc"] <= entry["auc_ci"][1]
    for name, entry in figures(record, "risk").items():
        rows = predictions[(predictions["task"] == "risk") & (predictions["simple_model"] == name)]
        expected = concordance_index(rows["time"], -rows["risk"], rows["event"] == 1)
        assert entry["c_index"] == pytest.approx(expected, abs=1e-9)
    csv = (out / "simple_models.csv").read_text()
    assert f"ill,NT-proBNP alone,{record['tasks']['ill']['NT-proBNP alone']['n']},AUC," in csv


def test_simple_models_find_what_the_features_hold(result, data):
    record, predictions, _ = result
    ill, risk = record["tasks"]["ill"], record["tasks"]["risk"]
    assert ill["logistic regression on labs"]["auc"] > 0.75 and ill["gradient boosting on labs"]["auc"] > 0.75
    assert ill["what was measured"]["auc"] > 0.99  # the echo is there if ill: the cohort gives the answer away
    assert risk["Cox model on labs"]["c_index"] > 0.6
    # one number and a rising function of it rank alike
    rows = predictions[(predictions["task"] == "ill") & (predictions["simple_model"] == "NT-proBNP alone")]
    values = read_features(load_prepared(data))["natriuretic"]["test"]["NTproBNP"].dropna()
    assert ill["NT-proBNP alone"]["auc"] == pytest.approx(roc_auc_score(rows["label"], values), abs=1e-9)


def test_features_are_canonical_and_missing_is_not_a_number(data):
    features = read_features(load_prepared(data))
    labs = features["labs"]["test"]
    assert labs["Creatinine"].max() < 10 and labs["Creatinine"].isna().any()  # umol/L were converted
    assert set(labs["female"].dropna()) == {0.0, 1.0}
    assert {"word hypertension", "word oedema"} <= set(labs)
    without = features["presence"]["test"]["labs"] == 0
    assert without.any() and labs[without].isna().all().all()
    assert list(features["labs"]["train"]) == list(labs)


def test_test_outcomes_change_no_prediction(data, result, tmp_path):
    def turned(split: str, row: dict) -> dict:
        return {**row, "label_ill": 1 - row["label_ill"], "time_risk": 1.0} if split == "test" else row

    evaluate_simple_models(write_data(tmp_path / "data", turned), tmp_path / "out", bootstrap=100)
    again = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    for column in ("probability", "risk"):
        assert_close(again[column].to_numpy(), result[1][column].to_numpy(), atol=1e-5)  # of iterated fits


def test_too_few_patients_give_a_reason(result):
    rare = result[0]["tasks"]["rare"]
    assert rare["what was measured"] == {"missing": "1 training patients of the rarer class, 10 are needed"}
    assert all(set(entry) == {"missing"} for entry in rare.values())
    assert "1 training patients" in (result[2] / "simple_models.csv").read_text()


def test_missing_model_or_table_gives_a_reason(result):
    for task in ("ill", "risk"):
        entries = result[0]["tasks"][task]
        missing = {name: entry["missing"] for name, entry in entries.items() if "missing" in entry}
        assert missing.pop("LVEF alone").startswith("needs --lvef")
        assert set(missing) == {
            "labs text probe",
            "ECG probe",
            "echo probe",
            "late fusion of simple models",
            "late fusion of the model's own answers",
        }
        assert all(reason.startswith("needs --model") for reason in missing.values())
    assert "ill,ECG probe,—,—,needs --model" in (result[2] / "simple_models.csv").read_text().replace('"', "")


def lvef_table(path: Path, every: int = 1) -> pd.DataFrame:
    """Ejection fraction by id, in another order than the data; of each `every` admissions one has none."""
    generator = np.random.default_rng(1)
    ids = [f"{split}{number}" for split, size in SIZES.items() for number in range(size)]
    values = [None if n % every == every - 1 else float(generator.uniform(20, 70)) for n in range(len(ids))]
    table = pd.DataFrame({"id": ids, "lvef": values}).sample(frac=1, random_state=0)
    table.to_parquet(path) if path.suffix == ".parquet" else table.to_csv(path, index=False)
    return table.set_index("id")["lvef"]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_lvef_is_scored_where_it_is_known(tmp_path, suffix):
    table = tmp_path / f"cohort{suffix}"
    known = lvef_table(table, every=3)

    def sick_if_low(split: str, row: dict) -> dict:
        exception = int(row["id"].removeprefix(split)) % 5 == 0
        return {**row, "label_ill": int((known[row["id"]] < 50) != exception)}

    data = write_data(tmp_path / "data", sick_if_low)
    record = evaluate_simple_models(data, tmp_path / "out", lvef=table, bootstrap=100)
    entry = record["tasks"]["ill"]["LVEF alone"]
    rows = pd.read_parquet(tmp_path / "out" / "predictions.parquet").query(
        "task == 'ill' and simple_model == 'LVEF alone'"
    )
    assert entry["n"] == len(rows) == known[known.index.str.startswith("test")].notna().sum() < SIZES["test"]
    assert (
        entry["auc"] == pytest.approx(roc_auc_score(rows["label"], -known[rows["id"]]), abs=1e-9) and entry["auc"] > 0.6
    )


def test_impossible_ejection_fractions_are_refused(data, tmp_path):
    rows, path = load_prepared(data), tmp_path / "t.csv"
    for content, reason in (
        ("id,lvef\ntrain0,55\ntrain1,0.35\n", "1 of 2 values of lvef are no percentage"),
        ("id,lvef\ntrain0,>55\n", "1 of 1 values"),
        ("id,lvef\ntrain0,55\ntrain0,50\n", "more than once"),
        ("id,lvef\nsomeone,55\n", "another cohort"),
        ("id,ef\ntrain0,55\n", "no column lvef"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=reason):
            read_lvef(path, rows)


OUTCOMES = pd.DataFrame({"id": list("abcd"), "patient_id": list("abcd"), "label": [0, 1, 1, np.nan]})


def test_late_fusion_is_the_mean_of_the_available_log_odds():
    test = pd.DataFrame(
        {"labs": [0.8, np.nan, 0.2, 0.9], "ecg": [0.5, 0.6, np.nan, 0.9], "echo": np.nan}, index=list("bcad")
    )
    of = {"validation": OUTCOMES, "test": OUTCOMES}
    about, scored = fuse("diagnosis", {"validation": test, "test": test}, of)
    # a: labs alone; b: odds of 4 and 1, so of 2; c: ECG alone; d has no label; nobody has an echo
    assert about == {"of": ["labs", "ecg"]} and list(scored["test"]["id"]) == ["a", "b", "c"]
    assert scored["test"]["probability"].tolist() == pytest.approx([0.2, 2 / 3, 0.6])
    assert scored["test"]["predicted"].tolist() == [0, 1, 1]
    _, certain = fuse("diagnosis", {"validation": test, "test": test.replace(0.8, 1.0)}, of)
    assert 0.99 < certain["test"]["probability"][1] < 1
    with pytest.raises(UndefinedFigureError, match=r"fewer than two modalities \(ecg\)"):
        fuse("diagnosis", {"validation": test, "test": test[["ecg", "echo"]]}, of)


def test_log_risks_are_standardised_on_validation_before_their_mean():
    outcomes = OUTCOMES.drop(columns="label").assign(time=[1.0, 2.0, 3.0, np.nan], event=[1, 0, 1, np.nan])
    validation = pd.DataFrame({"labs": [1.0, 2.0, 3.0, 99.0], "ecg": [10.0, np.nan, 30.0, 99.0]}, index=list("abcd"))
    test = pd.DataFrame({"labs": [3.0, np.nan, 2.0], "ecg": [20.0, 20.0 + 200**0.5, np.nan]}, index=list("abc"))
    of = {"validation": outcomes, "test": outcomes}
    _, scored = fuse("prognosis", {"validation": validation, "test": test}, of)
    # labs: mean 2, deviation 1; ECG: mean 20, deviation sqrt(200); d has no follow-up and moves neither
    assert scored["test"]["risk"].tolist() == pytest.approx([0.5, 1.0, 0.0])
    with pytest.raises(UndefinedFigureError, match="no two different validation risks of ecg"):
        fuse("prognosis", {"validation": validation.assign(ecg=1.0), "test": test}, of)


def test_a_cox_model_that_did_not_converge_gives_no_scores():
    order = np.linspace(0, 1, 40)  # the greater the value the sooner the event: without a penalty there is no maximum
    features, outcomes = pd.DataFrame({"x": order}), pd.DataFrame({"time": 41 - 40 * order, "event": 1.0})
    with pytest.raises(UndefinedFigureError, match="did not converge at a penalty of 0.0"):
        fit_cox(features, outcomes, 0.0)
    assert (np.diff(fit_cox(features, outcomes, 0.1)(features)) > 0).all()


def test_the_command_prints_the_table(data, tmp_path):
    done = CliRunner().invoke(app, ["simple-models", str(data), "--out", str(tmp_path), "--bootstrap", "100"])
    assert done.exit_code == 0 and "gradient boosting on labs" in done.output
    assert (tmp_path / "simple_models.json").is_file()
    assert not (tmp_path / "baselines.json").exists()


def test_the_old_command_writes_the_old_names_too(data, tmp_path):
    done = CliRunner().invoke(app, ["baselines", str(data), "--out", str(tmp_path), "--bootstrap", "100"])
    assert done.exit_code == 0
    for suffix in (".json", ".csv"):
        assert (tmp_path / f"baselines{suffix}").read_text() == (tmp_path / f"simple_models{suffix}").read_text()
    table = pd.read_parquet(tmp_path / "predictions.parquet")
    assert table["baseline"].equals(table["simple_model"])
