"""Doubts about rows of different patients that hold the same inputs: one admission under two ids."""

from collections.abc import Hashable
from typing import Any

from tgmm_hf.data.manifest import CohortRow, CohortTable

MIN_CELLS = 5
"""Laboratory rows with fewer cells may be equal by chance."""
EXAMPLES = 3
"""Largest number of groups of rows that a doubt lists."""


def repeated_rows(table: CohortTable) -> list[str]:
    """List the doubts about rows of different patients with equal laboratory cells, or with a clip in common.

    Args:
        table: The table. Without a column of patients every row is a patient of its own.

    Returns:
        One sentence for the laboratory cells and one for the clips, where there are such rows. They hold numbers of
        rows, counted from 1.
    """
    labs: dict[Hashable, list[int]] = {}
    clips: dict[Hashable, list[int]] = {}
    for number, row in enumerate(table.rows, start=1):
        if len(row.labs) >= MIN_CELLS:
            labs.setdefault(tuple(sorted((name, repr(value)) for name, value in row.labs.items())), []).append(number)
        for path in set(row.echo_paths):
            clips.setdefault(path, []).append(number)
    doubts = [_doubt("the same laboratory cells", labs, table.rows), _doubt("a clip in common", clips, table.rows)]
    return [doubt for doubt in doubts if doubt is not None]


def _doubt(what: str, groups: dict[Any, list[int]], rows: list[CohortRow]) -> str | None:
    """Write the doubt about the groups of rows that are of several patients; None without such a group."""
    shared = [group for group in groups.values() if len({rows[number - 1].patient_id for number in group}) > 1]
    if not shared:
        return None
    unique = list(dict.fromkeys(map(tuple, shared)))
    written = "; ".join(", ".join(map(str, group)) for group in unique[:EXAMPLES])
    splits = [{rows[number - 1].split for number in group} for group in unique]
    across = sum(len(each) > 1 for each in splits)
    note = f" {across} of them lie in several splits, so that a test patient may be known from the training." * bool(
        across
    )
    return (
        f"{len(unique)} group(s) of rows of different patients have {what} (rows {written}"
        f"{'; ...' if len(unique) > EXAMPLES else ''}): is it one admission under several ids?{note}"
    )
