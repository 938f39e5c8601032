"""The Heartcare model of a training before the training: its language model, tokenizer, Beat and picture encoder."""

from collections.abc import Iterable
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase, SiglipVisionConfig

from tgmm_hf.data.ecg_reports import HEARTCARE, load_reporter
from tgmm_hf.data.report_tokenizer import report_tokenizer
from tgmm_hf.families.heartcare.configuration_beat import BeatConfig
from tgmm_hf.families.heartcare.configuration_heartcare import HeartcareConfig
from tgmm_hf.families.heartcare.heartcare_parts import load_stream_parts
from tgmm_hf.families.heartcare.modeling_heartcare import HeartcareForConditionalGeneration
from tgmm_hf.families.heartcare.processing_heartcare import HeartcareProcessor, add_ecg_tokens
from tgmm_hf.training.heartcare_arguments import HeartcareModelArguments
from tgmm_hf.training.settings_files import refuse_unknown_overrides

OVERRIDES = ("ecg_input", "beat_config", "vision_config")
"""Settings of `HeartcareConfig` that `model.overrides` may have."""


def build_heartcare(
    settings: HeartcareModelArguments, texts: Iterable[str]
) -> tuple[HeartcareForConditionalGeneration, HeartcareProcessor]:
    """Make the model before training, without adapters, and its processor.

    Args:
        settings: The model before training.
        texts: Questions and answers of the training split. A new language model learns its vocabulary from them.

    Raises:
        ValueError: If a setting of the model is unknown or wrong.
        OSError: If a source does not exist.
    """
    refuse_unknown_overrides(settings.overrides, () if settings.checkpoint else OVERRIDES)
    if settings.checkpoint is not None:
        return load_reporter(settings.checkpoint, HEARTCARE)
    try:
        model, tokenizer = _pretrained(settings) if settings.language_model else _new(settings, texts)
    except StrictDataclassError as error:  # a wrong type; this class is no ValueError
        raise ValueError(f"model.overrides: {error}") from error
    return model, HeartcareProcessor.for_model(model.config, tokenizer)


def _pretrained(
    settings: HeartcareModelArguments,
) -> tuple[HeartcareForConditionalGeneration, PreTrainedTokenizerBase]:
    """Build the model around a pretrained language model, with its tokenizer."""
    source = str(settings.language_model)
    further = {} if settings.gguf_file is None else {"gguf_file": settings.gguf_file}
    tokenizer = AutoTokenizer.from_pretrained(source, **further)
    model = HeartcareForConditionalGeneration.from_language_model(
        source,
        settings.beat,
        settings.vision,
        dtype=getattr(torch, settings.dtype),
        gguf_file=settings.gguf_file,
        **{**settings.overrides, **add_ecg_tokens(tokenizer, _num_codes(settings))},
    )
    return model, tokenizer


def _new(
    settings: HeartcareModelArguments, texts: Iterable[str]
) -> tuple[HeartcareForConditionalGeneration, PreTrainedTokenizerBase]:
    """Build the model around a new language model with random weights, whose vocabulary is learned from `texts`."""
    if "model_type" not in settings.text_config:
        raise ValueError("model.text_config needs model_type, such as llama, and the sizes of the language model.")
    tokenizer = report_tokenizer(texts, settings.vocab_size)
    tokens = add_ecg_tokens(tokenizer, _num_codes(settings))
    ends = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    text = AutoConfig.for_model(**{**settings.text_config, "vocab_size": tokens.pop("vocab_size"), **ends})
    parts, described = load_stream_parts(settings.beat, settings.vision)
    model = HeartcareForConditionalGeneration(
        HeartcareConfig(**{"text_config": text, **settings.overrides, **described, **tokens}), parts
    )
    for name, value in ends.items():
        setattr(model.generation_config, name, value)
    return model, tokenizer


def _num_codes(settings: HeartcareModelArguments) -> int:
    """Count the words for codes that the tokenizer needs: 0 if the latents enter."""
    if settings.overrides.get("ecg_input") != "codes":
        return 0
    beat: Any = settings.overrides.get("beat_config")
    if settings.beat:
        beat = BeatConfig.from_pretrained(settings.beat)
    # Only Beat's sizes are read from this configuration.
    return HeartcareConfig(beat_config=beat, ecg_input="codes", vision_config=SiglipVisionConfig()).num_code_tokens
