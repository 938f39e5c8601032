"""Refuse labels that would train a model wrongly or not at all."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from ..configuration_measured_tasks import MEASURED_KINDS

LABELS_OF: dict[str, tuple[str, ...]] = {
    "diagnosis": ("label",),
    "prognosis": ("time", "event"),
    "retrieval": (),
    "regression": ("value",),
    "multilabel": ("findings",),
}
"""Kind of a task -> keys that its labels need."""
UNLABELLED = -100
"""Label of a row without a label, as everywhere in transformers."""


def asked_tasks(task: Any, tasks: Iterable[str]) -> list[str]:
    """List the tasks that a call asks for.

    Args:
        task: name of a task, names of several, or None for the first task of the model.
        tasks: names of the model's tasks.

    Raises:
        ValueError: if the names are empty, are no names, or one of them is not a task of the model.
    """
    task_names = list(tasks)
    if task is None:
        return task_names[:1]
    names = [task] if isinstance(task, str) or not isinstance(task, Iterable) else list(task)
    unknown = [name for name in names if name not in task_names]
    if unknown or not names:
        asked = f"Unknown task {', '.join(map(repr, unknown))}" if unknown else "No task is named"
        raise ValueError(f"{asked}; this model has {sorted(task_names)}.")
    return names


def check_tasks_of_labels(labels: Any, tasks: Iterable[str], asked: Iterable[str]) -> dict[str, Any]:
    """Check that labels are sorted by task and that a loss can come of them.

    Args:
        labels: the argument `labels` of `forward`: task -> its labels; None for no labels.
        tasks: names of the model's tasks.
        asked: names of the tasks that are answered.

    Returns:
        task -> its labels; {} for None.

    Raises:
        ValueError: if `labels` is no mapping, is empty, names a task that the model does not have, or has no labels of
            the tasks that are answered.
    """
    if labels is None:
        return {}
    if not isinstance(labels, Mapping):
        raise ValueError(
            f"labels is a {type(labels).__name__}, but TgmmModel takes a mapping of tasks, such as "
            "{'hf_diagnosis': {'label': tensor}}. TgmmForSequenceClassification takes a tensor."
        )
    names, answered = list(tasks), list(asked)
    if unknown := sorted(set(labels) - set(names)):
        raise ValueError(f"labels names the tasks {unknown}, this model has {sorted(names)}. Correct the names.")
    if not labels:
        raise ValueError(
            f"labels is empty, known are the tasks {sorted(names)}. Leave it out where there are no labels."
        )
    if not set(labels) & set(answered):
        raise ValueError(
            f"labels are of the tasks {sorted(labels)} but the tasks {answered} are answered, so there would be no "
            "loss. Name the task with task=."
        )
    return dict(labels)


def checked_labels(name: str, task: Mapping[str, Any], labels: Any, batch_size: int) -> dict[str, torch.Tensor]:
    """Check the labels of one task.

    Args:
        name: of the task, for messages.
        task: settings of the task.
        labels: `label` (B,), or `time` and `event` (B,), or `value` (B,), or `findings` (B, findings); optionally
            `mask`, True where the label is known: (B,), and (B, findings) for findings.
        batch_size: number of patients B.

    Returns:
        the labels. The labels of a diagnosis are of dtype int64, and -100 is taken out of the mask. A regression and a
        multilabel always have a mask.

    Raises:
        ValueError: if a key is missing, a shape or type is wrong, or a labelled row has a value that cannot be: no
            candidate's index, a time that is not finite or negative, an event other than 0, 1 and 2, a value that is
            not finite or outside the range of the task, a finding other than 0 and 1.
    """
    if not isinstance(labels, Mapping):
        raise ValueError(
            f"The labels of {name!r} are a {type(labels).__name__}, expected a mapping with {_needed(task)}."
        )
    if missing := set(LABELS_OF[task["kind"]]) - set(labels):
        raise ValueError(f"The labels of {name!r} lack {sorted(missing)}; they have {sorted(labels)}.")
    if unknown := sorted(set(labels) - {*LABELS_OF[task["kind"]], "mask"}):
        raise ValueError(
            f"The labels of {name!r} have the keys {unknown}, known are {_known(task)}. Correct the names."
        )
    checked = {key: torch.as_tensor(values) for key, values in labels.items()}
    shape: tuple[int, ...] = (batch_size,)
    meaning = "one value for each patient"
    if task["kind"] == "multilabel":
        shape, meaning = (batch_size, len(task["findings"])), "one value for each patient and finding"
    for key, values in checked.items():
        if values.shape != shape:
            raise ValueError(
                f"{key!r} of the labels of {name!r} has the shape {tuple(values.shape)}, expected {shape}: {meaning}."
            )
    if task["kind"] == "diagnosis":
        return _checked_diagnosis(name, task, checked)
    if task["kind"] == "prognosis":
        _check_prognosis(name, checked)
    if task["kind"] in MEASURED_KINDS:
        return _checked_measured(name, task, checked)
    return checked


def _known(task: Mapping[str, Any]) -> str:
    """Write the keys that the labels of a task may have."""
    return ", ".join([*LABELS_OF[task["kind"]], "mask"])


def _needed(task: Mapping[str, Any]) -> str:
    """Write the keys that the labels of a task need."""
    return " and ".join(map(repr, LABELS_OF[task["kind"]])) or "nothing but an optional 'mask'"


def _checked_diagnosis(name: str, task: Mapping[str, Any], labels: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the labels of a diagnosis with `label` as int64 and a mask. Raise a ValueError on a wrong label."""
    label = labels["label"]
    if label.is_floating_point() or label.is_complex():
        raise ValueError(
            f"The labels of {name!r} are of {label.dtype}, expected whole numbers: convert them with .long(), and mark "
            f"unknown ones with {UNLABELLED}."
        )
    label = label.long()
    mask = label != UNLABELLED
    if "mask" in labels:
        mask = mask & labels["mask"].bool()
    candidates = len(task["candidates"])
    wrong = label[mask & ((label < 0) | (label >= candidates))]
    if len(wrong):
        raise ValueError(
            f"A label of {name!r} is {int(wrong[0])}, but there are {candidates} candidates: expected 0 to "
            f"{candidates - 1}, or {UNLABELLED} where it is unknown."
        )
    return {**labels, "label": label, "mask": mask}


