"""Heartcare's model: what enters the language model, missing streams, codes, freezing, and what is refused."""

from pathlib import Path

import pytest
import torch
from closeness import assert_close
from tiny_heartcare import CODES, tiny_batch, tiny_model, without
from tiny_reporters import text_config
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from tgmm_hf import BeatConfig, BeatModel, HeartcareConfig, HeartcareForConditionalGeneration

STAGE_2 = ("ecg_projector", "image_projector")


def last_logits(model, batch) -> torch.Tensor:
    """The logits of the last token, which has seen everything."""
    with torch.no_grad():
        return model(**batch).logits[:, -1]


def single(batch: dict[str, torch.Tensor], row: int) -> dict[str, torch.Tensor]:
    """One row of a batch without its padding."""
    alone = {name: value[row : row + 1] for name, value in batch.items()}
    start = int((alone["attention_mask"][0] == 0).sum())
    return alone | {name: alone[name][:, start:] for name in ("input_ids", "attention_mask")}


@pytest.mark.parametrize("settings", [{}, CODES], ids=["latents", "codes"])
@pytest.mark.parametrize("stream", ["input_values", "pixel_values"])
def test_the_answer_of_a_row_moves_with_its_own_ecg_and_picture_only(stream: str, settings: dict):
    model = tiny_model(**settings)
    batch = tiny_batch(model)
    expected = last_logits(model, batch)
    changed = {**batch, stream: batch[stream].clone()}
    changed[stream][1] = torch.randn(changed[stream][1].shape, generator=torch.Generator().manual_seed(9))
    found = last_logits(model, changed)
    assert (found[1] - expected[1]).abs().max() > 1e-2
    assert_close(found[[0, 2]], expected[[0, 2]])


@pytest.mark.parametrize("settings", [{}, CODES], ids=["latents", "codes"])
def test_a_batch_equals_its_singles(settings: dict):
    model = tiny_model(**settings)
    batch = tiny_batch(model)
    together = last_logits(model, batch)
    for row in range(3):
        assert_close(last_logits(model, single(batch, row))[0], together[row], rtol=1e-4, atol=1e-4)


def test_the_language_model_reads_the_vectors_in_the_places_of_the_placeholders():
    model = tiny_model()
    batch = tiny_batch(model, rows=1)
    with torch.no_grad():
        windows = batch["input_values"][0]
        latents = model.beat(windows).latents
        quantized = model.beat.quantizer.decode(model.beat.encode(windows))
        assert (latents - quantized).abs().max() > 0.1  # so that the test can tell them apart
        ecg = model.ecg_projector(quantized).flatten(0, 1)  # both windows, one after the other
        patches = model.vision_tower(batch["pixel_values"]).last_hidden_state[0]
        hidden = nn.functional.gelu(model.image_projector.linear1(patches))
        picture = model.image_projector.linear2(hidden)
        embeds = model.get_input_embeddings()(batch["input_ids"])[0]
        embeds = torch.cat([embeds[:3], ecg, picture, embeds[3 + len(ecg) + len(picture) :]])
        expected = model.language_model(inputs_embeds=embeds[None]).logits
        assert_close(model(**batch).logits, expected, rtol=1e-4, atol=1e-5)


def test_codes_are_words_of_the_language_model():
    model = tiny_model(**CODES)
    batch = tiny_batch(model, rows=1)
    batch = without(batch, model, 0, "image")
    codes = model.beat.encode(batch["input_values"][0])  # (2 windows, 10 queries, 2 levels)
    words = (codes + torch.tensor([302, 302 + 12])).flatten()
    ids = batch["input_ids"].clone()
    ids[0, ids[0] == model.config.ecg_token_id] = words
    with torch.no_grad():
        assert_close(model(**batch).logits, model.language_model(input_ids=ids).logits, rtol=1e-4, atol=1e-5)
    assert not hasattr(model, "ecg_projector")
    shared = tiny_model(**CODES, beat_config={**HeartcareConfig.tiny().beat_config.to_dict(), "shared_codebook": True})
    assert shared.config.num_code_tokens == 12 and model.config.num_code_tokens == 24
    assert shared(**tiny_batch(shared)).logits.isfinite().all()


def test_the_windows_enter_in_time_order():
    model = tiny_model()
    batch = tiny_batch(model)
    swapped = {**batch, "input_values": batch["input_values"].flip(1)}
    assert (last_logits(model, swapped) - last_logits(model, batch)).abs().max() > 1e-2


@pytest.mark.parametrize("stream", ["ecg", "image"])
def test_what_is_missing_may_hold_any_values(stream: str):
    model = tiny_model()
    batch = without(tiny_batch(model), model, 1, stream)
    name = "input_values" if stream == "ecg" else "pixel_values"
    broken = {**batch, name: batch[name].clone()}
    broken[name][1] = float("nan")
    expected = last_logits(model, batch)
    assert_close(last_logits(model, broken), expected)
    alone = single(batch, 1)
    del alone[name]
    assert_close(last_logits(model, alone)[0], expected[1], rtol=1e-4, atol=1e-4)
    fewer = {**batch, "window_mask": batch["window_mask"].clone(), "input_ids": batch["input_ids"].clone()}
    fewer["window_mask"][0, 1] = False  # the second window of the first row
    places = (fewer["input_ids"][0] == model.config.ecg_token_id).nonzero()[-model.config.num_ecg_tokens :, 0]
    fewer["input_ids"][0, places] = 7
    noise = {**fewer, "input_values": fewer["input_values"].clone()}
    noise["input_values"][0, 1] += 5
    assert_close(last_logits(model, noise), last_logits(model, fewer))


