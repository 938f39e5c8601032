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


# ---- EchoJEPA


def echo_jepa_weights(width: int = 128, depth: int = 2, patch: int = 16, seed: int = 0) -> Weights:
    """Make the tensors of `target_encoder` (published: 1,024 or 1,408 wide, 24 or 40 blocks, patches of 16 pixels)."""
    normal = normal_numbers(seed)
    weights = {"patch_embed.proj.weight": normal(width, 3, 2, patch, patch), "patch_embed.proj.bias": normal(width)}
    for block in range(depth):
        prefix = f"blocks.{block}"
        for name, rows, columns in (
            ("attn.qkv", 3 * width, width),
            ("attn.proj", width, width),
            ("mlp.fc1", 2 * width, width),
            ("mlp.fc2", width, 2 * width),
        ):
            weights |= linear_weights(f"{prefix}.{name}", rows, columns, normal)
        for name in ("norm1", "norm2"):
            weights |= norm_weights(f"{prefix}.{name}", width, normal)
    weights |= norm_weights("norm", width, normal)
    return {f"module.backbone.{name}": tensor for name, tensor in weights.items()}


def rotate(x: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Rotate pairs of neighbouring features (batch, tokens, heads, size) by their place (tokens,), as V-JEPA 2 does.

    The angles of the first and of the second half of the features are the same, so that the two features of a pair have
    different angles. So has the published code.
    """
    half = x.shape[-1] // 2
    angle = place[:, None] / 10000 ** (torch.arange(half) / half)
    angle = torch.cat([angle, angle], dim=-1)[:, None]
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = torch.stack([-odd, even], dim=-1).flatten(-2)
    return x * angle.cos() + turned * angle.sin()


def echo_jepa_tokens(clips: torch.Tensor, weights: Weights, heads: int, depth: int = 2) -> torch.Tensor:
    """Compute EchoJEPA's tokens of clips (batch, frames, 3, height, width): time, rows and columns, in this order."""
    weights = {name.removeprefix("module.backbone."): tensor for name, tensor in weights.items()}
    kernel = weights["patch_embed.proj.weight"]
    patch = kernel.shape[-1]
    blocks = clips.unfold(1, 2, 2).unfold(3, patch, patch).unfold(4, patch, patch)  # b t c y x | 2 p p
    grid = blocks.shape[1], blocks.shape[3], blocks.shape[4]
    x = torch.einsum("btcyxfhw,dcfhw->btyxd", blocks, kernel) + weights["patch_embed.proj.bias"]
    x = x.flatten(1, 3)
    time, row, column = (axis.flatten() for axis in torch.meshgrid(*map(torch.arange, grid), indexing="ij"))
    for block in range(depth):
        prefix = f"blocks.{block}"
        normed = layer_norm(x, weights, f"{prefix}.norm1", eps=1e-6)
        qkv = linear(normed, weights, f"{prefix}.attn.qkv").unflatten(-1, (3, heads, -1))
        q, k, v = qkv.unbind(2)
        size = q.shape[-1] // 3 // 2 * 2
        for start, place in ((0, time), (size, row), (2 * size, column)):
            part = slice(start, start + size)
            q, k = q.clone(), k.clone()
            q[..., part], k[..., part] = rotate(q[..., part], place), rotate(k[..., part], place)
        x = x + linear(attend(q, k, v), weights, f"{prefix}.attn.proj")
        hidden = gelu(linear(layer_norm(x, weights, f"{prefix}.norm2", eps=1e-6), weights, f"{prefix}.mlp.fc1"))
        x = x + linear(hidden, weights, f"{prefix}.mlp.fc2")
    return layer_norm(x, weights, "norm", eps=1e-6)


# ---- PanEcho

PAN_ECHO_DEPTHS, PAN_ECHO_WIDTHS = (1, 1, 2, 1), (8, 16, 24, 32)


def sines(frames: int, width: int) -> torch.Tensor:
    """Compute the fixed positions of a transformer (frames, width), one number at a time."""
    return torch.tensor(
        [
            [(math.sin, math.cos)[i % 2](frame / 10000 ** (i // 2 * 2 / width)) for i in range(width)]
            for frame in range(frames)
        ]
    )


def pan_echo_weights(depth: int = 2, frames: int = 4, seed: int = 0) -> Weights:
    """Make the tensors of `weights` (published: ConvNeXt-tiny, 4 layers of 768, 16 frames, 39 heads)."""
    normal = normal_numbers(seed)
    weights: Weights = {}
    previous = 3
    for stage, (blocks, width) in enumerate(zip(PAN_ECHO_DEPTHS, PAN_ECHO_WIDTHS, strict=True)):
        name = f"features.{2 * stage}"
        if stage == 0:
            weights |= {f"{name}.0.weight": normal(width, 3, 4, 4), f"{name}.0.bias": normal(width)}
            weights |= norm_weights(f"{name}.1", width, normal)
        else:
            weights |= norm_weights(f"{name}.0", previous, normal)
            weights |= {f"{name}.1.weight": normal(width, previous, 2, 2), f"{name}.1.bias": normal(width)}
        for block in range(blocks):
            name = f"features.{2 * stage + 1}.{block}"
            weights |= {f"{name}.block.0.weight": normal(width, 1, 7, 7), f"{name}.block.0.bias": normal(width)}
            weights |= norm_weights(f"{name}.block.2", width, normal)
            weights |= linear_weights(f"{name}.block.3", 4 * width, width, normal)
            weights |= linear_weights(f"{name}.block.5", width, 4 * width, normal)
            weights[f"{name}.layer_scale"] = normal(width)[:, None, None]
        previous = width
    weights |= norm_weights("classifier.0", previous, normal)
    weights = {f"encoder.encoder.model.{name}": tensor for name, tensor in weights.items()}
    for layer in range(depth):
        prefix = f"encoder.transformer.layers.{layer}"
        weights[f"{prefix}.self_attn.in_proj_weight"] = normal(3 * previous, previous)
        weights[f"{prefix}.self_attn.in_proj_bias"] = normal(3 * previous)
        for name, rows in (("self_attn.out_proj", previous), ("linear1", 40), ("linear2", previous)):
            weights |= linear_weights(f"{prefix}.{name}", rows, 40 if name == "linear2" else previous, normal)
        for name in ("norm1", "norm2"):
            weights |= norm_weights(f"{prefix}.{name}", previous, normal)
    weights["encoder.time_encoder.pe"] = sines(frames, previous)[None]
    weights |= linear_weights("EF_head.1", 1, previous, normal)
    return weights | linear_weights("LVSize_head.1", 3, previous, normal)


def convolve_image(x: torch.Tensor, weights: Weights, name: str, step: int) -> torch.Tensor:
    """Convolve images (batch, rows, columns, in) without overlap: patches of step x step pixels."""
    patches = x.unfold(1, step, step).unfold(2, step, step)  # b y x c | s s
    return torch.einsum("byxcij,ocij->byxo", patches, weights[f"{name}.weight"]) + weights[f"{name}.bias"]


def pan_echo_frame(x: torch.Tensor, weights: Weights) -> torch.Tensor:
    """Compute ConvNeXt's pooled features (batch, width) of frames (batch, 3, height, width)."""
    x = x.permute(0, 2, 3, 1)
    for stage, blocks in enumerate(PAN_ECHO_DEPTHS):
        name = f"features.{2 * stage}"
        if stage == 0:
            x = layer_norm(convolve_image(x, weights, f"{name}.0", 4), weights, f"{name}.1", eps=1e-6)
        else:
            x = convolve_image(layer_norm(x, weights, f"{name}.0", eps=1e-6), weights, f"{name}.1", 2)
        for block in range(blocks):
            name = f"features.{2 * stage + 1}.{block}"
            padded = torch.nn.functional.pad(x, (0, 0, 3, 3, 3, 3))
            windows = padded.unfold(1, 7, 1).unfold(2, 7, 1)  # b y x c | 7 7
            mixed = torch.einsum("byxcij,cij->byxc", windows, weights[f"{name}.block.0.weight"][:, 0])
            mixed = layer_norm(mixed + weights[f"{name}.block.0.bias"], weights, f"{name}.block.2", eps=1e-6)
            hidden = gelu(linear(mixed, weights, f"{name}.block.3"))
            x = x + weights[f"{name}.layer_scale"].flatten() * linear(hidden, weights, f"{name}.block.5")
    return layer_norm(x.mean((1, 2)), weights, "classifier.0", eps=1e-6)


def pan_echo_tokens(clips: torch.Tensor, weights: Weights, heads: int, depth: int = 2) -> torch.Tensor:
    """Compute PanEcho's tokens (batch, frames, width) of clips (batch, frames, 3, height, width)."""
    weights = {name.removeprefix("encoder."): tensor for name, tensor in weights.items()}
    frames = {name.removeprefix("encoder.model."): tensor for name, tensor in weights.items()}
    x = pan_echo_frame(clips.flatten(0, 1), frames).unflatten(0, clips.shape[:2])
    x = x + sines(clips.shape[1], x.shape[-1])
    for layer in range(depth):
        prefix = f"transformer.layers.{layer}"
        qkv = torch.einsum("bti,oi->bto", x, weights[f"{prefix}.self_attn.in_proj_weight"])
        qkv = (qkv + weights[f"{prefix}.self_attn.in_proj_bias"]).unflatten(-1, (3, heads, -1))
        x = x + linear(attend(*qkv.unbind(2)), weights, f"{prefix}.self_attn.out_proj")
        x = layer_norm(x, weights, f"{prefix}.norm1")
        hidden = linear(x, weights, f"{prefix}.linear1").clamp(min=0)
        x = layer_norm(x + linear(hidden, weights, f"{prefix}.linear2"), weights, f"{prefix}.norm2")
    return x


# ---- ECG-FM


def ecg_fm_weights(
    width: int = 32, depth: int = 2, channels: int = 24, old_names: bool = False, seed: int = 0
) -> Weights:
    """Make the tensors of `model` (published: 768 wide, 12 layers, 4 convolutions of 256 channels)."""
    normal = normal_numbers(seed)
    weights: Weights = {"mask_emb": normal(width)}
    for index in range(4):
        weights[f"feature_extractor.conv_layers.{index}.0.weight"] = normal(channels, channels if index else 12, 2)
    weights |= norm_weights("feature_extractor.conv_layers.0.2", channels, normal)
    weights |= norm_weights("layer_norm", channels, normal)
    weights |= linear_weights("post_extract_proj", width, channels, normal)
    parts = ("weight_g", "weight_v") if old_names else [f"parametrizations.weight.original{part}" for part in (0, 1)]
    position = "conv_pos.pos_conv.0"
    weights |= {f"{position}.{parts[0]}": 1 + normal(1, 1, 128).abs(), f"{position}.{parts[1]}": normal(width, 2, 128)}
    weights[f"{position}.bias"] = normal(width)
    for layer in range(depth):
        prefix = f"encoder.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            weights |= linear_weights(f"{prefix}.self_attn.{name}", width, width, normal)
        weights |= linear_weights(f"{prefix}.fc1", 2 * width, width, normal)
        weights |= linear_weights(f"{prefix}.fc2", width, 2 * width, normal)
        for name in ("self_attn_layer_norm", "final_layer_norm"):
            weights |= norm_weights(f"{prefix}.{name}", width, normal)
    weights |= norm_weights("encoder.layer_norm", width, normal)
    for name, rows, columns in (("project_q", 16, 16), ("final_proj", 16, width)):
        weights |= linear_weights(name, rows, columns, normal)
    weights |= linear_weights("quantizer.weight_proj", 20, channels, normal)
    return weights | {"quantizer.vars": normal(1, 20, 8)}


def ecg_fm_tokens(ecg: torch.Tensor, weights: Weights, heads: int, depth: int = 2) -> torch.Tensor:
    """Compute ECG-FM's tokens (batch, 156, width) of ECGs (batch, 12, 2500)."""
    x = ecg
    for index in range(4):
        x = convolve(x, weights[f"feature_extractor.conv_layers.{index}.0.weight"], 2)
        if index == 0:  # each channel is standardised over time
            name = "feature_extractor.conv_layers.0.2"
            x = (x - x.mean(2, keepdim=True)) / (x.var(2, correction=0, keepdim=True) + 1e-5).sqrt()
            x = x * weights[f"{name}.weight"][:, None] + weights[f"{name}.bias"][:, None]
        x = gelu(x)
    x = linear(layer_norm(x.transpose(1, 2), weights, "layer_norm"), weights, "post_extract_proj")
    x = x + position_convolution(x, weights, "conv_pos.pos_conv.0")
    x = layer_norm(x, weights, "encoder.layer_norm")
    for layer in range(depth):
        prefix = f"encoder.layers.{layer}"
        q, k, v = (
            linear(x, weights, f"{prefix}.self_attn.{name}_proj").unflatten(-1, (heads, -1)) for name in ("q", "k", "v")
        )
        x = x + linear(attend(q, k, v), weights, f"{prefix}.self_attn.out_proj")
        x = layer_norm(x, weights, f"{prefix}.self_attn_layer_norm")
        hidden = gelu(linear(x, weights, f"{prefix}.fc1"))
        x = layer_norm(x + linear(hidden, weights, f"{prefix}.fc2"), weights, f"{prefix}.final_layer_norm")
    return x
