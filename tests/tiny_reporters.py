"""Tiny MEIT models, their tokenizer and processor, for tests."""

from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from tgmm_hf.data.report_tokenizer import report_tokenizer
from tgmm_hf.families.meit.configuration_meit import MeitConfig
from tgmm_hf.families.meit.modeling_meit import MeitForConditionalGeneration
from tgmm_hf.families.meit.processing_meit import MeitProcessor
from tgmm_hf.inputs.feature_extraction_meit import MeitFeatureExtractor

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 300}
TEXT_CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {**SMALL, "intermediate_size": 48, "num_key_value_heads": 2},
    "mistral": {**SMALL, "intermediate_size": 48, "num_key_value_heads": 2},
    "qwen2": {**SMALL, "intermediate_size": 48, "num_key_value_heads": 2},
    "opt": {**SMALL, "ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 256},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 300, "n_positions": 256},
    "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 300, "n_positions": 256, "rotary_dim": 4},
    "gpt_neo": {
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "vocab_size": 300,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 64,
        "max_position_embeddings": 256,
    },
    "gpt_neox": {**SMALL, "intermediate_size": 48, "max_position_embeddings": 256},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 300},
}
"""Settings of a tiny language model of every kind that the prefix is tried with."""


def text_config(model_type: str, **overrides: Any) -> dict[str, Any]:
    dropouts = {"resid_pdrop", "embd_pdrop", "attn_pdrop", "dropout", "attention_dropout", "hidden_dropout"}
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return {
        "model_type": model_type,
        **dict.fromkeys(sorted(dropouts), 0.0),
        **ends,
        **TEXT_CONFIGS[model_type],
        **overrides,
    }


def tiny_reporter(model_type: str = "llama", seed: int = 0, attention: str = "eager", **settings: Any) -> Any:
    """A model with weights large enough that its answers differ, in evaluation mode."""
    torch.manual_seed(seed)
    text = settings.pop("text", {})
    config = MeitConfig.tiny(text_config=text_config(model_type, **text), **settings)
    model = MeitForConditionalGeneration._from_config(config, attn_implementation=attention)
    with torch.no_grad():
        for name, weight in model.language_model.named_parameters():
            if weight.ndim > 1:
                weight.mul_(10)
            elif name.endswith("bias"):
                weight.normal_(std=0.1)  # a bias of zero would hide that it is left out
        if config.fusion == "cross_attention":
            for block in model.cross_attention.blocks:
                block.gates.fill_(1.0)
                block.output.weight.mul_(100)
    fit_batch_norms(model)
    return model.eval()


def fit_batch_norms(model: MeitForConditionalGeneration) -> None:
    """Set the running statistics from the ECGs of `tiny_batch`, because otherwise all ECGs give nearly one vector."""
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm1d)]
    for norm in norms:
        norm.momentum = 1.0
    model.ecg_encoder.train()
    model.projector.train()
    with torch.no_grad():
        model.get_ecg_features(tiny_batch(6)["input_values"])
    for norm in norms:
        norm.momentum = 0.1


def tiny_batch(rows: int = 3, tokens: int = 7, seed: int = 0) -> dict[str, torch.Tensor]:
    """Prompts of different lengths, padded on the left, and one random ECG each."""
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(5, 300, (rows, tokens), generator=generator)
    lengths = tokens - torch.arange(rows)
    attention_mask = (torch.arange(tokens) >= (tokens - lengths)[:, None]).long()
    input_ids = input_ids.masked_fill(attention_mask == 0, 0)
    input_values = torch.rand(rows, 12, 5000, generator=generator)
    return {"input_ids": input_ids, "attention_mask": attention_mask, "input_values": input_values}


def byte_tokenizer(**settings: Any) -> PreTrainedTokenizerFast:
    """Every byte is a token, so that any text can be written; 256 bytes behind the special tokens."""
    tokenizer = report_tokenizer()
    for name, value in settings.items():
        setattr(tokenizer, name, value)
    return tokenizer


def tiny_processor(**settings: Any) -> MeitProcessor:
    return MeitProcessor(MeitFeatureExtractor(), byte_tokenizer(), **settings)
