"""The command that proposes a cohort table from a folder per patient."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tgmm_hf.cli.options import Decimal, Encoding, format_of


class EcgChoice(StrEnum):
    """Which of several ECG recordings of a patient to take."""

    none = "none"
    first = "first"
    last = "last"


def make_manifest(
    folder: Annotated[Path, typer.Argument(help="Directory that holds one directory per patient, named by the id.")],
    out: Annotated[Path, typer.Option(help="Cohort table to write, .csv or .parquet.")],
    labs: Annotated[
        Path | None,
        typer.Option(
            help="Table (.csv or .parquet) with the column id and one row per patient.", show_default="no labs"
        ),
    ] = None,
    views: Annotated[
        Path | None,
        typer.Option(
            help="CSV file with the view of each clip, columns dicom_filepath and view.", show_default="no views"
        ),
    ] = None,
    ecg_choice: Annotated[
        EcgChoice,
        typer.Option(help="Take the first or last of several ECG recordings, by the time in the files; or none."),
    ] = EcgChoice.none,
    encoding: Encoding = None,
    decimal: Decimal = ".",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the table if it exists.")] = False,
) -> None:
    """Propose a cohort table from a folder per patient: which files are ECG and echo, joined with the lab rows.

    Looks at what each file is. Where two files fit, the cell stays empty, and the patient is named.

    Example: tgmm make-manifest patients/ --labs labs.csv --out cohort.csv
    """
    if out.suffix.lower() not in (".csv", ".parquet"):
        raise typer.BadParameter(f"--out: {out} must end with .csv or .parquet")
    if not folder.is_dir():
        raise typer.BadParameter(f"there is no directory {folder}")
    if out.exists() and not overwrite:
        raise typer.BadParameter(f"--out: {out} exists. Name another file, or replace it with --overwrite")
    table_format = format_of(encoding, decimal)
    from tgmm_hf.data.make_manifest import proposal_text, propose, write_proposal

    proposal = propose(folder, out, labs=labs, views=views, ecg_choice=ecg_choice.value, table_format=table_format)
    write_proposal(proposal, out)
    typer.echo(proposal_text(proposal))
    root = "" if proposal.root == out.resolve().parent else f" --root {folder}"
    typer.echo(f"{out}; check it with: tgmm check-manifest {out}{root} --for-prediction --read-files")
