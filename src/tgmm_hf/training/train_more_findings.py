"""A training of MoRE for findings: a trained MoRE model and a table with labels -> `MoreForClassification`.

The published fine-tuning gives its optimizer the weights of another object than the one with the new layer, so that the
layer never learns. Here everything that requires a gradient is in the optimizer.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import AutoProcessor, TrainingArguments, set_seed

from tgmm_hf.data.label_columns import PREFIX, read_labels
from tgmm_hf.data.note_tables import NoteRow
from tgmm_hf.evaluation.metrics import auc
from tgmm_hf.families.more.configuration_more import MoreConfig
from tgmm_hf.families.more.modeling_more_classification import MoreForClassification
from tgmm_hf.families.more.processing_more import MoreProcessor
from tgmm_hf.training.base_trainer import adamw_arguments
from tgmm_hf.training.instruction_data import REFUSED, patients_by_split
from tgmm_hf.training.more_augmentation import SMALLEST_AREA
from tgmm_hf.training.more_data import StoredInputs, picture_batch, read_rows, stored_inputs
from tgmm_hf.training.more_findings_arguments import FindingsDataArguments, MoreFindingsRunArguments
from tgmm_hf.training.run_directory import begin_run, claim_directories
from tgmm_hf.training.trainer import EpochCollator, early_stopping
from tgmm_hf.training.training_data import SPLITS
from tgmm_hf.training.validated_run import finished_record, fit_check_save, only_one_run
from tgmm_hf.training.validating_trainer import LossTrainer
from tgmm_hf.utils.digests import file_digest
from tgmm_hf.utils.errors import TgmmError

logger = logging.getLogger(__name__)


def train_more_findings(run: MoreFindingsRunArguments) -> dict[str, Any]:
    """Train a classifier of findings and save it to `run.output` with its processor, its code and `run.json`.

    The same call continues a stopped run from its last checkpoint and gives the same weights as a run that was not
    stopped. A finished run is not trained again.

    Args:
        run: The settings of the run.

    Returns:
        The content of `run.json`: settings, seed, data hash, versions, sizes and history.

    Raises:
        FileExistsError: If `run.output` holds anything but a saved model, or contains data that must be kept.
        ValueError: If data and model do not fit together, or if `run.output` or its checkpoints have other settings.
        FloatingPointError: If a loss or a weight is no longer finite. No model is saved then.
        OSError: If the disk is full, or the output cannot be written. The last whole checkpoint stays.
        TgmmError: If the table is wrong, or another run of this machine writes the output.
    """
    return only_one_run(_train, run)


def _train(run: MoreFindingsRunArguments) -> dict[str, Any]:
    """Train a model as `train_more_findings` does, without the lock."""
    claim_directories(run)
    # The arguments come first, because they start the process group.
    arguments = TrainingArguments(
        **{**adamw_arguments(run), "metric_for_best_model": "auroc", "greater_is_better": True}
    )
    rows, labels = read_rows(run), labels_of_rows(run)
    data_hash = f"sha256:{file_digest(run.data.file)}"
    set_seed(run.seed)
    model, processor = starting_classifier(run)
    patients = patients_by_split(rows, attrgetter("patient_id"))
    if begin_run(run, arguments.should_save, data_hash, patients, run.model.sources):
        return finished_record(run)
    inputs = stored_inputs(run, rows, processor, arguments.should_save)
    splits = labelled_splits(rows, inputs, labels)
    _check_validation(run.data.labels, splits["validation"])
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    logger.warning("%s of %s weights are trained", f"{trained:,}", f"{sum(w.numel() for w in model.parameters()):,}")
    training_collator = EpochCollator(partial(_collator, processor, run.data), run.seed)
    trainer = LossTrainer(
        validate=partial(validate_findings, collator=FindingsCollator(processor, training=False)),
        model=model,
        args=arguments,
        data_collator=training_collator,
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        callbacks=[training_collator, *early_stopping(run)],
    )
    further = {
        "rows": {split: len(part) for split, part in splits.items()},
        "labels": {split: part.counts(run.data.labels) for split, part in splits.items()},
    }
    return fit_check_save(run, trainer, processor, data_hash, further)


class LabelledRows(Dataset):
    """The usable rows of one split: each has a usable X-ray or ECG, and a known label.

    Args:
        rows: The rows of the split.
        inputs: The processed X-rays and ECGs.
        labels: Id of a row -> label of each finding, NaN where it is unknown.
    """

    def __init__(self, rows: Sequence[NoteRow], inputs: StoredInputs, labels: Mapping[str, Sequence[float]]) -> None:
        self.inputs = inputs
        self.rows = [row for row in rows if inputs.has(row) and not np.isnan(labels[row.id]).all()]
        self.labels = np.array([labels[row.id] for row in self.rows], dtype=np.float32)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return "xray" (size, size) uint8 or None, "ecg" (12, samples) float32 or None, and "labels" (findings,)."""
        return {**self.inputs.inputs_of(self.rows[index]), "labels": self.labels[index]}

    def counts(self, findings: Sequence[str]) -> dict[str, dict[str, int]]:
        """Count the labels: finding -> number of rows that are "present", "absent" and "unknown"."""
        return {
            name: {
                "present": int((column == 1).sum()),
                "absent": int((column == 0).sum()),
                "unknown": int(np.isnan(column).sum()),
            }
            for name, column in zip(findings, self.labels.T, strict=True)
        }


