"""Uploaded files of one patient, or of a table of patients -> answers.

Every function works in a directory of the request, which the caller removes. Nothing is kept.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tgmm_hf.app.private_files import RequestPlace
from tgmm_hf.app.uploads import FIRST_ARCHIVE, refuse_large_table, take_files
from tgmm_hf.data.laboratory import Laboratory
from tgmm_hf.data.prediction import Patient, patients_from_table, predict, read_labs, read_views, with_shared_files
from tgmm_hf.data.prediction_tables import outputs_of, positioned, write_tables
from tgmm_hf.inputs.lab_columns import find_column
from tgmm_hf.pipeline_tgmm import TgmmCardiacPipeline
from tgmm_hf.reports.patient_file import explain_patient
from tgmm_hf.reports.patient_report import ReportSettings
from tgmm_hf.utils.errors import InputRefusedError, TgmmError
from tgmm_hf.utils.names import MODALITIES
from tgmm_hf.utils.watched_worker import Limits

READING_LIMITS = Limits(seconds=120.0, memory=4 * 2**30)
"""What the reading of one patient's files may take. A page has other users, who wait meanwhile."""
BEFORE_EXPLAINING = 0.1
"""Share of the progress bar before the explanation begins."""
VIEWS_FILE = "views.csv"
"""A file of this name among the echo files gives the views of the clips."""
MAX_PATIENTS = 200
"""Largest number of patients of one table. Larger tables are for `tgmm predict`."""

_NUMBER_AND_UNIT = re.compile(r"([<>≤≥]?\s*[-+]?[\d.,]+(?:[eE][-+]?\d+)?)\s*(.*)")

Progress = Callable[[float, str], Any]
"""Function of a share between 0 and 1 and of what is done now."""


@dataclass
class EnteredInputs:
    """What a user entered for one patient. Every part may be absent.

    Attributes:
        labs: Column -> value or (value, unit), of the form.
        labs_file: JSON or CSV file with one lab row, in the cache.
        ecg: Files of one recording, in the cache.
        echo: Files of one study, in the cache.
        views: Name of a clip -> view.
        units: "US" or "SI", the units of numbers without a unit. None if they are not known.
    """

    labs: Mapping[str, Any] = field(default_factory=dict)
    labs_file: str | None = None
    ecg: Sequence[str] = ()
    echo: Sequence[str] = ()
    views: Mapping[str, str] = field(default_factory=dict)
    units: str | None = None


@dataclass
class PatientAnswer:
    """The answer for one patient.

    Attributes:
        prediction: As `predict` gives it. Files are named by their positions.
        messages: Modality -> what the processor says about its inputs: refusals, doubts and notes.
        report: Page of the patient report as HTML text.
    """

    prediction: dict[str, Any]
    messages: dict[str, list[str]]
    report: str = ""


@dataclass
class TableAnswer:
    """The answers for a table of patients, as the texts of the CSV files of `tgmm predict --manifest`.

    Attributes:
        predictions: Text of predictions.csv.
        refused: Text of refused.csv.
        patients: Number of patients.
        answered: Number of patients with an answer.
    """

    predictions: str
    refused: str
    patients: int
    answered: int


@dataclass(frozen=True)
class Question:
    """What is asked of the model.

    Attributes:
        tasks: Names of tasks; None answers all but retrieval tasks.
        contributions: Explain the answer to the first task. It takes longer than the answer.
        progress: Is told what is done now.
    """

    tasks: Sequence[str] | None = None
    contributions: bool = False
    progress: Progress = field(default=lambda share, text: None)


def answer_patient(
    pipe: TgmmCardiacPipeline, entered: EnteredInputs, question: Question, place: RequestPlace
) -> PatientAnswer:
    """Answer the tasks for one patient from uploaded files.

    Args:
        pipe: The model.
        entered: What the user entered. The files are moved out of the cache, also if the answer fails.
        question: What is asked.
        place: Directories of this request.

    Returns:
        The answer. An input that cannot be used is refused with the processor's reason. The answer rests on the others.
    """
    patient, refused = patient_of(entered, place)
    return answer_read_patient(pipe, patient, question, refused)


