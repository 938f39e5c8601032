"""How good a model is on the validation patients, after every epoch: figures to watch, and one number to select by."""

from collections.abc import Iterable
from statistics import fmean
from typing import Any

import numpy as np
import torch

from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.evaluation.metrics import UndefinedFigureError, auc
from tgmm_hf.evaluation.predictions import SUBSET_NAMES as SUBSETS
from tgmm_hf.evaluation.predictions import Predictions, collect_predictions
from tgmm_hf.evaluation.retrieval import DIRECTIONS, beaten_by, expected_scores
from tgmm_hf.evaluation.survival import c_index
from tgmm_hf.layers.losses import cox_loss, info_nce_loss

RETRIEVAL_CANDIDATES = 3
FIGURE = {"diagnosis": "auc", "prognosis": "c_index", "retrieval": f"lrap_{RETRIEVAL_CANDIDATES}"}


def validate(
    model: Any, dataset: Any, collator: Any, tasks: Iterable[str], *, batch_size: int, progress: bool = False
) -> dict[str, float]:
    """Run a model over a validation split under all seven modality combinations; see [`validation_metrics`]."""
    tasks = list(tasks)
    predictions = collect_predictions(model, dataset, collator, tasks=tasks, batch_size=batch_size, progress=progress)
    return validation_metrics(predictions, model.config, tasks)


def validation_metrics(predictions: Predictions, config: TgmmConfig, tasks: Iterable[str]) -> dict[str, float]:
    """Figures per task, and the two numbers that a run can select its best epoch by.

    Args:
        predictions: of the validation split.
        config: the model's configuration.
        tasks: names of the tasks that are trained.

    Returns:
        `<task>_auc` | `<task>_c_index` | `<task>_lrap_3` of all modalities together; `<task>_score`: that figure
        averaged over the seven modality combinations (six directions for retrieval), which on a hundred patients is
        much steadier than the tri-modal figure alone; `score`: its mean over the tasks, weighted as in the loss;
        `loss`: sum over the tasks of weight times log loss, Cox loss or InfoNCE on the whole split, averaged likewise.
        A combination without both classes, or without a comparable pair, is left out.

    Raises:
        ValueError: if no figure is defined at all.
    """
    metrics: dict[str, float] = {}
    scores: list[float] = []
    weights: list[float] = []
    losses: list[float] = []
    for name in tasks:
        kind, weight = config.tasks[name]["kind"], config.tasks[name]["weight"]
        if kind == "retrieval":
            figures, task_losses = _retrieval(predictions, config.tasks[name]["temperature"])
        else:
            figures, task_losses = _answers(predictions, name, kind)
        if not figures:
            continue
        if kind == "retrieval":
            metrics[f"{name}_{FIGURE[kind]}"] = fmean(figures.values())
        elif SUBSETS[-1] in figures:
            metrics[f"{name}_{FIGURE[kind]}"] = figures[SUBSETS[-1]]
        metrics[f"{name}_score"] = fmean(figures.values())
        scores.append(metrics[f"{name}_score"])
        weights.append(weight)
        losses.append(weight * fmean(task_losses.values()))
    if not scores:
        raise ValueError(
            f"The validation split ({len(predictions.ids)} patients) defines no figure for the tasks {list(tasks)}: "
            "it needs both classes, an event, or two patients with two modalities. Give it more patients."
        )
    return {**metrics, "score": fmean(scores, weights), "loss": sum(losses)}


def _answers(predictions: Predictions, task: str, kind: str) -> tuple[dict[str, float], dict[str, float]]:
    """Figure and loss per modality combination of a diagnosis or prognosis."""
    figures, losses = {}, {}
    for subset in SUBSETS:
        rows = predictions.scored(task, subset)
        rows = rows[rows["label" if kind == "diagnosis" else "time"].notna()]
        try:
            if kind == "diagnosis":
                figures[subset] = auc(rows["probability"], rows["positive"])
                losses[subset] = _log_loss(rows["probability"].to_numpy(), rows["positive"].to_numpy())
            else:
                figures[subset] = c_index(rows["risk"], rows["time"], rows["event"])
                risk, time = (torch.tensor(rows[column].to_numpy()) for column in ("risk", "time"))
                losses[subset] = float(cox_loss(risk, time, torch.tensor(rows["event"].to_numpy() == 1)))
        except UndefinedFigureError:
            continue
    return figures, losses


def _log_loss(probability: np.ndarray, positive: np.ndarray) -> float:
    """Mean negative log-probability of what was right: the last candidate, or any of the others."""
    right = np.where(positive == 1, probability, 1 - probability)
    return float(-np.log(np.clip(right, 1e-7, 1.0)).mean())


def _retrieval(predictions: Predictions, temperature: float) -> tuple[dict[str, float], dict[str, float]]:
    """LRAP among three candidates and InfoNCE over the whole split, per direction."""
    figures, losses = {}, {}
    for query, target in DIRECTIONS:
        both = predictions.embeds_mask[query] & predictions.embeds_mask[target]
        first, second = predictions.embeds[query][both], predictions.embeds[target][both]
        if len(np.unique(predictions.patient_ids[both])) < RETRIEVAL_CANDIDATES:
            continue
        ahead, negatives = beaten_by(first @ second.T, predictions.patient_ids[both])
        name = f"{query}->{target}"
        figures[name] = float(expected_scores(ahead, negatives, RETRIEVAL_CANDIDATES)["lrap"].mean())
        everyone = torch.ones(len(first), dtype=torch.bool)
        losses[name] = float(info_nce_loss(torch.tensor(first), torch.tensor(second), everyone, temperature))
    return figures, losses
