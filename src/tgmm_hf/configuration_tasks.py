"""Settings of tasks: their keys, the paper's three tasks, and the check that refuses a task that cannot be run."""

from collections.abc import Sequence
from typing import Any

from .configuration_measured_tasks import MEASURED_KEYS, MEASURED_KINDS, check_measured_task
from .configuration_task_types import check_task_types

CANDIDATE_KINDS = ("diagnosis", "prognosis")
"""Kinds whose answers are candidates with likelihoods."""
KINDS = (*CANDIDATE_KINDS, "retrieval", *MEASURED_KINDS)
"""All kinds of task."""

DIAGNOSIS_LOSS_WEIGHTS = {"lm": 1.0, "mc": 1.0, "unlikely": 0.5}
PROGNOSIS_LOSS_WEIGHTS = {**DIAGNOSIS_LOSS_WEIGHTS, "dig": 0.5, "cox": 1.0, "margin": 0.5}

DEFAULT_TASKS: dict[str, dict[str, Any]] = {
    "hf_diagnosis": {
        "kind": "diagnosis",
        "question": "Does this patient have heart failure, given the laboratory tests, history, electrocardiogram "
        "and echocardiogram?",
        "candidates": ["no heart failure", "heart failure"],
        "learnable_phrase": "cardiac function congestion natriuretic peptide ejection fraction",
        "num_learnable_tokens": 16,
        "insert_position": 8,
        "weight": 1.0,
        "loss_weights": DIAGNOSIS_LOSS_WEIGHTS,
    },
    "hf_risk": {
        "kind": "prognosis",
        "question": "How high is the risk that this patient, free of heart failure today, develops heart failure?",
        "candidates": ["low risk", "high risk"],
        "learnable_phrase": "future onset risk age renal function hypertension diastolic function",
        "num_learnable_tokens": 16,
        "insert_position": 8,
        "weight": 1.0,
        "loss_weights": PROGNOSIS_LOSS_WEIGHTS,
        "horizon_days": 365.0,
        "report_days": [180.0, 365.0, 730.0],
        "margin": 0.5,
    },
    "retrieval": {
        "kind": "retrieval",
        "question": "Which laboratory tests, electrocardiogram and echocardiogram belong to the same patient?",
        "candidates": [],
        "learnable_phrase": "same patient matching cardiac findings across modalities",
        "num_learnable_tokens": 16,
        "insert_position": 8,
        "weight": 1.0,
        "temperature": 0.1,
    },
}
"""The paper's three tasks. Prompts, loss weights, temperature and margin are ours, because the paper prints none."""

TASK_KEYS = {
    "kind",
    "question",
    "candidates",
    "learnable_phrase",
    "num_learnable_tokens",
    "insert_position",
    "weight",
    "loss_weights",
    "horizon_days",
    "report_days",
    "margin",
    "temperature",
    "slot_reading",
    "baseline_hazards",
    "thresholds",
    "validation_answers",
    "prediction_sets",
    "set_levels",
    "question_ids",
    "candidate_ids",
    "phrase_ids",
    *MEASURED_KEYS,
}


TgmmTask = dict[str, Any]
"""Settings of one task."""


def check_task(name: str, task: dict[str, Any]) -> None:
    """Refuse a task that cannot be run, and fill in missing settings with their defaults, in place.

    Args:
        name: name of the task, for messages.
        task: settings of the task.

    Raises:
        ValueError: on an unknown kind or key, missing texts, fewer than two candidates, or an insert position outside
            the learned tokens.
    """
    if not isinstance(task, dict):
        raise ValueError(f"Task {name!r} must be a mapping of settings, got {task!r}.")
    if "baselines" in task:  # the name of version 0.1
        task["baseline_hazards"] = task.pop("baselines")
    if unknown := set(task) - TASK_KEYS:
        raise ValueError(f"Task {name!r} has unknown keys {sorted(unknown)}; known keys are {sorted(TASK_KEYS)}.")
    if missing := {"kind", "question", "learnable_phrase"} - set(task):
        raise ValueError(f"Task {name!r} lacks {sorted(missing)}.")
    check_choice(f"kind of task {name!r}", task["kind"], KINDS)
    check_task_types(name, task)
    task.setdefault("weight", 1.0)
    _check_learnable_content(name, task)
    _check_candidates(name, task)
    if task["kind"] in MEASURED_KINDS:
        check_measured_task(name, task)
        return
    if task["kind"] == "retrieval":
        task.setdefault("temperature", 0.1)
        return
    _fill_loss_weights(name, task)
    if task["kind"] == "prognosis":
        task.setdefault("margin", 0.5)
        task.setdefault("report_days", [task["horizon_days"]])


def _check_candidates(name: str, task: dict[str, Any]) -> None:
    """Raise a ValueError for too few candidates, or for a prognosis without two candidates or `horizon_days`.

    A missing `candidates` becomes [], in place.
    """
    candidates = task.setdefault("candidates", [])
    if task["kind"] in CANDIDATE_KINDS and len(candidates) < 2:
        raise ValueError(f"Task {name!r} ({task['kind']}) needs at least two candidate answers, got {candidates}.")
    if task["kind"] == "prognosis" and len(candidates) != 2:
        raise ValueError(f"Task {name!r} is a prognosis: give [low, high] as its two candidates, got {candidates}.")
    if task["kind"] == "prognosis" and "horizon_days" not in task:
        raise ValueError(f"Task {name!r} is a prognosis and needs horizon_days (status at that day trains L_dig).")


def _check_learnable_content(name: str, task: dict[str, Any]) -> None:
    """Fill in the number of learned tokens and the insert position, in place.

    Raises:
        ValueError: If the insert position does not lie between 0 and the number of learned tokens.
    """
    num_learnable = task.setdefault("num_learnable_tokens", 16)
    position = task.setdefault("insert_position", num_learnable // 2)
    if not 0 <= position <= num_learnable:
        raise ValueError(
            f"Task {name!r}: insert_position must lie in 0..num_learnable_tokens, got {position} and {num_learnable}."
        )


def _fill_loss_weights(name: str, task: dict[str, Any]) -> None:
    """Fill in missing loss weights with their defaults, in place. Raise a ValueError on an unknown name."""
    defaults = PROGNOSIS_LOSS_WEIGHTS if task["kind"] == "prognosis" else DIAGNOSIS_LOSS_WEIGHTS
    task["loss_weights"] = {**defaults, **task.get("loss_weights", {})}
    if unknown := set(task["loss_weights"]) - set(defaults):
        raise ValueError(
            f"Task {name!r} has unknown loss weights {sorted(unknown)}; a {task['kind']} takes {sorted(defaults)}."
        )


def check_choice(what: str, value: str, choices: Sequence[str]) -> None:
    """Raise a ValueError if `value` is none of `choices`. `what` names the setting in the message."""
    if value not in choices:
        raise ValueError(f"{what} must be one of {list(choices)}, got {value!r}.")
