"""The loss of a task, from the answers for a batch and its labels. Computed only where labels are given."""

from collections.abc import Mapping
from typing import Any

import torch

from ..configuration_measured_tasks import MEASURED_KINDS
from ..utils.names import MODALITIES, SLOTS, join_names
from .distributed import gather_batch
from .losses import (
    horizon_status,
    info_nce_loss,
    language_model_loss,
    multiple_choice_loss,
    survival_losses,
    unlikelihood_loss,
)
from .response import CandidateScores, risk_of
from .task_output import TgmmOutput

Task = Mapping[str, Any]
Labels = Mapping[str, torch.Tensor]


def answer_losses(
    task: Task, labels: Labels, scores: CandidateScores, has_evidence: torch.Tensor, copies: int
) -> dict[str, torch.Tensor]:
    """Compute the unweighted components of eq. (10) for a diagnosis, and of eq. (13) for a prognosis.

    Args:
        task: the task's settings.
        labels: `label` (B,), or `time` and `event` (B,); optionally `mask` (B,), True where the patient has a label.
        scores: the candidates' scores.
        has_evidence: (B,) bool, False for a patient without any modality.
        copies: number of copies of one batch among the B rows, one whole copy after another.

    Returns:
        name -> scalar: "mc", "unlikely" and, with a decoder, "lm"; for a prognosis also "cox" and "margin".
    """
    labelled = has_evidence & labels["mask"].bool() if "mask" in labels else has_evidence
    if task["kind"] == "prognosis":
        label, weight = horizon_status(labels["time"], labels["event"], task["horizon_days"])
        label, weight = label.masked_fill(~labelled, 0), weight.masked_fill(~labelled, 0.0)
    else:
        label, weight = labels["label"].masked_fill(~labelled, 0), labelled.to(torch.float32)
    # The losses are means over the labelled patients of all processes.
    logits, answers, weights = gather_batch(scores.logits), gather_batch(label), gather_batch(weight)
    losses = {
        "mc": multiple_choice_loss(logits, answers, weights),
        "unlikely": unlikelihood_loss(logits, answers, weights),
    }
    if scores.generated:
        tokens = gather_batch(scores.token_log_probs)
        losses["lm"] = language_model_loss(tokens, scores.token_mask, answers, weights)
    if task["kind"] == "prognosis":
        risk = risk_of(scores.logits)
        losses |= survival_losses(risk, labels["time"], labels["event"], labelled, task["margin"], copies)
    return losses


def weighted_loss(task: Task, losses: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Add up the weighted components of a task's loss to a scalar.

    A diagnosis has eq. (10). A prognosis has eq. (13), which contains eq. (10) with the weight "dig". The loss of a
    regression or multilabel and the alignment loss of CMTA have the weight 1.

    Args:
        task: the task's settings. `loss_weights` maps the name of a component to its weight.
        losses: the result of [`answer_losses`], and "alignment" if the fusion is CMTA.
    """
    if task["kind"] in MEASURED_KINDS:
        return torch.stack(list(losses.values())).sum()
    weights = task["loss_weights"]
    diagnosis = sum(weights[name] * losses[name] for name in ("lm", "mc", "unlikely") if name in losses)
    alignment = losses.get("alignment", 0.0)  # only CMTA has one; the weight is that of its paper
    if task["kind"] == "diagnosis":
        return diagnosis + alignment
    survival = weights["cox"] * losses["cox"] + weights["margin"] * losses["margin"]
    return weights["dig"] * diagnosis + survival + alignment


def retrieval_losses(
    task: Task, labels: Labels, embeds: Mapping[str, torch.Tensor], present: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Compute InfoNCE, eq. (16), for each pair of modalities over the patients of all processes.

    Args:
        task: the task's settings; `temperature` is used.
        labels: optionally `mask` (B,), False for a patient who is not used.
        embeds: modality -> (B, D) L2-normalised.
        present: modality -> (B,) bool, True for a patient with the modality.

    Returns:
        "labs+ecg", "ecg+echo" and "labs+echo" -> scalar.
    """
    vectors = {name: gather_batch(embeds[name]) for name in MODALITIES}
    usable = {
        name: gather_batch(present[name] & labels["mask"].bool() if "mask" in labels else present[name])
        for name in MODALITIES
    }
    pairs = [subset for subset in SLOTS if len(subset) == 2]
    return {
        join_names((a, b)): info_nce_loss(vectors[a], vectors[b], usable[a] & usable[b], task["temperature"])
        for a, b in pairs
    }


def join_outputs(tasks: Mapping[str, Task], outputs: dict[str, TgmmOutput]) -> TgmmOutput:
    """Put the outputs of several tasks into one output.

    Args:
        tasks: task -> settings, of all tasks of the model.
        outputs: task -> its output.

    Returns:
        an output with `by_task` = `outputs`. Its `loss` is the sum of the tasks' losses, each times the task's setting
        `weight`. Its `losses` are named "task/component". A task without a loss is not counted. Both are None if no
        task has a loss.
    """
    joined = TgmmOutput(by_task=outputs)
    trained = {name: output for name, output in outputs.items() if output.loss is not None}
    if trained:
        joined.loss = sum(tasks[name]["weight"] * output.loss for name, output in trained.items())
        joined.losses = {
            f"{name}/{component}": loss for name, output in trained.items() for component, loss in output.losses.items()
        }
    return joined
