"""Compute a cheap intermediate result again in the backward pass, instead of keeping it since the forward pass."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def recomputing(result: torch.Tensor, compute: Callable[[], torch.Tensor]) -> Iterator[None]:
    """Let no operation inside keep `result` for the backward pass: it is computed again there.

    The memory of `result` is free as soon as the operations are done. The gradients stay the same bit by bit, if
    `compute` gives the same values again. Other tensors are kept as usual. A compiled model decides on its own what it
    computes again, so nothing changes there.

    Args:
        result: an input of the operations inside.
        compute: function that gives `result` again. What it reads is kept in its place, so that should be smaller than
            `result`, or kept by another operation anyway.
    """
    is_traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if is_traced or not torch.is_grad_enabled() or result.device.type == "meta" or not result.numel():
        yield
        return
    place = result.untyped_storage().data_ptr()

    def pack(tensor: torch.Tensor) -> Any:
        if tensor.untyped_storage().data_ptr() == place:
            return tensor.shape, tensor.stride(), tensor.storage_offset()
        return tensor

    def unpack(kept: Any) -> torch.Tensor:
        if isinstance(kept, torch.Tensor):
            return kept
        with torch.no_grad():
            again: torch.Tensor = compute().as_strided(*kept)
        return again

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield
