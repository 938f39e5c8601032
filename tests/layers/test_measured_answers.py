"""Regression and multilabel: heads, losses, labels and what a model with such tasks keeps and refuses."""

import copy
from typing import Any

import pytest
import torch
from tiny_models import random_batch, smallest_config, smallest_model, tiny_tokenizer

from tgmm_hf import TgmmModel
from tgmm_hf.configuration_tasks import DEFAULT_TASKS, check_task
from tgmm_hf.layers.measured_answers import head_fields, head_losses

WORDS = {"question": DEFAULT_TASKS["hf_diagnosis"]["question"], "learnable_phrase": "ejection fraction"}
EF = {"kind": "regression", "unit": "%", "range": [5.0, 90.0], "cut_points": [40.0, 50.0], **WORDS}
FINDINGS = {"kind": "multilabel", "findings": ["valve disease", "renal impairment", "fibrillation"], **WORDS}
NAN = float("nan")


def tasks(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy({"ef": {**EF, **changes}, "findings": FINDINGS, **DEFAULT_TASKS})


@pytest.fixture(scope="module")
def model() -> TgmmModel:
    return smallest_model(tasks=tasks())


@pytest.fixture(scope="module")
def batch(model: TgmmModel) -> dict[str, torch.Tensor]:
    return random_batch(model.config)


def labels(value: Any = (50.0, 40.0, 30.0, 60.0), mask: Any = (True,) * 4) -> dict[str, Any]:
    return {"ef": {"value": torch.tensor(value), "mask": torch.tensor(mask)}}


def test_a_regression_answers_in_its_unit_and_a_multilabel_by_finding(model, batch):
    outputs = model(**batch, task=["ef", "findings"]).by_task
    assert outputs["ef"].value.shape == (4,) and outputs["ef"].probabilities is None
    assert outputs["findings"].probabilities.shape == (4, 3)
    torch.testing.assert_close(outputs["findings"].probabilities, outputs["findings"].logits.sigmoid())
    # A new head stands near the middle of the range, because its unit is a quarter of the range.
    assert ((outputs["ef"].value > 5) & (outputs["ef"].value < 90)).all()


def test_center_and_scale_turn_the_output_into_the_unit():
    outputs = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    task = {**EF, "loss": "gaussian_nll", "center": 55.0, "scale": 10.0}
    fields = head_fields(task, outputs)
    torch.testing.assert_close(fields["value"], torch.tensor([55.0, 65.0]))
    torch.testing.assert_close(fields["deviation"], torch.tensor([10.0, 10.0 * torch.e]))


def test_the_losses_are_those_of_torch_on_the_known_labels():
    outputs = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    everybody, mask = torch.ones(5, dtype=torch.bool), torch.tensor([True, True, False, True, True])
    value = torch.tensor([55.0, 80.0, NAN, 20.0, 57.0])
    task = {**EF, "loss": "gaussian_nll", "center": 55.0, "scale": 10.0}
    given = {"value": value, "mask": mask}
    target = ((value - 55) / 10)[mask]
    expected = torch.nn.functional.gaussian_nll_loss(outputs[mask, 0], target, outputs[mask, 1].exp(), eps=0)
    torch.testing.assert_close(head_losses(task, given, outputs, everybody)["gaussian_nll"], expected)
    huber = head_losses({**task, "loss": "huber"}, given, outputs, everybody)["huber"]
    torch.testing.assert_close(huber, torch.nn.functional.huber_loss(outputs[mask, 0], target))
    huber.backward()
    assert torch.isfinite(outputs.grad).all() and (outputs.grad[2] == 0).all()


def test_an_unknown_finding_has_no_part_in_the_loss():
    outputs = torch.randn(3, 2, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[True, False], [True, True], [False, True]])
    targets = torch.tensor([[1.0, NAN], [0.0, 1.0], [NAN, 0.0]])
    everybody = torch.ones(3, dtype=torch.bool)
    loss = head_losses(FINDINGS, {"findings": targets, "mask": mask}, outputs, everybody)["bce"]
    expected = torch.nn.functional.binary_cross_entropy_with_logits(outputs[mask], targets[mask])
    torch.testing.assert_close(loss, expected)


def test_without_any_known_label_the_loss_is_a_zero_with_gradients(model, batch):
    output = model(**batch, task="ef", labels=labels(mask=(False,) * 4))
    assert output.loss.item() == 0 and output.loss.requires_grad


