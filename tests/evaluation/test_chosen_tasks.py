"""Which tasks are scored: the tasks that were trained and have labels, or those that the user names."""

import pytest

from tgmm_hf.evaluation.chosen_tasks import choose_tasks, trained_tasks
from tgmm_hf.utils.errors import TgmmError

TASKS = {"ill": {"kind": "diagnosis"}, "risk": {"kind": "prognosis"}, "find": {"kind": "retrieval"}}
COLUMNS = ("label_ill", "time_risk", "event_risk")


def test_a_model_of_one_task_is_reported_on_one_task() -> None:
    names, warnings = choose_tasks(TASKS, COLUMNS, ["ill"])
    assert names == ["ill"]
    assert [warning.split(":")[0] for warning in warnings] == ["risk", "find"]
    assert choose_tasks(TASKS, COLUMNS, None) == (["ill", "risk", "find"], [])


def test_a_task_without_labels_is_left_out_with_a_warning() -> None:
    names, warnings = choose_tasks(TASKS, ("label_ill",), None)
    assert names == ["ill", "find"] and len(warnings) == 1 and "risk" in warnings[0]


def test_the_user_names_tasks() -> None:
    assert choose_tasks(TASKS, COLUMNS, ["ill"], ["risk", "risk"]) == (["risk"], [])
    with pytest.raises(TgmmError, match="no such task"):
        choose_tasks(TASKS, COLUMNS, None, ["heart"])
    with pytest.raises(TgmmError, match="no labels"):
        choose_tasks(TASKS, ("label_ill",), None, ["risk"])
    with pytest.raises(TgmmError, match="no labels of any trained task"):
        choose_tasks({"risk": TASKS["risk"]}, ("label_ill",), None)


def test_the_run_record_tells_what_was_trained() -> None:
    assert trained_tasks({"run": {"tasks": {"ill": {}, "risk": None}}}) == ["ill", "risk"]
    assert trained_tasks(None) is None and trained_tasks({"seed": 0}) is None
