"""`tgmm prepare`: cohort table and raw files -> Arrow files that training maps into memory.

The `datasets` builder gives the same rows, because both use `CohortSource` (admissions.py). `download_and_prepare` of
`datasets` deletes its files when it is interrupted, and keeps no list of refused inputs. So this module writes the rows
as shards of 32 admissions, with a fingerprint beside each (`shards.py`). A run that was killed goes on with the missing
shards. The result depends neither on the engine (`engines.py`) nor on the number of processes or jobs.

    OUT/train/00000.arrow, 00000.json ...   shards and their fingerprints, counts and refusals
    OUT/validation/, OUT/test/
    OUT/refused.csv                         id, item, reason
    OUT/checks.csv                          id, code, item, text: inputs that are doubtful, and used as the code says
    OUT/headers.json                        admissions whose files name another patient; all parts and later runs use it
    OUT/prepare.json                        counts, digests, size of the clips, processor settings, versions; last
"""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetDict, concatenate_datasets
from tqdm import tqdm

from tgmm_hf.data.admissions import AdmissionPreparer, CohortSource
from tgmm_hf.data.column_checks import column_doubts, numbers_of, person_doubts
from tgmm_hf.data.engines import ENGINES
from tgmm_hf.data.file_reading import file_state, files_of_ecg, files_of_row
from tgmm_hf.data.laboratory import Laboratory
from tgmm_hf.data.manifest import SPLITS, CohortRow, CohortTable, Tasks
from tgmm_hf.data.repeated_inputs import refuse_leaks, repeated_inputs
from tgmm_hf.data.shards import (
    Shard,
    claim_output,
    is_done,
    read_state,
    remove_temporary_files,
    write_rows,
    write_shared_text,
)
from tgmm_hf.data.slipped_paths import HEADERS_FILE, stored_text
from tgmm_hf.data.table_columns import ignored_text
from tgmm_hf.data.table_files import DEFAULT_FORMAT, TableFormat
from tgmm_hf.processing_tgmm import TgmmProcessor
from tgmm_hf.utils.csv_files import csv_text
from tgmm_hf.utils.digests import json_digest
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import read_json
from tgmm_hf.utils.names import VIEWS
from tgmm_hf.utils.output_lock import check_room, only_run, size_text
from tgmm_hf.utils.versions import package_versions
from tgmm_hf.utils.watched_worker import LIMITS, STOPPED, UNEXPECTED, Limits

SHARD_SIZE = 32
"""Admissions per shard. A killed run loses at most this many per process."""
FORMAT = 8
"""Raise this number when the prepared rows change, so that old shards are not taken for new ones."""
ECG_BYTES = 2500 * (12 * 4 + 4)
"""Size in bytes of 10 seconds of ECG: 2,500 samples of 12 leads. Arrow adds four bytes to every sample."""
SAMPLE = 8
"""Admissions whose time a dry run measures."""
FORGOTTEN = 3600
"""Seconds. A temporary file that was not touched for so long belongs to a killed run."""
WHOLE = (1, 1)
"""The part that is everything: the first part of one."""

State = dict[str, Any]
"""Content of the state file of a shard."""


@dataclass(frozen=True)
class _Plan:
    """The work of one call of `prepare` or `dry_run`.

    Attributes:
        source: The checked table with its preparer.
        settings: Settings of the processor that shape the rows.
        input_hash: Digest of the table and the settings.
        shards: All shards of the table, or the shards of one part.
    """

    source: CohortSource
    settings: dict[str, Any]
    input_hash: str
    shards: list[Shard]

    @property
    def rows(self) -> list[CohortRow]:
        """The rows of all shards."""
        return _rows(self.shards)

    @property
    def preparer(self) -> AdmissionPreparer:
        """The preparer of the rows."""
        return self.source.preparer


@dataclass(frozen=True)
class _Work:
    """How to run an engine: its name, the number of processes and the limits of the reading."""

    engine: str
    num_proc: int | None
    limits: Limits | None


