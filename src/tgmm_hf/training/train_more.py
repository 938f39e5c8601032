"""A training of MoRE: table of X-rays, ECGs and notes -> processed inputs -> training -> saved model and processor."""

import logging
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoProcessor, AutoTokenizer, PreTrainedConfig, TrainingArguments, set_seed

from tgmm_hf.data.note_tables import NoteRow
from tgmm_hf.data.report_tokenizer import report_tokenizer
from tgmm_hf.evaluation.retrieval import beaten_by, expected_scores
from tgmm_hf.families.more.configuration_more import MoreConfig
from tgmm_hf.families.more.modeling_more import MoreModel
from tgmm_hf.families.more.note_contrast import loss_of_one_batch, note_keys
from tgmm_hf.families.more.processing_more import MoreProcessor
from tgmm_hf.inputs.feature_extraction_more import MoreFeatureExtractor
from tgmm_hf.inputs.image_processing_xray import MoreImageProcessor
from tgmm_hf.training.base_trainer import adamw_arguments
from tgmm_hf.training.instruction_data import patients_by_split
from tgmm_hf.training.more_arguments import MoreDataArguments, MoreModelArguments, MoreRunArguments
from tgmm_hf.training.more_data import NoteCollator, NoteRows, read_rows, split_rows, stored_inputs
from tgmm_hf.training.run_directory import begin_run, claim_directories
from tgmm_hf.training.settings_files import refuse_unknown_overrides
from tgmm_hf.training.trainer import EpochCollator
from tgmm_hf.training.validated_run import check_batches, finished_record, fit_check_save, only_one_run
from tgmm_hf.training.validating_trainer import LossTrainer
from tgmm_hf.utils.digests import file_digest

logger = logging.getLogger(__name__)

SECONDS = 10
"""Length of MoRE's ECG, as published."""
FAR = -2.0
"""A similarity below all cosines."""


