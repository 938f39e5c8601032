"""Decision thresholds of a trained model: chosen on its validation patients, stored in its configuration."""

from collections.abc import Sequence

from datasets import Dataset

from tgmm_hf.data.collator import TgmmCollator
from tgmm_hf.data.prediction_tables import THRESHOLDS_KEY
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
    if not trained:
        return
    predictions = collect_predictions(model, validation, collator, tasks=trained, batch_size=batch_size, progress=False)
    for name in trained:
        thresholds = {}
        for subset in SUBSET_NAMES:
            rows = predictions.scored(name, subset)
            rows = rows[rows["label"].notna()]
            point = choose_operating_point(rows["probability"].to_numpy(), rows["positive"].to_numpy())
            if point.rule != OperatingPoint.rule:
                thresholds[subset] = {"value": point.threshold, "rule": point.rule, "chosen_on": point.chosen_on}
                thresholds[subset] |= {} if weights is None else {"weights": weights}
        model.config.tasks[name][THRESHOLDS_KEY] = thresholds
