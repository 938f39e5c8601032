"""What is computed again in the backward pass gives the same gradients, and its memory is free before."""

import weakref

import numpy as np
import pytest
import torch
from tiny_models import smallest_config
from torch import nn

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
        with recomputing(activated, lambda: calls.append(None) or copy):
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
    with recomputing(values, values.clone):
        linear(values[1:, 1]).square().sum().backward()
    found = linear.weight.grad.clone()
    linear.zero_grad()
    linear(values[1:, 1]).square().sum().backward()
    assert torch.equal(found, linear.weight.grad)


def test_nothing_changes_without_gradients(linear):
    values = torch.randn(4, 6)
    with torch.no_grad(), recomputing(values, lambda: pytest.fail("nothing is computed again")):
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

    found = gradients()
    monkeypatch.setattr(EchoMvitLayer, "_recomputes", False)
    expected = gradients()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
