"""The cohort table: one row per admission. `docs/your_data.md` describes it for a hospital.

    id, patient_id, split | labs.<column>, unit.<column> | ecg_path | echo_paths, echo_views
    | label.<task>, time.<task>, event.<task>

The table is Parquet or CSV. It is checked as a whole before any other file is opened. A table that cannot be used is
refused, and the error names its rows.
"""

import csv
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tgmm_hf.configuration_tasks import DEFAULT_TASKS
from tgmm_hf.data.laboratory import Laboratory
from tgmm_hf.inputs.lab_cells import is_missing
from tgmm_hf.utils.digests import json_digest
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.names import VIEWS

SPLITS = ("train", "validation", "test")
REQUIRED = ("id", "patient_id", "split")
FILE_COLUMNS = ("ecg_path", "echo_paths", "echo_views")
UNITS_KEY = b"tgmm_units"
"""Key of a Parquet table's metadata: the unit system of its laboratory values, for numbers without a unit."""
ECG_FILE_SUFFIXES = (".dcm", ".xml", ".scp", ".edf", ".csv", ".tsv")
"""Suffixes of ECGs that are one file. The reader looks at the content, so that another suffix is read too."""
EVENTS = (0, 1, 2)
"""Codes of a prognosis: 0 censored, 1 event, 2 death from another cause."""
TASK_KINDS = {"label": "diagnosis", "time": "prognosis", "event": "prognosis"}
"""Prefix of an outcome column -> kind of the task that has such a column."""

Tasks = Mapping[str, Mapping[str, Any]]
"""Tasks of a model, as in `TgmmConfig.tasks`."""


class CohortTableError(TgmmError):
    """A cohort table that cannot be used. The message names the column or the rows, and what to do."""


@dataclass(frozen=True)
class CohortRow:
    """One admission. Paths are as the table writes them.

    Attributes:
        id: Name of the admission, unique in the table.
        patient_id: Name of the patient. All rows of a patient are in one split.
        split: One of `SPLITS`.
        labs: Column -> value or (value, unit), of the cells that are present.
        ecg_path: File of the ECG, in a format that `read_ecg` reads.
        echo_paths: Clips of the study.
        echo_views: View of every clip, None where the table gives none; as long as `echo_paths`.
        labels: Diagnosis task -> index of the right candidate. Missing labels have no entry.
        times: Prognosis task -> days. Missing times have no entry.
        events: Prognosis task -> one of `EVENTS`. Missing events have no entry.
    """

    id: str
    patient_id: str
    split: str
    labs: dict[str, Any] = field(default_factory=dict)
    ecg_path: str | None = None
    echo_paths: tuple[str, ...] = ()
    echo_views: tuple[str | None, ...] = ()
    labels: dict[str, int] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class CohortTable:
    """A checked cohort table.

    Attributes:
        rows: All admissions, in the order of the file.
        root: Directory that relative paths start from.
        tasks: Task name -> kind ("diagnosis" or "prognosis"), for the tasks that have columns in the table.
        ignored_columns: Columns that are not used.
    """

    rows: list[CohortRow]
    root: Path
    tasks: dict[str, str]
    ignored_columns: list[str]

    def digest(self) -> str:
        """Compute the sha256 (hexadecimal) of the rows in their order. The content of their files does not count."""
        return json_digest([asdict(row) for row in self.rows])

    def splits(self) -> dict[str, list[CohortRow]]:
        """Return split -> its rows, in the order of `SPLITS`. A split without rows has no entry."""
        by_split = {split: [row for row in self.rows if row.split == split] for split in SPLITS}
        return {split: rows for split, rows in by_split.items() if rows}


def ecg_files(ecg_path: str, root: Path | None = None) -> list[str]:
    """List the files that an ECG may consist of. The first one must exist.

    A WFDB recording is a header (.hea) and a signal file, .dat or .mat. Every other ECG is one file.

    Args:
        ecg_path: Path of a WFDB recording with or without its suffix, or of a file in another format.
        root: Directory that the path starts from. With it a file without a known suffix is found too.

    Returns:
        [`ecg_path`] for one file; the paths with .hea, .dat and .mat for WFDB. `ecg_path` itself follows them where
        neither the suffix nor a file below `root` decides.
    """
    path = Path(ecg_path)
    is_wfdb_file = path.suffix.lower() in (".hea", ".dat", ".mat")
    stem = path.with_suffix("").as_posix() if is_wfdb_file else ecg_path
    wfdb = [f"{stem}{suffix}" for suffix in (".hea", ".dat", ".mat")]
    if is_wfdb_file:
        return wfdb
    if path.suffix.lower() in ECG_FILE_SUFFIXES:
        return [ecg_path]
    try:
        is_file = root is not None and (root / path).is_file() and not (root / wfdb[0]).is_file()
    except (OSError, ValueError):  # a path that is too long, or holds a zero byte
        is_file = False
    return [ecg_path] if is_file else [*wfdb, ecg_path]


