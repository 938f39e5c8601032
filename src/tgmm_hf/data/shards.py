"""One shard of a prepared data set: written whole or not at all, and known to be whole by the state file beside it.

Whatever is written goes into a temporary file of a name that no other process has, and is renamed. So a process may be
killed anywhere, and two may write the same shard at once: they write the same bytes.
"""

import hashlib
import json
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from datasets.arrow_writer import ArrowWriter

from tgmm_hf.data.builder import RecordPreparer
from tgmm_hf.data.manifest import SPLITS, ManifestRow
from tgmm_hf.utils.names import VIEWS

WRITE_BYTES = 64 * 2**20  # rows are flushed in batches of about this size, so memory does not grow with the shard


@dataclass(frozen=True)
class Shard:
    """Rows of one split; `fingerprint` stands for them, their files and the settings that shape them."""

    split: str
    index: int
    rows: list[ManifestRow]
    fingerprint: str

    def path(self, out: Path, suffix: str) -> Path:
        """File of the shard: ".arrow" holds the rows, ".json" its state."""
        return out / self.split / f"{self.index:05d}{suffix}"


def is_done(shard: Shard, out: Path) -> bool:
    """Whether the shard was written whole, from these rows and files and under these settings."""
    state = read_json(shard.path(out, ".json"))
    target = shard.path(out, ".arrow")
    if state is None or state.get("fingerprint") != shard.fingerprint or not target.is_file():
        return False
    return bool(state.get("bytes") == target.stat().st_size)


def write_shard(shard: Shard, preparer: RecordPreparer, out: Path) -> None:
    """Prepare the rows of a shard, unless it is there; the state file is written last and says that it is whole."""
    if is_done(shard, out):  # written by a run beside this one since this one made its list
        return
    target, state_path = shard.path(out, ".arrow"), shard.path(out, ".json")
    target.parent.mkdir(parents=True, exist_ok=True)
    earlier = read_json(state_path)
    if earlier is not None and earlier.get("fingerprint") != shard.fingerprint:
        state_path.unlink(missing_ok=True)  # of other rows: should these come back, it must not vouch for the new ones
    temporary = temporary_path(target)
    with temporary.open("wb") as stream:
        state = {"fingerprint": shard.fingerprint, **write_rows(shard.rows, preparer, stream), "bytes": stream.tell()}
    put(temporary, target)
    write_atomically(state_path, json.dumps(state))


def write_rows(rows: Iterable[ManifestRow], preparer: RecordPreparer, stream: BinaryIO) -> dict[str, Any]:
    """Prepare rows and write them as an Arrow stream, in batches of about `WRITE_BYTES`.

    Returns:
        `content`: hash of the rows, whatever version of Arrow writes them; `counts`; `refused`: id, item and reason.
    """
    features = preparer.features
    clip = preparer.image_processor.num_frames * preparer.image_processor.size**2 * 3
    batch = max(1, WRITE_BYTES // (clip * len(VIEWS)))
    counts: Counter[str] = Counter()
    refused: list[dict[str, str]] = []
    content = hashlib.sha256()
    writer = ArrowWriter(features=features, stream=stream, writer_batch_size=batch)
    for row in rows:
        record = preparer.prepare(row)
        refused += [{"id": row.id, **entry} for entry in record.refused]
        if record.example is None:
            counts["dropped"] += 1
            continue
        writer.write(features.encode_example(record.example))
        counts += _count_example(record.example)
        _update(content, record.example)
    writer.finalize(close_stream=False)
    return {"content": content.hexdigest(), "counts": dict(sorted(counts.items())), "refused": refused}


def read_json(path: Path) -> dict[str, Any] | None:
    """Content of a JSON file; None if it is not there, or was cut short by a failing machine."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return content


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that it is there as a whole or not at all."""
    while True:
        temporary = temporary_path(path)
        temporary.write_text(text, encoding="utf-8")
        try:
            temporary.replace(path)
            return
        except FileNotFoundError:
            continue  # a run beside this one has just finished and cleaned up


def remove_temporary_files(out: Path, untouched_seconds: float) -> None:
    """Remove what killed runs left half-written; a run at work touches its files at least once a batch of rows."""
    for folder in (out, *(out / split for split in SPLITS)):
        for path in folder.glob("*.tmp-*"):
            try:
                if time.time() - path.stat().st_mtime >= untouched_seconds:
                    path.unlink()
            except FileNotFoundError:
                continue  # a run beside this one cleans up too


def temporary_path(path: Path) -> Path:
    """Name of its own: of a process number there may be two, on two machines that share the directory."""
    return path.with_suffix(f".tmp-{uuid.uuid4().hex}")


def put(temporary: Path, path: Path) -> None:
    """Rename. A run beside this one that finished, and so has put the same file, may have cleaned up the temporary."""
    try:
        temporary.replace(path)
    except FileNotFoundError:
        if not path.is_file():
            raise


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
