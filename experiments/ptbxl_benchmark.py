"""One task of the published PTB-XL benchmark: TGMM beside simple models on the same recordings, as tables.

    python experiments/ptbxl_benchmark.py superclass ptbxl/superclass/data ptbxl/superclass/evaluation --out tables

It reads prepared data and what `tgmm evaluate` wrote for their test split, and scores three simple models:

* logistic regression, one for each label, on 198 numbers of each ECG (below), fitted on the train split;
* the share of each label in the train split for everybody, the benchmark's "naive" model;
* 0.5 for everybody. Constants cannot rank, so both have a macro AUROC of 0.5; they are computed all the same.

The numbers of an ECG are, of each lead: skewness, kurtosis, four quantiles (1, 5, 95, 99 %), the mean absolute
difference of neighbouring samples, and the logarithm of the power in four bands (0.5 to 4, 10, 20, 40 Hz); and the 66
correlations of two leads. None of them needs millivolts, because public arrays of PTB-XL are z-scored by lead. Nothing
is chosen: the strength of the penalty is scikit-learn's C = 0.1, fixed before the first run.

The macro AUROC is the mean over the labels that some and not all of the recordings have. Intervals are 95 %, over
patients, from the same resamples for every model.
"""

import argparse
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset
from numpy.typing import NDArray
from scipy.signal import periodogram
from scipy.stats import kurtosis, skew
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tiny_training import write

from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.evaluation.metrics import Estimate, bootstrap_counts, estimate, resampled_auc
from tgmm_hf.evaluation.multilabel import macro_auc, matrix, scored_findings
from tgmm_hf.utils.files import read_json, whole_file
from tgmm_hf.utils.names import BOOTSTRAP_RESAMPLES

RATE, BANDS, PENALTY = 250.0, ((0.5, 4.0), (4.0, 10.0), (10.0, 20.0), (20.0, 40.0)), 0.1
REGRESSION, NAIVE, HALF = "logistic regression on 198 numbers", "share in the train split", "0.5 for everybody"


def numbers_of(ecg: NDArray) -> NDArray:
    """Compute the 198 numbers of an ECG (samples, 12) at 250 Hz. A lead that stands still gives zeros."""
    signal = (ecg - ecg.mean(axis=0)) / np.maximum(ecg.std(axis=0), 1e-6)
    frequency, power = periodogram(signal, RATE, axis=0)
    bands = [np.log(power[(frequency >= low) & (frequency < high)].mean(axis=0) + 1e-6) for low, high in BANDS]
    parts = [skew(signal), kurtosis(signal), *np.quantile(signal, (0.01, 0.05, 0.95, 0.99), axis=0)]
    parts += [np.abs(np.diff(signal, axis=0)).mean(axis=0), *bands]
    likeness = (signal.T @ signal / len(signal))[np.triu_indices(12, 1)]
    return np.nan_to_num(np.concatenate([*parts, likeness]))


def features_and_labels(rows: Dataset, task: str, labels: list[str]) -> tuple[NDArray, NDArray]:
    """Return the numbers (n, 198) and the labels (n, F) of prepared rows."""
    numbers, present = [], []
    for row in rows.select_columns(["ecg", f"findings_{task}"]):
        numbers.append(numbers_of(np.asarray(row["ecg"], np.float64)))
        stored = json.loads(row[f"findings_{task}"])
        present.append([stored[label] for label in labels])
    return np.stack(numbers), np.array(present)


def simple_scores(train: tuple[NDArray, NDArray], numbers: NDArray) -> dict[str, NDArray]:
    """Fit the simple models on the train split and score recordings: model -> (n, F).

    A label that all or none of the training recordings have gets its share from the regression, too.
    """
    features, present = train
    share = np.repeat(present.mean(axis=0)[None], len(numbers), axis=0)
    regression = share.copy()
    for column in scored_findings(present):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=2000))
        regression[:, column] = model.fit(features, present[:, column]).predict_proba(numbers)[:, 1]
    return {REGRESSION: regression, NAIVE: share, HALF: np.full(share.shape, 0.5)}


