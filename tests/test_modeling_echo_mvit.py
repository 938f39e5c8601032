"""MViT-v2 against torchvision's, an independent implementation, with random weights in torchvision's layout."""

import re

import pytest
import torch

from tgmm_hf.configuration_tgmm import EchoMvitConfig
from tgmm_hf.modeling_echo_mvit import EchoMvitModel

RENAMES = (
    (r"^conv_proj\.", "embeddings.patch_embedding."),
    (r"^pos_encoding\.class_token", "embeddings.class_token"),
    (r"^blocks\.", "layers."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.qkv", ".attention.qkv"),
    (r"\.attn\.project\.0\.", ".attention.output."),
    (r"\.attn\.rel_pos_h", ".attention.positions.rows"),
    (r"\.attn\.rel_pos_w", ".attention.positions.cols"),
    (r"\.attn\.rel_pos_t", ".attention.positions.frames"),
    (r"\.attn\.pool_q\.pool\.", ".attention.query_pool.convolution."),
    (r"\.attn\.pool_k\.pool\.", ".attention.key_pool.convolution."),
    (r"\.attn\.pool_v\.pool\.", ".attention.value_pool.convolution."),
    (r"\.attn\.pool_q\.norm_act\.0\.", ".attention.query_pool.norm."),
    (r"\.attn\.pool_k\.norm_act\.0\.", ".attention.key_pool.norm."),
    (r"\.attn\.pool_v\.norm_act\.0\.", ".attention.value_pool.norm."),
    (r"\.mlp\.0\.", ".fc1."),
    (r"\.mlp\.3\.", ".fc2."),
    (r"(\.\d+)\.project\.", r"\1.widen."),
    (r"^norm\.", "layernorm."),
)


def from_torchvision(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    renamed = {}
    for name, value in state_dict.items():
        if name.startswith("head."):
            continue
        for pattern, replacement in RENAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed


@pytest.fixture(scope="module")
def torchvision_mvit():
    video = pytest.importorskip("torchvision.models.video", reason="torchvision is the parity oracle (dev extra)")
    torch.manual_seed(0)
    reference = video.mvit_v2_s().eval()
    with torch.no_grad():  # biases and norms start at 0 and 1, which would hide a swap
        for parameter in reference.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    reference.head = torch.nn.Identity()
    return reference


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_equals_torchvision_mvit_v2_s(torchvision_mvit, attention):
    model = EchoMvitModel._from_config(EchoMvitConfig(), attn_implementation=attention).eval()
    model.load_state_dict(from_torchvision(torchvision_mvit.state_dict()))
    clips = torch.randn(1, 16, 3, 224, 224)
    with torch.no_grad():
        ours = model(clips).pooler_output
        theirs = torchvision_mvit(clips.transpose(1, 2))
    assert ours.shape == (1, 768)
    assert theirs.abs().mean() > 0.1
    assert (ours - theirs).abs().max() < 2e-5


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
