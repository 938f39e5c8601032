"""What every trainer of this package adds to `transformers.Trainer`: readable lines, seconds, a full disk in words."""

import errno
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from tgmm_hf.training.checkpoints import WEIGHTS, holds, is_disk_full
from tgmm_hf.training.progress import print_readable_lines
from tgmm_hf.training.run_directory import Run
from tgmm_hf.utils.versions import package_versions


class BaseTrainer(Trainer):
    """A Trainer that prints readable lines, logs the seconds of training and names a full disk.

    Args:
        **kwargs: Arguments of the parent.
    """

    one_gpu_a_process = True
    """Several GPUs in one process are refused."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.args.n_gpu > 1 and self.one_gpu_a_process:
            raise ValueError(
                f"{self.args.n_gpu} GPUs are visible to one process: start with `accelerate launch "
                "scripts/train_tgmm.py CONFIG.yaml`, or let it see one (CUDA_VISIBLE_DEVICES=0)."
            )
        print_readable_lines(self)
        self._began: float | None = None

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as the parent does, and log the seconds of training, with the seconds before a stop of the run."""
        self._began = time.monotonic()
        try:
            return super().train(*args, **kwargs)
        finally:
            self._began = None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log a line of figures as the parent does. "seconds", the time of training so far, is added to every line."""
        if self._began is not None:
            now = time.monotonic()
            logs["seconds"] = round(seconds_of(self.state.log_history) + now - self._began, 1)
            self._began = now
        super().log(logs, start_time)

    def not_finite(self, details: str) -> FloatingPointError:
        """Return the error of a loss that is not finite. `details` says which loss it is."""
        return FloatingPointError(
            f"The loss of step {self.state.global_step + 1} is {details}. This step was not saved. The same command "
            "would fail at the same step: start over with resume: never and a lower optimisation.learning_rate, or "
            "precision: float32."
        )

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save a checkpoint as the parent does.

        Raises:
            OSError: If the disk is full. The unfinished checkpoint is removed first.
        """
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError, SafetensorError) as error:
            unfinished = Path(self._get_output_dir(trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            full = is_disk_full(error, unfinished.parent)
            shutil.rmtree(unfinished, ignore_errors=True)
            if not full:
                raise
            raise OSError(
                errno.ENOSPC,
                "The disk is full: make room and run the same command again. It continues from the checkpoint before",
                str(unfinished),
            ) from error


def shared_arguments(run: Run) -> dict[str, Any]:
    """Collect the arguments of transformers' Trainer that trainings of every family share."""
    optimisation = run.optimisation
    return {
        "output_dir": str(run.training_directory),
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "save_total_limit": 2,
        "load_best_model_at_end": optimisation.keep == "best",
        "restore_callback_states_from_checkpoint": True,
        "logging_steps": optimisation.logging_steps,
        "seed": run.seed,
        "data_seed": run.seed,
        "dataloader_num_workers": run.data.workers,
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "ddp_find_unused_parameters": True,
        "report_to": optimisation.logging,
        "disable_tqdm": False,
    }


def adamw_arguments(run: Run) -> dict[str, Any]:
    """Collect the arguments of transformers' Trainer of a run whose `optimisation` is an [`AdamWArguments`].

    The best epoch is the one with the lowest validation loss.
    """
    optimisation = run.optimisation
    return {
        **shared_arguments(run),
        "num_train_epochs": optimisation.epochs,
        "per_device_train_batch_size": optimisation.batch_size,
        "per_device_eval_batch_size": optimisation.batch_size,
        "gradient_accumulation_steps": optimisation.accumulation_steps,
        "optim": "adamw_torch",
        "learning_rate": optimisation.learning_rate,
        "weight_decay": optimisation.weight_decay,
        "lr_scheduler_type": optimisation.schedule,
        "warmup_steps": optimisation.warmup_fraction,
        "max_grad_norm": optimisation.max_grad_norm,
        "bf16": takes_bfloat16(optimisation.precision),
        "use_cpu": not torch.cuda.is_available(),
        "metric_for_best_model": "loss",
        "greater_is_better": False,
    }


def takes_bfloat16(precision: str) -> bool:
    """Tell whether a training computes in bfloat16. The precision "auto" takes it on a GPU that has it."""
    if precision == "auto":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return precision == "bfloat16"


def seconds_of(history: Sequence[Mapping[str, float]]) -> float:
    """Return the seconds of a training from its logged lines, over all its starts; 0 if no line has them."""
    return next((line["seconds"] for line in reversed(history) if "seconds" in line), 0.0)


def check_result(model: torch.nn.Module, trainer: Trainer) -> None:
    """Check the trained weights before they are saved.

    Raises:
        ValueError: If the checkpoint of the best epoch has no weights any more.
        FloatingPointError: If a weight is not finite.
    """
    best = trainer.state.best_model_checkpoint
    if trainer.args.load_best_model_at_end and best is not None and not holds(Path(best), WEIGHTS):
        raise ValueError(f"The weights of the best epoch, {best}, are gone: start over with resume: never.")
    broken = [name for name, tensor in model.state_dict().items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise FloatingPointError(
            f"{len(broken)} weights are not finite after training, among them {broken[0]}: no model is saved. Start "
            "over with resume: never and a lower optimisation.learning_rate, or precision: float32."
        )


def common_record(run: Run, data_hash: str, trainer: Trainer, checkpoint: str | None) -> dict[str, Any]:
    """Collect what `run.json` holds of a training of any family.

    Args:
        run: The settings of the run.
        data_hash: Hash of the data.
        trainer: The trainer after the training.
        checkpoint: The checkpoint that the run continued from, or None.
    """
    return {
        "run": run.to_dict(),
        "seed": trainer.args.seed,
        "data_hash": data_hash,
        "processes": trainer.args.world_size,
        "epochs": trainer.state.epoch,
        "seconds": seconds_of(trainer.state.log_history),
        "resumed_from": None if checkpoint is None else Path(checkpoint).name,
        "versions": package_versions(),
        "history": trainer.state.log_history,
    }


def record_of_best(run: Run, data_hash: str, trainer: Trainer, checkpoint: str | None) -> dict[str, Any]:
    """Collect the content of `run.json` for a training whose best epoch is chosen by one validation metric.

    The metric is `metric_for_best_model` of the trainer, the loss without one. For the arguments see [`common_record`].
    """
    state, parameters = trainer.state, list(trainer.model.parameters())
    metric = (trainer.args.metric_for_best_model or "loss").removeprefix("eval_")
    step, value = state.best_global_step, state.best_metric
    if run.optimisation.keep == "last":
        name = f"eval_{metric}"
        step, value = state.global_step, [line[name] for line in state.log_history if name in line][-1]
    return {
        **common_record(run, data_hash, trainer, checkpoint),
        "parameters": sum(p.numel() for p in parameters),
        "trainable_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        "precision": "bfloat16" if trainer.args.bf16 else "float32",
        "kept_step": step,
        "kept_metric": {metric: value},
    }
