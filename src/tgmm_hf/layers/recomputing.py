"""Compute a cheap intermediate result again in the backward pass, instead of keeping it since the forward pass."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def recomputing(
    result: torch.Tensor, function: Callable[[torch.Tensor], torch.Tensor], values: torch.Tensor
) -> Iterator[None]:
    """Let no operation inside keep `result` for the backward pass: it is computed again there.

    The memory of `result` is free as soon as the operations are done. The gradients stay the same bit by bit, if
    `function` gives the same result again. Other tensors are kept as usual. A compiled model decides on its own what it
    computes again, so nothing changes there.

    Args:
        result: an input of the operations inside, equal to function(values).
        function: gives the result again.
        values: input of the function. It is kept instead of `result`, so it should be smaller than `result`, or be kept
            by another operation anyway.

    Raises:
        RuntimeError: in the backward pass, if `values` were changed in place after the forward pass.
    """
    is_traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if is_traced or not torch.is_grad_enabled() or result.device.type == "meta" or not result.numel():
        yield
        return
    place, values = result.untyped_storage().data_ptr(), values.detach()
    version = values._version

    def pack(tensor: torch.Tensor) -> Any:
        if tensor.untyped_storage().data_ptr() == place:
            return tensor.shape, tensor.stride(), tensor.storage_offset()
        return tensor

    def unpack(kept: Any) -> torch.Tensor:
        if isinstance(kept, torch.Tensor):
            return kept
        if values._version != version:
            raise RuntimeError(
                "A tensor that the backward pass needs was changed in place after the forward pass. Change a copy."
            )
        with torch.no_grad():
            return function(values).as_strided(*kept)

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield
