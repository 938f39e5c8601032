"""The command that makes the table of X-rays, ECGs and notes for MoRE."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tgmm_hf.cli.options import Out


class Pairs(StrEnum):
    """Which ECGs an X-ray is paired with."""

    all = "all"
    nearest = "nearest"


class Labels(StrEnum):
    """Whose labels of the X-ray reports are taken."""

    chexpert = "chexpert"
    negbio = "negbio"


class Uncertain(StrEnum):
    """What becomes of uncertain labels."""

    missing = "missing"
    keep = "keep"


def curate_more(
    mimic_cxr: Annotated[Path, typer.Option(help="Directory of MIMIC-CXR-JPG: its tables, and files/p10/....")],
    mimic_ecg: Annotated[Path, typer.Option(help="Directory of MIMIC-IV-ECG.")],
    out: Out,
    reports: Annotated[
        Path | None,
        typer.Option(
            help="Reports of MIMIC-CXR: the directory with files/p10/..., or mimic-cxr-reports.zip.",
            show_default="the directory of --mimic-cxr",
        ),
    ] = None,
    mimic_iv: Annotated[
        Path | None,
        typer.Option(help="Directory of MIMIC-IV, for age and gender in table 1.", show_default="both are empty"),
    ] = None,
    days: Annotated[int, typer.Option(min=0, help="Largest number of days between X-ray and ECG.")] = 60,
    pairs: Annotated[
        Pairs, typer.Option(help="all: every ECG within --days (published). nearest: the nearest ECG of each X-ray.")
    ] = Pairs.all,
    labels: Annotated[Labels, typer.Option(help="Whose labels of the findings are taken.")] = Labels.chexpert,
    uncertain: Annotated[
        Uncertain, typer.Option(help="Uncertain labels (-1). missing: an empty cell. keep: -1.")
    ] = Uncertain.missing,
    exclude_patients: Annotated[
        Path | None,
        typer.Option(
            help="CSV file with the column patient_id: patients who must not enter, such as TGMM's test patients.",
            show_default="nobody",
        ),
    ] = None,
    parquet: Annotated[bool, typer.Option("--parquet", help="Write notes.parquet in place of notes.csv.")] = False,
    memory: Annotated[
        str, typer.Option(help="Memory limit of the database; it moves to disk what does not fit.")
    ] = "2GB",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Number of threads of the database.", show_default="all cores")
    ] = None,
) -> None:
    """Pair the X-rays of MIMIC-CXR-JPG with the ECGs of MIMIC-IV-ECG: the table that MoRE is trained on.

    Writes notes.csv (for `tgmm train` with `family: more`), splits.csv, flow.json and flow.svg (every exclusion),
    table1.csv, curate.sql and curate.json. The X-rays are PA or AP. The splits are those of MIMIC-CXR-JPG.

    Example: tgmm curate-more --mimic-cxr mimic-cxr-jpg/2.1.0 --mimic-ecg mimic-iv-ecg/1.0 --reports
    mimic-cxr-reports.zip --out more
    """
    from tgmm_hf.cohorts.mimic_cxr.curate_more import MoreSources, summary_text
    from tgmm_hf.cohorts.mimic_cxr.curate_more import curate_more as curate_pairs
    from tgmm_hf.cohorts.mimic_cxr.steps import MoreRules
    from tgmm_hf.inputs.echo_reading import leads_outside

    rules = MoreRules(days, pairs.value, labels.value, uncertain.value)
    sources = MoreSources(mimic_cxr, mimic_ecg, reports, mimic_iv, exclude_patients)
    summary = curate_pairs(sources, out, rules, parquet=parquet, memory=memory, threads=threads)
    typer.echo(summary_text(out, summary))
    typer.echo(f"{out / summary['table']}, {out / 'flow.svg'}, {out / 'table1.csv'}")
    if any(leads_outside(directory, out) for directory in (mimic_cxr, mimic_ecg)):
        typer.echo("the X-rays and ECGs lie outside the directory of the table: train with data.allow_outside: true")
