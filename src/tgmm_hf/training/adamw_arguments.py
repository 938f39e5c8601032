"""Settings of the optimisation that the trainings from one file share."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from tgmm_hf.training.settings_files import check_above_zero, check_warmup


@dataclass(frozen=True)
class AdamWArguments:
    """How the weights are updated: AdamW, with a learning rate that rises first and then falls to zero.

    The numbers are those of each family, which states them as defaults.

    Attributes:
        epochs: number of passes over the training split.
        batch_size: rows per process and step.
        learning_rate: highest learning rate.
        weight_decay: decoupled weight decay, not applied to biases and norms.
        accumulation_steps: number of steps whose gradients are averaged before the weights are updated.
        warmup_fraction: part of all steps with a rising learning rate.
        max_grad_norm: maximum norm of the gradient. 0 turns clipping off.
        precision: "auto" takes bfloat16 on a GPU that has it, else float32. "float32"; "bfloat16" for mixed precision.
        keep: which weights are saved: "best" saves the epoch with the lowest validation loss, "last" the last epoch.
        logging_steps: optimizer steps between two logged lines.
        logging: also log to "tensorboard" (beside the checkpoints) or to "trackio" (install it yourself).
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    accumulation_steps: int = 1
    warmup_fraction: float = 0.05
    max_grad_norm: float = 1.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    keep: Literal["best", "last"] = "best"
    logging_steps: int = 10
    logging: Literal["none", "tensorboard", "trackio"] = "none"

    schedule: ClassVar[Literal["linear", "cosine"]] = "cosine"

    def __post_init__(self) -> None:
        check_above_zero("optimisation", self, ("epochs", "batch_size", "accumulation_steps", "learning_rate"))
        check_warmup("optimisation.warmup_fraction", self.warmup_fraction)
