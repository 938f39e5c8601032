"""What `tgmm explain` does with a MoRE model: the page of an X-ray and an ECG, and what made them near to a text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from tgmm_hf.cli.options import announce_hub
from tgmm_hf.cli.patient_files import options_for_paths, refuse_folder, require_files
from tgmm_hf.cli.step_bar import step_bar


def explain_more_files(
    model: str,
    files: Mapping[str, Path | None],
    request: Mapping[str, Any],
    out: Path,
    file_format: str,
    shown: Mapping[str, Any],
) -> None:
    """Write the page.

    Args:
        model: directory or Hub repository of a MoRE model.
        files: "xray" and "ecg" -> file.
        request: the arguments of `ScoreRequest`.
        out: the file to write.
        file_format: "html", "json" or "pdf".
        shown: layout and sensitivity of the ECG, as `ReportSettings` takes them.
    """
    if all(path is None for path in files.values()):
        raise typer.BadParameter("give at least one of --xray and --ecg")
    if (request["text"] is None) == (request["finding"] is None):
        raise typer.BadParameter("give either --text or --finding")
    if request["against"] and request["text"] is None:
        raise typer.BadParameter("--against goes with --text")
    paths = {f"--{name}": path for name, path in files.items()}
    require_files(paths)
    refuse_folder(files["ecg"])
    announce_hub(model)

    from tgmm_hf.data.note_index import load_more
    from tgmm_hf.explanation.explain_more import ScoreRequest
    from tgmm_hf.families.more.modeling_more import MoreModel
    from tgmm_hf.families.more.modeling_more_classification import MoreForClassification
    from tgmm_hf.reports import patient_file
    from tgmm_hf.reports.more_report import explain_files
    from tgmm_hf.reports.patient_report import ReportSettings
    from tgmm_hf.utils.output_lock import check_writable

    patient_file.claim_report(out, file_format)
    check_writable(out)
    patient_file.require_printer(file_format)
    loaded, processor = load_more(model, MoreModel if request["finding"] is None else MoreForClassification)
    given = {name: str(path) for name, path in files.items() if path is not None}
    with options_for_paths(paths):
        with step_bar("explain") as tell:
            explained = explain_files(loaded, processor, given, ScoreRequest(**request), tell)
        patient_file.write_report(explained, out, file_format, ReportSettings(**shown))
    typer.echo(f"Report: {out}. Research software, not a medical device.")
    if not explained.explanation.scores:
        typer.echo("tgmm: nothing that was given can be used; the report says why.", err=True)
        raise typer.Exit(1)
