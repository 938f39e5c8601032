"""The command that measures whether explanations are true."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from tgmm_hf.cli.options import AllowOutside, Bootstrap, Model, Out, Split, announce_hub
from tgmm_hf.utils.names import BOOTSTRAP_RESAMPLES


def explain_check(
    model: Model,
    data: Annotated[
        Path, typer.Argument(help="Prepared data set, written by `tgmm prepare`; with --regions a note table.")
    ],
    out: Out,
    cohort: Annotated[
        Path | None,
        typer.Option(help="Directory of the synthetic cohort, written by `tgmm synth`.", show_default="none"),
    ] = None,
    regions: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            help="For a MoRE model: table of planted regions (finding, x0, y0, x1, y1, and dicom_id or id).",
            show_default="none",
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            help="With --regions: JSON file of prompts, as for tgmm evaluate.",
            show_default="the name of the finding",
        ),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="With --regions: other words whose mean cosine is subtracted. May be repeated.", show_default="none"
        ),
    ] = None,
    split: Annotated[Split, typer.Option(help="Split whose patients are measured.")] = Split.test,
    task: Annotated[
        str | None,
        typer.Option(
            help="With --cohort: diagnosis or prognosis to explain.", show_default="the model's first diagnosis"
        ),
    ] = None,
    patients: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Largest number of patients (with --regions: of findings) to measure.",
            show_default="all of the split",
        ),
    ] = None,
    beside_model: Annotated[
        bool,
        typer.Option(
            "--beside-model", help="Also write explanation_check.json into the model's directory, for `tgmm explain`."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of random orders, shuffled weights and resamples.")] = 0,
    bootstrap: Bootstrap = BOOTSTRAP_RESAMPLES,
    allow_outside: AllowOutside = False,
) -> None:
    """Measure whether explanations are true, on a synthetic cohort whose evidence is known.

    Writes explanation_check.json and explanation_check.md: how often each method points at the planted evidence, and
    whether what it ranks first moves the score more than random parts do. A stopped run goes on where it stopped.

    With --regions and a MoRE model: X-rays of a note table in which the places of findings are known.

    Example: tgmm explain-check demo/model demo/data --cohort demo/cohort --out demo/explanation
    Example: tgmm explain-check more_model notes.csv --regions xray_regions.parquet --out more_explanation
    """
    if (cohort is None) == (regions is None):
        raise typer.BadParameter("give either --cohort (a TGMM model) or --regions (a MoRE model)")
    if regions is None and (prompts is not None or against or allow_outside):
        raise typer.BadParameter("--prompts, --against and --allow-outside go with --regions")
    if regions is not None and task is not None:
        raise typer.BadParameter("--task goes with --cohort, because a MoRE model has no tasks")
    announce_hub(model)
    if regions is not None:
        options = {
            "prompts": prompts,
            "against": against or (),
            "split": split.value,
            "number": patients,
            "allow_outside": allow_outside,
        }
        _check_regions(model, data, regions, out, options, beside_model, seed, bootstrap)
        return
    from tgmm_hf.explanation.check import check_explanations

    check_explanations(
        model,
        data,
        cast(Path, cohort),
        out,
        split=split.value,
        task=task,
        patients=patients,
        beside_model=beside_model,
        seed=seed,
        bootstrap=bootstrap,
    )
    _show(out)


def _check_regions(
    model: str,
    table: Path,
    regions: Path,
    out: Path,
    options: Mapping[str, Any],
    beside_model: bool,
    seed: int,
    bootstrap: int,
) -> None:
    """Measure the maps of a MoRE model on planted regions.

    Args:
        model: directory or Hub repository.
        table: note table.
        regions: table of regions.
        out: directory to write.
        options: options --prompts, --against, --split, --allow-outside and --patients, the last as "number".
        beside_model: option, like `seed` and `bootstrap`.
        seed: seed.
        bootstrap: number of resamples.
    """
    from tgmm_hf.explanation.planted_regions import check_regions

    check_regions(model, table, regions, out, options, beside_model=beside_model, seed=seed, bootstrap=bootstrap)
    _show(out)


def _show(out: Path) -> None:
    """Print the table of a check, and where its figures are."""
    typer.echo((out / "explanation_check.md").read_text(encoding="utf-8"))
    typer.echo(f"{out / 'explanation_check.json'}")
