"""AttnLRP and the rollout of gradient x attention, against values that were computed by hand."""

import numpy as np
import pytest
import torch
from tiny_more import more_batch, tiny_more
from torch import nn
from transformers import ViTConfig
from transformers.models.vit.modeling_vit import ViTAttention, ViTMLP

from tgmm_hf.explanation.token_relevance import attention_weights, relevance_rules, rolled_out


def test_the_rollout_of_one_block_averages_the_positive_products_over_heads():
    attention = torch.tensor([[[[0.5, 0.5], [0.2, 0.8]], [[1.0, 0.0], [0.4, 0.6]]]])
    gradient = torch.tensor(
        [
            [[[2.0, -4.0], [0.0, 0.0]], [[0.0, 5.0], [0.0, 0.0]]],
        ]
    )
    # head 1: relu(0.5 x 2, 0.5 x -4) = (1, 0); head 2: relu(1 x 0, 0 x 5) = (0, 0); mean (0.5, 0)
    torch.testing.assert_close(rolled_out([attention], [gradient]), torch.tensor([[0.5, 0.0]]))


def test_the_rollout_multiplies_the_blocks_with_the_residual_path():
    first = torch.tensor([[[[0.1, 0.2], [0.3, 0.4]]]])
    second = torch.tensor([[[[0.5, 0.6], [0.7, 0.8]]]])
    ones = torch.ones_like(first)
    # (A2 + I)(A1 + I): row of the class token is (1.5, 0.6) (1.1, 0.2; 0.3, 1.4) = (1.83, 1.14), minus (1, 0)
    torch.testing.assert_close(rolled_out([first, second], [ones, ones]), torch.tensor([[0.83, 1.14]]))


def test_an_activation_passes_all_of_its_relevance():
    layer = nn.Sequential(nn.Linear(3, 4, bias=False), nn.GELU(), nn.Linear(4, 1, bias=False))
    values = torch.randn(2, 3, requires_grad=True)
    with relevance_rules(layer):
        output = layer(values)
        (gradient,) = torch.autograd.grad(output.sum(), values)
    torch.testing.assert_close((gradient * values).sum(1), output[:, 0])
    (plain,) = torch.autograd.grad(layer(values).sum(), values)
    assert not torch.allclose((plain * values).sum(1), output[:, 0], atol=1e-3)


def test_a_norm_is_a_constant_scale():
    norm = nn.LayerNorm(4)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 0.5, 1.0]))
    values = torch.tensor([[1.0, 3.0, -1.0, 5.0]], requires_grad=True)  # mean 2, variance 5
    with relevance_rules(nn.Sequential(norm)):
        output = norm(values)
        (gradient,) = torch.autograd.grad(output[0, 1], values)
    torch.testing.assert_close(output, nn.functional.layer_norm(values, (4,), norm.weight, norm.bias))
    expected = 2 / 5**0.5 * (torch.tensor([[0.0, 1.0, 0.0, 0.0]]) - 0.25)
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-5)


def test_attention_halves_relevance_at_each_product():
    torch.manual_seed(0)
    config = ViTConfig(hidden_size=8, num_attention_heads=2, qkv_bias=False)
    config._attn_implementation = "eager"
    attention = ViTAttention(config).eval()
    values = torch.randn(1, 5, 8)
    parts = {name: getattr(attention, f"{name}_proj")(values).detach().requires_grad_() for name in "qkv"}
    heads = {name: part.view(1, 5, 2, 4).transpose(1, 2) for name, part in parts.items()}
    weights = (heads["q"] @ heads["k"].transpose(2, 3) / 4**0.5).softmax(-1)
    output = attention.o_proj((weights @ heads["v"]).transpose(1, 2).reshape(1, 5, 8))
    gradients = dict(zip("qkv", torch.autograd.grad(output[0, 0].sum(), list(parts.values())), strict=True))
    shares = {"q": 0.25, "k": 0.25, "v": 0.5}
    expected = sum(
        share * gradients[name] @ getattr(attention, f"{name}_proj").weight for name, share in shares.items()
    )
    leaf = values.clone().requires_grad_()
    with relevance_rules(attention):
        result = attention(leaf)[0]
        (found,) = torch.autograd.grad(result[0, 0].sum(), leaf)
    torch.testing.assert_close(result, output)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_small_activations_have_a_slope():
    mlp = ViTMLP(ViTConfig(hidden_size=2, intermediate_size=2))
    values = torch.zeros(1, 2, requires_grad=True)
    with relevance_rules(mlp):
        (gradient,) = torch.autograd.grad(mlp(values).sum(), values)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("kind", ["xray", "ecg"])
def test_the_encoder_gives_the_same_under_the_rules_and_after_them(kind):
    model, batch = tiny_more(), more_batch()
    encoder = getattr(model, f"{kind}_encoder")
    values = batch["pixel_values" if kind == "xray" else "input_values"]
    before = encoder(values).last_hidden_state
    implementation = encoder.config._attn_implementation
    with relevance_rules(encoder):
        torch.testing.assert_close(encoder(values).last_hidden_state, before, atol=1e-4, rtol=1e-4)
    with attention_weights(encoder) as kept:
        encoder(values)
    assert len(kept) == len(encoder.layers)
    np.testing.assert_allclose(kept[0].sum(-1).detach().numpy(), 1, atol=1e-5)
    assert encoder.config._attn_implementation == implementation
    assert not any(module._forward_hooks for module in encoder.modules() if not isinstance(module, ViTAttention))
    torch.testing.assert_close(encoder(values).last_hidden_state, before)
