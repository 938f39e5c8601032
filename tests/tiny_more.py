"""Tiny MoRE models and their inputs, for tests."""

from typing import Any

import torch
from tiny_reporters import byte_tokenizer

from tgmm_hf.families.more.configuration_more import MoreConfig
from tgmm_hf.families.more.modeling_more import MoreModel
from tgmm_hf.families.more.processing_more import MoreProcessor
from tgmm_hf.inputs.feature_extraction_more import MoreFeatureExtractor
from tgmm_hf.inputs.image_processing_xray import MoreImageProcessor

SMALL_BLOCKS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


def widen(model: torch.nn.Module) -> torch.nn.Module:
    """Draw larger weights, because with the starting weights all inputs give nearly one vector."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("low_rank_out") or (name.endswith("bias") and "norm" not in name.lower()):
                weight.normal_(std=0.1, generator=generator)
            elif weight.ndim > 1 and "projection" not in name:
                weight.mul_(8)
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm1d):
            norm.running_mean.normal_(std=0.1, generator=generator)
            norm.running_var.uniform_(0.5, 2, generator=generator)
    return model


def tiny_more(model_class: Any = MoreModel, **settings: Any) -> Any:
    """A model in evaluation mode whose answers differ from input to input."""
    torch.manual_seed(0)
    return widen(model_class(MoreConfig.tiny(**settings))).eval()


def more_batch(rows: int = 4, tokens: int = 9, seed: int = 0) -> dict[str, torch.Tensor]:
    """X-rays, ECGs and notes of different lengths, padded on the right, all at random."""
    generator = torch.Generator().manual_seed(seed)
    lengths = tokens - torch.arange(rows)
    attention_mask = (torch.arange(tokens) < lengths[:, None]).long()
    input_ids = torch.randint(5, 300, (rows, tokens), generator=generator)
    return {
        "pixel_values": torch.randn(rows, 3, 32, 32, generator=generator),
        "input_values": torch.rand(rows, 12, 100, generator=generator) * 2 - 1,
        "input_ids": input_ids.masked_fill(attention_mask == 0, 1),
        "attention_mask": attention_mask,
    }


def tiny_more_of_files() -> tuple[Any, Any]:
    """A tiny model and its processor, which reads files: X-rays of 32 x 32, ECGs of 1000 samples, texts as bytes."""
    text = {"model_type": "roberta", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    text |= {"intermediate_size": 48, "vocab_size": 300, "max_position_embeddings": 130}
    ecg = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
    model = tiny_more(text_config=text, ecg_config={**ecg, "stem_size": 16})
    extractor = MoreFeatureExtractor(sampling_rate=100, num_samples=1000)
    return model, MoreProcessor(MoreImageProcessor(size=32), extractor, byte_tokenizer(), 120)
