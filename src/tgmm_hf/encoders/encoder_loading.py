"""Build and load the encoders of TGMM.

Our own are ST-MEM and a ResNet (ECG), MViT-v2 (echo) and an encoder of lab cells. Any other `AutoModel` may take their
place if it returns `last_hidden_state` and its configuration declares the size of its input, see `DECLARED`.
"""

from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel
from transformers.utils import logging

from ..configuration_tgmm import encoder_config
from ..layers.weights_fingerprint import changed_parts, is_fingerprint, weights_fingerprint
from ..utils.model_licences import source_name
from ..utils.names import LEADS
from .modeling_ecg_resnet import EcgResNetModel
from .modeling_echo_mvit import EchoMvitModel
from .modeling_lab_cells import LabCellsModel
from .modeling_st_mem import StMemModel
from .pooling_layer import without_pooler

logger = logging.get_logger(__name__)

ENCODERS: dict[str, Any] = {
    "st_mem": StMemModel,
    "echo_mvit": EchoMvitModel,
    "ecg_resnet": EcgResNetModel,
    "lab_cells": LabCellsModel,
}
"""Encoder classes that travel with a saved model, see `encoder_class` too. `AutoModel` loads any other model type."""

DECLARED = {
    "labs": ("hidden_size", "vocab_size", "max_position_embeddings"),
    "ecg": ("hidden_size", "num_leads", "seq_length"),
    "echo": ("hidden_size", "image_size", "num_frames"),
}
"""Settings that the configuration of each modality's encoder has to declare."""


def encoder_class(model_type: str) -> Any:
    """Return the class that loads an encoder of a model type: one that travels with a saved model, or `AutoModel`.

    Encoders with weights of others are imported at their first use, because they bring further parts of transformers.
    """
    if model_type == "ecg_hubert":
        from .modeling_ecg_hubert import EcgHubertModel

        return EcgHubertModel
    if model_type == "ecg_fm":
        from .modeling_ecg_fm import EcgFmModel

        return EcgFmModel
    if model_type == "echo_jepa":
        from .modeling_echo_jepa import EchoJepaModel

        return EchoJepaModel
    if model_type == "pan_echo":
        from .modeling_pan_echo import PanEchoModel

        return PanEchoModel
    return ENCODERS.get(model_type, AutoModel)


def build_encoder(config: Any) -> PreTrainedModel:
    """Build an encoder with random weights from its configuration.

    The class comes from `encoder_class`. A BERT-like model is built without its pooling layer.
    """
    own_class = encoder_class(config.model_type)
    if own_class is not AutoModel:
        return own_class._from_config(config)
    return AutoModel.from_config(config, **without_pooler(config))


def load_encoder(modality: str, source: str | Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Load a pretrained encoder. Its weights are in memory only once.

    Args:
        modality: "labs", "ecg" or "echo".
        source: directory or Hub repository, written by `tgmm convert` or of any model that declares `DECLARED`.
        dtype: dtype of the weights.

    Raises:
        ValueError: if the configuration does not declare its input, if the encoder does not take 12 leads, or if
            weights are missing.
    """
    config = encoder_config(source)
    check_encoder(modality, config)
    encoder, loading = encoder_class(config.model_type).from_pretrained(
        source, config=config, dtype=dtype, output_loading_info=True, **without_pooler(config)
    )
    if missing := sorted(loading["missing_keys"]):
        raise ValueError(
            f"{source} lacks {len(missing)} weights of {type(encoder).__name__}, among them "
            f"{', '.join(missing[:3])}. They would be random. Take a complete checkpoint."
        )
    if modality == "labs":
        _check_words(encoder)
    encoder.config.name_or_path = source_name(source)
    _check_weights(encoder)
    return encoder


def _check_weights(encoder: PreTrainedModel) -> None:
    """Warn if an encoder has other weights than `tgmm convert` or `tgmm pretrain` saved with its configuration.

    A class that takes only a part of the saved model, such as the encoder of an autoencoder, is not checked.
    """
    config: Any = encoder.config
    saved = getattr(config, "weights_fingerprint", None)
    if saved is None or not is_fingerprint(saved) or config.architectures != [type(encoder).__name__]:
        return
    now = weights_fingerprint(encoder)
    if now is not None and (changed := changed_parts(encoder, saved, now)):
        logger.warning(
            f"{config.name_or_path}: the weights of {', '.join(changed)} have changed since this configuration was "
            "saved: a file was changed or mixed up. Convert or download the encoder again."
        )


def _check_words(encoder: PreTrainedModel) -> None:
    """Refuse a text encoder whose word embeddings are narrower than its hidden states, as ALBERT's are.

    The reason is that the guidance reads word embeddings and expects the width of the hidden states.

    Raises:
        ValueError: if the widths differ.
    """
    words = cast(nn.Embedding, encoder.get_input_embeddings())
    width, wanted = words.weight.shape[1], encoder.config.hidden_size
    if width != wanted:
        raise ValueError(
            f"A {encoder.config.model_type} model cannot be the labs encoder: its word embeddings are {width} wide, "
            f"its hidden states {wanted}. Take one with equal widths (BERT, RoBERTa, ModernBERT, MiniLM)."
        )


def check_encoder(modality: str, config: Any) -> None:
    """Refuse an encoder of a modality whose configuration does not declare the size of its input, see `DECLARED`.

    Raises:
        ValueError: if a setting of `DECLARED` is missing or no whole number, or if an ECG encoder does not take 12
            leads.
    """
    if absent := [name for name in DECLARED[modality] if not isinstance(getattr(config, name, None), int)]:
        raise ValueError(
            f"A {config.model_type} model cannot be the {modality} encoder: its config has to declare "
            f"{', '.join(DECLARED[modality])} as whole numbers, and lacks {', '.join(absent)}."
        )
    if modality == "ecg" and config.num_leads != len(LEADS):
        raise ValueError(f"The ECG encoder takes {config.num_leads} leads, the processor makes {len(LEADS)}.")
