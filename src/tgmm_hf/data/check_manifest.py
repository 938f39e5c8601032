"""`tgmm check-manifest`: is a cohort table ready for `tgmm prepare`? Nothing is prepared.

`manifest.schema.json` beside this file is the JSON Schema of one row, for people who write the table with other tools.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tgmm_hf.data.manifest import SPLITS, CohortRow, CohortTable, Tasks, ecg_files, read_cohort_table
from tgmm_hf.inputs.lab_text import LabsText

EXAMPLES = 5
"""Maximum number of rows that the report names for each fault."""


def check_manifest(
    path: str | Path,
    *,
    root: str | Path | None = None,
    tasks: Tasks | None = None,
    for_prediction: bool = False,
) -> dict[str, Any]:
    """Check a cohort table, its laboratory cells and whether its files exist.

    Args:
        path: `.parquet` or `.csv` file.
        root: Directory that relative paths start from. None means the directory of the table.
        tasks: Tasks of the model. None means the tasks of the paper.
        for_prediction: The table is for `tgmm predict --manifest`, so that split, patient and outcomes may be missing.

    Returns:
        Report that JSON can hold. "rows" and "patients": their numbers. "splits": split -> numbers of rows, of rows
        with each modality, and of each label. "missing_files": their number, and the first of them. "refused_cells":
        column -> number of cells that `prepare` will not use, and the first rows with such a cell. "unknown_columns":
        laboratory columns that the package does not know; they are used as written. "ignored_columns": columns that
        are not used. Rows are counted from 1.

    Raises:
        CohortTableError: If the table cannot be used at all.
    """
    table = read_cohort_table(path, root=root, tasks=tasks, for_prediction=for_prediction)
    missing = [
        {"row": number, "file": file}
        for number, row in enumerate(table.rows, start=1)
        for file in _required_files(row, table.root)
        if not (table.root / file).is_file()
    ]
    refused, unknown = _check_cells(table)
    return {
        "rows": len(table.rows),
        "patients": len({row.patient_id for row in table.rows}),
        "splits": {split: _split_report(table, split) for split in (("test",) if for_prediction else SPLITS)},
        "missing_files": {"number": len(missing), "examples": missing[:EXAMPLES]},
        "refused_cells": {
            name: {"number": len(numbers), "rows": numbers[:EXAMPLES]} for name, numbers in sorted(refused.items())
        },
        "unknown_columns": sorted(unknown),
        "ignored_columns": table.ignored_columns,
    }


def report_text(report: Mapping[str, Any]) -> str:
    """Write the report of [`check_manifest`] as text for the terminal: names and numbers, no values of patients."""
    lines = [f"{report['rows']} rows, {report['patients']} patients"]
    for split, part in report["splits"].items():
        tasks = "; ".join(f"{task}: {counts}" for task, counts in part["tasks"].items())
        lines.append(
            f"  {split:<11} {part['rows']} rows, {part['labs']} labs, {part['ecg']} ecg, {part['echo']} echo; {tasks}"
        )
    if report["refused_cells"]:
        lines.append("laboratory cells that will be left out:")
        for name, cells in report["refused_cells"].items():
            lines.append(f"  {name}: {cells['number']}, {_rows(cells['rows'], cells['number'])}")
    for key, words in (("unknown_columns", "columns kept as written"), ("ignored_columns", "columns not used")):
        if report[key]:
            lines.append(f"{words}: {', '.join(report[key])}")
    if empty := [split for split, part in report["splits"].items() if not part["rows"]]:
        lines.append(f"no row in the split(s) {', '.join(empty)}")
    missing = report["missing_files"]
    rows = [example["row"] for example in missing["examples"]]
    lines.append(f"{missing['number']} files are not there" + (f", {_rows(rows, missing['number'])}" if rows else ""))
    return "\n".join(lines)


def _check_cells(table: CohortTable) -> tuple[dict[str, list[int]], set[str]]:
    """Parse all laboratory cells.

    Returns:
        Column -> numbers of the rows whose cell is refused, counted from 1; and the names of unknown columns.
    """
    refused: dict[str, list[int]] = {}
    unknown: set[str] = set()
    for number, row in enumerate(table.rows, start=1):
        labs = LabsText.from_row(row.labs)
        for entry in labs.refused:
            refused.setdefault(entry["item"].removeprefix("labs."), []).append(number)
        unknown.update(labs.unknown)
    return refused, unknown


def _rows(first: list[int], number: int) -> str:
    return f"row {', '.join(map(str, first))}{', ...' if number > len(first) else ''}"


def _required_files(row: CohortRow, root: Path) -> list[str]:
    """List the files of a row that must exist, as the table names them. Of a WFDB recording it is the header."""
    return [*([] if row.ecg_path is None else ecg_files(row.ecg_path, root)[:1]), *row.echo_paths]


def _split_report(table: CohortTable, split: str) -> dict[str, Any]:
    rows = [row for row in table.rows if row.split == split]
    counts = {}
    for task, kind in table.tasks.items():
        values = [(row.labels if kind == "diagnosis" else row.events).get(task) for row in rows]
        present = Counter(value for value in values if value is not None)
        counts[task] = {str(value): number for value, number in sorted(present.items())}
    return {
        "rows": len(rows),
        "labs": sum(bool(row.labs) for row in rows),
        "ecg": sum(row.ecg_path is not None for row in rows),
        "echo": sum(bool(row.echo_paths) for row in rows),
        "tasks": counts,
    }
