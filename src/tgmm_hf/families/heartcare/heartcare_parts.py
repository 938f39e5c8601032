"""Load the pretrained parts of Heartcare: a language model, Beat, and a SigLIP picture encoder."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, SiglipVisionConfig, SiglipVisionModel

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
    language_model = load_whole_part(AutoModelForCausalLM, text, dtype, **further)
    parts, settings = load_stream_parts(beat, vision)
    sources = {"text": text, "beat": beat, "vision": vision}
    settings |= {"text_config": language_model.config, "encoder_sources": describe_sources(_without_none(sources))}
    return {"language_model": language_model, **parts}, settings


def load_stream_parts(
    beat: str | Path | None, vision: str | Path | None
) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """Load Beat and the picture encoder, as far as they are given.

    Args:
        beat: directory or Hub repository of a [`BeatModel`].
        vision: directory or Hub repository of a SigLIP model.

    Returns:
        Two dicts, as `load_parts` returns them.

    Raises:
        ValueError: if weights are missing.
    """
    parts: dict[str, nn.Module] = {}
    settings: dict[str, Any] = {}
    if beat is not None:
        parts["beat"] = load_whole_part(BeatModel, beat)
        settings["beat_config"] = parts["beat"].config
    if vision is not None:
        config = SiglipVisionConfig.from_pretrained(vision)
        config.vision_use_head = False
        parts["vision_tower"] = load_whole_part(SiglipVisionModel, vision, config=config)
        settings["vision_config"] = parts["vision_tower"].config
    sources = _without_none({"beat": beat, "vision": vision})
    return parts, {**settings, "encoder_sources": describe_sources(sources)} if sources else settings


def _without_none(sources: dict[str, str | Path | None]) -> dict[str, str | Path]:
    """Leave out what is not given."""
    return {name: source for name, source in sources.items() if source is not None}


__all__ = ["load_parts", "load_stream_parts"]
