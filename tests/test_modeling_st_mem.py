"""ST-MEM encoder against the published module's outputs and for what its mask promises."""

import re

import numpy as np
import pytest
import torch

from tgmm_hf.configuration_tgmm import StMemConfig
from tgmm_hf.modeling_st_mem import StMemModel

RENAMES = (
    (r"^pos_embedding$", "embeddings.position_embeddings"),
    (r"^sep_embedding$", "embeddings.separator_embedding"),
    (r"^to_patch_embedding\.1\.", "embeddings.patch_norm."),
    (r"^to_patch_embedding\.2\.", "embeddings.patch_projection."),
    (r"^to_patch_embedding\.3\.", "embeddings.projection_norm."),
    (r"^block(\d+)\.", r"layers.\1."),
    (r"\.attn\.norm\.", ".layernorm_before."),
    (r"\.attn\.fn\.to_qkv\.", ".attention.qkv."),
    (r"\.attn\.fn\.to_out\.0\.", ".attention.output."),
    (r"\.ff\.norm\.", ".layernorm_after."),
    (r"\.ff\.fn\.net\.0\.", ".mlp.fc1."),
    (r"\.ff\.fn\.net\.3\.", ".mlp.fc2."),
    (r"^norm\.", "layernorm."),
)


def from_official(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    renamed = {
        "embeddings.lead_embeddings": torch.stack([weights[f"lead_embeddings.{lead}"] for lead in range(12)]),
    }
    for name, value in weights.items():
        if name.startswith("lead_embeddings."):
            continue
        for pattern, replacement in RENAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed


def small_model(**overrides) -> StMemModel:
    torch.manual_seed(0)
    settings = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "attention_head_size": 16}
    return StMemModel(StMemConfig(**{**settings, "intermediate_size": 64, **overrides})).eval()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_equals_the_published_encoder(shared_dir, attention):
    golden = np.load(shared_dir / "golden" / "st_mem_encoder_w96_d3.npz")
    config = StMemConfig(
        hidden_size=96, num_hidden_layers=3, num_attention_heads=3, attention_head_size=32, intermediate_size=192
    )
    model = StMemModel._from_config(config, attn_implementation=attention).eval()
    weights = {key[7:]: torch.tensor(golden[key]) for key in golden.files if key.startswith("weight/")}
    model.load_state_dict(from_official(weights))
    with torch.no_grad():
        pooled = model(torch.tensor(golden["input"])).pooler_output
    assert (pooled - torch.tensor(golden["pooled"])).abs().max() < 1e-5


def test_base_size_has_the_published_number_of_parameters():
    assert sum(p.numel() for p in StMemModel(StMemConfig()).parameters()) == 85_150_614


def test_what_stands_in_a_masked_lead_does_not_matter():
    model = small_model()
    ecg = torch.randn(2, 12, 2250)
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[0, [3, 7]] = False
    other = ecg.clone()
    other[0, 3], other[0, 7] = 1e4, torch.nan
    with torch.no_grad():
        first, second, unmasked = model(ecg, mask), model(other, mask), model(ecg)
    assert torch.allclose(first.pooler_output, second.pooler_output, atol=1e-6)
    assert not torch.allclose(first.pooler_output[0], unmasked.pooler_output[0], atol=1e-3)
    assert torch.allclose(first.pooler_output[1], unmasked.pooler_output[1], atol=1e-6)


def test_lead_order_matters():
    model = small_model()
    with torch.no_grad():
        model.embeddings.lead_embeddings.normal_()
        ecg = torch.randn(1, 12, 2250)
        swapped = ecg[:, [0, 1, 2, 3, 5, 4, *range(6, 12)]]
        assert not torch.allclose(model(ecg).pooler_output, model(swapped).pooler_output, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "message"), [((1, 8, 2250), "12 leads, got 8"), ((1, 12, 2200), "got 2200"), ((1, 12, 2325), "got 2325")]
)
def test_wrong_shapes_are_refused_with_both_values(shape, message):
    with pytest.raises(ValueError, match=message):
        small_model()(torch.zeros(shape))


def test_shorter_ecg_of_whole_patches_is_encoded():
    assert small_model()(torch.zeros(1, 12, 750)).last_hidden_state.shape == (1, 12 * 10, 32)
