"""The cohort table: one row per admission. `docs/your_data.md` describes it for a hospital.

    id, patient_id, split | labs.<column>, unit.<column> | ecg_path | echo_paths, echo_views
    | label.<task>, time.<task>, event.<task>, value.<task>, finding.<task>.<finding>

The table is Parquet or CSV. It is checked as a whole before any other file is opened. A table that cannot be used is
refused, and the error names its rows.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tgmm_hf.configuration_tasks import DEFAULT_TASKS
from tgmm_hf.data.laboratory import Laboratory, unused_note
from tgmm_hf.data.table_columns import (
    REQUIRED,
    TASK_KINDS,
    Tasks,
    check_required,
    check_task_columns,
    is_used,
    meant,
    meant_columns,
)
from tgmm_hf.data.table_files import (
    DEFAULT_FORMAT,
    CohortTableError,
    Faults,
    TableFormat,
    first_few,
    read_table,
)
from tgmm_hf.data.table_ids import alike_ids, odd_ids
from tgmm_hf.inputs.lab_cells import is_empty_cell
from tgmm_hf.inputs.private_text import quoted, shown_names
from tgmm_hf.utils.digests import json_digest
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.names import VIEWS

SPLITS = ("train", "validation", "test")
ECG_FILE_SUFFIXES = (".dcm", ".xml", ".scp", ".edf", ".csv", ".tsv")
"""Suffixes of ECGs that are one file. The reader looks at the content, so that another suffix is read too."""
EVENTS = (0, 1, 2)
"""Codes of a prognosis: 0 censored, 1 event, 2 death from another cause."""


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
        values: Regression task -> number in the unit of the task. Missing values have no entry.
        findings: Multilabel task -> finding -> 0 (absent) or 1 (present). A finding that is not known has no entry.
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
    values: dict[str, float] = field(default_factory=dict)
    findings: dict[str, dict[str, int]] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        """Return the row for a digest. Without values and findings it is as in earlier versions."""
        later = ("values", "findings")
        return {name: value for name, value in asdict(self).items() if value or name not in later}


@dataclass(frozen=True)
class CohortTable:
    """A checked cohort table.

    Attributes:
        rows: All admissions, in the order of the file.
        root: Directory that relative paths start from.
        tasks: Task name -> kind, for the tasks that have columns in the table.
        ignored_columns: Columns that are not used.
        notes: What was ignored or assumed when the file was read.
        allow_outside: Whether files outside `root` are read.
        units: Regression task with a column in the table -> its unit.
        meant_columns: Column that is not used -> column of the table's format that it may be meant for.
    """

    rows: list[CohortRow]
    root: Path
    tasks: dict[str, str]
    ignored_columns: list[str]
    notes: list[str] = field(default_factory=list)
    allow_outside: bool = False
    units: dict[str, str] = field(default_factory=dict)
    meant_columns: dict[str, str] = field(default_factory=dict)

    def digest(self) -> str:
        """Compute the sha256 (hexadecimal) of the rows in their order. The content of their files does not count."""
        return json_digest([row.content() for row in self.rows])

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


@dataclass(frozen=True)
class _Settings:
    """Arguments of [`read_cohort_table`]."""

    root: str | Path | None = None
    tasks: Tasks | None = None
    for_prediction: bool = False
    laboratory: Laboratory | None = None
    table_format: TableFormat = DEFAULT_FORMAT
    allow_outside: bool = False


def read_cohort_table(  # noqa: PLR0913 - one argument per option of the commands
    path: str | Path,
    *,
    root: str | Path | None = None,
    tasks: Tasks | None = None,
    for_prediction: bool = False,
    allow_outside: bool = False,
    laboratory: Laboratory | None = None,
    table_format: TableFormat = DEFAULT_FORMAT,
) -> CohortTable:
    """Read and check a cohort table.

    Args:
        path: `.parquet` or `.csv` file.
        root: Directory that relative paths start from. None means the directory of the table.
        tasks: Tasks of the model (`TgmmConfig.tasks`), because they define which outcome columns exist and how many
            candidates a label may name. None means the tasks of the paper.
        for_prediction: Read a table that is only to be predicted. `patient_id` and `split` may then be missing: the
            patient gets the name of the admission, and the split is "test". Outcome columns are not read.
        allow_outside: Files outside the root may be read. By default they are refused (`data/confinement.py`).
        laboratory: Units and names of the laboratory columns. If it has no unit system, the unit system that a Parquet
            table declares is taken (`UNITS_KEY`; tables of `tgmm curate` and `tgmm synth` declare "US").
        table_format: Encoding, decimal sign and largest size of the file.

    Returns:
        The checked table.

    Raises:
        CohortTableError: If a column is missing; if a split, task, label, event or view is unknown; if an id occurs
            twice; or if a patient is in two splits.
    """
    return _read(Path(path), _Settings(root, tasks, for_prediction, laboratory, table_format, allow_outside), Faults())


def find_faults(path: str | Path, **settings: Any) -> tuple[CohortTable, list[CohortTableError]]:
    """Read a cohort table and collect all its faults.

    Args:
        path: As in [`read_cohort_table`].
        **settings: The other arguments of [`read_cohort_table`].

    Returns:
        The table, in which a part that cannot be read is empty, and the faults in the order of the rows.

    Raises:
        CohortTableError: If the rows cannot be read, because the file or its columns are wrong. The message lists all
            faults of the columns.
    """
    faults = Faults(collect=True)
    return _read(Path(path), _Settings(**settings), faults), faults.found


def _read(path: Path, settings: _Settings, faults: Faults) -> CohortTable:
    """Read a table as in [`read_cohort_table`] and give its faults to `faults`."""
    raw_table = read_table(path, settings.table_format)
    columns, raw_rows = raw_table.names, raw_table.rows
    laboratory = settings.laboratory or Laboratory()
    laboratory = replace(laboratory, units=laboratory.units or raw_table.units)
    tasks = DEFAULT_TASKS if settings.tasks is None else settings.tasks
    if settings.for_prediction:
        columns, raw_rows = _without_outcomes(columns, raw_rows)
    with faults.catching():
        check_required(path.name, columns)
    task_kinds = check_task_columns(path.name, columns, tasks, faults)
    if faults.found:  # each row would repeat the fault of its column
        raise CohortTableError(path.name, " ".join(error.reason for error in faults.found))
    lab_names = [name.removeprefix("labs.") for name in columns if name.startswith("labs.")]
    rows = [
        _read_row(f"{path.name}, row {number}", raw, tasks, laboratory, faults)
        for number, raw in enumerate(raw_rows, start=1)
    ]
    ignored = [name for name in columns if not is_used(name)]
    table = CohortTable(
        rows=rows,
        root=Path(settings.root) if settings.root is not None else path.parent,
        tasks=task_kinds,
        ignored_columns=ignored,
        meant_columns=meant_columns(ignored, columns),
        notes=[*raw_table.notes, *unused_note(laboratory, lab_names)],
        allow_outside=settings.allow_outside,
        units={name: str(tasks[name]["unit"]) for name, kind in task_kinds.items() if kind == "regression"},
    )
    _check_ids_and_splits(path.name, table, faults)
    return table


# ---- the file


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


# ---- rows


def _read_row(where: str, raw: Mapping[str, Any], tasks: Tasks, laboratory: Laboratory, faults: Faults) -> CohortRow:
    """Read a row. A part that cannot be read is a fault and stays empty."""
    texts = {name: _text(raw[name]) for name in REQUIRED}
    paths: tuple[str, ...] = ()
    views: tuple[str | None, ...] = ()
    outcomes = _Outcomes()
    labs: dict[str, Any] = {}
    with faults.catching():
        _check_names(where, texts)
    with faults.catching():
        labs = _translated(where, _read_labs(raw), laboratory)
    with faults.catching():
        paths, views = _read_clips(where, raw)
    for task, settings in tasks.items():
        with faults.catching():
            _read_outcomes(where, raw, task, settings, outcomes)
    return CohortRow(
        id=texts["id"] or where,
        patient_id=texts["patient_id"] or where,
        split=texts["split"] or "",
        labs=labs,
        ecg_path=_text(raw.get("ecg_path")),
        echo_paths=paths,
        echo_views=views,
        **vars(outcomes),
    )


def _check_names(where: str, texts: Mapping[str, str | None]) -> None:
    """Raise a CohortTableError if id, patient or split is empty, or the split is unknown."""
    if empty := [name for name, text in texts.items() if text is None]:
        raise _row_error(where, f"{', '.join(empty)} is empty.")
    if texts["split"] not in SPLITS:
        rule = f"it must be one of {', '.join(SPLITS)}.{meant(str(texts['split']).lower(), SPLITS)}"
        raise _row_error(where, f"split is {quoted(str(texts['split']))}; {rule}")


def _row_error(where: str, reason: str, kind: str = "") -> CohortTableError:
    """Make the error of one row. `where` is "<file>, row <number>". `kind` is the reason without values of the row."""
    return CohortTableError(where, reason, kind, int(where.rpartition(" ")[2]))


def _read_clips(where: str, raw: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str | None, ...]]:
    """Read the paths of the clips, and the view of each clip (None where the table gives none).

    `where` names the row in error messages.
    """
    paths = _texts(where, "echo_paths", raw.get("echo_paths"))
    views = _texts(where, "echo_views", raw.get("echo_views"))
    if any(path is None for path in paths):
        raise _row_error(where, "echo_paths holds an empty path.")
    if views and len(views) != len(paths):
        raise _row_error(
            where,
            f"echo_views has {len(views)} entries for {len(paths)} echo_paths.",
            "echo_views has another number of entries than echo_paths.",
        )
    if unknown := sorted({view for view in views if view is not None and view not in VIEWS}):
        hint = "".join(meant(view, VIEWS) for view in unknown)
        raise _row_error(where, f"unknown view(s) {shown_names(unknown)}; known are {', '.join(VIEWS)}.{hint}")
    return tuple(str(path) for path in paths), tuple(views) or (None,) * len(paths)


def _read_labs(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Read the laboratory cells of a row that are present: column -> value, or (value, unit) with a unit column.

    `raw` is column of the table -> cell.
    """
    labs: dict[str, Any] = {}
    for name, value in raw.items():
        if not name.startswith("labs.") or is_empty_cell(value):
            continue
        column = name.removeprefix("labs.")
        unit = _text(raw.get(f"unit.{column}"))
        labs[column] = (value, unit) if unit else value
    return labs


