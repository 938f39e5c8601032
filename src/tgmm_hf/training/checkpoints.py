"""Checkpoints of a run: which one a stopped run continues from, and how a full disk is recognised."""

import errno
import logging
import os
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path

import torch
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError, safe_open

from tgmm_hf.training.processes import fail_together
from tgmm_hf.utils.files import read_json

logger = logging.getLogger(__name__)

STATE = "trainer_state.json"
"""File of a checkpoint that is written last. If it is missing or cut short, the checkpoint was not finished."""
WEIGHTS = ("*.safetensors", "pytorch_model_fsdp*", "global_step*")
"""File name patterns of a checkpoint's weights: one process, FSDP, DeepSpeed."""
STATES = {
    "optimizer.pt": ("optimizer.pt", "optimizer.bin", "optimizer_*", "global_step*"),
    "scheduler.pt": ("scheduler.pt", "global_step*"),
}
"""File name patterns of the states that the Trainer would silently start anew if they were missing."""
TRAINING_FILES = (
    r"settings\.json",
    r"finished",
    r"patients\.json",
    r"refused\.csv",
    r"encoder\.json",
    r"ecgs/",
    r"checkpoint-\d+/",
    r"runs/",
    r"\..+-[0-9a-f]{32}",
)
"""Entries of a training directory, for `claim_directory`. The last one is a file whose writing was cut short."""
FULL_BELOW = 16 * 2**20
"""Free bytes below which a disk counts as full, because PyTorch only says that a write failed."""


def last_checkpoint(directory: Path) -> str | None:
    """Find the newest checkpoint in a training directory from which a stopped run can continue.

    Checkpoints that were not finished are skipped. Damaged checkpoints are skipped with a warning.

    Returns:
        The path of the checkpoint; None if there is none.

    Raises:
        ValueError: If there are finished checkpoints but none of them can be read.
    """
    finished = [path for path in directory.glob("checkpoint-*") if _holds_json(path / STATE)]
    for checkpoint in sorted(finished, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True):
        problem = _problem(checkpoint)
        if problem is None:
            return str(checkpoint)
        logger.warning("%s cannot be read (%s): continuing from the checkpoint before it.", checkpoint, problem)
    if finished:
        raise ValueError(
            f"None of the {len(finished)} checkpoints in {directory} can be read: start over with resume: never."
        )
    return None


def agree_on_checkpoint(directory: Path, is_first_process: bool) -> str | None:
    """Return the checkpoint that the first process finds with `last_checkpoint`, in every process.

    Every process has to call this. The reason is that processes may see different files on a shared disk.
    """
    checkpoint: list[str | None] = [None]
    with fail_together():
        if is_first_process:
            checkpoint = [last_checkpoint(directory)]
    broadcast_object_list(checkpoint)
    return checkpoint[0]


def discard(directory: Path) -> None:
    """Remove a directory with everything in it.

    The directory is renamed first. If the process is killed, no half-removed directory has the old name.
    """
    doomed = directory.with_name(f".{directory.name}-discarded")
    shutil.rmtree(doomed, ignore_errors=True)
    directory.rename(doomed)
    shutil.rmtree(doomed)


NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of the system for a full disk, a full quota, and a file that may not grow."""


def is_disk_full(error: Exception, directory: Path) -> bool:
    """Tell whether `error`, raised by a write into `directory`, means that the disk, a quota or a file is full."""
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return True
    # safetensors and torch raise errors of their own, which quote the error of the system
    return (
        any(os.strerror(number) in str(error) for number in NO_ROOM) or shutil.disk_usage(directory).free < FULL_BELOW
    )


def room_of_checkpoints(model: torch.nn.Module, directory: Path) -> int:
    """Estimate the bytes that a run still needs: three checkpoints at a time, and the saved model.

    A checkpoint holds all weights and two states of the optimizer for each trained weight. The files that are in
    `directory` already count as room.
    """
    sizes = [
        (parameter.numel() * parameter.element_size(), parameter.requires_grad) for parameter in model.parameters()
    ]
    weights, trained = sum(size for size, _ in sizes), sum(size for size, is_trained in sizes if is_trained)
    present = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    return max(0, 3 * (weights + 2 * trained) + weights - present)


def holds(checkpoint: Path, names: Iterable[str]) -> bool:
    """Tell whether a checkpoint has a file or a directory that matches one of the patterns `names`, such as "*.pt"."""
    return any(any(checkpoint.glob(name)) for name in names)


def _holds_json(path: Path) -> bool:
    try:
        read_json(path)
    except (OSError, ValueError):
        return False
    return True


def _problem(checkpoint: Path) -> str | None:
    """Say why a run cannot continue from a checkpoint; None if it can."""
    if not holds(checkpoint, WEIGHTS):
        return "no weights"
    for name, forms in STATES.items():
        if not holds(checkpoint, forms):
            return f"no {name}"
    for path in sorted(checkpoint.rglob("*")):
        try:
            if _is_damaged(path):
                return f"{path.name} is damaged"
        except (OSError, SafetensorError, zipfile.BadZipFile) as error:
            return f"{path.name}: {error}"
    return None


def _is_damaged(path: Path) -> bool:
    """Tell whether a file of weights or states is damaged. Other files are not checked.

    A .safetensors file is opened, which raises an error if it is damaged. A .pt or .pth file is a zip archive, whose
    checksums are compared.
    """
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt"):
            return False
    if path.suffix in (".pt", ".pth"):
        with zipfile.ZipFile(path) as file:
            return file.testzip() is not None
    return False