def prepare(  # noqa: PLR0913 - one argument per option of the command
    manifest: str | Path,
    out_dir: str | Path,
    processor: TgmmProcessor,
    *,
    num_proc: int | None = 1,
    engine: str = "local",
    part: tuple[int, int] = WHOLE,
    root: str | Path | None = None,
    tasks: Tasks | None = None,
    laboratory: Laboratory | None = None,
    overwrite: bool = False,
    table_format: TableFormat = DEFAULT_FORMAT,
    allow_outside: bool = False,
    limits: Limits | None = LIMITS,
) -> dict[str, Any]:
    """Prepare a cohort for training. Print its size at the start and a summary at the end.

    Args:
        manifest: Cohort table, Parquet or CSV (`docs/your_data.md`).
        out_dir: Directory of the result. A run that was interrupted there goes on.
        processor: Gives the ECG settings and the size of the clips. Its tokenizer is not used.
        num_proc: Number of worker processes. None means one per core of this machine. With Ray it is the maximum number
            of tasks at a time, and None means two per core of the cluster.
        engine: "local", or "ray" for a Ray cluster.
        part: (i, n) writes only part i of n, counted from 1. The n jobs may run at once on machines that share
            `out_dir`. A last call without `part` writes what is missing and finishes the data set.
        root: Directory that relative paths start from. None means the directory of the table.
        tasks: Tasks of the model (`config.tasks`), to check the outcome columns against.
        laboratory: Units and names of the laboratory columns.
        overwrite: Replace a finished result of another table or of other settings.
        table_format: Encoding, decimal sign and largest size of the cohort table.
        allow_outside: Read files outside the root too. By default they are refused.
        limits: Time and memory that reading the ECG or the echo study of one admission may take. None reads everything
            in this process, without limits.

    Returns:
        The content of `prepare.json`; "data_hash" is the digest of the prepared rows. A part writes no `prepare.json`
        and returns only "counts" (split -> numbers) and "refused" (number of items) of the part.

    Raises:
        CohortTableError: If the table cannot be used, or a file stands with several patients in several splits.
        FileExistsError: If `out_dir` holds a finished result of other data and `overwrite` is False, or files that this
            command does not write.
        OSError: If the disk has too little room, or `out_dir` cannot be written.
        TgmmError: If another run writes the same part of `out_dir`, files could not be read or changed meanwhile, a
            worker process was killed, or `part` does not exist.
    """
    with only_run(out_dir, "" if part == WHOLE else f"{part[0]}-of-{part[1]}"):
        source = CohortSource.open(manifest, processor, root, tasks, laboratory, table_format, allow_outside, out_dir)
        notes = [*refuse_leaks(Path(manifest).name, repeated_inputs(source.table)), *person_doubts(source.table.rows)]
        for note in notes:
            _say(f"note: {note}")
        plan = _plan(source, processor, part)
        states = _write_shards(plan, Path(out_dir), _Work(engine, num_proc, limits), overwrite)
        if part == WHOLE:
            return _finish(plan, states, Path(out_dir), Path(manifest).name)
    _say(f"part {part[0]} of {part[1]} is written. After all parts, `tgmm prepare` without --shard finishes.")
    return {"counts": _counts(states), "refused": sum(len(state["refused"]) for _, state in states)}


def dry_run(  # noqa: PLR0913 - one argument per option of the command
    manifest: str | Path,
    out_dir: str | Path,
    processor: TgmmProcessor,
    *,
    num_proc: int | None = 1,
    part: tuple[int, int] = WHOLE,
    root: str | Path | None = None,
    tasks: Tasks | None = None,
    laboratory: Laboratory | None = None,
    overwrite: bool = False,
    table_format: TableFormat = DEFAULT_FORMAT,
    allow_outside: bool = False,
) -> dict[str, float]:
    """Check the table, prepare a few admissions in memory, and print the time and the disk space that `prepare` needs.

    No files are written. The arguments and the errors are the same as in [`prepare`].

    Returns:
        "admissions": number of all. "missing": number of admissions that are not prepared yet. "largest_bytes": upper
        limit of the size of the result. If any admissions are missing, there are also: "tried", the number of missing
        admissions that were measured; "seconds_per_admission"; "seconds" for all missing ones on `num_proc` processes;
        and "likely_bytes", the expected size of the result.
    """
    out = Path(out_dir)
    source = CohortSource.open(manifest, processor, root, tasks, laboratory, table_format, allow_outside, out_dir)
    plan = _plan(source, processor, part)
    claim_output(out, plan.input_hash, overwrite)
    largest = _say_size(plan, out)
    rows = _rows([shard for shard in plan.shards if not is_done(shard, out)])
    result: dict[str, float] = {"admissions": len(plan.rows), "missing": len(rows), "largest_bytes": largest}
    if not rows:
        _say("every admission is prepared already. Nothing was written.")
        return result
    workers = num_proc or os.cpu_count() or 1
    times, size = _try_admissions(rows, plan.preparer)
    mean = sum(times) / len(times)
    result |= {"tried": len(times), "seconds_per_admission": mean, "seconds": mean * len(rows) / workers}
    result |= {"likely_bytes": int(size * len(plan.rows))}
    _say(
        f"{len(rows)} admissions to prepare: about {_duration(result['seconds'])} on {workers} process(es) of this "
        f"machine, and {size_text(result['likely_bytes'])} for the whole.\n"
        f"Measured on {len(times)} of them, spread over the table: {mean:.2g} s each ({min(times):.2g} to "
        f"{max(times):.2g}), in one process. Not counted: starting, writing to disk, and that processes slow each "
        "other. Nothing was written."
    )
    return result


