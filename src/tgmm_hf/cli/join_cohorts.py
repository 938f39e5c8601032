"""The command that joins the cohort tables of several centres."""

from pathlib import Path
from typing import Annotated

import typer

from tgmm_hf.cli.options import Decimal, Encoding, format_of


def join_cohorts(
    tables: Annotated[list[Path], typer.Argument(help="Cohort tables, .parquet or .csv; two or more.")],
    out: Annotated[Path, typer.Option(help="Table to write, .parquet.")],
    encoding: Encoding = None,
    decimal: Decimal = ".",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the table if it exists.")] = False,
) -> None:
    """Join the cohort tables of several centres into one, for `tgmm prepare`.

    Files stay where they are. Numbers keep the units of their own table. Patients must not stand in two tables.

    Example: tgmm join-cohorts a/cohort.parquet b/cohort.parquet --out joined.parquet
    """
    if len(tables) < 2:
        raise typer.BadParameter("name two tables or more")
    if out.suffix.lower() != ".parquet":
        raise typer.BadParameter(f"--out: {out} must end with .parquet")
    if out.exists() and not overwrite:
        raise typer.BadParameter(f"--out: {out} exists. Name another file, or replace it with --overwrite")
    from tgmm_hf.data.join_tables import join_tables

    joined = join_tables(tables, out, format_of(encoding, decimal))
    typer.echo(f"{' + '.join(map(str, joined.rows))} rows: {out}")
    for table in joined.undeclared:
        typer.echo(f"{table} names no units: numbers that fit two units will not be used (docs/your_data.md)")
    if joined.outside:
        typer.echo("prepare it with --allow-outside, because files lie outside its directory")