def test_a_text_without_both_needs_masks_that_say_so():
    model = tiny_model()
    batch = without(without(tiny_batch(model, rows=1), model, 0, "ecg"), model, 0, "image")
    text = {name: batch[name] for name in ("input_ids", "attention_mask", "window_mask", "image_mask")}
    with torch.no_grad():
        expected = model.language_model(input_ids=batch["input_ids"]).logits[:, -1]
    assert_close(last_logits(model, text), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="no ECG and no picture"):
        model(**{name: text[name] for name in ("input_ids", "attention_mask")})


def test_eager_and_sdpa_agree():
    eager, fast = tiny_model(), tiny_model(attention="sdpa")
    batch = tiny_batch(eager)
    assert fast.beat.config._attn_implementation == fast.vision_tower.config._attn_implementation == "sdpa"
    assert_close(last_logits(fast, batch), last_logits(eager, batch), rtol=1e-3, atol=1e-3)


# ---- the picture encoder


@pytest.mark.parametrize("kind", ["vision tower", "both towers"])
def test_official_siglip_weights_load_and_give_the_same_patches(tmp_path: Path, kind: str):
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {**sizes, "image_size": 48, "patch_size": 16}
    torch.manual_seed(3)
    if kind == "both towers":
        official = SiglipModel(SiglipConfig(text_config={**sizes, "vocab_size": 40}, vision_config=vision))
        tower = official.vision_model
    else:
        official = tower = SiglipVisionModel(SiglipVisionConfig(**vision))
    official.save_pretrained(tmp_path / "siglip")
    settings = {key: value for key, value in text_config("llama").items() if key != "model_type"}
    LlamaForCausalLM(LlamaConfig(**settings)).save_pretrained(tmp_path / "llm")
    beat = BeatModel(BeatConfig(**HeartcareConfig.tiny().beat_config.to_dict()))
    beat.save_pretrained(tmp_path / "beat")
    ids = {"ecg_token_id": 300, "image_token_id": 301, "vocab_size": 302}
    model = HeartcareForConditionalGeneration.from_language_model(
        tmp_path / "llm", tmp_path / "beat", tmp_path / "siglip", **ids
    )
    pixels = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        found = model.vision_tower(pixels).last_hidden_state
        assert_close(found, tower.eval()(pixels).last_hidden_state)
        assert found.abs().max() > 0.1 and model.get_image_features(pixels).pooler_output.shape == (2, 9, 32)
        windows = torch.randn(2, 12, 1000)
        assert torch.equal(model.beat.encode(windows), beat.eval().encode(windows))
        words = torch.arange(10, 20)[None]
        expected = AutoModelForCausalLM.from_pretrained(tmp_path / "llm")(input_ids=words).logits
        assert_close(model.language_model(input_ids=words).logits[..., :300], expected, rtol=1e-4, atol=1e-5)
    assert set(model.config.encoder_sources) == {"text", "beat", "vision"}
    assert model.get_input_embeddings().num_embeddings == 302 == model.config.text_config.vocab_size


def test_a_part_without_all_weights_is_refused(tmp_path: Path):
    import safetensors.torch

    BeatModel(BeatConfig(**HeartcareConfig.tiny().beat_config.to_dict())).save_pretrained(tmp_path / "beat")
    weights = safetensors.torch.load_file(tmp_path / "beat" / "model.safetensors")
    weights.pop("query_tokens")
    safetensors.torch.save_file(weights, tmp_path / "beat" / "model.safetensors", {"format": "pt"})
    settings = {key: value for key, value in text_config("llama").items() if key != "model_type"}
    LlamaForCausalLM(LlamaConfig(**settings)).save_pretrained(tmp_path / "llm")
    with pytest.raises(ValueError, match="query_tokens"):
        HeartcareForConditionalGeneration.from_language_model(tmp_path / "llm", tmp_path / "beat")


# ---- training


def trained(model) -> set[str]:
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({}, STAGE_2),
        ({}, ("ecg_projector", "vision_tower", "image_projector", "language_model")),
        ({}, ("beat",)),
        (CODES, ("language_model", "image_projector")),
    ],
    ids=["projectors", "all but Beat", "Beat", "codes"],
)
def test_gradients_reach_every_weight_of_the_parts_that_are_trained_and_no_other(settings: dict, parts: tuple):
    model = tiny_model(**settings).train()
    model.train_only(*parts)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = tiny_batch(model)
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.1)
    model(**batch, labels=batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)).loss.backward()
    optimizer.step()
    names = trained(model)
    assert {name.split(".")[0] for name in names} == set(parts)
    assert not any("decoder" in name or "head" in name for name in names if name.startswith("beat."))
    for name, weight in model.named_parameters():
        assert (weight.grad is not None and bool(weight.grad.any())) == (name in names), name
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == names  # the codebooks are among the rest


