"""A training run: prepared data -> tokenizer, processor and model -> training -> baseline hazards -> saved model."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from datasets import Dataset, DatasetDict
from transformers import set_seed

from tgmm_hf.data.collator import TgmmCollator
from tgmm_hf.data.prepared_fit import check_prepared
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.pipeline_binding import weights_id
from tgmm_hf.pipeline_tgmm import code_revision
from tgmm_hf.processing_tgmm import TgmmProcessor
from tgmm_hf.training.adapters import add_adapters, merge_adapters
from tgmm_hf.training.arguments import RunArguments
from tgmm_hf.training.base_trainer import check_result, common_record
from tgmm_hf.training.checkpoints import agree_on_checkpoint, room_of_checkpoints
from tgmm_hf.training.frozen_features_cache import FrozenFeaturesCache
from tgmm_hf.training.frozen_features_collator import CACHED_COLUMNS, FrozenFeaturesCollator
from tgmm_hf.training.processes import fail_together
from tgmm_hf.training.run_directory import FINISHED, begin_run, claim_directories
from tgmm_hf.training.saving import save_repository
from tgmm_hf.training.starting_model import build
from tgmm_hf.training.stored_hazards import store_baseline_hazards
from tgmm_hf.training.stored_inputs import store_training_inputs
from tgmm_hf.training.stored_measures import store_measures, store_training_values
from tgmm_hf.training.stored_sets import store_prediction_sets
from tgmm_hf.training.stored_thresholds import store_thresholds
from tgmm_hf.training.trained_answers import TrainedAnswers
from tgmm_hf.training.trainer import EpochCollator, TgmmTrainer, early_stopping, trainer_arguments
from tgmm_hf.training.training_data import SPLITS, check_fit, check_validation, read_data
from tgmm_hf.training.validated_run import finished_record, only_one_run
from tgmm_hf.utils.output_lock import check_room


@dataclass(frozen=True)
class TrainingParts:
    """The parts that a trainer needs.

    Attributes:
        model: The model before training.
        processor: Its processor.
        training_collator: Makes training batches.
        validation_collator: Makes validation batches.
        rows: "train" and "validation" -> prepared rows.
        cache: Cache of frozen features, None without a cache.
    """

    model: TgmmModel
    processor: TgmmProcessor
    training_collator: EpochCollator
    validation_collator: TgmmCollator
    rows: dict[str, Dataset]
    cache: FrozenFeaturesCache | None

    def fill_cache(self, prepared: DatasetDict, accelerator: Accelerator, workers: int) -> None:
        """Compute the features that the cache lacks, if there is a cache. Every process has to call this.

        Args:
            prepared: The prepared splits with all columns.
            accelerator: The process group and the precision.
            workers: Number of worker processes that read rows.
        """
        if self.cache is not None:
            for split in SPLITS:
                training = split == "train"
                self.cache.fill(prepared[split], self.model, self.processor, accelerator, workers, training)


def train(run: RunArguments) -> dict[str, Any]:
    """Train a model and save it to `run.output` with its processor, its code and `run.json`.

    The same call continues a stopped run from its last checkpoint and gives the same weights as a run that was not
    stopped. A finished run is not trained again.

    Args:
        run: The settings of the run.

    Returns:
        The content of `run.json`: settings, seed, data hash, versions, sizes and history.

    Raises:
        FileExistsError: If `run.output` holds anything but a saved model, or contains data that must be kept.
        FileNotFoundError: If there is no prepared data set.
        ValueError: If data, model and tasks do not fit together, if `run.output` or its checkpoints have other
            settings, or if none of the checkpoints can be read.
        FloatingPointError: If a loss or a weight is no longer finite. No model is saved then.
        OSError: If the disk is full, or the output cannot be written. The last whole checkpoint stays.
        TgmmError: If another run of this machine writes the output.
    """
    return only_one_run(_train, run)


def _train(run: RunArguments) -> dict[str, Any]:
    """Train a model as `train` does, without the lock."""
    claim_directories(run)
    arguments = trainer_arguments(run, use_cpu=not torch.cuda.is_available())  # first, as it starts the process group
    prepared, data = read_data(run.data.directory)
    parts = assemble(run, prepared, data)
    splits = {split: prepared[split] for split in SPLITS}
    if begin_run(run, arguments.should_save, data["data_hash"], splits, run.model.sources):
        return finished_record(run)
    with fail_together():
        check_room(run.training_directory, room_of_checkpoints(parts.model, run.training_directory))
    trainer = TgmmTrainer(
        tasks=list(run.tasks),
        validation_collator=parts.validation_collator,
        model=parts.model,
        args=arguments,
        data_collator=parts.training_collator,
        train_dataset=parts.rows["train"],
        eval_dataset=parts.rows["validation"],
        callbacks=[parts.training_collator, *early_stopping(run)],
    )
    parts.fill_cache(prepared, trainer.accelerator, run.data.workers)
    checkpoint = agree_on_checkpoint(run.training_directory, trainer.is_world_process_zero())
    trainer.train(resume_from_checkpoint=checkpoint)
    run_record = _run_record(run, data["data_hash"], trainer, checkpoint)
    model = trainer.whole_model()
    with fail_together():
        if trainer.is_world_process_zero():
            check_result(model, trainer)
            merge_adapters(model)
            model.eval()
            answers = TrainedAnswers(
                model=model,
                weights=weights_id(model),
                tasks=list(run.tasks),
                rows=parts.rows,
                collator=parts.validation_collator,
                batch_size=run.optimisation.batch_size,
            )
            store_baseline_hazards(answers)
            store_prediction_sets(answers)
            store_thresholds(answers)
            store_measures(answers)
            store_training_inputs(parts.processor, splits, answers.weights)
            save_repository(model, parts.processor, run.output, run_record, keep=run.inputs)
            (run.training_directory / FINISHED).touch()
    return run_record


def assemble(run: RunArguments, prepared: DatasetDict, data: dict[str, Any]) -> TrainingParts:
    """Make the parts that a trainer of this run needs. Sets the random seed of the process to the seed of the run.

    Args:
        run: The settings of the run.
        prepared: The prepared splits.
        data: The content of `prepare.json`.

    Raises:
        ValueError: If data, model and tasks do not fit together.
    """
    set_seed(run.seed)
    model, processor = build(run, prepared)
    check_fit(model.config, data, prepared, list(run.tasks))
    check_prepared(model.config, processor, data)
    check_validation(model.config, prepared, list(run.tasks))
    store_training_values(model.config, prepared["train"], list(run.tasks))
    model.freeze_encoders(run.model.trainable_layers)
    if run.model.lora is not None:
        add_adapters(model, run.model.lora)
    cache = FrozenFeaturesCache.open(run, model, processor, data["data_hash"]) if run.data.cache else None
    collator_of: Callable[..., TgmmCollator] = (
        partial(FrozenFeaturesCollator, cache)
        if cache
        else partial(TgmmCollator, cell_dropout=run.data.cell_dropout, part_dropout=run.data.part_dropout)
    )
    make_collator = partial(collator_of, processor, model.config)
    return TrainingParts(
        model=model,
        processor=processor,
        training_collator=EpochCollator(partial(make_collator, max_views=run.data.max_views), run.seed),
        validation_collator=make_collator(training=False, seed=run.seed),
        rows={split: prepared[split].remove_columns(CACHED_COLUMNS) if cache else prepared[split] for split in SPLITS},
        cache=cache,
    )


def _run_record(run: RunArguments, data_hash: str, trainer: TgmmTrainer, checkpoint: str | None) -> dict[str, Any]:
    """Collect the content of `run.json`. `checkpoint` is the checkpoint that the run continued from, or None."""
    model, state = trainer.accelerator.unwrap_model(trainer.model), trainer.state
    parameters, selection = list(model.parameters()), run.optimisation.selection
    step, figure = state.best_global_step, state.best_metric
    if run.optimisation.keep == "last":
        last = [line for line in state.log_history if "eval_loss" in line][-1]
        step, figure = state.global_step, last[f"eval_{selection}"]
    return {
        **common_record(run, data_hash, trainer, checkpoint),
        "code_revision": code_revision(model, trainer.validation_collator.processor),
        "parameters": sum(p.numel() for p in parameters),
        "trainable_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        "kept_step": step,
        "kept_metric": {selection: figure},
    }
