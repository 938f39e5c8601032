"""Encoders of 2024 to 2026, converted from random weights in their published layouts, against their descriptions.

The largest differences are printed: `pytest -s`.
"""

import pytest
import torch
from published_encoders import hubert_ecg_tokens, hubert_ecg_weights

from tgmm_hf.hub.convert.hubert_ecg import hubert_ecg
from tgmm_hf.hub.convert.renaming import ConversionError

TOLERANCE = 1e-4


def difference(what: str, ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Print and return the largest absolute difference, beside the size of the numbers."""
    largest = (ours - theirs).abs().max().item()
    print(f"\nparity {what}: max abs diff {largest:.1e} of values up to {theirs.abs().max().item():.1f}", end="")
    return largest


# ---- HuBERT-ECG


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("old_names", [False, True])
def test_hubert_ecg_equals_its_description(attention, old_names):
    weights = hubert_ecg_weights()
    converted = hubert_ecg(hubert_ecg_weights(old_names=old_names), num_attention_heads=4)
    converted.model.set_attn_implementation(attention)
    ecg = torch.randn(2, 12, 500)
    with torch.no_grad():
        output = converted.model(ecg)
    expected = hubert_ecg_tokens(ecg, weights, heads=4)
    assert expected.shape == (2, 93, 32)
    assert difference(f"HuBERT-ECG, {attention}", output.last_hidden_state, expected) <= TOLERANCE
    assert difference("HuBERT-ECG, pooled", output.pooler_output, expected.mean(1)) <= TOLERANCE
    left_out = {"masked_spec_embed", "final_proj.0.weight", "final_proj.0.bias", "label_embedding.0.weight"}
    assert set(converted.dropped) == left_out


def test_hubert_ecg_depends_on_each_lead_and_its_place():
    model = hubert_ecg(hubert_ecg_weights(), num_attention_heads=4).model
    ecg = torch.randn(1, 12, 500)
    with torch.no_grad():
        whole = model(ecg).pooler_output
        for lead in range(12):
            other = ecg.clone()
            other[0, lead] = 0
            assert (model(other).pooler_output - whole).abs().max() > 1e-4
        assert (model(ecg.flip(1)).pooler_output - whole).abs().max() > 1e-4


def test_a_fine_tuned_hubert_ecg_loses_its_classifier():
    pre_trained = hubert_ecg_weights()
    left_out = ("final_proj", "label_embedding")
    weights = {f"hubert_ecg.{name}": value for name, value in pre_trained.items() if not name.startswith(left_out)}
    weights |= {"classifier.weight": torch.zeros(6, 32), "classifier.bias": torch.zeros(6)}
    converted = hubert_ecg(weights, num_attention_heads=4)
    assert set(converted.dropped) == {"masked_spec_embed", "classifier.weight", "classifier.bias"}
    ecg = torch.randn(1, 12, 500)
    with torch.no_grad():
        tokens = converted.model(ecg).last_hidden_state
    assert difference("HuBERT-ECG, fine-tuned", tokens, hubert_ecg_tokens(ecg, pre_trained, heads=4)) <= TOLERANCE


@pytest.mark.parametrize(("width", "heads"), [(512, 8), (768, 12), (960, 12)])
def test_sizes_of_hubert_ecg_are_read_from_the_shapes(width, heads):
    weights = hubert_ecg_weights(width, depth=1)
    weights["encoder.pos_conv_embed.conv.parametrizations.weight.original1"] = torch.randn(width, width // 16, 128)
    config = hubert_ecg(weights).model.config
    assert (config.hidden_size, config.num_attention_heads, config.num_hidden_layers) == (width, heads, 1)
    assert (config.num_conv_pos_embeddings, config.num_conv_pos_embedding_groups) == (128, 16)


def test_hubert_ecg_of_another_rate_or_width_is_refused():
    other_rate = {**hubert_ecg_weights(), "feature_extractor.conv_layers.5.conv.weight": torch.zeros(24, 24, 2)}
    with pytest.raises(ConversionError, match=r"kernels \(10, 3, 3, 2, 2, 2\).*published.*\(10, 3, 3, 2, 2\)"):
        hubert_ecg(other_rate, num_attention_heads=4)
    with pytest.raises(ConversionError, match="32 wide, and no tensor shows the number of attention heads"):
        hubert_ecg(hubert_ecg_weights())


# ---- what does not fit

CONVERTERS = {"hubert-ecg": (lambda weights: hubert_ecg(weights, num_attention_heads=4), hubert_ecg_weights)}


@pytest.mark.parametrize("kind", list(CONVERTERS))
def test_missing_and_unknown_tensors_are_all_named(kind):
    convert, make_weights = CONVERTERS[kind]
    weights = make_weights()
    gone = next(name for name in reversed(list(weights)) if ".1." in name and name.endswith("bias"))
    del weights[gone]
    weights["surprise.weight"] = torch.zeros(2)
    with pytest.raises(ConversionError) as caught:
        convert(weights)
    assert "unexpected: surprise.weight (2,)" in str(caught.value)
    assert str(caught.value).count("missing: ") == 1


@pytest.mark.parametrize("kind", list(CONVERTERS))
def test_weights_of_another_model_are_refused(kind):
    with pytest.raises(ConversionError, match=r"no .* checkpoint: it lacks .*fc\.weight"):
        CONVERTERS[kind][0]({"fc.weight": torch.zeros(2, 2)})
