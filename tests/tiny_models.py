"""A tiny model and random batches for the tests of the model files."""

import re

import torch
from transformers import BertTokenizerFast

from tgmm_hf.configuration_tasks import DEFAULT_TASKS
from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.modeling_tgmm import TgmmModel


def tiny_tokenizer() -> BertTokenizerFast:
    """Knows every word of the default tasks, nothing else."""
    texts = [
        text
        for task in DEFAULT_TASKS.values()
        for text in (task["question"], task["learnable_phrase"], *task["candidates"])
    ]
    words = sorted({word for text in texts for word in re.findall(r"\w+|[^\w\s]", text)})
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    return BertTokenizerFast(vocab={token: index for index, token in enumerate(tokens)}, do_lower_case=False)


def smallest_config(**overrides) -> TgmmConfig:
    """Smaller still than `TgmmConfig.tiny()`: what a test of behaviour needs."""
    settings = {
        "labs_config": {"vocab_size": 128, "hidden_size": 32, "intermediate_size": 64},
        "ecg_config": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
        "echo_config": {
            "image_size": 32,
            "num_frames": 4,
            "stage_depths": (1, 1),
            "stage_widths": (16, 32),
            "stage_heads": (1, 2),
            "hidden_size": 32,
        },
        "hidden_size": 32,
        "num_attention_heads": 4,
        "embedding_dim": 16,
    }
    config = TgmmConfig.tiny(**{**settings, **overrides})
    config.tokenize_tasks(tiny_tokenizer())
    return config


def smallest_model(seed: int = 0, **overrides) -> TgmmModel:
    torch.manual_seed(seed)
    model = TgmmModel(smallest_config(**overrides))
    model.initialise_texts()
    return model.eval()


def random_batch(config: TgmmConfig, batch_size: int = 4, seed: int = 0) -> dict[str, torch.Tensor]:
    """Every patient has all three modalities; patients differ in text length, usable leads and views."""
    generator = torch.Generator().manual_seed(seed)
    echo = config.echo_config
    lengths = torch.randint(5, 20, (batch_size, 1), generator=generator)
    view_mask = torch.rand(batch_size, config.num_views, generator=generator) > 0.5
    view_mask[:, 2] = True
    ecg_mask = torch.rand(batch_size, 12, generator=generator) > 0.1
    ecg_mask[:, 1] = True
    return {
        "input_ids": torch.randint(5, 60, (batch_size, 20), generator=generator),
        "attention_mask": (torch.arange(20) < lengths).long(),
        "ecg_values": torch.randn(batch_size, 12, 2250, generator=generator),
        "ecg_mask": ecg_mask,
        "pixel_values_videos": torch.randn(
            batch_size, config.num_views, echo.num_frames, 3, echo.image_size, echo.image_size, generator=generator
        ),
        "view_mask": view_mask,
    }


def random_labels(batch_size: int = 4) -> dict[str, dict[str, torch.Tensor]]:
    return {
        "hf_diagnosis": {"label": torch.arange(batch_size) % 2},
        "hf_risk": {"time": torch.arange(1, batch_size + 1) * 150.0, "event": torch.arange(1, batch_size + 1) % 3},
        "retrieval": {},
    }


def only(batch: dict[str, torch.Tensor], modalities: tuple[str, ...], rows: slice | torch.Tensor = slice(None)) -> dict:
    """The batch with every other modality masked away for these rows."""
    batch = {key: value.clone() for key, value in batch.items()}
    for modality, mask in (("labs", "attention_mask"), ("ecg", "ecg_mask"), ("echo", "view_mask")):
        if modality not in modalities:
            batch[mask][rows] = 0
    return batch
