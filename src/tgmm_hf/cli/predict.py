"""The command that predicts one patient or a table of patients, and how it prints the answers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tgmm_hf.cli.laboratory import ColumnMap, Strictness, StrictnessChoice, Units, laboratory
from tgmm_hf.cli.options import (
    MAX_ROWS,
    AllowOutside,
    BatchSize,
    Decimal,
    Dtype,
    Encoding,
    MaxRows,
    MemoryLimit,
    Model,
    NumberFormat,
    Root,
    Split,
    TimeLimit,
    announce_hub,
    format_of,
    limits_of,
    refuse_given,
    table_of,
)
from tgmm_hf.cli.patient_files import options_for_paths, refuse_folder, require_files
from tgmm_hf.utils.names import USED_ITEMS, counted

if TYPE_CHECKING:
    from tgmm_hf.data.predicted_table import Tally

LabsFile = Annotated[
    Path | None,
    typer.Option(
        help='JSON file with one lab row: {"Creatinine": 1.4, "BNP": [880, "pg/mL"], ...}, or a CSV file with one row.',
        show_default="no labs",
    ),
]
EcgFile = Annotated[
    Path | None,
    typer.Option(help="ECG file: WFDB recording, DICOM waveform, export or CSV.", show_default="no ECG"),
]
EchoFiles = Annotated[
    Path | None, typer.Option(help="Directory of an echo study, or one clip.", show_default="no echo")
]
ViewsFile = Annotated[
    Path | None,
    typer.Option(
        help="CSV file with the view of each clip, columns dicom_filepath and view.",
        show_default="views from the view classifier",
    ),
]
ViewClassifier = Annotated[
    str | None,
    typer.Option(
        help="Directory of `tgmm convert echoprime-views`; names the view of a clip that --views does not name.",
        show_default="the classifier saved with the model",
    ),
]
ViewThreshold = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Leave out a clip if its most probable view is less probable than this.",
        show_default="the threshold saved with the model",
    ),
]
Identifier = Annotated[
    str | None, typer.Option("--id", help="Name of the patient in the output.", show_default="no name")
]
TableOfPatients = Annotated[
    Path | None,
    typer.Option(
        help="Cohort table (.parquet or .csv) with many patients, or a directory that holds cohort.parquet, instead of "
        "--labs, --ecg and --echo. Two tables are written beside --out: the predictions and the refused items.",
        show_default="one patient",
    ),
]
OneSplit = Annotated[
    Split | None, typer.Option(help="Predict only this split of the table.", show_default="all splits")
]
Limit = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Maximum number of patients, taken from the top of the table.",
        show_default="all patients",
    ),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option(help="Task of the model to answer. May be repeated.", show_default="all tasks except retrieval"),
]
OutFile = Annotated[Path, typer.Option(help="JSON file to write.")]


def predict(
    context: typer.Context,
    model: Model,
    labs: LabsFile = None,
    ecg: EcgFile = None,
    echo: EchoFiles = None,
    views: ViewsFile = None,
    view_classifier: ViewClassifier = None,
    view_threshold: ViewThreshold = None,
    identifier: Identifier = None,
    manifest: TableOfPatients = None,
    split: OneSplit = None,
    limit: Limit = None,
    root: Root = None,
    units: Units = None,
    columns: ColumnMap = None,
    strictness: StrictnessChoice = Strictness.note,
    task: Tasks = None,
    out: OutFile = Path("prediction.json"),
    batch_size: BatchSize = 8,
    dtype: Dtype = NumberFormat.float32,
    encoding: Encoding = None,
    decimal: Decimal = ".",
    max_rows: MaxRows = MAX_ROWS,
    allow_outside: AllowOutside = False,
    time_limit: TimeLimit = 300,
    memory_limit: MemoryLimit = 4,
) -> None:
    """Predict one patient, or every patient of a table.

    Any of the three modalities may be missing. The JSON file says what was used, what was refused, and why. With
    --manifest two tables stand beside the JSON file: predictions.json gives predictions.csv and refused.csv. The limits
    of time and memory are for the patients of a table. A run that was stopped goes on when you give the command again.

    Example: tgmm predict demo/model --labs row.json --ecg p1/s1/1 --echo study/ --views views.csv --out prediction.json
    """
    files: dict[str, Any] = {"labs": labs, "ecg": ecg, "echo": echo}
    _refuse_wrong_options(context, files, manifest, for_one=(views, identifier), for_table=(split, limit, root))
    announce_hub(model)
    require_files({"--labs": labs, "--ecg": ecg, "--echo": echo, "--views": views, "--manifest": manifest})
    refuse_folder(ecg)
    table_format = format_of(encoding, decimal, max_rows)

    from tgmm_hf.data import prediction as library
    from tgmm_hf.data.predicted_table import Tally, predict_table
    from tgmm_hf.data.prediction_tables import claim_outputs
    from tgmm_hf.utils.files import write_json
    from tgmm_hf.utils.output_lock import check_writable

    claim_outputs(out, tables=manifest is not None)
    check_writable(out)
    rules: Any = {"laboratory": laboratory(units, columns), "table_format": table_format}
    rules["allow_outside"] = allow_outside
    if manifest is None:
        given: dict[str, Any] = {"labs": labs, "ecg": ecg, "echo": echo, "views": views}
        with options_for_paths({f"--{name}": path for name, path in given.items()}):
            patients = [library.patient_from_files(**given, identifier=identifier, **rules)]
    else:
        name = None if split is None else split.value
        patients = library.patients_from_table(table_of(manifest), name, limit, root, **rules)
    if view_classifier is not None:
        announce_hub(view_classifier)
    pipe = library.load_pipeline(model, view_classifier, view_threshold, strictness.value, dtype.value)
    if manifest is None:
        predictions = list(library.predict(pipe, patients, task, batch_size))
        write_json(out, predictions[0], allow_nan=False)
        tally, written = Tally.count(predictions), [out]
    else:
        limits = limits_of(time_limit, memory_limit)
        tally, written = predict_table(pipe, patients, out, tasks=task, batch_size=batch_size, limits=limits)
    _print_predictions(tally)
    typer.echo(f"{tally.answered} of {tally.patients} patients predicted: {', '.join(map(str, written))}")
    typer.echo("Research software, not a medical device.")
    if tally.unreadable:
        typer.echo(
            f"tgmm: {tally.unreadable} file(s) could not be read now: run the same command again later.", err=True
        )
    if not tally.answered or tally.unreadable:
        raise typer.Exit(1)


def _refuse_wrong_options(
    context: typer.Context,
    files: Mapping[str, Path | None],
    manifest: Path | None,
    for_one: Sequence[Any],
    for_table: Sequence[Any],
) -> None:
    """Refuse a command line that mixes one patient and a table.

    Args:
        context: The command line.
        files: The files of one patient.
        manifest: The table of patients.
        for_one: Values of --views and --id.
        for_table: Values of --split, --limit and --root.
    """
    if manifest is None:
        refuse_given(context, ("time_limit", "memory_limit"), "for the patients of a table, so it needs --manifest")
    if manifest is None and any(option is not None for option in for_table):
        raise typer.BadParameter("--split, --limit and --root are for a table of patients, so they need --manifest")
    if manifest is not None and any(option is not None for option in for_one):
        raise typer.BadParameter("--views and --id are for one patient; the table of --manifest has columns for them")
    if (manifest is None) == all(path is None for path in files.values()):
        raise typer.BadParameter("give --manifest, or at least one of --labs, --ecg and --echo (not both)")


def _print_predictions(tally: "Tally") -> None:
    """Print the answers of the first patients, then the notes and refusals of all."""
    for prediction in tally.first:
        name = "the patient" if prediction["id"] is None else f"patient {prediction['id']}"
        typer.echo(f"{name}: used {_used(prediction['used'])}")
        for name, answer in prediction.items():
            if isinstance(answer, dict):
                _print_answer(name, answer, prediction["notes"])
    if tally.patients > len(tally.first):
        typer.echo(f"... and {tally.patients - len(tally.first)} more in the file")
    _print_notes(tally)
    _print_refusals(tally)


def _print_answer(task: str, answer: Mapping[str, Any], notes: Sequence[str]) -> None:
    """Print one patient's answer to a task. A part of the prediction that is no answer prints nothing."""
    if "probabilities" in answer:
        probabilities = ", ".join(f"{name} {p:.3f}" for name, p in answer["probabilities"].items())
        decision, sets = answer.get("decision"), answer.get("prediction_set")
        typer.echo(f"  {task}: {probabilities}")
        if decision:
            typer.echo(f"    decision: {decision['answer']}. {decision['text']}")
        if sets:
            typer.echo(f"    {100 * sets['level']:g} % prediction set: {sets['text']}")
    if "findings" in answer:
        typer.echo(f"  {task}: {', '.join(f'{name} {p:.3f}' for name, p in answer['findings'].items())}")
        if present := [name for name, decision in answer.get("decisions", {}).items() if decision["present"]]:
            typer.echo(f"    decided as present: {', '.join(present)}")
    if "value" in answer:
        outside = "" if answer["in_range"] else ", outside the range of the task: see the notes"
        typer.echo(f"  {task}: {answer['value']:.4g} {answer['unit']}{outside}")
        if interval := answer.get("interval"):
            typer.echo(f"    prediction interval: {interval['text']}")
    if "risk_by_day" in answer:
        by_day = ", ".join(f"by day {day} {p:.3f}" for day, p in answer["risk_by_day"].items())
        is_extrapolated = any(note.startswith(f"{task}:") and "extrapolated" in note for note in notes)
        typer.echo(
            f"  {task}: {by_day or 'no baseline hazard stored'} (score {answer['risk']:.3f}"
            f"{', extrapolated: see the notes' if is_extrapolated else ''})"
        )


