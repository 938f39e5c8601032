"""Maps of several trainings: agreement of one patient, the control with other patients, and what is refused."""

import json

import numpy as np
import pytest

from tgmm_hf.explanation.stability import stability
from tgmm_hf.utils.errors import TgmmError

SETTINGS = {"model": "m", "weights": "w", "data_hash": "h", "split": "test", "task": "t", "seed": 0, "target": "x"}
PLANTED = [1.0, 0.0, 0.0, 0.0]


def write_check(directory, maps, **settings):
    """Write what `tgmm explain-check` leaves behind, with one map of four units a patient."""
    (directory / "patients").mkdir(parents=True)
    (directory / "settings.json").write_text(json.dumps(SETTINGS | settings))
    for number, values in enumerate(maps):
        entry = {"ecg": {"maps": {"occlusion": list(values)}, "planted": PLANTED, "figures": {}, "effect": {}}}
        (directory / "patients" / f"{number:05d}.json").write_text(json.dumps(entry))
    return directory


def test_the_figures_are_those_of_a_hand_worked_case(tmp_path):
    """Patient 0 has the same ranks in both trainings, patient 1 reversed ones; signs do not count."""
    first = write_check(tmp_path / "a", [[4, -3, 2, 1], [1, 2, 3, 4]], weights="a")
    second = write_check(tmp_path / "b", [[40, 30, -20, 10], [4, 3, 2, 1]], weights="b")
    figures = stability([first, second])["ecg"]["occlusion"]
    assert figures["same_patient"]["mean"] == pytest.approx((1 - 1) / 2)
    assert figures["other_patient"]["mean"] == pytest.approx((1 - 1) / 2)  # 0 with b's 1: 1; 1 with b's 0: -1
    assert figures["same_strongest"]["mean"] == pytest.approx(0.5)
    assert figures["pointing"] == [0.5, 1.0]


def test_equal_trainings_agree_and_other_patients_do_not(tmp_path):
    """Two equal checks correlate by 1 for the same patient, and about not at all with other patients."""
    maps = np.random.default_rng(0).normal(size=(12, 4)).tolist()
    figures = stability([write_check(tmp_path / name, maps, weights=name) for name in "abc"])["ecg"]["occlusion"]
    assert figures["same_patient"]["mean"] == pytest.approx(1)
    assert abs(figures["other_patient"]["mean"]) < 0.4
    assert len(figures["pointing"]) == 3


@pytest.mark.parametrize(("name", "value"), [("data_hash", "other"), ("split", "train"), ("target", "y")])
def test_checks_of_another_question_are_refused(tmp_path, name, value):
    """Maps of other data or of another question cannot be compared."""
    maps = [[1, 2, 3, 4]]
    checks = [write_check(tmp_path / "a", maps), write_check(tmp_path / "b", maps, weights="v", **{name: value})]
    with pytest.raises(TgmmError, match=name):
        stability(checks)


@pytest.mark.parametrize(
    ("maps", "weights", "message"),
    [
        ([[1, 2, 3, 4]], "w", "the same weights"),
        ([[1, 2, 3]], "v", "lengths"),
        ([[1, 2, 3, 4], [4, 3, 2, 1]], "v", "2 patients"),
    ],
)
def test_checks_that_cannot_be_compared_are_refused(tmp_path, maps, weights, message):
    """One training twice would agree with itself; other patients or maps cannot be compared."""
    first = write_check(tmp_path / "a", [[1, 2, 3, 4]])
    with pytest.raises(TgmmError, match=message):
        stability([first, write_check(tmp_path / "b", maps, weights=weights)])


def test_one_check_and_a_directory_without_one_are_refused(tmp_path):
    """One training has nothing to be compared with."""
    check = write_check(tmp_path / "a", [[1, 2, 3, 4]])
    with pytest.raises(TgmmError, match="two or more"):
        stability([check])
    with pytest.raises(TgmmError, match=r"settings\.json"):
        stability([check, tmp_path])
