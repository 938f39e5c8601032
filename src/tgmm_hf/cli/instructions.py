"""The command that makes instruction data for MEIT."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Text(StrEnum):
    """What a report of PTB-XL is made of."""

    report = "report"
    statements = "statements"


Source = Annotated[
    Path,
    typer.Argument(help="Directory of MIMIC-IV-ECG, of PTB-XL (as shipped, or arrays), or of a cohort of tgmm synth."),
]
OutFile = Annotated[Path, typer.Option(help="File to write, .jsonl or .parquet.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the instructions, and of the split of MIMIC-IV-ECG.")]
Wordings = Annotated[
    int, typer.Option(min=1, max=13, help="Number of wordings of the instruction. 1 is the published instruction.")
]
TextChoice = Annotated[
    Text,
    typer.Option(
        help="PTB-XL: the report where there is one, or always the descriptions of the SCP codes with their certainty."
    ),
]


def make_instructions(
    source: Source,
    out: OutFile,
    seed: Seed = 0,
    wordings: Wordings = 1,
    text: TextChoice = Text.report,
    all_test: Annotated[
        bool, typer.Option("--all-test", help="Put every ECG into the test split, to try a trained model.")
    ] = False,
) -> None:
    """Make instruction data for MEIT: one ECG, instruction and report per row, split by patient.

    Prints how many ECGs are left out and why. FILE.json beside the file holds the same, with settings and digests.
    Arrays of PTB-XL are written as recordings into FILE_ecg.

    Example: tgmm make-instructions demo/cohort --out demo/instructions.jsonl
    """
    from tgmm_hf.cohorts.instructions import make_instructions as make
    from tgmm_hf.cohorts.instructions import record_of, summary_text

    summary = make(source, out, seed=seed, wordings=wordings, text=text.value, all_test=all_test)
    typer.echo(summary_text(summary))
    typer.echo(f"{out}; the record: {record_of(out)}")
