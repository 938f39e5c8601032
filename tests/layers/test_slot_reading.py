"""Each slot read by a softmax of its own, gains of shared slots, and whole copies in training."""

import pytest
import torch
from tiny_models import random_batch, smallest_config, smallest_model

from tgmm_hf import TgmmModel
from tgmm_hf.layers.attention import TgmmAttention
from tgmm_hf.layers.encoded_batch import TgmmEncoded, training_copies
from tgmm_hf.layers.slot_reading import SharedSlotGain, read_slot_by_slot, reading_of
from tgmm_hf.utils.names import MODALITIES, SLOTS

TASK = "hf_diagnosis"
BY_SLOT = {"slot_reading": "slot_by_slot"}


def attention_and_inputs(text: int):
    torch.manual_seed(0)
    attention = TgmmAttention(16, 4)
    queries, memory = torch.randn(2, 3, 16), torch.randn(2, 4 * 2 + text, 16)
    mask = torch.ones(2, 1, 1, memory.shape[1], dtype=torch.bool)
    mask[1, ..., 2:4] = False  # the second patient lacks the second slot
    return attention, queries, memory, mask


@pytest.mark.parametrize("text", [0, 5])
def test_the_answer_is_the_sum_of_one_attention_for_each_slot(text):
    attention, queries, memory, mask = attention_and_inputs(text)
    read, _ = read_slot_by_slot(attention, queries, memory, mask, (4, 2))
    bias = attention.output.bias
    parts = [slice(2 * slot, 2 * slot + 2) for slot in range(4)] + ([slice(8, None)] if text else [])
    expected = bias + sum(attention(queries, memory[:, part], mask[..., part])[0] - bias for part in parts)
    assert torch.allclose(read, expected, atol=1e-6)


def test_contributions_sum_to_one_and_a_missing_slot_has_none():
    attention, queries, memory, mask = attention_and_inputs(3)
    _, contributions = read_slot_by_slot(attention, queries, memory, mask, (4, 2))
    assert torch.allclose(contributions.sum(-1), torch.ones(2, 4, 3), atol=1e-5)
    assert contributions[1, ..., 2:4].abs().max() == 0


def test_slots_do_not_take_attention_from_each_other():
    attention, queries, memory, mask = attention_and_inputs(0)
    louder = memory.clone()
    louder[:, :2] *= 10  # the first slot
    before, _ = read_slot_by_slot(attention, queries, memory, mask, (4, 2))
    after, _ = read_slot_by_slot(attention, queries, louder, mask, (4, 2))
    bias = attention.output.bias
    first = [attention(queries, part[:, :2], mask[..., :2])[0] - bias for part in (memory, louder)]
    assert torch.allclose(after - before, first[1] - first[0], atol=1e-5)
    together = [attention(queries, part, mask)[0] for part in (memory, louder)]
    assert not torch.allclose(together[1] - together[0], first[1] - first[0], atol=1e-2)


@pytest.mark.parametrize("settings", [BY_SLOT, {**BY_SLOT, "shared_slot_gain": 0.1}, {"shared_slot_gain": 0.5}])
def test_what_stands_in_an_absent_modality_does_not_matter(settings):
    model = smallest_model(**settings)
    with torch.no_grad():
        encoded = model.encode(**random_batch(model.config))
        encoded.present["echo"][:] = False
        before = model.answer(encoded, TASK).logits
        encoded.tokens["echo"] = torch.full_like(encoded.tokens["echo"], torch.nan)
        after = model.answer(encoded, TASK).logits
        alone = model.answer(
            TgmmEncoded(*({n: v[:1] for n, v in part.items()} for part in (encoded.tokens, encoded.present))), TASK
        ).logits
    assert torch.allclose(before, after, atol=1e-5) and torch.allclose(before[:1], alone, atol=1e-5)


def test_a_task_may_be_read_otherwise_than_the_others():
    model = smallest_model(**BY_SLOT)
    batch = random_batch(model.config)
    with torch.no_grad():
        by_slot = model(**batch, task="hf_risk").logits
        model.config.tasks["hf_risk"]["slot_reading"] = "together"
        together = model(**batch, task="hf_risk").logits
    assert (reading_of(model.config, "hf_risk"), reading_of(model.config, TASK)) == ("together", "slot_by_slot")
    assert not torch.allclose(by_slot, together, atol=1e-3)
    plain = smallest_model()
    with torch.no_grad():
        assert torch.allclose(plain(**batch, task="hf_risk").logits, together, atol=1e-6)


def test_gains_weigh_the_shared_slots_only():
    gain = SharedSlotGain(smallest_config(shared_slot_gain=0.1))
    with torch.no_grad():
        gain.gain.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    factors = gain(torch.ones(1, len(SLOTS), 2, 3))[0, :, 0, 0]
    assert factors[[len(slot) == 1 for slot in SLOTS]].tolist() == [1.0, 1.0, 1.0]
    assert factors[[len(slot) > 1 for slot in SLOTS]].tolist() == [1.0, 2.0, 3.0, 4.0]


