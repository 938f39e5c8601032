"""One shard of a prepared data set, and the state file beside the shard, which says that the shard is whole.

Every file is written under a temporary name and then renamed. A shard whose files could not be read, or changed while
they were read, is not written at all (`file_reading.py`). A process may therefore be killed anywhere, and two
processes may write the same shard at once, because they write the same bytes.
"""

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from datasets.arrow_writer import ArrowWriter

from tgmm_hf.data.admissions import AdmissionPreparer, PreparedAdmission
from tgmm_hf.data.file_reading import FileState, Reading, reason_of
from tgmm_hf.data.manifest import SPLITS, CohortRow
from tgmm_hf.utils.digests import file_digest
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import foreign_entries, read_json, whole_file
from tgmm_hf.utils.names import VIEWS
from tgmm_hf.utils.watched_worker import Limits, Say, Step

WRITE_BYTES = 64 * 2**20
"""Rows are flushed in batches of about this size, so that memory does not grow with the shard."""
WRITTEN = (
    r"(prepare\.json|headers\.json|refused\.csv|checks\.csv)",
    rf"({'|'.join(SPLITS)})/(\d+\.(arrow|json)|\..+|.+\.tmp-.+)",
    r"\..+|.+\.tmp-.+",
)
"""What `tgmm prepare` writes into its output, as in `foreign_entries`."""
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
        files: The files of the rows with their states, as the fingerprint covers them.
    """

    split: str
    index: int
    rows: list[CohortRow]
    fingerprint: str
    files: tuple[tuple[Path, FileState], ...] = ()

    def path(self, out: Path, suffix: str) -> Path:
        """Return the path of a file of the shard below `out`: suffix ".arrow" for the rows, ".json" for the state."""
        return out / self.split / f"{self.index:05d}{suffix}"


@dataclass(frozen=True)
class Supervision:
    """What a supervisor and the writer of a shard tell each other.

    Attributes:
        say: Tells the supervisor which step of the reading starts.
        stopped: (id of the admission, modality) -> reason, for inputs at which a worker process was stopped before.
        limits: The limits that stopped them.
    """

    say: Say
    stopped: Mapping[Step, str]
    limits: Limits


class NotReadError(Exception):
    """The files of some admissions could not be read, or changed meanwhile. `number` is the number of files."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def is_done(shard: Shard, out: Path, limits: Limits | None = None) -> bool:
    """Tell whether `out` holds this shard whole, written from the same rows, files and settings.

    A shard with an input that was stopped at a limit is not done if `limits` are higher now.
    """
    state = read_state(shard.path(out, ".json"))
    target = shard.path(out, ".arrow")
    if state is None or state.get("fingerprint") != shard.fingerprint or not target.is_file():
        return False
    earlier = state.get("stopped_by")
    if limits and earlier and (limits.seconds > earlier["seconds"] or limits.memory > earlier["memory"]):
        return False
    return bool(state.get("bytes") == target.stat().st_size)


def write_shard(shard: Shard, preparer: AdmissionPreparer, out: Path, supervision: Supervision | None = None) -> int:
    """Prepare and write the rows of a shard, then its state file. A shard that is done already is not written again.

    Args:
        shard: The shard.
        preparer: Prepares its rows.
        out: Directory of the prepared data.
        supervision: The supervisor of this process. None if there is none.

    Returns:
        Number of files that could not be read or that changed meanwhile. If it is not 0, nothing is written, so that
        the next run reads the shard again.
    """
    limits = None if supervision is None else supervision.limits
    if is_done(shard, out, limits):  # another run may have written it since this run made its list
        return 0
    target, state_path = shard.path(out, ".arrow"), shard.path(out, ".json")
    earlier = read_state(state_path)
    if earlier is not None and earlier.get("fingerprint") != shard.fingerprint:
        # The state belongs to other rows. If those come back later, it must not vouch for the rows written now.
        state_path.unlink(missing_ok=True)
    state: dict[str, Any] = {"fingerprint": shard.fingerprint}
    reading = Reading(planned=dict(shard.files))
    if supervision is not None:
        reading.say, reading.stopped = supervision.say, supervision.stopped
        if supervision.stopped:
            state["stopped_by"] = asdict(supervision.limits)
    watched = replace(preparer, reading=reading)

    def write(building: Path) -> None:
        with building.open("wb") as stream:
            state.update(write_rows(shard.rows, watched, stream), bytes=stream.tell())
        reading.note_changes()
        if reading.not_read:
            raise NotReadError(len(reading.not_read))

    try:
        write_shared(target, write)
    except NotReadError as error:
        return error.number
    state["file"] = file_digest(target)
    write_shared_text(state_path, json.dumps(state))
    return 0


