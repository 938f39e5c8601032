"""Three implementation choices of `EchoMvitModel`, each against the plain way, measured in this run on this CPU.

    python benchmarks/echo_mvit_parts.py --repeats 5

* Attention of the first block (25,089 queries, 393 keys): values are padded to the extended head size, so that the
  flash kernel accepts them. The plain way leaves the values at their size.
* Pooling convolution over the token grid: heads are channels in channels-last order. The plain way has heads in the
  batch.
* Gradient to the input of this convolution: a second convolution. The plain way is PyTorch's own gradient.

Prints milliseconds and the ratio plain / ours.
"""

from collections.abc import Callable

import torch
from measuring import argument_parser, best_seconds, write
from torch import nn

from tgmm_hf.layers.depthwise_convolution import DepthwiseConvolution

HEAD = 96
"""Size of an attention head."""
WIDTH = 118
"""Size of an attention head with the columns for the relative positions of 8 x 7 x 7 keys."""
POOLS = {"first block, queries": (1, (8, 56, 56), 1), "third stage, keys": (4, (8, 14, 14), 2)}
"""Name -> heads, grid and spatial stride of MViT-v2-S."""

Pair = tuple[Callable[[], torch.Tensor], Callable[[], torch.Tensor]]
"""Our implementation and the plain one."""


def main() -> None:
    """Measure the three choices and print one line for each."""
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--repeats", type=int, default=5, help="measured calls, of which the fastest counts (default 5)"
    )
    repeats = parser.parse_args().repeats
    with torch.no_grad():
        report("attention, first block", *attention(), repeats)
        for name, sizes in POOLS.items():
            report(f"pooling, {name}", *pooling(*sizes), repeats)
    report("gradient of pooling, fourth stage", *pooling_gradient(8, (8, 14, 14)), repeats)


def attention() -> Pair:
    """Make both ways of the attention in the first block."""
    query, key, value = torch.randn(1, 1, 25_089, WIDTH), torch.randn(1, 1, 393, WIDTH), torch.randn(1, 1, 393, HEAD)
    attend = nn.functional.scaled_dot_product_attention
    padding = -WIDTH % 8

    def ours() -> torch.Tensor:
        query_, key_ = (nn.functional.pad(x, (0, padding)) for x in (query, key))
        value_ = nn.functional.pad(value, (0, WIDTH + padding - HEAD))
        return attend(query_, key_, value_, scale=1.0)[..., :HEAD]

    return ours, lambda: attend(query, key, value, scale=1.0)


def pooling(heads: int, grid: tuple[int, int, int], stride: int) -> Pair:
    """Make both ways of the pooling convolution.

    As in the model, the tokens are a third of a joint projection (clips, tokens, 3, heads, head size).
    """
    frames, rows, cols = grid
    tokens = torch.randn(2, frames * rows * cols, 3, heads, HEAD)[:, :, 0]
    weight, strides = torch.randn(HEAD, 1, 3, 3, 3), (1, stride, stride)

    def ours() -> torch.Tensor:
        volume = tokens.reshape(2, *grid, heads * HEAD).permute(0, 4, 1, 2, 3)
        groups = heads * HEAD
        return nn.functional.conv3d(volume, weight.repeat(heads, 1, 1, 1, 1), stride=strides, padding=1, groups=groups)

    def plain() -> torch.Tensor:
        volume = tokens.permute(0, 2, 3, 1).reshape(2 * heads, HEAD, *grid)
        return nn.functional.conv3d(volume, weight, stride=strides, padding=1, groups=HEAD)

    return ours, plain


def pooling_gradient(heads: int, grid: tuple[int, int, int]) -> Pair:
    """Make both ways of the convolution and the gradient to its input. Volumes are channels-last, as in the model."""
    volume = torch.randn(2, *grid, heads * HEAD).permute(0, 4, 1, 2, 3).requires_grad_()
    weight = torch.randn(heads * HEAD, 1, 3, 3, 3)
    stride = (1, 1, 1)

    def gradient(pooled: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(pooled, volume, torch.ones_like(pooled))[0]

    def ours() -> torch.Tensor:
        with torch.enable_grad():
            return gradient(DepthwiseConvolution.apply(volume, weight, stride))

    def plain() -> torch.Tensor:
        with torch.enable_grad():
            return gradient(nn.functional.conv3d(volume, weight, padding=1, groups=heads * HEAD))

    return ours, plain


def report(name: str, ours: Callable[[], torch.Tensor], plain: Callable[[], torch.Tensor], repeats: int) -> None:
    """Measure both ways in turn and print milliseconds and the ratio."""
    best = best_seconds({"ours": ours, "plain": plain}, repeats)
    milliseconds = {side: 1000 * seconds for side, seconds in best.items()}
    ratio = best["plain"] / best["ours"]
    rounded = {f"{side}_ms": round(value, 1) for side, value in milliseconds.items()}
    write({"part": name, **rounded, "ratio": round(ratio, 2), "threads": torch.get_num_threads()})


if __name__ == "__main__":
    main()
