"""Sums and gathered batches over processes, with gradients."""

from typing import Any

import torch


def several_processes() -> bool:
    """Whether this process trains together with others."""
    there = torch.distributed.is_available() and torch.distributed.is_initialized()
    return there and torch.distributed.get_world_size() > 1


class _SumOverProcesses(torch.autograd.Function):
    """Sum over all processes, of values and of gradients."""

    @staticmethod
    def forward(_: Any, tensor: torch.Tensor) -> torch.Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:
        return _SumOverProcesses.forward(_, gradient)


def sum_over_processes(tensor: torch.Tensor) -> torch.Tensor:
    """Sum over all processes, with gradients; `tensor` itself where there is one."""
    return _SumOverProcesses.apply(tensor) if several_processes() else tensor


def gather_batch(tensor: torch.Tensor) -> torch.Tensor:
    """Rows of all processes, with gradients: Cox risk sets and InfoNCE negatives are those of the global batch.

    Without an initialised process group this is `tensor` itself. Every process must hold the same number of rows, as
    Accelerate's dataloaders do by default (`even_batches`).
    """
    if not several_processes():
        return tensor
    from torch.distributed.nn.functional import all_gather

    if tensor.dtype == torch.bool:
        return torch.cat(list(all_gather(tensor.to(torch.uint8)))).bool()
    return torch.cat(list(all_gather(tensor)))
