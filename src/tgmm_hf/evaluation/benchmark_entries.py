"""Files that public benchmarks ask for, from the predictions of `tgmm evaluate`.

    ptbxl               preds_<name>.npy (n, labels), targs_<name>.npy (n, labels), classes_<name>.npy (labels,): the
                        README of helme/ecg_ptbxl_benchmarking
    cardiobench-echonet <name>.csv with FileName, EF_pred: evaluation/echonet_dynamic.py of BioMedIA-MBZUAI/CardioBench
    cardiobench-camus   <name>.csv with patient_id, EF_pred: evaluation/camus.py of the same repository

The formats stand here and nowhere else. The figures are those of the two repositories, without their rounding.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import pearsonr, spearmanr

from tgmm_hf.evaluation.metrics import auc
from tgmm_hf.evaluation.multilabel import matrix, scored_findings
from tgmm_hf.evaluation.predictions import FULL
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import whole_file

CARDIOBENCH = {"cardiobench-echonet": "FileName", "cardiobench-camus": "patient_id"}
"""Benchmark -> name of the column of ids."""
SUBSETS = {"ptbxl": "ecg"} | dict.fromkeys(CARDIOBENCH, "echo")
"""Benchmark -> the inputs that it gives to a model."""


def entry_rows(predictions: Path, task: str, subset: str) -> pd.DataFrame:
    """Read the predictions of one task under one subset, in the order of the data.

    Args:
        predictions: predictions.parquet of `tgmm evaluate`.
        task: Name of the task.
        subset: Modality subset.

    Raises:
        TgmmError: If there are none.
    """
    table = pd.read_parquet(predictions)
    rows = table[(table.task == task) & (table.subset == subset)]
    if not len(rows):
        pairs = sorted({f"{name} under {inputs}" for name, inputs in zip(table.task, table.subset, strict=True)})
        raise TgmmError(predictions.name, f"has no predictions of {task} under {subset}. It has {', '.join(pairs)}.")
    return rows.sort_values("row").reset_index(drop=True)


def missing_ids(rows: pd.DataFrame, cohort: Path, split: str = "test") -> list[str]:
    """List the ids of a split of a cohort table (Parquet), and of missing.csv beside it, that have no prediction."""
    table = pd.read_parquet(cohort, columns=["id", "split"])
    if (lost := cohort.parent / "missing.csv").is_file():
        table = pd.concat([table, pd.read_csv(lost, dtype=str)[["id", "split"]]])
    return sorted(set(table.id[table.split == split]) - set(rows.id))


def labels_of(metrics: Mapping[str, Any], task: str) -> list[str]:
    """List the findings of a multilabel in the task's order, from metrics.json. Raise a TgmmError if it is none."""
    entry = metrics.get(task, {}).get(FULL, {})
    if "findings" not in entry:
        raise TgmmError("metrics.json", f"has no multilabel {task}: name the task that was evaluated.")
    return list(entry["findings"])


def write_ptbxl_entry(rows: pd.DataFrame, labels: Sequence[str], out: Path, name: str) -> dict[str, Any]:
    """Write the three arrays of a PTB-XL entry into `out`.

    Args:
        rows: Predictions of a multilabel.
        labels: Names of the labels in the order of the task.
        out: Directory of the result.
        name: Name of the entry in the file names.

    Returns:
        "n", "macro_auc" (None if no label is both present and absent), "labels" (number behind it), and "left_out"
        (labels that all or none of the recordings have: the published code stops at them).

    Raises:
        TgmmError: If a label of a recording is not known, or the number of labels is another one.
    """
    score, present = matrix(rows, "probabilities"), matrix(rows, "findings")
    if score.shape[1] != len(labels):
        raise TgmmError("predictions", f"have {score.shape[1]} labels, but {len(labels)} names are given.")
    if unknown := int(np.isnan(present).any(axis=1).sum()):
        raise TgmmError("predictions", f"{unknown} of {len(rows)} recordings have a label that is not known.")
    arrays = {"preds": score, "targs": present.astype(np.int64), "classes": np.array(list(labels))}
    out.mkdir(parents=True, exist_ok=True)
    for kind, array in arrays.items():
        with whole_file(out / f"{kind}_{name}.npy") as building, building.open("wb") as file:
            np.save(file, array, allow_pickle=False)
    scored = scored_findings(present)
    values = [auc(score[:, index], present[:, index]) for index in scored]
    left_out = [label for index, label in enumerate(labels) if index not in scored]
    macro = float(np.mean(values)) if values else None
    return {"n": len(rows), "macro_auc": macro, "labels": len(scored), "left_out": left_out}


def write_cardiobench_entry(rows: pd.DataFrame, benchmark: str, out: Path, name: str) -> dict[str, Any]:
    """Write the prediction file of CardioBench for the ejection fraction into `out`.

    Args:
        rows: Predictions of a regression, one for each patient.
        benchmark: A key of `CARDIOBENCH`.
        out: Directory of the result.
        name: Name of the file, without .csv. "_2ch" or "_4ch" in it says that one view of CAMUS was read.

    Returns:
        "n" and the figures of `cardiobench_figures`.

    Raises:
        TgmmError: If a measured value is not known or an id stands twice.
    """
    if repeated := rows.id[rows.id.duplicated()].tolist():
        raise TgmmError("predictions", f"{len(repeated)} ids stand twice, for example {repeated[0]}.")
    if unknown := int(rows.measured.isna().sum()):
        raise TgmmError("predictions", f"{unknown} of {len(rows)} patients have no measured value.")
    out.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame({CARDIOBENCH[benchmark]: rows.id, "EF_pred": rows.value})
    with whole_file(out / f"{name}.csv") as building:
        table.to_csv(building, index=False)
    figures = cardiobench_figures(rows.measured.to_numpy(np.float64), rows.value.to_numpy(np.float64))
    return {"n": len(rows), **figures}


def cardiobench_figures(measured: NDArray, value: NDArray) -> Mapping[str, float | None]:
    """Compute the figures of `regression_metrics` in CardioBench. Both arrays are (n,), in percent.

    Returns:
        "mae", "mae_of_range" (in percent of the range of the measured values), "mse", "rmse", and "r2",
        "pearson", "spearman" in percent. None where all measured values, or all answers, are equal.
    """
    error = value - measured
    spread = float(np.sum((measured - measured.mean()) ** 2))
    varies = spread > 0
    both_vary = varies and float(np.std(value)) > 0
    return {
        "mae": float(np.abs(error).mean()),
        "mae_of_range": 100 * float(np.abs(error).mean() / np.ptp(measured)) if varies else None,
        "mse": float(np.mean(error**2)),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "r2": 100 * (1 - float(np.sum(error**2)) / spread) if varies else None,
        "pearson": 100 * float(pearsonr(measured, value)[0]) if both_vary else None,
        "spearman": 100 * float(spearmanr(measured, value)[0]) if both_vary else None,
    }
