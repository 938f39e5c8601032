"""Labels that would train a model wrongly, or not at all, are refused."""

from typing import Any

import pytest
import torch
from tiny_models import random_batch, smallest_config, smallest_model

from tgmm_hf import TgmmForSequenceClassification

NAN = float("nan")
GOOD = torch.tensor([0, 1, 0, 1])


@pytest.fixture(scope="module")
def model() -> Any:
    return smallest_model()


@pytest.fixture(scope="module")
def batch(model: Any) -> dict[str, torch.Tensor]:
    return random_batch(model.config)


def diagnosis(label: Any, **more: Any) -> dict[str, Any]:
    return {"hf_diagnosis": {"label": label, **more}}


def prognosis(time: list[float], event: list[int], **more: Any) -> dict[str, Any]:
    return {"hf_risk": {"time": torch.tensor(time), "event": torch.tensor(event), **more}}


@pytest.mark.parametrize(
    ("task", "labels"),
    [
        ("hf_diagnosis", GOOD),
        ("hf_diagnosis", {}),
        ("hf_diagnosis", {"hf_diagnosis": GOOD}),
        ("hf_diagnosis", {"hf": {"label": GOOD}}),
        ("hf_diagnosis", prognosis([1.0] * 4, [1] * 4)),
        ("hf_diagnosis", diagnosis(GOOD.float())),
        ("hf_diagnosis", diagnosis(torch.tensor([0, 1, 0, 2]))),
        ("hf_diagnosis", diagnosis(torch.tensor([0, 1, 0, -1]))),
        ("hf_diagnosis", diagnosis(GOOD[:3])),
        ("hf_diagnosis", diagnosis(GOOD[:, None])),
        ("hf_diagnosis", {"hf_diagnosis": {"labels": GOOD}}),
        ("hf_risk", prognosis([NAN, 1.0, 2.0, 3.0], [1, 1, 0, 0])),
        ("hf_risk", prognosis([float("inf"), 1.0, 2.0, 3.0], [1, 1, 0, 0])),
        ("hf_risk", prognosis([-1.0, 1.0, 2.0, 3.0], [1, 1, 0, 0])),
        ("hf_risk", prognosis([1.0] * 4, [5, 1, 0, 0])),
        ("hf_risk", {"hf_risk": {"time": torch.ones(4)}}),
    ],
)
def test_a_wrong_label_is_refused(model, batch, task, labels):
    with pytest.raises(ValueError, match=r"label|time|event|shape"):
        model(**batch, task=task, labels=labels)


def test_a_masked_row_may_hold_anything(model, batch):
    mask = torch.tensor([False, True, True, True])
    torch.manual_seed(0)
    with torch.no_grad():
        for nan, number in ((NAN, 5.0), (-1.0, 7.0)):
            losses = [
                model(**batch, task="hf_risk", labels=prognosis([t, 1.0, 2.0, 3.0], [1, 1, 0, 0], mask=mask)).loss
                for t in (nan, number)
            ]
            assert torch.isfinite(losses[0]) and torch.equal(*losses)
        unknown, masked = (
            model(**batch, task="hf_diagnosis", labels=labels).loss
            for labels in (diagnosis(torch.tensor([-100, 1, 0, 1])), diagnosis(GOOD, mask=mask))
        )
    assert torch.equal(unknown, masked)


def test_whole_numbers_of_any_type_are_labels(model, batch):
    with torch.no_grad():
        losses = [
            model(**batch, task="hf_diagnosis", labels=diagnosis(GOOD.to(dtype))).loss
            for dtype in (torch.int64, torch.int32, torch.uint8, torch.bool)
        ]
    assert len({float(loss) for loss in losses}) == 1


@pytest.mark.parametrize("labels", [torch.tensor([0, 1, 2, 0]), GOOD.float(), {"hf_diagnosis": {"label": GOOD}}])
def test_the_classifier_refuses_wrong_labels(batch, labels):
    classifier = TgmmForSequenceClassification(smallest_config())
    with pytest.raises(ValueError, match="label"):
        classifier(**batch, labels=labels)


def test_classes_that_are_not_the_candidates_are_refused():
    for changes in ({"num_labels": 3}, {"id2label": {0: "a", 1: "b"}}):
        config = smallest_config()
        for name, value in changes.items():
            setattr(config, name, value)
        with pytest.raises(ValueError, match="candidates"):
            TgmmForSequenceClassification(config)
    config = smallest_config()
    config.num_labels = 2
    assert TgmmForSequenceClassification(config).num_labels == 2


@pytest.mark.parametrize("name", ["head_mask", "inputs_embeds", "position_ids", "token_type_ids", "past_key_values"])
def test_arguments_of_text_models_are_ignored_where_they_say_nothing(model, batch, name):
    with torch.no_grad():
        plain = model(**batch).logits
        assert torch.equal(model(**batch, **{name: None}, use_cache=False).logits, plain)
        with pytest.raises(TypeError, match=name):
            model(**batch, **{name: torch.ones(4, 20, dtype=torch.long)})
        zeros = torch.zeros_like(batch["input_ids"])
        assert torch.equal(model(**batch, token_type_ids=zeros).logits, plain)


def test_an_unknown_key_of_labels_is_refused(model, batch):
    name = next(name for name, task in model.config.tasks.items() if task["kind"] == "diagnosis")
    labels = {name: {"label": torch.zeros(len(batch["input_ids"]), dtype=torch.long), "masks": torch.ones(1)}}
    with pytest.raises(ValueError, match="masks"):
        model(**batch, task=name, labels=labels)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(("name", "mask"), [("ecg_values", "ecg_mask"), ("pixel_values_videos", "view_mask")])
def test_values_that_are_not_finite_are_refused_unless_they_are_masked(model, batch, name, mask, value):
    values, usable = batch[name].clone(), batch[mask].clone()
    usable[0] = True
    values[0, 1].view(-1)[3] = value
    with pytest.raises(ValueError, match=name):
        model(**{**batch, name: values, mask: usable})
    usable[0, 1] = False
    with torch.no_grad():
        output = model(**{**batch, name: values, mask: usable})
    assert torch.isfinite(output.logits).all()