def load_prepared(directory: str | Path) -> DatasetDict:
    """Load the prepared splits: split -> rows. Splits without rows have no entry.

    The files are mapped into memory. The values of a row are NumPy arrays in their stored types.

    Raises:
        FileNotFoundError: If `prepare` has not finished in `directory`.
    """
    directory = Path(directory)
    if not (directory / "prepare.json").is_file():
        raise FileNotFoundError(f"{directory} has no prepare.json: run `tgmm prepare` (again, if it was interrupted).")
    return _read_shards(directory)


def _read_shards(directory: Path) -> DatasetDict:
    """Map the shards of a directory into memory, whether the data set is whole or not."""
    splits = {}
    for split in SPLITS:
        parts = [Dataset.from_file(str(path)) for path in sorted((directory / split).glob("*.arrow"))]
        if parts:
            # dtype=None keeps uint8 and int32; the default turns clips into int64, eight times their size
            splits[split] = concatenate_datasets(parts).with_format("numpy", dtype=None)
    return DatasetDict(splits)


def processor_settings(processor: TgmmProcessor) -> dict[str, Any]:
    """Collect the settings that change the prepared rows.

    The wording of the laboratory text and the tokenizer are not included, because the collator uses them later.

    Returns:
        "feature_extractor" (ECG), "image_processor" (echo) and, if there is one, "view_classifier" -> settings.
    """
    parts = (processor.feature_extractor, processor.image_processor)
    settings = dict(zip(("feature_extractor", "image_processor"), (part.to_dict() for part in parts), strict=True))
    if processor.default_view_classifier is not None:
        settings["view_classifier"] = processor.default_view_classifier.describe()
    return settings


def estimate_bytes(rows: Sequence[CohortRow], preparer: AdmissionPreparer) -> int:
    """Estimate an upper limit of the size of prepared rows, in bytes.

    A row counts one clip for each named view and one for each file without a view, together at most 11; 10 seconds of
    ECG; and 2 KiB for everything else.
    """
    processor = preparer.image_processor
    clip = processor.num_frames * processor.size * (processor.size * 3 + 4)  # + 4: Arrow's offsets
    total = 0
    for row in rows:
        named = {view for view in row.echo_views if view is not None}
        unnamed = sum(view is None for view in row.echo_views)
        total += clip * min(len(VIEWS), len(named) + unnamed) + (ECG_BYTES if row.ecg_path else 0) + 2048
    return total


def summary_text(summary: Mapping[str, Any]) -> str:
    """Write the summary that `prepare` prints at the end: counts per split, refused items, size."""
    lines = [f"{'split':<12}{'admissions':>11}{'dropped':>9}{'labs':>7}{'ecg':>7}{'echo':>7}{'clips':>8}"]
    for split, counts in summary["counts"].items():
        lines.append(
            f"{split:<12}{counts['records']:>11}{counts['dropped']:>9}{counts['labs']:>7}{counts['ecg']:>7}"
            f"{counts['echo']:>7}{counts['clips']:>8}"
        )
    lines.append(f"{summary['refused']} items refused (refused.csv), {size_text(summary['bytes'])} written")
    lines += [f"doubt about a column: {doubt}" for doubt in summary["column_doubts"]]
    if summary["checks"]:
        lines.append(f"{sum(summary['checks'].values())} findings on doubtful inputs (checks.csv)")
    if summary["unexpected"]:
        lines.append(f"{summary['unexpected']} of them for an unexpected reason: please report the reason as an issue")
    if summary["stopped"]:
        lines.append(
            f"{summary['stopped']} of them stopped at a limit: raise the limit and run again if they are right"
        )
    if summary["missing_files"]:
        lines.append(
            f"{summary['missing_files']} files of the table are not there: run the same command again if they come back"
        )
    return "\n".join(lines)


# ---- the plan


