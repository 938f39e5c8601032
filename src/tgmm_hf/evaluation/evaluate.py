"""`tgmm evaluate`: metrics.json, predictions, figures and a report for one model on one prepared split."""

import json
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict

from tgmm_hf.data.collator import TgmmCollator
from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.evaluation.predictions import SUBSETS, Predictions, collect_predictions, load_trained
from tgmm_hf.evaluation.robustness import robustness
from tgmm_hf.evaluation.subgroups import describe_rows
from tgmm_hf.evaluation.summary import compute_metrics, read_optimum
from tgmm_hf.evaluation.unseen import check_unseen, patients_of, weights_digest
from tgmm_hf.pipeline_tgmm import code_revision
from tgmm_hf.processing_tgmm import TgmmProcessor
from tgmm_hf.reports.evaluation_report import write_outputs

Reader = Callable[[Any, Any, Dataset, str], tuple[Any, Any]]
"""(model, processor, prepared rows, hash of their data) -> (rows, what collates them)."""


def evaluate(
    model: Any,
    data_dir: str | Path,
    out_dir: str | Path,
    *,
    processor: Any = None,
    split: str = "test",
    bayes: str | Path | None = None,
    validation: str | Path | None = None,
    sensitivity: float | None = None,
    temperature: bool = False,
    worse_inputs: bool = False,
    seed: int = 0,
    bootstrap: int = 1000,
    batch_size: int = 16,
    progress: bool = True,
    read: Reader | None = None,
) -> dict[str, Any]:
    """Evaluate a model under all seven modality combinations and write everything to `out_dir`.

    Writes ``metrics.json``, ``predictions.parquet``, ``embeddings.npz`` (retrieval), ``metrics.txt``, ``tables/*.csv``,
    ``figures/*.svg`` and ``*.png``, ``report.html``; each file appears whole or not at all.

    Args:
        model: directory or Hub id of a saved model, or a `TgmmModel`.
        data_dir: directory written by `tgmm prepare`.
        processor: the model's `TgmmProcessor`; loaded from `model` if that is a directory or id.
        split: split of the prepared dataset.
        bayes: ``bayes.json`` of a synthetic cohort with ``truth.parquet`` beside it: adds the Bayes optimum on the very
            same patients and the model's distance to it. Synthetic figures are no clinical evidence.
        validation: prepared data whose validation split the thresholds, temperatures and risk groups are chosen on;
            `data_dir` itself when None. Without such a split the threshold is 0.5.
        sensitivity: choose the highest threshold that reaches it on validation; None for Youden's index.
        temperature: scale the probabilities of every combination by a temperature fitted on validation.
        worse_inputs: also score with cells, leads or views taken away and noise added: fifteen more runs of the model.
        seed: of the bootstrap.
        bootstrap: number of resamples.
        read: how prepared rows become batches where not by `TgmmCollator`: from cached activations, for instance.

    Returns:
        The content of ``metrics.json``.

    Raises:
        FileNotFoundError: if `bayes` is not there.
        ValueError: if there is no such split, patients of it are known to have been trained on, or validation
            patients are among those to be scored.
    """
    directory = Path(model) if isinstance(model, (str, Path)) else None
    if isinstance(model, (str, Path)):
        name = str(model)
        model = load_trained(name)
    else:
        name = model.name_or_path or type(model).__name__
    if processor is None:
        processor = TgmmProcessor.from_pretrained(name)
    prepared = load_prepared(data_dir)
    if split not in prepared:
        raise ValueError(f"{data_dir} has the splits {list(prepared)}, not {split!r}")
    data_hash = _data_hash(data_dir)
    warnings = check_unseen(directory, data_hash, prepared[split], split)
    chosen_on, doubts = validation_rows(directory, data_dir, prepared, split, validation)
    if chosen_on is None and (sensitivity is not None or temperature):
        raise ValueError(
            "A threshold of a stated sensitivity and a temperature are chosen on a validation split, and there is none "
            f"beside the {split} split of {data_dir}: name prepared data that have one with --validation."
        )
    truth, reference = (None, None) if bayes is None else read_optimum(bayes)
    collator = TgmmCollator(processor, model.config, training=False, seed=seed)

    def predict(rows: Any, subsets: Sequence[str] = SUBSETS, of: str | Path = data_dir) -> Predictions:
        rows, collate = (rows, collator) if read is None else read(model, processor, rows, _data_hash(of))
        return collect_predictions(model, rows, collate, subsets=subsets, batch_size=batch_size, progress=progress)

    predictions = predict(prepared[split])
    metrics = {
        "model": name,
        "data": str(Path(data_dir).name),
        "data_hash": data_hash,
        "code_revision": code_revision(model, processor),
        "weights": weights_digest(directory) if directory is not None and directory.is_dir() else None,
        "split": split,
        "synthetic": bayes is not None,
        "components": {name: getattr(model.config, name) for name in ("fusion", "guidance", "response")},
        "training": _training(directory),
        **compute_metrics(
            predictions,
            model.config.tasks,
            validation=None if chosen_on is None else predict(chosen_on, of=validation or data_dir),
            groups=describe_rows(prepared[split]),
            truth=truth,
            reference=reference,
            sensitivity=sensitivity,
            temperature=temperature,
            seed=seed,
            replicates=bootstrap,
        ),
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in ("tgmm-hf", "torch", "transformers", "numpy", "scipy")},
    }
    if worse_inputs:
        metrics["robustness"] = robustness(
            predict, prepared[split], predictions, model.config.tasks, seed=seed, replicates=bootstrap
        )
    metrics["warnings"] = [*warnings, *doubts, *metrics["warnings"]]
    write_outputs(metrics, predictions, Path(out_dir))
    return metrics


def _training(model: Path | None) -> dict[str, Any] | None:
    """What the report says of the training; run.json names local directories, which stay there."""
    if model is None or not (model / "run.json").is_file():
        return None
    run = json.loads((model / "run.json").read_text())
    return {name: run[name] for name in ("data_hash", "parameters", "epochs", "seed") if name in run}


def _data_hash(directory: str | Path) -> str:
    return str(json.loads((Path(directory) / "prepare.json").read_text())["data_hash"])


def validation_rows(
    model: Path | None, data_dir: str | Path, prepared: DatasetDict, split: str, validation: str | Path | None
) -> tuple[Dataset | None, list[str]]:
    """Patients to choose thresholds on: never those that are scored, never those that were trained on; with warnings
    about what could not be ruled out."""
    source = data_dir if validation is None else validation
    rows = prepared if validation is None else load_prepared(validation)
    if "validation" not in rows:
        if validation is not None:
            raise ValueError(f"{validation} has the splits {list(rows)}, no validation split")
        return None, []
    if split == "validation" and _data_hash(source) == _data_hash(data_dir):
        return None, []
    if both := set(patients_of(rows["validation"])) & set(patients_of(prepared[split])):
        raise ValueError(
            f"{len(both)} validation patients of {source} are among the patients to be scored: a threshold chosen on "
            "them would flatter the model."
        )
    run = None if model is None else model / "run.json"
    own = run is not None and run.is_file() and json.loads(run.read_text())["data_hash"] == _data_hash(source)
    if own:  # of its own training, the validation split had no gradient; of what it started from, it may have
        check_unseen(model, _data_hash(source), rows["validation"], "validation")
        return rows["validation"], []
    doubts = check_unseen(model, _data_hash(source), rows["validation"], "test")
    return rows["validation"], [f"Validation patients, for thresholds and risk groups: {doubt}" for doubt in doubts]