def _translated(where: str, labs: Mapping[str, Any], laboratory: Laboratory) -> dict[str, Any]:
    """Give lab cells the names and units of this package. Raise a CohortTableError if two names are one column."""
    try:
        return laboratory.translate(labs)
    except TgmmError as error:
        raise _row_error(where, error.reason) from error


@dataclass
class _Outcomes:
    """The outcomes of a row, as [`CohortRow`] names them."""

    labels: dict[str, int] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    findings: dict[str, dict[str, int]] = field(default_factory=dict)


def _read_outcomes(
    where: str, raw: Mapping[str, Any], task: str, settings: Mapping[str, Any], outcomes: _Outcomes
) -> None:
    """Read the outcomes of one task in one row.

    Args:
        where: Name of the row, for error messages.
        raw: Column -> cell.
        task: Name of the task.
        settings: Settings of the task.
        outcomes: They are filled here. A missing value gets no entry.
    """
    label, time, event = (_number(where, f"{prefix}.{task}", raw) for prefix in ("label", "time", "event"))
    if label is not None:
        outcomes.labels[task] = _one_of(where, f"label.{task}", label, range(len(settings["candidates"])))
    if settings["kind"] == "regression":
        _read_value(where, raw, task, settings, outcomes.values)
    if settings["kind"] == "multilabel":
        columns = {finding: f"finding.{task}.{finding}" for finding in settings["findings"]}
        read = {finding: _number(where, column, raw) for finding, column in columns.items()}
        codes = {
            name: _one_of(where, columns[name], value, (0, 1)) for name, value in read.items() if value is not None
        }
        outcomes.findings |= {task: codes} if codes else {}
    if (time is None) != (event is None):
        raise _row_error(
            where,
            f"time.{task} is {time} but event.{task} is {event}; give both or neither.",
            f"only one of time.{task} and event.{task} is given; give both or neither.",
        )
    if time is not None and event is not None:
        if time < 0:
            kind = f"time.{task} is negative; it must be a number of days."
            raise _row_error(where, f"time.{task} is {time} days; it must not be negative.", kind)
        code = _one_of(where, f"event.{task}", event, EVENTS)
        outcomes.times[task], outcomes.events[task] = time, code


