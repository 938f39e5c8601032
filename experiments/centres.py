"""Other hospitals: a model is tried on a centre that it never saw, and fine-tuned to a few of its patients.

    python experiments/centres.py RUNS --seeds 0 1 2 --out docs/results/centres

RUNS is a directory for cohorts, prepared data, models and scores. What is there is not made again.

Plan. Each centre of `tgmm synth --centre` gives two cohorts: one to train on (seed 1, split 5:1:1) and test patients
(seed 2). Of the echo only the views `VIEWS_SHOWN` are read, so that a training takes minutes of one core. With
`--inputs labs` or `labs+ecg` the other files are not drawn. The optimum is computed for what is read.

1. For each left-out centre, a tiny model with random weights is trained on the train splits of the other centres
   (`tgmm join-cohorts`). It is scored on the test patients of every centre, beside the optimum and a logistic
   regression on lab cells of the same training patients. `CALIBRATING` train patients of the left-out centre then
   recalibrate both: the shift of the logits alone, and shift and slope.
2. `--sizes` train patients of the left-out centre train a new model from random weights, and fine-tune the model of the
   other centres. The number of epochs is the same. All are scored on the same test patients.

Nothing was chosen on these patients: encoders are those of `configs/learn_resnet.yaml` with one token a lab cell, and
rates are those of `configs/learn.yaml` (new models) and `configs/finetune.yaml` (fine-tuning). The seeds are trainings.
The patients of all seeds are the same. `centres_tables.py` makes the figures.
"""

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
import yaml
from centres_tables import write_results
from datasets import Dataset
from numpy.typing import NDArray
from tiny_training import write

from tgmm_hf.cli import app
from tgmm_hf.cohorts.synthetic.bayes import references
from tgmm_hf.cohorts.synthetic.centres import CENTRES
from tgmm_hf.cohorts.synthetic.cohort import SETTINGS_FILE
from tgmm_hf.cohorts.synthetic.evidence import hide_modality, mask_echo_parameters, stack
from tgmm_hf.cohorts.synthetic.patients import Settings, patient_identity
from tgmm_hf.data.collator import TgmmCollator
from tgmm_hf.data.prediction import load_model
from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.data.saved_models import load_processor
from tgmm_hf.evaluation.metrics import auc
from tgmm_hf.evaluation.predictions import collect_predictions
from tgmm_hf.evaluation.simple_model_features import read_features
from tgmm_hf.evaluation.simple_models import CS, fit_logistic
from tgmm_hf.utils.files import read_json, write_json
from tgmm_hf.utils.names import VIEWS

TASK, WHOLE = "hf_diagnosis", "labs+ecg+echo"
CONFIG = Path(__file__).parents[1] / "configs" / "learn_resnet.yaml"
VIEWS_SHOWN = ("A4C",)
CALIBRATING = 100
"""Train patients of the left-out centre that recalibrate, or all if there are fewer."""
TRAIN_SEED, TEST_SEED = 1, 2
Scores = dict[str, float]
"""Admission -> probability of heart failure."""


@dataclass(frozen=True)
class Study:
    """Where everything lies, and how large it is.

    Attributes:
        root: Directory of the runs.
        options: Options of the command.
    """

    root: Path
    options: argparse.Namespace

    def cohort(self, centre: str, part: str) -> Path:
        """Draw the cohort of a centre, `part` "train" or "test", unless it exists. Return the table that is read."""
        directory = self.root / "cohorts" / centre / part
        table = directory / "shown.parquet"
        if table.is_file():
            return table
        number = self.options.patients if part == "train" else self.options.test
        split = [] if part == "train" else ["--all-test"]
        clips = FILES[self.options.inputs] or ["--frames", str(self.options.frames), "--height", "96", "--width", "128"]
        seed = TRAIN_SEED if part == "train" else TEST_SEED
        run("synth", directory, "--centre", centre, "--patients", number, "--seed", seed, *clips, *split, *ONE)
        show_views(directory / "cohort.parquet", table)
        return table

    def prepared(self, name: str, table: Path) -> Path:
        """Prepare a table below the root, unless that is done. Return the prepared data."""
        out = self.root / "data" / name
        if not (out / "prepare.json").is_file():
            run("prepare", table, "--root", table.parent, "--out", out, *ONE)
        return out

    def rows(self, centre: str, part: str) -> Dataset:
        """Return the prepared rows of a centre that are scored: its test patients, or `CALIBRATING` of its others."""
        if part == "test":
            return load_prepared(self.prepared(f"{centre}_test", self.cohort(centre, "test")))["test"]
        rows = load_prepared(self.prepared(f"{centre}_train", self.cohort(centre, "train")))["train"]
        return rows.select(range(min(CALIBRATING, len(rows))))

    def without(self, left_out: str) -> Path:
        """Join the training patients of all centres but one. Return the prepared data."""
        table = self.root / "cohorts" / f"without_{left_out}.parquet"
        others = [self.cohort(name, "train") for name in self.options.centres if name != left_out]
        if not table.is_file():
            run("join-cohorts", *others, "--out", table)
        return self.prepared(f"without_{left_out}", table)

    def few(self, centre: str, size: int) -> Path:
        """Prepare a centre's training cohort with its first `size` train patients only."""
        whole = self.cohort(centre, "train")
        table = whole.with_name(f"few_{size}.parquet")
        if not table.is_file():
            content = pq.read_table(whole)
            split = np.array(content["split"].to_pylist())
            keep = (split != "train") | (np.cumsum(split == "train") <= size)
            pq.write_table(content.filter(keep), table)
        return self.prepared(f"{centre}_{size}", table)


