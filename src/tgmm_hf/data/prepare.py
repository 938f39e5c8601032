"""`tgmm prepare`: cohort table + raw files -> Arrow files that training maps into memory.

`datasets`' own `download_and_prepare` deletes what it has when it is interrupted, notices no refused record and counts
no drops. So the rows come from the builder's `RecordPreparer`, and this thin layer writes them as shards of 32 records,
each by temporary file and rename and with a fingerprint beside it (`shards.py`): a run that was killed goes on with the
shards that are missing. The result depends neither on the engine (`engines.py`) nor on the number of processes or jobs.

    OUT/train/00000.arrow, 00000.json ...   shards and their fingerprints, counts and refusals
    OUT/validation/, OUT/test/
    OUT/refused.csv                         id, item, reason
    OUT/prepare.json                        counts, hashes, geometry, processor settings, versions; written last
"""

import csv
import io
import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import transformers
from datasets import Dataset, DatasetDict, concatenate_datasets
from tqdm import tqdm

from tgmm_hf.data.builder import RecordPreparer, make_preparer
from tgmm_hf.data.engines import ENGINES
from tgmm_hf.data.manifest import SPLITS, Manifest, ManifestRow, ecg_files, hash_json, read_manifest
from tgmm_hf.data.shards import Shard, is_done, read_json, remove_temporary_files, write_atomically, write_rows
from tgmm_hf.processing_tgmm import TgmmProcessor
from tgmm_hf.utils.names import VIEWS

SHARD_SIZE = 32  # records; what a killed run loses at most, per process
FORMAT = 3  # raise when the prepared rows change, so that old shards are not taken for new ones
ECG_BYTES = 2500 * (12 * 4 + 4)  # 10 s; Arrow adds four bytes to every innermost list
SAMPLE = 8  # records that a dry run prepares
FORGOTTEN = 3600  # seconds after which a temporary file that nobody writes to belongs to a killed run
WHOLE = (1, 1)


@dataclass(frozen=True)
class _Plan:
    """A checked table, what prepares it, and the shards to be written: all of them, or those of one part."""

    table: Manifest
    preparer: RecordPreparer
    settings: dict[str, Any]
    input_hash: str
    shards: list[Shard]

    @property
    def rows(self) -> list[ManifestRow]:
        return _rows(self.shards)


