"""Load tensors with published names into a model of this package.

It is an error if a tensor is missing, has no place in the model, or has another shape.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from transformers import PreTrainedModel

from tgmm_hf.utils.errors import TgmmError


class ConversionError(TgmmError):
    """A checkpoint that does not fit the model. The reason lists every tensor that does not fit."""


Renames = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]
"""Pairs of a regular expression and its replacement, as in `re.sub`. All pairs are applied to a name, in order."""


def rename(weights: Mapping[str, torch.Tensor], renames: Renames) -> dict[str, torch.Tensor]:
    """Return the tensors under the names of this package: published name -> tensor becomes new name -> tensor.

    `renames` are applied to every name, see [`Renames`].

    Raises:
        ConversionError: If two published names become one.
    """
    renamed: dict[str, torch.Tensor] = {}
    for official, tensor in weights.items():
        name = official
        for pattern, replacement in renames:
            name = re.sub(pattern, replacement, name)
        if name in renamed:
            raise ConversionError(official, f"this tensor and another tensor both become {name!r}.")
        renamed[name] = tensor
    return renamed


def join(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Concatenate tensors `name[0]`, `name[1]`, ... to one tensor `name`. Other tensors stay as they are.

    A missing part is not found here. `build` finds it by the shape.

    Raises:
        ConversionError: If the parts of a tensor have different widths.
    """
    joined: dict[str, torch.Tensor] = {}
    parts: dict[str, dict[int, torch.Tensor]] = {}
    for name, tensor in weights.items():
        if match := re.fullmatch(r"(.+)\[(\d+)\]", name):
            parts.setdefault(match[1], {})[int(match[2])] = tensor
        else:
            joined[name] = tensor
    for name, by_index in parts.items():
        if len({tensor.shape[1:] for tensor in by_index.values()}) > 1:
            shapes = [tuple(tensor.shape) for tensor in by_index.values()]
            raise ConversionError(name, f"the parts of this tensor do not fit together, their shapes are {shapes}.")
        joined[name] = torch.cat([by_index[index] for index in sorted(by_index)])
    return joined


def split_rows(
    weights: Mapping[str, torch.Tensor], pattern: str, replacements: Sequence[str]
) -> dict[str, torch.Tensor]:
    """Split tensors whose name matches `pattern` into equal parts of their rows, one for each replacement.

    So one tensor for query, key and value becomes three. Other tensors stay as they are.

    Raises:
        ConversionError: If the rows of a tensor cannot be divided.
    """
    result: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        if not re.search(pattern, name):
            result[name] = tensor
            continue
        if len(tensor) % len(replacements):
            raise ConversionError(name, f"this tensor has {len(tensor)} rows, no multiple of {len(replacements)}.")
        for replacement, part in zip(replacements, tensor.chunk(len(replacements)), strict=True):
            result[re.sub(pattern, replacement, name)] = part
    return result


def take(weights: dict[str, torch.Tensor], prefixes: Iterable[str]) -> dict[str, torch.Tensor]:
    """Remove the tensors whose names begin with one of `prefixes` from `weights`, in place, and return them."""
    prefixes = tuple(prefixes)
    return {name: weights.pop(name) for name in list(weights) if name.startswith(prefixes)}


def require(weights: Mapping[str, torch.Tensor], names: Iterable[str], what: str) -> None:
    """Raise a ConversionError if `weights` lack a tensor of `names`, because they belong to another model.

    `what` is the name of the expected model, for the message.
    """
    if missing := [name for name in names if name not in weights]:
        raise ConversionError(
            "checkpoint",
            f"This is no {what} checkpoint: it lacks {', '.join(missing)}. Its first of {len(weights)} tensors are "
            f"{', '.join(list(weights)[:5])}.",
        )


def build(make_model: Callable[[], PreTrainedModel], weights: Mapping[str, torch.Tensor]) -> PreTrainedModel:
    """Build a model that holds the given tensors. No memory is allocated for initial weights.

    Args:
        make_model: Function that builds the model. It is called with the meta device as default device.
        weights: Name in this package -> tensor.

    Raises:
        ConversionError: If a tensor is missing, unexpected or of a wrong shape; the reason lists all of them.
    """
    with torch.device("meta"):
        model = make_model()
    expected = model.state_dict()
    problems = [f"missing: {name} {tuple(expected[name].shape)}" for name in expected if name not in weights]
    problems += [f"unexpected: {name} {tuple(weights[name].shape)}" for name in weights if name not in expected]
    problems += [
        f"wrong shape: {name} is {tuple(weights[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in expected
        if name in weights and weights[name].shape != expected[name].shape
    ]
    if problems:
        raise ConversionError(
            "checkpoint",
            f"It does not fit {type(model).__name__}; {len(problems)} tensors are in the way (with the names of this "
            "package):\n  " + "\n  ".join(problems),
        )
    model.load_state_dict({name: tensor.contiguous() for name, tensor in weights.items()}, assign=True)
    return model.eval()
