"""Commands for public benchmarks: cohort tables of ejection fractions, and the files that benchmarks ask for."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tgmm_hf.cli.options import Out, require_path


class EchoViews(StrEnum):
    """Which views of a patient are used."""

    a4c = "A4C"
    a2c = "A2C"
    a4c_and_a2c = "both"


class Benchmark(StrEnum):
    """The benchmark that a file is for."""

    ptbxl = "ptbxl"
    echonet = "cardiobench-echonet"
    camus = "cardiobench-camus"


def curate_lvef(
    directory: Annotated[Path, typer.Argument(help="Directory of EchoNet-Dynamic (FileList.csv) or CAMUS (NIfTI).")],
    out: Out,
    view: Annotated[EchoViews, typer.Option(help="Views of CAMUS. EchoNet-Dynamic has A4C only.")] = EchoViews.a4c,
) -> None:
    """Build the ejection fraction task of EchoNet-Dynamic or CAMUS, with the published splits.

    Videos of EchoNet-Dynamic stay where they are. Sequences of CAMUS are written as DICOM into OUT/echo, which needs
    `pip install "tgmm-hf[nifti]"`. Patients without their file are left out and listed in missing.csv.

    Example: tgmm curate-lvef EchoNet-Dynamic --out echonet/cohort
    """
    require_path(directory, "directory")
    from tgmm_hf.cohorts.lvef_benchmarks import curate_lvef as curate_patients

    summary = curate_patients(directory, out, view=view.value)
    for split, number in summary["counts"].items():
        missing = summary["missing"][split]
        lost = f", {missing} left out, because a file is not there (missing.csv)" if missing else ""
        typer.echo(f"{split:<11} {number} patients of {summary['source']}{lost}")
    outside = " --allow-outside" if summary["source"] == "EchoNet-Dynamic" else ""
    typer.echo(f"{out / 'cohort.parquet'}; prepare it with --config configs/lvef_benchmark.yaml{outside}")


def write_entry(
    evaluation: Annotated[Path, typer.Argument(help="Directory that `tgmm evaluate` wrote.")],
    benchmark: Annotated[Benchmark, typer.Option(help="The benchmark that the files are for.")],
    task: Annotated[str, typer.Option(help="Name of the task, such as ptbxl_superclass or lvef.")],
    out: Out,
    name: Annotated[str, typer.Option(help="Name of the entry in the file names.")] = "tgmm",
    subset: Annotated[
        str | None,
        typer.Option(help="Modality subset.", show_default="ecg for ptbxl, echo for CardioBench"),
    ] = None,
    cohort: Annotated[
        Path | None,
        typer.Option(help="cohort.parquet, to name test patients without a prediction.", show_default="not compared"),
    ] = None,
) -> None:
    """Write predictions in the files that a public benchmark asks for, and print its figures.

    ptbxl: preds_NAME.npy, targs_NAME.npy and classes_NAME.npy. CardioBench: NAME.csv with EF_pred.
    They hold identifiers or labels of patients.

    Example: tgmm write-entry echonet/evaluation --benchmark cardiobench-echonet --task lvef --out echonet/entry
    """
    require_path(evaluation / "predictions.parquet", "file of predictions", "give a directory that tgmm evaluate wrote")
    from tgmm_hf.evaluation import benchmark_entries as entries
    from tgmm_hf.utils.files import read_json

    metrics = read_json(evaluation / "metrics.json")
    rows = entries.entry_rows(evaluation / "predictions.parquet", task, subset or entries.SUBSETS[benchmark.value])
    if benchmark is Benchmark.ptbxl:
        labels = entries.labels_of(metrics, task)
        figures = entries.write_ptbxl_entry(rows, labels, out, name)
    else:
        figures = entries.write_cardiobench_entry(rows, benchmark.value, out, name)
    for key, value in figures.items():
        typer.echo(f"{key:<12} {f'{value:.3f}' if isinstance(value, float) else value}")
    if cohort is not None:
        _name_missing(entries.missing_ids(rows, cohort, metrics["split"]), metrics["split"])
    if metrics["split"] != "test":
        typer.echo(f"these are predictions of the {metrics['split']} split, which is no entry to the benchmark")


def _name_missing(missing: list[str], split: str) -> None:
    """Print how many patients of a split have no prediction, because a benchmark leaves them out without a word."""
    names = f": {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}" if missing else ""
    typer.echo(f"{len(missing)} of the {split} split have no prediction{names}")
