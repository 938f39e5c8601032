"""The command that makes cohort tables of PTB-XL."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from tgmm_hf.cli.options import Out


class PtbxlTask(StrEnum):
    """The task of the cohort: infarction against normal, or one of the published benchmark."""

    mi = "mi"
    all = "all"
    diagnostic = "diagnostic"
    subclass = "subclass"
    superclass = "superclass"
    form = "form"
    rhythm = "rhythm"


def curate_ptbxl(
    directory: Annotated[
        Path, typer.Argument(help="Directory of PTB-XL as shipped, or its arrays (.npz) with the label table.")
    ],
    out: Out,
    task: Annotated[
        PtbxlTask,
        typer.Option(help="mi: infarction against normal. The others: the six tasks of the published benchmark."),
    ] = PtbxlTask.mi,
    likelihood: Annotated[
        float, typer.Option(min=0, max=100, help="Minimum likelihood of a statement, in percent. Task mi only.")
    ] = 0,
    both: Annotated[
        str,
        typer.Option(help="What task mi does with a recording that has MI and NORM: drop it, or count it as mi."),
    ] = "drop",
    sampling_rate: Annotated[int, typer.Option(help="Sampling rate of the shipped recordings, 500 or 100 Hz.")] = 500,
    validation_fold: Annotated[int, typer.Option(help="Official fold that becomes the validation split.")] = 9,
    test_fold: Annotated[int, typer.Option(help="Official fold that becomes the test split.")] = 10,
    all_test: Annotated[
        bool,
        typer.Option("--all-test", help="Put every recording into the test split, whatever its fold. Task mi only."),
    ] = False,
    all_records: Annotated[
        bool,
        typer.Option(
            "--all-records",
            help="Keep recordings with neither MI nor NORM, unlabelled, for tgmm pretrain. Task mi only.",
        ),
    ] = False,
) -> None:
    """Build a task of PTB-XL: infarction against a normal ECG, or one of the published benchmark. Official folds.

    Task mi: a recording with MI and NORM is not used, unless --both mi counts it as infarction. It prints how many
    recordings each other selection rule would give. The other tasks follow Strodthoff et al. 2021: a label is present
    whatever its likelihood, a recording without a label of the task is not used, and folds after the test fold are
    not used. Age, sex, height and weight are the labs.

    Example: tgmm curate-ptbxl ptb-xl/1.0.3 --task superclass --out ptbxl/superclass/cohort
    """
    if task is not PtbxlTask.mi:
        if likelihood or both != "drop" or all_test or all_records:
            raise typer.BadParameter("--likelihood, --both, --all-test and --all-records belong to --task mi.")
        _curate_published(directory, out, task.value, sampling_rate, (validation_fold, test_fold))
        return
    from tgmm_hf.cohorts.ptbxl import curate_ptbxl as curate_recordings

    summary = curate_recordings(
        directory,
        out,
        likelihood=likelihood,
        both=both,
        sampling_rate=sampling_rate,
        validation_fold=validation_fold,
        test_fold=test_fold,
        all_test=all_test,
        all_records=all_records,
    )
    for row in summary["selections"]:
        typer.echo("  ".join(f"{name} {value}" for name, value in row.items()))
    for split, counts in summary["counts"].items():
        typer.echo(f"{split:<11} " + ", ".join(f"{name} {number}" for name, number in counts.items()))
    _say_next(out, "ptbxl_mi")


def _curate_published(directory: Path, out: Path, task: str, sampling_rate: int, folds: tuple[int, int]) -> None:
    """Build one task of the published benchmark and print its counts. `folds`: validation and test fold."""
    from tgmm_hf.cohorts.ptbxl_tasks import PublishedSplit, curate_ptbxl_task

    summary: dict[str, Any] = curate_ptbxl_task(
        directory, out, task, sampling_rate=sampling_rate, split=PublishedSplit(*folds)
    )
    for split, counts in summary["counts"].items():
        typer.echo(f"{split:<11} {counts['recordings']} recordings of {counts['patients']} patients")
    for split in summary["counts"]:
        absent = [name for name, counts in summary["positives"].items() if not counts[split]]
        if absent and summary["counts"][split]["recordings"]:
            typer.echo(f"{split:<11} no recording has {', '.join(absent)}")
    _say_next(out, f"ptbxl_{task}")


def _say_next(out: Path, config: str) -> None:
    """Print the table and the configuration to prepare it with."""
    outside = "" if (out / "ecg").is_dir() else " --allow-outside"  # recordings as shipped stay where they are
    typer.echo(f"{out / 'cohort.parquet'}; prepare it with --config configs/{config}.yaml{outside}")