def answer_read_patient(
    pipe: TgmmCardiacPipeline, patient: Patient, question: Question, refused: Sequence[TgmmError] = ()
) -> PatientAnswer:
    """Answer the tasks for a patient as the pipeline takes it, and write the report.

    A worker process with limits reads the files first. Only the modalities that it could read are read again, in this
    process, for the report.

    Args:
        pipe: The model.
        patient: The patient. ECG and echo are paths.
        question: What is asked.
        refused: Inputs that were refused before, each named by its modality.
    """
    question.progress(BEFORE_EXPLAINING, "Reading the files, then asking the model")
    (prediction,) = predict(pipe, [patient], question.tasks, batch_size=1, limits=READING_LIMITS)
    prediction["refused"] += [{"item": error.item, "reason": error.reason} for error in refused]
    for entry in prediction["refused"]:
        entry["item"] = positioned(entry["item"], patient)
    read = {key: value for key, value in patient.items() if key not in MODALITIES or prediction["used"][key]}

    def tell(step: str, share: float) -> None:
        question.progress(BEFORE_EXPLAINING + (1 - BEFORE_EXPLAINING) * share, f"Explaining: {step}")

    explained = explain_patient(pipe, read, question.tasks, question.contributions, tell)
    report = replace(explained, prediction=prediction).page(ReportSettings())
    return PatientAnswer(prediction, messages_of(prediction), report)


def answer_two(
    pipe: TgmmCardiacPipeline,
    recordings: tuple[Sequence[str], Sequence[str]],
    labs_file: str | None,
    question: Question,
    place: RequestPlace,
) -> list[PatientAnswer]:
    """Answer the tasks for two recordings of one patient.

    Args:
        pipe: The model.
        recordings: Files of the first and of the second recording, in the cache.
        labs_file: JSON or CSV file with one lab row, which goes into both answers, in the cache.
        question: What is asked.
        place: Directories of this request.
    """
    patients = []
    for number, files in enumerate(recordings, start=1):
        entered = EnteredInputs(ecg=files, labs_file=labs_file if number == 1 else None)
        patients.append(patient_of(entered, RequestPlace(place.cache, place.folder / str(number))))
    (first, first_refused), (second, second_refused) = patients
    second["labs"] = first.get("labs")
    second_refused += [error for error in first_refused if error.item == "labs"]
    return [
        answer_read_patient(pipe, patient, question, refused)
        for patient, refused in ((first, first_refused), (second, second_refused))
    ]


def patient_of(entered: EnteredInputs, place: RequestPlace) -> tuple[Patient, list[TgmmError]]:
    """Build a patient from what a user gave.

    All files are taken out of the cache first, so that none stays there after an error.

    Returns:
        The patient as the pipeline takes it, and refusals. The item of a refusal is the modality.
    """
    patient: Patient = {}
    refused: list[TgmmError] = []
    files: dict[str, list[Path]] = {}
    sent = {"labs": [entered.labs_file] if entered.labs_file else [], "ecg": entered.ecg, "echo": entered.echo}
    for modality, paths in sent.items():
        try:
            files[modality] = take_files(list(paths), place.cache, place.folder / modality) if paths else []
        except TgmmError as error:
            files[modality] = []
            refused.append(InputRefusedError(modality, error.reason))
    builders: dict[str, Callable[[], dict[str, Any]]] = {
        "labs": lambda: {"labs": lab_row(entered.labs, files["labs"], entered.units)},
        "ecg": lambda: {"ecg": recording_of(files["ecg"])},
        "echo": lambda: study_of(files["echo"], place.folder / "echo", entered.views),
    }
    for modality, build in builders.items():
        try:
            patient |= build()
        except (TgmmError, OSError) as error:
            reason = error.reason if isinstance(error, TgmmError) else f"cannot be read ({type(error).__name__})"
            refused.append(InputRefusedError(modality, reason))
    return patient, refused


def lab_row(form: Mapping[str, Any], files: Sequence[Path], units: str | None) -> dict[str, Any] | None:
    """Return the lab row of the form or of a file, None without any cell.

    Args:
        form: Column -> value or (value, unit).
        files: No or one JSON or CSV file.
        units: As in [`EnteredInputs`].

    Raises:
        TgmmError: If both are given, or the file cannot be understood.
    """
    if not files:
        return Laboratory(units).translate(form) if form else None
    if form or len(files) > 1:
        raise TgmmError(
            "labs", "both the form and a file, or several files, hold values: give one of them, and empty the other."
        )
    refuse_large_table(files[0])
    return Laboratory(units).translate(read_labs(files[0]))


def form_cell(column: str, text: str) -> Any:
    """Split the text of a field of the form into a value and a unit: "88 umol/L" -> ("88", "umol/L")."""
    text = text.strip()
    lab_column = find_column(column)
    is_number = lab_column is not None and lab_column.is_number
    match = _NUMBER_AND_UNIT.fullmatch(text) if is_number else None
    if match is None:
        return text
    number, unit = match.groups()
    return (number, unit) if unit else number