ONE = ("--workers", 1)
FILES = {"all": [], "labs+ecg": ["--no-echo"], "labs": ["--labs-only"]}
"""Inputs of the study -> option of `tgmm synth` that leaves out the other files."""


def run(*command: Any) -> None:
    """Run a command of `tgmm` in this process."""
    write(f"$ tgmm {' '.join(map(str, command))}")
    app([str(part) for part in command], standalone_mode=False)


def show_views(table: Path, out: Path) -> None:
    """Write a cohort table in which patients have no clip of other views than `VIEWS_SHOWN`."""
    content = pq.read_table(table)
    if "echo_paths" not in content.column_names:
        pq.write_table(content, out)
        return
    clips, views = (content[name].to_pylist() for name in ("echo_paths", "echo_views"))
    kept = [[view in VIEWS_SHOWN for view in of_patient] for of_patient in views]
    for name, values in (("echo_paths", clips), ("echo_views", views)):
        shown = [
            [value for value, keep in zip(row, keeps, strict=True) if keep]
            for row, keeps in zip(values, kept, strict=True)
        ]
        content = content.set_column(content.column_names.index(name), name, [shown])
    pq.write_table(content, out)


@lru_cache(maxsize=16)
def optimum(cohort: Path) -> Scores:
    """Compute the best answer to each patient of a cohort, from what is shown of the patient."""
    settings = Settings(**({"labs_only": False} | read_json(cohort / SETTINGS_FILE)))
    number = len(pd.read_parquet(cohort / "truth.parquet", columns=["id"]))
    table = stack([settings.patient(index) for index in range(number)])
    without_echo = settings.no_echo or settings.labs_only
    table.views[:, [without_echo or view not in VIEWS_SHOWN for view in VIEWS]] = False
    mask_echo_parameters(table)
    if settings.labs_only:
        hide_modality(table, "ecg")
    best = references(table, settings.strength).posterior[WHOLE]
    ids = [str(patient_identity(settings, index).hadm) for index in range(number)]
    return dict(zip(ids, map(float, best), strict=True))


def train(data: Path, out: Path, seed: int, epochs: int, start: Path | None = None) -> None:
    """Train a model on diagnosis, from random weights or from the saved model `start`."""
    config: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    config |= {"output": str(out), "seed": seed, "tasks": {TASK: None}}
    config["data"] |= {"directory": str(data), "max_views": 1}
    config["model"]["overrides"]["labs_config"] = {"model_type": "lab_cells"}
    config["optimisation"] |= {"epochs": epochs, "batch_size": 16}
    if start is not None:
        config["model"] = {"checkpoint": str(start)}
        config["optimisation"]["learning_rate"] = 3e-4
    file = out.with_suffix(".yaml")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    run("train", file)


def answers(model: Path, rows: Mapping[str, Dataset]) -> dict[str, Scores]:
    """Let a saved model answer from everything that each patient has: name of the rows -> scores."""
    loaded = load_model(str(model)).eval()
    collator = TgmmCollator(load_processor(str(model)), loaded.config, training=False)
    out = {}
    for name, of_centre in rows.items():
        table = collect_predictions(loaded, of_centre, collator, tasks=[TASK], progress=False).table
        table = table.assign(size=table["subset"].str.count(r"\+")).sort_values("size")
        out[name] = table.groupby("id")["probability"].last().astype(float).to_dict()
    return out


