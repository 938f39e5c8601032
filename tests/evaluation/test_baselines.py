"""The simple models: they learn what is in the laboratory row, from the train split only, and say where they cannot."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from datasets.arrow_writer import ArrowWriter
from lifelines.utils import concordance_index
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from tgmm_hf.cli import app
from tgmm_hf.data.builder import RecordPreparer
from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.evaluation.baselines import evaluate_baselines, read_features
from tgmm_hf.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.image_processing_echo import EchoImageProcessor

SIZES = {"train": 240, "validation": 80, "test": 120}


def invented_row(name: str, generator: np.random.Generator) -> dict:
    """Creatinine in two units and a word of the history say something of the disease; the echo is there if ill."""
    sick = bool(generator.random() < 0.5)
    creatinine = float(np.exp(generator.normal(0.3 if sick else 0.0, 0.3)))
    labs = {
        "NTproBNP": float(np.exp(generator.normal(8 if sick else 7, 1))),
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
        "labs": json.dumps(labs) if generator.random() < 0.95 else "",
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
    preparer = RecordPreparer(EcgFeatureExtractor(), EchoImageProcessor(size=64, num_frames=16), directory, tasks)
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
    return evaluate_baselines(data, out, bootstrap=100), pd.read_parquet(out / "predictions.parquet"), out


def test_the_figures_are_those_of_the_predictions(result):
    record, predictions, out = result
    assert json.loads((out / "baselines.json").read_text()) == json.loads(json.dumps(record))
    for name, entry in record["tasks"]["ill"].items():
        rows = predictions[(predictions["task"] == "ill") & (predictions["baseline"] == name)]
        assert entry["n"] == len(rows) <= SIZES["test"] and rows["id"].str.startswith("test").all()
        assert entry["auc"] == pytest.approx(roc_auc_score(rows["label"], rows["probability"]), abs=1e-9)
        assert entry["auc"] == 1 or entry["auc_ci"][0] <= entry["auc"] <= entry["auc_ci"][1]
    for name, entry in record["tasks"]["risk"].items():
        rows = predictions[(predictions["task"] == "risk") & (predictions["baseline"] == name)]
        expected = concordance_index(rows["time"], -rows["risk"], rows["event"] == 1)
        assert entry["c_index"] == pytest.approx(expected, abs=1e-9)
    csv = (out / "baselines.csv").read_text()
    assert f"ill,NT-proBNP alone,{record['tasks']['ill']['NT-proBNP alone']['n']},AUC," in csv


def test_they_find_what_is_there_and_only_that(result, data):
    record, predictions, _ = result
    ill, risk = record["tasks"]["ill"], record["tasks"]["risk"]
    assert ill["logistic regression on labs"]["auc"] > 0.75 and ill["gradient boosting on labs"]["auc"] > 0.75
    assert ill["what was measured"]["auc"] > 0.99  # the echo is there if ill: the cohort gives the answer away
    assert risk["Cox model on labs"]["c_index"] > 0.6
    # one number and a rising function of it rank alike
    rows = predictions[(predictions["task"] == "ill") & (predictions["baseline"] == "NT-proBNP alone")]
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

    evaluate_baselines(write_data(tmp_path / "data", turned), tmp_path / "out", bootstrap=100)
    again = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    for column in ("probability", "risk"):
        assert np.array_equal(again[column], result[1][column], equal_nan=True)


def test_too_few_patients_give_a_reason(result):
    rare = result[0]["tasks"]["rare"]
    assert rare["what was measured"] == {"missing": "1 training patients of the rarer class, 10 are needed"}
    assert all(set(entry) == {"missing"} for entry in rare.values())
    assert "1 training patients" in (result[2] / "baselines.csv").read_text()


def test_the_command_prints_the_table(data, tmp_path):
    done = CliRunner().invoke(app, ["baselines", str(data), "--out", str(tmp_path), "--bootstrap", "100"])
    assert done.exit_code == 0 and "gradient boosting on labs" in done.output
    assert (tmp_path / "baselines.json").is_file()
