"""Decision thresholds of a trained model, and a description of its answers for validation patients.

`tgmm train` computes these figures on validation patients and stores them in the configuration of the model.
"""

from collections.abc import Sequence

from datasets import Dataset

from tgmm_hf.data.collator import TgmmCollator
from tgmm_hf.data.prediction_tables import THRESHOLDS_KEY
from tgmm_hf.data.validation_answers import VALIDATION_ANSWERS_KEY, describe_answers
from tgmm_hf.evaluation.calibration import OperatingPoint, choose_operating_point
from tgmm_hf.evaluation.predictions import SUBSET_NAMES, collect_predictions
from tgmm_hf.modeling_tgmm import TgmmModel


def store_thresholds(
    model: TgmmModel,
    validation: Dataset,
    collator: TgmmCollator,
    tasks: Sequence[str],
    batch_size: int,
    weights: str | None = None,
) -> None:
    """Choose a threshold for every trained diagnosis and subset, and put them into the configuration of the model.

    The rule is that of `tgmm evaluate`: Youden's index on the validation patients. A subset gets no threshold if one
    class has too few validation patients, or if no threshold is better than chance (`choose_operating_point`). The
    thresholds of a diagnosis that was not trained are removed, because its probabilities have changed with the
    encoders.

    The description of the answers (`describe_answers`) is stored and removed in the same way. Its temperature is for
    the reader only: the threshold is one of the model's own probability.

    Args:
        model: The trained model, changed in place.
        validation: The prepared validation split.
        collator: The validation collator.
        tasks: Names of the trained tasks.
        batch_size: Patients per batch.
        weights: Id of the model's weights, see `weights_id`. A model with other weights decides nothing.
    """
    trained = [name for name in model.config.task_names("diagnosis") if name in tasks]
    for name in set(model.config.task_names("diagnosis")) - set(trained):
        model.config.tasks[name].pop(THRESHOLDS_KEY, None)
        model.config.tasks[name].pop(VALIDATION_ANSWERS_KEY, None)
    if not trained:
        return
    predictions = collect_predictions(model, validation, collator, tasks=trained, batch_size=batch_size, progress=False)
    for name in trained:
        thresholds, answers = {}, {}
        made_for = {} if weights is None else {"weights": weights}
        for subset in SUBSET_NAMES:
            rows = predictions.scored(name, subset)
            rows = rows[rows["label"].notna()]
            probability, positive = rows["probability"].to_numpy(), rows["positive"].to_numpy()
            point = choose_operating_point(probability, positive)
            if point.rule != OperatingPoint.rule:
                thresholds[subset] = {"value": point.threshold, "rule": point.rule, "chosen_on": point.chosen_on}
                thresholds[subset] |= made_for
            temperature = choose_operating_point(probability, positive, temperature=True).temperature
            if described := describe_answers(probability, temperature):
                answers[subset] = described | made_for
        model.config.tasks[name][THRESHOLDS_KEY] = thresholds
        model.config.tasks[name][VALIDATION_ANSWERS_KEY] = answers
