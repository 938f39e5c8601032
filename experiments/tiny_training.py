"""What the scripts of this folder share: one recipe for small trainings, and output."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from tgmm_hf import TgmmConfig, TgmmModel


@dataclass(frozen=True)
class Recipe:
    """AdamW with one warm-up and one cosine. The defaults are those of `configs/learn.yaml`.

    Attributes:
        learning_rate: Highest learning rate.
        weight_decay: Decoupled weight decay.
        max_grad_norm: Maximum norm of the gradient; None does not clip.
        warmup: Part of all steps with a rising learning rate.
    """

    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    max_grad_norm: float | None = 1.0
    warmup: float = 0.05


class Descent:
    """The optimizer and the schedule of one small training.

    Args:
        parameters: The parameters to train.
        steps: Number of steps of the whole training.
        recipe: Learning rate, decay and clipping.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], steps: int, recipe: Recipe | None = None) -> None:
        self.parameters, self.recipe = list(parameters), recipe or Recipe()
        rate = self.recipe.learning_rate
        self.optimizer = torch.optim.AdamW(self.parameters, lr=rate, weight_decay=self.recipe.weight_decay)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, rate, total_steps=steps, pct_start=self.recipe.warmup
        )

    def step(self, loss: torch.Tensor) -> None:
        """Take one step down the gradient of a loss."""
        self.optimizer.zero_grad()
        loss.backward()
        if self.recipe.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.max_grad_norm)
        self.optimizer.step()
        self.schedule.step()


def new_model(config: TgmmConfig) -> TgmmModel:
    """Make a model with random weights in training mode. Its texts start from the word embeddings."""
    model = TgmmModel(config).train()
    model.initialise_texts()
    return model


def write(line: str) -> None:
    """Write a line to the standard output."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