def _checked_measured(name: str, task: Mapping[str, Any], labels: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the labels of a regression or multilabel with a mask. Raise a ValueError on an impossible known label."""
    (key,) = LABELS_OF[task["kind"]]
    values = labels[key]
    mask = labels["mask"].bool() if "mask" in labels else torch.ones_like(values, dtype=torch.bool)
    if task["kind"] == "multilabel":
        right, allowed = (values == 0) | (values == 1), "0 (absent) or 1 (present)"
    else:
        low, high = task["range"]
        right = torch.isfinite(values) & (values >= low) & (values <= high)
        allowed = f"the range of the task, {low:g} to {high:g} {task['unit']}"
    wrong = mask & ~right
    if bool(wrong.any()):
        raise ValueError(
            f"{key!r} of the labels of {name!r} holds {float(values[wrong][0]):g}, expected {allowed}. Set 'mask' to "
            "False where the label is not known."
        )
    return {**labels, "mask": mask}


def _check_prognosis(name: str, labels: Mapping[str, torch.Tensor]) -> None:
    """Raise a ValueError if a labelled row of a prognosis has an impossible time or event."""
    time, event = labels["time"], labels["event"]
    mask = labels["mask"].bool() if "mask" in labels else torch.ones_like(time, dtype=torch.bool)
    impossible = mask & ~(torch.isfinite(time) & (time >= 0))
    if bool(impossible.any()):
        raise ValueError(
            f"A time of {name!r} is {float(time[impossible][0])}, expected days, finite and not negative. Set 'mask' "
            "to False for a patient without follow-up."
        )
    unknown = mask & ~((event == 0) | (event == 1) | (event == 2))
    if bool(unknown.any()):
        raise ValueError(
            f"An event of {name!r} is {float(event[unknown][0]):g}, expected 0 (censored), 1 (event) or 2 (death)."
        )


__all__ = ["LABELS_OF", "UNLABELLED", "asked_tasks", "check_tasks_of_labels", "checked_labels"]
