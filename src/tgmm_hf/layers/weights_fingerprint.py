"""Fingerprint of a model's weights: a few sums for each part, which rounding and sharding hardly change.

A digest of bytes would change with the dtype and with the shards of the files, and would warn of nothing. So every
weight is described by sums of its values with fixed signs, divided by its norm. The sums of all weights of a part (such
as "labs_encoder") are added up. A weight that is transposed, exchanged, drawn anew or trained changes the sums by about
1. Rounding a weight to bfloat16 changes them by about 0.001. docs/decisions/110 says what is covered.
"""

import hashlib
import math
import os
import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, cast

import torch
from torch import nn

from ..utils.hub_code import HubCode
from ..utils.short_digests import short_digest
from .model_settings import model_settings

PERIOD = 8191
"""Length of the repeated pattern of signs: a prime, so that no usual width of a matrix divides it."""
CHUNK = 64 * PERIOD
"""Number of values that are brought to float64 at a time."""
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-6, torch.float16: 1.5e-3, torch.bfloat16: 1.2e-2}
"""Largest difference of a weight's sums that rounding to a dtype explains: ten standard deviations."""
SMALLEST_SIZE = 1e-3
"""Weights whose root mean square is smaller count less, because half precision may round them to zero."""
NUM_SUMS = 4
PREFIX = "tgmm."
"""Beginning of the names in `TgmmForSequenceClassification`, which holds a whole `TgmmModel`."""
RUNNING_FIGURES = "standardise"
"""Part that holds the running statistics of all pools, because they stay in float32 in a model of any dtype."""

Fingerprint = dict[str, Any]
"""{"id": short digest, "parts": {part: [number of values, number of weights, sum of signed log sizes, four signed
sums]}, "cast_of": ids before casts to another dtype, if there were any, "settings": see `model_settings`}."""


def weights_fingerprint(model: nn.Module, state_dict: Mapping[str, Any] | None = None) -> Fingerprint | None:
    """Compute the fingerprint of the weights and saved buffers of a model. Adapters of PEFT are left out.

    Args:
        model: the model.
        state_dict: its weights by name, if the model itself holds only a share of them.

    Returns:
        the fingerprint; None if weights are not in memory, or are quantised.
    """
    sums: dict[str, torch.Tensor] = {}
    if any(hasattr(module, "_packed_params") for module in model.modules()):
        return None
    for name, tensor in saved_tensors(model) if state_dict is None else _named(state_dict):
        if tensor.is_meta or _is_quantised(tensor):
            return None
        if tensor.is_floating_point() and tensor.numel():
            part = part_of(name)
            sums[part] = sums.get(part, 0) + _sums(name, tensor.detach())
    # Rounded, because the last digits of a sum depend on the machine.
    parts = {part: [round(value, 7) for value in sums[part].tolist()] for part in sorted(sums)}
    return {"id": short_digest(parts), "parts": parts}


