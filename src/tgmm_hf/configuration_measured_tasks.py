"""Settings of the kinds of task without candidates: `regression` (a number) and `multilabel` (several findings).

    regression      unit, range                      what the number is, and between which values it can lie
                    loss                             "huber", or "gaussian_nll" (then each patient has a deviation too)
                    cut_points                       values such as 40 and 50, at which patients are told apart
                    center, scale                    of the training patients, `tgmm train` fills them in
    multilabel      findings                         names of the findings, each present, absent or unknown
    both            set_levels                       levels of the intervals (regression)

A setting that `tgmm train` writes is never edited by hand.
"""

from typing import Any

MEASURED_KINDS = ("regression", "multilabel")
"""Kinds that a linear head answers (decision 208)."""
LOSSES = ("huber", "gaussian_nll")
"""Losses of a regression."""
INTERVALS_KEY = "prediction_intervals"
"""Key of a regression: {"subsets": {subset: {"n", "half_widths": {level: w}}}, "fitted_on", "weights"}."""
CALIBRATION_KEY = "finding_calibration"
"""Key of a multilabel: {"subsets": {subset: {finding: {"threshold", "temperature", ...}}}, "fitted_on", "weights"}."""
TRAINING_VALUES_KEY = "training_values"
"""Key of a regression: {"n", "mean", "median"} of the training patients, the controls of an evaluation."""

MEASURED_KEYS = (
    *("unit", "range", "loss", "cut_points", "center", "scale", "findings"),
    *(INTERVALS_KEY, CALIBRATION_KEY, TRAINING_VALUES_KEY),
)
"""Keys of a task that only these kinds have."""


def check_measured_task(name: str, task: dict[str, Any]) -> None:
    """Refuse a regression or multilabel that cannot be run, and fill in missing settings, in place.

    Args:
        name: name of the task, for messages.
        task: settings of the task, whose types were checked.

    Raises:
        ValueError: on candidates or loss weights, on missing settings, or on a cut point outside the range.
    """
    if task["candidates"] or task.get("loss_weights"):
        raise ValueError(
            f"Task {name!r} is a {task['kind']}: it has no candidates and no loss_weights. Leave them out."
        )
    needed = ("unit", "range") if task["kind"] == "regression" else ("findings",)
    if missing := [key for key in needed if key not in task]:
        raise ValueError(f"Task {name!r} is a {task['kind']} and lacks {', '.join(missing)}.")
    if task["kind"] == "multilabel":
        return
    if task.setdefault("loss", "huber") not in LOSSES:
        raise ValueError(f"loss of task {name!r} must be one of {list(LOSSES)}, got {task['loss']!r}.")
    low, high = task["range"]
    if outside := [cut for cut in task.setdefault("cut_points", []) if not low < cut < high]:
        raise ValueError(f"Task {name!r}: the cut points {outside} do not lie inside the range {low:g} to {high:g}.")


def scale_of(task: Any) -> tuple[float, float]:
    """Return centre and scale of a regression's number: as stored, else middle and a quarter of the range."""
    low, high = task["range"]
    return float(task.get("center", (low + high) / 2)), float(task.get("scale", (high - low) / 4))


def num_head_outputs(task: Any) -> int:
    """Count the outputs of the head: one a finding; one for a number, two with a deviation."""
    if task["kind"] == "multilabel":
        return len(task["findings"])
    return 2 if task["loss"] == "gaussian_nll" else 1


__all__ = [
    "CALIBRATION_KEY",
    "INTERVALS_KEY",
    "LOSSES",
    "MEASURED_KEYS",
    "MEASURED_KINDS",
    "TRAINING_VALUES_KEY",
    "check_measured_task",
    "num_head_outputs",
    "scale_of",
]
