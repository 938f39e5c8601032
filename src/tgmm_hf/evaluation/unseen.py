"""Were the patients to be scored trained on? A figure on patients that a model has seen is worth nothing."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset

SEEN = "patients.json"
"""File in the training directory: whom this model and those it was fine-tuned from have seen, in the training and the
validation split. It stays there: a saved model that is shared must not list patients."""

UNKNOWN = "Whether the model has seen any of these patients in training could not be checked."


def weights_digest(model: Path) -> str:
    """sha256 over a saved model's weight files: which weights a figure is of."""
    digest = hashlib.sha256()
    for file in sorted(model.glob("*.safetensors")):
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return f"sha256:{digest.hexdigest()}"


def training_directory(model: str | Path) -> Path:
    """Where checkpoints and the private record of a training lie: beside the saved model."""
    return Path(f"{str(model).rstrip('/')}-training")


def seen_patients(data_hash: str, splits: Mapping[str, Dataset], sources: Iterable[str | Path]) -> dict[str, Any]:
    """Content of `SEEN` for a training on these splits, with the patients of what it starts from: a checkpoint or
    encoders.

    `patients`: of all splits. `trained`: those that gradients came from. `complete` is False where nothing is known of
    the patients of a source.
    """
    patients = {patient for rows in splits.values() for patient in patients_of(rows)}
    trained, complete = set(patients_of(splits["train"])), True
    for source in sources:
        earlier = _of_its_weights(Path(source), _read_json(training_directory(source) / SEEN))
        patients |= set(earlier["patients"] if earlier else ())
        trained |= set(earlier.get("trained", earlier["patients"]) if earlier else ())
        complete &= earlier is not None and earlier["complete"]
    return {
        "data_hash": data_hash,
        "complete": complete,
        "patients": sorted(patients),
        "trained": sorted(trained),
    }


def _of_its_weights(source: Path, seen: dict[str, Any] | None) -> dict[str, Any] | None:
    """`seen` of a source, unless it is of another training that has begun in the same place."""
    run, pretraining = _read_json(source / "run.json"), _read_json(source / "pretrain.json")
    own = run["data_hash"] if run else pretraining["told"]["data_hash"] if pretraining else None
    return None if seen is None or (own is not None and seen["data_hash"] != own) else seen


def check_unseen(model: str | Path | None, data_hash: str, rows: Dataset, split: str) -> list[str]:
    """Warnings about what could not be ruled out, for the head of the report.

    Args:
        model: directory of the saved model; None or a Hub id if there is none.
        data_hash: of the prepared data to be scored.
        rows: the patients to be scored.
        split: their split's name.

    Raises:
        ValueError: if patients to be scored were trained on, in this training or in that of its checkpoint
            or encoders.
    """
    run = None if model is None else _read_json(Path(model) / "run.json")
    seen = None if model is None else _read_json(training_directory(model) / SEEN)
    if run is None:
        return [UNKNOWN]
    assert model is not None
    start = run["run"]["model"]
    from_scratch = start["checkpoint"] is None and not start.get("encoders")
    if run["data_hash"] == data_hash and split != "test":
        both = set() if seen is None else set(seen.get("trained", ())) & set(patients_of(rows))
        if both and split == "train":
            raise ValueError(
                f"{len(both)} of the patients to be scored were trained on: this is the model's own train split. "
                "Evaluate on the test split (--split test)."
            )
        if both:
            raise ValueError(
                f"{len(both)} of the patients to be scored were trained on by what this model started from (its "
                "checkpoint or encoders): take them out of that training, or evaluate on other patients."
            )
        last = run["run"].get("optimisation", {}).get("keep") == "last"
        chosen = "saved after its last epoch" if last else "selected on the validation split"
        known = from_scratch or (seen is not None and seen["complete"])
        doubts = [] if known else [UNKNOWN]
        return [f"The model was trained on the train split and {chosen}; this is {split}.", *doubts]
    if seen is None or seen["data_hash"] != run["data_hash"]:  # moved, or another training has begun there
        # One table has each patient in one split only: `tgmm prepare` refuses others.
        return [] if run["data_hash"] == data_hash and from_scratch else [UNKNOWN]
    both = set(seen["patients"]) & set(patients_of(rows))
    if both:
        raise ValueError(
            f"{len(both)} of the patients to be scored were in a training or validation split of this model or of what "
            f"it started from ({training_directory(model) / SEEN}): take them out of the table, or evaluate on the "
            "test split of the data that the model was trained with."
        )
    return [] if seen["complete"] else [UNKNOWN]


def patients_of(rows: Dataset) -> list[str]:
    """Sorted patient identifiers of a prepared split."""
    column: Any = rows.with_format(None)["patient_id"]
    return sorted({str(patient) for patient in column})


def _read_json(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text()) if path.is_file() else None