def recording_of(files: Sequence[Path]) -> str | None:
    """Find the recording among its files: the WFDB header, or the only file.

    Raises:
        TgmmError: If the files are of several recordings.
    """
    if not files:
        return None
    headers = [file for file in files if file.suffix.lower() == ".hea"]
    if len(headers) == 1:
        return str(headers[0].with_suffix(""))
    if len(files) > 1:
        raise TgmmError(
            "ecg",
            f"{len(files)} files with {len(headers)} WFDB headers are no single recording: send one file, or one "
            "header (.hea) with its signal file (.dat).",
        )
    return str(files[0])


def study_of(files: Sequence[Path], folder: Path, views: Mapping[str, str]) -> dict[str, Any]:
    """Return the keys `echo` and `views` of a patient, none without files.

    Args:
        files: The clips, and perhaps a table of views named `VIEWS_FILE`.
        folder: Directory that holds the files.
        views: Views that the user chose. They replace those of the table.
    """
    tables = [file for file in files if file.name.casefold() == VIEWS_FILE]
    if len(tables) > 1:
        raise TgmmError("echo", f"there are {len(tables)} tables {VIEWS_FILE}: send one of them.")
    if not files:
        return {}
    named: dict[str, str] = {}
    if tables:
        refuse_large_table(tables[0])
        named = read_views(tables[0])
        tables[0].unlink()
    return {"echo": str(folder), "views": named | dict(views) or None}


def messages_of(prediction: Mapping[str, Any]) -> dict[str, list[str]]:
    """Sort what a prediction says about its inputs by modality, refusals first."""
    messages: dict[str, list[str]] = {name: [] for name in MODALITIES}
    lines = [(entry["item"], f"Refused: {entry['item']}: {entry['reason']}") for entry in prediction["refused"]]
    lines += [(entry["item"], f"In doubt: {entry['item']}: {entry['text']}") for entry in prediction["checks"]]
    lines += [(note, note) for note in prediction["notes"]]
    for item, text in lines:
        modality = next((name for name in MODALITIES if re.match(rf"{name}\b", item)), None)
        if modality is not None:
            messages[modality].append(text)
    return messages


def answer_table(
    pipe: TgmmCardiacPipeline, table: str, archive: Sequence[str], question: Question, place: RequestPlace
) -> TableAnswer:
    """Answer the tasks for every patient of a table. Nothing is explained.

    Args:
        pipe: The model.
        table: Cohort table (.csv or .parquet), in the cache.
        archive: Archive with the ECG and echo files, or these files themselves, in the cache. The paths in the table
            start from the top of the archive.
        question: What is asked.
        place: Directories of this request.

    Raises:
        TgmmError: If the table or the archive cannot be used as a whole, or the table has too many patients.
    """
    (manifest,) = take_files([table], place.cache, place.folder / "table")
    root = place.folder / "files"
    take_files(list(archive), place.cache, root)
    refuse_large_table(manifest)
    top = root / FIRST_ARCHIVE if len(archive) == 1 and (root / FIRST_ARCHIVE).is_dir() else root
    patients = patients_from_table(manifest, limit=MAX_PATIENTS + 1, root=top)
    if len(patients) > MAX_PATIENTS:
        raise TgmmError("table", f"it has more than {MAX_PATIENTS} patients: use `tgmm predict --manifest` for it.")
    predictions = []
    answers = with_shared_files(predict(pipe, patients, question.tasks, 1, READING_LIMITS), patients)
    for number, prediction in enumerate(answers, start=1):
        predictions.append(prediction)
        question.progress(number / len(patients), f"{number} of {len(patients)} patients")
    out = place.folder / "predictions.json"
    write_tables(out, predictions, patients)
    texts = {name: path.read_text(encoding="utf-8") for name, path in outputs_of(out).items()}
    answered = sum(any(prediction["used"].values()) for prediction in predictions)
    return TableAnswer(texts["predictions"], texts["refused"], len(patients), answered)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """List the figures that two predictions have in common: (name, first, second)."""
    figures = [_figures(prediction) for prediction in (before, after)]
    return [(name, first, figures[1][name]) for name, first in figures[0].items() if name in figures[1]]


def _figures(prediction: Mapping[str, Any]) -> dict[str, float]:
    """List the probabilities, risks and numbers of a prediction by name."""
    figures: dict[str, float] = {}
    for task, answer in prediction.items():
        if not isinstance(answer, dict):
            continue
        for candidate, probability in answer.get("probabilities", {}).items():
            figures[f"{task}: probability of {candidate}"] = probability
        for finding, probability in answer.get("findings", {}).items():
            figures[f"{task}: probability of {finding}"] = probability
        if "value" in answer:
            figures[f"{task}: {answer['unit']}"] = answer["value"]
        for day, probability in answer.get("risk_by_day", {}).items():
            figures[f"{task}: risk by day {day}"] = probability
        if "risk" in answer:
            figures[f"{task}: risk score"] = answer["risk"]
    return figures
