"""Pre-training of the three encoders without labels, each with the objective of its family.

labs: masked language modelling of the values (BERT). ecg: masked patches (ST-MEM). echo: masked patches of clips
(MViT). It is for users who cannot, or may not, use published weights. See `configs/pretrain_tiny.yaml`.
"""

import json
import re
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset, DatasetDict
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertTokenizer,
    PreTrainedModel,
    TrainingArguments,
    set_seed,
)

from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.data.lab_rows import columns_of
from tgmm_hf.encoders.modeling_echo_mvit_pretraining import EchoMvitForPreTraining
from tgmm_hf.encoders.modeling_st_mem_pretraining import StMemForPreTraining
from tgmm_hf.evaluation.unseen import PRETRAIN_RECORD, SEEN, read_pretrain_record, seen_patients, training_directory
from tgmm_hf.processing_tgmm import default_processor
from tgmm_hf.training.arguments import ModelArguments
from tgmm_hf.training.base_trainer import BaseTrainer
from tgmm_hf.training.checkpoints import TRAINING_FILES, discard, last_checkpoint
from tgmm_hf.training.frozen_features_key import NOT_WEIGHTS
from tgmm_hf.training.masking_collators import COLLATORS
from tgmm_hf.training.pretraining_arguments import ObjectiveArguments, PretrainArguments
from tgmm_hf.training.run_directory import SETTINGS
from tgmm_hf.training.saving import files_of_saved_model
from tgmm_hf.training.starting_model import new_config, new_tokenizer
from tgmm_hf.training.trainer import EpochCollator
from tgmm_hf.training.training_data import SPLITS, read_data
from tgmm_hf.utils.files import claim_directory, read_json, whole_directory, write_json
from tgmm_hf.utils.output_lock import only_run
from tgmm_hf.utils.versions import package_versions

COLUMNS = {"labs": ("labs",), "ecg": ("ecg", "ecg_mask"), "echo": ("clips", "clip_views", "clip_frames")}
"""Modality -> columns of prepared rows that its objective reads. Columns with labels are never read."""
PRESENCE_COLUMN = {"labs": "labs", "ecg": "ecg_mask", "echo": "clip_views"}
"""Modality -> column that shows whether a patient has it."""
HARDLY_FELL = 0.95
"""Ratio of the last to the first validation loss above which a pre-training may have learned nothing."""
OTHER_SETTINGS = "other settings or data: give another output, or start over with resume: never."


def pretrain(arguments: PretrainArguments, *, progress: bool = True) -> dict[str, Any]:
    """Pre-train the encoders one after the other. Encoders that are finished are not trained again.

    Each encoder is saved into `<output>/<modality>`, with `pretrain.json`. The setting `model.encoders` of a training,
    and `TgmmModel.from_encoders`, take this directory. The same call continues a stopped pre-training.

    Args:
        arguments: The settings of the pre-training.
        progress: Whether to show a progress bar.

    Returns:
        Modality -> the content of `pretrain.json`: settings, numbers, seconds, versions and history of losses.

    Raises:
        FileExistsError: If the directory of an encoder holds anything but a pre-trained encoder.
        FileNotFoundError: If there is no prepared data set.
        ValueError: If a stopped run had other settings, or no patient has the modality.
    """
    directories = arguments.directories
    for modality in directories:
        out = Path(arguments.output) / modality
        claim_directory(out, _files_of_encoder(out), keep=directories.values())
        if arguments.resume == "never":
            claim_directory(training_directory(out), TRAINING_FILES, keep=directories.values())
    data = {directory: read_data(directory) for directory in directories.values()}
    with only_run(arguments.output):
        return {
            modality: _pretrain_one(arguments, modality, data[directory][0], data[directory][1]["data_hash"], progress)
            for modality, directory in directories.items()
        }


