"""The prepared data of a training: reading it, and checking that it fits the model and the tasks."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import DatasetDict

from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.data.outcome_checks import findings_doubt, validation_doubt, value_doubt
from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.data.shards import check_shards
from tgmm_hf.evaluation.chosen_tasks import LABEL_COLUMNS
from tgmm_hf.utils.files import read_json

logger = logging.getLogger(__name__)

SPLITS = ("train", "validation")
"""Splits that a training reads."""
OUTCOME_COLUMNS = {"diagnosis": "label_", "prognosis": "event_", "regression": "value_", "multilabel": "findings_"}
"""Kind of a task -> beginning of the column that tells whether the validation split allows a figure."""


def read_data(directory: str) -> tuple[DatasetDict, dict[str, Any]]:
    """Read the splits in a directory that `tgmm prepare` wrote: split -> rows, and the content of `prepare.json`.

    Raises:
        FileNotFoundError: If there is no prepared data set.
        ValueError: If a split is missing.
        TgmmError: If the bytes of a shard changed after it was written.
    """
    prepared = load_prepared(directory)
    if missing := [split for split in SPLITS if split not in prepared]:
        raise ValueError(f"{directory} has no {' and no '.join(missing)} split, it has {list(prepared)}.")
    check_shards(directory, SPLITS)
    return prepared, read_json(Path(directory) / "prepare.json")


def check_fit(config: TgmmConfig, data: dict[str, Any], prepared: DatasetDict, tasks: list[str]) -> None:
    """Check that prepared data fits a model and its tasks.

    Args:
        config: The configuration of the model.
        data: The content of `prepare.json`.
        prepared: The prepared splits.
        tasks: Names of the tasks to train.

    Raises:
        ValueError: If the clips have another geometry than the model takes, or a task or a finding has no labels.
    """
    geometry = {"image_size": config.echo_config.image_size, "num_frames": config.echo_config.num_frames}
    if geometry != data["geometry"]:
        raise ValueError(
            f"The data was prepared with {data['geometry']} but the model takes {geometry}: prepare it again."
        )
    for task in tasks:
        column = LABEL_COLUMNS.get(config.tasks[task]["kind"])
        if column is not None and f"{column}{task}" not in prepared["train"].column_names:
            raise ValueError(
                f"The data has no labels of task {task!r}, because there is no column {column}{task}. The columns are "
                f"{', '.join(prepared['train'].column_names)}. Add the column and run `tgmm prepare` again, or leave "
                "the task out."
            )
        if config.tasks[task]["kind"] == "multilabel":
            _check_findings(task, config.tasks[task]["findings"], prepared["train"])


def _check_findings(task: str, findings: Sequence[str], rows: Any) -> None:
    """Raise a ValueError if a finding is known of no training patient, because its answer would never be trained."""
    stored = {name for text in rows.with_format(None)[f"findings_{task}"] for name in json.loads(text or "{}")}
    if missing := [name for name in findings if name not in stored]:
        raise ValueError(
            f"No training patient has a known label of {', '.join(missing)} (task {task!r}). The data has labels of "
            f"{', '.join(sorted(stored)) or 'nothing'}. Correct the names in the task, or fill finding.{task}.*."
        )


def check_validation(config: TgmmConfig, prepared: DatasetDict, tasks: list[str]) -> None:
    """Check before the training that the validation split allows figures, because they choose the best epoch.

    A task without a figure is logged as a warning, because the other tasks can choose the epoch.

    Args:
        config: The configuration of the model.
        prepared: The prepared splits.
        tasks: Names of the tasks to train.

    Raises:
        ValueError: If no task has a figure.
    """
    doubts = []
    for task in tasks:
        kind = config.tasks[task]["kind"]
        if kind not in OUTCOME_COLUMNS:
            continue
        values = prepared["validation"].with_format(None)[f"{OUTCOME_COLUMNS[kind]}{task}"]
        if kind == "regression":
            doubt = value_doubt(task, values)
        elif kind == "multilabel":
            doubt = findings_doubt(task, (json.loads(text or "{}") for text in values))
        else:
            doubt = validation_doubt(task, kind, values, len(config.tasks[task]["candidates"]))
        if doubt is not None:
            doubts.append(doubt)
    if doubts and len(doubts) == len(tasks):
        raise ValueError(" ".join(doubts))
    for doubt in doubts:
        logger.warning("%s", doubt)
