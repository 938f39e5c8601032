"""`tgmm check-manifest`: is a cohort table ready for `tgmm prepare` or `tgmm predict`? Nothing is prepared.

One run names all faults. `manifest.schema.json` beside this file is the JSON Schema of one row, for people who write
the table with other tools.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tgmm_hf.configuration_tasks import DEFAULT_TASKS
from tgmm_hf.data.cell_reasons import reason_without_values
from tgmm_hf.data.column_checks import Numbers, add_cells, column_doubts, person_doubts
from tgmm_hf.data.confinement import confined_clips, confined_ecg
from tgmm_hf.data.laboratory import Laboratory
from tgmm_hf.data.manifest import SPLITS, CohortRow, CohortTable, Tasks, ecg_files, find_faults
from tgmm_hf.data.outcome_checks import outcome_codes, outcome_doubts
from tgmm_hf.data.repeated_inputs import RepeatedInput, repeated_inputs
from tgmm_hf.data.slipped_paths import compare_headers
from tgmm_hf.data.table_columns import ignored_text
from tgmm_hf.data.table_files import DEFAULT_FORMAT, TableFormat
from tgmm_hf.data.trial_reading import refused_files
from tgmm_hf.inputs.input_limits import is_unreadable
from tgmm_hf.inputs.lab_columns import suggest_column
from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.inputs.processor_parts import trained_columns
from tgmm_hf.processing_tgmm import TgmmProcessor
from tgmm_hf.utils.errors import InputRefusedError
from tgmm_hf.utils.names import counted

EXAMPLES = 5
"""Maximum number of rows that the report names for each fault."""


@dataclass(frozen=True)
class CheckSettings:
    """What to check a cohort table for.

    Attributes:
        root: Directory that relative paths start from. None means the directory of the table.
        tasks: Tasks of the model. None means the tasks of the paper.
        for_prediction: The table is for `tgmm predict --manifest`, so that split, patient and outcomes may be missing.
        processor: Processor of the model that the table is for. It knows the lab columns that the model was trained
            with. None if there is no model yet.
        read_files: Open every file as `prepare` does, and list what is refused.
        laboratory: Units and names of the laboratory columns.
        table_format: Encoding, decimal sign and largest size of the file.
        allow_outside: Files outside the root will be read (`--allow-outside`), so they are not reported.
    """

    root: str | Path | None = None
    tasks: Tasks | None = None
    for_prediction: bool = False
    processor: TgmmProcessor | None = None
    read_files: bool = False
    laboratory: Laboratory | None = None
    table_format: TableFormat = DEFAULT_FORMAT
    allow_outside: bool = False


def check_manifest(path: str | Path, settings: CheckSettings | None = None, **changes: Any) -> dict[str, Any]:
    """Check a cohort table, its laboratory cells, and whether its files exist.

    Args:
        path: `.parquet` or `.csv` file.
        settings: What to check for. None means the defaults.
        **changes: Single settings of [`CheckSettings`], instead of `settings`.

    Returns:
        Report that JSON can hold. It holds no value of a patient. Rows are counted from 1.

        * "rows" and "patients": their numbers.
        * "splits": split -> numbers of rows, of rows with each modality, and of each label.
        * "faults": list of {"reason", "number", "rows"}, what makes the table unusable.
        * "root": directory that relative paths start from.
        * "missing_files": their number, and row and item ("ecg", "echo[2]") of the first of them.
        * "outside_files": the same of files outside the root, which will not be read.
        * "repeated_inputs": list of {"reason", "number", "rows"}, files and laboratory rows that stand with several
          patients. Files in several splits are a fault too.
        * "slipped_rows": list of {"reason", "number", "rows"}, rows that are not used because a header of their files
          names another patient of the table.
        * "refused_cells": column -> number of cells that are not used, and the first rows with such a cell.
        * "refused_reasons": column -> list of {"reason", "number", "rows"}.
        * "lab_checks": list of {"reason": code of the doubt and its column, "number", "rows"}, see
          docs/reliability.md.
        * "column_doubts": list of sentences on columns whose median is not that of adults in a hospital.
        * "refused_files": list of {"reason", "number", "rows"}; None if the files were not read.
        * "unknown_columns": laboratory columns that the package does not know, or that the model was not trained with.
        * "meant": unknown column -> known column with a similar name.
        * "ignored_columns": columns that are not used.
        * "meant_columns": column that is not used -> column of data that may be meant.
        * "notes": what was ignored or assumed, and doubts about outcomes.

    Raises:
        CohortTableError: If the file or its columns cannot be used. The message lists all faults of the columns.
    """
    settings = settings or CheckSettings(**changes)
    tasks = DEFAULT_TASKS if settings.tasks is None else settings.tasks
    table, faults = find_faults(
        path,
        root=settings.root,
        tasks=tasks,
        for_prediction=settings.for_prediction,
        laboratory=settings.laboratory,
        table_format=settings.table_format,
        allow_outside=settings.allow_outside,
    )
    missing = [
        {"row": number, "file": item}
        for number, row in enumerate(table.rows, start=1)
        for item, file in _required_files(row, table.root)
        if not _is_file(table.root / file)
    ]
    outside = [entry for number, row in enumerate(table.rows, start=1) for entry in _outside_files(number, row, table)]
    cells = _check_cells(table, settings.processor)
    doubts = [] if settings.for_prediction else outcome_doubts(table, tasks)
    repeated, headers = repeated_inputs(table), compare_headers(table)
    slipped = headers.slipped
    read = refused_files(table, settings.processor) if settings.read_files else None
    return {
        "rows": len(table.rows),
        "patients": len({row.patient_id for row in table.rows}),
        "splits": {split: _split_report(table, split) for split in (("test",) if settings.for_prediction else SPLITS)},
        "faults": _grouped([*((error.kind, error.row) for error in faults), *_leaks(repeated)]),
        "root": str(table.root),
        "missing_files": {"number": len(missing), "examples": missing[:EXAMPLES]},
        "outside_files": {"number": len(outside), "examples": outside[:EXAMPLES]},
        "repeated_inputs": _grouped((entry.reason, use.row) for entry in repeated for use in entry.uses),
        "slipped_rows": _grouped(
            (slipped[row.id], number) for number, row in enumerate(table.rows, start=1) if row.id in slipped
        ),
        **cells,
        "refused_files": None if read is None else _grouped(read),
        "ignored_columns": table.ignored_columns,
        "meant_columns": table.meant_columns,
        "notes": [*table.notes, *doubts, *person_doubts(table.rows), *headers.notes()],
    }


def has_faults(report: Mapping[str, Any]) -> bool:
    """Tell whether a report of [`check_manifest`] names a fault. Notes and unknown columns are none."""
    return bool(
        report["faults"]
        or report["missing_files"]["number"]
        or report["outside_files"]["number"]
        or report["slipped_rows"]
        or report["refused_cells"]
        or report["refused_files"]
    )


def report_text(report: Mapping[str, Any]) -> str:
    """Write the report of [`check_manifest`] as text for the terminal: names and numbers, no values of patients."""
    lines = [f"{report['rows']} rows, {report['patients']} patients (the first row below the header is row 1)"]
    for split, part in report["splits"].items():
        counts = [f"{part[name]} {name}" for name in ("labs", "ecg", "echo")]
        lines.append(f"  {split:<11} {part['rows']} rows, {', '.join(counts)}{_labels(part['tasks'])}")
    lines += _section("faults of the table:", report["faults"])
    lines += _section("inputs of several patients:", report["repeated_inputs"])
    lines += _section("rows that will not be used:", report["slipped_rows"])
    if report["refused_cells"]:
        lines.append("laboratory cells that will be left out:")
        for name, cells in report["refused_cells"].items():
            lines.append(f"  {name}: {cells['number']}, {_rows(cells['rows'], cells['number'])}")
            lines += [f"    {group['number']} x {group['reason']}" for group in report["refused_reasons"][name]]
    lines += _section("doubts about laboratory cells:", report["lab_checks"])
    lines += [f"doubt about a column: {doubt}" for doubt in report["column_doubts"]]
    lines += _section("files that will be refused:", report["refused_files"] or [])
    if report["unknown_columns"]:
        lines.append("columns that only a model trained with them uses: " + ", ".join(_with_meant(report)))
    if report["ignored_columns"]:
        lines.append(ignored_text(report["ignored_columns"], report["meant_columns"]))
    if empty := [split for split, part in report["splits"].items() if not part["rows"]]:
        lines.append(f"no row in the split(s) {', '.join(empty)}")
    if (outside := report["outside_files"])["number"]:
        rows = sorted({example["row"] for example in outside["examples"]})
        lines.append(
            f"{outside['number']} files lie outside the root and will not be read, "
            f"{_rows(rows, outside['number'])}: give --root, or --allow-outside"
        )
    lines += [f"note: {note}" for note in report["notes"]]
    return "\n".join([*lines, _missing_line(report), _verdict(report)])


def _missing_line(report: Mapping[str, Any]) -> str:
    """Say how many files are not there, and where they were looked for."""
    missing = report["missing_files"]
    if not missing["number"]:
        return "0 files are not there"
    rows = list(dict.fromkeys(example["row"] for example in missing["examples"]))
    return (
        f"{missing['number']} files are not there, {_rows(rows, missing['number'])}. Relative paths were looked for in "
        f"{report['root']}: give --root if the files lie in another directory"
    )


def _verdict(report: Mapping[str, Any]) -> str:
    """Write the last line: whether the table has faults, and how many doubts there are."""
    doubts = len(report["lab_checks"]) + len(report["column_doubts"]) + len(report["repeated_inputs"])
    also = f" {counted(doubts, 'doubt')} to look at." if doubts else ""
    if report["faults"]:
        return f"Result: the table cannot be used. Mend the faults of the table.{also}"
    if has_faults(report):
        return f"Result: the table can be used, but what is named above as a fault will be left out.{also}"
    return f"Result: no fault.{also}"


def _labels(tasks: Mapping[str, Mapping[str, int]]) -> str:
    """Write the numbers of each label: "; hf_diagnosis: 3 x 0, 4 x 1"."""
    written = [
        f"{task}: {', '.join(f'{number} x {value}' for value, number in counts.items()) or 'no label'}"
        for task, counts in tasks.items()
    ]
    return "".join(f"; {text}" for text in written)


def _section(title: str, groups: Iterable[Mapping[str, Any]]) -> list[str]:
    """Write groups of faults as lines below a title; [] if there is none."""
    lines = [
        f"  {group['number']} x {group['reason']}"
        + (f" ({_rows(group['rows'], group['number'])})" * bool(group["rows"]))
        for group in groups
    ]
    return [title, *lines] if lines else []


def _with_meant(report: Mapping[str, Any]) -> list[str]:
    """Write the unknown columns, each with the known column that may be meant."""
    meant = report["meant"]
    return [name + (f" (did you mean {meant[name]}?)" if name in meant else "") for name in report["unknown_columns"]]


def _grouped(entries: Iterable[tuple[str, int | None]]) -> list[dict[str, Any]]:
    """Group (reason, row) by reason: number of entries and the first rows. The most frequent reason comes first."""
    rows: dict[str, list[int | None]] = {}
    for reason, row in entries:
        rows.setdefault(reason, []).append(row)
    groups = [
        {"reason": reason, "number": len(numbers), "rows": _first(row for row in numbers if row is not None)}
        for reason, numbers in rows.items()
    ]
    return sorted(groups, key=lambda group: -int(group["number"]))


def _first(rows: Iterable[int]) -> list[int]:
    return list(dict.fromkeys(rows))[:EXAMPLES]


def _check_cells(table: CohortTable, processor: TgmmProcessor | None) -> dict[str, Any]:
    """Parse all laboratory cells.

    Returns:
        The entries "refused_cells", "refused_reasons", "lab_checks", "column_doubts", "unknown_columns" and "meant" of
        the report.
    """
    refused: dict[str, list[tuple[str, int]]] = {}
    doubts: list[tuple[str, int | None]] = []
    unknown: set[str] = set()
    numbers: Numbers = {}
    columns = () if processor is None else trained_columns(processor) or ()
    for number, row in enumerate(table.rows, start=1):
        labs = LabsText.from_row(row.labs, from_table=True, columns=columns)
        if processor is not None:
            processor.write_labs(labs)
        for entry in labs.refused:
            reason = reason_without_values(entry["reason"], row.labs)
            refused.setdefault(entry["item"].removeprefix("labs."), []).append((reason, number))
        doubts += [(f"{check['code']}: {check['item'].removeprefix('labs.')}", number) for check in labs.checks]
        add_cells(numbers, labs.cells)
        unknown.update([*labs.unknown, *labs.unused])
    similar = {name: suggest_column(name) for name in unknown}
    return {
        "refused_cells": {
            name: {"number": len(found), "rows": [number for _, number in found][:EXAMPLES]}
            for name, found in sorted(refused.items())
        },
        "refused_reasons": {name: _grouped(found) for name, found in sorted(refused.items())},
        "lab_checks": _grouped(doubts),
        "column_doubts": column_doubts(numbers),
        "unknown_columns": sorted(unknown),
        "meant": {name: column.name for name, column in sorted(similar.items()) if column is not None},
    }


def _rows(first: list[int], number: int) -> str:
    return f"row {', '.join(map(str, first))}{', ...' if number > len(first) else ''}"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a path that is too long, or holds a zero byte
        return False


def _leaks(repeated: Iterable[RepeatedInput]) -> list[tuple[str, int]]:
    """List (reason, row) of the files that lead from one split to another."""
    return [(entry.reason, use.row) for entry in repeated if entry.is_leak for use in entry.uses]


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
    refused = [file for file in files if isinstance(file, InputRefusedError)]
    return [{"row": number, "file": file.item} for file in refused if not is_unreadable(file.reason)]


def _split_report(table: CohortTable, split: str) -> dict[str, Any]:
    rows = [row for row in table.rows if row.split == split]
    counts = {}
    for task, kind in table.tasks.items():
        present: Counter[Any] = Counter(outcome_codes(task, kind, rows))
        counts[task] = {str(value): number for value, number in sorted(present.items())}
    return {
        "rows": len(rows),
        "labs": sum(bool(row.labs) for row in rows),
        "ecg": sum(row.ecg_path is not None for row in rows),
        "echo": sum(bool(row.echo_paths) for row in rows),
        "tasks": counts,
    }
