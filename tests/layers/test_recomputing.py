"""What is computed again in the backward pass gives the same gradients, and its memory is free before."""

import weakref

import numpy as np
import pytest
import torch
from tiny_models import smallest_config
from torch import nn

from tgmm_hf.encoders import modeling_echo_mvit
from tgmm_hf.encoders.modeling_echo_mvit import EchoMvitLayer, EchoMvitModel
from tgmm_hf.layers.recomputing import recomputing


@pytest.fixture
def linear():
    torch.manual_seed(0)
    return nn.Linear(6, 3)


@pytest.mark.parametrize("is_recomputed", [True, False])
def test_the_memory_is_free_before_the_backward_pass(linear, is_recomputed):
    array = np.ones((4, 6), np.float32)  # the memory of the result: it goes when the last tensor of it goes
    copy, memory, activated = torch.from_numpy(array.copy()), weakref.ref(array), torch.from_numpy(array)
    calls = []
    if is_recomputed:
        with recomputing(activated, lambda values: calls.append(None) or values, copy):
            result = linear(activated)
    else:
        result = linear(activated)
    del activated, array
    assert (memory() is None) == is_recomputed
    assert not calls
    result.sum().backward()
    assert len(calls) == is_recomputed
    assert torch.equal(linear.weight.grad, torch.full((3, 6), 4.0))


def test_a_part_of_the_result_is_computed_again_at_its_place(linear):
    values = torch.randn(5, 2, 6)
    with recomputing(values, torch.clone, values):
        linear(values[1:, 1]).square().sum().backward()
    gradient = linear.weight.grad.clone()
    linear.zero_grad()
    linear(values[1:, 1]).square().sum().backward()
    assert torch.equal(gradient, linear.weight.grad)


def test_values_that_were_changed_in_place_are_an_error_and_no_wrong_gradient(linear):
    values = torch.randn(4, 6)
    result = values.relu()
    with recomputing(result, torch.relu, values):
        output = linear(result)
    values.zero_()
    with pytest.raises(RuntimeError, match="in place"):
        output.sum().backward()


def test_nothing_changes_without_gradients(linear):
    values = torch.randn(4, 6)
    with torch.no_grad(), recomputing(values, lambda _: pytest.fail("nothing is computed again"), values):
        assert torch.equal(linear(values), nn.functional.linear(values, linear.weight, linear.bias))


@pytest.mark.parametrize("is_checkpointed", [True, False])
def test_the_echo_encoder_gets_the_same_gradients(monkeypatch, is_checkpointed):
    config = smallest_config().echo_config
    torch.manual_seed(0)
    model, clips = EchoMvitModel(config).train(), torch.randn(2, config.num_frames, 3, 32, 32)
    if is_checkpointed:
        model.gradient_checkpointing_enable()

    def gradients():
        torch.manual_seed(1)  # stochastic depth
        model.zero_grad(set_to_none=True)
        model(clips).pooler_output.square().sum().backward()
        return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}

    results = []

    def counted(result, function, values):
        results.append(result.shape)
        return recomputing(result, function, values)

    monkeypatch.setattr(modeling_echo_mvit, "recomputing", counted)
    recomputed = gradients()
    assert bool(results) != is_checkpointed  # checkpointing computes all results again
    monkeypatch.setattr(EchoMvitLayer, "_recomputes", False)
    expected = gradients()
    assert recomputed.keys() == expected.keys()
    assert all(torch.equal(recomputed[name], expected[name]) for name in expected)
