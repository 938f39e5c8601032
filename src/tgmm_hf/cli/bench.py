"""The command that makes a bench file."""

from enum import StrEnum
from typing import Annotated

import typer

from tgmm_hf.cli.instructions import OutFile, Source, Text, TextChoice


class QuestionKind(StrEnum):
    """Kinds of question."""

    closed = "closed"
    open = "open"
    report = "report"
    prediction = "prediction"
    reconstruction = "reconstruction"


Seed = Annotated[int, typer.Option(min=0, help="Seed of wordings, options, windows, and of the split of MIMIC-IV-ECG.")]


def make_bench(
    source: Source,
    out: OutFile,
    seed: Seed = 0,
    text: TextChoice = Text.report,
    kind: Annotated[
        list[QuestionKind] | None,
        typer.Option(help="Kind of question to write. May be repeated.", show_default="all kinds"),
    ] = None,
    patients: Annotated[
        int | None,
        typer.Option(min=1, help="Largest number of patients of a split, drawn by the seed.", show_default="all"),
    ] = None,
    all_test: Annotated[
        bool, typer.Option("--all-test", help="Put every ECG into the test split, to try a trained model.")
    ] = False,
) -> None:
    """Make Heartcare-Bench from your data: closed and open questions, reports, signals to predict and to rebuild.

    The file is an instruction file with the key `question`, so MEIT can be trained on it and `tgmm evaluate` scores a
    model on it. Closed questions are made so that their texts do not tell the answer. The command measures this with
    classifiers that read no ECG. FILE.README.md counts everything.

    Example: tgmm make-bench demo/cohort --out demo/bench.jsonl
    """
    from tgmm_hf.cohorts.bench import bench_summary
    from tgmm_hf.cohorts.bench import make_bench as make
    from tgmm_hf.cohorts.instructions import record_of
    from tgmm_hf.data.bench_items import KINDS

    kinds = KINDS if not kind else tuple(dict.fromkeys(choice.value for choice in kind))
    summary = make(source, out, seed=seed, text=text.value, kinds=kinds, patients=patients, all_test=all_test)
    typer.echo(bench_summary(summary))
    typer.echo(f"{out}; the card: {out}.README.md; the record: {record_of(out)}")
