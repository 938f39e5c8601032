"""`tgmm prepare`: cohort table + raw files -> Arrow files that training maps into memory.

`datasets`' own `download_and_prepare` deletes what it has when it is interrupted, notices no refused record and counts
no drops. So the rows come from the builder's `RecordPreparer`, and this thin layer writes them as shards of 32 records,
each by temporary file and rename and with a fingerprint beside it: a run that was killed goes on with the first shard
that is missing. The result does not depend on the number of processes.

    OUT/train/00000.arrow, 00000.json ...   shards and their fingerprints, counts and refusals
    OUT/validation/, OUT/test/
    OUT/refused.csv                         id, item, reason
    OUT/prepare.json                        counts, hashes, geometry, processor settings, versions; written last
"""

import csv
import hashlib
import io
import json
import multiprocessing
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import datasets
import numpy as np
import transformers
from datasets import Dataset, DatasetDict, concatenate_datasets
from datasets.arrow_writer import ArrowWriter
from tqdm import tqdm

from tgmm_hf.configuration_tgmm import VIEWS
from tgmm_hf.data.builder import RecordPreparer, make_preparer
from tgmm_hf.data.manifest import SPLITS, Manifest, ManifestRow, ecg_files, hash_json, read_manifest
from tgmm_hf.processing_tgmm import TgmmProcessor

SHARD_SIZE = 32  # records; what a killed run loses at most, per process
FORMAT = 2  # raise when the prepared rows change, so that old shards are not taken for new ones
ECG_BYTES = 2500 * (12 * 4 + 4)  # 10 s; Arrow adds four bytes to every innermost list
WRITE_BYTES = 64 * 2**20  # rows are flushed in batches of about this size, so memory does not grow with the shard


@dataclass(frozen=True)
class _Shard:
    split: str
    index: int
    rows: list[ManifestRow]
    fingerprint: str

    def path(self, out_dir: Path, suffix: str) -> Path:
        return out_dir / self.split / f"{self.index:05d}{suffix}"


