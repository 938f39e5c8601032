"""Decision thresholds of a trained model, and a description of its answers for validation patients.

`tgmm train` computes these figures on validation patients and stores them in the configuration of the model.
"""

from tgmm_hf.data.prediction_tables import THRESHOLDS_KEY
from tgmm_hf.data.validation_answers import VALIDATION_ANSWERS_KEY, describe_answers
from tgmm_hf.evaluation.calibration import OperatingPoint, choose_operating_point
from tgmm_hf.training.trained_answers import TrainedAnswers
from tgmm_hf.utils.names import SUBSET_NAMES


def store_thresholds(answers: TrainedAnswers) -> None:
    """Choose a threshold for every trained diagnosis and subset, and put them into the configuration of the model.

    The rule is that of `tgmm evaluate`: Youden's index on the validation patients. A subset gets no threshold if one
    class has too few validation patients, or if no threshold is better than chance (`choose_operating_point`). The
    thresholds of a diagnosis that was not trained are removed, because its probabilities have changed with the
    encoders. A model with other weights decides nothing.

    The description of the answers (`describe_answers`) is stored and removed in the same way. Its temperature is for
    the reader only: the threshold is one of the model's own probability.

    Args:
        answers: The answers of the trained model, whose configuration is changed.
    """
    config = answers.model.config
    for name in config.task_names("diagnosis"):
        config.tasks[name].pop(THRESHOLDS_KEY, None)
        config.tasks[name].pop(VALIDATION_ANSWERS_KEY, None)
    made_for = {} if answers.weights is None else {"weights": answers.weights}
    for name in answers.trained("diagnosis"):
        thresholds, described = {}, {}
        for subset in SUBSET_NAMES:
            rows = answers.validation.scored(name, subset)
            rows = rows[rows["label"].notna()]
            probability, positive = rows["probability"].to_numpy(), rows["positive"].to_numpy()
            point = choose_operating_point(probability, positive)
            if point.rule != OperatingPoint.rule:
                thresholds[subset] = {"value": point.threshold, "rule": point.rule, "chosen_on": point.chosen_on}
                thresholds[subset] |= made_for
            temperature = choose_operating_point(probability, positive, temperature=True).temperature
            if description := describe_answers(probability, temperature):
                described[subset] = description | made_for
        config.tasks[name][THRESHOLDS_KEY] = thresholds
        config.tasks[name][VALIDATION_ANSWERS_KEY] = described
