"""The layout of MoRE's checkpoint: two vision transformers, RoBERTa with PEFT's adapters, three projections."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from tgmm_hf.families.more.configuration_more import MoreConfig
from tgmm_hf.families.more.modeling_more import MoreModel
from tgmm_hf.families.more.processing_more import MoreProcessor
from tgmm_hf.hub.convert.encoders import Converted
from tgmm_hf.hub.convert.renaming import ConversionError, build, rename, require, take
from tgmm_hf.inputs.feature_extraction_more import MoreFeatureExtractor
from tgmm_hf.inputs.image_processing_xray import MoreImageProcessor

TITLE = "MoRE"
HEAD_SIZE = 64
"""Width of an attention head of the three encoders. The file does not tell it."""
LORA_ALPHA = 8
"""`lora_alpha` of the published training script. The file does not tell it."""
MIMIC_LEADS = ["I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6"]
"""Lead order of MIMIC-IV-ECG, on which the published weights were trained."""
TEXT = "text_model.base_model.model."
BLOCKS = (
    (r"^(xray|ecg)_model\.vit_model\.", r"\1_encoder."),
    (r"\.blocks\.(\d+)\.norm1\.", r".layers.\1.layernorm_before."),
    (r"\.blocks\.(\d+)\.norm2\.", r".layers.\1.layernorm_after."),
    (r"\.blocks\.(\d+)\.attn\.proj\.", r".layers.\1.attention.o_proj."),
    (r"\.blocks\.(\d+)\.attn\.([qkv])_proj\.", r".layers.\1.attention.\2_proj."),
    (r"\.blocks\.(\d+)\.mlp\.", r".layers.\1.mlp."),
    (r"^(xray|ecg)_encoder\.norm\.", r"\1_encoder.layernorm."),
    (r"^(xray|ecg)_encoder\.cls_token$", r"\1_encoder.embeddings.cls_token"),
    (r"^(xray|ecg)_encoder\.pos_embed$", r"\1_encoder.embeddings.position_embeddings"),
    (r"^xray_encoder\.patch_embed\.proj\.", "xray_encoder.embeddings.patch_embeddings.projection."),
    (r"^ecg_encoder\.patch_embed\.conv([12])\.0\.", r"ecg_encoder.embeddings.conv\1."),
    (r"^ecg_encoder\.patch_embed\.conv([12])\.2\.", r"ecg_encoder.embeddings.norm\1."),
)
PROJECTIONS = (
    (r"^projector_(xray|ecg)_text\.", r"\1_projection."),
    (r"^projector_text\.", "text_projection."),
    (r"_projection\.layers\.0\.linear\.", "_projection.linear1."),
    (r"_projection\.layers\.0\.bn\.", "_projection.norm1."),
    (r"_projection\.layers\.2\.linear\.", "_projection.linear2."),
    (r"_projection\.layers\.2\.bn\.", "_projection.norm2."),
)
ADAPTERS = (
    (r"^text_model\.base_model\.model\.", "text_encoder."),
    (r"\.base_layer\.", "."),  # newer versions of PEFT
    (r"\.lora_A\.default\.weight$", ".low_rank_in"),
    (r"\.lora_B\.default\.weight$", ".low_rank_out"),
)


def more_checkpoint(weights: Mapping[str, torch.Tensor]) -> Converted:
    """Convert MoRE's `model.state_dict()` to [`MoreModel`]. Sizes are read from the shapes.

    Args:
        weights: Published name -> tensor.

    Raises:
        ConversionError: If the tensors do not belong to MoRE.
    """
    plain = dict(weights)
    embeddings = f"{TEXT}embeddings.word_embeddings.weight"
    needed = [
        "xray_model.vit_model.pos_embed",
        "ecg_model.vit_model.pos_embed",
        "projector_text.layers.0.linear.weight",
    ]
    require(plain, [*needed, "xray_model.vit_model.patch_embed.proj.weight", embeddings], TITLE)
    require(plain, ["ecg_model.vit_model.patch_embed.conv1.0.weight", f"{TEXT}embeddings.LayerNorm.weight"], TITLE)
    config = _config(plain)
    dropped = list(take(plain, [f"{TEXT}pooler.", f"{TEXT}embeddings.position_ids"]))
    renamed = rename(_split_qkv(plain), (*BLOCKS, *PROJECTIONS, *ADAPTERS))
    renamed["logit_scale"] = -torch.tensor(float(config.temperature)).log()
    model = build(lambda: MoreModel(config), renamed)
    _fill_buffers(model)
    converted = Converted(model, dropped)
    converted.changes += [
        "Query, key and value of the vision transformers are three matrices here and one in the file. All numbers are "
        "unchanged.",
        f"The scale of the adapters is {LORA_ALPHA} / {config.lora_rank}, as in the training script, because the file "
        "does not tell it.",
    ]
    return converted


def _fill_buffers(model: Any) -> None:
    """Set the buffers of RoBERTa that no file holds, in place, because `build` allocates none."""
    embeddings = model.text_encoder.embeddings
    positions = torch.arange(embeddings.position_ids.shape[1])[None]
    embeddings.position_ids, embeddings.token_type_ids = positions, torch.zeros_like(positions)


def published_processor(config: MoreConfig, tokenizer: str | Path) -> MoreProcessor:
    """Build the processor that prepares inputs as in the published training.

    Args:
        config: Configuration of the converted model.
        tokenizer: Directory or Hub repository of RoBERTa's tokenizer.

    Raises:
        ConversionError: If the tokenizer has another number of tokens than the text encoder.
    """
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    text = config.text_config
    if len(loaded) != text.vocab_size:  # type: ignore[union-attr]
        raise ConversionError(
            "tokenizer",
            f"The tokenizer has {len(loaded)} tokens and the text encoder {text.vocab_size}. "  # type: ignore[union-attr]
            "MoRE's text encoder takes the tokenizer of roberta-base.",
        )
    return MoreProcessor(
        MoreImageProcessor(size=config.xray_config.image_size),  # type: ignore[union-attr]
        MoreFeatureExtractor(num_samples=config.ecg_config.seq_length, lead_order=MIMIC_LEADS),  # type: ignore[union-attr]
        loaded,
        max_text_tokens=text.max_position_embeddings - 2,  # type: ignore[union-attr]
        pad_to_max=True,
    )


def _split_qkv(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Split each tensor `attn.qkv` into the tensors `attn.q_proj`, `attn.k_proj` and `attn.v_proj`."""
    split: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        if ".attn.qkv." not in name:
            split[name] = tensor
            continue
        if len(tensor) % 3:
            raise ConversionError(name, f"It has {len(tensor)} rows, which are no three matrices of equal size.")
        for letter, part in zip("qkv", tensor.chunk(3), strict=True):
            split[name.replace(".qkv.", f".{letter}_proj.")] = part.clone()
    return split


