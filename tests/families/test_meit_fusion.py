"""The published fusion of MEIT, written out: the ECG's key and value before the text, in every layer."""

from collections.abc import Iterator
from contextlib import contextmanager

import peft
import pytest
import torch
from closeness import assert_close, is_close
from tiny_reporters import TEXT_CONFIGS, tiny_batch, tiny_reporter
from torch import nn
from transformers import AttentionInterface, DynamicCache

from tgmm_hf.families.meit.ecg_prefix import PLACES, decoder_layers

KINDS = sorted(TEXT_CONFIGS)
NO_SDPA = {"bloom", "gpt_neo"}
"""Kinds that transformers itself runs with eager attention only."""
REFERENCE = "written_out_meit"
now: dict[str, torch.Tensor] = {}
"""What the written-out attention reads: "ecg" (B, K, width) and "padding" (B, T)."""


def ecg_key_value(module: nn.Module, model_type: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The layer's own projections of the ECG, (B, K, heads * size) each, without any position."""
    ecg = now["ecg"]
    if model_type == "gpt2":
        key, value = module.c_attn(ecg).split(module.split_size, dim=2)[1:]
    elif model_type in ("gpt_neox", "bloom"):
        size = module.head_size if model_type == "gpt_neox" else module.head_dim
        fused = module.query_key_value(ecg).unflatten(-1, (-1, 3, size))
        key, value = fused[..., 1, :].flatten(2), fused[..., 2, :].flatten(2)
    else:
        key, value = module.k_proj(ecg), module.v_proj(ecg)
    return key, value


def heads_of(states: torch.Tensor, size: int) -> torch.Tensor:
    return states.unflatten(-1, (-1, size)).transpose(1, 2)


def join(model_type: str, module: nn.Module, query, key, value, scaling: float, bias=0.0) -> torch.Tensor:
    """MEIT's formula. Returns (B, heads, T, size)."""
    size = query.shape[-1]
    ecg_key, ecg_value = (heads_of(each, size) for each in ecg_key_value(module, model_type))
    repeats = query.shape[1] // key.shape[1]
    key, value, ecg_key, ecg_value = (x.repeat_interleave(repeats, 1) for x in (key, value, ecg_key, ecg_value))
    tokens = query.shape[2]
    visible = torch.ones(tokens, tokens, dtype=torch.bool).tril() & now["padding"].bool()[:, None, None, :]
    text = (query @ key.transpose(-1, -2) * scaling + bias).masked_fill(~visible, float("-inf"))
    scores = torch.cat([query @ ecg_key.transpose(-1, -2) * scaling, text], dim=-1)
    return scores.softmax(-1) @ torch.cat([ecg_value, value], dim=2)


def written_out(module, query, key, value, attention_mask, scaling=None, **_):
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    joined = join(module.config.model_type, module, query, key, value, scaling)
    return joined.transpose(1, 2).contiguous(), None


def bloom_attention(module, hidden_states, residual, alibi=None, **_):
    query, key, value = module.query_key_value(hidden_states).unflatten(-1, (-1, 3, module.head_dim)).unbind(-2)
    heads = module.num_heads
    slopes = torch.tensor([2 ** (-8 * (head + 1) / heads) for head in range(heads)])  # a power of two of heads
    positions = (now["padding"].cumsum(-1) - 1) * now["padding"]
    bias = slopes[None, :, None, None] * positions[:, None, None, :]
    query, key, value = (each.transpose(1, 2) for each in (query, key, value))
    joined = join("bloom", module, query, key, value, module.head_dim**-0.5, bias)
    return module.dense(joined.transpose(1, 2).flatten(2)) + residual, None


@contextmanager
def formula(language_model: nn.Module, ecg: torch.Tensor, padding: torch.Tensor) -> Iterator[None]:
    """Replace the attention of a language model by the formula."""
    now.update(ecg=ecg, padding=padding)
    model_type = language_model.config.model_type
    modules = [layer.get_submodule(PLACES[model_type].attention) for layer in decoder_layers(language_model)]
    before = language_model.config._attn_implementation
    for module in modules:
        if model_type == "bloom":
            module.forward = lambda *args, module=module, **named: bloom_attention(module, *args, **named)
        elif model_type == "gpt_neo":
            module._attn = lambda q, k, v, mask=None, module=module: (join("gpt_neo", module, q, k, v, 1.0), None)
    if model_type not in NO_SDPA:
        AttentionInterface.register(REFERENCE, written_out)
        language_model.set_attn_implementation(REFERENCE)
    yield
    language_model.set_attn_implementation(before)
    for module in modules:
        vars(module).pop("forward", None)
        vars(module).pop("_attn", None)


def reference_logits(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    language_model = model.language_model
    features = model.get_ecg_features(batch["input_values"])
    ecg = features.repeat(1, 1, language_model.config.hidden_size // features.shape[-1])
    mask = batch["attention_mask"]
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    if language_model.config.model_type == "bloom":
        vars(language_model.transformer).pop("build_alibi_tensor", None)
    with formula(language_model, ecg, mask):
        return language_model(input_ids=batch["input_ids"], position_ids=positions, use_cache=False).logits


def test_every_kind_that_may_be_used_is_compared_here():
    assert set(KINDS) == set(PLACES)


@pytest.mark.parametrize("lora", [False, True], ids=["plain", "lora"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("num_vectors", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_logits_equal_the_published_formula(kind: str, num_vectors: int, attention: str, lora: bool):
    if attention == "sdpa" and kind in NO_SDPA:
        pytest.skip(f"transformers runs {kind} with eager attention only")
    model = tiny_reporter(kind, num_ecg_vectors=num_vectors, attention=attention)
    if lora:
        config = peft.LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
        model = peft.get_peft_model(model, config).eval().base_model.model
        assert any("language_model" in name and "lora_A" in name for name, _ in model.named_parameters())
    batch = tiny_batch()
    with torch.no_grad():
        found = model(**batch).logits
        other = model(**{**batch, "input_values": batch["input_values"].flip(0)}).logits
        expected = reference_logits(model, batch)
    real = batch["attention_mask"].bool()
    assert expected[real].std() > 0.5  # the logits are no near-zeros, of which anything would be near
    torch.testing.assert_close(found[real], expected[real], atol=1e-5, rtol=1e-5)
    moved = (other - found).abs().amax(-1)  # the middle row keeps its ECG
    assert bool((moved[[0, 2]][real[[0, 2]]] > 1e-4).all())
    assert is_close(other[1], found[1])


@pytest.mark.parametrize("fusion", ["prefix", "tokens", "cross_attention"])
@pytest.mark.parametrize("kind", KINDS)
def test_stepwise_equals_at_once_and_a_batch_equals_its_rows(kind: str, fusion: str):
    model = tiny_reporter(kind, fusion=fusion, num_ecg_vectors=2, ecg_token_id=4)
    batch = tiny_batch()
    if fusion == "tokens":
        batch["input_ids"][:, -4:-2] = 4
    with torch.no_grad():
        once = model(**batch).logits
        features = model.get_ecg_features(batch["input_values"])
        cache, steps = DynamicCache(config=model.config.text_config), []
        ids, mask = batch["input_ids"], batch["attention_mask"]
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        start = 5 if fusion == "tokens" else 1  # the placeholders belong to the first step
        for before, after in zip([0, *range(start, 7)], range(start, 8), strict=False):
            chunk = slice(before, after)
            steps.append(
                model(
                    input_ids=ids[:, chunk],
                    attention_mask=mask[:, :after],
                    position_ids=positions[:, chunk],
                    cache=cache,
                    ecg_features=features,
                ).logits
            )
        alone = [
            model(
                input_ids=ids[row : row + 1, row:],
                attention_mask=mask[row : row + 1, row:],
                ecg_features=features[row : row + 1],
            ).logits
            for row in range(3)
        ]
        by_row = torch.cat([model.get_ecg_features(one[None]) for one in batch["input_values"]])
    assert_close(by_row, features, atol=1e-5)
    for row in range(3):  # row r begins with r padding tokens
        torch.testing.assert_close(torch.cat(steps, 1)[row, row:], once[row, row:], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(alone[row][0], once[row, row:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("fusion", ["prefix", "tokens", "cross_attention"])
def test_the_ecg_of_a_row_moves_this_row_alone(fusion: str):
    model = tiny_reporter(fusion=fusion, ecg_token_id=4)
    batch = tiny_batch()
    batch["input_ids"][:, 3] = 4
    changed = batch["input_values"].clone()
    changed[1] = torch.rand(12, 5000)
    with torch.no_grad():
        before, after = model(**batch).logits, model(**{**batch, "input_values": changed}).logits
    assert is_close(after[[0, 2]], before[[0, 2]])
    assert bool(((after[1] - before[1]).abs().amax(-1)[3:] > 1e-4).all())


def test_the_gradient_reaches_encoder_projector_and_adapters():
    model = peft.get_peft_model(
        tiny_reporter(),
        peft.LoraConfig(
            r=2, target_modules=".*language_model.*(k_proj|v_proj)", modules_to_save=["ecg_encoder", "projector"]
        ),
    ).train()
    batch = tiny_batch()
    model(**batch, labels=batch["input_ids"]).loss.backward()
    trainable = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    moved = {name for name, weight in trainable.items() if weight.grad is not None and bool(weight.grad.any())}
    for part in ("ecg_encoder.modules_to_save.default.conv1", "projector.modules_to_save.default.linear2", "lora_B"):
        assert any(part in name for name in moved), part
    assert not any("lora" not in name and "modules_to_save" not in name for name in trainable)
