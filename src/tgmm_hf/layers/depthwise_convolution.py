"""Depth-wise convolution of a video, with a fast gradient on CPUs."""

from typing import Any

import torch
from torch import nn
from torch.nn.grad import conv3d_weight


class DepthwiseConvolution(torch.autograd.Function):
    """Depth-wise 3x3x3 convolution with padding 1 whose gradient to its input is another such convolution.

    On a CPU this is ten times as fast as PyTorch's own, forward pass included (`benchmarks/echo_mvit_parts.py`).
    """

    @staticmethod
    def forward(ctx: Any, volume: torch.Tensor, weight: torch.Tensor, stride: tuple[int, int, int]) -> torch.Tensor:
        """Convolve a volume (batch, channels, frames, rows, cols) with weight (channels, 1, 3, 3, 3)."""
        ctx.save_for_backward(volume, weight)
        ctx.stride = stride
        return nn.functional.conv3d(volume, weight, stride=stride, padding=1, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        """Compute the gradients of volume and weight; None for a gradient that is not needed, and for the stride."""
        volume, weight = ctx.saved_tensors
        grad, to_volume, to_weight = grad.to(volume.dtype), None, None
        if ctx.needs_input_grad[0]:
            spread = grad
            if ctx.stride != (1, 1, 1):
                frames, rows, cols = ctx.stride
                spread = torch.zeros_like(volume)
                spread[:, :, ::frames, ::rows, ::cols] = grad
            to_volume = nn.functional.conv3d(spread, weight.flip(2, 3, 4), padding=1, groups=len(weight))
        if ctx.needs_input_grad[1]:
            # At least float32: PyTorch's own gradient in bfloat16 reads memory that nothing has written (CPU, 2.14.1).
            dtype = torch.promote_types(volume.dtype, torch.float32)
            to_weight = conv3d_weight(volume.to(dtype), weight.shape, grad.to(dtype), ctx.stride, 1, 1, len(weight))
        return to_volume, None if to_weight is None else to_weight.to(weight.dtype), None
