"""Check that a model was not trained on the patients that are to be scored.

The reason is that a figure on patients of the training is worth nothing. Also here: the hash of prepared data and the
digest of weights.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset

from tgmm_hf.data.instructions import Instruction
from tgmm_hf.utils.digests import file_digest
from tgmm_hf.utils.files import read_json

SEEN = "patients.json"
"""File in the training directory. It lists the patients of the training and the validation split that this model, and
the models that it was fine-tuned from, have seen. It stays there, because a saved model that is shared must not list
patients."""
PRETRAIN_RECORD = "pretrain.json"
"""File of a pre-trained encoder that says how it was trained."""

UNKNOWN = "Whether the model has seen any of these patients in training could not be checked."


def prepared_data_hash(directory: str | Path) -> str:
    """Read "data_hash", the digest of all prepared rows, from a directory that `tgmm prepare` wrote."""
    return str(read_json(Path(directory) / "prepare.json")["data_hash"])


def weights_digest(model: Path) -> str:
    """Compute a digest ("sha256:...") of the weight files in `model`, the directory of a saved model."""
    digest = hashlib.sha256()
    for file in sorted([*model.glob("*.safetensors"), *model.glob("*.gguf")]):
        digest.update(bytes.fromhex(file_digest(file)))
    return f"sha256:{digest.hexdigest()}"


def training_directory(model: str | Path) -> Path:
    """Return the directory of a training's checkpoints and private files: `<model>-training`, beside the model."""
    return Path(f"{str(model).rstrip('/')}-training")


def seen_patients(data_hash: str, splits: Mapping[str, Dataset], sources: Iterable[str | Path]) -> dict[str, Any]:
    """Collect the content of `SEEN` for a training.

    Args:
        data_hash: Hash of the prepared data.
        splits: The prepared splits, with `train`.
        sources: Directories or Hub repositories of the checkpoint or the encoders that the training starts from.

    Returns:
        "data_hash". "patients": ids of the patients of all splits, and of all that the sources have seen. "trained":
        ids of the patients in train splits, whose data changed the weights. "complete": False if the patients of a
        source are unknown.
    """
    patients = {patient for rows in splits.values() for patient in patients_of(rows)}
    trained, complete = set(patients_of(splits["train"])), True
    for source in sources:
        earlier = _seen_by_weights(Path(source), read_if_present(training_directory(source) / SEEN))
        patients |= set(earlier["patients"] if earlier else ())
        trained |= set(earlier.get("trained", earlier["patients"]) if earlier else ())
        complete &= earlier is not None and earlier["complete"]
    return {
        "data_hash": data_hash,
        "complete": complete,
        "patients": sorted(patients),
        "trained": sorted(trained),
    }


