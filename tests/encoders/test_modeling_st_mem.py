"""ST-MEM encoder: size, and what its mask promises. Parity with the published module is in tests/convert."""

import pytest
import torch

from tgmm_hf.encoders.configuration_st_mem import StMemConfig
from tgmm_hf.encoders.modeling_st_mem import StMemModel


def small_model(**overrides) -> StMemModel:
    torch.manual_seed(0)
    settings = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "attention_head_size": 16}
    return StMemModel(StMemConfig(**{**settings, "intermediate_size": 64, **overrides})).eval()


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


def test_without_patch_norms_the_size_of_a_patch_reaches_the_model():
    """With the published norms, a patch and its double are the same token."""
    ecg = torch.randn(1, 12, 150, generator=torch.Generator().manual_seed(0))
    with_norms, without = small_model(), small_model(patch_norms=False)
    for model, is_equal in ((with_norms, True), (without, False)):
        model.embeddings.patch_projection.bias.data.zero_()
        one, double = model.embeddings.embed_patches(ecg), model.embeddings.embed_patches(2 * ecg)
        assert torch.allclose(one, double, atol=1e-3) is is_equal
    assert not [name for name in without.state_dict() if "norm" in name and "embeddings" in name]
