"""A checkpoint file -> its tensors, without running code that the file may hold."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

DDP_PREFIX = "module."
STATE_DICT_KEYS = ("model", "state_dict")
"""Where training scripts put the weights in a checkpoint that holds more than them."""


def load_weights(path: str | Path, allow_pickle: bool = False) -> dict[str, torch.Tensor]:
    """Tensors of a checkpoint by name; the prefix of `DistributedDataParallel` is taken off.

    Args:
        path: file written by `torch.save`: a state dict, or a dict with one under "model" or "state_dict".
        allow_pickle: also load a file that holds Python objects beside tensors. Loading these runs code of the
            file's author.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file needs pickled objects and `allow_pickle` is False; it is no checkpoint; it holds no
            tensors, or some that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}: download it from its authors first.")
    _check_kind_of_file(path)
    weights = _find_state_dict(_read(path, allow_pickle), path)
    if all(name.startswith(DDP_PREFIX) for name in weights):
        weights = {name.removeprefix(DDP_PREFIX): value for name, value in weights.items()}
    broken = [n for n, value in weights.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if broken:
        raise ValueError(f"{path} holds NaN or infinite numbers in {_some(broken)}: the file is damaged.")
    return weights


def _check_kind_of_file(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html")):
        raise ValueError(
            f"{path} is a web page, not a checkpoint: the download was answered by a login or consent page."
        )
    if not start:
        raise ValueError(f"{path} is empty: download it again.")


def _read(path: Path, allow_pickle: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=not allow_pickle)
    except pickle.UnpicklingError as error:
        if allow_pickle:
            raise ValueError(f"{path} cannot be read as a PyTorch checkpoint: {error}") from error
        raise ValueError(
            f"{path} holds more than tensors{_named_objects(path)}. Loading pickled objects runs code that the file's "
            "author chose, so it is refused. If you trust where the file comes from, say --allow-pickle "
            "(allow_pickle=True)."
        ) from error
    except (RuntimeError, EOFError, KeyError, AttributeError, ImportError) as error:
        raise ValueError(
            f"{path} cannot be read as a PyTorch checkpoint ({type(error).__name__}: {error}): damaged, cut short, or "
            "in need of a package that is not installed."
        ) from error


def _named_objects(path: Path) -> str:
    """The classes and functions that a file asks for, where its format allows to look without running it."""
    try:
        names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except (ValueError, RuntimeError, pickle.UnpicklingError):
        return " (or is no checkpoint at all)"
    return f" ({_some(names)})" if names else ""


def _find_state_dict(content: Any, path: Path) -> dict[str, torch.Tensor]:
    for key in STATE_DICT_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{path} holds {type(content).__name__}, not a state dict: save `model.state_dict()` instead.")
    others = [str(name) for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise ValueError(f"{path} is no state dict: {_some(others)} are not tensors.")
    return dict(content)


def _some(names: list[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
