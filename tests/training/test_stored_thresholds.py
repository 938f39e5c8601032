"""Thresholds of a trained model, and the validation split without a figure that is seen before the training."""

import logging
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset, DatasetDict
from tiny_models import smallest_config

from tgmm_hf.evaluation.calibration import fit_temperature
from tgmm_hf.evaluation.predictions import Predictions
from tgmm_hf.evaluation.thresholds import youden_threshold
from tgmm_hf.training.stored_thresholds import store_thresholds
from tgmm_hf.training.trained_answers import TrainedAnswers
from tgmm_hf.training.training_data import check_validation


def predictions(probability: np.ndarray, positive: np.ndarray) -> Predictions:
    """Predictions of one diagnosis under all modalities; the subset "labs" is scored for the first three patients."""
    number = len(positive)
    rows = {"row": range(number), "task": "hf_diagnosis", "subset": "labs+ecg+echo", "probability": probability}
    rows |= {"label": positive.astype(float), "positive": positive.astype(float)}
    table = pd.DataFrame(rows)
    return Predictions(pd.concat([table, table.head(3).assign(subset="labs")]), {}, {}, np.array([]), np.array([]))


def answers_of(model: Any, tasks: list[str], validation: Predictions) -> TrainedAnswers:
    """Answers of a model without weights, whose predictions are given."""
    answers = TrainedAnswers(model, None, tasks, {}, cast(Any, None), 4)
    answers.__dict__["validation"] = validation
    return answers


def test_thresholds_of_trained_tasks_are_stored_and_others_removed() -> None:
    generator = np.random.default_rng(0)
    positive = np.arange(60) % 2
    probability = np.clip(0.3 * positive + generator.uniform(0, 0.7, 60), 0, 1)
    found = predictions(probability, positive)
    model: Any = SimpleNamespace(config=smallest_config())
    model.config.tasks["hf_diagnosis"]["thresholds"] = {"ecg": {"value": 0.9}}
    store_thresholds(answers_of(model, ["hf_diagnosis"], found))
    (subset, threshold), *more = model.config.tasks["hf_diagnosis"]["thresholds"].items()
    assert subset == "labs+ecg+echo" and not more  # three patients are too few for a threshold of labs
    assert threshold["value"] == pytest.approx(youden_threshold(probability, positive == 1))
    assert "n = 60, 30 positive" in threshold["chosen_on"]
    (subset, answers), *more = model.config.tasks["hf_diagnosis"]["validation_answers"].items()
    assert subset == "labs+ecg+echo" and not more and answers["n"] == 60
    assert answers["quantiles"][10] == pytest.approx(np.median(probability), rel=1e-3)
    assert answers["temperature"] == pytest.approx(fit_temperature(probability, positive == 1))
    store_thresholds(answers_of(model, ["hf_risk"], found))
    assert not {"thresholds", "validation_answers"} & set(model.config.tasks["hf_diagnosis"])


def split(labels: list[int | None], events: list[int | None]) -> DatasetDict:
    return DatasetDict(validation=Dataset.from_dict({"label_hf_diagnosis": labels, "event_hf_risk": events}))


def test_a_validation_split_without_a_figure_is_seen_before_the_training(caplog: pytest.LogCaptureFixture) -> None:
    config = smallest_config()
    with pytest.raises(ValueError, match="both classes.*no event"):
        check_validation(config, split([1, 1, None], [0, 2, None]), ["hf_diagnosis", "hf_risk"])
    with caplog.at_level(logging.WARNING):
        check_validation(config, split([1, 1, None], [0, 1, None]), ["hf_diagnosis", "hf_risk"])
    assert "hf_diagnosis needs both classes" in caplog.text
    caplog.clear()
    check_validation(config, split([1, 0], [1, 0]), ["hf_diagnosis", "hf_risk", "retrieval"])
    assert not caplog.text
