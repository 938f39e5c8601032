"""Options that say how a laboratory writes its rows, and what happens to doubtful data."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class UnitSystem(StrEnum):
    """Units of numbers without a unit."""

    us = "US"
    si = "SI"


class Strictness(StrEnum):
    """What happens to doubtful data."""

    note = "note"
    refuse = "refuse"


Units = Annotated[
    UnitSystem | None,
    typer.Option(
        help="Units of laboratory numbers without a unit. US: as in docs/lab_columns.md. SI: umol/L, mmol/L, g/L, ...",
        show_default="not known: a number that fits two units is not used",
    ),
]
ColumnMap = Annotated[
    Path | None,
    typer.Option(
        "--columns",
        help="CSV file with name, column, unit: which column of this package each of your laboratory columns is.",
        show_default="names as they are",
    ),
]
StrictnessChoice = Annotated[
    Strictness,
    typer.Option(
        help="note: refused items are left out. An input with a finding under checks is used, unless it is refused "
        "too. refuse: a patient with either is refused."
    ),
]


def laboratory(units: UnitSystem | None, columns: Path | None) -> Any:
    """Return the `Laboratory` of the options --units and --columns."""
    from tgmm_hf.data.laboratory import Laboratory, read_column_map

    return Laboratory(None if units is None else units.value, {} if columns is None else read_column_map(columns))
