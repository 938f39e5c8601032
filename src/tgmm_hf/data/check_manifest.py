"""`tgmm check-manifest`: is a table of one's own ready for `tgmm prepare`? Nothing is written but the report.

`manifest.schema.json` beside this file is the JSON Schema of one row, for who writes the table with other tools.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tgmm_hf.data.manifest import SPLITS, Manifest, ManifestRow, ecg_files, read_manifest
from tgmm_hf.inputs.lab_text import read_cells

EXAMPLES = 5


def check_manifest(
    path: str | Path,
    *,
    root: str | Path | None = None,
    tasks: Mapping[str, Mapping[str, Any]] | None = None,
    for_prediction: bool = False,
) -> dict[str, Any]:
    """Check a cohort table, its laboratory cells and whether its files are there.

    Args:
        path: `.parquet` or `.csv`.
        root: where relative paths start; the table's directory when None.
        tasks: the model's tasks; the paper's when None.
        for_prediction: the table is for `tgmm predict --manifest`: no split, patient or outcome is asked for.

    Returns:
        JSON-able report: "rows", "patients", "splits" (rows, modalities and labels of each), "missing_files" (number
        and examples), "refused_cells" (column -> cells that will be left out and the first rows that have one, counted
        from 1), "unknown_columns", "ignored_columns".

    Raises:
        ManifestError: the table cannot be used at all.
    """
    manifest = read_manifest(path, root=root, tasks=tasks, for_prediction=for_prediction)
    missing = [
        {"row": number, "file": file}
        for number, row in enumerate(manifest.rows, start=1)
        for file in _files(row)
        if not (manifest.root / file).is_file()
    ]
    refused: dict[str, list[int]] = {}
    unknown: set[str] = set()
    for number, row in enumerate(manifest.rows, start=1):
        _, report = read_cells(row.labs)
        for entry in report.refused:
            refused.setdefault(entry["item"].removeprefix("labs."), []).append(number)
        unknown.update(report.unknown)
    return {
        "rows": len(manifest.rows),
        "patients": len({row.patient_id for row in manifest.rows}),
        "splits": {split: _split_report(manifest, split) for split in (("test",) if for_prediction else SPLITS)},
        "missing_files": {"number": len(missing), "examples": missing[:EXAMPLES]},
        "refused_cells": {
            name: {"number": len(numbers), "rows": numbers[:EXAMPLES]} for name, numbers in sorted(refused.items())
        },
        "unknown_columns": sorted(unknown),
        "ignored_columns": manifest.ignored_columns,
    }


def report_text(report: Mapping[str, Any]) -> str:
    """The report as `check-manifest` prints it; names and numbers only."""
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


def _rows(first: list[int], number: int) -> str:
    """Where to look: the rows that are named, counted from 1 as the table's own errors count them."""
    return f"row {', '.join(map(str, first))}{', ...' if number > len(first) else ''}"


def _files(row: ManifestRow) -> list[str]:
    """The files that must be there: of a WFDB record its header."""
    return [*([] if row.ecg_path is None else ecg_files(row.ecg_path)[:1]), *row.echo_paths]


def _split_report(manifest: Manifest, split: str) -> dict[str, Any]:
    rows = [row for row in manifest.rows if row.split == split]
    counts: dict[str, dict[str, int]] = {}
    for task, kind in manifest.tasks.items():
        values = [(row.labels if kind == "diagnosis" else row.events).get(task) for row in rows]
        counts[task] = {
            str(value): number for value, number in sorted(Counter(v for v in values if v is not None).items())
        }
    return {
        "rows": len(rows),
        "labs": sum(bool(row.labs) for row in rows),
        "ecg": sum(row.ecg_path is not None for row in rows),
        "echo": sum(bool(row.echo_paths) for row in rows),
        "tasks": counts,
    }