def prepare(
    manifest: str | Path,
    out_dir: str | Path,
    processor: TgmmProcessor,
    *,
    num_proc: int | None = 1,
    engine: str = "local",
    part: tuple[int, int] = WHOLE,
    root: str | Path | None = None,
    tasks: Mapping[str, Mapping[str, Any]] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Prepare a cohort for training; prints the size first and a summary at the end.

    Args:
        manifest: cohort table, Parquet or CSV (`docs/manifest.md`).
        out_dir: directory of the result; an interrupted run into it is resumed.
        processor: gives the ECG settings and the clip geometry; its tokenizer is not used.
        num_proc: worker processes; all cores (of the cluster) when None.
        engine: "local", or "ray" for a Ray cluster.
        part: (i, n) writes only the i-th of n parts of the shards, i from 1, as one of n jobs that may run at once on
            machines that share `out_dir`. A last call without it writes what is missing and finishes the data set.
        root: where the table's relative paths start; the table's directory when None.
        tasks: the model's tasks (`config.tasks`) that the table's label columns are checked against.
        overwrite: replace a finished result of another table or other settings.

    Returns:
        The content of `prepare.json`; its `data_hash` is of the prepared rows themselves. Of a part, which writes no
        `prepare.json`, only its `counts` and number of `refused` items.

    Raises:
        ManifestError: if the table cannot be used.
        FileExistsError: if `out_dir` holds a finished result of other data and `overwrite` is False.
        OSError: if the disk has too little room.
        RuntimeError: if a worker process was killed; run again to resume.
    """
    out = Path(out_dir)
    plan = _plan(manifest, processor, root, tasks, part)
    replaces_other = _replaces_other(out, plan.input_hash, overwrite)
    _say_size(plan, out)
    out.mkdir(parents=True, exist_ok=True)
    remove_temporary_files(out, FORGOTTEN)
    missing = [shard for shard in plan.shards if not is_done(shard, out)]
    if missing or replaces_other:  # what stands there is not whole: nobody may train on it if this run is stopped
        (out / "prepare.json").unlink(missing_ok=True)
    _check_room(out, estimate_bytes(_rows(missing), plan.preparer))
    if len(missing) < len(plan.shards):
        _say(f"{len(plan.shards) - len(missing)} of {len(plan.shards)} shards are there already")
    _run(missing, plan.preparer, out, engine, num_proc)
    states = [(shard.split, json.loads(shard.path(out, ".json").read_text())) for shard in plan.shards]
    if part != WHOLE:
        _say(f"part {part[0]} of {part[1]} is there; when all are, `tgmm prepare` without --shard finishes")
        return {"counts": _counts(states), "refused": sum(len(state["refused"]) for _, state in states)}
    return _finish(plan, states, out, Path(manifest).name)


def dry_run(
    manifest: str | Path,
    out_dir: str | Path,
    processor: TgmmProcessor,
    *,
    num_proc: int | None = 1,
    part: tuple[int, int] = WHOLE,
    root: str | Path | None = None,
    tasks: Mapping[str, Mapping[str, Any]] | None = None,
    overwrite: bool = False,
) -> dict[str, float]:
    """Check the table as `prepare` does, prepare a few of its records in memory, and print what the whole would take.

    Args and Raises: as `prepare`. Nothing is written.

    Returns:
        `records`, `missing` (not prepared yet), `largest_bytes` of all; from the records tried, if any are missing:
        `tried`, `seconds_per_record`, `seconds` of the missing ones on `num_proc` processes, `likely_bytes` of all.
    """
    out = Path(out_dir)
    plan = _plan(manifest, processor, root, tasks, part)
    _replaces_other(out, plan.input_hash, overwrite)
    largest = _say_size(plan, out)
    rows = _rows([shard for shard in plan.shards if not is_done(shard, out)])
    result: dict[str, float] = {"records": len(plan.rows), "missing": len(rows), "largest_bytes": largest}
    if rows:
        workers = num_proc or os.cpu_count() or 1
        times, size = _try_records(rows, plan.preparer)
        mean = sum(times) / len(times)
        result |= {"tried": len(times), "seconds_per_record": mean, "seconds": mean * len(rows) / workers}
        result |= {"likely_bytes": int(size * len(plan.rows))}
        _say(
            f"{len(rows)} records to prepare: about {_duration(result['seconds'])} on {workers} process(es) of this "
            f"machine, and {_size(result['likely_bytes'])} for the whole.\n"
            f"Measured on {len(times)} of them, spread over the table: {mean:.2g} s a record ({min(times):.2g} to "
            f"{max(times):.2g}), in one process. Not counted: starting, writing to disk, and that processes slow each "
            "other. Nothing was written."
        )
    else:
        _say("every record is prepared already. Nothing was written.")
    return result


def load_prepared(directory: str | Path) -> DatasetDict:
    """Prepared splits, mapped into memory, rows as NumPy arrays in their stored types.

    Raises:
        FileNotFoundError: if `prepare` has not finished there.
    """
    directory = Path(directory)
    if not (directory / "prepare.json").is_file():
        raise FileNotFoundError(f"{directory} has no prepare.json: run `tgmm prepare` (again, if it was interrupted).")
    splits = {}
    for split in SPLITS:
        parts = [Dataset.from_file(str(path)) for path in sorted((directory / split).glob("*.arrow"))]
        if parts:
            # dtype=None keeps uint8 and int32; the default turns clips into int64, eight times their size
            splits[split] = concatenate_datasets(parts).with_format("numpy", dtype=None)
    return DatasetDict(splits)


def processor_settings(processor: TgmmProcessor) -> dict[str, Any]:
    """Settings that change the prepared rows: the two extractors' and, if there is one, which view classifier. Text
    template and tokenizer act in the collator."""
    settings = {
        "feature_extractor": processor.feature_extractor.to_dict(),
        "image_processor": processor.image_processor.to_dict(),
    }
    if processor.default_view_classifier is not None:
        settings["view_classifier"] = processor.default_view_classifier.describe()
    return settings


def estimate_bytes(rows: Sequence[ManifestRow], preparer: RecordPreparer) -> int:
    """Largest size of the result: one clip per view (or file, at most 11), 10 s of ECG, 2 KiB for the rest of a row."""
    processor = preparer.image_processor
    clip = processor.num_frames * processor.size * (processor.size * 3 + 4)  # + 4: Arrow's offsets
    total = 0
    for row in rows:
        named = {view for view in row.echo_views if view is not None}
        unnamed = sum(view is None for view in row.echo_views)
        total += clip * min(len(VIEWS), len(named) + unnamed) + (ECG_BYTES if row.ecg_path else 0) + 2048
    return total


def summary_text(summary: Mapping[str, Any]) -> str:
    """What `prepare` prints at the end: counts per split, refused items, size."""
    lines = [f"{'split':<12}{'records':>8}{'dropped':>9}{'labs':>7}{'ecg':>7}{'echo':>7}{'clips':>8}"]
    for split, counts in summary["counts"].items():
        lines.append(
            f"{split:<12}{counts['records']:>8}{counts['dropped']:>9}{counts['labs']:>7}{counts['ecg']:>7}"
            f"{counts['echo']:>7}{counts['clips']:>8}"
        )
    lines.append(f"{summary['refused']} items refused (refused.csv), {_size(summary['bytes'])} written")
    return "\n".join(lines)


def _plan(
    manifest: str | Path,
    processor: TgmmProcessor,
    root: str | Path | None,
    tasks: Mapping[str, Mapping[str, Any]] | None,
    part: tuple[int, int],
) -> _Plan:
    number, parts = part
    if not 1 <= number <= parts:
        raise ValueError(f"There is no part {number} of {parts}: parts are numbered from 1 to {parts}.")
    table = read_manifest(manifest, root=root, tasks=tasks)
    settings = processor_settings(processor)
    content = {"format": FORMAT, "manifest": table.digest(), "tasks": table.tasks, "settings": settings}
    chunks = _cut(table)[number - 1 :: parts]
    shards = [Shard(split, index, rows, _fingerprint(rows, table, settings)) for split, index, rows in chunks]
    return _Plan(table, make_preparer(table, processor), settings, hash_json(content), shards)


def _cut(table: Manifest) -> list[tuple[str, int, list[ManifestRow]]]:
    """Split, number within it and rows of every shard, in the order of the table."""
    chunks = []
    for split in SPLITS:
        rows = [row for row in table.rows if row.split == split]
        starts = range(0, len(rows), SHARD_SIZE)
        chunks += [(split, index, rows[start : start + SHARD_SIZE]) for index, start in enumerate(starts)]
    return chunks


def _fingerprint(rows: list[ManifestRow], table: Manifest, settings: dict[str, Any]) -> str:
    """Hash of rows, their files' sizes and times, and every setting that shapes them."""
    content = {
        "format": FORMAT,
        "rows": [asdict(row) for row in rows],
        "files": [_file_state(table.root / path) for row in rows for path in _paths(row)],
        "tasks": table.tasks,
        "root": str(table.root.resolve()),
        "settings": settings,
    }
    return hash_json(content)


def _paths(row: ManifestRow) -> list[str]:
    """Files of an admission; of a WFDB record both header and signal."""
    return [*(ecg_files(row.ecg_path) if row.ecg_path else []), *row.echo_paths]


def _file_state(path: Path) -> list[int] | None:
    """Size and time of change, so that a file that was replaced under its name is read again; None if not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]


def _rows(shards: Sequence[Shard]) -> list[ManifestRow]:
    return [row for shard in shards for row in shard.rows]


def _run(shards: Sequence[Shard], preparer: RecordPreparer, out: Path, engine: str, num_proc: int | None) -> None:
    if not shards:
        return
    with tqdm(total=len(_rows(shards)), unit="record", desc="prepare", file=sys.stderr) as progress:
        for shard in ENGINES[engine](shards, preparer, out.resolve(), num_proc):
            progress.update(len(shard.rows))


def _try_records(rows: Sequence[ManifestRow], preparer: RecordPreparer) -> tuple[list[float], float]:
    """Seconds of each of a few records, prepared without being kept, and their mean size in bytes.

    The first one pays for imports and is left out, unless it is the only one.
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


def _finish(plan: _Plan, states: list[tuple[str, dict[str, Any]]], out: Path, name: str) -> dict[str, Any]:
    """Remove what does not belong to the data set, and write the files that say that it is whole."""
    _remove_stale(plan.shards, out)
    remove_temporary_files(out, 0)
    refused = [entry for _, state in states for entry in state["refused"]]
    image_processor = plan.preparer.image_processor
    summary = {
        "data_hash": hash_json([[split, state["content"]] for split, state in states]),
        "input_hash": plan.input_hash,
        "manifest": name,
        "counts": _counts(states),
        "refused": len(refused),
        "tasks": plan.table.tasks,
        "ignored_columns": plan.table.ignored_columns,
        "geometry": {"image_size": image_processor.size, "num_frames": image_processor.num_frames},
        "processor": plan.settings,
        "bytes": sum(state["bytes"] for _, state in states),
        "estimated_bytes": estimate_bytes(plan.rows, plan.preparer),
        "versions": {"format": FORMAT, "datasets": datasets.__version__, "transformers": transformers.__version__},
    }
    write_atomically(out / "refused.csv", _refused_csv(refused))
    write_atomically(out / "prepare.json", json.dumps(summary, indent=2) + "\n")
    _say(summary_text(summary))
    return summary


def _counts(states: list[tuple[str, dict[str, Any]]]) -> dict[str, dict[str, int]]:
    totals: dict[str, Counter[str]] = {}
    for split, state in states:
        always = dict.fromkeys(("records", "dropped", "labs", "ecg", "echo", "clips"), 0)
        totals.setdefault(split, Counter(always)).update(state["counts"])
    return {split: dict(counts) for split, counts in totals.items()}


def _remove_stale(shards: Sequence[Shard], out: Path) -> None:
    """Shards of an earlier, longer table would otherwise be read as data."""
    wanted = {shard.path(out, suffix) for shard in shards for suffix in (".arrow", ".json")}
    for split in SPLITS:
        for path in (out / split).glob("[0-9]*.*"):
            state = read_json(path.with_suffix(".json"))
            ours = state is None or "fingerprint" in state  # none: its writing was cut short
            if path not in wanted and path.suffix in (".arrow", ".json") and ours:
                path.unlink(missing_ok=True)


def _replaces_other(out: Path, input_hash: str, overwrite: bool) -> bool:
    """Whether a finished result of another table or other settings stands there; refused unless it may be replaced."""
    finished = read_json(out / "prepare.json")
    if finished is None or finished.get("input_hash") == input_hash:
        return False
    if not overwrite:
        raise FileExistsError(
            f"{out} holds a finished result of another table or other settings: choose another directory, or "
            "overwrite it (overwrite=True, --overwrite)."
        )
    return True


def _check_room(out: Path, needed: int) -> None:
    free = shutil.disk_usage(out).free
    if needed > free:
        raise OSError(f"{out}: {_size(needed)} may be needed but only {_size(free)} are free on the disk.")


def _refused_csv(refused: list[dict[str, str]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, ["id", "item", "reason"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(refused)
    return buffer.getvalue()


def _size(number: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def _duration(seconds: float) -> str:
    for unit, length in (("s", 60), ("min", 60), ("h", 24)):
        if seconds < length:
            return f"{seconds:.2g} {unit}"
        seconds /= length
    return f"{seconds:.2g} days"


def _say_size(plan: _Plan, out: Path) -> int:
    """Print number and largest size of the records before the first is read; returns the size."""
    largest = estimate_bytes(plan.rows, plan.preparer)
    size = plan.preparer.image_processor.size
    _say(f"{len(plan.rows)} records, at most {_size(largest)} (clips of {size} px) -> {out}")
    if plan.table.ignored_columns:
        _say(f"columns not used: {', '.join(plan.table.ignored_columns)}")
    return largest


def _say(text: str) -> None:
    tqdm.write(text, file=sys.stdout)