def _read_value(
    where: str, raw: Mapping[str, Any], task: str, settings: Mapping[str, Any], values: dict[str, float]
) -> None:
    """Read the value of a regression into `values`. Raise a CohortTableError if it lies outside the task's range."""
    value = _number(where, f"value.{task}", raw)
    if value is None:
        return
    low, high = settings["range"]
    if not low <= value <= high:
        rule = f"the range of the task is {low:g} to {high:g} {settings['unit']}. Correct the value or its unit."
        reason = f"value.{task} is {value:g}; {rule}"
        raise _row_error(where, reason, f"value.{task} lies outside its range; {rule}")
    values[task] = value


def _number(where: str, column: str, raw: Mapping[str, Any]) -> float | None:
    value = raw.get(column)
    if is_empty_cell(value):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        shown = quoted(str(value))
        raise _row_error(where, f"{column} is {shown}, not a number.", f"{column} is not a number.") from None
    if not math.isfinite(number):
        shown = quoted(str(value))
        raise _row_error(where, f"{column} is {shown}, not a finite number.", f"{column} is not a finite number.")
    return number


def _one_of(where: str, column: str, value: float, allowed: Sequence[int]) -> int:
    if value not in allowed:
        codes = f"allowed are {', '.join(map(str, allowed))}."
        raise _row_error(where, f"{column} is {value:g}; {codes}", f"{column} has a code that is not known; {codes}")
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
        raise _row_error(where, f"{column} is a {type(value).__name__}; it must be a list of texts.")
    return [_text(item) for item in value]


