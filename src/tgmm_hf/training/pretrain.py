"""Pre-training of the three encoders on records without labels, each by the objective of its family.

labs: masked language modelling of the values (BERT). ecg: masked patches (ST-MEM). echo: masked patches of clips
(MViT). For those who cannot, or may not, use published weights: `configs/pretrain_tiny.yaml`. No label is read.
"""

import json
import platform
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from transformers import (
    BertForMaskedLM,
    BertTokenizerFast,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
    set_seed,
)

from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.data.collator import Row, TgmmCollator
from tgmm_hf.data.lab_rows import labs_text, stored_labs
from tgmm_hf.data.tokenizer import cohort_tokenizer
from tgmm_hf.encoders.modeling_echo_mvit_pretraining import EchoMvitForPreTraining
from tgmm_hf.encoders.modeling_st_mem_pretraining import StMemForPreTraining
from tgmm_hf.evaluation.unseen import SEEN, seen_patients, training_directory
from tgmm_hf.processing_tgmm import TgmmProcessor, bert_cased_tokenizer, default_processor
from tgmm_hf.training.arguments import ModelArguments, parse_dataclass, read_settings
from tgmm_hf.training.checkpoints import TRAINING_FILES, discard, last_checkpoint
from tgmm_hf.training.frozen_features_cache import NO_MATTER
from tgmm_hf.training.saving import files_of_saved_model
from tgmm_hf.training.train import PACKAGES, SPLITS, new_config, read_data
from tgmm_hf.training.trainer import EpochCollator
from tgmm_hf.utils.files import claim_directory, whole_directory, write_json
from tgmm_hf.utils.names import MODALITIES

COLUMNS = {"labs": ("labs",), "ecg": ("ecg", "ecg_mask"), "echo": ("clips", "clip_views", "clip_frames")}
"""Columns of prepared rows that each objective reads; those of labels never."""
RECORD = "pretrain.json"
HARDLY_FELL = 0.95
"""Last validation loss over the first above which a pre-training may have learned nothing."""
OTHER_SETTINGS = "other settings or data: give another output, or start over with resume: never."
VALUE = re.compile(r"(?<= is )[^;]+")
"""The value of a cell in the lab text."""


@dataclass(frozen=True)
class ObjectiveArguments:
    """How one encoder is pre-trained: AdamW, cosine schedule to zero with a warm-up.

    Attributes:
        epochs: passes over the records that have the modality.
        batch_size: records a step; of echo, that many clips for each of `max_views`.
        learning_rate: highest learning rate.
        weight_decay: decoupled weight decay, not applied to biases and norms.
        adam_beta2: 0.95 for ST-MEM and other masked autoencoders, as published.
        warmup_fraction: part of all steps with a rising rate.
        mask_ratio: part of the values (labs; single items of histories), or of the patches (ecg, echo) that is hidden.
            Null: that of the encoder's configuration; 0.3 for labs.
        max_views: echo only: so many of a patient's views an epoch, drawn anew each time; all of them when null.
        directory: a prepared data set of this encoder's own, in place of `data.directory`: of lab texts there may be
            many more than of complete patients.
        precision: "float32", or "bfloat16" for mixed precision.
    """

    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    adam_beta2: float = 0.999
    warmup_fraction: float = 0.05
    mask_ratio: float | None = None
    max_views: int | None = None
    directory: str | None = None
    precision: Literal["float32", "bfloat16"] = "float32"


@dataclass(frozen=True)
class PretrainDataArguments:
    """What to pre-train on.

    Attributes:
        directory: a prepared data set with the splits train and validation; the patients must not be those that the
            model is to be tested on.
        workers: processes that read batches beside training.
    """

    directory: str
    workers: int = 0


