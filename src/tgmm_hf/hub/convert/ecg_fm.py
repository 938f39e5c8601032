"""The layout of ECG-FM's checkpoints: the wav2vec 2.0 of fairseq-signals, with twelve leads as input channels."""

import re
from collections.abc import Mapping
from typing import Any

import torch

from tgmm_hf.encoders.configuration_ecg_fm import EcgFmConfig
from tgmm_hf.encoders.modeling_ecg_fm import EcgFmModel
from tgmm_hf.hub.convert.encoders import Converted
from tgmm_hf.hub.convert.hubert_ecg import OLD_WEIGHT_NORM, position_sizes
from tgmm_hf.hub.convert.renaming import ConversionError, build, rename, require, take
from tgmm_hf.utils.names import LEADS

FINE_TUNED_PREFIX = "encoder."
"""A fine-tuned file holds the whole encoder under this prefix, and the layers under it once more."""
NOT_USED = ("mask_emb", "quantizer.", "project_q.", "final_proj.", "proj.")
"""Heads of pre-training and fine-tuning, and the vector of masked time steps."""
RENAMES = (
    (r"^feature_extractor\.conv_layers\.(\d+)\.0\.", r"feature_extractor.conv_layers.\1.conv."),
    (r"^feature_extractor\.conv_layers\.0\.2\.", "feature_extractor.conv_layers.0.layer_norm."),
    (r"^post_extract_proj\.", "feature_projection.projection."),
    (r"^layer_norm\.", "feature_projection.layer_norm."),
    (r"^conv_pos\.pos_conv\.0\.", "encoder.pos_conv_embed.conv."),
    (r"\.self_attn\.", ".attention."),
    (r"\.self_attn_layer_norm\.", ".layer_norm."),
    (r"\.fc1\.", ".feed_forward.intermediate_dense."),
    (r"\.fc2\.", ".feed_forward.output_dense."),
    *OLD_WEIGHT_NORM,
)
HEADS = {768: 12}
"""Width -> number of attention heads of the published size. No tensor shows this number."""
KERNELS = (2, 2, 2, 2)
"""Kernels of the published convolutions, whose strides are equal. No tensor shows the strides."""
EXPECTED = {"layer_norm_first": False, "extractor_mode": "default", "conv_bias": False}
"""Settings of the training that no tensor shows, and their values in the published description."""


def ecg_fm(
    weights: Mapping[str, torch.Tensor],
    num_attention_heads: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Converted:
    """Convert a pre-trained or fine-tuned ECG-FM to [`EcgFmModel`]. Sizes are read from the shapes.

    Args:
        weights: Published name -> tensor: the entry "model" of the file.
        num_attention_heads: Number of attention heads, for a width that is not published. None takes that of
            `settings`, or else `HEADS`.
        settings: Settings of the model in the file, the entry "model" of "cfg". None checks nothing.

    Raises:
        ConversionError: If the tensors are not those of ECG-FM, if the convolutions or the number of leads are others,
            if the number of heads is not known, or if a setting of `EXPECTED` is another one.
    """
    settings = settings or {}
    for name, value in EXPECTED.items():
        if settings.get(name, value) != value:
            raise ConversionError(
                f"cfg.model.{name}", f"it is {settings[name]!r}, and ECG-FM's published setting is {value!r}."
            )
    remaining = dict(weights)
    dropped = take(remaining, NOT_USED)
    if any(name.startswith(f"{FINE_TUNED_PREFIX}feature_extractor.") for name in remaining):
        remaining = {name.removeprefix(FINE_TUNED_PREFIX): tensor for name, tensor in remaining.items()}
        dropped |= {FINE_TUNED_PREFIX + name: tensor for name, tensor in take(remaining, NOT_USED).items()}
    first, convolution = "encoder.layers.0.fc1.weight", "feature_extractor.conv_layers.{}.0.weight"
    kernels = [remaining[convolution.format(index)] for index in range(9) if convolution.format(index) in remaining]
    require(remaining, ["post_extract_proj.weight", first, convolution.format(0)], "ECG-FM")
    sizes = tuple(kernel.shape[2] for kernel in kernels)
    if sizes != KERNELS or kernels[0].shape[1] != len(LEADS):
        raise ConversionError(
            "feature_extractor",
            f"the convolutions have kernels {sizes} over {kernels[0].shape[1]} leads, and the published weights have "
            f"{KERNELS} over {len(LEADS)}. This converter reads no other sizes.",
        )
    renamed = rename(remaining, RENAMES)
    width, groups, span = position_sizes(renamed, "ECG-FM")
    heads = num_attention_heads or settings.get("encoder_attention_heads") or HEADS.get(width)
    if heads is None:
        raise ConversionError(
            "encoder",
            f"the layers are {width} wide, and no tensor shows the number of attention heads. The published width is "
            f"{', '.join(map(str, HEADS))}. Give `ecg_fm` in hub/convert/ecg_fm.py num_attention_heads.",
        )
    config = EcgFmConfig(
        hidden_size=width,
        num_hidden_layers=len({m[1] for name in renamed if (m := re.match(r"encoder\.layers\.(\d+)\.", name))}),
        num_attention_heads=heads,
        intermediate_size=len(remaining[first]),
        conv_dim=[len(kernel) for kernel in kernels],
        conv_kernel=list(KERNELS),
        conv_stride=list(KERNELS),
        num_conv_pos_embeddings=span,
        num_conv_pos_embedding_groups=groups,
    )
    return Converted(build(lambda: EcgFmModel(config), renamed), list(dropped))