def write_rows(rows: Iterable[CohortRow], preparer: AdmissionPreparer, stream: BinaryIO) -> dict[str, Any]:
    """Prepare rows and write them as an Arrow stream, in batches of about `WRITE_BYTES`.

    Returns:
        "content": digest of the rows, which does not depend on the version of Arrow. "counts": numbers of rows, dropped
        admissions, rows with each modality, clips, views and labels. "refused": list of id, item and reason.
        "checks": list of id, code, item and text.
    """
    features = preparer.features
    clip = preparer.image_processor.num_frames * preparer.image_processor.size**2 * 3
    batch = max(1, WRITE_BYTES // (clip * len(VIEWS)))
    counts: Counter[str] = Counter()
    refused: list[dict[str, str]] = []
    checks: list[dict[str, str]] = []
    content = hashlib.sha256()
    writer = ArrowWriter(features=features, stream=stream, writer_batch_size=batch)
    for admission in preparer.prepare_all(rows):
        encoded, entries = _encode(features, admission)
        refused += [{"id": admission.id, **entry} for entry in entries]
        checks += [{"id": admission.id, **entry} for entry in admission.checks]
        if admission.example is None or encoded is None:
            counts["dropped"] += 1
            continue
        writer.write(encoded)
        counts += _count_example(admission.example)
        _add_to_digest(content, admission.example)
    writer.finalize(close_stream=False)
    tables = {"refused": refused, "checks": checks}
    return {"content": content.hexdigest(), "counts": dict(sorted(counts.items())), **tables}


def _encode(features: Any, admission: PreparedAdmission) -> tuple[Any, list[dict[str, str]]]:
    """Encode a prepared row for Arrow. Return None and a further refusal if the row cannot be encoded."""
    if admission.example is None:
        return None, admission.refused
    try:
        return features.encode_example(admission.example), admission.refused
    except Exception as error:  # one row must not stop the others
        return None, [*admission.refused, {"item": admission.id, "reason": f"dropped: {reason_of(error)}"}]


# ---- files that several runs may write at once


def read_state(path: Path) -> dict[str, Any] | None:
    """Read a state file. Return None if it is missing or no valid JSON, because its writing was cut short."""
    try:
        state: dict[str, Any] = read_json(path)
    except (FileNotFoundError, ValueError):
        return None
    return state


def check_shards(directory: str | Path, splits: Iterable[str]) -> None:
    """Compare the files of prepared splits with the digests that `tgmm prepare` noted. Each file is read once.

    Shards of version 0.1 have no such digest and are not compared.

    Args:
        directory: Directory of the prepared data.
        splits: Names of the splits.

    Raises:
        TgmmError: If the bytes of a shard changed after it was written.
    """
    for split in splits:
        for state_path in sorted((Path(directory) / split).glob("*.json")):
            written, target = (read_state(state_path) or {}).get("file"), state_path.with_suffix(".arrow")
            if written is not None and (not target.is_file() or file_digest(target) != written):
                raise TgmmError(
                    f"{split}/{target.name}",
                    "its content is not what `tgmm prepare` wrote, so the disk or a program changed it. Remove this "
                    f"file and {state_path.name}, and run the same `tgmm prepare` command again.",
                )


def write_shared(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file whole or not at all, even if several runs write the same file.

    A run that finishes removes the temporary files of all runs. That run has then written `path` with the same content
    itself, so this is no error here.

    Args:
        path: File to write.
        write: Function that writes the content to the path that it is given.
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
    """Write a text file whole or not at all. Repeat this if another run removes the temporary file."""
    while True:
        try:
            with whole_file(path) as building:
                building.write_text(text, encoding="utf-8", errors="backslashreplace")
            return
        except FileNotFoundError:
            continue


def remove_temporary_files(out: Path, untouched_seconds: float) -> None:
    """Remove half-written files of killed runs. A working run touches its files at least once per batch of rows.

    Args:
        out: Directory of the prepared data.
        untouched_seconds: A file that was changed less than this many seconds ago stays.
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


def claim_output(out: Path, input_hash: str, overwrite: bool) -> bool:
    """Check that `tgmm prepare` may write into a directory.

    Args:
        out: Directory of the prepared data. It need not exist.
        input_hash: Digest of the table and the settings that are to be prepared.
        overwrite: Whether a finished result of another table or other settings may be replaced.

    Returns:
        Whether `out` holds such a result.

    Raises:
        FileExistsError: If `out` holds such a result and `overwrite` is False; or if it holds files that this command
            does not write, because a file of the user's could be read as prepared data, or be removed.
    """
    if foreign := foreign_entries(out, WRITTEN) if out.is_dir() else []:
        raise FileExistsError(
            f"{out} holds {len(foreign)} entries that this command does not write, such as {foreign[0]}. Name another "
            "directory, or move these files elsewhere."
        )
    finished = read_state(out / "prepare.json")
    if finished is None or finished.get("input_hash") == input_hash:
        return False
    if not overwrite:
        raise FileExistsError(
            f"{out} holds a finished result of another table or other settings: choose another directory, or "
            "overwrite it (overwrite=True, --overwrite)."
        )
    return True


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
        if name.startswith("value_") and value is not None:
            counts[f"{name} given"] += 1
        if name.startswith("findings_") and value is not None:
            counts.update(f"{name}: {finding}={present}" for finding, present in json.loads(value).items())
    return +counts
