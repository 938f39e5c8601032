"""ECG encoders on real ECGs: a ResNet alone, TGMM around ST-MEM, and TGMM around a ResNet, on folds of PTB-XL.

    python experiments/ecg_arms.py ../shared/data/ptbxl --runs ecg-arms --folds 9 --seeds 1
    python experiments/ecg_arms.py PTBXL --runs ecg-arms --folds 1 2 3 4 5 6 7 8 9 --seeds 3 --out docs/results/ecg_arms

The task is infarction against normal (configs/ptbxl_mi.yaml). Each fold that is named tests once. The fold before it is
the validation split, which chooses nothing (`keep: last`) but the threshold. All other folds train. A further fold is
named like any other, once its recordings are in the directory. The AUC of an arm is the mean over folds and seeds. Its
interval resamples patients within each fold, so it covers the choice of patients and not that of seeds.

Each step is a command of this package in a process of its own, and is skipped when its result is there.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tiny_training import write

from tgmm_hf.evaluation.metrics import auc, bootstrap_counts, estimate_of_values, resampled_auc
from tgmm_hf.utils.files import write_json

HERE = Path(__file__).resolve().parent
CONFIG = HERE.parent / "configs" / "ptbxl_mi.yaml"
TASK, REPLICATES, FOLDS = "mi_diagnosis", 1000, 10
RESNET = "model.overrides={ecg_config: {model_type: ecg_resnet}}"
TGMM_ARMS: dict[str, tuple[str, ...]] = {"TGMM, ST-MEM": (), "TGMM, ResNet": ("--set", RESNET)}
"""Name of an arm -> further options of `tgmm train`."""
ALONE = "ResNet alone"
SUBSETS = ("ecg", "labs+ecg")


@dataclass(frozen=True)
class Fold:
    """Where the files of a fold are.

    Attributes:
        number: official number of the test fold.
        directory: directory of its cohort, data and runs.
    """

    number: int
    directory: Path

    @property
    def validation(self) -> int:
        """Number of the validation fold: the one before, and 9 for fold 1."""
        return self.number - 1 if self.number > 1 else FOLDS - 1

    def predictions(self, arm: str, seed: int) -> Path:
        """Return the file of the test predictions of an arm."""
        return self.directory / "results" / arm.replace(", ", "-").replace(" ", "-") / str(seed) / "predictions.parquet"


def run_command(words: Sequence[str | Path]) -> None:
    """Run a command in a process of its own; print how long it took.

    Raises:
        subprocess.CalledProcessError: if it fails.
    """
    started = time.perf_counter()
    subprocess.run([sys.executable, *map(str, words)], check=True)
    write(f"{time.perf_counter() - started:.0f} s: {' '.join(map(str, words))}")


def tgmm(*words: str | Path) -> None:
    """Run a command of `tgmm`."""
    run_command(["-m", "tgmm_hf.cli", *words])


def prepare(source: Path, fold: Fold) -> None:
    """Write the cohort and the prepared data of a fold."""
    cohort, data = fold.directory / "cohort", fold.directory / "data"
    if not (cohort / "cohort.parquet").is_file():
        numbers = ("--validation-fold", str(fold.validation), "--test-fold", str(fold.number))
        tgmm("curate-ptbxl", source, "--out", cohort, *numbers)
    if not (data / "prepare.json").is_file():
        tgmm("prepare", cohort, "--out", data, "--config", CONFIG, "--allow-outside", "--workers", "1")


def train_tgmm(fold: Fold, arm: str, seed: int, options: argparse.Namespace) -> None:
    """Train one TGMM arm and predict the test fold."""
    out = fold.predictions(arm, seed).parent
    model = fold.directory / "models" / out.parent.name / str(seed)
    settings = {"output": model, "seed": seed, "data.directory": fold.directory / "data"}
    if options.epochs is not None:
        settings["optimisation.epochs"] = options.epochs
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    tgmm("train", CONFIG, *words, *TGMM_ARMS[arm])
    tgmm("evaluate", model, fold.directory / "data", "--split", "test", "--out", out, "--bootstrap", "100")


def train_alone(fold: Fold, seeds: int, options: argparse.Namespace) -> None:
    """Train the plain ResNet with all seeds and predict the test fold."""
    out = fold.predictions(ALONE, 0).parent.parent
    epochs = () if options.epochs is None else ("--epochs", str(options.epochs))
    words = ("--split", "test", "--out", out, "--seeds", str(seeds), *epochs)
    run_command([HERE / "ptbxl_resnet.py", fold.directory / "data", *words])


def read(fold: Fold, arm: str, subset: str, seeds: int) -> list[pd.DataFrame]:
    """Read the test predictions of an arm: a table a seed, in the order of the ids; [] if the arm lacks the subset."""
    tables = []
    for seed in range(seeds):
        table = pd.read_parquet(fold.predictions(arm, seed))
        rows = table[(table.task == TASK) & (table.subset == subset) & table.positive.notna()]
        tables.append(rows.sort_values("id").reset_index(drop=True))
    return tables if all(len(table) for table in tables) else []


def figure(tables: Sequence[Sequence[pd.DataFrame]]) -> tuple[float, NDArray]:
    """Compute the mean AUC over folds and seeds, and its values in all resamples.

    Args:
        tables: fold -> seed -> predictions.
    """
    values, resampled = [], []
    for number, seeds in enumerate(tables):
        label = seeds[0].positive.to_numpy()
        counts = bootstrap_counts(seeds[0].patient_id, label, REPLICATES, seed=number)
        values += [auc(table.probability, label) for table in seeds]
        resampled += [resampled_auc(table.probability.to_numpy(), label, counts) for table in seeds]
    return float(np.mean(values)), np.mean(resampled, axis=0)


def summarise(folds: Sequence[Fold], seeds: int) -> list[dict[str, Any]]:
    """Compute the figures of all arms, and their differences to the ResNet alone on the same patients."""
    alone = figure([read(fold, ALONE, "ecg", seeds) for fold in folds])
    lines = []
    for arm, subset in [(ALONE, "ecg"), *((arm, subset) for arm in TGMM_ARMS for subset in SUBSETS)]:
        tables = [read(fold, arm, subset, seeds) for fold in folds]
        if not all(tables):
            continue
        value, values = figure(tables)
        line = {"arm": arm, "inputs": subset, "n": sum(len(each[0]) for each in tables)}
        line["positive"] = int(sum(each[0].positive.sum() for each in tables))
        line |= estimate_of_values(value, values).entry("auc")
        line |= estimate_of_values(value - alone[0], values - alone[1]).entry("minus_resnet")
        line["auc_by_fold"] = {str(f.number): figure([each])[0] for f, each in zip(folds, tables, strict=True)}
        lines.append(line)
    return lines


def main() -> None:
    """Run all arms on all folds, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ptbxl", type=Path, help="PTB-XL as shipped, or its arrays with the label table")
    parser.add_argument("--runs", type=Path, required=True, help="directory of cohorts, data, models and predictions")
    parser.add_argument("--out", type=Path, help="directory of results.json (default: --runs)")
    parser.add_argument("--folds", type=int, nargs="+", default=[9], help="test folds, one after another (default 9)")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default 3)")
    parser.add_argument("--epochs", type=int, help="epochs of every arm (default: 12 of TGMM, 20 of the ResNet alone)")
    options = parser.parse_args()
    folds = [Fold(number, options.runs / f"fold{number}") for number in options.folds]
    for fold in folds:
        prepare(options.ptbxl, fold)
        if not all(fold.predictions(ALONE, seed).is_file() for seed in range(options.seeds)):
            train_alone(fold, options.seeds, options)
        for arm in TGMM_ARMS:
            for seed in range(options.seeds):
                if not fold.predictions(arm, seed).is_file():
                    train_tgmm(fold, arm, seed, options)
    lines = summarise(folds, options.seeds)
    out = options.out or options.runs
    out.mkdir(parents=True, exist_ok=True)
    settings = {"folds": options.folds, "seeds": options.seeds, "epochs": options.epochs}
    write_json(out / "results.json", {"settings": settings, "results": lines})
    for line in lines:
        gain = f"{line['minus_resnet']:+.3f} {_interval(line, 'minus_resnet')}"
        write(f"{line['arm']:14} {line['inputs']:9} AUC {line['auc']:.3f} {_interval(line, 'auc')}, to ResNet {gain}")


def _interval(line: dict[str, Any], name: str) -> str:
    """Write the interval of a figure; "" if it has none."""
    ends = line.get(f"{name}_ci")
    return f"({ends[0]:+.3f} to {ends[1]:+.3f})" if ends else ""


if __name__ == "__main__":
    main()
