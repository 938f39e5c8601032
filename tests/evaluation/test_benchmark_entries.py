"""`tgmm write-entry`: the files and figures of the published benchmarks, from the predictions of an evaluation."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score, roc_auc_score

from tgmm_hf.cli import main
from tgmm_hf.evaluation.benchmark_entries import cardiobench_figures

LABELS = ["CD", "MI", "NORM", "RARE"]


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    """Predictions of 60 recordings with four labels, of which one never occurs, and of 40 ejection fractions."""
    random = np.random.default_rng(0)
    present = (random.random((60, 4)) < 0.3).astype(float)
    present[:, 3] = 0
    score = np.clip(0.4 * present + random.random((60, 4)) * 0.6, 0, 1)
    rows = [{"row": 59 - n, "id": f"r{n}", "task": "ptbxl_superclass", "subset": "ecg", "probabilities": score[n],
             "findings": present[n], "value": np.nan, "measured": np.nan} for n in range(60)]  # fmt: skip
    measured = random.uniform(20, 70, 40)
    value = measured + random.normal(0, 8, 40)
    rows += [{"row": n, "id": f"0X{n}", "task": "lvef", "subset": "echo", "probabilities": None, "findings": None,
              "value": value[n], "measured": measured[n]} for n in range(40)]  # fmt: skip
    out = tmp_path / "evaluation"
    out.mkdir()
    pd.DataFrame(rows).to_parquet(out / "predictions.parquet")
    entry = {"labs+ecg+echo": {"findings": {label: {} for label in LABELS}}}
    (out / "metrics.json").write_text(json.dumps({"split": "test", "ptbxl_superclass": entry}))
    return out


def test_arrays_of_ptbxl_give_the_published_macro_auc(evaluation: Path, tmp_path: Path, capsys) -> None:
    words = ["--benchmark", "ptbxl", "--task", "ptbxl_superclass", "--out", str(tmp_path / "out"), "--name", "x"]
    main_ok(["write-entry", str(evaluation), *words])
    preds, targs, classes = (np.load(tmp_path / "out" / f"{kind}_x.npy") for kind in ("preds", "targs", "classes"))
    assert preds.shape == targs.shape == (60, 4) and classes.tolist() == LABELS
    table = pd.read_parquet(evaluation / "predictions.parquet")
    last = table[table.id == "r59"].iloc[0]  # the first of the prepared data
    assert preds[0].tolist() == list(last.probabilities) and targs[0].tolist() == list(last.findings)
    printed = capsys.readouterr().out
    assert f"{roc_auc_score(targs[:, :3], preds[:, :3], average='macro'):.3f}" in printed
    assert "left_out     ['RARE']" in printed  # the published code stops at such a label


def test_the_file_of_cardiobench_has_its_columns_and_figures(evaluation: Path, tmp_path: Path, capsys) -> None:
    cohort = pd.DataFrame({"id": [f"0X{n}" for n in range(42)], "split": "test"})
    cohort.to_parquet(tmp_path / "cohort.parquet")
    (tmp_path / "missing.csv").write_text("id,split,reason\n0X42,test,no file\n0X43,train,no file\n")
    words = ["--benchmark", "cardiobench-echonet", "--task", "lvef", "--out", str(tmp_path)]
    main_ok(["write-entry", str(evaluation), *words, "--cohort", str(tmp_path / "cohort.parquet")])
    written = pd.read_csv(tmp_path / "tgmm.csv")
    assert list(written) == ["FileName", "EF_pred"] and written.FileName.tolist() == [f"0X{n}" for n in range(40)]
    table = pd.read_parquet(evaluation / "predictions.parquet").query("task == 'lvef'")
    assert written.EF_pred.to_numpy() == pytest.approx(table.value.to_numpy())
    printed = capsys.readouterr().out
    assert f"{mean_absolute_error(table.measured, table.value):.3f}" in printed
    assert "3 of the test split have no prediction: 0X40, 0X41, 0X42" in printed
    with pytest.raises(SystemExit) as failed:
        main(["write-entry", str(evaluation), *words, "--subset", "ecg"])
    assert failed.value.code == 1 and "lvef under echo" in capsys.readouterr().err


def test_figures_of_cardiobench_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(1)
    measured = random.uniform(20, 70, 50)
    value = measured + random.normal(2, 9, 50)
    mae = mean_absolute_error(measured, value)
    expected = {
        "mae": mae,
        "mae_of_range": 100 * mae / (measured.max() - measured.min()),
        "mse": mean_squared_error(measured, value),
        "rmse": mean_squared_error(measured, value) ** 0.5,
        "r2": 100 * r2_score(measured, value),
        "pearson": 100 * pearsonr(measured, value)[0],
        "spearman": 100 * spearmanr(measured, value)[0],
    }
    assert cardiobench_figures(measured, value) == pytest.approx(expected)
    constant = cardiobench_figures(measured, np.full(50, 45.0))
    assert constant["pearson"] is None and constant["r2"] == pytest.approx(100 * r2_score(measured, np.full(50, 45.0)))


def main_ok(words: list[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(words)
    assert done.value.code in (0, None)
