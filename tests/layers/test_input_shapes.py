"""Inputs of a direct call of the model that are no output of the processor are refused, or mean what they say."""

from typing import Any

import pytest
import torch
from tiny_models import random_batch, smallest_model

from tgmm_hf import TgmmForSequenceClassification


@pytest.fixture(scope="module")
def model() -> Any:
    return smallest_model()


@pytest.fixture(scope="module")
def batch(model: Any) -> dict[str, torch.Tensor]:
    return random_batch(model.config, 2)


WRONG = {
    "a mask that hides all tokens": ({"attention_mask": lambda x: x * 0}, "nothing to answer"),
    "an additive mask": ({"attention_mask": lambda x: (1 - x.float()) * -10000}, "0 and 1"),
    "a mask of another shape": ({"attention_mask": lambda x: x[:, :3]}, r"\(2, 3\)"),
    "600 tokens": ({"input_ids": lambda x: x.repeat(1, 30), "attention_mask": lambda x: x.repeat(1, 30)}, "600"),
    "a token that the vocabulary lacks": ({"input_ids": lambda x: x + 1000}, "tokenizer"),
    "a negative token": ({"input_ids": lambda x: x - 1000}, "tokenizer"),
    "tokens as floats": ({"input_ids": lambda x: x.float()}, "float32"),
    "an array of NumPy": ({"input_ids": lambda x: x.numpy()}, "return_tensors"),
    "samples before leads": ({"ecg_values": lambda x: x.transpose(1, 2)}, "2250, 12"),
    "complex samples": ({"ecg_values": lambda x: x.to(torch.complex64)}, "complex64"),
    "counts of the converter": ({"ecg_values": lambda x: x.to(torch.int16)}, "int16"),
    "a mask of other leads": ({"ecg_mask": lambda x: x[:, :5]}, r"\(2, 5\)"),
    "five of eleven views": ({"pixel_values_videos": lambda x: x[:, :5], "view_mask": lambda x: x[:, :5]}, "11 views"),
    "raw pixels": ({"pixel_values_videos": lambda x: x.to(torch.uint8)}, "uint8"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_input_is_refused_with_its_value(model, batch, kind):
    changes, said = WRONG[kind]
    modality = next(names for names in (("input_ids", "attention_mask"), ("ecg_values", "ecg_mask"),
                                        ("pixel_values_videos", "view_mask")) if set(names) & set(changes))  # fmt: skip
    inputs = {name: changes.get(name, lambda x: x)(batch[name]) for name in modality}
    with torch.no_grad(), pytest.raises((ValueError, TypeError), match=said):
        model(**inputs)


@pytest.mark.parametrize("task", [[], "hf", 3, ["hf_risk", None]])
def test_a_task_that_is_none_of_the_model_is_refused(model, batch, task):
    with pytest.raises(ValueError, match="hf_diagnosis"):
        model(**batch, task=task)


def test_padding_is_not_read_with_and_without_a_mask(model, batch):
    ids, mask = batch["input_ids"].clone(), batch["attention_mask"]
    ids[mask == 0] = model.config.labs_config.pad_token_id
    classifier = TgmmForSequenceClassification(model.config).eval()
    classifier.tgmm = model
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask).logits
        derived = model(input_ids=ids).logits
        anything = model(input_ids=ids.masked_fill(mask == 0, 10**6), attention_mask=mask).logits
        other = classifier(input_ids=ids).logits
    assert torch.equal(derived, expected) and torch.equal(anything, expected)
    torch.testing.assert_close(other, expected)


def test_a_patient_without_anything_beside_others_has_no_answer(model, batch):
    mask = batch["attention_mask"].clone()
    mask[0] = 0
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=mask).logits
    assert logits[0].isnan().all() and logits[1].isfinite().all()
