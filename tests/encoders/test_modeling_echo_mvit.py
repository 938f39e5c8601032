"""MViT-v2: size and geometry. Parity with torchvision's is in tests/convert."""

import pytest
import torch
from closeness import assert_close
from transformers import Trainer

from tgmm_hf.encoders.configuration_echo_mvit import EchoMvitConfig
from tgmm_hf.encoders.modeling_echo_mvit import EchoMvitModel, EchoMvitPool
from tgmm_hf.layers.depthwise_convolution import DepthwiseConvolution


def test_attention_implementations_agree():
    torch.manual_seed(0)
    config = EchoMvitConfig(
        image_size=32, num_frames=4, stage_depths=(1, 2), stage_widths=(16, 32), stage_heads=(1, 2), hidden_size=32
    )
    model = EchoMvitModel(config).eval()
    clips = torch.randn(2, 4, 3, 32, 32)
    with torch.no_grad():
        fused = model(clips).last_hidden_state
        model.set_attn_implementation("eager")
        assert torch.allclose(model(clips).last_hidden_state, fused, atol=1e-5)


def test_paper_size_has_the_trunk_of_echoprime():
    # EchoPrime's encoder has 34,623,872 parameters with its 768 -> 512 head (`echoprime.md`).
    model = EchoMvitModel(EchoMvitConfig())
    assert sum(p.numel() for p in model.parameters()) == 34_623_872 - (768 * 512 + 512)


def test_other_clip_geometry_is_refused_with_both_shapes():
    model = EchoMvitModel(
        EchoMvitConfig(image_size=32, stage_depths=(1,), stage_widths=(8,), stage_heads=(1,), hidden_size=8)
    )
    with pytest.raises(ValueError, match=r"\(16, 3, 32, 32\).*\(1, 16, 3, 48, 48\)"):
        model(torch.zeros(1, 16, 3, 48, 48))


def test_the_class_token_alone_is_the_same_class_token_with_the_same_gradients():
    torch.manual_seed(0)
    config = EchoMvitConfig(
        image_size=32, num_frames=4, stage_depths=(1, 2), stage_widths=(16, 32), stage_heads=(1, 2), hidden_size=32
    )
    model = EchoMvitModel(config).eval().double()
    clips = torch.randn(2, 4, 3, 32, 32, dtype=torch.float64)
    whole, alone = model(clips), model(clips, class_token_only=True)
    assert alone.last_hidden_state.shape == (2, 1, 32)
    assert torch.allclose(whole.pooler_output, alone.pooler_output, atol=1e-12)
    parameters = list(model.parameters())
    expected, found = (torch.autograd.grad(x.pooler_output.pow(2).sum(), parameters) for x in (whole, alone))
    assert all(torch.allclose(a, b, atol=1e-9) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize(
    ("grid", "stride"), [((3, 5, 4), (1, 1, 1)), ((3, 5, 4), (1, 2, 2)), ((2, 9, 8), (1, 4, 4)), ((2, 2, 2), (1, 8, 8))]
)
def test_gradients_of_the_pooling_convolution_are_pytorchs(grid, stride):
    torch.manual_seed(0)
    volume = torch.randn(2, 3, *grid, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 1, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    ours = DepthwiseConvolution.apply(volume, weight, stride)
    theirs = torch.nn.functional.conv3d(volume, weight, stride=stride, padding=1, groups=3)
    assert_close(ours, theirs, rtol=0, atol=1e-12)  # float64
    grad = torch.randn_like(ours)
    expected, found = (torch.autograd.grad(pooled, (volume, weight), grad) for pooled in (theirs, ours))
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("stride", [(1, 1, 1), (1, 2, 2)])
def test_gradients_of_the_pooling_convolution_in_bfloat16_are_near_those_in_float64(stride):
    torch.manual_seed(0)
    # channels last, as the tokens are: this is the layout in which PyTorch's own gradient of the weight is wrong
    volume = torch.randn(2, 2, 8, 8, 16).bfloat16().permute(0, 4, 1, 2, 3).requires_grad_()
    weight = torch.randn(16, 1, 3, 3, 3).bfloat16().requires_grad_()
    garbage = [torch.full((size,), torch.nan) for size in (432, 864, 1728, 4096, 16384, 65536)]
    del garbage  # memory that was never written then holds NaN
    ours = DepthwiseConvolution.apply(volume, weight, stride)
    theirs = torch.nn.functional.conv3d(volume.double(), weight.double(), stride=stride, padding=1, groups=16)
    grad = torch.randn(ours.shape).bfloat16()
    found = torch.autograd.grad(ours, (volume, weight), grad)
    expected = torch.autograd.grad(theirs, (volume, weight), grad.double())
    for a, b in zip(found, expected, strict=True):
        assert_close(a.double(), b.double(), rtol=0.01, atol=0.1)  # bfloat16 keeps 8 bits


def test_a_frozen_input_does_not_change_the_gradient_of_the_pool():
    torch.manual_seed(0)
    tokens = torch.randn(2, 1 + 2 * 4 * 4, 3, 2, 8)
    pool = EchoMvitPool(8, ((1, 1, 1), (1, 2, 2), (1, 2, 2)), 1e-6).train()
    torch.nn.init.normal_(pool.weight)
    grads = []
    for requires_grad in (True, False):
        answers = pool(tokens.clone().requires_grad_(requires_grad), (2, 4, 4))
        grads.append(torch.autograd.grad(sum(answer.pow(2).mul(answer).sum() for answer in answers), pool.weight)[0])
    assert_close(*grads)


def test_training_in_mixed_precision_reaches_every_weight():
    config = EchoMvitConfig(
        image_size=32, num_frames=4, stage_depths=(1, 1), stage_widths=(16, 32), stage_heads=(1, 2), hidden_size=32
    )
    torch.manual_seed(0)
    model = EchoMvitModel(config).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(torch.randn(2, 4, 3, 32, 32)).last_hidden_state.float().pow(2).sum()
    loss.backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    broken = [name for name, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    assert (missing, broken) == ([], [])


def test_weight_decay_leaves_the_norms_of_the_pools_alone():
    with torch.device("meta"):
        model = EchoMvitModel(EchoMvitConfig())
    decayed = Trainer.get_decay_parameter_names(None, model)
    assert "layers.0.attention.pool.weight" in decayed and not any("layernorm" in name for name in decayed)