class FindingsCollator:
    """Makes the inputs of `MoreForClassification` from rows of [`LabelledRows`].

    Args:
        processor: The processor of the model.
        training: Whether X-rays and ECGs are changed at random.
        seed: Seed of the changes.
        smallest_area: See `augment_xray`.
    """

    def __init__(
        self, processor: MoreProcessor, training: bool, seed: int = 0, smallest_area: float = SMALLEST_AREA
    ) -> None:
        self.processor, self.smallest_area = processor, smallest_area
        self._random = np.random.default_rng(seed) if training else None

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return the keys of X-rays and ECGs, `labels` with 0 for an unknown label, and `label_mask`."""
        labels = np.stack([row["labels"] for row in rows])
        batch = {
            **picture_batch(rows, self.processor, self._random, self.smallest_area),
            "labels": np.nan_to_num(labels),
            "label_mask": ~np.isnan(labels),
        }
        return {name: torch.from_numpy(value) for name, value in batch.items()}


@torch.no_grad()
def validate_findings(
    model: MoreForClassification, rows: LabelledRows, batch_size: int, collator: FindingsCollator
) -> dict[str, float]:
    """Compute loss and AUROC of a model on the rows of a split.

    Args:
        model: The model. It is in training mode afterwards if it was before.
        rows: The rows.
        batch_size: Rows that are computed at a time. The figures do not depend on it.
        collator: Collator with `training=False`.

    Returns:
        "loss", the mean over all known labels; "auroc_NAME" of each finding with both classes; "auroc", their mean.
    """
    was_training = model.training
    model.eval()
    parts = []
    for start in range(0, len(rows), batch_size):
        batch = collator([rows[index] for index in range(start, min(start + batch_size, len(rows)))])
        inputs = {name: value.to(model.device) for name, value in batch.items() if name not in ("labels", "label_mask")}
        parts.append(model(**inputs).logits.float().cpu())
    model.train(was_training)
    logits, labels = torch.cat(parts), torch.from_numpy(rows.labels)
    is_known = ~labels.isnan()
    losses = torch.nn.functional.binary_cross_entropy_with_logits(logits[is_known], labels[is_known])
    figures = {"loss": float(losses)}
    scored = {}
    for place, name in enumerate(model.config.id2label.values()):
        has_label = is_known[:, place].numpy()
        label = labels[:, place].numpy()[has_label]
        if 0 < label.sum() < len(label):
            scored[f"auroc_{name}"] = auc(logits[:, place].double().numpy()[has_label], label)
    return {**figures, **scored, "auroc": float(np.mean(list(scored.values())))}


def labels_of_rows(run: MoreFindingsRunArguments) -> dict[str, list[float]]:
    """Read the labels: id of a row -> label of each finding of the run, NaN where it is unknown.

    Raises:
        ValueError: If the table lacks a column.
        TgmmError: If a cell is wrong.
    """
    columns = read_labels(run.data.file)
    if missing := [name for name in run.data.labels if name not in columns]:
        raise ValueError(
            f"{Path(run.data.file).name} has no column {', '.join(PREFIX + name for name in missing)}, which "
            f"data.labels names. It has: {', '.join(columns) or 'no labels'}."
        )
    chosen = [columns[name] for name in run.data.labels]
    return {row: [column[row] for column in chosen] for row in chosen[0]}


def labelled_splits(
    rows: Sequence[NoteRow], inputs: StoredInputs, labels: Mapping[str, Sequence[float]]
) -> dict[str, LabelledRows]:
    """Share out the usable rows: split -> rows.

    Raises:
        TgmmError: If a split has no usable row.
    """
    splits = {}
    for split in SPLITS:
        part = [row for row in rows if row.split == split]
        splits[split] = LabelledRows(part, inputs, labels)
        if not len(splits[split]):
            raise TgmmError(
                split,
                f"none of its {len(part)} rows has a usable X-ray or ECG and a known label; see {REFUSED}.",
            )
    return splits


def starting_classifier(run: MoreFindingsRunArguments) -> tuple[MoreForClassification, MoreProcessor]:
    """Load the model that the training starts from, add the layer for the findings, and freeze what is not trained.

    Raises:
        ValueError: If the checkpoint is no MoRE model, or has fewer blocks than are to be trained.
    """
    settings = run.model
    config = MoreConfig.from_pretrained(settings.checkpoint)
    if config.model_type != "more":
        raise ValueError(f"model.checkpoint {settings.checkpoint} is no MoRE model. `tgmm train` makes one.")
    encoders: list[Any] = [config.xray_config, config.ecg_config]
    for encoder in encoders:
        encoder.drop_key, encoder.drop_key_schedule = settings.drop_key, settings.drop_key_schedule
    config.classifier_dropout, config.modality_dropout = settings.classifier_dropout, settings.modality_dropout
    config.id2label = dict(enumerate(run.data.labels))
    config.label2id = {name: place for place, name in config.id2label.items()}
    config.problem_type = "multi_label_classification"
    model = MoreForClassification.from_pretrained(settings.checkpoint, config=config)
    if settings.trained_blocks is not None:
        freeze_but_last_blocks(model, settings.trained_blocks)
    return model, AutoProcessor.from_pretrained(settings.checkpoint)


def freeze_but_last_blocks(model: MoreForClassification, blocks: int) -> None:
    """Freeze both encoders in place, except for query, key and value of their last blocks.

    Args:
        model: The model.
        blocks: Number of blocks that are trained in each encoder.

    Raises:
        ValueError: If an encoder has fewer blocks.
    """
    for name in ("xray_encoder", "ecg_encoder"):
        encoder = getattr(model.more, name)
        if blocks > len(encoder.layers):
            raise ValueError(
                f"model.trained_blocks is {blocks}, and the {name} has {len(encoder.layers)} blocks. Null trains all "
                "of it."
            )
        encoder.requires_grad_(False)
        for block in encoder.layers[len(encoder.layers) - blocks :]:
            for part in ("q_proj", "k_proj", "v_proj"):
                getattr(block.attention, part).requires_grad_(True)


def _collator(processor: MoreProcessor, data: FindingsDataArguments, training: bool, seed: int) -> FindingsCollator:
    """Make the collator of an epoch."""
    return FindingsCollator(processor, training and data.augment, seed, data.smallest_area)


def _check_validation(findings: Sequence[str], rows: LabelledRows) -> None:
    """Raise a ValueError if no finding has both classes in the validation split, because no epoch is the best then."""
    counts = rows.counts(findings)
    if not any(count["present"] and count["absent"] for count in counts.values()):
        raise ValueError(
            "No finding of data.labels is both present and absent in the validation split, so no AUROC can choose the "
            "best epoch. Name other findings, or give the validation split more patients."
        )
