"""The command that measures whether explanations are true."""

from pathlib import Path
from typing import Annotated

import typer

from tgmm_hf.cli.options import Bootstrap, Model, Out, PreparedData, Split, announce_hub
from tgmm_hf.utils.names import BOOTSTRAP_RESAMPLES


def explain_check(
    model: Model,
    data: PreparedData,
    cohort: Annotated[Path, typer.Option(help="Directory of the synthetic cohort, written by `tgmm synth`.")],
    out: Out,
    split: Annotated[Split, typer.Option(help="Split whose patients are measured.")] = Split.test,
    task: Annotated[
        str | None,
        typer.Option(help="Diagnosis or prognosis to explain.", show_default="the model's first diagnosis"),
    ] = None,
    patients: Annotated[
        int | None,
        typer.Option(min=2, help="Largest number of patients to measure.", show_default="all of the split"),
    ] = None,
    beside_model: Annotated[
        bool,
        typer.Option(
            "--beside-model", help="Also write explanation_check.json into the model's directory, for `tgmm explain`."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of random orders, shuffled weights and resamples.")] = 0,
    bootstrap: Bootstrap = BOOTSTRAP_RESAMPLES,
) -> None:
    """Measure whether explanations are true, on a synthetic cohort whose evidence is known.

    Writes explanation_check.json and explanation_check.md: how often each method points at the planted evidence, and
    whether what it ranks first moves the score more than random parts do. A stopped run goes on where it stopped.

    Example: tgmm explain-check demo/model demo/data --cohort demo/cohort --out demo/explanation
    """
    announce_hub(model)
    from tgmm_hf.explanation.check import check_explanations

    check_explanations(
        model,
        data,
        cohort,
        out,
        split=split.value,
        task=task,
        patients=patients,
        beside_model=beside_model,
        seed=seed,
        bootstrap=bootstrap,
    )
    typer.echo((out / "explanation_check.md").read_text())
    typer.echo(f"{out / 'explanation_check.json'}")
