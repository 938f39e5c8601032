"""A thin `transformers.Trainer` for MEIT and Heartcare: learning rates of the parts, and finite losses."""

from typing import Any

import torch
from transformers import TrainingArguments

from tgmm_hf.training.base_trainer import BaseTrainer, adamw_arguments
from tgmm_hf.training.reporter_parts import trained_part
from tgmm_hf.training.run_directory import Run

ECG_PARTS = ("ecg_encoder", "projector")
"""Parts that `optimisation.ecg_learning_rate` is for."""


class ReporterTrainer(BaseTrainer):
    """Trainer of the models that answer in words.

    Args:
        ecg_learning_rate: Highest learning rate of the ECG encoder and the projector. None takes that of the rest.
        **kwargs: Arguments of the parent.
    """

    def __init__(self, *, ecg_learning_rate: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ecg_learning_rate = ecg_learning_rate

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Make AdamW with up to four groups of weights: with and without weight decay, of the ECG parts and others."""
        if self.optimizer is None:
            source = self.model if model is None else model
            rates = {True: self.ecg_learning_rate or self.args.learning_rate, False: self.args.learning_rate}
            decayed = set(self.get_decay_parameter_names(source))
            groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
            for name, weight in source.named_parameters():
                if weight.requires_grad:
                    key = (trained_part(name.removeprefix("module.")) in ECG_PARTS, name in decayed)
                    groups.setdefault(key, []).append(weight)
            self.optimizer = torch.optim.AdamW(
                [
                    {"params": weights, "lr": rates[of_ecg], "weight_decay": self.args.weight_decay * decays}
                    for (of_ecg, decays), weights in groups.items()
                ],
                lr=self.args.learning_rate,
            )
        return self.optimizer

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Make the validation data loader as the parent does, with a last batch that is not complete."""
        drop_last, self.args.dataloader_drop_last = self.args.dataloader_drop_last, False
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.args.dataloader_drop_last = drop_last

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Compute the loss as the parent does.

        Raises:
            FloatingPointError: If it is not finite.
        """
        result = super().compute_loss(model, inputs, *args, **kwargs)
        loss = result[0] if isinstance(result, tuple) else result
        if not bool(torch.isfinite(loss)):
            raise self.not_finite(str(loss.item()))
        return result


def reporter_trainer_arguments(run: Run, drop_last: bool = True) -> TrainingArguments:
    """Translate the settings of a run into the arguments of transformers' Trainer.

    Args:
        run: The settings.
        drop_last: Leave out a last batch that is not complete. MEIT needs it, because a batch of one ECG has no
            deviation that a batch norm could use.
    """
    return TrainingArguments(**adamw_arguments(run), dataloader_drop_last=drop_last, prediction_loss_only=True)
