"""The cohort table (one row per admission) that `prepare` reads: `docs/manifest.md` describes it for a hospital.

    id, patient_id, split | labs.<column>, unit.<column> | ecg_path | echo_paths, echo_views
    | label.<task>, time.<task>, event.<task>

Parquet or CSV. Reading checks the table as a whole and refuses it, naming the rows, before any file is opened.
"""

import csv
import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tgmm_hf.configuration_tasks import DEFAULT_TASKS
from tgmm_hf.inputs.lab_text import is_missing
from tgmm_hf.utils.names import VIEWS

SPLITS = ("train", "validation", "test")
REQUIRED = ("id", "patient_id", "split")
EVENTS = (0, 1, 2)


class ManifestError(ValueError):
    """The cohort table cannot be used; the message names the column or rows and what to do."""


@dataclass(frozen=True)
class ManifestRow:
    """One admission. Paths are as written in the table; `labels`, `times`, `events` hold only what is present."""

    id: str
    patient_id: str
    split: str
    labs: dict[str, Any] = field(default_factory=dict)  # column -> value or (value, unit), present cells only
    ecg_path: str | None = None
    echo_paths: tuple[str, ...] = ()
    echo_views: tuple[str | None, ...] = ()  # aligned with echo_paths
    labels: dict[str, int] = field(default_factory=dict)  # diagnosis task -> candidate index
    times: dict[str, float] = field(default_factory=dict)  # prognosis task -> days
    events: dict[str, int] = field(default_factory=dict)  # prognosis task -> 0 censored, 1 event, 2 competing death


@dataclass(frozen=True)
class Manifest:
    """A checked cohort table. `root` is the directory that relative paths start from."""

    rows: list[ManifestRow]
    root: Path
    tasks: dict[str, str]  # diagnosis and prognosis tasks that have a column: name -> kind
    ignored_columns: list[str]

    def digest(self) -> str:
        """sha256 over the content of all rows, in their order."""
        return hash_json([asdict(row) for row in self.rows])


def ecg_files(ecg_path: str) -> list[str]:
    """Files of an ECG, the one that must be there first: the DICOM file, or a WFDB record's header and signal."""
    path = Path(ecg_path)
    if path.suffix.lower() == ".dcm":
        return [ecg_path]
    record = path.with_suffix("").as_posix() if path.suffix in (".hea", ".dat", ".mat") else ecg_path
    return [f"{record}{suffix}" for suffix in (".hea", ".dat", ".mat")]


