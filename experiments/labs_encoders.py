"""Labs alone: text, text with numbers, one token a cell, and simple models; also with cells missing.

    python experiments/labs_encoders.py --out docs/results/labs --runs labs-runs --seeds 3
    python experiments/labs_encoders.py --out docs/results/labs --runs labs-runs --seeds 3 --shares 0.2 0.4 0.6 0.8

Synthetic patients with laboratory rows only, in the files' own form (columns, units, histories). Each seed trains all
models on 1,089 patients of its own draw. The settings of a simple model are chosen on 363 validation patients of
that draw. All are scored on the same 4,000 patients of a draw (60,000) that chose nothing. The epochs, the cell
dropout and the learning rate of the encoders were chosen on the draws 1 and 2.

Missing cells: in training and test alike, each cell but age and gender is hidden with the probability `share`
("random"). "informative" hides more cells of patients without heart failure, as doctors order fewer tests for them: the
odds are `INFORMATIVE` times as high as of a patient with it. The optimum is exact in both cases.

The script writes results.json, a table and a figure to --out. --runs keeps the scores of each model, so that a stopped
command goes on.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch
from datasets import Dataset, DatasetDict
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - makes the next import possible
from sklearn.feature_selection import VarianceThreshold
from sklearn.impute import IterativeImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from tiny_training import Descent, Recipe, new_model, write

from tgmm_hf import TgmmConfig, TgmmModel, default_processor
from tgmm_hf.cohorts.synthetic import bayes
from tgmm_hf.cohorts.synthetic.evidence import DRUGS, EVIDENCE, HISTORY, PARAMETERS, Evidence, draw_intended, stack
from tgmm_hf.cohorts.synthetic.patients import Settings, patient_labs
from tgmm_hf.configuration_tasks import TgmmTask
from tgmm_hf.data.collator import Row, TgmmCollator
from tgmm_hf.data.lab_rows import scales_of, store_labs
from tgmm_hf.data.tokenizer import cohort_tokenizer
from tgmm_hf.evaluation.metrics import auc, bootstrap_counts, estimate, resampled_auc
from tgmm_hf.evaluation.simple_model_features import read_features
from tgmm_hf.evaluation.simple_models import CS, Score, fit_boosting
from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.inputs.lab_unit_systems import declare_units
from tgmm_hf.utils.files import whole_file, write_json

TASK, BATCH = "hf_diagnosis", 32
TRAIN, VALIDATION, TEST = 1089, 363, 4000
TEST_SEED, FIRST_SEED = 60_000, 50_000
ALWAYS = ("age", "gender")
INFORMATIVE = 1.65
"""Odds of a missing cell without heart failure, over the odds with it."""
RANDOM, INFORMED = "random", "informative"

ENCODERS: dict[str, dict[str, Any]] = {
    "text": {},
    "text + numbers": {"labs_numbers": True},
    "cells": {"labs_config": {"model_type": "lab_cells"}},
}
"""Name of a labs encoder -> settings of `TgmmConfig.tiny`."""


@dataclass(frozen=True)
class Cohort:
    """Patients with laboratory rows.

    Attributes:
        rows: prepared rows with labs, no ECG and no echo.
        label: (n,) 0 or 1.
        optimum: (n,) best score that any model can give.
    """

    rows: Dataset
    label: NDArray
    optimum: NDArray

    def part(self, index: range) -> "Cohort":
        """Return some of the patients."""
        return Cohort(self.rows.select(index), self.label[index], self.optimum[index])


def draw_cohort(seed: int, number: int, kind: str, share: float) -> Cohort:
    """Draw patients, and hide cells of them.

    Args:
        seed: seed of the draw.
        number: number of patients.
        kind: `RANDOM` or `INFORMED`.
        share: share of hidden cells, 0 to 1.
    """
    settings = Settings(seed, "default", 16, 64, 64, labs_only=True)
    table = stack([draw_intended(seed, index) for index in range(number)])
    odds = share / (1 - share) * (np.where(table.label == 0, INFORMATIVE, 1.0) if kind == INFORMED else 1.0)
    chance = np.broadcast_to(odds / (1 + odds), (number,))
    generator = np.random.default_rng([seed, 9])
    texts, evidence_of_pattern = [], np.zeros(number)
    for index in range(number):
        cells = {name: value for name, value in patient_labs(settings, index).cells().items() if value is not None}
        hidden = {name for name in cells if name not in ALWAYS and generator.random() < chance[index]}
        _hide(table, index, hidden)
        shown = {name: cells[name] for name in cells if name not in hidden}
        texts.append(store_labs(LabsText.from_row(declare_units(shown, "US"))))
        if share and kind == INFORMED:
            free = len([name for name in cells if name not in ALWAYS])
            evidence_of_pattern[index] = _log_ratio(len(hidden), free, share)
    posterior = bayes.subset_reference(*_grid_and_likelihoods(table), ("labs",))[0]
    rows: dict[str, list[Any]] = {"id": [str(index) for index in range(number)], "labs": texts}
    rows |= {"ecg_mask": [[False] * 12] * number, "clip_views": [[]] * number}
    logit = np.log(posterior) - np.log1p(-posterior)
    return Cohort(Dataset.from_dict(rows), table.label, logit + evidence_of_pattern)


def _hide(table: Evidence, row: int, hidden: set[str]) -> None:
    """Mark the evidence of hidden cells as absent, in place."""
    for place, parameter in enumerate(PARAMETERS):
        if parameter.name in hidden:
            table.present[row, place] = False
    for place, cell in enumerate((HISTORY, DRUGS)):
        if cell in hidden:
            table.cells[row, place] = False


def _log_ratio(hidden: int, free: int, share: float) -> float:
    """Compute log P(pattern | heart failure) - log P(pattern | none) of `hidden` out of `free` cells."""
    odds = share / (1 - share)
    sick, well = odds / (1 + odds), odds * INFORMATIVE / (1 + odds * INFORMATIVE)
    return float(hidden * np.log(sick / well) + (free - hidden) * np.log((1 - sick) / (1 - well)))


def _grid_and_likelihoods(table: Evidence) -> tuple[bayes.Grid, dict[str, bayes.Likelihood]]:
    """Make the grid and the likelihoods of the labs evidence."""
    grid = bayes.make_grid(EVIDENCE["default"])
    return grid, bayes.likelihoods(table, grid)


def train_encoder(train: Cohort, seed: int, settings: dict[str, Any], options: argparse.Namespace) -> Any:
    """Train TGMM on labs alone with one labs encoder, with the schedule of `configs/learn.yaml`.

    Returns:
        A function from rows to scores.
    """
    torch.manual_seed(seed)
    config: Any = TgmmConfig.tiny(training_subsets=1, **settings)  # with one modality, all subsets are the same
    config.tasks = {TASK: TgmmTask(config.tasks[TASK])}
    tokenizer = cohort_tokenizer(train.rows, config.tasks, 1024)
    config.labs_config.vocab_size = len(tokenizer)
    config.set_labs_scales(scales_of(train.rows))
    config.tokenize_tasks(tokenizer)
    model = new_model(config)
    processor = default_processor(config, tokenizer)
    if not settings:
        processor.labs_scales = None
    hiding = TgmmCollator(processor, config, training=True, seed=seed, cell_dropout=options.cell_dropout)
    parameters = [p for name, p in model.named_parameters() if not name.startswith(("ecg_", "echo_"))]
    random, number = np.random.default_rng(seed), len(train.label)
    recipe = Recipe(learning_rate=options.learning_rate)
    descent = Descent(parameters, options.epochs * (number // BATCH), recipe)
    texts: list[Row] = [{"labs": labs} for labs in train.rows["labs"]]
    for _ in range(options.epochs):
        for batch in random.permutation(number)[: number // BATCH * BATCH].reshape(-1, BATCH):
            inputs = {name: torch.from_numpy(a) for name, a in hiding._labs([texts[i] for i in batch]).items()}
            loss = model.answer(model.encode(**inputs), TASK, {"label": torch.from_numpy(train.label[batch])}).loss
            assert loss is not None  # the call gives labels
            descent.step(loss)
    return partial(score_encoder, model.eval(), TgmmCollator(processor, config, training=False))


@torch.inference_mode()
def score_encoder(model: TgmmModel, collator: TgmmCollator, rows: Dataset) -> NDArray:
    """Return the log-odds of heart failure of each row."""
    texts: list[Row] = [{"labs": text} for text in rows["labs"]]
    parts = []
    for first in range(0, len(texts), 100):
        inputs = {name: torch.from_numpy(a) for name, a in collator._labs(texts[first : first + 100]).items()}
        answer: Any = model.answer(model.encode(**inputs), TASK)
        parts.append(answer.logits[:, 1] - answer.logits[:, 0])
    return torch.cat(parts).numpy()


def _regression(imputer: Callable[[], Any], features: pd.DataFrame, outcomes: pd.DataFrame, setting: float) -> Score:
    """Fit a logistic regression (C = `setting`) behind an imputer. Arguments and result as `fit_logistic`."""
    steps = (FunctionTransformer(np.arcsinh), StandardScaler(), imputer(), VarianceThreshold())
    model = make_pipeline(*steps, LogisticRegression(C=setting, max_iter=5000)).fit(features, outcomes["label"])
    return lambda rows: model.predict_proba(rows)[:, 1]


def _mean(indicators: bool) -> Any:
    """Make an imputer that takes the mean, which is 0 after standardising."""
    return SimpleImputer(strategy="constant", fill_value=0.0, add_indicator=indicators, keep_empty_features=True)


def _iterative(indicators: bool) -> Any:
    """Make an imputer that regresses each feature on ten others, in three rounds (chained equations, one imputation).

    All others and more rounds took 2 s a fit, and warn all the same that they have not converged.
    """
    options = {"max_iter": 3, "n_nearest_features": 10, "random_state": 0, "keep_empty_features": True}
    return IterativeImputer(add_indicator=indicators, **options)


SIMPLE: dict[str, tuple[Any, tuple[float, ...]]] = {
    "regression, mean": (partial(_regression, partial(_mean, False)), CS),
    "regression, mean + indicators": (partial(_regression, partial(_mean, True)), CS),
    "regression, iterative": (partial(_regression, partial(_iterative, False)), CS),
    "regression, iterative + indicators": (partial(_regression, partial(_iterative, True)), CS),
    "gradient boosting": (fit_boosting, (25, 100, 300)),
}
"""Name of a simple model -> how it is fitted, and the values of its setting."""
REFERENCE = "regression, mean + indicators"
OPTIMUM = "optimum"


def run_simple(name: str, parts: dict[str, Cohort]) -> NDArray:
    """Fit a simple model with each setting, and score the test patients with the best one on validation."""
    fit, settings = SIMPLE[name]
    features = read_features(DatasetDict({split: part.rows for split, part in parts.items()}))["labs"]
    outcomes = pd.DataFrame({"label": parts["train"].label})
    fitted = [fit(features["train"], outcomes, setting) for setting in settings]
    best = max(fitted, key=lambda score: auc(score(features["validation"]), parts["validation"].label))
    return np.asarray(best(features["test"]))


def run(name: str, seed: int, kind: str, share: float, options: argparse.Namespace) -> dict[str, Any]:
    """Train one model and score the test patients, or read what an earlier call stored.

    Returns:
        {"seconds": CPU seconds of training and scoring, "scores": one number per test patient}.
    """
    path = options.runs / f"{kind}-{share:g}" / name.replace(" ", "_") / f"{seed}.json"
    if path.is_file():
        return dict(json.loads(path.read_text()))
    started = time.process_time()
    parts = cohorts(FIRST_SEED + seed if options.draw is None else options.draw + seed, kind, share, options)
    started = time.process_time()
    if name in ENCODERS:
        scores = train_encoder(parts["train"], seed, ENCODERS[name], options)(parts["test"].rows)
    else:
        scores = run_simple(name, parts)
    result = {"seconds": round(time.process_time() - started, 1), "scores": [round(float(x), 5) for x in scores]}
    write_json(path, result)
    write(f"{kind} {share:g}, seed {seed}, {name}: AUC {auc(scores, parts['test'].label):.4f}, {result['seconds']} s")
    return result


COHORTS: dict[tuple[Any, ...], Cohort] = {}
"""Cohorts of this process, because every model of a seed reads the same patients."""


def cohorts(seed: int, kind: str, share: float, options: argparse.Namespace) -> dict[str, Cohort]:
    """Draw training, validation and test patients."""
    test_seed = TEST_SEED if options.draw is None else options.draw + 7000
    for key in ((seed, TRAIN + VALIDATION, kind, share), (test_seed, options.test, kind, share)):
        if key not in COHORTS:
            COHORTS[key] = draw_cohort(*key)
    drawn, test = COHORTS[seed, TRAIN + VALIDATION, kind, share], COHORTS[test_seed, options.test, kind, share]
    validation = drawn.part(range(TRAIN, TRAIN + VALIDATION))
    return {"train": drawn.part(range(TRAIN)), "validation": validation, "test": test}


def mean_auc(scores: Sequence[NDArray], label: NDArray) -> Callable[[NDArray], NDArray]:
    """Make the figure of a bootstrap: the mean AUC of several seeds' scores."""
    return lambda counts: np.mean([resampled_auc(score, label, counts) for score in scores], axis=0)


