"""`tgmm evaluate`: metrics.json, predictions, figures and a report for one model on one prepared split."""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tgmm_hf.data.collator import TgmmCollator
from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.evaluation.predictions import collect_predictions
from tgmm_hf.evaluation.report import write_outputs
from tgmm_hf.evaluation.summary import compute_metrics, read_optimum
from tgmm_hf.evaluation.unseen import check_unseen
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.pipeline_tgmm import code_revision
from tgmm_hf.processing_tgmm import TgmmProcessor


def evaluate(
    model: Any,
    data_dir: str | Path,
    out_dir: str | Path,
    *,
    processor: Any = None,
    split: str = "test",
    bayes: str | Path | None = None,
    seed: int = 0,
    bootstrap: int = 1000,
    batch_size: int = 16,
    progress: bool = True,
) -> dict[str, Any]:
    """Evaluate a model under all seven modality combinations and write everything to `out_dir`.

    Writes ``metrics.json``, ``predictions.parquet``, ``embeddings.npz`` (retrieval), ``metrics.txt`` (the table),
    ``figures/*.svg`` and ``*.png``, ``report.html``; each file appears whole or not at all.

    Args:
        model: directory or Hub id of a saved model, or a `TgmmModel`.
        data_dir: directory written by `tgmm prepare`.
        processor: the model's `TgmmProcessor`; loaded from `model` if that is a directory or id.
        split: split of the prepared dataset.
        bayes: ``bayes.json`` of a synthetic cohort with ``truth.parquet`` beside it: adds the Bayes optimum on the very
            same patients and the model's distance to it. Synthetic figures are no clinical evidence.
        seed: of the bootstrap.
        bootstrap: number of resamples.

    Returns:
        The content of ``metrics.json``.

    Raises:
        ValueError: if there is no such split, or patients of it are known to have been trained on.
    """
    directory = Path(model) if isinstance(model, (str, Path)) else None
    if isinstance(model, (str, Path)):
        name = str(model)
        model = TgmmModel.from_pretrained(name)
    else:
        name = model.name_or_path or type(model).__name__
    if processor is None:
        processor = TgmmProcessor.from_pretrained(name)
    prepared = load_prepared(data_dir)
    if split not in prepared:
        raise ValueError(f"{data_dir} has the splits {list(prepared)}, not {split!r}")
    data_hash = json.loads((Path(data_dir) / "prepare.json").read_text())["data_hash"]
    warnings = check_unseen(directory, data_hash, prepared[split], split)
    collator = TgmmCollator(processor, model.config, training=False, seed=seed)
    predictions = collect_predictions(model, prepared[split], collator, batch_size=batch_size, progress=progress)
    truth, reference = (None, None) if bayes is None else read_optimum(bayes)
    kinds = {task: model.config.tasks[task]["kind"] for task in model.config.tasks}
    metrics = {
        "model": name,
        "data": str(Path(data_dir).name),
        "data_hash": data_hash,
        "code_revision": code_revision(model, processor),
        "split": split,
        "synthetic": bayes is not None,
        **compute_metrics(predictions, kinds, truth=truth, reference=reference, seed=seed, replicates=bootstrap),
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in ("tgmm-hf", "torch", "transformers", "numpy", "scipy")},
    }
    metrics["warnings"] = [*warnings, *metrics["warnings"]]
    write_outputs(metrics, predictions, Path(out_dir))
    return metrics
