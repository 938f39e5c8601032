"""The fusion of MEIT: ECG vectors as keys and values of every layer of a language model, before the text.

Each layer's own attention module runs on the ECG vectors and writes their keys and values into the layer's cache. So
the layer's own projections, their biases and their LoRA adapters are used, and nothing of the attention is changed. The
vectors stand at position 0, where a rotary embedding changes nothing. Decision 131 says why.
"""

import inspect
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import Cache

ATTENTION = ("eager", "sdpa")
"""Attention implementations that were compared with the formula."""
PREFIX_LENGTH = "ecg_prefix_length"
"""Attribute of a cache: the number of ECG vectors at its start. A cache without the attribute holds no ECG."""


class Places(NamedTuple):
    """Where a language model keeps its layers.

    Attributes:
        decoder: path of the module that holds the layers and, if there is one, the rotary embedding.
        layers: path of the list of layers in the decoder.
        attention: path of the attention module in a layer.
    """

    decoder: str
    layers: str
    attention: str


PLACES = {
    "llama": Places("model", "layers", "self_attn"),
    "mistral": Places("model", "layers", "self_attn"),
    "qwen2": Places("model", "layers", "self_attn"),
    "opt": Places("model.decoder", "layers", "self_attn"),
    "gpt2": Places("transformer", "h", "attn"),
    "gptj": Places("transformer", "h", "attn"),
    "gpt_neo": Places("transformer", "h", "attn.attention"),
    "gpt_neox": Places("gpt_neox", "layers", "attention"),
    "bloom": Places("transformer", "h", "self_attention"),
}
"""`model_type` -> places, for the language models whose logits were compared with the formula."""


def places_of(config: Any) -> Places:
    """Return where a language model keeps its layers.

    Args:
        config: configuration of the language model.

    Raises:
        ValueError: if the kind of model is not known.
    """
    if config.model_type not in PLACES:
        raise ValueError(
            f"The ECG cannot enter the layers of a {config.model_type} model, because MEIT was tried with "
            f"{', '.join(PLACES)} only. Take one of these, or set fusion='tokens'."
        )
    return PLACES[config.model_type]


def decoder_layers(language_model: nn.Module) -> nn.ModuleList:
    """Return the decoder layers of a causal language model of one of the kinds in `PLACES`."""
    places = places_of(language_model.config)
    return language_model.get_submodule(f"{places.decoder}.{places.layers}")  # type: ignore[return-value]


def prepare_language_model(language_model: nn.Module, num_vectors: int) -> None:
    """Prepare a language model for a prefix, in place. Only BLOOM needs it, because its attention bias counts tokens.

    Args:
        language_model: of one of the kinds in `PLACES`.
        num_vectors: K, length of the prefix.
    """
    places = places_of(language_model.config)
    if language_model.config.model_type == "bloom":  # type: ignore[union-attr]
        decoder = language_model.get_submodule(places.decoder)
        decoder.build_alibi_tensor = partial(alibi_after_prefix, num_vectors)  # type: ignore[assignment]


def alibi_after_prefix(
    num_vectors: int, attention_mask: torch.Tensor, num_heads: int, dtype: torch.dtype
) -> torch.Tensor:
    """Build BLOOM's attention bias. It is zero for the prefix, and the text counts from its own first token.

    Args:
        num_vectors: K, length of the prefix.
        attention_mask: (batch, K + tokens).
        num_heads: of the model.
        dtype: of the result.

    Returns:
        (batch * heads, 1, K + tokens).
    """
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor  # at use: only BLOOM needs it

    text = build_alibi_tensor(attention_mask[:, num_vectors:], num_heads, dtype)
    return nn.functional.pad(text, (num_vectors, 0))


def fill_cache(language_model: Any, vectors: torch.Tensor, cache: Cache) -> None:
    """Write the keys and values of ECG vectors into the empty cache of a language model, in place.

    Args:
        language_model: of one of the kinds in `PLACES`.
        vectors: (batch, K, width of the model).
        cache: empty.
    """
    places = places_of(language_model.config)
    decoder: Any = language_model.get_submodule(places.decoder)
    position_ids = torch.zeros(vectors.shape[:2], dtype=torch.long, device=vectors.device)
    given: dict[str, Any] = {"position_ids": position_ids, "attention_mask": None}
    given |= dict.fromkeys(("cache", "layer_past"), cache)
    if hasattr(decoder, "rotary_emb"):
        given["position_embeddings"] = decoder.rotary_emb(vectors, position_ids=position_ids)
    if hasattr(decoder, "build_alibi_tensor"):
        no_bias = vectors.new_zeros(vectors.shape[0] * language_model.config.num_attention_heads, 1, vectors.shape[1])
        given |= {"alibi": no_bias, "residual": torch.zeros_like(vectors)}
    for layer in decoder_layers(language_model):
        attention = layer.get_submodule(places.attention)
        names = inspect.signature(attention.forward).parameters
        attention(vectors, **{name: value for name, value in given.items() if name in names})
    setattr(cache, PREFIX_LENGTH, vectors.shape[1])


def check_language_model(language_model: Any, length: int) -> None:
    """Refuse a state of a language model in which a layer would not see the ECG.

    Args:
        language_model: of one of the kinds in `PLACES`.
        length: number of ECG vectors and tokens that the cache will hold.

    Raises:
        ValueError: if the attention was not tried, the layers drop the cache, or the ECG leaves the attention's window.
    """
    config = language_model.config
    if config._attn_implementation not in ATTENTION:
        raise ValueError(
            f"The attention {config._attn_implementation!r} was not tried with an ECG before the text, and might drop "
            f"it. Load the model with attn_implementation='sdpa' or 'eager'."
        )
    if language_model.training and language_model.is_activation_checkpointing:
        raise ValueError(
            "Gradient checkpointing makes the layers drop the cache, which holds the ECG. Switch it off with "
            "gradient_checkpointing_disable()."
        )
    window = window_of(config)
    if window is not None and length > window:
        raise ValueError(
            f"The ECG and the text need {length} places, and the attention of this {config.model_type} model looks "
            f"back {window} places, so that it would not see the ECG any more. Write a shorter report "
            "(max_new_tokens), or take a model with a longer window."
        )


def window_of(config: Any) -> int | None:
    """Return the number of places that the narrowest layer of a language model looks back; None without a limit."""
    if config.model_type == "gpt_neo":
        return int(config.window_size) if "local" in config.attention_layers else None
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"]
    return int(window) if window and "sliding_attention" in kinds else None


__all__ = ["PLACES", "PREFIX_LENGTH", "check_language_model", "decoder_layers", "fill_cache", "prepare_language_model"]