def hash_json(value: Any) -> str:
    """sha256 (hex) of the canonical JSON of a value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(
    path: str | Path,
    *,
    root: str | Path | None = None,
    tasks: Mapping[str, Mapping[str, Any]] | None = None,
    for_prediction: bool = False,
) -> Manifest:
    """Read and check a cohort table.

    Args:
        path: `.parquet` or `.csv`.
        root: directory that relative paths start from; the table's own directory when None.
        tasks: the model's tasks (`TgmmConfig.tasks`), the paper's when None: they say which label columns exist and
            how many candidates a label may name.
        for_prediction: the table is only to be predicted: `patient_id` and `split` may be left out (a patient is then
            his own `id`, the split "test"), and columns of outcomes are not looked at.

    Raises:
        ManifestError: on a missing column, an unknown split, task, label, event or view, a duplicate id, or a patient
            in two splits.
    """
    path = Path(path)
    columns, records = _read_table(path)
    tasks = DEFAULT_TASKS if tasks is None else tasks
    if for_prediction:
        columns, records = _without_outcomes(columns, records)
    if missing := [name for name in REQUIRED if name not in columns]:
        raise ManifestError(f"{path.name}: missing column(s) {', '.join(missing)}; found {', '.join(columns)}.")
    if not any(name.startswith("labs.") or name in ("ecg_path", "echo_paths") for name in columns):
        raise ManifestError(f"{path.name}: no data: give labs.<column> columns, ecg_path or echo_paths.")
    task_names = _check_task_columns(path, columns, tasks)
    rows = [_read_row(f"{path.name}, row {number}", record, tasks) for number, record in enumerate(records, start=1)]
    _check_rows(path, rows)
    return Manifest(
        rows=rows,
        root=Path(root) if root is not None else path.parent,
        tasks=task_names,
        ignored_columns=[name for name in columns if not _is_known(name)],
    )


def _without_outcomes(columns: list[str], records: list[dict[str, Any]]) -> tuple[list[str], list[dict[str, Any]]]:
    """A table to predict: no outcome columns, `patient_id` and `split` filled in where the table has none."""
    kept = [name for name in columns if name.split(".", 1)[0] not in ("label", "time", "event")]
    added = [name for name in ("patient_id", "split") if name not in kept]
    filled = [
        {"patient_id": record.get("id"), "split": "test", **{name: record[name] for name in kept}} for record in records
    ]
    return [*kept, *added], filled


def _read_table(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    if not path.is_file():
        raise ManifestError(f"{path} does not exist.")
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        names, records = table.column_names, table.to_pylist()
    elif path.suffix == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names, records = list(reader.fieldnames or []), list(reader)
        if len(names) == 1 and ";" in names[0]:
            raise ManifestError(f"{path.name}: columns are separated by semicolons; write the table with commas.")
        if broken := [n for n, record in enumerate(records, start=1) if None in record or None in record.values()]:
            raise ManifestError(f"{path.name}: row(s) {_some(broken)} have another number of cells than the header.")
    else:
        raise ManifestError(f"{path.name}: a cohort table is .parquet or .csv, not {path.suffix or 'without ending'}.")
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise ManifestError(f"{path.name}: column(s) {', '.join(repeated)} occur twice.")
    if not records:
        raise ManifestError(f"{path.name}: the table has no rows.")
    return names, records


def _is_known(name: str) -> bool:
    return name in (*REQUIRED, "ecg_path", "echo_paths", "echo_views") or name.split(".", 1)[0] in (
        ("labs", "unit", "label", "time", "event") if "." in name else ()
    )


def _check_task_columns(path: Path, columns: list[str], tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Name -> kind of the tasks with a column; refuses one of an unknown task, of a wrong kind, or without its pair."""
    kinds = {"label": "diagnosis", "time": "prognosis", "event": "prognosis"}
    found: set[str] = set()
    for column in columns:
        prefix, _, task = column.partition(".")
        if prefix not in kinds or not task:
            continue
        if task not in tasks:
            raise ManifestError(
                f"{path.name}: column {column!r} names no task of the model (it has {', '.join(tasks)}): "
                "rename the column, or pass the tasks of your configuration."
            )
        if tasks[task]["kind"] != kinds[prefix]:
            raise ManifestError(
                f"{path.name}: column {column!r} is for a {kinds[prefix]} but task {task!r} is a "
                f"{tasks[task]['kind']}: a diagnosis has label.<task>, a prognosis time.<task> and event.<task>."
            )
        found.add(task)
    for task in found:
        if tasks[task]["kind"] == "prognosis" and not {f"time.{task}", f"event.{task}"} <= set(columns):
            raise ManifestError(f"{path.name}: a prognosis needs both columns time.{task} and event.{task}.")
    for column in columns:
        if column.startswith("unit.") and f"labs.{column[5:]}" not in columns:
            raise ManifestError(f"{path.name}: column {column!r} has no column labs.{column[5:]} beside it.")
    return {task: settings["kind"] for task, settings in tasks.items() if task in found}