def _named(state_dict: Mapping[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield name and value of every tensor of a state dict, with the names of a `TgmmModel`."""
    return ((name.removeprefix(PREFIX), value) for name, value in state_dict.items() if isinstance(value, torch.Tensor))


def bind_weights(model: nn.Module, state_dict: Mapping[str, Any] | None = None) -> None:
    """Write the fingerprint of a model's weights into its configuration, in place.

    If the weights are those of the fingerprint that is there, it stays. If they are those after a cast to a shorter
    dtype, the new one names the old one under "cast_of". Weights that cannot be read leave the old one.

    Args:
        model: the model.
        state_dict: as in `weights_fingerprint`.
    """
    config: Any = model.config
    now, before = weights_fingerprint(model, state_dict), getattr(config, "weights_fingerprint", None)
    settings = model_settings(config)
    if isinstance(before, dict):
        before["settings"] = settings
    if now is not None:
        now["settings"] = settings
    if now is None or (is_fingerprint(before) and not differences(before, now, TOLERANCE[torch.float32])):
        return
    if is_fingerprint(before) and not changed_parts(model, before, now):
        now["cast_of"] = [before["id"], *before.get("cast_of", [])]
    config.weights_fingerprint = now


def changed_parts(model: nn.Module, saved: Fingerprint, now: Fingerprint) -> list[str]:
    """List the parts of a model whose weights are not those of a fingerprint, allowing for the rounding of a dtype.

    Args:
        model: the model that `now` was computed from.
        saved: the fingerprint to compare with.
        now: the fingerprint of the model.
    """
    suspects = differences(saved, now, TOLERANCE[torch.float32])
    return [part for part in suspects if part in differences(saved, now, _rounding_of(model, part))]


def differences(first: Fingerprint, second: Fingerprint, tolerance: float) -> list[str]:
    """List the parts that only one of two fingerprints has, or whose sums differ by more than `tolerance`."""
    parts = []
    for part in sorted({*first["parts"], *second["parts"]}):
        one, other = first["parts"].get(part), second["parts"].get(part)
        if one is None or other is None or one[:2] != other[:2]:
            parts.append(part)
            continue
        allowed = tolerance * one[1] ** 0.5 + 1e-6  # rounding errors of weights add up like random numbers
        # A NaN is never near.
        if not all(abs(a - b) <= allowed for a, b in zip(one[1:], other[1:], strict=True)):
            parts.append(part)
    return parts


def parts_not_finite(fingerprint: Fingerprint) -> list[str]:
    """List the parts of a model with a weight that is infinite or not a number, because their sums are so too."""
    return [part for part, sums in fingerprint["parts"].items() if not all(map(math.isfinite, sums))]


def adapter_digest(model: nn.Module) -> str | None:
    """Compute a short digest of the adapters that PEFT has put into a model; None without adapters."""
    sums = {
        name: [round(value, 7) for value in _sums(name, tensor.detach()).tolist()]
        for name, tensor in model.named_parameters()
        if is_of_adapter(name) and not tensor.is_meta and tensor.is_floating_point() and tensor.numel()
    }
    return short_digest(sums) if sums else None


def is_fingerprint(value: Any) -> bool:
    """Tell whether a value of a configuration is a fingerprint of weights."""
    if not (
        isinstance(value, Mapping) and isinstance(value.get("id"), str) and isinstance(value.get("parts"), Mapping)
    ):
        return False
    return all(isinstance(part, list | tuple) and len(part) == 3 + NUM_SUMS for part in value["parts"].values())


def saved_tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield name and value of every parameter and every saved buffer once, without the adapters of PEFT.

    A module that PEFT has wrapped has the name and the values that it had before.
    """
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        tensors = [*module._parameters.items()]
        tensors += [(k, v) for k, v in module._buffers.items() if k not in module._non_persistent_buffers_set]
        for key, tensor in tensors:
            name = f"{prefix}.{key}" if prefix else key
            if tensor is None or id(tensor) in seen or is_of_adapter(name):
                continue
            seen.add(id(tensor))
            yield name.replace(".base_layer.", ".").replace(".original_module.", ".").removeprefix(PREFIX), tensor


def is_of_adapter(name: str) -> bool:
    """Tell whether a tensor belongs to an adapter of PEFT, from its name in the model."""
    return any(piece.startswith("lora_") for piece in name.split(".")) or ".modules_to_save." in name


def part_of(name: str) -> str:
    """Name the part of the model that a tensor belongs to."""
    pieces = name.split(".")
    return RUNNING_FIGURES if RUNNING_FIGURES in pieces else pieces[0]


def _sums(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Describe one weight: number of values, 1, signed log size and the signed sums, as float64 on the CPU.

    The signs depend on the name, so that two weights that are exchanged are found.
    """
    values, start = tensor.reshape(-1), zlib.crc32(name.encode()) % PERIOD
    signs = _signs()[PERIOD - start : 2 * PERIOD - start].to(tensor.device)
    sums = torch.zeros(NUM_SUMS, dtype=torch.float64, device=tensor.device)
    squares = torch.zeros((), dtype=torch.float64, device=tensor.device)
    for chunk in values.split(CHUNK):
        exact = chunk.double()
        whole = len(exact) // PERIOD * PERIOD
        sums += (exact[:whole].view(-1, PERIOD) @ signs).sum(0) + exact[whole:] @ signs[: len(exact) - whole]
        squares += exact @ exact
    size = max(math.sqrt(float(squares) / len(values)), SMALLEST_SIZE)
    head = [float(len(values)), 1.0, float(signs[0, 0]) * math.log(size)]
    return torch.cat([torch.tensor(head, dtype=torch.float64), sums.cpu() / (size * math.sqrt(len(values)))])


@lru_cache(maxsize=1)
def _signs() -> torch.Tensor:
    """Return patterns of signs twice, (2 * PERIOD, NUM_SUMS) float64 of -1 and 1, the same on every machine.

    Any PERIOD rows are the pattern from another start, without a copy.
    """
    bits = hashlib.shake_256(b"tgmm weights fingerprint").digest(NUM_SUMS * PERIOD)
    signs = torch.tensor([1.0 if bit & 1 else -1.0 for bit in bits], dtype=torch.float64).view(PERIOD, NUM_SUMS)
    return signs.repeat(2, 1)


def _is_quantised(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor holds codes in place of values: integers of a quantised layer."""
    return tensor.dtype in (torch.int8, torch.uint8, torch.qint8, torch.quint8)


def _rounding_of(model: nn.Module, part: str) -> float:
    """Return the tolerance for a part of a model: that of the shortest dtype that holds all values of a weight."""
    largest = TOLERANCE[torch.float32]
    for name, tensor in saved_tensors(model):
        if part_of(name) == part and tensor.is_floating_point():
            values = tensor.detach()
            for dtype in (torch.float16, torch.bfloat16):
                # Weights in float32 may have been rounded by an earlier cast. Zeros and ones say nothing.
                if tensor.dtype == dtype or (_is_informative(values) and bool((values.to(dtype) == values).all())):
                    largest = max(largest, TOLERANCE[dtype])
    return largest


def _is_informative(values: torch.Tensor) -> bool:
    """Tell whether a weight has enough different values, so that exact half precision cannot be chance."""
    return values.numel() >= 64 and len(torch.unique(values.reshape(-1)[:1024])) > 32


class BoundWeights(HubCode):
    """Mixin of our models, in place of `HubCode`: `save_pretrained` writes the fingerprint of the weights, too.

    It is computed at every saving, so that a model that was trained further and saved again is no false alarm.
    """

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> Any:
        """Save the model as `HubCode` does, with the fingerprint of its weights in its configuration."""
        if kwargs.get("is_main_process", True):
            bind_weights(cast(nn.Module, self), kwargs.get("state_dict"))
        return super().save_pretrained(save_directory, *args, **kwargs)


__all__ = [
    "BoundWeights",
    "adapter_digest",
    "bind_weights",
    "changed_parts",
    "is_fingerprint",
    "parts_not_finite",
    "weights_fingerprint",
]
