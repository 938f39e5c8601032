"""The layouts of published checkpoints: renames of the tensors, and how sizes are read from their shapes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import ConvNextConfig, ConvNextForImageClassification, PreTrainedModel

from tgmm_hf.encoders.configuration_echo_mvit import EchoMvitConfig
from tgmm_hf.encoders.configuration_st_mem import StMemConfig
from tgmm_hf.encoders.modeling_echo_mvit import EchoMvitModel, EchoMvitModelWithProjection
from tgmm_hf.encoders.modeling_st_mem import StMemModel
from tgmm_hf.encoders.modeling_st_mem_pretraining import StMemForPreTraining
from tgmm_hf.hub.convert.renaming import ConversionError, build, join, rename, require, take
from tgmm_hf.utils.names import VIEWS

Weights = dict[str, torch.Tensor]

ST_MEM_BLOCK = (
    (r"\.attn\.norm\.", ".layernorm_before."),
    (r"\.attn\.fn\.to_qkv\.", ".attention.qkv."),
    (r"\.attn\.fn\.to_out\.0\.", ".attention.output."),
    (r"\.ff\.norm\.", ".layernorm_after."),
    (r"\.ff\.fn\.net\.0\.", ".mlp.fc1."),
    (r"\.ff\.fn\.net\.3\.", ".mlp.fc2."),
)
ST_MEM_ENCODER = (
    (r"^pos_embedding$", "embeddings.position_embeddings"),
    (r"^sep_embedding$", "embeddings.separator_embedding"),
    (r"^to_patch_embedding\.1\.", "embeddings.patch_norm."),
    (r"^to_patch_embedding\.2\.", "embeddings.patch_projection."),
    (r"^to_patch_embedding\.3\.", "embeddings.projection_norm."),
    (r"^block(\d+)\.", r"layers.\1."),
    *ST_MEM_BLOCK,
    (r"^norm\.", "layernorm."),
)
ST_MEM_DECODER = (
    (r"^mask_embedding$", "mask_embedding"),
    (r"^decoder_pos_embed$", "position_embeddings"),
    (r"^to_decoder_embedding\.", "embedding."),
    (r"^decoder_blocks\.", "layers."),
    *ST_MEM_BLOCK,
    (r"^decoder_norm\.", "layernorm."),
    (r"^decoder_head\.", "head."),
)
MVIT = (
    (r"^conv_proj\.", "embeddings.patch_embedding."),
    (r"^pos_encoding\.class_token$", "embeddings.class_token"),
    (r"^blocks\.", "layers."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.qkv\.", ".attention.qkv."),
    (r"\.attn\.project\.0\.", ".attention.output."),
    (r"\.attn\.rel_pos_([hwt])$", lambda m: f".attention.positions.table[{'hwt'.index(m[1])}]"),
    (r"\.attn\.pool_([qkv])\.pool\.weight$", lambda m: f".attention.pool.weight[{'qkv'.index(m[1])}]"),
    (
        r"\.attn\.pool_([qkv])\.norm_act\.0\.(weight|bias)$",
        lambda m: f".attention.pool.layernorm_{m[2]}[{'qkv'.index(m[1])}]",
    ),
    (r"\.mlp\.0\.", ".fc1."),
    (r"\.mlp\.3\.", ".fc2."),
    (r"^(layers\.\d+)\.project\.", r"\1.widen."),
    (r"^norm\.", "layernorm."),
)
CONVNEXT = (
    (r"^features\.0\.0\.", "convnext.embeddings.patch_embeddings."),
    (r"^features\.0\.1\.", "convnext.embeddings.layernorm."),
    (r"^features\.([246])\.(\d)\.", lambda m: f"convnext.encoder.stages.{int(m[1]) // 2}.downsampling_layer.{m[2]}."),
    (r"^features\.([1357])\.", lambda m: f"convnext.encoder.stages.{int(m[1]) // 2}.layers."),
    (r"\.block\.0\.", ".dwconv."),
    (r"\.block\.2\.", ".layernorm."),
    (r"\.block\.3\.", ".pwconv1."),
    (r"\.block\.5\.", ".pwconv2."),
    (r"\.layer_scale$", ".layer_scale_parameter"),
    (r"^classifier\.0\.", "convnext.layernorm."),
    (r"^classifier\.2\.", "classifier."),
)


@dataclass
class Converted:
    """The result of a conversion.

    Attributes:
        model: A model with the published weights.
        dropped: Names of the published tensors that the model does not use.
        settings: Settings of the pre-training that were read from the file, by their name in the configuration.
        changes: What was changed or decided beyond names, one sentence each.
    """

    model: PreTrainedModel
    dropped: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)


def st_mem(
    weights: Mapping[str, torch.Tensor], attention_head_size: int = 64, settings: Mapping[str, Any] | None = None
) -> Converted:
    """Convert ST-MEM's encoder file, a fine-tuned encoder, or the full masked autoencoder.

    Sizes and the number of leads are read from the shapes. The classification head of a fine-tuned encoder is dropped.

    Args:
        weights: Published name -> tensor.
        attention_head_size: Width of an attention head, which no shape shows. It is 64 in every published size.
        settings: Content of "config" in the file. `norm_pix_loss` and `mask_ratio` of the autoencoder are read from it,
            because no tensor shows them. None takes the published values.

    Returns:
        An `StMemModel`; for the full autoencoder an `StMemForPreTraining`.

    Raises:
        ConversionError: If the tensors are not those of ST-MEM.
    """
    remaining = dict(weights)
    if any(name.startswith("encoder.") for name in remaining):
        return _st_mem_autoencoder(remaining, attention_head_size, _masking_settings(settings or {}))
    head = take(remaining, ["head."])
    renamed, config = _st_mem_encoder(remaining, attention_head_size)
    return Converted(build(lambda: StMemModel(config), renamed), list(head))


def _masking_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Find `norm_pix_loss` and `mask_ratio` in the settings of a training, at any depth. Other values are not read."""
    masking: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            masking |= _masking_settings(value)
        elif _is_masking_setting(name, value):
            masking[name] = value
    return masking


