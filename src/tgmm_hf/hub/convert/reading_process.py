"""Read a stranger's checkpoint in a process of its own. `loading.py` starts this file as a script.

    python reading_process.py CHECKPOINT TENSORS.safetensors ANSWER.json EXTRA_BYTES [--allow-pickle]

A checkpoint can be built so that reading it needs all memory, or never ends. Here it can cost no more than the limits.
The tensors come back as safetensors, a format without code. This file imports only torch and safetensors, because the
process should start fast.
"""

import json
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

try:
    import resource
except ImportError:  # Windows has no such limits: there the time limit of the parent remains
    resource = None  # type: ignore[assignment]

STATE_DICT_KEYS = ("model", "state_dict", "model_state_dict", "weights", "target_encoder")
"""Keys of the weights in a checkpoint that holds other entries too, such as the optimizer."""
SAFETENSORS = ".safetensors"
PLAIN_LAYOUT = torch.strided


class Unusable(Exception):
    """A checkpoint that cannot be used, with the reason in words."""


def main(checkpoint: str, tensors: str, answer: str, extra_bytes: str, *options: str) -> None:
    """Read a checkpoint and write its tensors, or the reason why it cannot be used.

    Args:
        checkpoint: The file.
        tensors: Safetensors file to write.
        answer: JSON file to write: {"reason": "" or why the checkpoint cannot be used, "settings": the plain values of
            the entry "config" or "cfg"}.
        extra_bytes: Memory that this process may take beyond what the libraries take.
        options: "--allow-pickle" loads pickled objects, which runs code of the file's author.
    """
    _limit_memory(int(extra_bytes))
    reason = ""
    settings: dict[str, Any] = {}
    try:
        content = _read(Path(checkpoint), "--allow-pickle" in options)
        weights, settings = find_state_dict(content), _plain_settings(content)
        save_file({name: _plain(name, value) for name, value in weights.items()}, tensors)
    except Unusable as error:
        reason = str(error)
    except MemoryError:
        reason = "reading this file needs more memory than a checkpoint of its size may. It is damaged or hostile."
    Path(answer).write_text(json.dumps({"reason": reason, "settings": settings}), encoding="utf-8")


def _limit_memory(extra_bytes: int) -> None:
    """Limit the address space of this process to what it has now and `extra_bytes`."""
    if resource is None or not Path("/proc/self/statm").is_file():
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + extra_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _read(path: Path, allow_pickle: bool) -> Any:
    """Return the content of a checkpoint file, whatever it is.

    Raises:
        Unusable: If the file cannot be read, or needs pickled objects and `allow_pickle` is False.
    """
    if path.suffix == SAFETENSORS:
        return _read_safetensors(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=not allow_pickle)
    except pickle.UnpicklingError as error:
        if allow_pickle:
            raise Unusable(
                f"this file cannot be read as a PyTorch checkpoint: {error}. Download it again, or check that it was "
                "written by `torch.save`."
            ) from error
        raise Unusable(
            f"this file holds more than tensors{_named_objects(path)}. Loading pickled objects runs code of the file's "
            "author, so it is refused. If you trust the source of the file, add --allow-pickle (allow_pickle=True)."
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # a hostile file may raise anything
        raise Unusable(
            f"this file cannot be read as a PyTorch checkpoint ({type(error).__name__}: {error}). It is damaged, "
            "incomplete, or needs a package that is not installed. Download it again, or install the package that the "
            "error names."
        ) from error


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file, a format without code.

    Raises:
        Unusable: If the file cannot be read.
    """
    try:
        return load_file(path)
    except MemoryError:
        raise
    except Exception as error:  # a hostile file may raise anything
        raise Unusable(
            f"this file cannot be read as safetensors ({type(error).__name__}: {error}). Download it again."
        ) from error


def _named_objects(path: Path) -> str:
    """Return a text such as " (a.B, c.d)" with the Python objects that a file would load, without running it.

    It is " (or is no checkpoint at all)" if the file cannot be read, and "" if it names no objects.
    """
    try:
        names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except (ValueError, RuntimeError, pickle.UnpicklingError):
        return " (or is no checkpoint at all)"
    return f" ({some(names)})" if names else ""


def find_state_dict(content: Any) -> dict[str, torch.Tensor]:
    """Find the state dict in the content of a checkpoint: name -> tensor.

    Raises:
        Unusable: If there is none.
    """
    for key in STATE_DICT_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise Unusable(
            f"this file holds {type(content).__name__}, not a state dict. Save `model.state_dict()` instead."
        )
    no_tensors = [str(name) for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if no_tensors:
        raise Unusable(
            f"this file holds no state dict, because {some(no_tensors)} are not tensors. Save `model.state_dict()` "
            "instead."
        )
    return {str(name): value for name, value in content.items()}


def _plain_settings(content: Any) -> dict[str, Any]:
    """Take the settings of the training from the entry "config" or "cfg" of a checkpoint; {} without such an entry."""
    if not isinstance(content, Mapping):
        return {}
    return _plain_values(content.get("config")) or _plain_values(content.get("cfg"))


def _plain_values(settings: Any, depth: int = 5) -> dict[str, Any]:
    """Copy the numbers and texts of a mapping, and of the mappings in it; {} for anything else."""
    if not isinstance(settings, Mapping) or not depth:
        return {}
    plain = {str(name): value for name, value in settings.items() if isinstance(value, str | int | float | bool)}
    nested = {str(name): value for name, value in settings.items() if isinstance(value, Mapping)}
    return plain | {name: _plain_values(value, depth - 1) for name, value in nested.items()}


def _plain(name: str, value: torch.Tensor) -> torch.Tensor:
    """Copy a tensor to memory of its own, because a small file can declare a view of any size.

    Raises:
        Unusable: If the tensor is sparse or has no values, or does not fit into memory.
    """
    if value.layout != PLAIN_LAYOUT or value.is_quantized or value.device.type != "cpu":
        raise Unusable(f"the tensor {name} is sparse, quantised or without values. Save plain tensors instead.")
    try:
        return value.detach().clone(memory_format=torch.contiguous_format)
    except RuntimeError as error:  # PyTorch's allocator
        raise Unusable(
            f"the tensor {name} declares {value.numel():,} values, more than fit into the memory that a file of this "
            "size may take. The file is damaged or hostile."
        ) from error


def some(names: list[str], shown: int = 5) -> str:
    """Join the first `shown` names to one text, with the number of further names."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


if __name__ == "__main__":
    main(*sys.argv[1:])
