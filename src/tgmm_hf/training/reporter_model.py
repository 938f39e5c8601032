"""The MEIT model of a training before the training: its language model, tokenizer, ECG encoder and adapters."""

from collections.abc import Iterable
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from tgmm_hf.data.ecg_reports import MEIT, load_reporter
from tgmm_hf.data.report_tokenizer import ECG_TOKEN, report_tokenizer
from tgmm_hf.encoders.configuration_st_mem import StMemConfig
from tgmm_hf.families.meit.configuration_meit import MeitConfig
from tgmm_hf.families.meit.modeling_meit import MeitForConditionalGeneration
from tgmm_hf.families.meit.pretrained_parts import load_ecg_parts
from tgmm_hf.families.meit.processing_meit import MeitProcessor
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.inputs.feature_extraction_meit import MeitFeatureExtractor
from tgmm_hf.inputs.processor_parts import saved_extractor
from tgmm_hf.training.reporter_arguments import ReporterModelArguments
from tgmm_hf.training.settings_files import refuse_unknown_overrides
from tgmm_hf.utils.names import LEADS

SECONDS = 10
"""Length of MEIT's window, as published."""


def build_reporter(
    settings: ReporterModelArguments, texts: Iterable[str]
) -> tuple[MeitForConditionalGeneration, MeitProcessor]:
    """Make the model before training, without adapters, and its processor.

    Args:
        settings: The model before training.
        texts: Prompts and reports of the training split. A new language model learns its vocabulary from them.

    Raises:
        ValueError: If a setting of the model is unknown or wrong.
        OSError: If a source does not exist.
    """
    _check_overrides(settings)
    if settings.checkpoint is not None:
        return load_reporter(settings.checkpoint, MEIT)
    try:
        model, tokenizer = _pretrained(settings) if settings.language_model else _new(settings, texts)
    except StrictDataclassError as error:  # a wrong type; this class is no ValueError
        raise ValueError(f"model.overrides: {error}") from error
    config = model.config
    return model, MeitProcessor(
        _extractor(config.ecg_config, settings.ecg),
        tokenizer,
        ecg_token=ECG_TOKEN if config.fusion == "tokens" else None,
        num_ecg_vectors=config.num_ecg_vectors,
    )


def _check_overrides(settings: ReporterModelArguments) -> None:
    """Raise a ValueError if `model.overrides` names a setting that a training cannot set.

    A checkpoint takes none, because its parts have the sizes of its configuration.
    """
    fields = set(MeitConfig.__dataclass_fields__) - {"text_config", "ecg_token_id", "encoder_sources"}
    allowed = set() if settings.checkpoint else fields - set(PreTrainedConfig.__dataclass_fields__)
    refuse_unknown_overrides(settings.overrides, allowed)


def _pretrained(settings: ReporterModelArguments) -> tuple[MeitForConditionalGeneration, PreTrainedTokenizerBase]:
    """Build the model around a pretrained language model, with its tokenizer."""
    source = str(settings.language_model)
    further = {} if settings.gguf_file is None else {"gguf_file": settings.gguf_file}
    tokenizer = AutoTokenizer.from_pretrained(source, **further)
    model = MeitForConditionalGeneration.from_language_model(
        source,
        settings.ecg,
        dtype=getattr(torch, settings.dtype),
        gguf_file=settings.gguf_file,
        **_overrides(settings, tokenizer),
    )
    words: Any = model.get_input_embeddings()
    if len(tokenizer) > words.num_embeddings:  # the placeholder of the ECG is new
        model.resize_token_embeddings(len(tokenizer))
    return model, tokenizer


def _new(
    settings: ReporterModelArguments, texts: Iterable[str]
) -> tuple[MeitForConditionalGeneration, PreTrainedTokenizerBase]:
    """Build the model around a new language model with random weights, whose vocabulary is learned from `texts`."""
    if "model_type" not in settings.text_config:
        raise ValueError("model.text_config needs model_type, such as llama, and the sizes of the language model.")
    tokenizer = report_tokenizer(texts, settings.vocab_size)
    names = ("pad_token_id", "bos_token_id", "eos_token_id")
    ends = {name: getattr(tokenizer, name) for name in names}
    text = AutoConfig.for_model(**{**settings.text_config, "vocab_size": len(tokenizer), **ends})
    overrides = _overrides(settings, tokenizer)
    if settings.ecg is None:
        model = MeitForConditionalGeneration(MeitConfig(text_config=text, **overrides))
    else:
        model = _around_encoder(settings.ecg, text, overrides)
    for name, value in ends.items():
        setattr(model.generation_config, name, value)
    return model, tokenizer


def _around_encoder(ecg: str, text: Any, overrides: dict[str, Any]) -> MeitForConditionalGeneration:
    """Build the model around a trained ECG encoder, with a new language model of the configuration `text`."""
    parts, described = load_ecg_parts(ecg)
    return MeitForConditionalGeneration(MeitConfig(**{"text_config": text, **described, **overrides}), parts)


def _overrides(settings: ReporterModelArguments, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Return the settings of `MeitConfig`. The fusion "tokens" adds its placeholder to the tokenizer."""
    if settings.overrides.get("fusion") != "tokens":
        return dict(settings.overrides)
    tokenizer.add_tokens([ECG_TOKEN], special_tokens=True)
    return {**settings.overrides, "ecg_token_id": tokenizer.convert_tokens_to_ids(ECG_TOKEN)}


def _extractor(config: Any, source: str | None) -> Any:
    """Make the feature extractor for an ECG encoder.

    All leads are needed, because MEIT has no mask for leads.

    Args:
        config: Configuration of the encoder.
        source: Directory or repository of the trained encoder, whose own extractor is taken; None for a new encoder.

    Raises:
        ValueError: If the window of a new encoder is not a whole number of samples a second.
    """
    if config.model_type == StMemConfig.model_type:
        extractor = saved_extractor(EcgFeatureExtractor, source) if source else None
        extractor = extractor or EcgFeatureExtractor(num_samples=config.seq_length)
        extractor.min_leads = len(LEADS)
        return extractor
    if source and (extractor := saved_extractor(MeitFeatureExtractor, source)):
        return extractor
    if config.seq_length % SECONDS:
        raise ValueError(
            f"model.overrides.ecg_config.seq_length must be a multiple of {SECONDS}, because the window has {SECONDS} "
            f"s, got {config.seq_length}. 5000 is published, at 500 Hz."
        )
    return MeitFeatureExtractor(sampling_rate=config.seq_length // SECONDS, num_samples=config.seq_length)