def regression(data: Path, rows: Mapping[str, Dataset]) -> dict[str, Scores]:
    """Fit a logistic regression on the lab cells of prepared data, and score rows: name of the rows -> scores."""
    prepared = load_prepared(data)
    features = read_features({"train": prepared["train"], "validation": prepared["validation"], **rows})["labs"]
    outcomes = pd.DataFrame({"label": prepared["train"][f"label_{TASK}"]})
    label = np.array(prepared["validation"][f"label_{TASK}"])
    fitted = [fit_logistic(features["train"], outcomes, setting) for setting in CS]
    best = max(fitted, key=lambda score: auc(score(features["validation"]), label))
    return {
        name: dict(zip(of_centre["id"], map(float, best(features[name])), strict=True))
        for name, of_centre in rows.items()
    }


def stored(path: Path, make: Any) -> dict[str, Any]:
    """Return {"scores", "seconds"}: what an earlier call stored, or the result of `make` with its CPU seconds."""
    if not path.is_file():
        started = time.process_time()
        scores = make()
        write_json(path, {"seconds": round(time.process_time() - started, 1), "scores": scores})
        write(f"{path}: {read_json(path)['seconds']} CPU s")
    return dict(json.loads(path.read_text()))


def leave_out(study: Study, centre: str, seed: int) -> dict[str, Any]:
    """Run everything with one centre left out: name of the model -> {"scores", "seconds"}.

    The models are "others" (trained on the other centres), "regression", and for each size "scratch <size>" (trained on
    patients of the centre), "tuned <size>" (fine-tuned from "others") and "regression <size>".
    """
    directory, options = study.root / f"seed{seed}" / centre, study.options
    data = study.without(centre)
    rows = {name: study.rows(name, "test") for name in options.centres} | {"calibrating": study.rows(centre, "train")}
    here = {centre: rows[centre]}

    def trained(name: str, *arguments: Any, scored: Mapping[str, Dataset]) -> dict[str, Any]:
        def make() -> dict[str, Scores]:
            train(arguments[0], directory / name, seed, *arguments[1:])
            return answers(directory / name, scored)

        return stored(directory / f"{name}.json", make)

    results = {"others": trained("others", data, options.epochs, scored=rows)}
    results["regression"] = stored(study.root / f"regression_{centre}.json", lambda: regression(data, rows))
    for size in options.sizes:
        few = study.few(centre, size)
        results[f"scratch {size}"] = trained(f"scratch_{size}", few, options.few_epochs, scored=here)
        start = directory / "others"
        results[f"tuned {size}"] = trained(f"tuned_{size}", few, options.few_epochs, start, scored=here)
        path = study.root / f"regression_{centre}_{size}.json"
        results[f"regression {size}"] = stored(path, lambda few=few: regression(few, here))
    return results


def truth(study: Study, centre: str, part: str) -> dict[str, tuple[int, float]]:
    """Return label and best answer of each patient that is scored: admission -> (0 or 1, probability)."""
    rows = study.rows(centre, part)
    best = optimum(study.cohort(centre, part).parent)
    labels: NDArray = np.array(rows[f"label_{TASK}"])
    return {name: (int(label), best[name]) for name, label in zip(rows["id"], labels, strict=True)}


def main() -> None:
    """Run what is asked for, and write the page after each left-out centre."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="directory for everything that is made")
    parser.add_argument("--out", type=Path, help="directory of the results (default: RUNS/results)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the trainings (default 0)")
    parser.add_argument("--centres", nargs="+", default=list(CENTRES), choices=list(CENTRES), help="centres that exist")
    parser.add_argument("--leave-out", nargs="+", help="centres that are left out in turn (default: each)")
    parser.add_argument("--patients", type=int, default=210, help="patients of a training cohort (default 210)")
    parser.add_argument("--test", type=int, default=200, help="test patients of a centre (default 200)")
    parser.add_argument("--frames", type=int, default=32, help="frames of a clip (default 32)")
    parser.add_argument("--inputs", default="all", choices=list(FILES), help="what is read; labs is fastest")
    parser.add_argument("--sizes", type=int, nargs="*", default=[100], help="sizes of the small cohorts (default 100)")
    parser.add_argument("--epochs", type=int, default=12, help="epochs on the other centres (default 12)")
    parser.add_argument("--few-epochs", type=int, default=20, help="epochs on a small cohort (default 20)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    study = Study(options.runs.resolve(), options)
    out = options.out or options.runs / "results"
    finished: dict[str, dict[int, dict[str, Any]]] = {}
    for seed in options.seeds:
        for centre in options.leave_out or options.centres:
            finished.setdefault(centre, {})[seed] = leave_out(study, centre, seed)
            parts = {name: truth(study, name, "test") for name in options.centres}
            calibrating = {name: truth(study, name, "train") for name in finished}
            # Directories of this machine say nothing to a reader.
            settings = {key: value for key, value in vars(options).items() if not isinstance(value, Path)}
            write_results(out, finished, parts, calibrating, settings)


if __name__ == "__main__":
    main()
