"""One shard of a prepared data set. A state file beside it tells that the shard is whole.

Every file is written under a temporary name and then renamed. A process may therefore be killed anywhere, and two
processes may write the same shard at once, because they write the same bytes.
"""

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from datasets.arrow_writer import ArrowWriter

from tgmm_hf.data.admissions import AdmissionPreparer
from tgmm_hf.data.manifest import SPLITS, CohortRow
from tgmm_hf.utils.files import read_json, whole_file
from tgmm_hf.utils.names import VIEWS

WRITE_BYTES = 64 * 2**20
"""Rows are flushed in batches of about this size, so that memory does not grow with the shard."""
TEMPORARY_NAME = re.compile(r"\..+-[0-9a-f]{32}|.+\.tmp-[0-9a-f]+")
"""Names of half-written files: of `whole_file`, and of version 0.1.0."""


@dataclass(frozen=True)
class Shard:
    """Rows of one split.

    Attributes:
        split: Name of the split.
        index: Number of the shard within its split.
        rows: Admissions of the shard.
        fingerprint: Digest of the rows, of their files and of every setting that shapes the prepared rows.
    """

    split: str
    index: int
    rows: list[CohortRow]
    fingerprint: str

    def path(self, out: Path, suffix: str) -> Path:
        """Name a file of the shard: ".arrow" holds the rows, ".json" the state."""
        return out / self.split / f"{self.index:05d}{suffix}"


def is_done(shard: Shard, out: Path) -> bool:
    """Tell whether the shard was written whole, from these rows and files and under these settings."""
    state = read_state(shard.path(out, ".json"))
    target = shard.path(out, ".arrow")
    if state is None or state.get("fingerprint") != shard.fingerprint or not target.is_file():
        return False
    return bool(state.get("bytes") == target.stat().st_size)


def write_shard(shard: Shard, preparer: AdmissionPreparer, out: Path) -> None:
    """Prepare the rows of a shard, unless it is done. The state file is written last, because it vouches for the rows.

    Args:
        shard: The shard.
        preparer: Prepares its rows.
        out: Directory of the prepared data.
    """
    if is_done(shard, out):  # another run may have written it since this run made its list
        return
    target, state_path = shard.path(out, ".arrow"), shard.path(out, ".json")
    earlier = read_state(state_path)
    if earlier is not None and earlier.get("fingerprint") != shard.fingerprint:
        # The state belongs to other rows. If those come back later, it must not vouch for the rows written now.
        state_path.unlink(missing_ok=True)
    state: dict[str, Any] = {"fingerprint": shard.fingerprint}

    def write(building: Path) -> None:
        with building.open("wb") as stream:
            state.update(write_rows(shard.rows, preparer, stream), bytes=stream.tell())

    write_shared(target, write)
    write_shared_text(state_path, json.dumps(state))


def write_rows(rows: Iterable[CohortRow], preparer: AdmissionPreparer, stream: BinaryIO) -> dict[str, Any]:
    """Prepare rows and write them as an Arrow stream, in batches of about `WRITE_BYTES`.

    Returns:
        "content": digest of the rows, independent of the version of Arrow; "counts"; "refused": id, item and reason.
    """
    features = preparer.features
    clip = preparer.image_processor.num_frames * preparer.image_processor.size**2 * 3
    batch = max(1, WRITE_BYTES // (clip * len(VIEWS)))
    counts: Counter[str] = Counter()
    refused: list[dict[str, str]] = []
    content = hashlib.sha256()
    writer = ArrowWriter(features=features, stream=stream, writer_batch_size=batch)
    for admission in preparer.prepare_all(rows):
        refused += [{"id": admission.id, **entry} for entry in admission.refused]
        if admission.example is None:
            counts["dropped"] += 1
            continue
        writer.write(features.encode_example(admission.example))
        counts += _count_example(admission.example)
        _add_to_digest(content, admission.example)
    writer.finalize(close_stream=False)
    return {"content": content.hexdigest(), "counts": dict(sorted(counts.items())), "refused": refused}


# ---- files that several runs may write at once


def read_state(path: Path) -> dict[str, Any] | None:
    """Read a JSON file. None if it is missing, or was cut short by a failing machine."""
    try:
        state: dict[str, Any] = read_json(path)
    except (FileNotFoundError, ValueError):
        return None
    return state


def write_shared(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file whole or not at all, although another run may remove the temporary file.

    A run that finishes removes all temporary files. It has then written the same file itself, so its file is taken.
    """
    finished = False
    try:
        with whole_file(path) as building:
            write(building)
            finished = True
    except FileNotFoundError:
        if not (finished and path.is_file()):
            raise


def write_shared_text(path: Path, text: str) -> None:
    """Write a text whole or not at all. Write it again if another run removed the temporary file."""
    while True:
        try:
            with whole_file(path) as building:
                building.write_text(text, encoding="utf-8")
            return
        except FileNotFoundError:
            continue


def remove_temporary_files(out: Path, untouched_seconds: float) -> None:
    """Remove half-written files of killed runs. A working run touches its files at least once per batch of rows.

    Args:
        out: Directory of the prepared data.
        untouched_seconds: Files that were changed later than this stay.
    """
    for folder in (out, *(out / split for split in SPLITS)):
        for path in folder.glob("*"):
            if not TEMPORARY_NAME.fullmatch(path.name):
                continue
            try:
                if time.time() - path.stat().st_mtime >= untouched_seconds:
                    path.unlink()
            except FileNotFoundError:
                continue  # another run removes it at the same time


# ---- content


def _add_to_digest(content: Any, example: Mapping[str, Any]) -> None:
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