def train_more(run: MoreRunArguments) -> dict[str, Any]:
    """Train a MoRE model and save it to `run.output` with its processor, its code and `run.json`.

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


def _train(run: MoreRunArguments) -> dict[str, Any]:
    """Train a model as `train_more` does, without the lock."""
    claim_directories(run)
    # The arguments come first, because they start the process group. A last, smaller batch would have fewer negatives.
    arguments = TrainingArguments(**adamw_arguments(run), dataloader_drop_last=True)
    rows, data_hash = read_rows(run), f"sha256:{file_digest(run.data.file)}"
    set_seed(run.seed)
    model, processor = starting_more(run, rows)
    patients = patients_by_split(rows, attrgetter("patient_id"))
    if begin_run(run, arguments.should_save, data_hash, patients, run.model.sources):
        return finished_record(run)
    inputs = stored_inputs(run, rows, processor, arguments.should_save)
    splits = split_rows(rows, inputs)
    check_batches(run, arguments, len(splits["train"]), "usable rows")
    counts = model.parameter_counts()
    logger.warning(
        "%s", "; ".join(f"{part}: {trained:,} of {total:,} trained" for part, (trained, total) in counts.items())
    )
    training_collator = EpochCollator(partial(_collator, processor, run.data), run.seed)
    trainer = MoreTrainer(
        validate=partial(validate_more, collator=NoteCollator(processor, training=False)),
        model=model,
        args=arguments,
        data_collator=training_collator,
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        callbacks=[training_collator],
    )
    further = {
        "rows": {split: len(part) for split, part in splits.items()},
        "parts": {part: list(numbers) for part, numbers in counts.items()},
    }
    return fit_check_save(run, trainer, processor, data_hash, further)


class MoreTrainer(LossTrainer):
    """Trainer of [`MoreModel`], whose training lines name the temperature."""

    def output_of(self, model: Any, inputs: dict[str, Any]) -> Any:
        """Compute the output of the model for one batch, with its loss."""
        return model(**inputs, return_loss=True)

    def parts_of_loss(self, output: Any) -> dict[str, torch.Tensor]:
        """Return the temperature of the model."""
        return {"temperature": self.accelerator.unwrap_model(self.model).temperature}


@torch.no_grad()
def validate_more(model: MoreModel, rows: NoteRows, batch_size: int, collator: NoteCollator) -> dict[str, float]:
    """Compute the loss and the retrieval of a model over all rows of a split at once.

    Args:
        model: The model. It is in training mode afterwards if it was before.
        rows: The rows.
        batch_size: Rows that are encoded at a time. The figures do not depend on it.
        collator: Collator with `training=False`.

    Returns:
        "loss", with all rows as negatives; "lrap_xray" and "lrap_ecg": the mean of 1 / rank of the right X-ray
        or ECG for a note. The wrong candidates are X-rays or ECGs of other patients with other notes. A figure without
        two patients is left out.
    """
    was_training = model.training
    model.eval()
    columns: dict[str, list[torch.Tensor]] = {}
    for start in range(0, len(rows), batch_size):
        batch = collator([rows[index] for index in range(start, min(start + batch_size, len(rows)))])
        batch = {name: value.to(model.device) for name, value in batch.items()}
        output = model(**batch)
        part = {
            "xray": output.xray_embeds,
            "ecg": output.ecg_embeds,
            "text": output.text_embeds,
            "has_xray": batch["xray_mask"],
            "has_ecg": batch["ecg_mask"],
            "has_text": batch["attention_mask"].bool().any(1),
            "keys": note_keys(batch["input_ids"], batch["attention_mask"]),
        }
        for name, value in part.items():
            columns.setdefault(name, []).append(value.cpu())
    model.train(was_training)
    joined = {name: torch.cat(parts) for name, parts in columns.items()}
    embeds = {name: joined[name] for name in ("xray", "ecg", "text")}
    present = {name: joined[f"has_{name}"] for name in embeds}
    # The first process validates alone, so this code must not wait for other processes.
    loss = loss_of_one_batch(embeds, present, joined["keys"], model.temperature.cpu(), model.config.xray_ecg_loss)
    figures = {"loss": float(loss)}
    patients = np.array(_numbered([row.patient_id for row in rows.rows]))
    for name in ("xray", "ecg"):
        pairs = (present[name] & present["text"]).numpy()
        if len(np.unique(patients[pairs])) > 1:
            similarity = (embeds["text"][pairs] @ embeds[name][pairs].T).numpy()
            keys = joined["keys"].numpy()[pairs]
            equal_note = (keys[:, None] == keys) & ~np.eye(len(keys), dtype=bool)
            similarity[equal_note] = FAR
            ahead, negatives = beaten_by(similarity, patients[pairs])
            figures[f"lrap_{name}"] = float(expected_scores(ahead, negatives, None)["lrap"].mean())
    return figures


def starting_more(run: MoreRunArguments, rows: list[NoteRow]) -> tuple[MoreModel, MoreProcessor]:
    """Make the model that the training starts from, and its processor.

    Args:
        run: The settings.
        rows: The rows of the table. A new text encoder learns its vocabulary from the notes of the training split.

    Raises:
        ValueError: If a setting of the model is unknown or wrong.
    """
    settings = run.model
    if settings.checkpoint is not None:
        return MoreModel.from_pretrained(settings.checkpoint), AutoProcessor.from_pretrained(settings.checkpoint)
    allowed = set(MoreConfig.__dataclass_fields__) - set(PreTrainedConfig.__dataclass_fields__)
    refuse_unknown_overrides(settings.overrides, allowed - {"text_config", "encoder_sources"})
    if settings.text_encoder is not None:
        model = MoreModel.from_text_encoder(settings.text_encoder, **settings.overrides)
        tokenizer = AutoTokenizer.from_pretrained(settings.text_encoder)
    else:
        model, tokenizer = _new_model(settings, rows)
    longest = getattr(model.config.text_config, "max_position_embeddings", run.data.max_text_tokens)
    if run.data.max_text_tokens > longest:
        raise ValueError(
            f"data.max_text_tokens is {run.data.max_text_tokens}, and the text encoder takes {longest}: set a smaller "
            "one."
        )
    ecg: Any = model.config.ecg_config
    if ecg.seq_length % SECONDS:
        raise ValueError(
            f"model.overrides.ecg_config.seq_length must be a multiple of {SECONDS}, because the ECG has {SECONDS} s, "
            f"got {ecg.seq_length}. 1000 is published, at 100 Hz."
        )
    xray: Any = model.config.xray_config
    processor = MoreProcessor(
        MoreImageProcessor(size=xray.image_size),
        MoreFeatureExtractor(sampling_rate=ecg.seq_length // SECONDS, num_samples=ecg.seq_length),
        tokenizer,
        max_text_tokens=run.data.max_text_tokens,
        pad_to_max=model.config.mean_over_padding,
    )
    return model, processor


def _new_model(settings: MoreModelArguments, rows: list[NoteRow]) -> tuple[MoreModel, Any]:
    """Make a model with a new text encoder, and a tokenizer whose vocabulary is learned from the notes."""
    if "model_type" not in settings.text_config:
        raise ValueError("model.text_config needs model_type, such as bert, and the sizes of the text encoder.")
    notes = [row.text for row in rows if row.split == "train" and row.text]
    texts = [" ".join(note.values()) if isinstance(note, dict) else note for note in notes]
    tokenizer = report_tokenizer(texts, settings.vocab_size)
    ends = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    text = AutoConfig.for_model(**{**settings.text_config, "vocab_size": len(tokenizer), **ends})
    config = MoreConfig(**{"text_training": "full", **settings.overrides, "text_config": text})
    return MoreModel(config), tokenizer


def _collator(processor: MoreProcessor, data: MoreDataArguments, training: bool, seed: int) -> NoteCollator:
    """Make the collator of an epoch."""
    return NoteCollator(processor, training and data.augment, seed, data.smallest_area)


def _numbered(names: list[str]) -> list[int]:
    """Give equal names equal numbers."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(name, len(numbers)) for name in names]