def read_cohort_table(
    path: str | Path,
    *,
    root: str | Path | None = None,
    tasks: Tasks | None = None,
    for_prediction: bool = False,
    laboratory: Laboratory | None = None,
) -> CohortTable:
    """Read and check a cohort table.

    Args:
        path: `.parquet` or `.csv` file.
        root: Directory that relative paths start from. None means the directory of the table.
        tasks: Tasks of the model (`TgmmConfig.tasks`), because they define which outcome columns exist and how many
            candidates a label may name. None means the tasks of the paper.
        for_prediction: Read a table that is only to be predicted. `patient_id` and `split` may then be missing: the
            patient gets the name of the admission, and the split is "test". Outcome columns are not read.
        laboratory: Units and names of the laboratory columns. If it has no unit system, the unit system that a Parquet
            table declares is taken (`UNITS_KEY`; tables of `tgmm curate` and `tgmm synth` declare "US").

    Returns:
        The checked table.

    Raises:
        CohortTableError: If a column is missing; if a split, task, label, event or view is unknown; if an id occurs
            twice; or if a patient is in two splits.
    """
    path = Path(path)
    columns, raw_rows = _read_file(path)
    laboratory = laboratory or Laboratory()
    laboratory = replace(laboratory, units=laboratory.units or _declared_units(path))
    tasks = DEFAULT_TASKS if tasks is None else tasks
    if for_prediction:
        columns, raw_rows = _without_outcomes(columns, raw_rows)
    if missing := [name for name in REQUIRED if name not in columns]:
        raise CohortTableError(path.name, f"missing column(s) {', '.join(missing)}; found {', '.join(columns)}.")
    if not any(name.startswith("labs.") or name in ("ecg_path", "echo_paths") for name in columns):
        raise CohortTableError(path.name, "no data: give labs.<column> columns, ecg_path or echo_paths.")
    task_kinds = _check_task_columns(path.name, columns, tasks)
    rows = [
        _read_row(f"{path.name}, row {number}", raw, tasks, laboratory) for number, raw in enumerate(raw_rows, start=1)
    ]
    _check_ids_and_splits(path.name, rows)
    return CohortTable(
        rows=rows,
        root=Path(root) if root is not None else path.parent,
        tasks=task_kinds,
        ignored_columns=[name for name in columns if not _is_used(name)],
    )


# ---- the file