def summarise(kind: str, share: float, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Compute AUC with interval of each model at one share of missing cells, and its difference to `REFERENCE`."""
    test = cohorts(FIRST_SEED if options.draw is None else options.draw, kind, share, options)["test"]
    counts = bootstrap_counts([str(i) for i in range(len(test.label))], test.label, 1000, 0)
    results = {
        name: [run(name, seed, kind, share, options) for seed in range(options.seeds)] for name in options.models
    }
    scores = {name: [np.array(each["scores"]) for each in runs] for name, runs in results.items()}
    scores[OPTIMUM] = [test.optimum]
    lines = []
    for name, of_seeds in scores.items():
        line: dict[str, Any] = {"kind": kind, "share": share, "model": name, "n": len(test.label)}
        line |= estimate(mean_auc(of_seeds, test.label), counts).entry("auc")
        line["auc_by_seed"] = [auc(score, test.label) for score in of_seeds]
        line["seconds"] = None if name == OPTIMUM else float(np.mean([each["seconds"] for each in results[name]]))
        if name != REFERENCE and REFERENCE in scores:
            ours, theirs = mean_auc(of_seeds, test.label), mean_auc(scores[REFERENCE], test.label)
            line |= estimate(partial(_difference, ours, theirs), counts).entry("minus_regression")
        lines.append(line)
    return lines


def _difference(ours: Any, theirs: Any, counts: NDArray) -> NDArray:
    """Return the difference of two figures in each resample."""
    return np.asarray(ours(counts) - theirs(counts))


def write_table(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Write the table of the results as Markdown."""
    rows = ["| missing | model | AUC | minus the regression | by seed | CPU s |", "|---|---|---|---|---|---|"]
    for line in lines:
        missing = f"{line['share']:.0%} {line['kind']}" if line["share"] else "as drawn"
        figure = f"{line['auc']:.3f} ({line['auc_ci'][0]:.3f} to {line['auc_ci'][1]:.3f})"
        gain = ""
        if "minus_regression" in line:
            low, high = line["minus_regression_ci"]
            gain = f"{line['minus_regression']:+.3f} ({low:+.3f} to {high:+.3f})"
        seeds = "" if line["model"] == OPTIMUM else " ".join(f"{value:.3f}" for value in line["auc_by_seed"])
        seconds = "" if line["seconds"] is None else f"{line['seconds']:.0f}"
        rows.append(f"| {missing} | {line['model']} | {figure} | {gain} | {seeds} | {seconds} |")
    with whole_file(path) as building:
        building.write_text("\n".join(rows) + "\n", encoding="utf-8")


def write_curves(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Draw AUC minus the regression by share of missing cells, with intervals, one panel a kind of missingness."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True)
    for panel, kind in zip(panels, (RANDOM, INFORMED), strict=True):
        chosen = [line for line in lines if line["kind"] == kind or not line["share"]]
        for name in dict.fromkeys(line["model"] for line in chosen):
            points = [line for line in chosen if line["model"] == name and "minus_regression" in line]
            if not points:
                continue
            middle = np.array([line["minus_regression"] for line in points])
            ends = np.array([line["minus_regression_ci"] for line in points]).T
            panel.errorbar(
                [100 * line["share"] for line in points],
                middle,
                yerr=np.abs(ends - middle),
                label=name,
                capsize=2,
                marker="o",
                linestyle="--" if name == OPTIMUM else "-",
            )
        panel.axhline(0, color="black", linewidth=0.8)
        panel.set(title=f"cells missing: {kind}", xlabel="cells hidden, %")
    panels[0].set_ylabel(f"AUC minus that of the {REFERENCE}")
    panels[1].legend(fontsize=7)
    with whole_file(path) as building:
        figure.savefig(building, format="svg", bbox_inches="tight", metadata={"Date": None})


def main() -> None:
    """Run all models, then write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="directory of the results")
    parser.add_argument("--runs", type=Path, required=True, help="directory of the scores")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default 3)")
    parser.add_argument("--shares", type=float, nargs="*", default=[], help="shares of missing cells beside 0")
    parser.add_argument("--kinds", nargs="+", default=[RANDOM, INFORMED], help="kinds of missingness")
    names = [*ENCODERS, *SIMPLE]
    parser.add_argument("--models", nargs="+", default=names, choices=names, help="models (default: all)")
    parser.add_argument("--test", type=int, default=TEST, help=f"number of test patients (default {TEST})")
    parser.add_argument("--epochs", type=int, default=6, help="passes over the training patients (default 6)")
    parser.add_argument("--cell-dropout", type=float, default=0.3, help="chance of hiding a cell (default 0.3)")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="highest learning rate (default 1e-3)")
    parser.add_argument("--draw", type=int, help="first seed of other patients, to choose settings")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    settings = [(RANDOM, 0.0), *product(options.kinds, options.shares)]
    lines = [line for kind, share in settings for line in summarise(kind, share, options)]
    options.out.mkdir(parents=True, exist_ok=True)
    record = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    write_json(options.out / "results.json", {"settings": record, "results": lines})
    write_table(options.out / "table.md", lines)
    if options.shares:
        write_curves(options.out / "curves.svg", lines)


if __name__ == "__main__":
    main()
