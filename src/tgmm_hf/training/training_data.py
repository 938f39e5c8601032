"""The prepared data of a training: reading it, and checking that it fits the model and the tasks."""

from pathlib import Path
from typing import Any

from datasets import DatasetDict

from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.evaluation.chosen_tasks import LABEL_COLUMNS
from tgmm_hf.utils.files import read_json

SPLITS = ("train", "validation")
"""Splits that a training reads."""


def read_data(directory: str) -> tuple[DatasetDict, dict[str, Any]]:
    """Read the splits in a directory that `tgmm prepare` wrote: split -> rows, and the content of `prepare.json`.

    Raises:
        FileNotFoundError: If there is no prepared data set.
        ValueError: If a split is missing.
    """
    prepared = load_prepared(directory)
    if missing := [split for split in SPLITS if split not in prepared]:
        raise ValueError(f"{directory} has no {' and no '.join(missing)} split, it has {list(prepared)}.")
    return prepared, read_json(Path(directory) / "prepare.json")


def check_fit(config: TgmmConfig, data: dict[str, Any], prepared: DatasetDict, tasks: list[str]) -> None:
    """Check that prepared data fits a model and its tasks.

    Args:
        config: The configuration of the model.
        data: The content of `prepare.json`.
        prepared: The prepared splits.
        tasks: Names of the tasks to train.

    Raises:
        ValueError: If the clips have another geometry than the model takes, or a task has no labels.
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
