"""Were the patients to be scored trained on? A figure on patients that a model has seen is worth nothing."""

import json
from pathlib import Path
from typing import Any

from datasets import Dataset

SEEN = "patients.json"
"""File in the training directory: patients of the training and validation splits. It stays there: a saved model that is
shared must not list patients."""


def training_directory(model: str | Path) -> Path:
    """Where checkpoints and the private record of a training lie: beside the saved model."""
    return Path(f"{str(model).rstrip('/')}-training")


def check_unseen(model: str | Path | None, data_hash: str, rows: Dataset, split: str) -> list[str]:
    """Warnings about what could not be ruled out, for the head of the report.

    Args:
        model: directory of the saved model; None or a Hub id if there is none.
        data_hash: of the prepared data to be scored.
        rows: the patients to be scored.
        split: their split's name.

    Raises:
        ValueError: if patients of another data set were trained on.
    """
    run = None if model is None else Path(model) / "run.json"
    if run is not None and run.is_file() and json.loads(run.read_text())["data_hash"] == data_hash:
        # One table has each patient in one split only: `tgmm prepare` refuses others.
        if split == "test":
            return []
        return [f"The model was trained on the train split and selected on the validation split; this is {split}."]
    seen = None if model is None else training_directory(model) / SEEN
    if seen is None or not seen.is_file():
        return ["Whether the model has seen any of these patients in training could not be checked."]
    both = set(json.loads(seen.read_text())) & set(patients_of(rows))
    if both:
        raise ValueError(
            f"{len(both)} of the patients to be scored were in the model's training or validation split ({seen}): "
            "take them out of the table, or evaluate on the test split of the data that the model was trained with."
        )
    return []


def patients_of(rows: Dataset) -> list[str]:
    """Sorted patient identifiers of a prepared split."""
    column: Any = rows.with_format(None)["patient_id"]
    return sorted({str(patient) for patient in column})