def _print_notes(tally: "Tally") -> None:
    """Print the notes if there is one patient. With several patients print only the number of notes."""
    if tally.notes and tally.patients > 1:
        typer.echo(
            f"{counted(tally.notes, 'note')} (units converted, columns unknown, risks extrapolated, ...) in the file"
        )
    elif tally.notes:
        typer.echo("\n".join(["notes:", *(f"  {note}" for note in tally.first[0]["notes"])]))


def _print_refusals(tally: "Tally") -> None:
    """Print the refusals if there is one patient. With several patients print only their number.

    The reason of a refusal contains values of the patient. The values of many patients do not belong in a log.
    """
    if not tally.refused:
        return
    if tally.patients > 1:
        patients = counted(tally.patients_with_refusals, "patient")
        typer.echo(f"refused: {counted(tally.refused, 'item')} of {patients}; the reasons are in the file")
        if tally.unexpected:
            typer.echo(f"  {counted(tally.unexpected, 'item')} for an unexpected reason: please report it as an issue")
        return
    typer.echo(f"refused: {counted(tally.refused, 'item')}")
    for entry in tally.first[0]["refused"]:
        typer.echo(f"  {entry['item']}  {entry['reason']}")


def _used(used: Mapping[str, Sequence[str]]) -> str:
    """Write how many items of each modality an answer uses: "12 ECG leads, 3 echo views", or "nothing"."""
    return ", ".join(f"{len(items)} {USED_ITEMS[name]}" for name, items in used.items() if items) or "nothing"
