"""Encoders of 2024 to 2026, converted from random weights in their published layouts, against their descriptions.

The largest differences are printed: `pytest -s`.
"""

import pytest
import torch
from published_encoders import (
    ecg_fm_tokens,
    ecg_fm_weights,
    echo_jepa_tokens,
    echo_jepa_weights,
    hubert_ecg_tokens,
    hubert_ecg_weights,
    pan_echo_tokens,
    pan_echo_weights,
)

from tgmm_hf.hub.convert.ecg_fm import ecg_fm
from tgmm_hf.hub.convert.echo_jepa import echo_jepa
from tgmm_hf.hub.convert.hubert_ecg import hubert_ecg
from tgmm_hf.hub.convert.pan_echo import pan_echo
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


# ---- EchoJEPA


def rebuilt(model: torch.nn.Module, **sizes: int) -> torch.nn.Module:
    """Build a model again with other sizes of a clip, which no weight depends on."""
    config = type(model.config).from_dict({**model.config.to_dict(), **sizes, "preprocessing": None})
    other = type(model)(config).eval()
    other.load_state_dict(model.state_dict())
    return other


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_echo_jepa_equals_its_description(attention):
    weights = echo_jepa_weights()
    converted = echo_jepa(weights, num_attention_heads=2)
    model = rebuilt(converted.model, crop_size=48, frames_per_clip=6)
    model.set_attn_implementation(attention)
    clips = torch.randn(2, 6, 3, 48, 48)
    with torch.no_grad():
        output = model(clips)
    expected = echo_jepa_tokens(clips, weights, heads=2)
    assert expected.shape == (2, 3 * 3 * 3, 128)
    assert difference(f"EchoJEPA, {attention}", output.last_hidden_state, expected) <= TOLERANCE
    assert difference("EchoJEPA, pooled", output.pooler_output, expected.mean(1)) <= TOLERANCE
    assert not converted.dropped and "224 pixels" in converted.changes[0]


def test_echo_jepa_at_its_own_size_equals_its_description():
    weights = echo_jepa_weights(width=64, depth=1)
    model = echo_jepa(weights, num_attention_heads=1).model
    assert (model.config.image_size, model.config.num_frames) == (224, 16)
    clips = torch.randn(1, 16, 3, 224, 224)
    with torch.no_grad():
        tokens = model(clips).last_hidden_state
    assert tokens.shape == (1, 8 * 14 * 14, 64)
    assert difference("EchoJEPA, 16 frames of 224 px", tokens, echo_jepa_tokens(clips, weights, 1, 1)) <= TOLERANCE


@pytest.mark.parametrize(("width", "heads"), [(1024, 16), (1408, 22)])
def test_sizes_of_echo_jepa_are_read_from_the_shapes(width, heads):
    weights = echo_jepa_weights(width, depth=1)
    hidden = {1024: 4096, 1408: 6144}[width]
    weights["module.backbone.blocks.0.mlp.fc1.weight"] = torch.zeros(hidden, width)
    weights["module.backbone.blocks.0.mlp.fc1.bias"] = torch.zeros(hidden)
    weights["module.backbone.blocks.0.mlp.fc2.weight"] = torch.zeros(width, hidden)
    config = echo_jepa(weights).model.config
    assert (config.hidden_size, config.num_attention_heads, config.num_hidden_layers) == (width, heads, 1)
    assert (config.patch_size, config.tubelet_size) == (16, 2)


def test_another_v_jepa_is_refused():
    with pytest.raises(ConversionError, match="rotary positions"):
        echo_jepa({**echo_jepa_weights(), "module.backbone.pos_embed": torch.zeros(1, 8, 128)})
    with pytest.raises(ConversionError, match="128 wide, and no tensor shows the number of attention heads"):
        echo_jepa(echo_jepa_weights())
    image = {**echo_jepa_weights(), "module.backbone.patch_embed.proj.weight": torch.zeros(128, 3, 16, 16)}
    with pytest.raises(ConversionError, match="4 axes, expected 5"):
        echo_jepa(image, num_attention_heads=2)


# ---- PanEcho


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_pan_echo_equals_its_description(attention):
    weights = pan_echo_weights()
    converted = pan_echo(weights)
    model = rebuilt(converted.model, image_size=64)
    model.set_attn_implementation(attention)
    clips = torch.randn(2, 4, 3, 64, 64)
    with torch.no_grad():
        output = model(clips)
    expected = pan_echo_tokens(clips, weights, heads=8)
    assert expected.shape == (2, 4, 32)
    assert difference(f"PanEcho, {attention}", output.last_hidden_state, expected) <= TOLERANCE
    assert difference("PanEcho, pooled", output.pooler_output, expected.mean(1)) <= TOLERANCE
    heads = {f"{task}_head.1.{kind}" for task in ("EF", "LVSize") for kind in ("weight", "bias")}
    assert set(converted.dropped) == {*heads, "time_encoder.pe"}


def test_the_backbone_of_pan_echo_alone_is_read_too():
    weights = pan_echo_weights()
    backbone = {name.removeprefix("encoder."): value for name, value in weights.items() if "_head" not in name}
    one, two = pan_echo(weights).model.state_dict(), pan_echo(backbone).model.state_dict()
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_pan_echo_with_other_positions_is_refused():
    weights = pan_echo_weights()
    weights["encoder.time_encoder.pe"] = weights["encoder.time_encoder.pe"] + 0.1
    with pytest.raises(ConversionError, match=r"differ from PanEcho's sines and cosines by up to 0\.1"):
        pan_echo(weights)


