"""Tensors under their published names -> a model with ours; nothing may be missing, left over or of another shape."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import nn


class ConversionError(ValueError):
    """A checkpoint that does not fit the model, with every tensor that is in the way."""


Renames = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]
"""Regular expression -> replacement (as `re.sub` takes it); all are applied to a name, one after the other."""


def rename(weights: Mapping[str, torch.Tensor], renames: Renames) -> dict[str, torch.Tensor]:
    """The same tensors under our names.

    Raises:
        ConversionError: two published names become one.
    """
    renamed: dict[str, torch.Tensor] = {}
    for official, tensor in weights.items():
        name = official
        for pattern, replacement in renames:
            name = re.sub(pattern, replacement, name)
        if name in renamed:
            raise ConversionError(f"{official!r} and another tensor both become {name!r}.")
        renamed[name] = tensor
    return renamed


def join(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors `name[0]`, `name[1]`, ... one after the other as `name`; of a gap `build` complains."""
    joined: dict[str, torch.Tensor] = {}
    parts: dict[str, dict[int, torch.Tensor]] = {}
    for name, tensor in weights.items():
        if match := re.fullmatch(r"(.+)\[(\d+)\]", name):
            parts.setdefault(match[1], {})[int(match[2])] = tensor
        else:
            joined[name] = tensor
    for name, by_index in parts.items():
        if len({tensor.shape[1:] for tensor in by_index.values()}) > 1:
            raise ConversionError(
                f"The parts of {name} do not fit together: {[tuple(t.shape) for t in by_index.values()]}."
            )
        joined[name] = torch.cat([by_index[index] for index in sorted(by_index)])
    return joined


def take(weights: dict[str, torch.Tensor], prefixes: Iterable[str]) -> dict[str, torch.Tensor]:
    """Remove the tensors with one of these prefixes from `weights` and return them."""
    prefixes = tuple(prefixes)
    return {name: weights.pop(name) for name in list(weights) if name.startswith(prefixes)}


def require(weights: Mapping[str, torch.Tensor], names: Iterable[str], what: str) -> None:
    """Raise unless the tensors that sizes are read from are there: without them it is another kind of file."""
    if missing := [name for name in names if name not in weights]:
        raise ConversionError(
            f"This is no {what} checkpoint: it lacks {', '.join(missing)}. Its first of {len(weights)} tensors are "
            f"{', '.join(list(weights)[:5])}."
        )


def build(make_model: Callable[[], nn.Module], weights: Mapping[str, torch.Tensor]) -> nn.Module:
    """A model that holds these very tensors; its own are never allocated.

    Args:
        make_model: builds the model; it is called with the meta device as default.
        weights: our name -> tensor.

    Raises:
        ConversionError: listing every missing, unexpected and wrongly shaped tensor.
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
            f"The checkpoint does not fit {type(model).__name__}; {len(problems)} tensors are in the way (under our "
            "names):\n  " + "\n  ".join(problems)
        )
    model.load_state_dict({name: tensor.contiguous() for name, tensor in weights.items()}, assign=True)
    return model.eval()
