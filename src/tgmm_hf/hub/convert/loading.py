"""Read the tensors of a checkpoint file without running code that the file may hold."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tgmm_hf.utils.errors import TgmmError

DDP_PREFIX = "module."
STATE_DICT_KEYS = ("model", "state_dict")
"""Keys of the weights in a checkpoint that holds other entries too, such as the optimizer."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file that a conversion reads.

    Attributes:
        weights: Name -> tensor, on the CPU.
        settings: The settings of the training that the file holds under "config"; {} without them.
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
        path: File written by `torch.save`: a state dict, or a dict with a state dict under "model" or "state_dict".
        allow_pickle: Also load a file that holds Python objects beside tensors. Loading them runs code of the file's
            author.

    Raises:
        FileNotFoundError: If the file does not exist.
        TgmmError: If the file needs pickled objects and `allow_pickle` is False, if it is no checkpoint, or if a tensor
            is not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}. Download it from its authors first.")
    _check_kind_of_file(path)
    content = _read(path, allow_pickle)
    weights = _find_state_dict(content, path)
    if all(name.startswith(DDP_PREFIX) for name in weights):
        weights = {name.removeprefix(DDP_PREFIX): value for name, value in weights.items()}
    broken = [n for n, value in weights.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if broken:
        raise TgmmError(
            str(path),
            f"this checkpoint holds NaN or infinite numbers in {_some(broken)}, so it is damaged. Download it again.",
        )
    settings = content.get("config")
    return Checkpoint(weights, settings if isinstance(settings, Mapping) else {})


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


def _read(path: Path, allow_pickle: bool) -> Any:
    """Return the content of a checkpoint file, whatever it is.

    Raises:
        TgmmError: If the file cannot be read, or needs pickled objects and `allow_pickle` is False.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=not allow_pickle)
    except pickle.UnpicklingError as error:
        if allow_pickle:
            raise TgmmError(
                str(path),
                f"this file cannot be read as a PyTorch checkpoint: {error}. Download it again, or check that it was "
                "written by `torch.save`.",
            ) from error
        raise TgmmError(
            str(path),
            f"this file holds more than tensors{_named_objects(path)}. Loading pickled objects runs code of the file's "
            "author, so it is refused. If you trust the source of the file, add --allow-pickle (allow_pickle=True).",
        ) from error
    except (RuntimeError, EOFError, KeyError, AttributeError, ImportError) as error:
        raise TgmmError(
            str(path),
            f"this file cannot be read as a PyTorch checkpoint ({type(error).__name__}: {error}). It is damaged, "
            "incomplete, or needs a package that is not installed. Download it again, or install the package that the "
            "error names.",
        ) from error


def _named_objects(path: Path) -> str:
    """Return a text such as " (a.B, c.d)" with the Python objects that a file would load, without running it.

    It is " (or is no checkpoint at all)" if the file cannot be read, and "" if it names no objects.
    """
    try:
        names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except (ValueError, RuntimeError, pickle.UnpicklingError):
        return " (or is no checkpoint at all)"
    return f" ({_some(names)})" if names else ""


def _find_state_dict(content: Any, path: Path) -> dict[str, torch.Tensor]:
    """Find the state dict in the content of a checkpoint: name -> tensor.

    Raises:
        TgmmError: If there is none. The message names the file `path`.
    """
    for key in STATE_DICT_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise TgmmError(
            str(path), f"this file holds {type(content).__name__}, not a state dict. Save `model.state_dict()` instead."
        )
    no_tensors = [str(name) for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if no_tensors:
        raise TgmmError(
            str(path),
            f"this file holds no state dict, because {_some(no_tensors)} are not tensors. Save `model.state_dict()` "
            "instead.",
        )
    return dict(content)


def _some(names: list[str], shown: int = 5) -> str:
    """Join the first `shown` names to one text, with the number of further names."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
