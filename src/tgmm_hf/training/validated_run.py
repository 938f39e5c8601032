"""What trainings share: one run at a time, the record of a finished run, and the frame of a `ValidatingTrainer`."""

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

from transformers import TrainingArguments

from tgmm_hf.training.base_trainer import check_result, record_of_best
from tgmm_hf.training.checkpoints import agree_on_checkpoint, room_of_checkpoints
from tgmm_hf.training.processes import fail_together
from tgmm_hf.training.run_directory import FINISHED, Run
from tgmm_hf.training.saving import RUN_RECORD, save_repository
from tgmm_hf.training.validating_trainer import ValidatingTrainer
from tgmm_hf.utils.code_revision import code_revision
from tgmm_hf.utils.files import read_json
from tgmm_hf.utils.output_lock import check_room, only_run

logger = logging.getLogger(__name__)

AnyRun = TypeVar("AnyRun", bound=Run)


def only_one_run(train: Callable[[AnyRun], dict[str, Any]], run: AnyRun) -> dict[str, Any]:
    """Call `train(run)` while no other run of this machine writes `run.output`."""
    # The first process locks for all processes that a launcher started.
    with only_run(run.output) if int(os.environ.get("RANK", "0")) == 0 else nullcontext():
        return train(run)


def finished_record(run: Run) -> dict[str, Any]:
    """Return the content of `run.json` of a run that is finished, and say so."""
    logger.warning("%s is finished, with these settings and data: nothing was trained.", run.output)
    return dict(read_json(Path(run.output) / RUN_RECORD))


def check_batches(run: Run, arguments: TrainingArguments, number: int, unit: str) -> None:
    """Refuse a training split that is smaller than one batch, because an incomplete batch is left out.

    Args:
        run: The settings of the run.
        arguments: Of transformers' Trainer.
        number: Number of rows of the training split.
        unit: Name of the rows in the message, such as "ECGs".

    Raises:
        ValueError: If the split has fewer rows than a step of all processes takes.
    """
    batch = run.optimisation.batch_size * arguments.world_size
    if number < batch:
        raise ValueError(
            f"The train split has {number} {unit} and a step takes {batch} (optimisation.batch_size x processes): set "
            "a smaller batch_size."
        )


def fit_check_save(
    run: Run, trainer: ValidatingTrainer, processor: Any, data_hash: str, further: Mapping[str, Any]
) -> dict[str, Any]:
    """Train, check the trained weights, and save the model with its processor, its code and `run.json`.

    The same call continues a stopped run from its last checkpoint.

    Args:
        run: The settings of the run.
        trainer: The trainer, which holds the model that the training starts from.
        processor: The processor, or the feature extractor, that is saved with the model.
        data_hash: Digest of the data.
        further: Entries of the run record.

    Returns:
        The content of `run.json`.
    """
    model = trainer.model
    with fail_together():
        check_room(run.training_directory, room_of_checkpoints(model, run.training_directory))
    checkpoint = agree_on_checkpoint(run.training_directory, trainer.is_world_process_zero())
    trainer.train(resume_from_checkpoint=checkpoint)
    result = trainer.whole_model()
    with fail_together():
        if trainer.is_world_process_zero():
            check_result(result, trainer)
        record = record_of_best(run, data_hash, trainer, checkpoint)
        record |= {"code_revision": code_revision(model, processor), **further}
        if trainer.is_world_process_zero():
            save_repository(result.eval(), processor, run.output, record, keep=run.inputs)
            (run.training_directory / FINISHED).touch()
    return record
