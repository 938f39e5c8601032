"""Which tasks of a model an evaluation scores."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tgmm_hf.utils.errors import TgmmError

LABEL_COLUMNS = {
    "diagnosis": "label_",
    "prognosis": "time_",
    "regression": "value_",
    "multilabel": "findings_",
}
"""Kind of a task -> beginning of the column of prepared data that holds its labels. A retrieval needs none."""


def choose_tasks(
    tasks: Mapping[str, Mapping[str, Any]],
    columns: Collection[str],
    trained: Collection[str] | None,
    asked: Sequence[str] | None = None,
) -> tuple[list[str], list[str]]:
    """Choose the tasks of a model that are scored.

    Args:
        tasks: `config.tasks` of the model.
        columns: Columns of the prepared rows.
        trained: Tasks that the last training of the model trained; None if they are not known.
        asked: Tasks that the user names. None takes the tasks that were trained and have labels.

    Returns:
        The names of the tasks, and warnings about tasks that are left out.

    Raises:
        TgmmError: If a task is unknown, or has no labels, or no task is left.
    """
    without_labels = [name for name, task in tasks.items() if not _has_labels(name, task["kind"], columns)]
    if asked is not None:
        if unknown := [name for name in asked if name not in tasks]:
            raise TgmmError(", ".join(unknown), f"the model has no such task. Its tasks are {', '.join(tasks)}.")
        if missing := [name for name in asked if name in without_labels]:
            raise TgmmError(
                ", ".join(missing),
                "the prepared data hold no labels of this task. Add them to the cohort table, and run `tgmm prepare` "
                "again.",
            )
        return list(dict.fromkeys(asked)), []
    untrained = [name for name in tasks if trained is not None and name not in trained]
    chosen = [name for name in tasks if name not in untrained and name not in without_labels]
    if not chosen:
        raise TgmmError(
            "the prepared data",
            f"they hold no labels of any trained task ({', '.join(name for name in tasks if name not in untrained)}). "
            "Name another task of the model with --task, or prepare data with labels.",
        )
    warnings = [
        f"{name}: not scored, because {reason}."
        for names, reason in (
            (untrained, "the last training did not train this task, and moved weights that it uses. --task scores it"),
            ([name for name in without_labels if name not in untrained], "the data hold no labels of this task"),
        )
        for name in names
    ]
    return chosen, warnings


def trained_tasks(run: Mapping[str, Any] | None) -> list[str] | None:
    """List the tasks that a training trained. `run` is the content of run.json; without it the result is None."""
    settings = (run or {}).get("run") or {}
    return list(settings["tasks"]) if settings.get("tasks") else None


def _has_labels(name: str, kind: str, columns: Collection[str]) -> bool:
    return kind not in LABEL_COLUMNS or f"{LABEL_COLUMNS[kind]}{name}" in columns
