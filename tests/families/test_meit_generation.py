"""Writing with MEIT: greedy, beams, sampling, streams, padded batches, and what is refused."""

from pathlib import Path
from threading import Thread

import peft
import pytest
import torch
from closeness import assert_close
from tiny_reporters import byte_tokenizer, tiny_batch, tiny_reporter
from transformers import DynamicCache, TextIteratorStreamer

from tgmm_hf.families.meit.modeling_meit import MeitForConditionalGeneration

FUSIONS = ["prefix", "tokens", "cross_attention"]
GREEDY = {"do_sample": False, "max_new_tokens": 6, "eos_token_id": None, "pad_token_id": 0}


def prompts(fusion: str = "prefix", rows: int = 3) -> dict[str, torch.Tensor]:
    batch = tiny_batch(rows)
    if fusion == "tokens":
        batch["input_ids"][:, -2] = 4
    return batch


def reporter(fusion: str = "prefix", kind: str = "llama", **settings):
    return tiny_reporter(kind, fusion=fusion, ecg_token_id=4, **settings)


def greedy_by_hand(model, batch, steps: int) -> torch.Tensor:
    """The most probable next token, `steps` times, each time from the whole text and without a cache."""
    ids, mask = batch["input_ids"], batch["attention_mask"]
    with torch.no_grad():
        for _ in range(steps):
            logits = model(input_ids=ids, attention_mask=mask, input_values=batch["input_values"]).logits
            ids = torch.cat([ids, logits[:, -1].argmax(-1, keepdim=True)], 1)
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
    return ids


@pytest.mark.parametrize(
    ("fusion", "kind"),
    [*((fusion, "llama") for fusion in FUSIONS), ("prefix", "gpt2"), ("prefix", "bloom"), ("prefix", "opt")],
)
def test_greedy_equals_the_most_probable_tokens_of_whole_texts(fusion: str, kind: str):
    model, batch = reporter(fusion, kind), prompts(fusion)
    expected = greedy_by_hand(model, batch, 6)
    assert torch.equal(model.generate(**batch, **GREEDY), expected)
    assert torch.equal(model.generate(**batch, **{**GREEDY, "use_cache": False}), expected)
    other = model.generate(**{**batch, "input_values": batch["input_values"].flip(0)}, **GREEDY)
    assert not torch.equal(other, expected)
    for row in range(3):  # alone and without padding
        alone = {name: value[row : row + 1] for name, value in batch.items()}
        alone |= {name: alone[name][:, row:] for name in ("input_ids", "attention_mask")}
        assert torch.equal(model.generate(**alone, **GREEDY)[0], expected[row, row:])


@pytest.mark.parametrize("fusion", FUSIONS)
def test_beams_and_samples_of_a_row_belong_to_its_ecg(fusion: str):
    model, batch = reporter(fusion), prompts(fusion)
    settings = {
        **GREEDY,
        "num_beams": 3,
        "num_return_sequences": 2,
        "return_dict_in_generate": True,
        "output_scores": True,
    }
    found = model.generate(**batch, **settings)
    for row in range(3):
        alone = model.generate(**{name: value[row : row + 1] for name, value in batch.items()}, **settings)
        assert torch.equal(found.sequences[2 * row : 2 * row + 2], alone.sequences)
        assert_close(found.sequences_scores[2 * row : 2 * row + 2], alone.sequences_scores, rtol=1e-4)
    one_beam = model.generate(**batch, **{**settings, "num_beams": 1, "num_return_sequences": 1}).sequences
    assert not torch.equal(one_beam, found.sequences[::2])  # else the beams have searched nothing
    sampling = {**GREEDY, "do_sample": True, "num_return_sequences": 4}
    torch.manual_seed(0)
    first = model.generate(**batch, **sampling)
    torch.manual_seed(0)
    assert torch.equal(model.generate(**batch, **sampling), first) and first.shape[0] == 12
    assert len({tuple(row.tolist()) for row in first}) > 3


def test_the_score_of_a_beam_is_that_of_the_whole_text():
    model, batch = reporter(), prompts(rows=1)
    settings = {**GREEDY, "num_beams": 4, "length_penalty": 0.0, "return_dict_in_generate": True, "output_scores": True}
    found = model.generate(**batch, **settings)
    ids = found.sequences
    with torch.no_grad():
        logits = model(input_ids=ids, input_values=batch["input_values"]).logits.log_softmax(-1)
    chosen = logits[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
    assert_close(found.sequences_scores[0], chosen[0, batch["input_ids"].shape[1] - 1 :].sum(), rtol=1e-4)


def test_a_stream_gives_the_same_text():
    model, batch, tokenizer = reporter(), prompts(rows=1), byte_tokenizer()
    expected = tokenizer.decode(model.generate(**batch, **GREEDY)[0, batch["input_ids"].shape[1] :])
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, timeout=60)
    thread = Thread(target=model.generate, kwargs={**batch, **GREEDY, "streamer": streamer})
    thread.start()
    pieces = list(streamer)
    thread.join()
    assert "".join(pieces) == expected


@pytest.mark.parametrize("fusion", FUSIONS)
def test_writing_goes_on_from_a_cache(fusion: str):
    model, batch = reporter(fusion), prompts(fusion)
    whole = model.generate(**batch, **GREEDY)
    half = model.generate(**batch, **{**GREEDY, "max_new_tokens": 3, "return_dict_in_generate": True})
    mask = torch.cat([batch["attention_mask"], torch.ones(3, 3, dtype=torch.long)], 1)
    rest = {"input_ids": half.sequences, "attention_mask": mask, "cache": half.cache}
    features = model.get_ecg_features(batch["input_values"])
    with torch.no_grad():
        assert torch.equal(model.generate(**rest, ecg_features=features, **{**GREEDY, "max_new_tokens": 3}), whole)


