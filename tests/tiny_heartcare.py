"""Tiny Heartcare models, their tokenizer and processor, for tests."""

from typing import Any

import torch
from heart_signal import make_heart
from tiny_reporters import byte_tokenizer, text_config

from tgmm_hf import HeartcareConfig, HeartcareForConditionalGeneration, HeartcareProcessor, add_ecg_tokens
from tgmm_hf.utils.names import LEADS

GREEDY = {"do_sample": False, "max_new_tokens": 6, "eos_token_id": None, "pad_token_id": 0}
CODES = {"ecg_input": "codes", "ecg_code_token_id": 302}
"""Settings with which the codes of a tiny model are words 302 to 325."""


def tiny_model(kind: str = "llama", seed: int = 0, attention: str = "eager", **settings: Any) -> Any:
    """A model with weights large enough that its answers differ, in evaluation mode."""
    torch.manual_seed(seed)
    config = HeartcareConfig.tiny(text_config=text_config(kind, vocab_size=330), **settings)
    model = HeartcareForConditionalGeneration._from_config(config, attn_implementation=attention)
    with torch.no_grad():
        for part in (model.language_model, model.image_projector, getattr(model, "ecg_projector", None)):
            for weight in part.parameters() if part is not None else ():
                if weight.ndim > 1:
                    weight.mul_(10)
        # The codes of a new Beat lie near zero, so that all windows get nearly the same vectors.
        for codebook in model.beat.quantizer.codebooks:
            codebook.vectors.normal_()
    return model.eval()


def tiny_batch(model: Any, rows: int = 3, windows: int = 2, seed: int = 0) -> dict[str, torch.Tensor]:
    """Prompts of different lengths, padded on the left, with placeholders, windows and pictures."""
    generator = torch.Generator().manual_seed(seed)
    config = model.config
    beat, side = config.beat_config, config.vision_config.image_size
    texts = []
    for row in range(rows):
        words = torch.randint(5, 290, (7 + rows - row,), generator=generator).tolist()
        ecg = [config.ecg_token_id] * (windows * config.num_ecg_tokens)
        texts.append([*words[:3], *ecg, *[config.image_token_id] * config.num_image_tokens, *words[3:]])
    longest = max(map(len, texts))
    input_ids = torch.tensor([[0] * (longest - len(text)) + text for text in texts])
    mask = torch.tensor([[0] * (longest - len(text)) + [1] * len(text) for text in texts])
    return {
        "input_ids": input_ids,
        "attention_mask": mask,
        "input_values": torch.randn(rows, windows, beat.num_leads, beat.seq_length, generator=generator),
        "window_mask": torch.ones(rows, windows, dtype=torch.bool),
        "pixel_values": torch.randn(rows, 3, side, side, generator=generator),
        "image_mask": torch.ones(rows, dtype=torch.bool),
    }


def without(batch: dict[str, torch.Tensor], model: Any, row: int, stream: str) -> dict[str, torch.Tensor]:
    """Take the ECG or the picture of one row away: its placeholders become words, and the mask says so."""
    changed = {name: value.clone() for name, value in batch.items()}
    token = model.config.ecg_token_id if stream == "ecg" else model.config.image_token_id
    ids = changed["input_ids"][row]
    ids[ids == token] = 7
    changed["window_mask" if stream == "ecg" else "image_mask"][row] = False
    return changed


def tiny_processor(model: Any | None = None) -> HeartcareProcessor:
    """The processor of a tiny model, whose placeholders are words of a byte tokenizer."""
    config = HeartcareConfig.tiny() if model is None else model.config
    tokenizer = byte_tokenizer()
    codes = config.num_code_tokens if config.ecg_input == "codes" else 0
    add_ecg_tokens(tokenizer, codes)
    return HeartcareProcessor.for_model(config, tokenizer)


def fitting_model(**settings: Any) -> Any:
    """A tiny model whose placeholder ids are those of `tiny_processor`."""
    return tiny_model(**add_ids(**settings))


def add_ids(**settings: Any) -> dict[str, Any]:
    """Add the ids of the byte tokenizer to settings."""
    codes = HeartcareConfig.tiny().num_code_tokens if settings.get("ecg_input") == "codes" else 0
    ids = add_ecg_tokens(byte_tokenizer(), codes)
    return {**settings, **{name: value for name, value in ids.items() if name != "vocab_size"}}


def ecg(seed: int = 0, rate: float = 500, seconds: float = 10, **settings: Any) -> dict[str, Any]:
    """A plain heart as an ECG that the processor takes."""
    signal = make_heart(int(seconds * rate), rate, seed)
    return {"signal": signal, "sampling_rate": rate, "lead_names": list(LEADS), **settings}
