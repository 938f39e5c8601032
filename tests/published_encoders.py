"""Random weights in the layouts of published encoders, and what these encoders compute, written out once more.

Each function `*_weights` makes a state dict with the names and shapes of the published files, in small sizes. Each
function `*_tokens` computes the encoder's tokens from such a state dict, from the published description and without
any class of transformers.
"""

import math
from collections.abc import Callable

import torch

Weights = dict[str, torch.Tensor]
Normal = Callable[..., torch.Tensor]


def normal_numbers(seed: int) -> Normal:
    """Return a function that draws a tensor of a shape, with a spread that keeps the numbers of a network near one."""
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=generator) / max(math.prod(shape[1:]), 1) ** 0.5


def linear(x: torch.Tensor, weights: Weights, name: str) -> torch.Tensor:
    return torch.einsum("...i,oi->...o", x, weights[f"{name}.weight"]) + weights[f"{name}.bias"]


def layer_norm(x: torch.Tensor, weights: Weights, name: str, eps: float = 1e-5) -> torch.Tensor:
    centred = x - x.mean(-1, keepdim=True)
    unit = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    return unit * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def gelu(x: torch.Tensor) -> torch.Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attention of heads (batch, tokens, heads, size), joined again to (batch, tokens, heads x size)."""
    scores = (torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[-1])).softmax(-1)
    return torch.einsum("bhqk,bkhd->bqhd", scores, v).flatten(2)


def convolve(x: torch.Tensor, kernel: torch.Tensor, stride: int) -> torch.Tensor:
    """Convolution without padding: (batch, in, time) with (out, in, taps) -> (batch, out, steps)."""
    windows = x.unfold(2, kernel.shape[2], stride)
    return torch.einsum("bitk,oik->bot", windows, kernel)


def position_convolution(x: torch.Tensor, weights: Weights, name: str) -> torch.Tensor:
    """Grouped convolution over time with a normalised weight, as wav2vec 2.0 has it: (batch, tokens, width) stays.

    The weight is `original1` scaled so that each tap has the length `original0`. An even number of taps gives one step
    too many, which is dropped.
    """
    length, direction = (weights[f"{name}.parametrizations.weight.original{part}"] for part in (0, 1))
    kernel = length * direction / direction.square().sum((0, 1), keepdim=True).sqrt()
    width, of_group, taps = kernel.shape
    padded = torch.nn.functional.pad(x.transpose(1, 2), (taps // 2, taps // 2))
    groups = [
        convolve(part, kernel[start : start + of_group], 1)
        for start, part in zip(range(0, width, of_group), padded.split(of_group, dim=1), strict=True)
    ]
    moved = torch.cat(groups, dim=1) + weights[f"{name}.bias"][:, None]
    return gelu(moved[..., : x.shape[1]]).transpose(1, 2)


# ---- HuBERT-ECG

HUBERT_CONVOLUTIONS = ((10, 4), (3, 2), (3, 2), (2, 2), (2, 2))
"""Taps and stride of the convolutions for 100 Hz."""


def hubert_ecg_weights(
    width: int = 32, depth: int = 2, channels: int = 24, old_names: bool = False, seed: int = 0
) -> Weights:
    """Make the tensors of a pre-trained file (published: 512, 768 or 960 wide; 8, 12 or 16 layers; 512 channels)."""
    normal = normal_numbers(seed)
    weights = {"masked_spec_embed": normal(width)}
    for index, (taps, _) in enumerate(HUBERT_CONVOLUTIONS):
        weights[f"feature_extractor.conv_layers.{index}.conv.weight"] = normal(channels, channels if index else 1, taps)
    for name in ("feature_extractor.conv_layers.0.layer_norm", "feature_projection.layer_norm"):
        weights |= {f"{name}.weight": 1 + normal(channels) / 4, f"{name}.bias": normal(channels)}
    weights |= linear_weights("feature_projection.projection", width, channels, normal)
    position = "encoder.pos_conv_embed.conv"
    parts = ("weight_g", "weight_v") if old_names else [f"parametrizations.weight.original{part}" for part in (0, 1)]
    weights |= {f"{position}.{parts[0]}": 1 + normal(1, 1, 128).abs(), f"{position}.{parts[1]}": normal(width, 2, 128)}
    weights[f"{position}.bias"] = normal(width)
    weights |= norm_weights("encoder.layer_norm", width, normal)
    for layer in range(depth):
        prefix = f"encoder.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            weights |= linear_weights(f"{prefix}.attention.{name}", width, width, normal)
        weights |= linear_weights(f"{prefix}.feed_forward.intermediate_dense", 2 * width, width, normal)
        weights |= linear_weights(f"{prefix}.feed_forward.output_dense", width, 2 * width, normal)
        weights |= norm_weights(f"{prefix}.layer_norm", width, normal)
        weights |= norm_weights(f"{prefix}.final_layer_norm", width, normal)
    weights |= linear_weights("final_proj.0", 16, width, normal)
    return weights | {"label_embedding.0.weight": normal(100, 16)}


def linear_weights(name: str, rows: int, columns: int, normal: Normal) -> Weights:
    return {f"{name}.weight": normal(rows, columns), f"{name}.bias": normal(rows) / 4}


def norm_weights(name: str, width: int, normal: Normal) -> Weights:
    return {f"{name}.weight": 1 + normal(width) / 4, f"{name}.bias": normal(width) / 4}


def hubert_ecg_tokens(ecg: torch.Tensor, weights: Weights, heads: int, depth: int = 2) -> torch.Tensor:
    """Compute HuBERT-ECG's tokens (batch, 93, width) of ECGs (batch, 12, 500)."""
    x = ecg.reshape(len(ecg), 1, -1)  # one lead after the other
    for index, (_, stride) in enumerate(HUBERT_CONVOLUTIONS):
        x = convolve(x, weights[f"feature_extractor.conv_layers.{index}.conv.weight"], stride)
        if index == 0:  # each channel is standardised over time
            name = "feature_extractor.conv_layers.0.layer_norm"
            x = (x - x.mean(2, keepdim=True)) / (x.var(2, correction=0, keepdim=True) + 1e-5).sqrt()
            x = x * weights[f"{name}.weight"][:, None] + weights[f"{name}.bias"][:, None]
        x = gelu(x)
    x = layer_norm(x.transpose(1, 2), weights, "feature_projection.layer_norm")
    x = linear(x, weights, "feature_projection.projection")
    x = x + position_convolution(x, weights, "encoder.pos_conv_embed.conv")
    x = layer_norm(x, weights, "encoder.layer_norm")
    for layer in range(depth):
        prefix = f"encoder.layers.{layer}"
        q, k, v = (
            linear(x, weights, f"{prefix}.attention.{name}_proj").unflatten(-1, (heads, -1)) for name in ("q", "k", "v")
        )
        x = x + linear(attend(q, k, v), weights, f"{prefix}.attention.out_proj")
        x = layer_norm(x, weights, f"{prefix}.layer_norm")
        hidden = gelu(linear(x, weights, f"{prefix}.feed_forward.intermediate_dense"))
        x = layer_norm(
            x + linear(hidden, weights, f"{prefix}.feed_forward.output_dense"), weights, f"{prefix}.final_layer_norm"
        )
    return x
