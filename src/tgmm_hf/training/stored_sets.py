"""Prediction sets of a trained model: fitted on its validation patients, stored in its configuration."""

from collections.abc import Sequence

from datasets import Dataset

from tgmm_hf.data.collator import TgmmCollator
from tgmm_hf.evaluation.prediction_sets import fit_prediction_sets
from tgmm_hf.evaluation.predictions import collect_predictions
from tgmm_hf.layers.prediction_sets import CONFIG_KEY
from tgmm_hf.modeling_tgmm import TgmmModel


def store_prediction_sets(
    model: TgmmModel,
    validation: Dataset,
    collator: TgmmCollator,
    tasks: Sequence[str],
    batch_size: int,
    weights: str | None,
) -> None:
    """Fit the prediction sets of the trained diagnosis tasks and put them into the configuration of the model.

    The sets of a diagnosis task that was not trained are removed, because its probabilities have changed with the
    encoders and the fusion.

    Args:
        model: The trained model, changed in place.
        validation: The prepared validation split.
        collator: The validation collator.
        tasks: Names of the trained tasks.
        batch_size: Patients per batch.
        weights: Id of the model's weights, see `weights_id`. A model with other weights gives no sets.
    """
    diagnoses = model.config.task_names("diagnosis")
    for task in diagnoses:
        model.config.tasks[task].pop(CONFIG_KEY, None)
    trained = [task for task in diagnoses if task in tasks]
    if not trained:
        return
    predictions = collect_predictions(model, validation, collator, tasks=trained, batch_size=batch_size, progress=False)
    for task in trained:
        model.config.tasks[task][CONFIG_KEY] = {
            "subsets": fit_prediction_sets(predictions, task, model.config.tasks[task]),
            "fitted_on": "validation",
            "weights": weights,
        }
