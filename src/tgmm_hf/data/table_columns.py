"""The columns of a cohort table: which are required, which belong to a task, and what is wrong with them."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tgmm_hf.data.table_files import CohortTableError, Faults
from tgmm_hf.inputs.lab_columns import column_key, find_column, split_name
from tgmm_hf.inputs.private_text import quoted, shown_names

REQUIRED = ("id", "patient_id", "split")
FILE_COLUMNS = ("ecg_path", "echo_paths", "echo_views")
TASK_KINDS = {
    "label": "diagnosis",
    "time": "prognosis",
    "event": "prognosis",
    "value": "regression",
    "finding": "multilabel",
}
"""Prefix of an outcome column -> kind of the task that has such a column."""

_OF_FILES = (
    r"(?:s|(?:_?(?:file|path|dicom|record|recording|waveform|study|folder|dir|clip|video|view)s?(?:path|name)?s?))?"
)
_MEANT_FILES = {
    "ecg_path": re.compile(rf"(?:e[ck]g|electrocardiograms?){_OF_FILES}"),
    "echo_views": re.compile(r"echos?views?"),
    "echo_paths": re.compile(
        rf"(?:echos?|echocardiogra(?:ms?|phy)|echoclips?|dicom_?file){_OF_FILES}|clips?_?(?:files?|paths?)"
    ),
}
"""Column of files -> names, in lower case and without signs, that are meant for it."""
_OF_A_SAMPLE = re.compile(r"(?:date|time|id|name|order|site|available|status|source|unit|code|comment|flag)\w*")
"""What a table says of a sample beside its results: "lab.date"."""

Tasks = Mapping[str, Mapping[str, Any]]
"""Tasks of a model, as in `TgmmConfig.tasks`."""


def check_required(file: str, columns: list[str]) -> None:
    """Raise a CohortTableError if a required column is missing, or if there is no column with data."""
    if missing := [name for name in REQUIRED if name not in columns]:
        advice = ""
        if missing != ["id"] and not any(name.split(".", 1)[0] in TASK_KINDS for name in columns):
            advice = " If the table is only to be predicted, it needs no split and no patient: add --for-prediction."
        close = {name: difflib.get_close_matches(name, columns, n=1, cutoff=0.75) for name in missing}
        advice = (
            "".join(f" Did you mean {quoted(match[0])} for {name!r}?" for name, match in close.items() if match)
            + advice
        )
        raise CohortTableError(file, f"missing column(s) {', '.join(missing)}; found {shown_names(columns)}.{advice}")
    if not any(name.startswith("labs.") or name in ("ecg_path", "echo_paths") for name in columns):
        raise CohortTableError(file, "no data: give labs.<column> columns, ecg_path or echo_paths.")


def is_used(name: str) -> bool:
    """Tell whether a cohort table uses a column of this name."""
    prefix, dot, _ = name.partition(".")
    return name in (*REQUIRED, *FILE_COLUMNS) or (bool(dot) and prefix in ("labs", "unit", *TASK_KINDS))


def meant_columns(ignored: Iterable[str], columns: Iterable[str]) -> dict[str, str]:
    """Find the columns that are not used, and that may be meant for a column of data that the table lacks.

    Args:
        ignored: Columns that are not used.
        columns: All columns of the table.

    Returns:
        Name of the column -> name that a cohort table uses.
    """
    used = [name for name in columns if is_used(name)]
    labs = [find_column(split_name(name[5:])[0]) for name in used if name.startswith("labs.")]
    present = {name.casefold() for name in used} | {f"labs.{column.name}".casefold() for column in labs if column}
    suggested = {name: _meant_for_data(name) for name in ignored}
    return {name: column for name, column in suggested.items() if column and column.casefold() not in present}


def ignored_text(ignored: Iterable[str], suggested: Mapping[str, str]) -> str:
    """Name the columns that are not used, each with the column that may be meant; "" if there is none.

    Args:
        ignored: Columns that are not used.
        suggested: As [`meant_columns`] returns them.
    """
    names = [name + (f" (did you mean {suggested[name]}?)" if name in suggested else "") for name in ignored]
    return f"columns not used: {', '.join(names)}" if names else ""


def _meant_for_data(name: str) -> str | None:
    """Return the column of data that a name may be meant for; None for a name of something else."""
    key = column_key(name)
    for column, pattern in _MEANT_FILES.items():
        if pattern.fullmatch(key):
            return column
    plain = re.sub(r"^labs?(?:oratory)?[\s._:/-]+", "", name.strip(), flags=re.IGNORECASE)
    has_prefix = plain != name.strip()
    column_of_tests = find_column(split_name(plain)[0])
    if column_of_tests is not None and (has_prefix or len(key) > 2):  # "AG" is often a group of ages
        return f"labs.{column_of_tests.name}"
    is_slip = re.match(r"labs?\.", name.strip(), re.IGNORECASE) and not _OF_A_SAMPLE.fullmatch(plain.casefold())
    return f"labs.{plain}" if has_prefix and is_slip else None


def check_task_columns(file: str, columns: list[str], tasks: Tasks, faults: Faults) -> dict[str, str]:
    """Find the tasks that have outcome columns: task name -> kind.

    An outcome column that fits no task, a prognosis without time or event, and a unit column without its laboratory
    column are faults.
    """
    with_columns: set[str] = set()
    for column in columns:
        prefix, task, _ = parts_of_column(column, tasks)
        if prefix in TASK_KINDS and task:
            with faults.catching():
                _check_task_column(file, column, tasks)
                with_columns.add(task)
    for task in sorted(with_columns):
        if tasks[task]["kind"] == "prognosis" and not {f"time.{task}", f"event.{task}"} <= set(columns):
            with faults.catching():
                raise CohortTableError(file, f"a prognosis needs both columns time.{task} and event.{task}.")
    for column in columns:
        if column.startswith("unit.") and f"labs.{column[5:]}" not in columns:
            with faults.catching():
                raise CohortTableError(file, f"column {quoted(column)} has no laboratory column of its name beside it.")
    return {task: settings["kind"] for task, settings in tasks.items() if task in with_columns}


def _check_task_column(file: str, column: str, tasks: Tasks) -> None:
    """Raise a CohortTableError if an outcome column names an unknown task, or a task of another kind."""
    prefix, task, finding = parts_of_column(column, tasks)
    if task not in tasks:
        raise CohortTableError(
            file,
            f"column {quoted(column)} names no task of the model (it has {', '.join(tasks)}).{meant(task, tasks)} "
            "Rename the column, or name the configuration that has this task with --config.",
        )
    if tasks[task]["kind"] != TASK_KINDS[prefix]:
        raise CohortTableError(
            file,
            f"column {column!r} is for a {TASK_KINDS[prefix]} but task {task!r} is a {tasks[task]['kind']}: a "
            "diagnosis has label.<task>, a prognosis time.<task> and event.<task>, a regression value.<task>, a "
            "multilabel finding.<task>.<finding>.",
        )
    if prefix == "finding" and finding not in (names := tasks[task]["findings"]):
        raise CohortTableError(
            file,
            f"column {quoted(column)} names no finding of the task {task!r} (it has {', '.join(names)})."
            f"{meant(finding, names)} Rename the column.",
        )


def parts_of_column(column: str, tasks: Iterable[str]) -> tuple[str, str, str]:
    """Split the name of an outcome column into prefix, task and finding; the finding of other columns is "".

    A task is known by its name, because a name may hold a dot: finding.<task>.<finding>.
    """
    prefix, _, name = column.partition(".")
    if prefix != "finding":
        return prefix, name, ""
    task = next((task for task in tasks if name.startswith(f"{task}.")), name.partition(".")[0])
    return prefix, task, name[len(task) + 1 :]


def meant(name: str, known: Iterable[str]) -> str:
    """Write " Did you mean '<name>'?" if a known name is similar, else ""."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""
