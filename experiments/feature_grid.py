"""Tables 2, 3, 5 and 6 without encoders: fusions, components and our own choices, trained on known evidence.

    python experiments/feature_grid.py --out docs/results/features --workers 2

As in `fusion_tokens.py`, the evidence of synthetic patients takes the place of the encoders' tokens, because rendering
thousands of test patients would take too long. Each run trains on 1,089 patients, drawn with its own seed. All runs are
tested on the same 5,000 patients. Their seed (40,000) was not used for any choice. The number of epochs was chosen on
the patients of `fusion_tokens.py` (seed 10,000).

A finished run is not run again, even if the code of the model has changed since. Name another --runs then. The script
writes tables, figures and results.json to --out, and metrics.json and predictions of every run below --runs.
"""

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from fusion_tokens import encode, features, targets, train
from tiny_training import write

from tgmm_hf import TgmmModel
from tgmm_hf.cohorts.synthetic import bayes, evidence
from tgmm_hf.evaluation.predictions import collect_predictions
from tgmm_hf.evaluation.summary import compute_metrics
from tgmm_hf.evaluation.tables import as_csv
from tgmm_hf.experiments.grid_figures import (
    collect_figures,
    differences_between_rows,
    differences_between_subsets,
    read_metrics,
)
from tgmm_hf.experiments.grid_tables import grid_tables, row_difference_table, subset_difference_table, write_figures
from tgmm_hf.utils.files import read_json, whole_file, write_json
from tgmm_hf.utils.versions import package_versions

TEST, POPULATION, EPOCHS, BOOTSTRAP = 5000, 40_000, 6, 1000
TASKS = ("hf_diagnosis", "hf_risk", "retrieval")
ROWS: dict[str, dict[str, Any]] = {
    "TGMM": {},
    "Mean-Cat": {"fusion": "concat"},
    "MultiSurv": {"fusion": "multisurv"},
    "DeepAVFusion": {"fusion": "deepavfusion"},
    "CMTA": {"fusion": "cmta"},
    "Text-IF": {"fusion": "textif"},
    "human + response": {"guidance": "human"},
    "response only": {"guidance": "none"},
    "linear probe only": {"guidance": "none", "response": "linear"},
    "one fusion token": {"num_fusion_tokens": 1},
    "projection as wide as the tokens": {"projection_dim": 64},
    "question before the learned text": {"insert_position": 0},
    "question behind the learned text": {"insert_position": 16},
    "no modality dropout": {"modality_dropout": 0.0},
    "no feature dropout": {"feature_dropout": 0.0},
}


def settings_of(row: str) -> dict[str, Any]:
    """Collect the settings of a run. A run with other settings is run anew."""
    return {"test": TEST, "population": POPULATION, "epochs": EPOCHS, "settings": ROWS[row]}


def is_done(row: str, directory: Path) -> bool:
    """Tell whether a directory holds a finished run with the present settings."""
    path = directory / "metrics.json"
    return path.is_file() and read_json(path).get("settings") == settings_of(row)


class ModelWithoutEncoders:
    """A model for `collect_predictions` that takes evidence in place of the encoders' tokens."""

    def __init__(self, model: TgmmModel) -> None:
        self.model, self.config, self.device = model, model.config, model.device
        self.answer, self.answer_subsets = model.answer, model.answer_subsets
        self.eval, self.train, self.training = model.eval, model.train, False

    def encode(self, **tokens: torch.Tensor) -> Any:
        """Do what `TgmmModel.encode` does after the encoders."""
        return encode(self.model, tokens)


