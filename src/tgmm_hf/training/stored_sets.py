"""Prediction sets of a trained model: fitted on its validation patients, stored in its configuration."""

from tgmm_hf.evaluation.prediction_sets import fit_prediction_sets
from tgmm_hf.layers.prediction_sets import SETS_KEY
from tgmm_hf.training.trained_answers import TrainedAnswers


def store_prediction_sets(answers: TrainedAnswers) -> None:
    """Fit the prediction sets of the trained diagnosis tasks and put them into the configuration of the model.

    The sets of a diagnosis task that was not trained are removed, because its probabilities have changed with the
    encoders and the fusion. A model with other weights gives no sets.

    Args:
        answers: The answers of the trained model, whose configuration is changed.
    """
    tasks = answers.model.config.tasks
    for task in answers.model.config.task_names("diagnosis"):
        tasks[task].pop(SETS_KEY, None)
    for task in answers.trained("diagnosis"):
        tasks[task][SETS_KEY] = {
            "subsets": fit_prediction_sets(answers.validation, task, tasks[task]),
            "fitted_on": "validation",
            "weights": answers.weights,
        }