def _pretrain_one(
    arguments: PretrainArguments, modality: str, prepared: DatasetDict, data_hash: str, progress: bool
) -> dict[str, Any]:
    """Pre-train one encoder and save it, unless it is finished. Return the content of its `pretrain.json`.

    Args:
        arguments: The settings of the pre-training.
        modality: "labs", "ecg" or "echo".
        prepared: The prepared splits.
        data_hash: Digest of the prepared data.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If the directories hold an encoder or a training of other settings, or nobody has the modality.
    """
    out = Path(arguments.output) / modality
    settings = _settings_of(arguments, modality, data_hash)
    finished = read_pretrain_record(out)
    if finished is not None and arguments.resume != "never":
        if finished["settings"] == settings:
            return finished
        raise ValueError(f"{out} holds an encoder of {OTHER_SETTINGS}")
    scratch = training_directory(out)
    _claim_training_directory(scratch, settings, arguments.resume)
    rows = {split: _patients_with(prepared[split], modality) for split in SPLITS}
    if empty := [split for split in SPLITS if not len(rows[split])]:
        raise ValueError(
            f"Nobody in the {' and the '.join(empty)} split of {arguments.directories[modality]} has {modality}."
        )
    started = time.time()
    set_seed(arguments.seed)
    config = new_config(arguments.model)
    tokenizer = new_tokenizer(arguments.model, config, prepared)
    model, history = _trained(arguments, modality, config, tokenizer, rows, progress)
    pretrain_record = {
        "settings": settings,
        "rows": {split: len(rows[split]) for split in SPLITS},
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(time.time() - started, 1),
        "versions": package_versions(),
        "history": history,
    }
    # The validation patients are not listed, because validation chooses nothing here.
    write_json(scratch / SEEN, seen_patients(data_hash, {"train": prepared["train"]}, []))
    with whole_directory(out, _files_of_encoder(out)) as building:
        model.save_pretrained(building)
        if modality == "labs":
            tokenizer.save_pretrained(building)
        write_json(building / PRETRAIN_RECORD, pretrain_record)
    return pretrain_record


def _trained(
    arguments: PretrainArguments,
    modality: str,
    config: TgmmConfig,
    tokenizer: BertTokenizer,
    rows: dict[str, Dataset],
    progress: bool,
) -> tuple[PreTrainedModel, list[dict[str, float]]]:
    """Train one encoder, or continue its training from the last checkpoint.

    Args:
        arguments: The settings of the pre-training.
        modality: "labs", "ecg" or "echo".
        config: Configuration of the model that the encoder is for.
        tokenizer: Tokenizer of the lab texts.
        rows: "train" and "validation" -> rows of the patients that have the modality.
        progress: Whether to show a progress bar.

    Returns:
        The model with the head of its objective, and the lines that the Trainer logged.

    Raises:
        FloatingPointError: If a weight is not finite.
    """
    objective = arguments.objectives[modality]
    scratch = training_directory(Path(arguments.output) / modality)
    model = _new_model(modality, config, objective)
    processor = default_processor(config, tokenizer)
    if modality == "labs":
        processor.labs_columns = columns_of(rows["train"])
    collator = partial(COLLATORS[modality], processor, config, objective.mask_ratio)
    training_collator = EpochCollator(partial(collator, max_views=objective.max_views), arguments.seed)
    trainer = PretrainingTrainer(
        validation_collator=collator(training=False, seed=arguments.seed),
        model=model,
        args=_trainer_arguments(arguments, modality, scratch, progress),
        data_collator=training_collator,
        train_dataset=rows["train"],
        eval_dataset=rows["validation"],
        callbacks=[training_collator],
    )
    trainer.model_accepts_loss_kwargs = False  # the losses are means over the hidden parts of a batch
    trainer.train(resume_from_checkpoint=last_checkpoint(scratch))
    if not all(bool(torch.isfinite(weight).all()) for weight in model.parameters()):
        raise FloatingPointError(
            f"Weights of the {modality} encoder are not finite, nothing was saved: start over with resume: never and a "
            f"lower {modality}.learning_rate."
        )
    return model, trainer.state.log_history