def model_scores(evaluation: Path, task: str, ids: list[str]) -> dict[str, NDArray]:
    """Read TGMM's scores: name with its inputs -> (n, F), in the order of `ids`. Other subsets are left out."""
    table = pd.read_parquet(evaluation / "predictions.parquet")
    scores = {}
    for subset, inputs in (("ecg", "ECG"), ("labs", "labs"), ("labs+ecg", "labs and ECG")):
        rows = table[(table.task == task) & (table.subset == subset)].set_index("id")
        if len(rows) and set(ids) <= set(rows.index):
            scores[f"TGMM, {inputs}"] = matrix(rows.loc[ids], "probabilities")
    return scores


def macro_table(scores: Mapping[str, NDArray], present: NDArray, counts: NDArray) -> list[list[str]]:
    """Make the rows of the table of macro figures."""
    number = str(len(scored_findings(present)))
    rows = [["model", "macro AUROC", "95 % interval", "minus the regression", "95 % interval", "labels", "recordings"]]
    for name, score in scores.items():
        figure = estimate(partial(macro_auc, score, present), counts)
        gain = estimate(partial(_gain, score, scores[REGRESSION], present), counts)
        differs = cells(gain, "+.3f") if name != REGRESSION else ("", "")
        rows.append([name, *cells(figure), *differs, number, str(len(present))])
    return rows


def _gain(score: NDArray, other: NDArray, present: NDArray, counts: NDArray) -> NDArray:
    """Compute the difference of two macro AUROCs in every resample: (R,)."""
    return macro_auc(score, present, counts) - macro_auc(other, present, counts)


def label_table(
    scores: Mapping[str, NDArray], labels: list[str], train: NDArray, present: NDArray, counts: NDArray
) -> list[list[str]]:
    """Make the rows of the table by label: AUROC of the first TGMM row and of the regression."""
    shown = [next(iter(scores)), REGRESSION]
    rows = [["label", "train", "test", *(part for name in shown for part in (f"AUROC, {name}", "95 % interval"))]]
    for column, label in enumerate(labels):
        numbers = [str(int(each[:, column].sum())) for each in (train, present)]
        figures = [
            estimate(partial(resampled_auc, scores[name][:, column], present[:, column]), counts) for name in shown
        ]
        rows.append([label, *numbers, *(cell for figure in figures for cell in cells(figure))])
    return rows


def cells(figure: Estimate, form: str = ".3f") -> tuple[str, str]:
    """Write a figure and its interval in a number format; "-" for what is undefined, or has no interval."""
    value = "-" if figure.value is None else f"{figure.value:{form}}"
    if figure.value is None or figure.interval is None:
        return value, "-"
    return value, f"{figure.interval[0]:{form}} to {figure.interval[1]:{form}}"


def markdown(rows: list[list[str]]) -> str:
    """Write rows as a table of Markdown; the first is the header."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) + "\n"


def main() -> None:
    """Score the models and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", help="all, diagnostic, subclass, superclass, form or rhythm")
    parser.add_argument("data", type=Path, help="prepared data set of the task")
    parser.add_argument("evaluation", type=Path, help="directory that `tgmm evaluate` wrote for its test split")
    parser.add_argument("--out", type=Path, required=True, help="directory of the tables")
    options = parser.parse_args()
    task = f"ptbxl_{options.task}"
    metrics: dict[str, Any] = read_json(options.evaluation / "metrics.json")
    labels = list(metrics[task]["labs+ecg+echo"]["findings"])
    prepared = load_prepared(options.data)
    if (split := metrics["split"]) != "test":
        raise ValueError(f"the evaluation is of the split {split!r}, expected 'test'.")
    train = features_and_labels(prepared["train"], task, labels)
    numbers, present = features_and_labels(prepared["test"], task, labels)
    ids, patients = list(prepared["test"]["id"]), list(prepared["test"]["patient_id"])
    scores = model_scores(options.evaluation, task, ids) | simple_scores(train, numbers)
    counts = bootstrap_counts(patients, None, BOOTSTRAP_RESAMPLES, seed=0)
    tables = {
        f"ptbxl_{options.task}.md": macro_table(scores, present, counts),
        f"ptbxl_{options.task}_by_label.md": label_table(scores, labels, train[1], present, counts),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        with whole_file(options.out / name) as building:
            building.write_text(markdown(rows))
        write(markdown(rows))
    left_out = [label for column, label in enumerate(labels) if column not in scored_findings(present)]
    write(f"left out of the macro figures, because all or none of the test recordings have it: {left_out or 'none'}")


if __name__ == "__main__":
    main()