# ---- the table as a whole


def _check_ids_and_splits(file: str, table: CohortTable, faults: Faults) -> None:
    """Find ids that occur twice, and patients in more than one split. Both are faults.

    Patients of several splits whose ids are two spellings of one ("7", "007", "7.0") are noted, because they may be one
    patient. So are ids that name nobody.
    """
    counts = Counter(row.id for row in table.rows)
    if repeated := sorted(name for name, count in counts.items() if count > 1):
        rows = [number for number, row in enumerate(table.rows, start=1) if counts[row.id] > 1]
        with faults.catching():
            raise CohortTableError(
                file, f"{len(repeated)} id(s) occur more than once: {first_few(repeated)} (row {first_few(rows)})."
            )
    splits: dict[str, set[str]] = {}
    for row in table.rows:
        splits.setdefault(row.patient_id, set()).add(row.split)
    splits = {patient: names & set(SPLITS) for patient, names in splits.items()}
    if leaking := sorted(patient for patient, names in splits.items() if len(names) > 1):
        with faults.catching():
            raise CohortTableError(
                file,
                f"{len(leaking)} patient(s) stand in more than one split: {first_few(leaking)}; split by patient, not "
                "by admission.",
            )
    if pairs := alike_ids(splits):
        table.notes.append(
            f"patients of different splits have ids that are alike: {first_few(pairs)}. Is each pair one patient? Then "
            "give one id, or the patient is in training and test."
        )
    table.notes.extend(odd_ids(table.rows))
