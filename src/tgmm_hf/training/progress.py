"""The progress bar of a training, and one readable line for every line of figures that is logged."""

from collections.abc import Mapping
from typing import Any

from transformers import ProgressCallback, Trainer

FIGURES = {"_auc": "AUC", "_c_index": "C-index", "_lrap_3": "LRAP of 3"}
"""End of the name of a validation metric -> its name in a line."""


class ReadableProgress(ProgressCallback):
    """The progress bar of transformers. It prints lines for people in place of dictionaries with up to 30 entries.

    All figures are in the history of `run.json`.
    """

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **_: Any) -> None:
        """Write a line above the progress bar. The Trainer calls this method."""
        line = log_line(logs or {}, state.global_step, state.max_steps)
        if line and state.is_world_process_zero and self.training_bar is not None:
            self.training_bar.write(line)


def print_readable_lines(trainer: Trainer) -> None:
    """Let a trainer print readable lines. A trainer without a progress bar, or with a notebook's, does not change."""
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(ReadableProgress)


def log_line(logs: Mapping[str, float], step: int, steps: int) -> str:
    """Write a line of logged figures as text.

    Args:
        logs: Figures of some training steps ("loss", ...) or of a validation ("eval_loss", ...).
        step: Number of the step.
        steps: Number of all steps.

    Returns:
        The text; "" for the totals that the Trainer logs at its end.
    """
    place = f"step {step} of {steps}, epoch {logs.get('epoch', 0):.2f}"
    seconds = [f"{logs['seconds']:.0f} s"] if "seconds" in logs else []
    if "loss" in logs:
        rate = [f"learning rate {logs['learning_rate']:.2g}"] if "learning_rate" in logs else []
        return f"{place}: loss {logs['loss']:.4f}, " + ", ".join([*rate, *seconds])
    if "eval_loss" not in logs:
        return ""
    figures = [f"loss {logs['eval_loss']:.4f}"]
    for name, value in logs.items():
        for end, title in FIGURES.items():
            if name.endswith(end):
                figures.append(f"{name.removeprefix('eval_').removesuffix(end)} {title} {value:.3f}")
    figures += [f"score {logs['eval_score']:.3f}"] if "eval_score" in logs else []
    figures += [f"mean AUROC {logs['eval_auroc']:.3f}"] if "eval_auroc" in logs else []
    return f"{place}: validation " + ", ".join([*figures, *seconds])
