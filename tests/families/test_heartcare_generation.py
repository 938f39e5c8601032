"""Writing with Heartcare: greedy, beams, caches and padded batches; saved models, adapters and language models."""

from pathlib import Path

import peft
import pytest
import torch
from closeness import assert_close
from tiny_heartcare import CODES, GREEDY, tiny_batch, tiny_model, without

from tgmm_hf import HeartcareForConditionalGeneration

KINDS = ["llama", "gpt2", "opt", "bloom", "qwen2"]


def greedy_by_hand(model, batch, steps: int) -> torch.Tensor:
    """The most probable next token, `steps` times, each time from the whole text and without a cache."""
    batch = dict(batch)
    with torch.no_grad():
        for _ in range(steps):
            chosen = model(**batch).logits[:, -1].argmax(-1, keepdim=True)
            batch["input_ids"] = torch.cat([batch["input_ids"], chosen], 1)
            batch["attention_mask"] = torch.cat([batch["attention_mask"], torch.ones_like(chosen)], 1)
    return batch["input_ids"]


@pytest.mark.parametrize(("kind", "settings"), [*((kind, {}) for kind in KINDS), ("llama", CODES)])
def test_greedy_equals_the_most_probable_tokens_of_whole_texts(kind: str, settings: dict):
    model = tiny_model(kind, **settings)
    batch = tiny_batch(model)
    expected = greedy_by_hand(model, batch, 6)
    assert torch.equal(model.generate(**batch, **GREEDY), expected)
    assert torch.equal(model.generate(**batch, **{**GREEDY, "use_cache": False}), expected)
    for stream in ("input_values", "pixel_values"):
        with torch.no_grad():
            moved = model(**{**batch, stream: batch[stream].flip(0)}).logits - model(**batch).logits
        assert moved[:, -1].abs().max() > 0.1
    for row in range(3):  # alone and without padding
        alone = {name: value[row : row + 1] for name, value in batch.items()}
        start = int((alone["attention_mask"][0] == 0).sum())
        alone |= {name: alone[name][:, start:] for name in ("input_ids", "attention_mask")}
        assert torch.equal(model.generate(**alone, **GREEDY)[0], expected[row, start:])


def test_rows_without_an_ecg_or_a_picture_are_written_beside_others():
    model = tiny_model()
    batch = without(without(tiny_batch(model), model, 0, "ecg"), model, 2, "image")
    expected = greedy_by_hand(model, batch, 6)
    assert torch.equal(model.generate(**batch, **GREEDY), expected)
    only = {name: value[:1] for name, value in batch.items() if name != "input_values"}
    assert torch.equal(model.generate(**only, **GREEDY), expected[:1])
    text = without(without(tiny_batch(model), model, 0, "ecg"), model, 0, "image")
    text = {name: value[:1] for name, value in text.items() if name not in ("input_values", "pixel_values")}
    assert model.generate(**text, **GREEDY).shape[1] == batch["input_ids"].shape[1] + 6


def test_ecg_and_picture_are_encoded_once(monkeypatch):
    model = tiny_model()
    batch = tiny_batch(model)
    calls = []
    monkeypatch.setattr(model.beat, "forward", _counted(model.beat.forward, calls, "ecg"))
    monkeypatch.setattr(model.vision_tower, "forward", _counted(model.vision_tower.forward, calls, "image"))
    model.generate(**batch, **GREEDY)
    assert sorted(calls) == ["ecg", "image"]


def _counted(function, calls, name):
    def call(*args, **kwargs):
        calls.append(name)
        return function(*args, **kwargs)

    return call