def _config(weights: Mapping[str, torch.Tensor]) -> MoreConfig:
    """Read the sizes of the model from the shapes of its tensors."""
    patch = weights["xray_model.vit_model.patch_embed.proj.weight"]
    side = round((weights["xray_model.vit_model.pos_embed"].shape[1] - 1) ** 0.5)
    stem = weights["ecg_model.vit_model.patch_embed.conv1.0.weight"]
    frames = weights["ecg_model.vit_model.pos_embed"].shape[1] - 1
    kernel = stem.shape[2]
    words = weights[f"{TEXT}embeddings.word_embeddings.weight"]
    ranks = [len(tensor) for name, tensor in weights.items() if name.endswith("lora_A.default.weight")]
    if not ranks:
        raise ConversionError("checkpoint", "The text encoder has no adapters (lora_A), which MoRE's has.")
    layer = f"{TEXT}encoder.layer."
    return MoreConfig(
        xray_config={
            **_blocks(weights, "xray_model.vit_model.blocks."),
            "image_size": side * patch.shape[2],
            "patch_size": patch.shape[2],
            "num_channels": patch.shape[1],
        },
        ecg_config={
            **_blocks(weights, "ecg_model.vit_model.blocks."),
            "num_leads": stem.shape[1],
            "seq_length": (frames + kernel - 1) * kernel,
            "stem_size": len(stem),
            "stem_kernel": kernel,
        },
        text_config={
            "model_type": "roberta",
            "vocab_size": len(words),
            "hidden_size": words.shape[1],
            "num_attention_heads": max(words.shape[1] // HEAD_SIZE, 1),
            "num_hidden_layers": _count(weights, layer),
            "intermediate_size": len(weights.get(f"{layer}0.intermediate.dense.weight", words)),
            "max_position_embeddings": len(weights.get(f"{TEXT}embeddings.position_embeddings.weight", words)),
            "type_vocab_size": len(weights.get(f"{TEXT}embeddings.token_type_embeddings.weight", words[:1])),
            "layer_norm_eps": 1e-5,
        },
        projection_dim=len(weights.get("projector_text.layers.2.linear.weight", words)),
        mean_over_padding=True,
        learnable_temperature=False,
        lora_rank=ranks[0],
        lora_alpha=LORA_ALPHA,
    )


def _blocks(weights: Mapping[str, torch.Tensor], prefix: str) -> dict[str, int]:
    """Read the sizes of a vision transformer from the tensors whose names begin with `prefix`."""
    require(weights, [f"{prefix}0.attn.qkv.weight", f"{prefix}0.mlp.fc1.weight"], TITLE)
    width = weights[f"{prefix}0.attn.qkv.weight"].shape[1]
    return {
        "hidden_size": width,
        "num_attention_heads": max(width // HEAD_SIZE, 1),
        "num_hidden_layers": _count(weights, prefix),
        "intermediate_size": len(weights[f"{prefix}0.mlp.fc1.weight"]),
    }


def _count(weights: Mapping[str, torch.Tensor], prefix: str) -> int:
    """Count the numbers that follow `prefix` in the names of tensors, such as "prefix3."."""
    return len({int(match[1]) for name in weights if (match := re.match(rf"{re.escape(prefix)}(\d+)\.", name))})
