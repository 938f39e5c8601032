"""The layout of HuBERT-ECG's checkpoints: transformers' HuBERT with parts of its pre-training or fine-tuning."""

import re
from collections.abc import Mapping

import torch

from tgmm_hf.encoders.configuration_ecg_hubert import EcgHubertConfig
from tgmm_hf.encoders.modeling_ecg_hubert import EcgHubertModel
from tgmm_hf.hub.convert.encoders import Converted
from tgmm_hf.hub.convert.renaming import ConversionError, build, rename, require, take

FINE_TUNED_PREFIX = "hubert_ecg."
"""A fine-tuned file holds the encoder under this prefix, and a classifier beside it."""
NOT_USED = ("final_proj.", "label_embedding.", "masked_spec_embed", "classifier.")
"""Heads of pre-training and fine-tuning, and the vector of masked time steps."""
OLD_WEIGHT_NORM = (
    (r"\.conv\.weight_g$", ".conv.parametrizations.weight.original0"),
    (r"\.conv\.weight_v$", ".conv.parametrizations.weight.original1"),
)
"""Older versions of PyTorch store the two parts of a normalised weight under other names."""
HEADS = {512: 8, 768: 12, 960: 12}
"""Width -> number of attention heads of the published sizes (small, base, large). No tensor shows this number."""
KERNELS, STRIDES = (10, 3, 3, 2, 2), (4, 2, 2, 2, 2)
"""Convolutions of the published weights, which read 100 Hz. No tensor shows the strides."""


def hubert_ecg(weights: Mapping[str, torch.Tensor], num_attention_heads: int | None = None) -> Converted:
    """Convert a pre-trained or fine-tuned HuBERT-ECG to [`EcgHubertModel`]. Sizes are read from the shapes.

    Args:
        weights: Published name -> tensor.
        num_attention_heads: Number of attention heads, for a width that is not published. None takes `HEADS`.

    Raises:
        ConversionError: If the tensors are not those of HuBERT-ECG, if the convolutions are those of another rate, or
            if the number of heads is not known.
    """
    remaining = {name.removeprefix(FINE_TUNED_PREFIX): tensor for name, tensor in weights.items()}
    dropped = take(remaining, NOT_USED)
    first = "encoder.layers.0.feed_forward.intermediate_dense.weight"
    require(remaining, ["feature_projection.projection.weight", "encoder.layer_norm.weight", first], "HuBERT-ECG")
    renamed = rename(remaining, OLD_WEIGHT_NORM)
    convolutions = _convolutions(renamed)
    kernels = tuple(tensor.shape[2] for tensor in convolutions)
    if kernels != KERNELS or convolutions[0].shape[1] != 1:
        raise ConversionError(
            "feature_extractor",
            f"the convolutions have kernels {kernels} over {convolutions[0].shape[1]} channel(s), and the published "
            f"weights for 100 Hz have {KERNELS} over 1. This converter reads no other rate.",
        )
    width, groups, span = position_sizes(renamed, "HuBERT-ECG")
    heads = num_attention_heads or HEADS.get(width)
    if heads is None:
        raise ConversionError(
            "encoder",
            f"the layers are {width} wide, and no tensor shows the number of attention heads. The published sizes are "
            f"{', '.join(map(str, HEADS))}. Give `hubert_ecg` in hub/convert/hubert_ecg.py num_attention_heads.",
        )
    layers = {int(match[1]) for name in renamed if (match := re.match(r"encoder\.layers\.(\d+)\.", name))}
    config = EcgHubertConfig(
        hidden_size=width,
        num_hidden_layers=len(layers),
        num_attention_heads=heads,
        intermediate_size=len(renamed[first]),
        conv_dim=[len(tensor) for tensor in convolutions],
        conv_kernel=list(KERNELS),
        conv_stride=list(STRIDES),
        num_conv_pos_embeddings=span,
        num_conv_pos_embedding_groups=groups,
    )
    return Converted(build(lambda: EcgHubertModel(config), renamed), list(dropped))


def _convolutions(weights: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    """List the weights of the convolutions, in order.

    Raises:
        ConversionError: If there is none, or one is missing between others.
    """
    by_number = {
        int(match[1]): tensor
        for name, tensor in weights.items()
        if (match := re.fullmatch(r"feature_extractor\.conv_layers\.(\d+)\.conv\.weight", name))
    }
    if not by_number or sorted(by_number) != list(range(len(by_number))):
        raise ConversionError(
            "feature_extractor", f"expected convolutions 0, 1, ... without a gap, got {sorted(by_number)}."
        )
    return [by_number[number] for number in range(len(by_number))]


def position_sizes(weights: Mapping[str, torch.Tensor], what: str) -> tuple[int, int, int]:
    """Read width, number of groups and kernel of the convolution that gives the positions; `what` is the model."""
    name = "encoder.pos_conv_embed.conv.parametrizations.weight.original1"
    require(weights, [name], what)
    width, of_group, span = weights[name].shape
    return width, width // of_group, span