def _read_file(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Read a .parquet or .csv file: its column names, and each row as column -> cell. A cell of a CSV is text.

    Raises:
        CohortTableError: If the file is missing, of another kind, unreadable or empty, or a column name occurs twice.
    """
    if not path.is_file():
        raise CohortTableError("the cohort table", f"{path} does not exist.")
    readers = {".parquet": _read_parquet, ".csv": _read_csv}
    if path.suffix not in readers:
        raise CohortTableError(
            path.name, f"a cohort table is .parquet or .csv, not {path.suffix or 'without ending'}. Convert it."
        )
    names, raw_rows = readers[path.suffix](path)
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise CohortTableError(path.name, f"column(s) {', '.join(repeated)} occur twice. Rename or remove them.")
    if not raw_rows:
        raise CohortTableError(path.name, "the table has no rows.")
    return names, raw_rows


def _read_parquet(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    try:
        table = pq.read_table(path)
        return table.column_names, table.to_pylist()
    except (pa.ArrowException, ValueError) as error:  # a ValueError: a date that Python cannot hold
        raise CohortTableError(path.name, f"not a readable Parquet file: {str(error).splitlines()[0]}") from error


def _declared_units(path: Path) -> str | None:
    """Read the unit system that a Parquet table declares; None for a table that declares none, and for CSV."""
    metadata = pq.read_schema(path).metadata if path.suffix == ".parquet" else None
    units = (metadata or {}).get(UNITS_KEY)
    return None if units is None else units.decode()


def declare_canonical_units(table: pa.Table) -> pa.Table:
    """Return a cohort table whose metadata say that its laboratory values are in canonical units, and nothing else."""
    return table.replace_schema_metadata({UNITS_KEY: b"US"})


def _read_csv(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names, raw_rows = list(reader.fieldnames or []), list(reader)
    except (csv.Error, UnicodeDecodeError) as error:
        raise CohortTableError(path.name, f"not a readable CSV file in UTF-8: {error}.") from error
    if len(names) == 1 and ";" in names[0]:
        raise CohortTableError(path.name, "columns are separated by semicolons; write the table with commas.")
    if broken := [number for number, raw in enumerate(raw_rows, start=1) if None in raw or None in raw.values()]:
        raise CohortTableError(path.name, f"row(s) {_first_few(broken)} have another number of cells than the header.")
    return names, raw_rows


def _without_outcomes(columns: list[str], raw_rows: list[dict[str, Any]]) -> tuple[list[str], list[dict[str, Any]]]:
    """Prepare a table for prediction.

    Returns:
        The column names and the rows without outcome columns. A missing `patient_id` is filled with the id of the
        admission, a missing `split` with "test".
    """
    kept = [name for name in columns if name.split(".", 1)[0] not in TASK_KINDS]
    added = [name for name in ("patient_id", "split") if name not in kept]
    filled = [{"patient_id": raw.get("id"), "split": "test", **{name: raw[name] for name in kept}} for raw in raw_rows]
    return [*kept, *added], filled


# ---- columns


def _is_used(name: str) -> bool:
    prefix, dot, _ = name.partition(".")
    return name in (*REQUIRED, *FILE_COLUMNS) or (bool(dot) and prefix in ("labs", "unit", *TASK_KINDS))


def _check_task_columns(file: str, columns: list[str], tasks: Tasks) -> dict[str, str]:
    """Find the tasks that have outcome columns: task name -> kind.

    Raises:
        CohortTableError: If an outcome column fits no task, if a prognosis lacks time or event, or if a unit column
            has no laboratory column.
    """
    with_columns: set[str] = set()
    for column in columns:
        prefix, _, task = column.partition(".")
        if prefix in TASK_KINDS and task:
            _check_task_column(file, column, tasks)
            with_columns.add(task)
    for task in sorted(with_columns):
        if tasks[task]["kind"] == "prognosis" and not {f"time.{task}", f"event.{task}"} <= set(columns):
            raise CohortTableError(file, f"a prognosis needs both columns time.{task} and event.{task}.")
    for column in columns:
        if column.startswith("unit.") and f"labs.{column[5:]}" not in columns:
            raise CohortTableError(file, f"column {column!r} has no column labs.{column[5:]} beside it.")
    return {task: settings["kind"] for task, settings in tasks.items() if task in with_columns}


def _check_task_column(file: str, column: str, tasks: Tasks) -> None:
    """Raise a CohortTableError if an outcome column names an unknown task, or a task of another kind."""
    prefix, _, task = column.partition(".")
    if task not in tasks:
        raise CohortTableError(
            file,
            f"column {column!r} names no task of the model (it has {', '.join(tasks)}): rename the column, or pass the "
            "tasks of your configuration.",
        )
    if tasks[task]["kind"] != TASK_KINDS[prefix]:
        raise CohortTableError(
            file,
            f"column {column!r} is for a {TASK_KINDS[prefix]} but task {task!r} is a {tasks[task]['kind']}: a "
            "diagnosis has label.<task>, a prognosis time.<task> and event.<task>.",
        )


# ---- rows


def _read_row(where: str, raw: Mapping[str, Any], tasks: Tasks, laboratory: Laboratory) -> CohortRow:
    texts = {name: _text(raw[name]) for name in REQUIRED}
    if empty := [name for name, text in texts.items() if text is None]:
        raise CohortTableError(where, f"{', '.join(empty)} is empty.")
    if texts["split"] not in SPLITS:
        raise CohortTableError(where, f"split is {texts['split']!r}; it must be one of {', '.join(SPLITS)}.")
    paths, views = _read_clips(where, raw)
    labels, times, events = _read_outcomes(where, raw, tasks)
    return CohortRow(
        id=str(texts["id"]),
        patient_id=str(texts["patient_id"]),
        split=str(texts["split"]),
        labs=laboratory.translate(_read_labs(raw)),
        ecg_path=_text(raw.get("ecg_path")),
        echo_paths=paths,
        echo_views=views,
        labels=labels,
        times=times,
        events=events,
    )


def _read_clips(where: str, raw: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str | None, ...]]:
    """Read the paths of the clips, and the view of each clip (None where the table gives none).

    `where` names the row in error messages.
    """
    paths = _texts(where, "echo_paths", raw.get("echo_paths"))
    views = _texts(where, "echo_views", raw.get("echo_views"))
    if any(path is None for path in paths):
        raise CohortTableError(where, "echo_paths holds an empty path.")
    if views and len(views) != len(paths):
        raise CohortTableError(where, f"echo_views has {len(views)} entries for {len(paths)} echo_paths.")
    if unknown := sorted({view for view in views if view is not None and view not in VIEWS}):
        raise CohortTableError(where, f"unknown view(s) {', '.join(unknown)}; known are {', '.join(VIEWS)}.")
    return tuple(str(path) for path in paths), tuple(views) or (None,) * len(paths)


def _read_labs(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Read the laboratory cells of a row that are present: column -> value, or (value, unit) with a unit column.

    `raw` is column of the table -> cell.
    """
    labs: dict[str, Any] = {}
    for name, value in raw.items():
        if not name.startswith("labs.") or is_missing(value):
            continue
        column = name.removeprefix("labs.")
        unit = _text(raw.get(f"unit.{column}"))
        labs[column] = (value, unit) if unit else value
    return labs


def _read_outcomes(
    where: str, raw: Mapping[str, Any], tasks: Tasks
) -> tuple[dict[str, int], dict[str, float], dict[str, int]]:
    """Read the outcomes of one row.

    Args:
        where: Name of the row, for error messages.
        raw: Column -> cell.
        tasks: Tasks of the model.

    Returns:
        Labels (index of the right candidate), times (days) and events (one of `EVENTS`), each as task -> value. A
        missing value has no entry.
    """
    labels: dict[str, int] = {}
    times: dict[str, float] = {}
    events: dict[str, int] = {}
    for task, settings in tasks.items():
        label, time, event = (_number(where, f"{prefix}.{task}", raw) for prefix in TASK_KINDS)
        if label is not None:
            labels[task] = _one_of(where, f"label.{task}", label, range(len(settings["candidates"])))
        if (time is None) != (event is None):
            raise CohortTableError(where, f"time.{task} is {time} but event.{task} is {event}; give both or neither.")
        if time is not None and event is not None:
            if time < 0:
                raise CohortTableError(where, f"time.{task} is {time} days; it must not be negative.")
            times[task] = time
            events[task] = _one_of(where, f"event.{task}", event, EVENTS)
    return labels, times, events


def _number(where: str, column: str, raw: Mapping[str, Any]) -> float | None:
    value = raw.get(column)
    if is_missing(value):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise CohortTableError(where, f"{column} is {value!r}, not a number.") from None
    if not math.isfinite(number):
        raise CohortTableError(where, f"{column} is {value!r}, not a finite number.")
    return number


def _one_of(where: str, column: str, value: float, allowed: Sequence[int]) -> int:
    if value not in allowed:
        raise CohortTableError(where, f"{column} is {value:g}; allowed are {', '.join(map(str, allowed))}.")
    return int(value)


def _text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return str(value).strip() or None


def _texts(where: str, column: str, value: Any) -> list[str | None]:
    """Read the items of a list cell, or of a CSV cell whose items are joined with ";". An empty item is None.

    `where` and `column` name the cell in error messages.
    """
    if isinstance(value, str):
        value = value.split(";") if value else []
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return []
    if not isinstance(value, Iterable) or isinstance(value, bytes | Mapping):
        raise CohortTableError(where, f"{column} is a {type(value).__name__}; it must be a list of texts.")
    return [_text(item) for item in value]


# ---- the table as a whole


def _check_ids_and_splits(file: str, rows: list[CohortRow]) -> None:
    """Raise a CohortTableError if an id occurs twice, or if a patient is in more than one split."""
    if repeated := sorted(id_ for id_, count in Counter(row.id for row in rows).items() if count > 1):
        raise CohortTableError(file, f"{len(repeated)} id(s) occur more than once: {_first_few(repeated)}.")
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row.patient_id, set()).add(row.split)
    if leaking := sorted(patient for patient, names in splits.items() if len(names) > 1):
        raise CohortTableError(
            file,
            f"{len(leaking)} patient(s) stand in more than one split: {_first_few(leaking)}; split by patient, not by "
            "admission.",
        )


def _first_few(items: list[Any], limit: int = 5) -> str:
    text = ", ".join(str(item) for item in items[:limit])
    return f"{text}, ..." if len(items) > limit else text