def _plan(source: CohortSource, processor: TgmmProcessor, part: tuple[int, int]) -> _Plan:
    number, parts = part
    if not 1 <= number <= parts:
        raise TgmmError(f"part {number} of {parts}", f"no part {number} of {parts}: they are numbered 1 to {parts}.")
    settings, table = processor_settings(processor), source.table
    content = {"format": FORMAT, "manifest": table.digest(), "tasks": table.tasks, "settings": settings}
    content |= {**_outside(table), "strictness": processor.default_strictness}
    chunks = _cut(table)[number - 1 :: parts]
    of_rows = {"settings": settings, "strictness": processor.default_strictness}
    shards = [_shard(split, index, rows, table, of_rows | source.slipped(rows)) for split, index, rows in chunks]
    return _Plan(source, settings, json_digest(content), shards)


def _cut(table: CohortTable) -> list[tuple[str, int, list[CohortRow]]]:
    """Cut the table into shards: (split, number of the shard in the split, at most `SHARD_SIZE` rows)."""
    return [
        (split, index, rows[start : start + SHARD_SIZE])
        for split, rows in table.splits().items()
        for index, start in enumerate(range(0, len(rows), SHARD_SIZE))
    ]


def _shard(split: str, index: int, rows: list[CohortRow], table: CohortTable, of_rows: dict[str, Any]) -> Shard:
    """Plan a shard, with a digest that changes if the shard must be written anew.

    The digest covers the rows, size and time of change of their files, the tasks and root of the table, and `of_rows`
    (settings of the processor, the strictness, and rows whose paths have slipped).
    """
    paths = [table.root / name for row in rows for name in files_of_row(table.root, row)]
    files = tuple((path, file_state(path)) for path in paths)
    content = {
        "format": FORMAT,
        "rows": [row.content() for row in rows],
        "files": [state for _, state in files],
        "tasks": table.tasks,
        "root": str(table.root.resolve()),
        **of_rows,
        **_outside(table),
    }
    return Shard(split, index, rows, json_digest(content), files)


def _outside(table: CohortTable) -> dict[str, bool]:
    """Return the entry of a digest for a table whose files may lie outside its root; empty by default."""
    return {"allow_outside": True} if table.allow_outside else {}


def _rows(shards: Sequence[Shard]) -> list[CohortRow]:
    return [row for shard in shards for row in shard.rows]


# ---- the work


def _write_shards(plan: _Plan, out: Path, work: _Work, overwrite: bool) -> list[tuple[str, State]]:
    """Write the shards of a plan that are missing, and return (split, state) of every shard of the plan."""
    replaces_other = claim_output(out, plan.input_hash, overwrite)
    _say_size(plan, out)
    out.mkdir(parents=True, exist_ok=True)
    remove_temporary_files(out, FORGOTTEN)
    if (text := stored_text(plan.source.headers)) is not None:
        write_shared_text(out / HEADERS_FILE, text)
    missing = [shard for shard in plan.shards if not is_done(shard, out, work.limits)]
    if not missing and not replaces_other and (out / "prepare.json").is_file():
        _say("Every admission is prepared already, from the same table and settings: nothing to do.")
    if missing or replaces_other:  # the data set is not whole now, so nobody may train on it if this run is stopped
        (out / "prepare.json").unlink(missing_ok=True)
    check_room(out, estimate_bytes(_rows(missing), plan.preparer))
    if len(missing) < len(plan.shards):
        _say(f"{len(plan.shards) - len(missing)} of {len(plan.shards)} shards are written already")
    _run(missing, plan.preparer, out, work)
    return [(shard.split, read_json(shard.path(out, ".json"))) for shard in plan.shards]


def _run(shards: Sequence[Shard], preparer: AdmissionPreparer, out: Path, work: _Work) -> None:
    if not shards:
        return
    with tqdm(total=len(_rows(shards)), unit="admission", desc="prepare", file=sys.stderr) as progress:
        for shard in ENGINES[work.engine](shards, preparer, out.resolve(), work.num_proc, work.limits):
            progress.update(len(shard.rows))