def run_one(row: str, seed: int, directory: Path) -> None:
    """Train and score one run. Write predictions.parquet, then metrics.json."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    model = train(seed, EPOCHS, TASKS, **ROWS[row])
    seconds = time.perf_counter() - started
    table = evidence.draw(np.random.default_rng(POPULATION), TEST, evidence.EVIDENCE["default"])
    inputs, labels = features(table), targets(table)
    ids = [f"p{index}" for index in range(TEST)]

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        index = torch.tensor([each["index"] for each in rows])
        answers = {task: {key: value[index] for key, value in labels[task].items()} for task in TASKS}
        return {name: tokens[index] for name, tokens in inputs.items()} | {
            "labels": answers,
            "id": [each["id"] for each in rows],
        }

    dataset = Dataset.from_dict({"id": ids, "patient_id": ids, "index": list(range(TEST))})
    predictions = collect_predictions(ModelWithoutEncoders(model), dataset, collate, batch_size=250, progress=False)
    metrics = {
        "row": row,
        "training_seed": seed,
        "settings": settings_of(row),
        "seconds": round(seconds, 1),
        "parameters_behind_encoders": sum(p.numel() for name, p in model.named_parameters() if "_encoder." not in name),
        "components": {name: getattr(model.config, name) for name in ("fusion", "guidance", "response")},
        **compute_metrics(predictions, model.config.tasks or {}, replicates=200),
    }
    directory.mkdir(parents=True, exist_ok=True)
    predictions.table.to_parquet(directory / "predictions.parquet", index=False)
    write_json(directory / "metrics.json", metrics)


def optimum() -> tuple[pd.DataFrame, dict[str, Any]]:
    """Compute the best reachable scores of each patient, and their figures."""
    table = evidence.draw(np.random.default_rng(POPULATION), TEST, evidence.EVIDENCE["default"])
    reference = bayes.references(table, "default")
    columns = {f"posterior.{name}": scores for name, scores in reference.posterior.items()}
    columns |= {f"risk.{name}": scores for name, scores in reference.risk.items()}
    truth = pd.DataFrame({"id": [f"p{index}" for index in range(TEST)], **columns})
    return truth, bayes.figures(table, "default", reference)


def summarise(directories: dict[str, dict[int, Path]], out: Path) -> None:
    """Write the tables, figures and results.json of finished runs."""
    truth, best = optimum()
    metrics = read_metrics(directories)
    figures = collect_figures(metrics)
    # tables 5 and 6 compare fusions and components; the other rows are in differences.csv
    components = {
        row: next(iter(seeds.values()))["components"]
        for row, seeds in metrics.items()
        if set(ROWS[row]) <= {"fusion", "guidance", "response"}
    }
    differences = differences_between_rows(directories, truth, bootstrap=BOOTSTRAP)
    combinations = differences_between_subsets(directories, bootstrap=BOOTSTRAP)
    tables = dict(grid_tables(figures, components))
    tables["differences"] = row_difference_table(differences, next(iter(directories)))
    tables["combinations"] = subset_difference_table(combinations)
    write_figures(differences, next(iter(directories)), out / "figures")
    for name, (header, rows) in tables.items():
        with whole_file(out / "tables" / f"{name}.csv") as building:
            building.write_text(as_csv(header, rows))
    results = {
        "settings": {"test": TEST, "population": POPULATION, "epochs": EPOCHS, "rows": ROWS, "bootstrap": BOOTSTRAP},
        "versions": package_versions(),
        "runs": [
            {name: of_seed[name] for name in ("row", "training_seed", "seconds", "parameters_behind_encoders")}
            for seeds in metrics.values()
            for of_seed in seeds.values()
        ],
        "optimum": best,
        "figures": [{**key._asdict(), **entry} for key, entry in figures.items()],
        "differences": differences,
        "combinations": combinations,
    }
    write_json(out / "results.json", results)


def main() -> None:
    """Run the grid and write its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="directory of tables and figures")
    parser.add_argument("--runs", type=Path, default=Path("grid/features"), help="directory of the runs")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default 3)")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="rows of the tables (default all)")
    parser.add_argument("--workers", type=int, default=1, help="runs at the same time (default 1)")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        row, seed = arguments.one[0], int(arguments.one[1])
        run_one(row, seed, arguments.runs / row / f"seed{seed}")
        return
    directories = {
        row: {seed: arguments.runs / row / f"seed{seed}" for seed in range(arguments.seeds)} for row in arguments.rows
    }

    def execute(row: str, seed: int) -> None:
        if not is_done(row, directories[row][seed]):
            command = [sys.executable, __file__, "--out", str(arguments.out), "--runs", str(arguments.runs)]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            subprocess.run([*command, "--one", row, str(seed)], check=True, env=environment)
        entry = read_json(directories[row][seed] / "metrics.json")
        write(f"{row}, seed {seed}: AUC {entry['hf_diagnosis']['labs+ecg+echo']['auc']:.3f}")

    with ThreadPoolExecutor(arguments.workers) as pool:
        list(
            pool.map(lambda job: execute(*job), [(row, seed) for seed in range(arguments.seeds) for row in directories])
        )
    summarise(directories, arguments.out)
    write(str(arguments.out / "tables"))


if __name__ == "__main__":
    main()