@dataclass(frozen=True)
class PretrainArguments:
    """A pre-training, as a YAML file states it.

    Attributes:
        output: directory of the encoders: `labs` (with its tokenizer), `ecg`, `echo`; checkpoints go beside it.
        data: see [`PretrainDataArguments`].
        model: size, overrides, tokenizer and vocab_size of the model that the encoders are for.
        labs, ecg, echo: see [`ObjectiveArguments`]; an encoder that is not named is not trained.
        seed: of initialisation, order, crops and masks.
        resume: "auto" continues a run that was stopped; "never" starts over.
    """

    output: str
    data: PretrainDataArguments
    model: ModelArguments
    labs: ObjectiveArguments | None = None
    ecg: ObjectiveArguments | None = None
    echo: ObjectiveArguments | None = None
    seed: int = 0
    resume: Literal["auto", "never"] = "auto"

    def __post_init__(self) -> None:
        if not self.objectives:
            raise ValueError("Name at least one encoder to pre-train: labs, ecg or echo.")
        asked = {"checkpoint", "encoders", "trainable_layers", "lora"} & {
            name for name, value in asdict(self.model).items() if value
        }
        if asked:
            raise ValueError(f"Pre-training starts from random weights and trains all of them: leave {asked} out.")

    @property
    def objectives(self) -> dict[str, ObjectiveArguments]:
        """Modality -> how its encoder is pre-trained, of those that are."""
        return {name: own for name in MODALITIES if (own := getattr(self, name)) is not None}


def read_pretrain_arguments(path: str | Path, overrides: Sequence[str] = ()) -> PretrainArguments:
    """Read a YAML file; `overrides` are "section.key=value" settings that replace the file's.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: on unknown, missing or wrong settings, by name.
    """
    return parse_dataclass(PretrainArguments, read_settings(path, overrides))


def pretrain(arguments: PretrainArguments, *, progress: bool = True) -> dict[str, Any]:
    """Pre-train the encoders one after the other; what is done already is not done again.

    Each is saved whole with its record, `pretrain.json`, where `model.encoders` of a training configuration, or
    `TgmmModel.from_encoders`, finds it. The same command goes on from where it was stopped.

    Returns:
        Modality -> the content of its `pretrain.json`.

    Raises:
        FileExistsError: if the directory of an encoder holds anything but a pre-trained encoder.
        FileNotFoundError: if there is no prepared data set.
        ValueError: if a stopped run had other settings, or nobody has the modality.
    """
    sources = {name: own.directory or arguments.data.directory for name, own in arguments.objectives.items()}
    for modality in sources:
        out = Path(arguments.output) / modality
        claim_directory(out, _files_of_encoder(out), keep=sources.values())
        if arguments.resume == "never":
            claim_directory(training_directory(out), TRAINING_FILES, keep=sources.values())
    data = {directory: read_data(directory) for directory in sources.values()}
    return {
        modality: _pretrain_one(arguments, modality, data[directory][0], data[directory][1]["data_hash"], progress)
        for modality, directory in sources.items()
    }


def _pretrain_one(
    arguments: PretrainArguments, modality: str, prepared: DatasetDict, data_hash: str, progress: bool
) -> dict[str, Any]:
    own, out = arguments.objectives[modality], Path(arguments.output) / modality
    told = {
        "encoder": _own_settings(arguments.model, modality),
        modality: {name: value for name, value in asdict(own).items() if name != "directory"},  # data_hash says it
        "seed": arguments.seed,
        "data_hash": data_hash,
    }
    found = json.loads((out / RECORD).read_text()) if (out / RECORD).is_file() else None
    if found is not None and arguments.resume != "never":
        if found["told"] == told:
            return dict(found)
        raise ValueError(f"{out} holds an encoder of {OTHER_SETTINGS}")
    scratch = training_directory(out)
    _claim(scratch, told, arguments.resume)
    rows = {split: _who_have(prepared[split], modality) for split in SPLITS}
    if empty := [split for split in SPLITS if not len(rows[split])]:
        raise ValueError(
            f"Nobody in the {' and the '.join(empty)} split of {own.directory or arguments.data.directory} has "
            f"{modality}."
        )
    started = time.time()
    set_seed(arguments.seed)
    config, tokenizer = _config_and_tokenizer(arguments, prepared)
    model = _new_model(modality, config, own)
    collator = partial(COLLATORS[modality], default_processor(config, tokenizer), config, own.mask_ratio)
    training_collator = EpochCollator(collator, arguments.seed, own.max_views)
    trainer = PretrainingTrainer(
        validation_collator=collator(training=False, seed=arguments.seed),
        model=model,
        args=_trainer_arguments(arguments, own, scratch, progress),
        data_collator=training_collator,
        train_dataset=rows["train"],
        eval_dataset=rows["validation"],
        callbacks=[training_collator],
    )
    trainer.model_accepts_loss_kwargs = False  # the losses are means over what is hidden in a batch
    trainer.train(resume_from_checkpoint=last_checkpoint(scratch))
    if not all(bool(torch.isfinite(weight).all()) for weight in model.parameters()):
        raise FloatingPointError(
            f"Weights of the {modality} encoder are not finite, nothing was saved: start over with resume: never and a "
            f"lower {modality}.learning_rate."
        )
    written = {
        "told": told,
        "records": {split: len(rows[split]) for split in SPLITS},
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(time.time() - started, 1),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "history": trainer.state.log_history,
    }
    # validation chooses nothing here
    write_json(scratch / SEEN, seen_patients(data_hash, {"train": prepared["train"]}, []))
    with whole_directory(out, _files_of_encoder(out)) as building:
        model.save_pretrained(building)
        if modality == "labs":
            tokenizer.save_pretrained(building)
        (building / RECORD).write_text(json.dumps(written, indent=1) + "\n")
    return written