def _read_row(where: str, record: Mapping[str, Any], tasks: Mapping[str, Mapping[str, Any]]) -> ManifestRow:
    texts = {name: _text(record[name]) for name in REQUIRED}
    if empty := [name for name, text in texts.items() if text is None]:
        raise ManifestError(f"{where}: {', '.join(empty)} is empty.")
    if texts["split"] not in SPLITS:
        raise ManifestError(f"{where}: split is {texts['split']!r}; it must be one of {', '.join(SPLITS)}.")
    paths = _texts(record.get("echo_paths"))
    views = _texts(record.get("echo_views"))
    if any(item is None for item in paths):
        raise ManifestError(f"{where}: echo_paths holds an empty path.")
    if views and len(views) != len(paths):
        raise ManifestError(f"{where}: echo_views has {len(views)} entries for {len(paths)} echo_paths.")
    if unknown := sorted({view for view in views if view is not None and view not in VIEWS}):
        raise ManifestError(f"{where}: unknown view(s) {', '.join(unknown)}; known are {', '.join(VIEWS)}.")
    labels, times, events = _read_targets(where, record, tasks)
    return ManifestRow(
        id=str(texts["id"]),
        patient_id=str(texts["patient_id"]),
        split=str(texts["split"]),
        labs=_read_labs(record),
        ecg_path=_text(record.get("ecg_path")),
        echo_paths=tuple(str(item) for item in paths),
        echo_views=tuple(views) or (None,) * len(paths),
        labels=labels,
        times=times,
        events=events,
    )


def _read_labs(record: Mapping[str, Any]) -> dict[str, Any]:
    """Present cells as column -> value, or (value, unit) where unit.<column> is given."""
    labs: dict[str, Any] = {}
    for name, value in record.items():
        if not name.startswith("labs.") or is_missing(value):
            continue
        column = name.removeprefix("labs.")
        unit = _text(record.get(f"unit.{column}"))
        labs[column] = (value, unit) if unit else value
    return labs


def _read_targets(
    where: str, record: Mapping[str, Any], tasks: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, int], dict[str, float], dict[str, int]]:
    labels: dict[str, int] = {}
    times: dict[str, float] = {}
    events: dict[str, int] = {}
    for task, settings in tasks.items():
        label = _number(where, f"label.{task}", record.get(f"label.{task}"))
        time = _number(where, f"time.{task}", record.get(f"time.{task}"))
        event = _number(where, f"event.{task}", record.get(f"event.{task}"))
        if label is not None:
            labels[task] = _one_of(where, f"label.{task}", label, range(len(settings["candidates"])))
        if (time is None) != (event is None):
            raise ManifestError(f"{where}: time.{task} is {time} but event.{task} is {event}; give both or neither.")
        if time is not None and event is not None:
            if time < 0:
                raise ManifestError(f"{where}: time.{task} is {time} days; it must not be negative.")
            times[task] = time
            events[task] = _one_of(where, f"event.{task}", event, EVENTS)
    return labels, times, events


def _number(where: str, column: str, value: Any) -> float | None:
    if is_missing(value):
        return None
    try:
        number = float(value)
    except ValueError:
        raise ManifestError(f"{where}: {column} is {value!r}, not a number.") from None
    if not math.isfinite(number):
        raise ManifestError(f"{where}: {column} is {value!r}, not a finite number.")
    return number


def _one_of(where: str, column: str, value: float, allowed: Sequence[int]) -> int:
    if value not in allowed:
        raise ManifestError(f"{where}: {column} is {value:g}; allowed are {', '.join(map(str, allowed))}.")
    return int(value)


def _text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return str(value).strip() or None


def _texts(value: Any) -> list[str | None]:
    """Items of a list column, or of a ";"-joined CSV cell."""
    if value is None or value == "":
        return []
    items = value.split(";") if isinstance(value, str) else value
    return [_text(item) for item in items]


def _check_rows(path: Path, rows: list[ManifestRow]) -> None:
    """Refuse duplicate ids (which `datasets` would not notice) and patients that stand in more than one split."""
    if repeated := sorted(id_ for id_, count in Counter(row.id for row in rows).items() if count > 1):
        raise ManifestError(f"{path.name}: {len(repeated)} id(s) occur more than once: {_some(repeated)}.")
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row.patient_id, set()).add(row.split)
    if leaking := sorted(patient for patient, names in splits.items() if len(names) > 1):
        raise ManifestError(
            f"{path.name}: {len(leaking)} patient(s) stand in more than one split: {_some(leaking)}; "
            "split by patient, not by admission."
        )


def _some(items: list[Any], limit: int = 5) -> str:
    text = ", ".join(str(item) for item in items[:limit])
    return f"{text}, ..." if len(items) > limit else text
