"""Baseline hazards of a trained model: fitted on the risk scores of its patients, stored in its configuration."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import DataLoader

from tgmm_hf.data.collator import TgmmCollator
from tgmm_hf.evaluation.baseline_hazards import fit_baseline_hazards, published_days
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.pipeline_binding import weights_id
from tgmm_hf.utils.names import SUBSETS

FEWEST_EVENTS = 10
"""Number of validation patients with an event below which training patients are added to the fit."""
CONFIG_KEY = "baseline_hazards"
"""Key of a task in the configuration: subset -> baseline hazard."""


@torch.inference_mode()
def risk_scores(
    model: TgmmModel, dataset: Dataset, collator: TgmmCollator, task: str, batch_size: int
) -> dict[str, np.ndarray]:
    """Compute the risk scores of all labelled patients under each subset of modalities.

    Sets the model to evaluation mode.

    Args:
        model: The trained model.
        dataset: Prepared rows.
        collator: Collator with `training=False`.
        task: Name of a prognosis task.
        batch_size: Patients per batch.

    Returns:
        Subset -> array (n, 3) of risk, time in days and event, of the n patients that have all modalities of the
        subset.
    """
    model.eval()
    rows: dict[str, list[torch.Tensor]] = {"+".join(subset): [] for subset in SUBSETS}
    for batch in DataLoader(dataset, batch_size=batch_size, collate_fn=collator):
        inputs = {name: value.to(model.device) for name, value in batch.items() if isinstance(value, torch.Tensor)}
        labels = batch["labels"][task]
        encoded = model.encode(**inputs)
        answers = model.answer_subsets(encoded, [task])[task]
        for subset in SUBSETS:
            risk = answers[subset].risk.float().cpu()
            is_usable = labels["mask"] & torch.stack([encoded.present[name].cpu() for name in subset]).all(0)
            rows["+".join(subset)].append(
                torch.stack([risk, labels["time"].float(), labels["event"].float()], dim=1)[is_usable]
            )
    return {subset: torch.cat(parts).double().numpy() for subset, parts in rows.items()}


def store_baseline_hazards(
    model: TgmmModel, rows: Mapping[str, Dataset], collator: TgmmCollator, tasks: Sequence[str], batch_size: int
) -> None:
    """Fit the baseline hazards of the trained prognosis tasks and put them into the configuration of the model.

    Each subset of modalities has its own hazards, because the risk scores of different subsets are not on one scale.
    The hazards are fitted on the validation patients. If these have fewer than `FEWEST_EVENTS` events, the training
    patients are added, although a model gives its training patients too extreme scores. A subset without any event gets
    no hazards. The hazards of a prognosis task that was not trained are removed, because its risk scores have changed
    with the encoders and the fusion.

    Args:
        model: The trained model, changed in place.
        rows: The prepared splits "train" and "validation".
        collator: The validation collator.
        tasks: Names of the trained tasks.
        batch_size: Patients per batch.
    """
    for task in model.config.task_names("prognosis"):
        if task not in tasks:
            model.config.tasks[task].pop(CONFIG_KEY, None)
            continue
        validation = risk_scores(model, rows["validation"], collator, task, batch_size)
        with_few_events = {subset for subset, scores in validation.items() if (scores[:, 2] == 1).sum() < FEWEST_EVENTS}
        training = risk_scores(model, rows["train"], collator, task, batch_size) if with_few_events else {}
        hazards = {}
        for subset, scores in validation.items():
            add_training = subset in with_few_events
            risk, days, event = (np.concatenate([training[subset], scores]) if add_training else scores).T
            if (event == 1).any():
                stored_days = published_days(days, model.config.tasks[task]["report_days"])
                fitted_on = "train+validation" if add_training else "validation"
                fitted = fit_baseline_hazards(risk, days, event, fitted_on=fitted_on, days=stored_days)
                hazards[subset] = fitted | {"weights": weights_id(model)}
        model.config.tasks[task][CONFIG_KEY] = hazards