def _own_settings(model: ModelArguments, modality: str) -> dict[str, Any]:
    """What of the model's settings matters to one encoder."""
    config = f"{modality}_config"
    # the encoder's whole configuration: what `size` means may change
    whole = getattr(new_config(model), config).to_dict()
    own = {config: {name: value for name, value in whole.items() if name not in NO_MATTER}}
    own = json.loads(json.dumps(own, default=str))  # as it is read back
    return own | ({"tokenizer": model.tokenizer, "vocab_size": model.vocab_size} if modality == "labs" else {})


class PretrainingTrainer(Trainer):
    """The Trainer, with a collator of its own for validation: the same windows, views and masks in every epoch."""

    data_collator: Any

    def __init__(self, *, validation_collator: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.validation_collator = validation_collator

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        training, self.data_collator = self.data_collator, self.validation_collator
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.data_collator = training


def _files_of_encoder(directory: Path) -> list[str]:
    """What a pre-trained encoder in a directory consists of, as expressions for `claim_directory`."""
    saved = files_of_saved_model(directory)
    return [*saved, re.escape(RECORD)] if saved else []


def _claim(directory: Path, told: dict[str, Any], resume: str) -> None:
    """Write the settings beside the checkpoints, or refuse to continue a stopped run that had others."""
    settings = directory / "settings.json"
    if resume == "never" and directory.exists():
        discard(directory)
    if settings.is_file() and json.loads(settings.read_text()) != told:
        raise ValueError(f"{directory} holds a pre-training of {OTHER_SETTINGS}")
    directory.mkdir(parents=True, exist_ok=True)
    write_json(settings, told)


def _who_have(rows: Dataset, modality: str) -> Dataset:
    """Rows of one modality's columns alone, of the patients who have it."""
    column = {"labs": "labs", "ecg": "ecg_mask", "echo": "clip_views"}[modality]
    values = rows.with_format(None).select_columns([column])[column]
    some = [index for index, value in enumerate(values) if (any(value) if modality == "ecg" else len(value or ()))]
    return rows.select(some).select_columns(list(COLUMNS[modality]))


def _config_and_tokenizer(arguments: PretrainArguments, prepared: DatasetDict) -> tuple[TgmmConfig, BertTokenizerFast]:
    config = new_config(arguments.model)
    if arguments.model.tokenizer == "bert-cased":
        tokenizer = bert_cased_tokenizer()
    else:
        tokenizer = cohort_tokenizer(prepared["train"], config.tasks, arguments.model.vocab_size)
    config.labs_config.vocab_size = len(tokenizer)
    config.labs_config.pad_token_id = tokenizer.pad_token_id
    return config, tokenizer


def _new_model(modality: str, config: TgmmConfig, own: ObjectiveArguments) -> PreTrainedModel:
    if modality == "labs":
        if config.labs_config.model_type != "bert":
            raise ValueError(f"Masked language modelling is here for BERT, not for {config.labs_config.model_type}.")
        return BertForMaskedLM(config.labs_config)
    encoder: Any = config.ecg_config if modality == "ecg" else config.echo_config
    if own.mask_ratio is not None:
        encoder.mask_ratio = own.mask_ratio
    return StMemForPreTraining(encoder) if modality == "ecg" else EchoMvitForPreTraining(encoder)


class MaskingCollator(TgmmCollator, ABC):
    """Prepared rows -> inputs of one modality's own objective, with what is to be hidden.

    Validation hides the same in every epoch.
    """

    def __init__(
        self,
        processor: TgmmProcessor,
        config: TgmmConfig,
        mask_ratio: float | None,
        training: bool,
        seed: int = 0,
        max_views: int | None = None,
    ) -> None:
        super().__init__(processor, config, training, seed, max_views)
        self.config, self.mask_ratio = config, mask_ratio

    def __call__(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        if not self.training:
            self._generator = None  # the same draws for every batch
        return {name: torch.from_numpy(array) for name, array in self.hide(rows).items()}

    @abstractmethod
    def hide(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
        """Inputs of the model, arrays by argument name."""


class LabsMaskingCollator(MaskingCollator):
    """Whole values are hidden, single items of a history: a token beside it would give the rest of a value away.

    As in BERT, of the hidden tokens 80 % become [MASK], 10 % another token, 10 % stay; `labels` is -100 elsewhere.
    """

    def hide(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
        tokenizer = self.processor.tokenizer
        texts = [labs_text(self.processor, stored_labs(row)) for row in rows]
        encoded = tokenizer(
            texts,
            truncation=True,
            max_length=self.processor.max_labs_tokens,
            padding=True,
            return_offsets_mapping=True,
            return_tensors="np",
        )
        starts, ends = encoded["offset_mapping"][..., 0], encoded["offset_mapping"][..., 1]
        hidden = np.zeros(starts.shape, dtype=bool)
        ratio = 0.3 if self.mask_ratio is None else self.mask_ratio
        for index, text in enumerate(texts):
            spans = value_spans(text)
            chosen = self._random().random(len(spans)) < ratio
            if spans and not chosen.any():  # a batch with nothing hidden has no loss
                chosen[self._random().integers(len(spans))] = True
            for start, end in np.array(spans)[chosen]:
                hidden[index] |= (starts[index] >= start) & (ends[index] <= end) & (ends[index] > starts[index])
        ids = encoded["input_ids"].astype(np.int64)
        labels = np.where(hidden, ids, -100)
        fate = self._random().random(ids.shape)
        others = self._random().integers(len(tokenizer), size=ids.shape)
        ids = np.where(hidden & (fate < 0.8), tokenizer.mask_token_id, ids)
        ids = np.where(hidden & (fate >= 0.9), others, ids)
        return {"input_ids": ids, "attention_mask": encoded["attention_mask"].astype(np.int64), "labels": labels}


class EcgMaskingCollator(MaskingCollator):
    """ECGs and the noise that decides which patches are hidden."""

    def hide(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
        arrays = self._ecg(rows)
        shape = (*arrays["ecg_mask"].shape, self.config.ecg_config.num_patches)
        return {**arrays, "noise": self._random().random(shape, dtype=np.float32)}


class EchoMaskingCollator(MaskingCollator):
    """Clips of all patients one after the other, and the noise that decides which patches are hidden."""

    def hide(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
        arrays = self._clips(rows)
        clips = arrays["pixel_values_videos"][arrays["view_mask"]]
        side = self.config.echo_config.image_size // self.config.echo_config.patch_stride[1]
        noise = self._random().random((len(clips), side, side), dtype=np.float32)
        return {"pixel_values_videos": clips, "noise": noise}


COLLATORS: dict[str, type[MaskingCollator]] = {
    "labs": LabsMaskingCollator,
    "ecg": EcgMaskingCollator,
    "echo": EchoMaskingCollator,
}


def value_spans(text: str) -> list[tuple[int, int]]:
    """Start and end of every value in a lab text; the items of a history, parted by commas, one by one."""
    spans = []
    for cell in VALUE.finditer(text):
        for item in re.finditer(r"[^,\s][^,]*", cell.group()):
            spans.append((cell.start() + item.start(), cell.start() + item.end()))
    return spans


def _trainer_arguments(
    arguments: PretrainArguments, own: ObjectiveArguments, directory: Path, progress: bool
) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(directory),
        num_train_epochs=own.epochs,
        per_device_train_batch_size=own.batch_size,
        per_device_eval_batch_size=own.batch_size,
        optim="adamw_torch",
        learning_rate=own.learning_rate,
        adam_beta2=own.adam_beta2,
        weight_decay=own.weight_decay,
        lr_scheduler_type="cosine",
        warmup_steps=own.warmup_fraction,
        bf16=own.precision == "bfloat16",
        use_cpu=not torch.cuda.is_available(),
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        prediction_loss_only=True,
        restore_callback_states_from_checkpoint=False,
        logging_steps=50,
        seed=arguments.seed,
        data_seed=arguments.seed,
        dataloader_num_workers=arguments.data.workers,
        remove_unused_columns=False,
        label_names=["labels" if own is arguments.labs else "noise"],  # without it, validation has no loss
        report_to="none",
        disable_tqdm=not progress,
    )
