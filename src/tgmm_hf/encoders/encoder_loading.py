"""Build and load the encoders of TGMM.

Our own are ST-MEM (ECG) and MViT-v2 (echo). Any other `AutoModel` may take their place if it returns
`last_hidden_state` and its configuration declares the size of its input, see `DECLARED`.
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import ModelCard
from torch import nn
from transformers import MODEL_MAPPING, AutoModel, PreTrainedConfig, PreTrainedModel

from ..configuration_tgmm import encoder_config
from ..utils.names import LEADS
from .modeling_echo_mvit import EchoMvitModel
from .modeling_st_mem import StMemModel

ENCODERS: dict[str, Any] = {"st_mem": StMemModel, "echo_mvit": EchoMvitModel}
"""Encoder classes that travel with a saved model. Any other model type is loaded by `AutoModel`."""

DECLARED = {
    "labs": ("hidden_size", "vocab_size", "max_position_embeddings"),
    "ecg": ("hidden_size", "num_leads", "seq_length"),
    "echo": ("hidden_size", "image_size", "num_frames"),
}
"""Settings that the configuration of each modality's encoder has to declare."""


def build_encoder(config: Any) -> PreTrainedModel:
    """Build an encoder with random weights: one of our own, or any `AutoModel` without an unused pooler."""
    if config.model_type in ENCODERS:
        return ENCODERS[config.model_type]._from_config(config)
    return AutoModel.from_config(config, **_without_pooler(config))


def load_encoder(modality: str, source: str | Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Load a pretrained encoder, with its weights in memory once.

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
    encoder, loading = ENCODERS.get(config.model_type, AutoModel).from_pretrained(
        source, config=config, dtype=dtype, output_loading_info=True, **_without_pooler(config)
    )
    if missing := sorted(loading["missing_keys"]):
        raise ValueError(
            f"{source} lacks {len(missing)} weights of {type(encoder).__name__}, among them "
            f"{', '.join(missing[:3])}. They would be random. Take a complete checkpoint."
        )
    if modality == "labs":
        _check_words(encoder)
    encoder.config.name_or_path = _name(source)
    return encoder


def _check_words(encoder: PreTrainedModel) -> None:
    """Refuse word embeddings that are narrower than the hidden states (ALBERT's), because guidance reads both."""
    words = cast(nn.Embedding, encoder.get_input_embeddings())
    width, wanted = words.weight.shape[1], encoder.config.hidden_size
    if width != wanted:
        raise ValueError(
            f"A {encoder.config.model_type} model cannot be the labs encoder: its word embeddings are {width} wide, "
            f"its hidden states {wanted}. Take one with equal widths (BERT, RoBERTa, ModernBERT, MiniLM)."
        )


def check_encoder(modality: str, config: Any) -> None:
    """Refuse an encoder whose configuration does not declare its input.

    Raises:
        ValueError: on a missing declaration, or a number of leads that the processor does not make.
    """
    if absent := [name for name in DECLARED[modality] if not isinstance(getattr(config, name, None), int)]:
        raise ValueError(
            f"A {config.model_type} model cannot be the {modality} encoder: its config has to declare "
            f"{', '.join(DECLARED[modality])} as whole numbers, and lacks {', '.join(absent)}."
        )
    if modality == "ecg" and config.num_leads != len(LEADS):
        raise ValueError(f"The ECG encoder takes {config.num_leads} leads, the processor makes {len(LEADS)}.")


def describe_sources(sources: Mapping[str, str | Path]) -> dict[str, dict[str, str | None]]:
    """List name and licence of each modality's encoder. Local paths are left out, because they may name people."""
    return {name: {"source": _name(source), **read_licence(source)} for name, source in sources.items()}


def _name(source: str | Path) -> str:
    """Name a source: the last part of a directory, or the repository."""
    return Path(source).resolve().name if Path(source).is_dir() else str(source)


def read_licence(source: str | Path) -> dict[str, str | None]:
    """Read `license`, `license_name` and `license_link` from a directory's model card; None where it has none."""
    card = Path(source) / "README.md"
    metadata = ModelCard.load(card).data.to_dict() if card.is_file() else {}
    return {name: metadata.get(name) for name in ("license", "license_name", "license_link")}


def _without_pooler(config: PreTrainedConfig) -> dict[str, bool]:
    """Leave out the pooling layer of BERT-like models, because a layer that never trains would stop DDP."""
    model_class: Any = MODEL_MAPPING.get(type(config), None)
    takes_it = model_class is not None and "add_pooling_layer" in inspect.signature(model_class).parameters
    return {"add_pooling_layer": False} if takes_it else {}