def test_gains_start_at_the_setting_learn_and_are_saved(tmp_path):
    model = smallest_model(shared_slot_gain=0.25, **BY_SLOT).train()
    assert model.slot_gain.gain.tolist() == [0.25] * 4
    batch = random_batch(model.config)
    model(**batch, task=TASK, labels={TASK: {"label": torch.tensor([0, 1, 0, 1])}}).loss.backward()
    assert model.slot_gain.gain.grad.abs().max() > 0
    with torch.no_grad():
        model.slot_gain.gain += torch.arange(4)
    model.eval().save_pretrained(tmp_path)
    loaded = TgmmModel.from_pretrained(tmp_path)
    assert loaded.slot_gain.gain.tolist() == [0.25, 1.25, 2.25, 3.25]
    with torch.no_grad():
        assert torch.allclose(loaded(**batch, task=TASK).logits, model(**batch, task=TASK).logits, atol=1e-5)


def test_a_gain_of_one_changes_nothing():
    batch = random_batch(smallest_config())
    with torch.no_grad():
        plain, gained = (smallest_model(shared_slot_gain=gain)(**batch, task=TASK).logits for gain in (None, 1.0))
    assert torch.allclose(plain, gained, atol=1e-6)


def test_saved_models_without_the_new_settings_keep_their_answers(tmp_path):
    """A configuration of an earlier version lacks the settings, and its weights have no gains."""
    import json

    model = smallest_model(seed=3)
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    settings = json.loads(path.read_text())
    for name in ("slot_reading", "shared_slot_gain", "whole_copies"):
        settings.pop(name, None)
    path.write_text(json.dumps(settings))
    loaded = TgmmModel.from_pretrained(tmp_path)
    batch = random_batch(model.config)
    with torch.no_grad():
        encoded = model.encode(**batch)
        _, guided = model.slots(encoded, TASK)
        memory = torch.cat([guided.slots.flatten(1, 2), guided.text.expand(4, -1, -1)], dim=1)
        mask = torch.ones(4, memory.shape[1], dtype=torch.bool)
        by_hand, token_mask, _ = model.response(memory, mask, TASK)  # one softmax over everything
        logits = (by_hand * token_mask).sum(-1)
        assert torch.allclose(loaded(**batch, task=TASK).logits, logits, atol=1e-5)


def test_the_first_copies_of_a_training_batch_can_be_whole():
    torch.manual_seed(0)
    present = {name: torch.tensor([True, name != "echo"]).repeat(50) for name in MODALITIES}
    encoded = TgmmEncoded({name: torch.zeros(100, 1, 1) for name in MODALITIES}, present)
    copies, _ = training_copies(encoded, None, 3, 0.5, whole=1)
    for name in MODALITIES:
        assert torch.equal(copies.present[name][:100], present[name])
        assert not torch.equal(copies.present[name][100:200], present[name])
    assert not copies.present["echo"].reshape(3, 50, 2)[..., 1].any()


@pytest.mark.parametrize("settings", [{"slot_reading": "one by one"}, {"whole_copies": 5}, {"whole_copies": -1}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        smallest_config(**settings)


def test_a_task_with_an_unknown_reading_is_refused():
    config = smallest_config()
    config.tasks["hf_risk"]["slot_reading"] = "backwards"
    with pytest.raises(ValueError, match="slot_reading"):
        smallest_config(tasks=config.tasks)


def test_an_embedding_is_that_of_the_modality_in_all_seven_slots():
    """The slots that a modality alone does not fill are left out for speed."""
    from tgmm_hf.layers.guidance import pool_slots

    model = smallest_model()
    with torch.no_grad():
        encoded = model.encode(**random_batch(model.config))
        encoded.present["ecg"][0] = False
        embeds = model.answer(encoded, "retrieval").embeds
        for name in MODALITIES:
            _, guided = model.slots(encoded.keep((name,)), "retrieval")
            assert guided.slots.shape[1] == len(SLOTS)
            whole = torch.nn.functional.normalize(model.embedding(pool_slots(guided)), dim=-1)
            present = encoded.present[name]
            assert torch.allclose(embeds[name][present], whole[present], atol=1e-6)
    assert embeds["ecg"][0].abs().max() == 0


def test_a_preset_is_one_word_and_leaves_what_was_set():
    config = smallest_config(fusion_preset="interacting")
    assert (config.slot_reading, config.whole_copies) == ("slot_by_slot", 1)
    assert smallest_config(fusion_preset="interacting", shared_slot_gain=0.3).shared_slot_gain == 0.3
    assert smallest_config().whole_copies == 0
    with pytest.raises(ValueError, match="fusion_preset"):
        smallest_config(fusion_preset="clever")


def test_a_model_with_a_preset_is_loaded_as_it_was_saved(tmp_path):
    model = smallest_model(fusion_preset="interacting")
    model.save_pretrained(tmp_path)
    loaded = TgmmModel.from_pretrained(tmp_path)
    batch = random_batch(model.config)
    with torch.no_grad():
        assert torch.allclose(loaded(**batch, task=TASK).logits, model(**batch, task=TASK).logits, atol=1e-5)
