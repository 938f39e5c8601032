"""MViT-v2: size and geometry. Parity with torchvision's is in tests/convert."""

import pytest
import torch

from tgmm_hf.configuration_tgmm import EchoMvitConfig
from tgmm_hf.modeling_echo_mvit import EchoMvitModel


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