def _is_masking_setting(name: str, value: Any) -> bool:
    """Tell whether a setting is one of the two that no tensor shows, and has a value that the model takes."""
    if name == "mask_ratio":
        return isinstance(value, float) and 0 < value < 1
    return name == "norm_pix_loss" and isinstance(value, bool)


def _st_mem_autoencoder(weights: Weights, head_size: int, settings: dict[str, Any]) -> Converted:
    """Convert the full masked autoencoder. Changes `weights` in place. `head_size` is the width of an attention head.

    Its file holds the encoder under "encoder." and a second copy of the patch embedding, which is dropped.

    Raises:
        ConversionError: If the tensors are not those of ST-MEM, or the two copies differ.
    """
    alias = take(weights, ["to_patch_embedding."])
    encoder = {name.removeprefix("encoder."): tensor for name, tensor in take(weights, ["encoder."]).items()}
    head = take(encoder, ["head."])
    for name, tensor in alias.items():
        if name not in encoder or not torch.equal(tensor, encoder[name]):
            raise ConversionError(name, f"this tensor should be a copy of encoder.{name}, but the two differ.")
    renamed, config = _st_mem_encoder(encoder, head_size)
    require(
        weights,
        ["mask_embedding", "to_decoder_embedding.weight", "decoder_blocks.0.attn.fn.to_qkv.weight"],
        "full ST-MEM",
    )
    width = weights["to_decoder_embedding.weight"].shape[0]
    sizes = _block_sizes(weights, "decoder_blocks.", width, head_size)
    weights["mask_embedding"] = weights["mask_embedding"].flatten()  # Published as (1, 1, width).
    config = StMemConfig(
        **_sizes_of(config),
        decoder_hidden_size=width,
        decoder_num_hidden_layers=sizes["layers"],
        decoder_num_attention_heads=sizes["heads"],
        decoder_intermediate_size=sizes["intermediate"],
        **settings,
    )
    tensors = {f"st_mem.{name}": tensor for name, tensor in renamed.items()}
    tensors |= {f"decoder.{name}": tensor for name, tensor in rename(weights, ST_MEM_DECODER).items()}
    model = build(lambda: StMemForPreTraining(config), tensors)
    return Converted(model, [*alias, *(f"encoder.{name}" for name in head)], settings)


def _st_mem_encoder(weights: Weights, head_size: int) -> tuple[Weights, StMemConfig]:
    """Rename the tensors of the encoder, and read its configuration from their shapes. Changes `weights` in place."""
    require(weights, ["pos_embedding", "to_patch_embedding.2.weight", "block0.attn.fn.to_qkv.weight"], "ST-MEM")
    hidden_size, patch_size = weights["to_patch_embedding.2.weight"].shape
    num_patches = weights["pos_embedding"].shape[1] - 2
    sizes = _block_sizes(weights, "block", hidden_size, head_size)
    leads = take(weights, ["lead_embeddings."])
    in_order = [leads[f"lead_embeddings.{lead}"] for lead in range(len(leads)) if f"lead_embeddings.{lead}" in leads]
    if not leads or len(in_order) != len(leads):
        raise ConversionError(
            "lead_embeddings", f"expected lead_embeddings.0, .1, ... without a gap, got {list(leads)}."
        )
    renamed = rename(weights, ST_MEM_ENCODER)
    renamed["embeddings.lead_embeddings"] = torch.stack(in_order)
    config = StMemConfig(
        num_leads=len(leads),
        seq_length=num_patches * patch_size,
        patch_size=patch_size,
        hidden_size=hidden_size,
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"],
        attention_head_size=head_size,
        intermediate_size=sizes["intermediate"],
    )
    return renamed, config


