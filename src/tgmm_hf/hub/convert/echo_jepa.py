"""The layout of EchoJEPA's checkpoints: V-JEPA 2's encoder, as its training code writes it."""

import re
from collections.abc import Mapping

import torch

from tgmm_hf.encoders.configuration_echo_jepa import EchoJepaConfig
from tgmm_hf.encoders.modeling_echo_jepa import EchoJepaModel
from tgmm_hf.hub.convert.encoders import Converted
from tgmm_hf.hub.convert.renaming import ConversionError, build, rename, require, split_rows

WRAPPERS = ("module.", "backbone.")
"""Prefixes of the names: of distributed training, and of a wrapper for several sequence lengths."""
RENAMES = (
    (r"^patch_embed\.proj\.", "encoder.embeddings.patch_embeddings.proj."),
    (r"^blocks\.(\d+)\.", r"encoder.layer.\1."),
    (r"\.attn\.(query|key|value|proj)\.", r".attention.\1."),
    (r"^norm\.", "encoder.layernorm."),
)
HEADS = {1024: 16, 1280: 16, 1408: 22}
"""Width -> number of attention heads of ViT-L (EchoJEPA-L), ViT-H and ViT-g (EchoJEPA-G). No tensor shows it."""


def echo_jepa(weights: Mapping[str, torch.Tensor], num_attention_heads: int | None = None) -> Converted:
    """Convert an EchoJEPA encoder to [`EchoJepaModel`]. Sizes are read from the shapes, but not those of a clip.

    The rotary positions fit any clip. The configuration says 16 frames of 224 pixels, as the published probes use.

    Args:
        weights: Published name -> tensor: the entry "target_encoder" of the file.
        num_attention_heads: Number of attention heads, for a width that is not published. None takes `HEADS`.

    Raises:
        ConversionError: If the tensors are not those of EchoJEPA, or if the number of heads is not known.
    """
    plain = dict(weights)
    for prefix in WRAPPERS:
        plain = {name.removeprefix(prefix): tensor for name, tensor in plain.items()}
    first = "blocks.0.mlp.fc1.weight"
    require(plain, ["patch_embed.proj.weight", "blocks.0.attn.qkv.weight", first, "norm.weight"], "EchoJEPA")
    if "pos_embed" in plain:
        raise ConversionError(
            "pos_embed", "EchoJEPA has rotary positions and no tensor of this name, so this is another V-JEPA."
        )
    patch = plain["patch_embed.proj.weight"]
    if patch.ndim != 5:
        raise ConversionError(
            "patch_embed.proj.weight", f"it has {patch.ndim} axes, expected 5, because patches span several frames."
        )
    width, heads = len(patch), num_attention_heads or HEADS.get(len(patch))
    if heads is None:
        raise ConversionError(
            "blocks",
            f"the layers are {width} wide, and no tensor shows the number of attention heads. The published sizes are "
            f"{', '.join(map(str, HEADS))}. Give `echo_jepa` in hub/convert/echo_jepa.py num_attention_heads.",
        )
    config = EchoJepaConfig(
        patch_size=patch.shape[3],
        tubelet_size=patch.shape[2],
        in_chans=patch.shape[1],
        hidden_size=width,
        num_attention_heads=heads,
        num_hidden_layers=len({match[1] for name in plain if (match := re.match(r"blocks\.(\d+)\.", name))}),
        mlp_ratio=_ratio(width, len(plain[first])),
    )
    renamed = rename(
        split_rows(plain, r"\.attn\.qkv\.", [f".attn.{part}." for part in ("query", "key", "value")]), RENAMES
    )
    change = "The clip's size is not in the file: 16 frames of 224 pixels, as the published probes use"
    return Converted(build(lambda: EchoJepaModel(config), renamed), changes=[change])


def _ratio(width: int, hidden: int) -> float:
    """Return the ratio that gives `hidden` when it is multiplied by `width` and cut to a whole number."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else (hidden + 0.5) / width