def _try_admissions(rows: Sequence[CohortRow], preparer: AdmissionPreparer) -> tuple[list[float], float]:
    """Prepare up to `SAMPLE` + 1 admissions, spread over `rows`, without keeping them.

    Returns:
        Seconds of each admission, and the mean size of a prepared row in bytes. The seconds of the first admission are
        not in the list unless it is the only one, because they include imports.
    """
    number = min(SAMPLE + 1, len(rows))
    times, sizes = [], []
    for index in range(number):
        stream = pa.MockOutputStream()  # counts bytes
        start = time.perf_counter()
        write_rows([rows[index * len(rows) // number]], preparer, stream)
        times.append(time.perf_counter() - start)
        sizes.append(stream.size())
    return times[1:] or times, sum(sizes) / number


def _finish(plan: _Plan, states: list[tuple[str, State]], out: Path, name: str) -> dict[str, Any]:
    """Remove files that do not belong to the data set, then write refused.csv, checks.csv and, last, prepare.json.

    Args:
        plan: The whole plan.
        states: (split, state) of every shard.
        out: Directory of the result.
        name: File name of the cohort table.

    Returns:
        The content of prepare.json.
    """
    _remove_stale(plan.shards, out)
    remove_temporary_files(out, 0)
    refused = [entry for _, state in states for entry in state["refused"]]
    checks = [entry for _, state in states for entry in state["checks"]]
    image_processor = plan.preparer.image_processor
    summary = {
        "data_hash": json_digest([[split, state["content"]] for split, state in states]),
        "input_hash": plan.input_hash,
        "manifest": name,
        "counts": _counts(states),
        "refused": len(refused),
        "checks": dict(sorted(Counter(entry["code"] for entry in checks).items())),
        "column_doubts": column_doubts(numbers_of(_read_shards(out).values())),
        "unexpected": sum(UNEXPECTED in entry["reason"] for entry in refused),
        "stopped": sum(entry["reason"].startswith(STOPPED) for entry in refused),
        "missing_files": _number_missing(plan),
        "tasks": plan.source.table.tasks,
        "units": plan.source.table.units,
        "ignored_columns": plan.source.table.ignored_columns,
        "geometry": {"image_size": image_processor.size, "num_frames": image_processor.num_frames},
        "processor": plan.settings,
        "bytes": sum(state["bytes"] for _, state in states),
        "estimated_bytes": estimate_bytes(plan.rows, plan.preparer),
        "versions": {"format": FORMAT, **package_versions()},
    }
    write_shared_text(out / "refused.csv", csv_text(["id", "item", "reason"], refused))
    write_shared_text(out / "checks.csv", csv_text(["id", "code", "item", "text"], checks))
    write_shared_text(out / "prepare.json", json.dumps(summary, indent=2) + "\n")
    _say(summary_text(summary))
    return summary


def _number_missing(plan: _Plan) -> int:
    """Count the files of the table that do not exist. Of a WFDB recording only the header counts."""
    states = {path: state for shard in plan.shards for path, state in shard.files}
    needed = [
        name for row in plan.rows for name in (*files_of_ecg(plan.source.table.root, row.ecg_path)[:1], *row.echo_paths)
    ]
    return sum(states.get(plan.source.table.root / name) is None for name in needed)


def _counts(states: list[tuple[str, State]]) -> dict[str, dict[str, int]]:
    totals: dict[str, Counter[str]] = {}
    for split, state in states:
        always = dict.fromkeys(("records", "dropped", "labs", "ecg", "echo", "clips"), 0)
        totals.setdefault(split, Counter(always)).update(state["counts"])
    return {split: dict(counts) for split, counts in totals.items()}


def _remove_stale(shards: Sequence[Shard], out: Path) -> None:
    """Remove the shards in `out` that are not in `shards`, because `load_prepared` reads every shard that it finds."""
    current = {shard.path(out, suffix) for shard in shards for suffix in (".arrow", ".json")}
    for split in SPLITS:
        for path in (out / split).glob("[0-9]*.*"):
            state = read_state(path.with_suffix(".json"))
            is_shard = state is None or "fingerprint" in state  # None: the state file was cut short
            if path not in current and path.suffix in (".arrow", ".json") and is_shard:
                path.unlink(missing_ok=True)


def _duration(seconds: float) -> str:
    for unit, length in (("s", 60), ("min", 60), ("h", 24)):
        if seconds < length:
            return f"{seconds:.2g} {unit}"
        seconds /= length
    return f"{seconds:.2g} days"


def _say_size(plan: _Plan, out: Path) -> int:
    """Print the number of admissions and the upper limit of the result's size; return this limit in bytes."""
    largest = estimate_bytes(plan.rows, plan.preparer)
    size = plan.preparer.image_processor.size
    _say(f"{len(plan.rows)} admissions, at most {size_text(largest)} (clips of {size} px) -> {out}")
    if text := ignored_text(plan.source.table.ignored_columns, plan.source.table.meant_columns):
        _say(text)
    for note in plan.source.table.notes:
        _say(f"note: {note}")
    return largest


def _say(text: str) -> None:
    tqdm.write(text, file=sys.stdout)