def test_what_would_drop_the_ecg_is_refused():
    model, batch = reporter(), prompts()
    text = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with pytest.raises(ValueError, match="There is no ECG"):
        model(**text)
    with pytest.raises(ValueError, match="There is no ECG"):
        model(**text, input_value=batch["input_values"])  # misspelt
    with pytest.raises(ValueError, match="There is no ECG"):
        model.generate(**text, **GREEDY)
    foreign = DynamicCache(config=model.config.text_config)
    model.language_model(input_ids=batch["input_ids"], cache=foreign)
    mask = torch.ones(3, 14, dtype=torch.long)
    with pytest.raises(ValueError, match="without this model's ECG"):
        model(input_ids=batch["input_ids"], attention_mask=mask, input_values=batch["input_values"], cache=foreign)
    with pytest.raises(ValueError, match="fixed size"):
        model.generate(**batch, **GREEDY, cache_implementation="static")
    with pytest.raises(ValueError, match="cuts the cache"):
        model.generate(**batch, **GREEDY, prompt_lookup_num_tokens=2)
    with pytest.raises(ValueError, match="cuts the cache"):
        model.generate(**batch, **GREEDY, assistant_model=model)
    with pytest.raises(ValueError, match="one ECG"):
        model(**{**batch, "input_values": batch["input_values"][:2]})
    with pytest.raises(ValueError, match="one value for each token"):
        model(**{**batch, "attention_mask": torch.ones(3, 5)})
    model.language_model.config._attn_implementation = "flex_attention"
    with pytest.raises(ValueError, match="flex_attention"):
        model(**batch)


def test_gradient_checkpointing_is_refused():
    model, batch = reporter().train(), prompts()
    with pytest.raises(ValueError, match="checkpointing"):
        model.gradient_checkpointing_enable()
    model.language_model.gradient_checkpointing_enable()
    with pytest.raises(ValueError, match="Gradient checkpointing"):
        model(**batch, labels=batch["input_ids"])


@pytest.mark.parametrize(("kind", "window"), [("mistral", "sliding_window"), ("gpt_neo", "window_size")])
def test_a_text_longer_than_the_window_is_refused_and_a_shorter_one_is_not(kind: str, window: str):
    batch = prompts()
    wide = reporter(kind=kind, text={window: 64})
    narrow = reporter(kind=kind, text={window: 9})  # 7 tokens of the prompt, the ECG, and one more
    allowed = {**GREEDY, "max_new_tokens": 2}  # the last token is written, not read
    assert torch.equal(narrow.generate(**batch, **allowed), wide.generate(**batch, **allowed))
    with pytest.raises(ValueError, match="looks back 9 places"):
        narrow.generate(**batch, **GREEDY)


def test_a_kind_that_was_not_tried_takes_tokens_only():
    text = {
        "model_type": "falcon",
        "vocab_size": 300,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    from tgmm_hf.families.meit.configuration_meit import MeitConfig

    with pytest.raises(ValueError, match="falcon"):
        MeitForConditionalGeneration(MeitConfig.tiny(text_config=text))
    model = MeitForConditionalGeneration(MeitConfig.tiny(text_config=text, fusion="tokens", ecg_token_id=4)).eval()
    assert model.generate(**prompts("tokens"), **GREEDY).shape == (3, 13)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("kind", ["llama", "gpt2"])  # separate and tied word embeddings
def test_a_saved_model_answers_the_same(tmp_path: Path, fusion: str, kind: str):
    model, batch = reporter(fusion, kind), prompts(fusion)
    model.save_pretrained(tmp_path)
    assert [file.name for file in tmp_path.glob("*.safetensors")] == ["model.safetensors"]
    again, info = MeitForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    with torch.no_grad():
        found, expected = again.eval()(**batch).logits, model(**batch).logits
    real = batch["attention_mask"].bool()  # padding that sees nothing differs between eager and sdpa
    assert_close(found[real], expected[real], rtol=1e-4, atol=1e-4)


def test_an_adapter_is_saved_loaded_and_merged(tmp_path: Path):
    batch = prompts()
    config = peft.LoraConfig(
        r=2,
        task_type="CAUSAL_LM",
        target_modules=r"language_model.*proj",
        modules_to_save=["ecg_encoder", "projector"],
        init_lora_weights=False,
    )
    adapted = peft.get_peft_model(reporter(), config)
    with torch.no_grad():
        adapted.base_model.model.projector.modules_to_save["default"].linear2.weight.add_(0.5)
        expected = adapted.eval()(**batch).logits
        assert (expected - reporter()(**batch).logits).abs().max() > 1e-2
        adapted.save_pretrained(tmp_path)
        again = peft.PeftModel.from_pretrained(reporter(), tmp_path).eval()
        assert_close(again(**batch).logits, expected)
        written = again.generate(**batch, **GREEDY)
        merged = again.merge_and_unload()
        assert isinstance(merged, MeitForConditionalGeneration)
        assert_close(merged(**batch).logits, expected, rtol=1e-4, atol=1e-4)
        assert torch.equal(merged.generate(**batch, **GREEDY), written)
