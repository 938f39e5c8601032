"""A training of MEIT: instruction file -> tokenizer, processor and model -> training -> saved model."""

import logging
from collections.abc import Mapping
from typing import Any

from transformers import TrainingArguments, set_seed

from tgmm_hf.training.base_trainer import check_result, record_of_best
from tgmm_hf.training.checkpoints import agree_on_checkpoint, room_of_checkpoints
from tgmm_hf.training.instruction_data import patients_by_split, processed_once, read_rows
from tgmm_hf.training.processes import fail_together
from tgmm_hf.training.reporter_arguments import ReporterRunArguments
from tgmm_hf.training.reporter_data import (
    ReportCollator,
    make_splits,
    training_texts,
)
from tgmm_hf.training.reporter_encoder import train_encoder
from tgmm_hf.training.reporter_model import build_reporter
from tgmm_hf.training.reporter_parts import (
    add_adapters,
    check_counts,
    check_moved,
    count_parts,
    describe_counts,
    sums_of_parts,
    without_adapters,
)
from tgmm_hf.training.reporter_trainer import ReporterTrainer, reporter_trainer_arguments
from tgmm_hf.training.run_directory import FINISHED, Run, begin_run, claim_directories
from tgmm_hf.training.saving import save_repository
from tgmm_hf.training.validated_run import check_batches, finished_record, only_one_run
from tgmm_hf.utils.code_revision import code_revision
from tgmm_hf.utils.digests import file_digest
from tgmm_hf.utils.output_lock import check_room

logger = logging.getLogger(__name__)


def train_reporter(run: ReporterRunArguments) -> dict[str, Any]:
    """Train a MEIT model and save it to `run.output` with its processor, its code and `run.json`.

    The same call continues a stopped run from its last checkpoint and gives the same weights as a run that was not
    stopped. A finished run is not trained again. Adapters are merged into the saved weights.

    Args:
        run: The settings of the run.

    Returns:
        The content of `run.json`: settings, seed, data hash, versions, sizes and history.

    Raises:
        FileExistsError: If `run.output` holds anything but a saved model, or contains data that must be kept.
        FileNotFoundError: If there is no instruction file.
        ValueError: If data and model do not fit together, if `run.output` or its checkpoints have other settings, or
            if the training did not train what its settings say.
        FloatingPointError: If a loss or a weight is no longer finite. No model is saved then.
        OSError: If the disk is full, or the output cannot be written. The last whole checkpoint stays.
        TgmmError: If a row of the instruction file is wrong, or another run of this machine writes the output.
    """
    return only_one_run(_train, run)


def _train(run: ReporterRunArguments) -> dict[str, Any]:
    """Train a model as `train_reporter` does, without the lock."""
    claim_directories(run)
    arguments = reporter_trainer_arguments(run)  # first, as it starts the process group
    rows, data_hash = read_rows(run.data.file, in_words=True), f"sha256:{file_digest(run.data.file)}"
    set_seed(run.seed)
    model, processor = build_reporter(run.model, training_texts(rows))
    if begin_run(run, arguments.should_save, data_hash, patients_by_split(rows), run.model.ecg_sources):
        return finished_record(run)
    ecgs = processed_once(run, rows, processor.feature_extractor, arguments.should_save)
    splits, data_counts = make_splits(rows, ecgs, processor, run.data.max_tokens)
    check_batches(run, arguments, len(splits["train"]), "ECGs")
    checkpoint = agree_on_checkpoint(run.training_directory, arguments.process_index == 0)
    first_stage = {}
    if run.optimisation.encoder_epochs:
        first_stage = {"encoder": train_encoder(model, run, rows, ecgs, is_done=checkpoint is not None)}
    trained: Any = model if run.model.lora is None else add_adapters(model, run.model.lora)
    counts = count_parts(trained)
    check_counts(counts, with_adapters=run.model.lora is not None)
    further = {"data": data_counts, "parts": counts, **first_stage}
    collator = ReportCollator(processor.tokenizer)
    return fit_and_save(run, trained, processor, arguments, splits, collator, checkpoint, data_hash, further)


def fit_and_save(  # noqa: PLR0913 - all that a family makes before its training
    run: Run,
    trained: Any,
    processor: Any,
    arguments: TrainingArguments,
    splits: Mapping[str, Any],
    collator: Any,
    checkpoint: str | None,
    data_hash: str,
    further: Mapping[str, Any],
) -> dict[str, Any]:
    """Train a model of any family that answers in words, check what was trained, and save it.

    Args:
        run: The settings of the run.
        trained: The model, with its adapters.
        processor: Its processor.
        arguments: Of transformers' Trainer.
        splits: Split -> rows.
        collator: Makes a batch of rows.
        checkpoint: Directory to continue from; None starts.
        data_hash: Digest of the data.
        further: Entries of the run record, with "parts", the result of `count_parts`.

    Returns:
        The content of `run.json`.
    """
    logger.warning("%s", describe_counts(further["parts"]))
    with fail_together():
        check_room(run.training_directory, room_of_checkpoints(trained, run.training_directory))
    before = sums_of_parts(trained)
    trainer = ReporterTrainer(
        ecg_learning_rate=getattr(run.optimisation, "ecg_learning_rate", None),
        model=trained,
        args=arguments,
        data_collator=collator,
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    result = trainer.accelerator.unwrap_model(trainer.model)
    after = sums_of_parts(result)
    with fail_together():
        check_moved(before, after)
        run_record = record_of_best(run, data_hash, trainer, checkpoint) | dict(further)
        if trainer.is_world_process_zero():
            check_result(result, trainer)
            model = without_adapters(result)
            run_record["code_revision"] = code_revision(model, processor)
            model.eval()
            save_repository(model, processor, run.output, run_record, keep=run.inputs)
            (run.training_directory / FINISHED).touch()
    return run_record
