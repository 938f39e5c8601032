"""What a saved model makes of each modality alone: the summaries of its frozen encoders, and its answers."""

from collections.abc import Mapping
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
from tgmm_hf.evaluation.evaluate import validation_rows
from tgmm_hf.evaluation.predictions import collect_predictions, load_trained
from tgmm_hf.evaluation.unseen import check_unseen, weights_digest
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.processing_tgmm import TgmmProcessor
from tgmm_hf.utils.names import MODALITIES

BATCH_SIZE = 16


@dataclass(frozen=True)
class SingleModality:
    """A model's view of prepared splits, one modality at a time.

    Attributes:
        summaries: modality -> split -> (n, D) in the order of the split, NaN where the modality is absent.
        answers: (task, kind) -> "validation" and "test" -> probabilities of a diagnosis or log risks, one row an
            admission (index: id), one column a modality, NaN where absent. Tasks of two candidates only.
        weights: digest of a local model's weights. warnings: what could not be ruled out about its training patients.
    """

    summaries: dict[str, dict[str, pd.DataFrame]]
    answers: dict[tuple[str, str], dict[str, pd.DataFrame]]
    weights: str | None
    warnings: list[str]


def read_model(
    model: str | Path, data_dir: str | Path, data_hash: str, rows: DatasetDict, progress: bool = True
) -> SingleModality:
    """Run a saved model over the splits of prepared data: its encoders over all, its answers over validation and test.

    Raises:
        ValueError: if test patients, or validation patients of another training, are known to have been trained on.
    """
    directory = Path(model)
    warnings = check_unseen(directory, data_hash, rows["test"], "test")
    warnings += validation_rows(directory, data_dir, rows, "test", None)[1]
    loaded = load_trained(str(model)).eval()
    collator = TgmmCollator(TgmmProcessor.from_pretrained(str(model)), loaded.config, training=False)
    tasks = {name: task["kind"] for name, task in loaded.config.tasks.items() if len(task["candidates"]) == 2}
    answers: dict[tuple[str, str], dict[str, pd.DataFrame]] = {each: {} for each in tasks.items()}
    for split in ("validation", "test"):
        table = collect_predictions(
            loaded, rows[split], collator, subsets=MODALITIES, tasks=tasks, batch_size=BATCH_SIZE, progress=progress
        ).table
        for task, kind in tasks.items():
            column = "probability" if kind == "diagnosis" else "risk"
            wide = table[table["task"] == task].pivot(index="id", columns="subset", values=column)
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
    """Modality -> (n, D): the encoder's summary of each admission, of an echo the mean over its views.

    NaN where the modality is absent. They are what the model's attention pooling starts from
    (`TgmmModel.get_labs_features` and the like).

    Raises:
        ValueError: if a summary is not finite.
    """
    parts: dict[str, list[NDArray]] = {name: [] for name in MODALITIES}
    loader = DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=False, collate_fn=collator)
    for batch in tqdm(loader, desc=f"encoding {title}", unit="batch", disable=not progress):
        for name, of_batch in _summaries(model, batch).items():
            parts[name].append(of_batch)
    return {name: pd.DataFrame(np.concatenate(found)).add_prefix(f"{name} ") for name, found in parts.items()}


def _summaries(model: TgmmModel, batch: Mapping[str, Any]) -> dict[str, NDArray]:
    encoders = {
        "labs": (model.get_labs_features, "input_ids", "attention_mask"),
        "ecg": (model.get_ecg_features, "ecg_values", "ecg_mask"),
        "echo": (model.get_echo_features, "pixel_values_videos", "view_mask"),
    }
    summaries = {}
    for name, (encode, values, mask) in encoders.items():
        width = getattr(model.config, f"{name}_config").hidden_size
        summaries[name] = np.full((len(batch["id"]), width), np.nan, np.float32)
        if values not in batch:  # no patient of the batch has it
            continue
        present = batch[mask].bool().any(1).numpy()
        found = encode(batch[values].to(model.device), batch[mask].to(model.device)).float().cpu().numpy()[present]
        if not np.isfinite(found).all():
            raise ValueError(
                f"The {name} encoder gave numbers that are not finite: its weights or an input are broken."
            )
        summaries[name][present] = found
    return summaries
