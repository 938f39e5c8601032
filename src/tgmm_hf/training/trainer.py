"""A thin `transformers.Trainer`: several tasks per step, logged loss components, validation under all subsets."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import EarlyStoppingCallback, TrainerCallback, TrainerState, TrainingArguments

from tgmm_hf.training.arguments import RunArguments
from tgmm_hf.training.base_trainer import shared_arguments
from tgmm_hf.training.run_directory import Run
from tgmm_hf.training.validating_trainer import ValidatingTrainer
from tgmm_hf.training.validation import validate
from tgmm_hf.utils.names import SLOT_NAMES


class EpochCollator(TrainerCallback):
    """The training collator. In every epoch it draws random numbers from the seed and the number of the epoch.

    Therefore a run that is resumed at the start of an epoch sees the same ECG windows as without the stop.

    Args:
        make_collator: Function of the keywords `training` and `seed` that returns a collator.
        seed: The seed of the run.
    """

    def __init__(self, make_collator: Callable[..., Callable[[Sequence[Any]], dict[str, Any]]], seed: int) -> None:
        self.make_collator, self.seed = make_collator, seed
        self._start(0)

    def __call__(self, rows: Sequence[Any]) -> dict[str, Any]:
        """Return the batch of these prepared rows, made by the collator of the current epoch."""
        return self.collator(rows)

    def on_epoch_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Make the collator of the epoch that begins. The Trainer calls this method."""
        self._start(round(state.epoch or 0))

    def _start(self, epoch: int) -> None:
        seed = int(np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0])
        self.collator = self.make_collator(training=True, seed=seed)


class TgmmTrainer(ValidatingTrainer):
    """Trainer of [`TgmmModel`] on the batches of `TgmmCollator`.

    It differs from its parent in three points. The model is called with all tasks at once. Loss components, fusion
    gates and the slots' attention are logged as means over the steps since the last line. Validation scores all seven
    subsets of modalities.

    Args:
        tasks: Names of the tasks to train.
        validation_collator: Collator with `training=False` (centre windows, ids kept).
        **kwargs: Arguments of the parent.
    """

    # The losses are means over their valid rows and ignore `num_items_in_batch`. Therefore the parent must divide them
    # by the number of accumulation steps, whatever it guesses from the signature of the model's forward.
    loss_is_scaled_for_ga = False

    def __init__(self, *, tasks: list[str], validation_collator: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tasks = tasks
        self.validation_collator = validation_collator

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Compute the weighted sum of the losses of all tasks on one batch. The Trainer calls this method.

        With `return_outputs` the result is (loss, output of the model). `num_items_in_batch` is not used.

        Raises:
            FloatingPointError: If the loss is not finite.
        """
        output = model(**inputs, task=self.tasks)
        self._check_finite(output)
        self._collect(output)
        return (output.loss, output) if return_outputs else output.loss

    def validation_metrics(self, model: Any, dataset: Any) -> dict[str, float]:
        """Compute the metrics of [`~tgmm_hf.training.validation.validate`] on prepared rows."""
        batch_size = self.args.per_device_eval_batch_size
        return validate(model, dataset, self.validation_collator, self.tasks, batch_size=batch_size)

    def _check_finite(self, output: Any) -> None:
        """Raise a FloatingPointError if the loss of a model's output is not finite, because the parent would go on."""
        if bool(torch.isfinite(output.loss)):
            return
        parts = {name: round(value.item(), 4) for name, value in output.losses.items()}
        broken = {name: value for name, value in parts.items() if not np.isfinite(value)} or parts
        raise self.not_finite(f"{output.loss.item()}: {broken}")

    def _collect(self, output: Any) -> None:
        """Add the losses and the mean gates of one step to the sums for the next log line.

        The names are "task/component", "gate/subset/modality" and "gate_spread/subset/modality", the standard deviation
        over the patients of a step.
        """
        for name in self.tasks:
            task_output = output.by_task[name]
            for component, value in task_output.losses.items():
                self.add_part(f"{name}/{component}", value.detach())
            for subset, by_modality in (task_output.gates or {}).items():
                present = task_output.slot_mask[:, SLOT_NAMES.index(subset)]
                for modality, gate in by_modality.items():
                    if bool(present.any()):
                        self.add_part(f"gate/{subset}/{modality}", gate.detach()[present].mean())
                        self.add_part(f"gate_spread/{subset}/{modality}", gate.detach()[present].std(correction=0))
            self._collect_attention(name, task_output)

    def _collect_attention(self, task: str, output: Any) -> None:
        """Add the share of the attention that each slot gets, over the patients who have the slot.

        The names are "attention/task/slot". A linear response has no attention.
        """
        if output.candidate_attentions is None or output.candidate_attentions.shape[-1] != len(SLOT_NAMES):
            return
        shares = output.candidate_attentions.detach().mean(1)
        for column, slot in enumerate(SLOT_NAMES):
            present = output.slot_mask[:, column]
            if bool(present.any()):
                self.add_part(f"attention/{task}/{slot}", shares[present, column].mean())


def trainer_arguments(run: RunArguments, *, use_cpu: bool) -> TrainingArguments:
    """Translate the settings of a run into the arguments of transformers' Trainer.

    Args:
        run: The settings of the run.
        use_cpu: True if there is no GPU.

    Raises:
        ValueError: If the precision is float16 and there is no GPU.
    """
    optimisation = run.optimisation
    if use_cpu and optimisation.precision == "float16":
        raise ValueError("optimisation.precision is float16, which needs a GPU: on a CPU use bfloat16 or float32.")
    return TrainingArguments(
        **shared_arguments(run),
        **optimiser_arguments(run),
        bf16=optimisation.precision == "bfloat16",
        fp16=optimisation.precision == "float16",
        torch_compile=optimisation.torch_compile,
        use_cpu=use_cpu,
        activation_checkpointing=optimisation.gradient_checkpointing,
        metric_for_best_model=optimisation.selection,
        greater_is_better=optimisation.selection == "score",
    )


def optimiser_arguments(run: RunArguments) -> dict[str, Any]:
    """Translate the settings that say how the weights are updated: argument of `TrainingArguments` -> value.

    They are a function of their own, because a search sets them anew for each trial.
    """
    optimisation = run.optimisation
    plateau = optimisation.schedule == "plateau"
    plateau_settings = {
        "mode": "max" if optimisation.selection == "score" else "min",
        "factor": optimisation.plateau_factor,
        "patience": optimisation.plateau_patience,
    }
    return {
        "num_train_epochs": optimisation.epochs,
        "per_device_train_batch_size": optimisation.batch_size,
        "per_device_eval_batch_size": optimisation.batch_size,
        "gradient_accumulation_steps": optimisation.accumulation_steps,
        "optim": "adafactor" if optimisation.optimizer == "adafactor" else "adamw_torch",
        "learning_rate": optimisation.learning_rate,
        "weight_decay": optimisation.weight_decay,
        "lr_scheduler_type": "reduce_lr_on_plateau" if plateau else "cosine",
        "lr_scheduler_kwargs": plateau_settings if plateau else {},
        "warmup_steps": optimisation.warmup_fraction,
        "max_grad_norm": optimisation.max_grad_norm,
    }


def early_stopping(run: Run) -> list[TrainerCallback]:
    """Return a list with the callback for early stopping; [] if the run never stops early."""
    patience = run.optimisation.early_stopping_patience
    return [] if patience is None else [EarlyStoppingCallback(early_stopping_patience=patience)]
