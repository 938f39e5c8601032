"""What `tgmm train` stores with a model that has regressions or multilabels.

before the training     centre and scale of a regression's number, mean and median of the training patients
after the training      half-widths of the prediction intervals; threshold and temperature of each finding
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import Dataset

from tgmm_hf.configuration_measured_tasks import CALIBRATION_KEY, INTERVALS_KEY, TRAINING_VALUES_KEY
from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.evaluation.calibration import SMALLEST_CLASS
from tgmm_hf.evaluation.headline_figures import with_outcome
from tgmm_hf.evaluation.multilabel import choose_points, matrix
from tgmm_hf.evaluation.prediction_intervals import fit_prediction_intervals
from tgmm_hf.evaluation.predictions import Predictions
from tgmm_hf.training.trained_answers import TrainedAnswers
from tgmm_hf.utils.names import SUBSET_NAMES


def store_training_values(config: TgmmConfig, training: Dataset, tasks: Sequence[str]) -> None:
    """Put mean and median of the training patients' values into the trained regressions, in place.

    The median is also what `tgmm evaluate` gives everybody as a control. Mean and deviation become `center` and `scale`
    unless the task has them: from the settings, or from a checkpoint, whose head was trained with them.

    Args:
        config: The configuration of the model.
        training: The prepared training split.
        tasks: Names of the tasks that are trained.

    Raises:
        ValueError: If the training split has fewer than two different values.
    """
    for name in config.task_names("regression"):
        if name not in tasks:
            continue
        cells = training.with_format(None)[f"value_{name}"]
        values = np.array([cell for cell in cells if cell is not None], dtype=np.float64)
        if len(np.unique(values)) < 2:
            raise ValueError(
                f"The training split has {len(np.unique(values))} different values of task {name!r}, at least 2 are "
                "needed. Add values to the cohort table and run `tgmm prepare` again."
            )
        task = config.tasks[name]
        task[TRAINING_VALUES_KEY] = {
            "n": len(values),
            "mean": float(f"{values.mean():.6g}"),
            "median": float(f"{np.median(values):.6g}"),
        }
        task.setdefault("center", float(f"{values.mean():.6g}"))
        task.setdefault("scale", float(f"{values.std():.6g}"))


def store_measures(answers: TrainedAnswers) -> None:
    """Fit intervals and calibration of the trained tasks, and put them into the configuration of the model.

    Intervals and calibration of a task that was not trained are removed, because its answers have changed with the
    encoders and the fusion. A model with other weights gives no intervals.

    Args:
        answers: The answers of the trained model, whose configuration is changed.
    """
    config = answers.model.config
    for name in (*config.task_names("regression"), *config.task_names("multilabel")):
        config.tasks[name].pop(INTERVALS_KEY, None)
        config.tasks[name].pop(CALIBRATION_KEY, None)
    about = {"fitted_on": "validation", "weights": answers.weights}
    for name in answers.trained("regression"):
        task = config.tasks[name]
        task[INTERVALS_KEY] = {"subsets": fit_prediction_intervals(answers.validation, name, task), **about}
    for name in answers.trained("multilabel"):
        task = config.tasks[name]
        task[CALIBRATION_KEY] = {"subsets": fit_findings(answers.validation, name, list(task["findings"])), **about}


def fit_findings(predictions: Predictions, task: str, findings: Sequence[str]) -> dict[str, Any]:
    """Choose threshold and temperature of every finding for every subset, on validation patients.

    Args:
        predictions: Predictions of validation patients.
        task: Name of the task.
        findings: Findings in the order of the task.

    Returns:
        Subset -> finding -> {"threshold" of the model's own probability, "temperature", "rule", "chosen_on", "n",
        "positives"}. A finding of which a class has too few patients is left out.
    """
    fitted: dict[str, Any] = {}
    for subset in SUBSET_NAMES:
        rows = with_outcome(predictions.scored(task, subset), "multilabel")
        present = matrix(rows, "findings")
        plain, scaled = (choose_points(rows, findings, temperature=is_scaled) for is_scaled in (False, True))
        of_subset = {}
        for column, finding in enumerate(findings if len(rows) else ()):
            positives, negatives = (int((present[:, column] == code).sum()) for code in (1, 0))
            if min(positives, negatives) >= SMALLEST_CLASS:
                of_subset[finding] = {
                    "threshold": plain[finding].threshold,
                    "temperature": scaled[finding].temperature,
                    "rule": plain[finding].rule,
                    "chosen_on": plain[finding].chosen_on,
                    "n": positives + negatives,
                    "positives": positives,
                }
        if of_subset:
            fitted[subset] = of_subset
    return fitted