def _seen_by_weights(source: Path, seen: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return `seen`, or None if it does not belong to the weights in `source`.

    It does not if another training has begun in the same directory since the weights were saved. `seen` is the content
    of `SEEN` beside the weights, or None.
    """
    run, pretraining = read_if_present(source / "run.json"), read_pretrain_record(source)
    data_hash = run["data_hash"] if run else pretraining["settings"]["data_hash"] if pretraining else None
    return None if seen is None or (data_hash is not None and seen["data_hash"] != data_hash) else seen


TO_SCORE = "of the patients to be scored"
"""What patients are for, in the message of `check_unseen`."""
TO_CHOOSE = "of the validation patients of these data, on whom thresholds are chosen,"


def check_unseen(
    model: str | Path | None, data_hash: str, rows: Dataset, split: str, purpose: str = TO_SCORE
) -> list[str]:
    """Refuse patients that the model was trained on, and list the doubts that cannot be ruled out.

    Args:
        model: Directory of the saved model; or a Hub id or None, for which nothing can be checked.
        data_hash: Hash of the prepared data to be scored.
        rows: The patients to be scored.
        split: Name of their split.
        purpose: `TO_SCORE` or `TO_CHOOSE`.

    Returns:
        Warnings for the head of the report.

    Raises:
        ValueError: If patients to be scored were trained on, in this training or in the training of its checkpoint or
            encoders.
    """
    run = None if model is None else read_if_present(Path(model) / "run.json")
    if model is None or run is None:
        return [UNKNOWN]
    seen = _seen_by_weights(Path(model), read_if_present(training_directory(model) / SEEN))
    if run["data_hash"] == data_hash and split != "test":
        return _check_split_of_training(run, seen, rows, split)
    if seen is None:  # the model was moved, or another training has begun in its directory
        # Each patient of a table is in one split only, because `tgmm prepare` refuses other tables.
        return [] if run["data_hash"] == data_hash and _from_scratch(run) else [UNKNOWN]
    if trained_on := set(seen["patients"]) & set(patients_of(rows)):
        advice = {
            TO_SCORE: "Take them out of the table, or evaluate on the test split of the data of the training.",
            TO_CHOOSE: "Name the prepared data that the model was trained with: --validation DIRECTORY.",
        }
        raise ValueError(
            f"{len(trained_on)} {purpose} were in a training or validation split of this model, or of the checkpoint "
            f"or encoders that it started from ({training_directory(model) / SEEN}). {advice[purpose]}"
        )
    return [] if seen["complete"] else [UNKNOWN]


def _check_split_of_training(
    run: Mapping[str, Any], seen: Mapping[str, Any] | None, rows: Dataset, split: str
) -> list[str]:
    """Check patients to be scored who come from the model's own train or validation split.

    Args:
        run: Content of the model's run.json.
        seen: Content of `SEEN`, None if unknown.
        rows: The patients to be scored.
        split: "train" or "validation".

    Returns:
        Warnings.

    Raises:
        ValueError: If `seen` lists any of these patients as trained on. If `seen` is None, there is only a warning.
    """
    trained_on = set() if seen is None else set(seen.get("trained", ())) & set(patients_of(rows))
    if trained_on and split == "train":
        raise ValueError(
            f"{len(trained_on)} of the patients to be scored were trained on, because this is the model's own train "
            "split. Evaluate on the test split (--split test)."
        )
    if trained_on:
        raise ValueError(
            f"{len(trained_on)} of the patients to be scored were trained on by what this model started from (its "
            "checkpoint or encoders). Take them out of that training, or evaluate on other patients."
        )
    last = run["run"].get("optimisation", {}).get("keep") == "last"
    chosen = "saved after its last epoch" if last else "selected on the validation split"
    is_known = _from_scratch(run) or (seen is not None and seen["complete"])
    doubts = [] if is_known else [UNKNOWN]
    return [f"The model was trained on the train split and {chosen}; this is {split}.", *doubts]


STARTS = ("checkpoint", "encoders", "ecg", "beat")
"""Settings of `model`, of any family, that name weights which may have seen patients."""


def _from_scratch(run: Mapping[str, Any]) -> bool:
    """Tell whether a training started from no weights that may have seen patients. `run` is the content of run.json."""
    return not any(run["run"]["model"].get(name) for name in STARTS)


def patient_name(row: Instruction) -> str:
    """Name the patient of a row of an instruction file, unique over all data sets, because data sets share numbers."""
    return f"{row.dataset}/{row.patient_id}"


def patients_of(rows: Dataset) -> list[str]:
    """List the patient identifiers of a prepared split, sorted."""
    column: Any = rows.with_format(None)["patient_id"]
    return sorted({str(patient) for patient in column})


def read_if_present(path: Path) -> dict[str, Any] | None:
    """Read a JSON file. None if there is no such file."""
    return read_json(path) if path.is_file() else None


def read_pretrain_record(directory: Path) -> dict[str, Any] | None:
    """Read `PRETRAIN_RECORD` of a pre-trained encoder. None if there is no such file.

    Returns:
        The content. Version 0.1 wrote "settings" as "told" and "rows" as "records"; they have their names of today.
    """
    record = read_if_present(directory / PRETRAIN_RECORD)
    if record is None:
        return None
    new_names = {"told": "settings", "records": "rows"}
    return {new_names.get(name, name): value for name, value in record.items()}
