"""Sums and gathered batches over the processes of a distributed training, with gradients."""

from typing import Any

import torch


def several_processes() -> bool:
    """Tell whether this process trains together with other processes."""
    initialised = torch.distributed.is_available() and torch.distributed.is_initialized()
    return initialised and torch.distributed.get_world_size() > 1


class _SumOverProcesses(torch.autograd.Function):
    """Sum over all processes: of the values in the forward pass, of the gradients in the backward pass."""

    @staticmethod
    def forward(_: Any, tensor: torch.Tensor) -> torch.Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:
        return _SumOverProcesses.forward(_, gradient)


def sum_over_processes(tensor: torch.Tensor) -> torch.Tensor:
    """Sum a tensor over all processes, with gradients; return the tensor itself if there is one process."""
    return _SumOverProcesses.apply(tensor) if several_processes() else tensor


def gather_batch(tensor: torch.Tensor) -> torch.Tensor:
    """Join the rows of all processes, with gradients, because some losses compare each patient with all other ones.

    Args:
        tensor: (n, ...), with the same n in every process. Accelerate's data loaders ensure this (`even_batches`).

    Returns:
        (n * processes, ...), the same in every process; `tensor` itself if there is one process.
    """
    if not several_processes():
        return tensor
    from torch.distributed.nn.functional import all_gather

    if tensor.dtype == torch.bool:
        return torch.cat(list(all_gather(tensor.to(torch.uint8)))).bool()
    return torch.cat(list(all_gather(tensor)))
