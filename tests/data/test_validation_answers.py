"""Where an answer lies among those of validation patients."""

import numpy as np
import pytest

from tgmm_hf.configuration_task_types import check_task_types
from tgmm_hf.data.prediction_tables import add_decisions
from tgmm_hf.data.validation_answers import FEWEST_PATIENTS, describe_answers, place_among

PROBABILITIES = np.linspace(0, 1, 41)


def test_a_place_is_the_share_of_patients_below() -> None:
    stored = describe_answers(PROBABILITIES, temperature=2.0)
    assert stored is not None
    for probability in (0.0, 0.3, 0.65, 1.0):
        place = place_among(probability, stored)
        assert place["share_below"] == pytest.approx(probability) and place["n"] == 41
    # logit(0.8) = log 4; half of it is log 2, and 2 / (1 + 2) = 2 / 3
    assert place_among(0.8, stored)["calibrated"] == pytest.approx(2 / 3)
    assert place_among(0.8, stored | {"temperature": None})["calibrated"] is None


def test_few_patients_are_not_described() -> None:
    assert describe_answers(PROBABILITIES[: FEWEST_PATIENTS - 1], 1.0) is None


@pytest.mark.parametrize("fits", [True, False])
def test_a_prediction_gets_its_place_for_its_modalities_and_weights_only(fits: bool) -> None:
    tasks = {"hf": {"validation_answers": {"labs": describe_answers(PROBABILITIES, 1.0)}}}
    used = {"labs": ["age"], "ecg": [], "echo": []}
    prediction = {"used": used, "notes": [], "hf": {"probabilities": {"none": 0.25, "heart failure": 0.75}}}
    add_decisions(prediction, tasks, lambda stored: fits)
    assert ("among_validation" in prediction["hf"]) == fits
    prediction = {"used": used | {"ecg": ["I"]}, "notes": [], "hf": {"probabilities": {"none": 0.25, "hf": 0.75}}}
    assert "among_validation" not in add_decisions(prediction, tasks)["hf"]


@pytest.mark.parametrize("setting", ["thresholds", "validation_answers"])
@pytest.mark.parametrize("value", [[], {"labs": 0.4}, {"labs": {"n": 3}}])
def test_a_damaged_description_is_refused_by_the_configuration(setting: str, value: object) -> None:
    with pytest.raises(ValueError, match=setting):
        check_task_types("hf", {setting: value})
