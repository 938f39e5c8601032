"""Labels of findings in a table of X-rays, ECGs and notes.

A column of labels is named `label_NAME`. Its cells are 1 (finding present), 0 (finding absent), empty (unknown)
or -1 (uncertain, as CheXpert writes it). An uncertain label counts as unknown.
"""

import math
from pathlib import Path
from typing import Any

from tgmm_hf.data.table_files import read_table
from tgmm_hf.utils.errors import TgmmError

PREFIX = "label_"
UNCERTAIN = -1


def read_labels(path: str | Path) -> dict[str, dict[str, float]]:
    """Read the columns of labels: name of the finding -> id of the row -> 0, 1 or NaN.

    Raises:
        TgmmError: If a cell is neither 0, nor 1, nor -1, nor empty.
    """
    path = Path(path)
    table = read_table(path, what="the table of X-rays, ECGs and notes")
    columns = [name for name in table.names if name.startswith(PREFIX) and name != PREFIX]
    labels: dict[str, dict[str, float]] = {name.removeprefix(PREFIX): {} for name in columns}
    for number, cells in enumerate(table.rows, start=1):
        for column in columns:
            value = _label(cells.get(column))
            if value is None:
                raise TgmmError(f"{path.name}, row {number}", f"{column} must be 0, 1, -1 (uncertain) or empty.")
            labels[column.removeprefix(PREFIX)][str(cells["id"]).strip()] = value
    return labels


def _label(cell: Any) -> float | None:
    """Read a cell: 0, 1, NaN for an empty cell and for -1; None if it is something else."""
    if cell is None or cell != cell or not str(cell).strip():
        return math.nan
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return None
    if value == UNCERTAIN:
        return math.nan
    return value if value in (0, 1) else None