class PretrainingTrainer(BaseTrainer):
    """A trainer with a second collator for validation: the same windows, views and masks in every epoch."""

    data_collator: Any
    one_gpu_a_process = False

    def __init__(self, *, validation_collator: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.validation_collator = validation_collator

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Make the validation data loader as the parent does, but with the validation collator."""
        training, self.data_collator = self.data_collator, self.validation_collator
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.data_collator = training


def _settings_of(arguments: PretrainArguments, modality: str, data_hash: str) -> dict[str, Any]:
    """Collect the settings that the encoder of a modality depends on, to compare them with those of an earlier run."""
    objective = asdict(arguments.objectives[modality])
    del objective["directory"]  # `data_hash` says which data it is
    return {
        "encoder": _encoder_settings(arguments.model, modality),
        modality: objective,
        "seed": arguments.seed,
        "data_hash": data_hash,
    }


def _encoder_settings(model: ModelArguments, modality: str) -> dict[str, Any]:
    """Collect the settings of the model that the encoder of a modality depends on, as JSON holds them.

    They hold the whole configuration of the encoder and not `size`, because another version of the package may give
    `size` another meaning.
    """
    name = f"{modality}_config"
    config = getattr(new_config(model), name).to_dict()
    settings = {name: {key: value for key, value in config.items() if key not in NOT_WEIGHTS}}
    settings = json.loads(json.dumps(settings, default=str))  # as it will be read back
    return settings | ({"tokenizer": model.tokenizer, "vocab_size": model.vocab_size} if modality == "labs" else {})


def _files_of_encoder(directory: Path) -> list[str]:
    """List the files of a pre-trained encoder in a directory, as regular expressions for `claim_directory`.

    The list is empty if there is no encoder.
    """
    saved = files_of_saved_model(directory)
    return [*saved, re.escape(PRETRAIN_RECORD)] if saved else []


def _claim_training_directory(directory: Path, settings: dict[str, Any], resume: str) -> None:
    """Write the settings of a pre-training into the directory of its checkpoints.

    With `resume` "never" the old directory is removed first.

    Raises:
        ValueError: If the directory holds a stopped run with different settings.
    """
    if resume == "never" and directory.exists():
        discard(directory)
    if (directory / SETTINGS).is_file() and read_json(directory / SETTINGS) != settings:
        raise ValueError(f"{directory} holds a pre-training of {OTHER_SETTINGS}")
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / SETTINGS, settings)


def _patients_with(rows: Dataset, modality: str) -> Dataset:
    """Return the rows whose patient has the modality, with the columns of this modality only."""
    column = PRESENCE_COLUMN[modality]
    values = rows.with_format(None).select_columns([column])[column]
    present = [index for index, value in enumerate(values) if (any(value) if modality == "ecg" else len(value or ()))]
    return rows.select(present).select_columns(list(COLUMNS[modality]))


def _new_model(modality: str, config: TgmmConfig, objective: ObjectiveArguments) -> PreTrainedModel:
    """Make the encoder of a modality with random weights and the head of its pre-training objective.

    Raises:
        ValueError: If the labs encoder is not of type bert.
    """
    if modality == "labs":
        if config.labs_config.model_type != "bert":
            raise ValueError(
                f"The labs encoder is of type {config.labs_config.model_type}, but masked language modelling is "
                "implemented for bert only: leave labs out, or change model.overrides.labs_config."
            )
        return BertForMaskedLM(cast(BertConfig, config.labs_config))
    encoder: Any = config.ecg_config if modality == "ecg" else config.echo_config
    if objective.mask_ratio is not None:
        encoder.mask_ratio = objective.mask_ratio
    return StMemForPreTraining(encoder) if modality == "ecg" else EchoMvitForPreTraining(encoder)


def _trainer_arguments(
    arguments: PretrainArguments, modality: str, directory: Path, progress: bool
) -> TrainingArguments:
    """Translate the settings of the encoder of a modality into the arguments of transformers' Trainer.

    `directory` is the directory of the checkpoints.
    """
    objective = arguments.objectives[modality]
    return TrainingArguments(
        output_dir=str(directory),
        num_train_epochs=objective.epochs,
        per_device_train_batch_size=objective.batch_size,
        per_device_eval_batch_size=objective.batch_size,
        optim="adamw_torch",
        learning_rate=objective.learning_rate,
        adam_beta2=objective.adam_beta2,
        weight_decay=objective.weight_decay,
        lr_scheduler_type="cosine",
        warmup_steps=objective.warmup_fraction,
        bf16=objective.precision == "bfloat16",
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
        label_names=["labels" if modality == "labs" else "noise"],  # otherwise validation has no loss
        report_to="none",
        disable_tqdm=not progress,
    )
