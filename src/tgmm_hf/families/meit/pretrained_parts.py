"""Load the pretrained parts of MEIT: a language model, and an ECG encoder with or without its projector."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from ...encoders.modeling_ecg_resnet import EcgResNetModel, EcgResNetModelWithProjection
from ...encoders.modeling_st_mem import StMemModel
from ...utils.model_licences import describe_sources
from ..shared.part_loading import load_whole_part

ECG_MODELS: dict[str, Any] = {
    model.__name__: model for model in (EcgResNetModel, EcgResNetModelWithProjection, StMemModel)
}
"""Name of a saved model's class -> class that loads it. Another class of the same kind gives its encoder."""
ENCODER_OF = {"ecg_resnet": EcgResNetModel.__name__, "st_mem": StMemModel.__name__}


def load_parts(
    text: str | Path, ecg: str | Path | None, dtype: torch.dtype = torch.float32, gguf_file: str | None = None
) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """Load the parts of `MeitForConditionalGeneration.from_language_model`.

    Args:
        text: directory or Hub repository of a causal language model.
        ecg: directory or Hub repository of an ECG encoder; None for none.
        dtype: dtype of the language model's weights.
        gguf_file: file of the language model's weights in `text`, in the format GGUF; None for safetensors.

    Returns:
        Two dicts: the arguments `parts` and the settings of `MeitConfig` that describe them.

    Raises:
        ValueError: if weights are missing, or the encoder is of a kind that MEIT does not read.
    """
    further = {} if gguf_file is None else {"gguf_file": gguf_file}
    language_model = load_whole_part(AutoModelForCausalLM, text, dtype, **further)
    parts: dict[str, nn.Module] = {"language_model": language_model}
    settings: dict[str, Any] = {"text_config": language_model.config}
    sources: dict[str, str | Path] = {"text": text}
    if ecg is not None:
        sources["ecg"] = ecg
        ecg_parts, ecg_settings = load_ecg_parts(ecg)
        parts, settings = {**parts, **ecg_parts}, {**settings, **ecg_settings}
    settings["encoder_sources"] = describe_sources(sources)
    return parts, settings


def load_ecg_parts(ecg: str | Path) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """Load an ECG encoder, with its projector if the saved model has one.

    Args:
        ecg: directory or Hub repository.

    Returns:
        Two dicts, as `load_parts` returns them.

    Raises:
        ValueError: as `load_parts` does.
    """
    loaded = _load_ecg(ecg)
    settings: dict[str, Any] = {"ecg_config": loaded.config, "encoder_sources": describe_sources({"ecg": ecg})}
    if not isinstance(loaded, EcgResNetModelWithProjection):
        return {"ecg_encoder": loaded}, settings
    settings |= {"projection_dim": loaded.config.projection_dim, "projector_norm": loaded.config.projector_norm}
    return {"ecg_encoder": loaded.ecg_resnet, "projector": loaded.projector}, settings


def _load_ecg(source: str | Path) -> PreTrainedModel:
    """Load an ECG encoder, with its projector if the saved model has one."""
    saved, _ = PreTrainedConfig.get_config_dict(source)
    model_type = saved.get("model_type", "")
    if model_type not in ENCODER_OF:
        raise ValueError(
            f"{source} is a {model_type or 'nameless'} model, and MEIT reads ECG encoders of the kinds "
            f"{', '.join(ENCODER_OF)}. `tgmm convert` and `tgmm pretrain` write such directories."
        )
    name = next(iter(saved.get("architectures") or []), "")
    return load_whole_part(ECG_MODELS.get(name, ECG_MODELS[ENCODER_OF[model_type]]), source, torch.float32)


__all__ = ["load_ecg_parts", "load_parts"]
