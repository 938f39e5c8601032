"""Checkpoints of a run that may be stopped at any moment: which one to go on from, and what a full disk leaves."""

import errno
import json
import logging
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError, safe_open

logger = logging.getLogger(__name__)

STATE = "trainer_state.json"
"""Written last: a checkpoint without it, or with a part of it, was cut short by a kill."""
WEIGHTS = ("*.safetensors", "pytorch_model_fsdp*", "global_step*")
"""Names that a checkpoint's weights go by: of one process, of FSDP, of DeepSpeed."""
STATES = {
    "optimizer.pt": ("optimizer.pt", "optimizer.bin", "optimizer_*", "global_step*"),
    "scheduler.pt": ("scheduler.pt", "global_step*"),
}
"""The same of what the Trainer would start anew without a word."""
TRAINING_FILES = (
    r"settings\.json",
    r"finished",
    r"patients\.json",
    r"checkpoint-\d+/",
    r"runs/",
    r"\..+-[0-9a-f]{32}",
)
"""What a training directory holds, for `claim_directory`; the last is a file whose writing was cut short."""
FULL_BELOW = 16 * 2**20
"""Bytes; PyTorch does not say that a disk is full, only that a write failed."""


def last_checkpoint(directory: Path) -> str | None:
    """The newest checkpoint that a stopped run can go on from; None if there is none.

    One that was cut short is passed over; so is one that cannot be read, with a warning.

    Raises:
        ValueError: if there are checkpoints but none of them can be read.
    """
    finished = [path for path in directory.glob("checkpoint-*") if _holds_json(path / STATE)]
    for checkpoint in sorted(finished, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True):
        problem = _problem(checkpoint)
        if problem is None:
            return str(checkpoint)
        logger.warning("%s cannot be read (%s): going on from the one before it.", checkpoint, problem)
    if finished:
        raise ValueError(
            f"None of the {len(finished)} checkpoints in {directory} can be read: start over with resume: never."
        )
    return None


def discard(directory: Path) -> None:
    """Remove a directory so that a kill on the way leaves nothing under its name."""
    doomed = directory.with_name(f".{directory.name}-discarded")
    shutil.rmtree(doomed, ignore_errors=True)
    directory.rename(doomed)
    shutil.rmtree(doomed)


def is_disk_full(error: Exception, directory: Path) -> bool:
    """Whether a failed write into `directory` failed for want of room."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return True
    return "No space left" in str(error) or shutil.disk_usage(directory).free < FULL_BELOW


def holds(checkpoint: Path, names: Iterable[str]) -> bool:
    """Whether a checkpoint has a file or a directory of one of these names, patterns as in `WEIGHTS`."""
    return any(any(checkpoint.glob(name)) for name in names)


def _holds_json(path: Path) -> bool:
    try:
        json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return True


def _problem(checkpoint: Path) -> str | None:
    """What keeps a checkpoint from being resumed from, if anything."""
    if not holds(checkpoint, WEIGHTS):
        return "no weights"
    for name, forms in STATES.items():
        if not holds(checkpoint, forms):
            return f"no {name}"
    for path in sorted(checkpoint.rglob("*")):
        try:
            if path.suffix == ".safetensors":
                with safe_open(path, framework="pt"):
                    pass
            elif path.suffix in (".pt", ".pth"):
                with zipfile.ZipFile(path) as file:
                    if file.testzip() is not None:
                        return f"{path.name} is damaged"
        except (OSError, SafetensorError, zipfile.BadZipFile) as error:
            return f"{path.name}: {error}"
    return None
