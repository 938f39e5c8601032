"""Validation after every epoch: figures of each task, and one number that selects the best epoch."""

import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from statistics import fmean
from typing import Any

import numpy as np
import torch

from tgmm_hf.configuration_measured_tasks import MEASURED_KINDS, scale_of
from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.evaluation.headline_figures import HEADLINE, with_outcome
from tgmm_hf.evaluation.metrics import Bootstrap, UndefinedFigureError, auc
from tgmm_hf.evaluation.multilabel import macro_auc, matrix
from tgmm_hf.evaluation.predictions import Predictions, collect_predictions
from tgmm_hf.evaluation.retrieval import DIRECTIONS, beaten_by, expected_scores
from tgmm_hf.evaluation.slot_effects import ALL_SHARED, SHARED, slot_study, slot_warnings
from tgmm_hf.evaluation.survival import c_index
from tgmm_hf.layers.losses import cox_loss, info_nce_loss
from tgmm_hf.utils.names import SUBSET_NAMES

logger = logging.getLogger(__name__)

SLOT_RESAMPLES = 200
"""Resamples for the interval that decides whether shared slots do harm: it is computed after every epoch."""
RETRIEVAL_CANDIDATES = 3
FIGURE = {**HEADLINE, "retrieval": f"lrap_{RETRIEVAL_CANDIDATES}"}


def validate(
    model: Any, dataset: Any, collator: Any, tasks: Iterable[str], *, batch_size: int, progress: bool = False
) -> dict[str, float]:
    """Run a model over a validation split under all seven subsets of modalities.

    Returns the metrics of [`validation_metrics`], and with MedFlexFusion `<task>_without_shared_slots`: the figure of
    all modalities with all shared slots masked, minus the figure of the whole model. If it is above zero for sure, the
    shared slots do harm, and a warning is logged.

    Args:
        model: The model.
        dataset: The prepared rows of the split.
        collator: Collator with `training=False`.
        tasks: Names of the tasks that are trained.
        batch_size: Patients per batch.
        progress: Whether to show a progress bar.
    """
    tasks = list(tasks)
    study = slot_study(model, {ALL_SHARED: SHARED})
    predictions = collect_predictions(
        study or model, dataset, collator, tasks=tasks, batch_size=batch_size, progress=progress
    )
    metrics = validation_metrics(predictions, model.config, tasks)
    slots = study.figures(predictions, Bootstrap(0, SLOT_RESAMPLES)) if study else {}
    for warning in slot_warnings(slots):
        logger.warning(warning)
    for name, entry in slots.items():
        figure = f"{FIGURE[model.config.tasks[name]['kind']]}_difference"
        value = entry["masked"].get(ALL_SHARED, {}).get(figure)
        metrics |= {} if value is None else {f"{name}_without_shared_slots": value}
    return metrics


def validation_metrics(predictions: Predictions, config: TgmmConfig, tasks: Iterable[str]) -> dict[str, float]:
    """Compute figures of each task, and the two numbers that a run can select its best epoch by.

    Args:
        predictions: The predictions of the validation split.
        config: The configuration of the model.
        tasks: Names of the tasks that are trained.

    Returns:
        Name of the metric -> value. The names are:

        * `<task>_auc`, `<task>_c_index`: the figure with all modalities together. `<task>_lrap_3`: the mean over the
          directions of a retrieval.
        * `<task>_mae`, `<task>_macro_auc`: the same for a regression and a multilabel.
        * `<task>_score`: the mean of the figure over the seven subsets of modalities (retrieval: over the six
          directions). The figure of a regression is one minus its mean absolute error over that of the best constant: 1
          is perfect, 0 is no better than a constant. With a hundred patients the mean varies much less than the figure
          of all modalities.
        * `score`: the mean of `<task>_score` over the tasks, with the tasks' `weight`.
        * `loss`: the sum over the tasks of `weight` times mean loss over the same subsets or directions. The loss is
          the log loss, the Cox loss, InfoNCE or, for a regression, the mean absolute error in units of `scale`, on the
          whole split.

        A subset whose figure is undefined, for example without both classes, does not count. A task without any figure
        does not count.

    Raises:
        ValueError: If no figure is defined at all.
    """
    metrics: dict[str, float] = {}
    scores: list[float] = []
    weights: list[float] = []
    losses: list[float] = []
    for name in tasks:
        kind, weight = config.tasks[name]["kind"], config.tasks[name]["weight"]
        if kind == "retrieval":
            figures, task_losses = _retrieval(predictions, config.tasks[name]["temperature"])
        elif kind in MEASURED_KINDS:
            figures, task_losses = _measured(predictions, name, config.tasks[name])
        else:
            figures, task_losses = _answers(predictions, name, kind)
        if not figures:
            continue
        if kind == "retrieval":
            metrics[f"{name}_{FIGURE[kind]}"] = fmean(figures.values())
        elif SUBSET_NAMES[-1] in figures:
            metrics[f"{name}_{FIGURE[kind]}"] = figures[SUBSET_NAMES[-1]]
            if kind == "regression":  # the loss is the error in units of `scale`
                error = task_losses[SUBSET_NAMES[-1]] * scale_of(config.tasks[name])[1]
                metrics[f"{name}_{FIGURE[kind]}"] = error
        metrics[f"{name}_score"] = fmean(figures.values())
        scores.append(metrics[f"{name}_score"])
        weights.append(weight)
        losses.append(weight * fmean(task_losses.values()))
    if not scores:
        raise ValueError(
            f"The validation split ({len(predictions.ids)} patients) defines no figure for the tasks {list(tasks)}: "
            "it needs both classes, an event, two measured values, or two patients with two modalities. Give it more "
            "patients."
        )
    return {**metrics, "score": fmean(scores, weights), "loss": sum(losses)}


