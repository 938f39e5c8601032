"""Load the pretrained parts of Heartcare: a language model, Beat, and a SigLIP picture encoder."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel, SiglipVisionConfig, SiglipVisionModel

from ...utils.model_licences import describe_sources
from ..shared.part_loading import load_whole_part
from .modeling_beat import BeatModel


def load_parts(
    text: str | Path,
    beat: str | Path | None,
    vision: str | Path | None,
    dtype: torch.dtype = torch.float32,
    gguf_file: str | None = None,
) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """Load the parts of `HeartcareForConditionalGeneration.from_language_model`.

    Args:
        text: directory or Hub repository of a causal language model.
        beat: directory or Hub repository of a [`BeatModel`]; None for none.
        vision: directory or Hub repository of a SigLIP model, with or without its text tower; None for none.
        dtype: dtype of the language model's weights.
        gguf_file: file of the language model's weights in `text`, in the format GGUF; None for safetensors.

    Returns:
        Two dicts: the argument `parts`, and the settings of `HeartcareConfig` that describe them.

    Raises:
        ValueError: if weights are missing.
    """
    further = {} if gguf_file is None else {"gguf_file": gguf_file}
    sources: dict[str, str | Path] = {"text": text}
    parts: dict[str, nn.Module] = {"language_model": load_whole_part(AutoModelForCausalLM, text, dtype, **further)}
    if beat is not None:
        sources["beat"], parts["beat"] = beat, load_whole_part(BeatModel, beat)
    if vision is not None:
        config = SiglipVisionConfig.from_pretrained(vision)
        config.vision_use_head = False
        sources["vision"] = vision
        parts["vision_tower"] = load_whole_part(SiglipVisionModel, vision, config=config)
    names = {"text_config": "language_model", "beat_config": "beat", "vision_config": "vision_tower"}
    settings = {
        setting: part.config for setting, name in names.items() if isinstance(part := parts.get(name), PreTrainedModel)
    }
    return parts, {**settings, "encoder_sources": describe_sources(sources)}


__all__ = ["load_parts"]