def test_beat_is_frozen_and_its_codebooks_stand_still_unless_it_is_asked_for():
    model = tiny_model().train()
    assert not any(name.startswith("beat.") for name in trained(model)) and not model.beat.quantizer.training
    assert model.language_model.training and model.vision_tower.training
    with pytest.raises(ValueError, match="projektor"):
        model.train_only("projektor")
    with pytest.raises(ValueError, match="ecg_projector"):
        tiny_model(**CODES).train_only("ecg_projector")


def test_gradient_checkpointing_gives_the_same_gradients():
    gradients = []
    for checkpointing in (False, True):
        model = tiny_model().train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        batch = tiny_batch(model)
        model(**batch, labels=batch["input_ids"]).loss.backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
    assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-5)


# ---- refusals


def test_a_wrong_number_of_placeholders_is_refused():
    model = tiny_model()
    batch = tiny_batch(model)
    text = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with pytest.raises(ValueError, match="placeholders"):
        model(**text, window_mask=batch["window_mask"], image_mask=batch["image_mask"])
    with pytest.raises(ValueError, match="no ECG and no picture"):
        model(**text, input_value=batch["input_values"])  # misspelt
    with pytest.raises(ValueError, match="placeholders"):
        model(**{**batch, "window_mask": ~batch["window_mask"]})
    with pytest.raises(ValueError, match="placeholders"):
        model(**{**batch, "image_mask": torch.tensor([True, False, True])})
    few = batch["input_ids"].clone()
    few[0, (few[0] == 300).nonzero()[0]] = 7
    with pytest.raises(ValueError, match="placeholders"):
        model(**{**batch, "input_ids": few})


def test_wrong_shapes_and_settings_are_refused():
    model = tiny_model()
    batch = tiny_batch(model)
    wrong = [
        ({"input_values": batch["input_values"][:2]}, "3 rows"),
        ({"input_values": batch["input_values"][:, 0]}, "windows"),
        ({"input_values": batch["input_values"][..., :500]}, "500 samples"),
        ({"pixel_values": batch["pixel_values"][:2]}, "3 rows"),
        ({"window_mask": batch["window_mask"][:, :1]}, "mask of input_values"),
        ({"image_mask": torch.tensor([1.0, 0.5, 1.0])}, "mask of pixel_values"),
        ({"attention_mask": torch.ones(3, 5)}, "attention_mask"),
        ({"inputs_embeds": torch.zeros(3, 4, 32)}, "not both"),
    ]
    for changed, words in wrong:
        with pytest.raises(ValueError, match=words):
            model(**{**batch, **changed})
    nan = {**batch, "input_values": batch["input_values"].clone()}
    nan["input_values"][2, 1, 3, 5] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        model(**nan)
    with pytest.raises(ValueError, match="need input_ids"):
        rest = {name: value for name, value in batch.items() if name != "input_ids"}
        model(**rest, inputs_embeds=torch.zeros(3, batch["input_ids"].shape[1], 32))
    with pytest.raises(ValueError, match="must differ"):
        HeartcareConfig.tiny(image_token_id=300)
    with pytest.raises(ValueError, match="vocab_size is 320"):
        HeartcareConfig.tiny(ecg_token_id=320)
    with pytest.raises(ValueError, match="vocab_size is 320"):
        HeartcareConfig.tiny(ecg_input="codes", ecg_code_token_id=302)
    with pytest.raises(ValueError, match="outside the tokens of the codes, 290 to"):
        HeartcareConfig.tiny(ecg_input="codes", ecg_code_token_id=290)
    with pytest.raises(ValueError, match="ecg_input"):
        HeartcareConfig.tiny(ecg_input="pictures")
    with pytest.raises(ValueError, match="encoder of its own"):
        HeartcareConfig(text_config={"model_type": "t5"})
    codes = tiny_model(ecg_input="codes")
    with pytest.raises(ValueError, match="ecg_code_token_id"):
        codes(**tiny_batch(codes))


def test_the_default_has_the_papers_beat_and_siglips_base_tower():
    config = HeartcareConfig()
    assert config.beat_config.codebook_size == 512 and config.num_ecg_tokens == 20 and config.num_image_tokens == 196
    with torch.device("meta"):
        tower = HeartcareForConditionalGeneration(HeartcareConfig(text_config=text_config("llama"))).vision_tower
    # google/siglip-base-patch16-224 without its pooling head
    assert sum(weight.numel() for weight in tower.parameters()) == sum(
        weight.numel() for name, weight in _meta_siglip().named_parameters() if not name.startswith("head.")
    )


def _meta_siglip() -> SiglipVisionModel:
    with torch.device("meta"):
        return SiglipVisionModel(SiglipVisionConfig())
