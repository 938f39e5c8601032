"""`tgmm check-manifest`: is a cohort table ready for `tgmm prepare`? Nothing is prepared.

`manifest.schema.json` beside this file is the JSON Schema of one row, for people who write the table with other tools.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tgmm_hf.data.confinement import confined_clips, confined_ecg
from tgmm_hf.data.manifest import SPLITS, CohortRow, CohortTable, Tasks, ecg_files, read_cohort_table
from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.utils.errors import InputRefusedError

EXAMPLES = 5
"""Maximum number of rows that the report names for each fault."""


def check_manifest(
    path: str | Path,
    *,
    root: str | Path | None = None,
    tasks: Tasks | None = None,
    for_prediction: bool = False,
    allow_outside: bool = False,
) -> dict[str, Any]:
    """Check a cohort table, its laboratory cells and whether its files exist.

    Args:
        path: `.parquet` or `.csv` file.
        root: Directory that relative paths start from. None means the directory of the table.
        tasks: Tasks of the model. None means the tasks of the paper.
        for_prediction: The table is for `tgmm predict --manifest`, so that split, patient and outcomes may be missing.
        allow_outside: Files outside the root will be read (`--allow-outside`), so they are not reported.

    Returns:
        Report that JSON can hold. "rows" and "patients": their numbers. "splits": split -> numbers of rows, of rows
        with each modality, and of each label. "missing_files": their number, and row and item ("ecg", "echo[2]") of the
        first of them. "outside_files": the same of files outside the root, which will not be read. "refused_cells":
        column -> number of cells that `prepare` will not use, and the first rows with such a cell. "unknown_columns":
        laboratory columns that the package does not know; they are used as written. "ignored_columns": columns that
        are not used. Rows are counted from 1.

    Raises:
        CohortTableError: If the table cannot be used at all.
    """
    table = read_cohort_table(path, root=root, tasks=tasks, for_prediction=for_prediction, allow_outside=allow_outside)
    missing = [
        {"row": number, "file": item}
        for number, row in enumerate(table.rows, start=1)
        for item, file in _required_files(row, table.root)
        if not (table.root / file).is_file()
    ]
    outside = [entry for number, row in enumerate(table.rows, start=1) for entry in _outside_files(number, row, table)]
    refused, unknown = _check_cells(table)
    return {
        "rows": len(table.rows),
        "patients": len({row.patient_id for row in table.rows}),
        "splits": {split: _split_report(table, split) for split in (("test",) if for_prediction else SPLITS)},
        "missing_files": {"number": len(missing), "examples": missing[:EXAMPLES]},
        "outside_files": {"number": len(outside), "examples": outside[:EXAMPLES]},
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
    if (outside := report["outside_files"])["number"]:
        rows = sorted({example["row"] for example in outside["examples"]})
        lines.append(
            f"{outside['number']} files lie outside the root and will not be read, "
            f"{_rows(rows, outside['number'])}: give --root, or --allow-outside"
        )
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
        labs = LabsText.from_row(row.labs, from_table=True)
        for entry in labs.refused:
            refused.setdefault(entry["item"].removeprefix("labs."), []).append(number)
        unknown.update(labs.unknown)
    return refused, unknown


def _rows(first: list[int], number: int) -> str:
    return f"row {', '.join(map(str, first))}{', ...' if number > len(first) else ''}"


def _required_files(row: CohortRow, root: Path) -> list[tuple[str, str]]:
    """List the files of a row that must exist: (item, path as the table writes it).

    The item is "ecg" or "echo[<position>]", because a path may name the patient. Of a WFDB recording it is the header.
    """
    ecg = [] if row.ecg_path is None else [("ecg", ecg_files(row.ecg_path, root)[0])]
    return ecg + [(f"echo[{position}]", path) for position, path in enumerate(row.echo_paths, start=1)]


def _outside_files(number: int, row: CohortRow, table: CohortTable) -> list[dict[str, Any]]:
    """List the files of row `number` that will not be read because they lie outside the root: {"row", "file"}."""
    where = (table.root, table.allow_outside)
    files = [*([] if row.ecg_path is None else [confined_ecg(row.ecg_path, *where)])]
    files += confined_clips(row.echo_paths, *where)
    return [{"row": number, "file": file.item} for file in files if isinstance(file, InputRefusedError)]


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
