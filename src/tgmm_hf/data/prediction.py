"""Files of one patient, or a table of patients -> a saved model's answers.

The command line, the web page and the patient report use these functions. They print nothing.

A file that cannot be understood as a whole (laboratory JSON, views, table) raises an error. A recording, clip or cell
that cannot be used raises no error: the prediction names it under `refused` and rests on the other inputs.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import tee
from pathlib import Path
from typing import Any, cast

from tgmm_hf.data.column_checks import SAMPLE, Numbers, add_cells, column_doubts
from tgmm_hf.data.confinement import confined_clips, confined_ecg
from tgmm_hf.data.lab_tables import read_one_lab_row
from tgmm_hf.data.laboratory import Laboratory, unused_note
from tgmm_hf.data.manifest import CohortRow, read_cohort_table
from tgmm_hf.data.prediction_tables import add_decisions, files_used
from tgmm_hf.data.repeated_inputs import shared_files
from tgmm_hf.data.saved_models import load_in_format, load_processor
from tgmm_hf.data.slipped_paths import compare_headers
from tgmm_hf.data.table_columns import ignored_text
from tgmm_hf.data.table_files import DEFAULT_FORMAT, CohortTableError, TableFormat, read_csv
from tgmm_hf.data.watched_prediction import predict_watched
from tgmm_hf.inputs.echo_reading import list_echo_files
from tgmm_hf.inputs.echo_views import StoredViewClassifier
from tgmm_hf.inputs.input_limits import is_unreadable
from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.inputs.private_text import quoted, shown_names
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.pipeline_tgmm import TgmmCardiacPipeline
from tgmm_hf.utils.errors import InputRefusedError, TgmmError
from tgmm_hf.utils.files import read_json
from tgmm_hf.utils.watched_worker import UNEXPECTED, Limits

VIEW_COLUMNS = ("dicom_filepath", "view")
"""Columns of a table of views. MIMIC-IV-ECHO calls the path of a clip `dicom_filepath`."""

COLUMN_NOT_USED = "table_column_not_used"
"""Code of a column of a table that may hold data, but whose name no cohort table has."""
ID_OF_ANOTHER_ROW = "header_names_another_row"
"""Code of a patient whose file names the id of another row of the table in its header."""

Patient = dict[str, Any]
"""One patient as `TgmmCardiacPipeline` takes it: `id`, `labs`, `ecg`, `echo`, `views`; every key may be absent."""


class TablePatients(list[Patient]):
    """Patients of a table.

    Args:
        patients: The patients, in the order of the table.
        checks: For each patient the findings that the table gives, which go into the "checks" of the prediction.
    """

    def __init__(self, patients: Iterable[Patient], checks: Sequence[Sequence[Mapping[str, str]]]) -> None:
        super().__init__(patients)
        self.checks = [[dict(check) for check in of_patient] for of_patient in checks]


def patient_from_files(  # noqa: PLR0913 - one argument per option of the command
    *,
    labs: Path | None = None,
    ecg: Path | None = None,
    echo: Path | None = None,
    views: Path | None = None,
    identifier: str | None = None,
    allow_outside: bool = False,
    laboratory: Laboratory | None = None,
    table_format: TableFormat = DEFAULT_FORMAT,
) -> Patient:
    """Build one patient from files. Give None for a modality that the patient does not have.

    Args:
        labs: JSON or CSV file with one lab row, see [`read_labs`].
        ecg: ECG file in a format that `read_ecg` reads. A WFDB recording may be named without its suffix.
        echo: Directory of a study, or one clip.
        views: CSV file with the view of each clip, see [`read_views`]. It is not used without `echo`.
        identifier: Name of the patient in the prediction.
        allow_outside: Follow links that lead out of the study directory. By default they are refused.
        laboratory: Units and names of the cells of `labs`.
        table_format: Encoding and decimal sign of CSV files.

    Returns:
        One patient as [`TgmmCardiacPipeline`] takes it. The values of `labs` and `views` are read here. The ECG and the
        echo are passed on as paths and are not read here.

    Raises:
        TgmmError: If `labs` or `views` cannot be understood.
    """
    patient: Patient = {"id": identifier}
    if labs is not None:
        row, laboratory = read_labs(labs, table_format), laboratory or Laboratory()
        for note in unused_note(laboratory, row):
            warnings.warn(note, stacklevel=2)
        patient["labs"] = laboratory.translate(row)
    if ecg is not None:
        patient["ecg"] = str(ecg)
    if echo is not None:
        clips = [str(path) for path in list_echo_files(echo, True)] if allow_outside and echo.is_dir() else [str(echo)]
        patient["echo"] = str(echo) if echo.is_dir() and not allow_outside else clips
        patient["views"] = None if views is None else read_views(views, table_format)
    return patient


def patients_from_table(  # noqa: PLR0913 - one argument per option of the command
    table: Path,
    split: str | None = None,
    limit: int | None = None,
    root: Path | None = None,
    *,
    laboratory: Laboratory | None = None,
    table_format: TableFormat = DEFAULT_FORMAT,
    allow_outside: bool = False,
) -> TablePatients:
    """Build the patients of a cohort table, in the table's order. Only headers of the ECG and echo files are read.

    A patient whose files name another patient of the table keeps no input: a refusal stands in place of its files.

    Args:
        table: Cohort table (.parquet or .csv). For a prediction only the column `id` is needed.
        split: Take only the patients of this split.
        limit: Take only this many patients, from the top of the table.
        root: Directory that relative paths start from. None means the directory of the table.
        allow_outside: Read files outside the root too. By default they are refused, and the prediction names them.
        laboratory: Units and names of the laboratory columns, see [`read_cohort_table`].
        table_format: Encoding, decimal sign and largest size of the table.

    Returns:
        One patient for each row, as [`TgmmCardiacPipeline`] takes it. A column that is not used, but may hold data,
        becomes a finding that [`with_shared_files`] adds to every prediction.

    Raises:
        TgmmError: If no patient is left.
        ValueError: If the table cannot be used.
    """
    manifest = read_cohort_table(
        table,
        root=root,
        for_prediction=True,
        laboratory=laboratory,
        table_format=table_format,
        allow_outside=allow_outside,
    )
    for note in filter(None, (ignored_text(manifest.ignored_columns, manifest.meant_columns), *manifest.notes)):
        warnings.warn(note, stacklevel=2)
    rows = [row for row in manifest.rows if split is None or row.split == split][:limit]
    if not rows:
        raise TgmmError(str(table), f"it has no patient{f' in the split {split}' if split else ''}.")
    numbers: Numbers = {}
    for row in rows[:SAMPLE]:
        add_cells(numbers, LabsText.from_row(row.labs, from_table=True).cells)
    for doubt in column_doubts(numbers):
        warnings.warn(f"doubt about a column: {doubt}", stacklevel=2)
    headers = compare_headers(manifest, rows)
    slipped = headers.slipped
    for note in headers.notes():
        warnings.warn(note, stacklevel=2)
    patients = [
        _refused_patient(row, slipped[row.id])
        if row.id in slipped
        else _patient_of_row(row, manifest.root, allow_outside)
        for row in rows
    ]
    of_columns = [_column_check(*pair) for pair in manifest.meant_columns.items()]
    exchanged = [
        [{"code": ID_OF_ANOTHER_ROW, "item": "patient", "text": headers.doubts[row.id]}]
        if row.id in headers.doubts
        else []
        for row in rows
    ]
    return TablePatients(patients, [[*of_columns, *of_row] for of_row in exchanged])


def _column_check(name: str, column: str) -> dict[str, str]:
    """Write the finding on a column that is not used, but may be meant for `column`."""
    text = f"the column {quoted(name)} of the table is not used: did you mean {column}?"
    return {"code": COLUMN_NOT_USED, "item": "patient", "text": text}


def _refused_patient(row: CohortRow, reason: str) -> Patient:
    """Build the patient of a row that must not be used. A refusal stands in place of the files; there are no labs."""
    ecg = None if row.ecg_path is None else InputRefusedError("ecg", f"the patient is not used: {reason}")
    echo = [InputRefusedError("echo", f"the patient is not used: {reason}")] if row.echo_paths else None
    return {"id": row.id, "labs": None, "ecg": ecg, "echo": echo, "views": None}


def _patient_of_row(row: CohortRow, root: Path, allow_outside: bool) -> Patient:
    """Build the patient of one row, with paths that start with `root`, and refusals for files outside of it."""
    views = {path: view for path, view in zip(row.echo_paths, row.echo_views, strict=True) if view is not None}
    return {
        "id": row.id,
        "labs": row.labs or None,
        "ecg": None if row.ecg_path is None else _path_text(confined_ecg(row.ecg_path, root, allow_outside)),
        "echo": [_path_text(clip) for clip in confined_clips(row.echo_paths, root, allow_outside)] or None,
        "views": views,
    }


def _path_text(path: Path | InputRefusedError) -> str | InputRefusedError:
    """Return a path as text, and a refusal in its place as it is."""
    return path if isinstance(path, InputRefusedError) else str(path)


def read_labs(path: Path, table_format: TableFormat = DEFAULT_FORMAT) -> dict[str, Any]:
    """Read a lab row from a JSON file, or from a CSV file with one row (see `read_one_lab_row`).

    The JSON file holds one object, column -> value, or column -> [value, unit].

    Returns:
        Column -> value, or column -> (value, unit).

    Raises:
        TgmmError: If the file does not hold one JSON object, or one row.
    """
    if path.suffix.lower() in (".csv", ".parquet"):
        with _named_by_path(path):
            return read_one_lab_row(path, table_format)
    row = read_json(path, quoted)
    if not isinstance(row, dict):
        raise TgmmError(
            str(path), f"it must hold one object of column names and values, but it holds a {type(row).__name__}."
        )
    return {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}


def read_views(path: Path, table_format: TableFormat = DEFAULT_FORMAT) -> dict[str, str]:
    """Read the views of clips from a CSV file with the columns `VIEW_COLUMNS`: path of a clip -> view.

    A clip without a view is left out.

    Raises:
        TgmmError: If a column is missing or occurs twice, or two rows give one clip two views.
    """
    with _named_by_path(path):
        table = read_csv(path, table_format)
    if missing := set(VIEW_COLUMNS) - set(table.names):
        raise TgmmError(
            str(path),
            f"it lacks the column(s) {', '.join(sorted(missing))}. Its columns are {shown_names(table.names)}.",
        )
    if twice := [name for name in VIEW_COLUMNS if table.names.count(name) > 1]:
        raise TgmmError(str(path), f"it has the column(s) {', '.join(twice)} twice. Rename or remove one of them.")
    file_name, view = VIEW_COLUMNS
    views: dict[str, str] = {}
    for number, row in enumerate(table.rows, start=1):
        if row[view].strip() and views.setdefault(row[file_name], row[view].strip()) != row[view].strip():
            raise TgmmError(
                str(path),
                "a row gives a clip another view than an earlier row. Keep one of the rows "
                f"(the later one is row {number}).",
            )
    return views


@contextmanager
def _named_by_path(path: Path) -> Iterator[None]:
    """Name a table in an error by its whole path, by which a caller finds the option that gave it."""
    try:
        yield
    except CohortTableError as error:
        raise TgmmError(str(path), error.reason) from error


def load_model(model: str, dtype: str = "float32") -> TgmmModel:
    """Load a saved model, whose directory or Hub repository is `model`. See [`load_in_format`]."""
    return cast(TgmmModel, load_in_format(TgmmModel, model, dtype))


def load_pipeline(
    model: str,
    view_classifier: str | None = None,
    view_threshold: float | None = None,
    strictness: str = "note",
    dtype: str = "float32",
) -> TgmmCardiacPipeline:
    """Load a saved model with its processor as a pipeline.

    Args:
        model: Directory or Hub repository.
        view_classifier: Directory or Hub repository of the classifier that names the views of clips without a given
            view. None takes the classifier that was saved with the model, if there is one.
        view_threshold: Do not use a clip if the classifier gives its most probable view a lower probability than this.
            None takes the saved value.
        strictness: "note", or "refuse" to refuse patients with doubtful data, see [`TgmmProcessor`].
        dtype: Number format of the weights, see [`load_in_format`].
    """
    processor = load_processor(model)
    processor.default_strictness = strictness
    if view_classifier is not None:
        processor.default_view_classifier = StoredViewClassifier(view_classifier)
    if view_threshold is not None:
        processor.image_processor.view_threshold = view_threshold
    pipe = TgmmCardiacPipeline(model=load_model(model, dtype), processor=processor)
    chosen = {"view_classifier": view_classifier, "image_processor.view_threshold": view_threshold}
    pipe.binding_check.chosen |= {name for name, value in chosen.items() if value is not None}
    return pipe


def predict(
    pipe: TgmmCardiacPipeline,
    patients: Iterable[Patient],
    tasks: Sequence[str] | None = None,
    batch_size: int = 8,
    limits: Limits | None = None,
) -> Iterator[dict[str, Any]]:
    """Answer the tasks for patients, one batch after the other.

    Args:
        pipe: From [`load_pipeline`].
        patients: From [`patient_from_files`] or [`patients_from_table`].
        tasks: Names of tasks of the model; None answers all but retrieval tasks.
        batch_size: Number of patients that are encoded together.
        limits: Read the files in a watched worker process, with these limits for each patient. None reads them in this
            process.

    Returns:
        One prediction per patient, in order, as [`TgmmCardiacPipeline`] describes it. It also has "files", the ECG and
        echo files that are used, by position (see `files_used`), and every diagnosis has its "decision" at the
        threshold that the model stores, and its place "among_validation" patients (see `add_decisions`).
    """
    stream, waiting = tee(patients)
    settings = cast(Mapping[str, Any], pipe.model.config.tasks)
    fits = pipe.binding_check(pipe.model, pipe.processor).fits
    if limits is None:
        answers = pipe(stream, tasks=tasks, batch_size=batch_size)
    else:
        answers = predict_watched(pipe, stream, tasks, batch_size, limits)
    for patient, prediction in zip(waiting, answers, strict=True):
        prediction["files"] = files_used(prediction, patient)
        yield add_decisions(prediction, settings, fits)


def with_shared_files(
    predictions: Iterable[dict[str, Any]], patients: Sequence[Patient], first: int = 0
) -> Iterator[dict[str, Any]]:
    """Add a finding to the "checks" of every prediction whose ECG file or clip stands with another patient too.

    The findings that the table gives are added too.

    Args:
        predictions: From [`predict`], one per patient in order.
        patients: All patients, from [`patients_from_table`].
        first: Number of patients at the start that have no entry in `predictions`.
    """
    of_table = patients.checks if isinstance(patients, TablePatients) else [[] for _ in patients]
    findings = zip(of_table[first:], shared_files(patients)[first:], strict=True)
    for prediction, (of_row, of_files) in zip(predictions, findings, strict=True):
        checks = [*of_row, *of_files]
        prediction["checks"] = [*prediction["checks"], *checks]
        prediction["notes"] = [*prediction["notes"], *(f"{check['item']}: {check['text']}" for check in checks)]
        yield prediction


def is_answered(prediction: Mapping[str, Any]) -> bool:
    """Tell whether a prediction uses any input. If not, nothing was given or everything was refused."""
    return any(prediction["used"].values())


def count_unexpected(predictions: Iterable[Mapping[str, Any]]) -> int:
    """Count the refusals whose reason nobody foresaw."""
    return sum(entry["reason"].startswith(UNEXPECTED) for one in predictions for entry in one["refused"])


def count_unreadable(predictions: Iterable[Mapping[str, Any]]) -> int:
    """Count the refusals because the file system failed or gave no permission. A later run may read these files."""
    return sum(is_unreadable(entry["reason"]) for one in predictions for entry in one["refused"])
