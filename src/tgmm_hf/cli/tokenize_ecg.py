"""The command that turns the ECGs of a cohort into codes."""

from pathlib import Path
from typing import Annotated

import typer

from tgmm_hf.cli.options import AllowOutside, Model, Out, Root, announce_hub, table_of

Ecgs = Annotated[
    Path,
    typer.Argument(help="Instruction file (.jsonl or .parquet), cohort table, or a directory with cohort.parquet."),
]


def tokenize_ecg(model: Model, ecgs: Ecgs, out: Out, root: Root = None, allow_outside: AllowOutside = False) -> None:
    """Turn the ECGs of a cohort into codes with a Beat model, the ECG tokenizer of Heartcare.

    Writes codes.parquet with one row for each window, refused.csv and tokenize.json. The same command continues a run
    that was stopped. The codes of an ECG do not depend on the ECGs beside it.

    Example: tgmm tokenize-ecg heartcare/beat meit/instructions.jsonl --out heartcare/codes
    """
    announce_hub(model)
    from tgmm_hf.data.ecg_codes import CODES, REFUSED, tokenize_ecgs

    record = tokenize_ecgs(model, table_of(ecgs), out, root=root, allow_outside=allow_outside)
    typer.echo(f"{record['ecgs']} ECGs, {record['windows']} windows, {record['refused']} refused ({out / REFUSED})")
    for level, share in enumerate(record["codes_used"], start=1):
        typer.echo(f"level {level}: {100 * share:.1f} % of {record['codebook_size']} codes are used")
    typer.echo(f"{out / CODES}")
