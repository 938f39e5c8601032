"""Read the tensors of a checkpoint file without running code that the file may hold.

A process of its own reads the file (`reading_process.py`), with limits of memory and time and without the secrets of
the environment. It gives the tensors back as safetensors.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tgmm_hf.hub.convert import reading_process
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import read_json

DDP_PREFIX = "module."
STATE_DICT_KEYS = reading_process.STATE_DICT_KEYS
READING_SECONDS = 600.0
"""Time limit of reading a file. A published encoder takes seconds."""
EXTRA_BYTES = 2 << 30
"""Memory that reading may take besides four times the size of the file: the stored values, and copies of them."""
ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "OMP_NUM_THREADS")
"""Variables that the reading process gets. Tokens and keys are not among them."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file that a conversion reads.

    Attributes:
        weights: Name -> tensor, on the CPU.
        settings: The settings of the training that the file holds under "config" or "cfg"; {} without them.
    """

    weights: dict[str, torch.Tensor]
    settings: Mapping[str, Any] = field(default_factory=dict)


def load_weights(path: str | Path, allow_pickle: bool = False) -> dict[str, torch.Tensor]:
    """Load the tensors of a checkpoint: name -> tensor, see `load_checkpoint`."""
    return load_checkpoint(path, allow_pickle).weights


def load_checkpoint(path: str | Path, allow_pickle: bool = False) -> Checkpoint:
    """Load a checkpoint: its tensors on the CPU, and the settings of its training if the file holds them.

    The prefix "module.", which `DistributedDataParallel` puts before names, is removed.

    Args:
        path: File written by `torch.save`: a state dict, or a dict with a state dict under one of `STATE_DICT_KEYS`. A
            file with the ending .safetensors is read as safetensors.
        allow_pickle: Also load a file that holds Python objects beside tensors. Loading them runs code of the file's
            author, in a process with the rights of this user.

    Raises:
        FileNotFoundError: If the file does not exist.
        TgmmError: If the file needs pickled objects and `allow_pickle` is False, if it is no checkpoint, if reading it
            needs too much time or memory, or if a tensor is not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}. Download it from its authors first.")
    _check_kind_of_file(path)
    weights, settings = _read_in_own_process(path, allow_pickle)
    if all(name.startswith(DDP_PREFIX) for name in weights):
        weights = {name.removeprefix(DDP_PREFIX): value for name, value in weights.items()}
    broken = [n for n, value in weights.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if broken:
        raise TgmmError(
            str(path),
            f"this checkpoint holds NaN or infinite numbers in {reading_process.some(broken)}, so it is damaged. "
            "Download it again.",
        )
    return Checkpoint(weights, settings)


def _check_kind_of_file(path: Path) -> None:
    """Raise a TgmmError if the first bytes of a file show that it is a web page, or if the file is empty."""
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html")):
        raise TgmmError(
            str(path),
            "this file is a web page, not a checkpoint. The download was probably answered by a login or consent page. "
            "Download it again in a browser.",
        )
    if not start:
        raise TgmmError(str(path), "this file is empty. Download it again.")


def _read_in_own_process(path: Path, allow_pickle: bool) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a checkpoint in a process with limits: name -> tensor, and the settings of its training.

    Raises:
        TgmmError: If the file cannot be used, or the process needs too much time or memory, or dies.
    """
    with tempfile.TemporaryDirectory(prefix="tgmm-convert-") as folder:
        tensors, answer = Path(folder) / "tensors.safetensors", Path(folder) / "answer.json"
        extra = EXTRA_BYTES + 4 * path.stat().st_size
        command = [sys.executable, reading_process.__file__, str(path.resolve()), str(tensors), str(answer), str(extra)]
        environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ} | {"HOME": folder}
        try:
            done = subprocess.run(
                [*command, *(["--allow-pickle"] if allow_pickle else [])],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=environment,
                cwd=folder,
                timeout=READING_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise TgmmError(
                str(path), f"reading this file took longer than {READING_SECONDS:g} s. It is damaged or hostile."
            ) from error
        if not answer.is_file():
            raise TgmmError(
                str(path),
                f"the process that read this file ended with status {done.returncode}. The file is damaged or hostile, "
                "or memory ran out.",
            )
        content = read_json(answer)
        if content["reason"]:
            raise TgmmError(str(path), content["reason"])
        return load_file(tensors), content["settings"]
