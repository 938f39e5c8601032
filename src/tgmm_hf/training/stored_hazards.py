"""Baseline hazards of a trained model: fitted on the risk scores of its patients, stored in its configuration."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgmm_hf.evaluation.baseline_hazards import fit_baseline_hazards, published_days
from tgmm_hf.evaluation.headline_figures import with_outcome
from tgmm_hf.evaluation.predictions import Predictions
from tgmm_hf.training.trained_answers import TrainedAnswers
from tgmm_hf.utils.names import SUBSET_NAMES

FEWEST_EVENTS = 10
"""Number of validation patients with an event below which training patients are added to the fit."""
HAZARDS_KEY = "baseline_hazards"
"""Key of a task in the configuration: subset -> baseline hazard."""


def store_baseline_hazards(answers: TrainedAnswers) -> None:
    """Fit the baseline hazards of the trained prognosis tasks and put them into the configuration of the model.

    Each subset of modalities has its own hazards, because the risk scores of different subsets are not on one scale.
    The hazards are fitted on the validation patients. If these have fewer than `FEWEST_EVENTS` events, the training
    patients are added, although a model gives its training patients too extreme scores. A subset without any event gets
    no hazards. The hazards of a prognosis task that was not trained are removed, because its risk scores have changed
    with the encoders and the fusion.

    Args:
        answers: The answers of the trained model, whose configuration is changed.
    """
    config = answers.model.config
    for task in config.task_names("prognosis"):
        config.tasks[task].pop(HAZARDS_KEY, None)
    for task in answers.trained("prognosis"):
        hazards: dict[str, Any] = {}
        for subset in SUBSET_NAMES:
            scores, fitted_on = _risk_scores(answers.validation, task, subset), "validation"
            if (scores[:, 2] == 1).sum() < FEWEST_EVENTS:
                training = _risk_scores(answers.training, task, subset)
                scores, fitted_on = np.concatenate([training, scores]), "train+validation"
            risk, days, event = scores.T
            if (event == 1).any():
                stored_days = published_days(days, config.tasks[task]["report_days"])
                fitted = fit_baseline_hazards(risk, days, event, fitted_on=fitted_on, days=stored_days)
                hazards[subset] = fitted | {"weights": answers.weights}
        config.tasks[task][HAZARDS_KEY] = hazards


def _risk_scores(predictions: Predictions, task: str, subset: str) -> NDArray[np.float64]:
    """Return risk, time in days and event of the patients with a known outcome, shape (patients, 3)."""
    rows = with_outcome(predictions.scored(task, subset), "prognosis")
    return rows[["risk", "time", "event"]].to_numpy(dtype=np.float64)