def test_masked_labels_may_hold_anything_and_change_nothing(model, batch):
    first = model(**batch, task="ef", labels=labels((NAN, 40.0, 30.0, 60.0), (False, True, True, True))).loss
    second = model(**batch, task="ef", labels=labels((1e9, 40.0, 30.0, 60.0), (False, True, True, True))).loss
    assert first.item() == second.item()


@pytest.mark.parametrize("value", [NAN, float("inf"), 0.55, 120.0])
def test_a_value_outside_the_range_is_refused(model, batch, value):
    with pytest.raises(ValueError, match="range"):
        model(**batch, task="ef", labels=labels((value, 40.0, 30.0, 60.0)))


def test_wrong_findings_are_refused(model, batch):
    for findings in (torch.full((4, 3), 2.0), torch.zeros(4, 2), torch.zeros(4)):
        with pytest.raises(ValueError, match="findings"):
            model(**batch, task="findings", labels={"findings": {"findings": findings}})


def test_a_patient_without_anything_has_no_value(model, batch):
    present = dict(batch)
    for mask in ("attention_mask", "ecg_mask", "view_mask"):
        present[mask] = batch[mask].clone()
        present[mask][0] = 0
    outputs = model(**present, task=["ef", "findings"]).by_task
    assert outputs["ef"].value.isnan().tolist() == [True, False, False, False]
    assert outputs["findings"].probabilities.isnan().all(1).tolist() == [True, False, False, False]


def test_in_training_every_copy_has_its_labels(model, batch):
    trained = copy.deepcopy(model).train()
    given = {**labels(), "findings": {"findings": torch.ones(4, 3), "mask": torch.ones(4, 3, dtype=torch.bool)}}
    output = trained(**batch, task=["ef", "findings"], labels=given)
    output.loss.backward()
    assert output.by_task["ef"].value.shape == (4 * model.config.training_subsets,)
    assert trained.heads["ef"].weight.grad.abs().sum() > 0 and trained.heads["findings"].weight.grad.abs().sum() > 0


def test_saved_and_loaded_answers_are_equal(model, batch, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = TgmmModel.from_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(loaded(**batch, task="ef").value, model(**batch, task="ef").value)


def test_a_model_without_such_tasks_has_no_new_weights():
    assert not [name for name in smallest_model().state_dict() if name.startswith("heads")]


def test_a_model_of_regressions_only_needs_no_response(batch):
    model = smallest_model(tasks={"ef": copy.deepcopy(EF)})
    assert not hasattr(model, "response") and model(**batch, task="ef").value.isfinite().all()
    with pytest.raises(ValueError, match="response"):
        model.add_task("other", copy.deepcopy(DEFAULT_TASKS["hf_diagnosis"]), tiny_tokenizer())


def test_a_task_added_later_leaves_the_other_answers(batch):
    model = smallest_model()
    before = model(**batch, task="hf_diagnosis").logits
    model.add_task("ef", copy.deepcopy(EF), tiny_tokenizer())
    model.add_task("findings", copy.deepcopy(FINDINGS), tiny_tokenizer())
    assert model(**batch, task="ef").value.isfinite().all()
    torch.testing.assert_close(model(**batch, task="hf_diagnosis").logits, before)


@pytest.mark.parametrize(
    ("task", "named"),
    [
        ({**EF, "range": [90.0, 5.0]}, "range"),
        ({**EF, "range": None}, "range"),
        ({key: value for key, value in EF.items() if key != "unit"}, "unit"),
        ({**EF, "cut_points": [4.0]}, "cut points"),
        ({**EF, "loss": "mse"}, "loss"),
        ({**EF, "scale": 0}, "scale"),
        ({**EF, "candidates": ["low", "high"]}, "candidates"),
        ({**FINDINGS, "findings": []}, "findings"),
        ({**FINDINGS, "findings": ["a", "a"]}, "findings"),
        ({key: value for key, value in FINDINGS.items() if key != "findings"}, "findings"),
        ({**FINDINGS, "kind": "multi"}, "kind"),
    ],
)
def test_a_task_that_cannot_be_run_is_refused(task, named):
    with pytest.raises(ValueError, match=named):
        check_task("ef", copy.deepcopy(task))


def test_missing_settings_are_filled():
    config = smallest_config(tasks=tasks())
    assert config.tasks["ef"]["loss"] == "huber" and config.tasks["findings"]["candidates"] == []
