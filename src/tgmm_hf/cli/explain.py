"""The command that writes the report of one patient: answer, contributions, laboratory, ECG and echo."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from tgmm_hf.cli.explain_more import explain_more_files
from tgmm_hf.cli.laboratory import ColumnMap, Units, laboratory
from tgmm_hf.cli.options import AllowOutside, Decimal, Encoding, Model, announce_hub, format_of, refuse_given
from tgmm_hf.cli.patient_files import options_for_paths, refuse_folder, require_files
from tgmm_hf.cli.predict import (
    EcgFile,
    EchoFiles,
    Identifier,
    LabsFile,
    Tasks,
    ViewClassifier,
    ViewsFile,
    ViewThreshold,
)
from tgmm_hf.cli.step_bar import step_bar

FOR_PATIENT_REPORT = (
    *("labs", "echo", "views", "view_classifier", "view_threshold", "identifier", "show_id", "units", "columns"),
    *("task", "contributions", "gallery", "encoding", "decimal", "allow_outside"),
)
"""Options that the page of a MoRE model does not take, by the names of the parameters."""


class Format(StrEnum):
    """Format of a report."""

    html = "html"
    json = "json"
    pdf = "pdf"


class EcgLayout(StrEnum):
    """Rows x columns of the ECG."""

    three_by_four = "3x4"
    six_by_two = "6x2"
    twelve_by_one = "12x1"


class EcgSensitivity(StrEnum):
    """Millimetres for a millivolt."""

    quarter = "2.5"
    half = "5"
    standard = "10"
    double = "20"


def explain(
    context: typer.Context,
    model: Model,
    labs: LabsFile = None,
    ecg: EcgFile = None,
    echo: EchoFiles = None,
    xray: Annotated[
        Path | None, typer.Option(help="Chest X-ray (DICOM, PNG, JPEG), for a MoRE model.", show_default="none")
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            help="For a MoRE model: words. The page shows what is near to them.",
            show_default="not asked",
        ),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="Other words for --text: the mean of their cosines is subtracted. May be repeated.",
            show_default="none",
        ),
    ] = None,
    finding: Annotated[
        str | None,
        typer.Option(help="For a classifier of MoRE: a label to explain instead of --text.", show_default="not asked"),
    ] = None,
    views: ViewsFile = None,
    view_classifier: ViewClassifier = None,
    view_threshold: ViewThreshold = None,
    identifier: Identifier = None,
    show_id: Annotated[
        bool,
        typer.Option("--show-id", help="Show --id and names and texts of unknown laboratory columns in the report."),
    ] = False,
    units: Units = None,
    columns: ColumnMap = None,
    task: Tasks = None,
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("report.html"),
    file_format: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="html: one page without scripts. json: the same without pictures. pdf: the page, printed by Chromium.",
            show_default="the suffix of --out",
        ),
    ] = None,
    contributions: Annotated[
        bool, typer.Option("--contributions/--no-contributions", help="Explain the answer to the first --task.")
    ] = True,
    ecg_layout: Annotated[EcgLayout, typer.Option(help="Rows x columns of the ECG.")] = EcgLayout.three_by_four,
    ecg_sensitivity: Annotated[
        EcgSensitivity, typer.Option(help="Sensitivity of the ECG in mm/mV.")
    ] = EcgSensitivity.standard,
    gallery: Annotated[
        Path | None,
        typer.Option(
            help="Output of `tgmm evaluate` for this model; shows the five nearest of its patients.",
            show_default="no neighbours",
        ),
    ] = None,
    encoding: Encoding = None,
    decimal: Decimal = ".",
    allow_outside: AllowOutside = False,
) -> None:
    """Write the report of one patient: answer, contributions, laboratory, ECG and echo.

    Any of the three modalities may be missing. Contributions of an ECG encoder other than ST-MEM need captum (extra
    `explain`). The report names the patient only with --show-id.

    With --text or --finding and a MoRE model: the X-ray and the ECG, with what made them near to the words.

    Example: tgmm explain demo/model --labs row.json --ecg p1/s1/1 --echo study/ --views views.csv --out report.html
    Example: tgmm explain more_model --xray xray.dcm --ecg p1/s1/1 --text "pleural effusion" --out report.html
    """
    if text is not None or finding is not None or xray is not None:
        refuse_given(context, FOR_PATIENT_REPORT, "not with --xray, --text or --finding, which ask a MoRE model")
        request = {"text": text, "against": tuple(against or ()), "finding": finding}
        shown = {"layout": ecg_layout.value, "sensitivity": float(ecg_sensitivity.value)}
        explain_more_files(model, {"xray": xray, "ecg": ecg}, request, out, _format_of(out, file_format), shown)
        return
    refuse_given(context, ("against",), "goes with --text, which asks a MoRE model")
    given: dict[str, Any] = {"labs": labs, "ecg": ecg, "echo": echo}
    if all(path is None for path in given.values()):
        raise typer.BadParameter("give at least one of --labs, --ecg and --echo")
    chosen = _format_of(out, file_format)
    announce_hub(model)
    given["views"] = views
    paths = {f"--{name}": path for name, path in given.items()}
    require_files(paths)
    refuse_folder(ecg)
    table_format = format_of(encoding, decimal)

    from tgmm_hf.data import prediction as library
    from tgmm_hf.explanation.neighbours import read_gallery
    from tgmm_hf.reports import patient_file
    from tgmm_hf.reports.patient_report import ReportSettings
    from tgmm_hf.utils.output_lock import check_writable

    patient_file.claim_report(out, chosen)
    check_writable(out)
    patient_file.require_printer(chosen)
    rules: Any = {"laboratory": laboratory(units, columns), "table_format": table_format}
    with options_for_paths(paths):
        patient = library.patient_from_files(**given, identifier=identifier, allow_outside=allow_outside, **rules)
    if view_classifier is not None:
        announce_hub(view_classifier)
    pipe = library.load_pipeline(model, view_classifier, view_threshold)
    patients = None if gallery is None else read_gallery(gallery, pipe.model)
    with step_bar("explain") as tell:
        explained = patient_file.explain_patient(pipe, patient, task, contributions, tell, patients)
    settings = ReportSettings(show_id, ecg_layout.value, float(ecg_sensitivity.value))
    patient_file.write_report(explained, out, chosen, settings)
    typer.echo(f"Report: {out}. Research software, not a medical device.")
    if not library.is_answered(explained.prediction):
        typer.echo("tgmm: nothing that was given can be used; the report says why.", err=True)
        raise typer.Exit(1)


def _format_of(out: Path, file_format: Format | None) -> str:
    """Return the format of a report: the one that was asked for, or the suffix of the file."""
    if file_format is not None:
        return file_format.value
    suffix = out.suffix.lower().removeprefix(".")
    if suffix not in list(Format):
        raise typer.BadParameter(
            f"the suffix {out.suffix!r} of --out names no format. Give --format html, json or pdf, or another suffix."
        )
    return suffix