def prepare(
    manifest: str | Path,
    out_dir: str | Path,
    processor: TgmmProcessor,
    *,
    num_proc: int = 1,
    root: str | Path | None = None,
    tasks: Mapping[str, Mapping[str, Any]] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Prepare a cohort for training; prints the size first and a summary at the end.

    Args:
        manifest: cohort table, Parquet or CSV (`docs/manifest.md`).
        out_dir: directory of the result; an interrupted run into it is resumed.
        processor: gives the ECG settings and the clip geometry; its tokenizer is not used.
        num_proc: worker processes.
        root: where the table's relative paths start; the table's directory when None.
        tasks: the model's tasks (`config.tasks`) that the table's label columns are checked against.
        overwrite: replace a finished result of another table or other settings.

    Returns:
        The content of `prepare.json`; its `data_hash` is of the prepared rows themselves.

    Raises:
        ManifestError: if the table cannot be used.
        FileExistsError: if `out_dir` holds a finished result of other data and `overwrite` is False.
        OSError: if the disk has too little room.
        RuntimeError: if a worker process was killed; run again to resume.
    """
    out = Path(out_dir)
    table = read_manifest(manifest, root=root, tasks=tasks)
    preparer = make_preparer(table, processor)
    settings = processor_settings(processor)
    input_hash = hash_json({"format": FORMAT, "manifest": table.digest(), "tasks": table.tasks, "settings": settings})
    _check_out_dir(out, input_hash, overwrite)
    shards = list(_plan(table, settings))
    estimate = estimate_bytes(table, preparer)
    _say(f"{len(table.rows)} records, at most {_size(estimate)} (clips of {preparer.image_processor.size} px) -> {out}")
    if table.ignored_columns:
        _say(f"columns not used: {', '.join(table.ignored_columns)}")
    out.mkdir(parents=True, exist_ok=True)
    missing = [shard for shard in shards if not _is_done(shard, out)]
    if missing:  # what stands there is no longer whole: nobody may train on it if this run is stopped
        (out / "prepare.json").unlink(missing_ok=True)
    _check_room(out, estimate * sum(len(shard.rows) for shard in missing) // len(table.rows))
    if len(missing) < len(shards):
        _say(f"{len(shards) - len(missing)} of {len(shards)} shards are there already")
    _run(missing, preparer, out, num_proc)
    _remove_stale(shards, out)
    states = [(shard.split, json.loads(shard.path(out, ".json").read_text())) for shard in shards]
    refused = [entry for _, state in states for entry in state["refused"]]
    summary = {
        "data_hash": hash_json([[split, state["content"]] for split, state in states]),
        "input_hash": input_hash,
        "manifest": Path(manifest).name,
        "counts": _counts(states),
        "refused": len(refused),
        "tasks": table.tasks,
        "ignored_columns": table.ignored_columns,
        "geometry": {"image_size": preparer.image_processor.size, "num_frames": preparer.image_processor.num_frames},
        "processor": settings,
        "bytes": sum(shard.path(out, ".arrow").stat().st_size for shard in shards),
        "estimated_bytes": estimate,
        "versions": {"format": FORMAT, "datasets": datasets.__version__, "transformers": transformers.__version__},
    }
    _write_atomically(out / "refused.csv", _refused_csv(refused))
    _write_atomically(out / "prepare.json", json.dumps(summary, indent=2) + "\n")
    _say(summary_text(summary))
    return summary


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
    if processor.view_classifier is not None:
        settings["view_classifier"] = processor.view_classifier.describe()
    return settings


def estimate_bytes(manifest: Manifest, preparer: RecordPreparer) -> int:
    """Largest size of the result: one clip per view (or file, at most 11), 10 s of ECG, 2 KiB for the rest of a row."""
    processor = preparer.image_processor
    clip = processor.num_frames * processor.size * (processor.size * 3 + 4)  # + 4: Arrow's offsets
    total = 0
    for row in manifest.rows:
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


def _plan(manifest: Manifest, settings: dict[str, Any]) -> Iterator[_Shard]:
    """Cut each split into shards; a shard's fingerprint covers its rows, their files' sizes and times, and every
    setting that shapes them."""
    for split in SPLITS:
        rows = [row for row in manifest.rows if row.split == split]
        for index, start in enumerate(range(0, len(rows), SHARD_SIZE)):
            chunk = rows[start : start + SHARD_SIZE]
            content = {
                "format": FORMAT,
                "rows": [asdict(row) for row in chunk],
                "files": [_file_state(manifest.root / path) for row in chunk for path in _paths(row)],
                "tasks": manifest.tasks,
                "root": str(manifest.root.resolve()),
                "settings": settings,
            }
            yield _Shard(split, index, chunk, hash_json(content))


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


def _is_done(shard: _Shard, out: Path) -> bool:
    state = shard.path(out, ".json")
    if not (state.is_file() and shard.path(out, ".arrow").is_file()):
        return False
    return bool(json.loads(state.read_text())["fingerprint"] == shard.fingerprint)


def _run(shards: list[_Shard], preparer: RecordPreparer, out: Path, num_proc: int) -> None:
    total = sum(len(shard.rows) for shard in shards)
    if not total:
        return
    with tqdm(total=total, unit="record", desc="prepare", file=sys.stderr) as progress:
        if num_proc <= 1:
            for shard in shards:
                _write_shard(shard, preparer, out)
                progress.update(len(shard.rows))
            return
        # not "fork": PyTorch's and OpenCV's threads do not survive it
        method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        context = multiprocessing.get_context(method)
        if method == "forkserver":
            context.set_forkserver_preload([__name__])
        workers = min(num_proc, len(shards))
        with ProcessPoolExecutor(workers, context, _start_worker, (preparer, out)) as pool:
            futures = {pool.submit(_work, shard): shard for shard in shards}
            try:
                for future in as_completed(futures):
                    future.result()
                    progress.update(len(futures[future].rows))
            except BrokenProcessPool as error:
                raise RuntimeError(
                    "A worker process was killed (often for memory: use a smaller num_proc). "
                    "What is done is kept: run the same command again to go on."
                ) from error
            finally:
                pool.shutdown(wait=False, cancel_futures=True)  # else an error would first work through the queue


_worker: tuple[RecordPreparer, Path]


def _start_worker(preparer: RecordPreparer, out: Path) -> None:
    global _worker
    _worker = (preparer, out)
    cv2.setNumThreads(1)  # one core per process; otherwise each starts as many threads as there are cores


def _work(shard: _Shard) -> None:
    _write_shard(shard, *_worker)


def _write_shard(shard: _Shard, preparer: RecordPreparer, out: Path) -> None:
    """Prepare the rows of a shard; the state file is written last and says that the shard is whole."""
    target, state_path = shard.path(out, ".arrow"), shard.path(out, ".json")
    target.parent.mkdir(parents=True, exist_ok=True)
    state_path.unlink(missing_ok=True)
    temporary = target.with_suffix(f".tmp-{os.getpid()}")
    features = preparer.features
    clip = preparer.image_processor.num_frames * preparer.image_processor.size**2 * 3
    batch = max(1, WRITE_BYTES // (clip * len(VIEWS)))
    counts: Counter[str] = Counter()
    refused: list[dict[str, str]] = []
    content = hashlib.sha256()
    writer = ArrowWriter(features=features, path=str(temporary), writer_batch_size=batch)
    for row in shard.rows:
        record = preparer.prepare(row)
        refused += [{"id": row.id, **entry} for entry in record.refused]
        if record.example is None:
            counts["dropped"] += 1
            continue
        writer.write(features.encode_example(record.example))
        counts += _count_example(record.example)
        _update(content, record.example)
    writer.finalize()
    writer.close()
    temporary.replace(target)
    state = {
        "fingerprint": shard.fingerprint,
        "content": content.hexdigest(),
        "counts": dict(sorted(counts.items())),
        "refused": refused,
    }
    _write_atomically(state_path, json.dumps(state))


def _update(content: Any, example: Mapping[str, Any]) -> None:
    """Take a prepared row into a hash of the content, which is the same whatever version of Arrow wrote the file."""
    for name, value in sorted(example.items()):
        if isinstance(value, np.ndarray):
            content.update(f"{name}:{value.dtype}:{value.shape}".encode())
            content.update(np.ascontiguousarray(value).data)
        else:
            content.update(f"{name}:{json.dumps(value)}".encode())


def _count_example(example: dict[str, Any]) -> Counter[str]:
    counts = Counter({"records": 1, "clips": len(example["clips"])})
    counts |= {"labs": int(bool(example["labs"])), "ecg": int(len(example["ecg"]) > 0)}
    counts |= {"echo": int(len(example["clips"]) > 0)}
    counts |= {f"view.{VIEWS[index]}": 1 for index in example["clip_views"]}
    for name, value in example.items():
        if name.startswith(("label_", "event_")) and value is not None:
            counts[f"{name}={value}"] += 1
    return +counts


def _counts(states: list[tuple[str, dict[str, Any]]]) -> dict[str, dict[str, int]]:
    totals: dict[str, Counter[str]] = {}
    for split, state in states:
        always = dict.fromkeys(("records", "dropped", "labs", "ecg", "echo", "clips"), 0)
        totals.setdefault(split, Counter(always)).update(state["counts"])
    return {split: dict(counts) for split, counts in totals.items()}


def _remove_stale(shards: list[_Shard], out: Path) -> None:
    """Shards of an earlier, longer table and half-written files would otherwise be read as data."""
    wanted = {shard.path(out, suffix) for shard in shards for suffix in (".arrow", ".json")}
    for split in SPLITS:
        for path in (out / split).glob("[0-9]*.*"):
            if path not in wanted and (path.suffix in (".arrow", ".json") or path.suffix.startswith(".tmp-")):
                path.unlink()


def _check_out_dir(out: Path, input_hash: str, overwrite: bool) -> None:
    finished = out / "prepare.json"
    if not finished.is_file():
        return
    if json.loads(finished.read_text()).get("input_hash") != input_hash:
        if not overwrite:
            raise FileExistsError(
                f"{out} holds a finished result of another table or other settings: choose another directory, or "
                "overwrite it (overwrite=True, --overwrite)."
            )
        finished.unlink()


def _check_room(out: Path, needed: int) -> None:
    free = shutil.disk_usage(out).free
    if needed > free:
        raise OSError(f"{out}: {_size(needed)} may be needed but only {_size(free)} are free on the disk.")


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_suffix(f".tmp-{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


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


def _say(text: str) -> None:
    tqdm.write(text, file=sys.stdout)