def _sizes_of(config: StMemConfig) -> dict[str, Any]:
    """Return the sizes of an encoder as keyword arguments for another `StMemConfig`."""
    names = ("num_leads", "seq_length", "patch_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
    return {name: getattr(config, name) for name in (*names, "attention_head_size", "intermediate_size")}


def _block_sizes(weights: Weights, prefix: str, width: int, head_size: int) -> dict[str, int]:
    """Read "layers", "heads" and "intermediate" (width of the MLP) from the tensors whose names begin with `prefix`.

    The published code has no output projection if a block has one head that is as wide as the model. In this case an
    identity is added to `weights`, in place.

    Raises:
        ConversionError: If a block is missing, or the width is no multiple of `head_size`.
    """
    indices = {int(m[1]) for name in weights if (m := re.match(rf"{re.escape(prefix)}(\d+)\.", name))}
    layers = len(indices)
    if indices != set(range(layers)):
        raise ConversionError(
            prefix, f"expected blocks {prefix}0, {prefix}1, ... without a gap, got {sorted(indices)}."
        )
    first = f"{prefix}0"
    require(weights, [f"{first}.attn.fn.to_qkv.weight", f"{first}.ff.fn.net.0.weight"], "ST-MEM")
    inner, remainder = divmod(weights[f"{first}.attn.fn.to_qkv.weight"].shape[0], 3)
    heads, rest = divmod(inner, head_size)
    if remainder or rest:
        raise ConversionError(
            f"{first}.attn.fn.to_qkv.weight",
            f"this tensor has {3 * inner + remainder} rows, expected 3 x heads x {head_size}, because published sizes "
            "have heads of width 64. Give `st_mem` in hub/convert/encoders.py another attention_head_size.",
        )
    if heads == 1 and inner == width:
        for index in range(layers):
            weights.setdefault(f"{prefix}{index}.attn.fn.to_out.0.weight", torch.eye(width))
            weights.setdefault(f"{prefix}{index}.attn.fn.to_out.0.bias", torch.zeros(width))
    return {"layers": layers, "heads": heads, "intermediate": weights[f"{first}.ff.fn.net.0.weight"].shape[0]}


def mvit_v2_s(weights: Mapping[str, torch.Tensor], keep_head: bool = False) -> Converted:
    """Convert torchvision's `mvit_v2_s` layout: EchoPrime's video encoder, or the Kinetics weights.

    The number of frames and the image size are read from the relative positions.

    Args:
        weights: Published name -> tensor.
        keep_head: Keep the last linear layer (EchoPrime: 768 -> 512).

    Returns:
        An `EchoMvitModel`; with the head an `EchoMvitModelWithProjection`.

    Raises:
        ConversionError: If the tensors are not those of an MViT-v2-S.
    """
    remaining = dict(weights)
    size_keys = ["blocks.0.attn.rel_pos_h", "blocks.0.attn.rel_pos_t", "head.1.weight"]
    require(remaining, size_keys, "MViT-v2-S")
    rows, frames = ((len(remaining[key]) + 1) // 2 for key in size_keys[:2])
    head = take(remaining, ["head.1."])
    renamed = join(rename(remaining, MVIT))
    # The stem divides the frames by 2, height and width by 4.
    config = EchoMvitConfig(image_size=4 * rows, num_frames=2 * frames)
    if not keep_head:
        return Converted(build(lambda: EchoMvitModel(config), renamed), list(head))
    config.projection_dim = len(head["head.1.weight"])
    tensors = {f"echo_mvit.{name}": tensor for name, tensor in renamed.items()}
    tensors |= rename(head, ((r"^head\.1\.", "projection."),))
    return Converted(build(lambda: EchoMvitModelWithProjection(config), tensors))


def convnext_views(weights: Mapping[str, torch.Tensor]) -> Converted:
    """Convert torchvision's ConvNeXt layout with 11 classes to transformers' `ConvNextForImageClassification`.

    Raises:
        ConversionError: If the tensors are not those of a ConvNeXt, or if the number of classes is not 11.
    """
    stages = [
        len({name.split(".")[2] for name in weights if name.startswith(f"features.{stage}.")}) for stage in (1, 3, 5, 7)
    ]
    require(weights, [*(f"features.{s}.0.block.0.weight" for s in (1, 3, 5, 7)), "classifier.2.weight"], "ConvNeXt")
    num_classes = len(weights["classifier.2.weight"])
    if num_classes != len(VIEWS):
        raise ConversionError(
            "classifier.2.weight", f"the classifier has {num_classes} classes, expected EchoPrime's {len(VIEWS)} views."
        )
    config = ConvNextConfig(
        depths=stages,
        hidden_sizes=[len(weights[f"features.{stage}.0.block.0.weight"]) for stage in (1, 3, 5, 7)],
        layer_norm_eps=1e-6,  # Of the last norm. The default of transformers differs from torchvision's.
        id2label=dict(enumerate(VIEWS)),
        label2id={view: index for index, view in enumerate(VIEWS)},
    )
    renamed = rename(weights, CONVNEXT)
    for name in [name for name in renamed if name.endswith("layer_scale_parameter")]:
        renamed[name] = renamed[name].flatten()  # Published as (C, 1, 1).
    return Converted(build(lambda: ConvNextForImageClassification(config), renamed))