def test_pan_echo_equals_torchvision_and_torch():
    """The published modules themselves: torchvision's ConvNeXt and PyTorch's transformer layers."""
    convnext = pytest.importorskip("torchvision.models.convnext", reason="torchvision is an oracle (dev extra)")
    weights = pan_echo_weights()
    widths = (8, 16, 24, 32)
    settings = zip(widths, [*widths[1:], None], (1, 1, 2, 1), strict=True)
    frames = convnext.ConvNeXt([convnext.CNBlockConfig(*each) for each in settings])
    frames.classifier[-1] = torch.nn.Identity()
    layer = torch.nn.TransformerEncoderLayer(32, 8, 40, dropout=0, activation="relu", batch_first=True)
    temporal = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    for module, start in ((frames, "encoder.encoder.model."), (temporal, "encoder.transformer.")):
        own = {name.removeprefix(start): value for name, value in weights.items() if name.startswith(start)}
        module.load_state_dict(own)
        module.eval()
    clips = torch.randn(2, 4, 3, 64, 64)
    with torch.no_grad():
        embedded = frames(clips.flatten(0, 1)).unflatten(0, (2, 4)) + weights["encoder.time_encoder.pe"]
        expected = temporal(embedded)
        tokens = rebuilt(pan_echo(weights).model, image_size=64)(clips).last_hidden_state
    assert difference("PanEcho, torchvision and torch", tokens, expected) <= TOLERANCE


# ---- ECG-FM


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("old_names", [False, True])
def test_ecg_fm_equals_its_description(attention, old_names):
    weights = ecg_fm_weights()
    converted = ecg_fm(ecg_fm_weights(old_names=old_names), num_attention_heads=4)
    converted.model.set_attn_implementation(attention)
    ecg = torch.randn(2, 12, 2500)
    with torch.no_grad():
        output = converted.model(ecg)
    expected = ecg_fm_tokens(ecg, weights, heads=4)
    assert expected.shape == (2, 156, 32)
    assert difference(f"ECG-FM, {attention}", output.last_hidden_state, expected) <= TOLERANCE
    assert difference("ECG-FM, pooled", output.pooler_output, expected.mean(1)) <= TOLERANCE
    assert {"mask_emb", "quantizer.vars", "final_proj.weight"} <= set(converted.dropped)


def test_a_fine_tuned_ecg_fm_loses_its_classifier():
    weights = ecg_fm_weights()
    heads = ("quantizer", "project_q", "final_proj")
    tuned = {f"encoder.{name}": value for name, value in weights.items() if not name.startswith(heads)}
    tuned |= {"proj.weight": torch.zeros(17, 32), "proj.bias": torch.zeros(17)}
    converted = ecg_fm(tuned, num_attention_heads=4)
    assert set(converted.dropped) == {"encoder.mask_emb", "proj.weight", "proj.bias"}
    ecg = torch.randn(1, 12, 2500)
    with torch.no_grad():
        tokens = converted.model(ecg).last_hidden_state
    assert difference("ECG-FM, fine-tuned", tokens, ecg_fm_tokens(ecg, weights, heads=4)) <= TOLERANCE


def test_settings_of_the_file_are_checked():
    """No tensor shows where the norms are and how many heads there are, and the file says so."""
    weights, ecg = ecg_fm_weights(), torch.randn(1, 12, 2500)
    settings = {"layer_norm_first": False, "encoder_attention_heads": 4, "extractor_mode": "default"}
    with torch.no_grad():
        tokens = ecg_fm(weights, settings=settings).model(ecg).last_hidden_state
    assert difference("ECG-FM, heads of the file", tokens, ecg_fm_tokens(ecg, weights, heads=4)) <= TOLERANCE
    with pytest.raises(ConversionError, match=r"layer_norm_first: it is True.*False"):
        ecg_fm(weights, settings={**settings, "layer_norm_first": True})


def test_another_ecg_fm_is_refused():
    weights = ecg_fm_weights()
    weights["feature_extractor.conv_layers.0.0.weight"] = torch.zeros(24, 8, 2)
    with pytest.raises(ConversionError, match=r"over 8 leads.*\(2, 2, 2, 2\) over 12"):
        ecg_fm(weights, num_attention_heads=4)
    with pytest.raises(ConversionError, match="32 wide, and no tensor shows the number of attention heads"):
        ecg_fm(ecg_fm_weights())


# ---- what does not fit

CONVERTERS = {
    "hubert-ecg": (lambda weights: hubert_ecg(weights, num_attention_heads=4), hubert_ecg_weights),
    "echojepa": (lambda weights: echo_jepa(weights, num_attention_heads=2), echo_jepa_weights),
    "panecho": (pan_echo, pan_echo_weights),
    "ecg-fm": (lambda weights: ecg_fm(weights, num_attention_heads=4), ecg_fm_weights),
}


@pytest.mark.parametrize("kind", list(CONVERTERS))
def test_missing_and_unknown_tensors_are_all_named(kind):
    convert, make_weights = CONVERTERS[kind]
    weights = make_weights()
    gone = next(name for name in reversed(list(weights)) if "layers.1." in name or "blocks.1." in name)
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
