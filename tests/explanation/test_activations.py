"""Class-activation maps of toys that are worked by hand."""

import pytest
import torch
from torch import nn

from tgmm_hf.explanation.activations import (
    captured,
    grad_cam_plus_plus,
    gradient_x_activation,
    guided,
    input_gradients,
)


def test_grad_cam_plus_plus_by_hand():
    """Two positions, two channels.

    Channel 0: A = (1, 3), g = (1, 1): alpha = 1 / (2 + 4) = 1/6 at both, w = 2/6. Channel 1: A = (2, 0), g = (-1, 0):
    relu(g) = 0, w = 0. Map: 1/3 * (1, 3).
    """
    activations = torch.tensor([[[1.0, 2.0], [3.0, 0.0]]])
    gradients = torch.tensor([[[1.0, -1.0], [1.0, 0.0]]])
    torch.testing.assert_close(grad_cam_plus_plus(activations, gradients), torch.tensor([[1 / 3, 1.0]]))


def test_grad_cam_plus_plus_is_never_negative():
    generator = torch.Generator().manual_seed(0)
    maps = grad_cam_plus_plus(torch.randn(3, 20, 8, generator=generator), torch.randn(3, 20, 8, generator=generator))
    assert (maps >= 0).all() and torch.isfinite(maps).all()


def test_gradient_x_activation_of_a_linear_score_is_its_terms():
    layer, weights = nn.Linear(4, 3), torch.randn(5, 3)
    inputs = torch.randn(1, 5, 4)
    with captured(layer) as kept:
        output = layer(inputs)
        activations, gradients = kept.with_gradients((output * weights).sum())
    terms = gradient_x_activation(activations, gradients)
    torch.testing.assert_close(terms, (layer(inputs) * weights).sum(-1))


def test_only_the_first_call_of_a_layer_is_captured():
    layer = nn.Linear(2, 2)
    first, second = torch.ones(1, 2), torch.zeros(3, 2)
    with captured(layer) as kept:
        layer(first)
        layer(second)
    assert kept.activations.shape == (1, 2)


def test_a_layer_that_was_not_run_is_named():
    with captured(nn.Linear(2, 2)) as kept, pytest.raises(RuntimeError, match="not run"):
        kept.with_gradients(torch.zeros((), requires_grad=True))


def test_guided_gradients_let_only_positive_ones_pass():
    """relu(x) * (2, -3): the plain gradient is (2, -3), the guided one (2, 0)."""
    model = nn.Sequential(nn.ReLU())
    inputs = torch.tensor([[1.0, 1.0]], requires_grad=True)
    with guided(model):
        (guided_gradient,) = torch.autograd.grad((model(inputs) * torch.tensor([2.0, -3.0])).sum(), inputs)
    (plain,) = torch.autograd.grad((model(inputs) * torch.tensor([2.0, -3.0])).sum(), inputs)
    assert guided_gradient.tolist() == [[2.0, 0.0]] and plain.tolist() == [[2.0, -3.0]]


def test_guided_gradients_equal_captums():
    attr = pytest.importorskip("captum.attr")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 1))
    inputs = torch.randn(3, 4, requires_grad=True)
    with guided(model):
        (ours,) = torch.autograd.grad(model(inputs).sum(), inputs)
    theirs = attr.GuidedBackprop(model).attribute(inputs, target=0)
    torch.testing.assert_close(ours, theirs)


def test_the_weights_ask_for_gradients_again_afterwards():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].requires_grad_(False)
    with input_gradients(model):
        assert not any(parameter.requires_grad for parameter in model.parameters())
    assert [parameter.requires_grad for parameter in model.parameters()] == [True, True, False, False]