def test_beams_and_samples_of_a_row_belong_to_its_ecg():
    model = tiny_model()
    batch = tiny_batch(model)
    settings = {**GREEDY, "num_beams": 8, "num_return_sequences": 2}
    settings |= {"return_dict_in_generate": True, "output_scores": True}
    beams = model.generate(**batch, **settings)
    for row in range(3):
        alone = model.generate(**{name: value[row : row + 1] for name, value in batch.items()}, **settings)
        assert torch.equal(beams.sequences[2 * row : 2 * row + 2], alone.sequences)
        assert_close(beams.sequences_scores[2 * row : 2 * row + 2], alone.sequences_scores, rtol=1e-4)
    assert not torch.equal(model.generate(**batch, **GREEDY), beams.sequences[::2])  # else the beams searched nothing
    sampling = {**GREEDY, "do_sample": True, "num_return_sequences": 4}
    torch.manual_seed(0)
    assert model.generate(**batch, **sampling).shape[0] == 12


def test_writing_goes_on_from_a_cache_and_with_a_cache_of_fixed_size():
    model = tiny_model()
    batch = tiny_batch(model)
    whole = model.generate(**batch, **GREEDY)
    assert torch.equal(model.generate(**batch, **GREEDY, cache_implementation="static"), whole)
    half = model.generate(**batch, **{**GREEDY, "max_new_tokens": 3, "return_dict_in_generate": True})
    mask = torch.cat([batch["attention_mask"], torch.ones(3, 3, dtype=torch.long)], 1)
    rest = {**batch, "input_ids": half.sequences, "attention_mask": mask, "cache": half.cache}
    assert torch.equal(model.generate(**rest, **{**GREEDY, "max_new_tokens": 3}), whole)


@pytest.mark.parametrize("settings", [{}, CODES], ids=["latents", "codes"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])  # separate and tied word embeddings
def test_a_saved_model_answers_the_same(tmp_path: Path, kind: str, settings: dict):
    model = tiny_model(kind, **settings)
    batch = tiny_batch(model)
    model.save_pretrained(tmp_path)
    again, info = HeartcareForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    with torch.no_grad():
        assert_close(again(**batch).logits[:, -1], model(**batch).logits[:, -1], rtol=1e-3, atol=1e-3)
    assert not any(weight.requires_grad for weight in again.beat.parameters())
    half = HeartcareForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.language_model.dtype == torch.bfloat16
    assert half.beat.quantizer.codebooks[0].vectors.dtype == torch.float32
    assert half.generate(**batch, **GREEDY).shape[1] == batch["input_ids"].shape[1] + 6


def test_an_adapter_is_saved_loaded_and_merged(tmp_path: Path):
    batch = tiny_batch(tiny_model())
    config = peft.LoraConfig(
        r=2,
        task_type="CAUSAL_LM",
        target_modules=r"language_model.*proj",
        modules_to_save=["ecg_projector", "image_projector"],
        init_lora_weights=False,
    )
    adapted = peft.get_peft_model(tiny_model(), config)
    names = {name for name, weight in adapted.named_parameters() if weight.requires_grad}
    assert names and all(".lora_" in name or "_projector.modules_to_save" in name for name in names)
    adapted.train()
    assert not adapted.base_model.model.beat.quantizer.training
    adapted(**batch, labels=batch["input_ids"]).loss.backward()
    assert all(weight.grad is not None for weight in adapted.parameters() if weight.requires_grad)
    with torch.no_grad():
        adapted.base_model.model.image_projector.modules_to_save["default"].linear2.weight.add_(0.5)
        expected = adapted.eval()(**batch).logits
        assert (expected - tiny_model()(**batch).logits).abs().max() > 1e-2
        adapted.save_pretrained(tmp_path)
        again = peft.PeftModel.from_pretrained(tiny_model(), tmp_path).eval()
        assert_close(again(**batch).logits, expected)
        written = again.generate(**batch, **GREEDY)
        merged = again.merge_and_unload()
        assert isinstance(merged, HeartcareForConditionalGeneration)
        assert_close(merged(**batch).logits, expected, rtol=1e-3, atol=1e-3)
        assert torch.equal(merged.generate(**batch, **GREEDY), written)
