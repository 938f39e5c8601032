"""The layout of PanEcho's checkpoint: torchvision's ConvNeXt, PyTorch's transformer layers, and 39 task heads."""

import re
from collections.abc import Mapping

import torch

from tgmm_hf.encoders.configuration_pan_echo import PanEchoConfig
from tgmm_hf.encoders.modeling_pan_echo import PanEchoModel, frame_positions
from tgmm_hf.hub.convert.encoders import CONVNEXT, Converted
from tgmm_hf.hub.convert.renaming import ConversionError, build, rename, require, split_rows

WHOLE_MODEL = "encoder."
"""Prefix of the backbone in the published file, which holds task heads beside it."""
HEAD = re.compile(r".+_head\.1\.(weight|bias)")
FRAMES = "encoder.model."
POSITIONS = "time_encoder.pe"
POSITION_TOLERANCE = 1e-4
TEMPORAL = (
    (r"^transformer\.layers\.", "layers."),
    (r"\.self_attn\.out_proj\.", ".attention.output.dense."),
    (r"\.norm1\.", ".attention.output.LayerNorm."),
    (r"\.linear1\.", ".intermediate.dense."),
    (r"\.linear2\.", ".output.dense."),
    (r"\.norm2\.", ".output.LayerNorm."),
)
QUERY_KEY_VALUE = [rf".attention.self.{part}.\1" for part in ("query", "key", "value")]


def pan_echo(weights: Mapping[str, torch.Tensor], num_attention_heads: int = 8) -> Converted:
    """Convert PanEcho, or its backbone alone, to [`PanEchoModel`]. Sizes are read from the shapes.

    Args:
        weights: Published name -> tensor: the entry "weights" of the file.
        num_attention_heads: Number of attention heads, which no tensor shows. It is 8 in the published model.

    Raises:
        ConversionError: If the tensors are not those of PanEcho, or its positions are not the fixed ones.
    """
    heads = [name for name in weights if HEAD.fullmatch(name)]
    plain = {name: tensor for name, tensor in weights.items() if name not in heads}
    if any(name.startswith(WHOLE_MODEL + FRAMES) for name in plain):
        plain = {name.removeprefix(WHOLE_MODEL): tensor for name, tensor in plain.items()}
    first = "transformer.layers.0.linear1.weight"
    stages = [f"{FRAMES}features.{stage}.0.block.0.weight" for stage in (1, 3, 5, 7)]
    require(plain, [*stages, first], "PanEcho")
    positions = plain.pop(POSITIONS, None)
    hidden_size = plain[first].shape[1]
    num_frames = 16 if positions is None else positions.shape[1]
    if positions is not None:
        _check_positions(positions, hidden_size)
    config = PanEchoConfig(
        num_frames=num_frames,
        frame_depths=[_blocks(plain, stage) for stage in (1, 3, 5, 7)],
        frame_widths=[len(plain[name]) for name in stages],
        hidden_size=hidden_size,
        num_hidden_layers=len({m[1] for name in plain if (m := re.match(r"transformer\.layers\.(\d+)\.", name))}),
        num_attention_heads=num_attention_heads,
        intermediate_size=len(plain[first]),
    )
    frames = {name.removeprefix(FRAMES): tensor for name, tensor in plain.items() if name.startswith(FRAMES)}
    temporal = {name: tensor for name, tensor in plain.items() if not name.startswith(FRAMES)}
    renamed = rename(frames, (*CONVNEXT, (r"^convnext\.(encoder\.)?", "frames.")))
    for name in [name for name in renamed if name.endswith("layer_scale_parameter")]:
        renamed[name] = renamed[name].flatten()  # Published as (C, 1, 1).
    renamed |= rename(split_rows(temporal, r"\.self_attn\.in_proj_(weight|bias)$", QUERY_KEY_VALUE), TEMPORAL)
    dropped = [*heads, *([] if positions is None else [POSITIONS])]
    return Converted(build(lambda: PanEchoModel(config), renamed), dropped)


def _blocks(weights: Mapping[str, torch.Tensor], stage: int) -> int:
    """Count the blocks of a stage of the ConvNeXt."""
    start = f"{FRAMES}features.{stage}."
    return len({name.removeprefix(start).split(".")[0] for name in weights if name.startswith(start)})


def _check_positions(positions: torch.Tensor, width: int) -> None:
    """Refuse positions (1, frames, width) other than the fixed ones, because the converted model computes these.

    Raises:
        ConversionError: If they differ.
    """
    expected = frame_positions(positions.shape[1], width)
    difference = (
        (positions[0] - expected).abs().max() if positions[0].shape == expected.shape else torch.tensor(torch.inf)
    )
    if difference > POSITION_TOLERANCE:
        raise ConversionError(
            POSITIONS, f"the positions differ from PanEcho's sines and cosines by up to {float(difference):.2g}."
        )
