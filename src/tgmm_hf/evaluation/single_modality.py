"""What a saved model knows from each modality alone: the summaries of its frozen encoders, and its answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset, DatasetDict
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from tgmm_hf.data.collator import TgmmCollator
from tgmm_hf.data.prediction import load_model
from tgmm_hf.evaluation.headline_figures import SCORE
from tgmm_hf.evaluation.predictions import collect_predictions
from tgmm_hf.evaluation.unseen import check_unseen, weights_digest
from tgmm_hf.evaluation.validation_split import validation_rows
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.processing_tgmm import TgmmProcessor
from tgmm_hf.utils.names import CELL_ARGUMENTS, MODALITIES

BATCH_SIZE = 16


@dataclass(frozen=True)
class SingleModality:
    """The summaries and answers of a model for prepared splits, one modality at a time.

    Attributes:
        summaries: Modality -> split -> summaries (n, D), in the order of the split. NaN where the modality is absent.
        answers: (task, kind) -> "validation" and "test" -> probabilities of a diagnosis, or log risks of a prognosis.
            One row per admission (index: id), one column per modality, NaN where absent. Tasks with more than two
            candidates have no entry.
        weights: Digest of the weights. None if the model is not in a local directory.
        warnings: Doubts whether the model was trained on these patients.
    """

    summaries: dict[str, dict[str, pd.DataFrame]]
    answers: dict[tuple[str, str], dict[str, pd.DataFrame]]
    weights: str | None
    warnings: list[str]


def read_model(
    model: str | Path, data_dir: str | Path, data_hash: str, rows: DatasetDict, progress: bool = True
) -> SingleModality:
    """Run a saved model over prepared data: its encoders over all splits, its answers over validation and test.

    Args:
        model: Directory or Hub id of a saved model.
        data_dir: Directory of the prepared data.
        data_hash: Hash of the prepared data.
        rows: The prepared splits.
        progress: Whether to show progress bars.

    Raises:
        ValueError: If the model was trained on test patients, or on validation patients.
    """
    directory = Path(model)
    warnings = check_unseen(directory, data_hash, rows["test"], "test")
    warnings += validation_rows(directory, data_dir, rows, "test", None)[1]
    loaded = load_model(str(model)).eval()
    collator = TgmmCollator(TgmmProcessor.from_pretrained(str(model)), loaded.config, training=False)
    tasks = {name: task["kind"] for name, task in loaded.config.tasks.items() if len(task["candidates"]) == 2}
    answers: dict[tuple[str, str], dict[str, pd.DataFrame]] = {task: {} for task in tasks.items()}
    for split in ("validation", "test"):
        table = collect_predictions(
            loaded, rows[split], collator, subsets=MODALITIES, tasks=tasks, batch_size=BATCH_SIZE, progress=progress
        ).table
        for task, kind in tasks.items():
            wide = table[table["task"] == task].pivot(index="id", columns="subset", values=SCORE[kind])
            answers[task, kind][split] = wide.reindex(columns=list(MODALITIES)).astype(np.float64)
    by_split = {split: encode_summaries(loaded, rows[split], collator, split, progress) for split in rows}
    return SingleModality(
        summaries={name: {split: by_split[split][name] for split in by_split} for name in MODALITIES},
        answers=answers,
        weights=weights_digest(directory) if directory.is_dir() else None,
        warnings=warnings,
    )


@torch.inference_mode()
def encode_summaries(
    model: TgmmModel, dataset: Dataset, collator: Any, title: str, progress: bool = True
) -> dict[str, pd.DataFrame]:
    """Compute the encoder's summary vector of each admission and modality, with `TgmmModel.get_labs_features` etc.

    For an echo it is the mean over the views.

    Args:
        model: A loaded model.
        dataset: One prepared split.
        collator: `TgmmCollator` with `training=False`.
        title: Name of the split for the progress bar.
        progress: Whether to show a progress bar.

    Returns:
        Modality -> table of summaries (n, D), NaN where the modality is absent.

    Raises:
        ValueError: If a summary is not finite.
    """
    parts: dict[str, list[NDArray]] = {name: [] for name in MODALITIES}
    loader = DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=False, collate_fn=collator)
    for batch in tqdm(loader, desc=f"encoding {title}", unit="batch", disable=not progress):
        for name, summaries in _summaries(model, batch).items():
            parts[name].append(summaries)
    return {name: pd.DataFrame(np.concatenate(batches)).add_prefix(f"{name} ") for name, batches in parts.items()}


def _summaries(model: TgmmModel, batch: Mapping[str, Any]) -> dict[str, NDArray]:
    """Compute the summaries of one batch: modality -> (B, D) float32, NaN where the modality is absent.

    Raises:
        ValueError: If a summary is not finite.
    """
    encoders: dict[str, tuple[Callable[..., torch.Tensor], str, str]] = {
        "labs": (model.get_labs_features, "input_ids", "attention_mask"),
        "ecg": (model.get_ecg_features, "ecg_values", "ecg_mask"),
        "echo": (model.get_echo_features, "pixel_values_videos", "view_mask"),
    }
    summaries = {}
    for name, (encode, values, mask) in encoders.items():
        width = getattr(model.config, f"{name}_config").hidden_size
        summaries[name] = np.full((len(batch["id"]), width), np.nan, np.float32)
        if values not in batch:  # no patient of the batch has this modality
            continue
        present = batch[mask].bool().any(1).numpy()
        cells = {key: batch[key].to(model.device) for key in CELL_ARGUMENTS if name == "labs" and key in batch}
        features = encode(batch[values].to(model.device), batch[mask].to(model.device), **cells)
        encoded = features.float().cpu().numpy()[present]
        if not np.isfinite(encoded).all():
            raise ValueError(
                f"The {name} encoder gave numbers that are not finite. Its weights or an input are broken: look at the "
                "training losses, then at these patients' inputs."
            )
        summaries[name][present] = encoded
    return summaries