def _answers(predictions: Predictions, task: str, kind: str) -> tuple[dict[str, float], dict[str, float]]:
    """Compute the figures and the losses of a diagnosis or prognosis: two dictionaries, subset -> value.

    `kind` is "diagnosis" or "prognosis". A subset whose figure is undefined has no entry.
    """
    figures, losses = {}, {}
    for subset in SUBSET_NAMES:
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


def _measured(
    predictions: Predictions, task: str, settings: Mapping[str, Any]
) -> tuple[dict[str, float], dict[str, float]]:
    """Compute the figures and the losses of a regression or multilabel: two dictionaries, subset -> value."""
    figures, losses = {}, {}
    for subset in SUBSET_NAMES:
        rows = with_outcome(predictions.scored(task, subset), settings["kind"])
        everybody = np.ones((1, len(rows)))
        if settings["kind"] == "multilabel":
            score, present = matrix(rows, "probabilities"), matrix(rows, "findings")
            with suppress(UndefinedFigureError):
                figures[subset] = float(macro_auc(score, present, everybody)[0])
                losses[subset] = _log_loss(score[~np.isnan(present)], present[~np.isnan(present)])
        elif rows["measured"].nunique() > 1:
            error = float(np.abs(rows["value"] - rows["measured"]).mean())
            constant = float(np.abs(rows["measured"] - rows["measured"].median()).mean())
            figures[subset], losses[subset] = 1 - error / constant, error / scale_of(settings)[1]
    return figures, losses


def _log_loss(probability: np.ndarray, positive: np.ndarray) -> float:
    """Compute the mean log loss of the last candidate against all others.

    Args:
        probability: Probability of the last candidate, (n,).
        positive: 1 if the last candidate is right, else 0, (n,).
    """
    right = np.where(positive == 1, probability, 1 - probability)
    return float(-np.log(np.clip(right, 1e-7, 1.0)).mean())


def _retrieval(predictions: Predictions, temperature: float) -> tuple[dict[str, float], dict[str, float]]:
    """Compute LRAP among three candidates and InfoNCE over the split: two dictionaries, direction -> value.

    A direction with fewer than three patients has no entry. `temperature` is the one of InfoNCE.
    """
    figures, losses = {}, {}
    for query, target in DIRECTIONS:
        has_pair = predictions.embeds_mask[query] & predictions.embeds_mask[target]
        first, second = predictions.embeds[query][has_pair], predictions.embeds[target][has_pair]
        if len(np.unique(predictions.patient_ids[has_pair])) < RETRIEVAL_CANDIDATES:
            continue
        ahead, negatives = beaten_by(first @ second.T, predictions.patient_ids[has_pair])
        name = f"{query}->{target}"
        figures[name] = float(expected_scores(ahead, negatives, RETRIEVAL_CANDIDATES)["lrap"].mean())
        everyone = torch.ones(len(first), dtype=torch.bool)
        losses[name] = float(info_nce_loss(torch.tensor(first), torch.tensor(second), everyone, temperature))
    return figures, losses
