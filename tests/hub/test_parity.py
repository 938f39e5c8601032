"""Converted encoders against independent implementations, with random weights in the published layouts.

Oracles: torchvision's MViT-v2-S and ConvNeXt; for ST-MEM the published modules' own outputs (golden arrays), and the
equations written out once more here with einsum. The largest differences are printed: `pytest -s`.
"""

import math

import numpy as np
import pytest
import torch
from official_layouts import randomise, st_mem_encoder, st_mem_full

from tgmm_hf.hub.convert.encoders import convnext_views, mvit_v2_s, st_mem
from tgmm_hf.hub.convert.renaming import ConversionError
from tgmm_hf.utils.names import VIEWS

TOLERANCE = 1e-4


def report(what: str, ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Print and return the largest absolute difference, beside the size of the numbers."""
    difference = (ours - theirs).abs().max().item()
    print(f"\nparity {what}: max abs diff {difference:.1e} of values up to {theirs.abs().max().item():.1f}", end="")
    return difference


# ---- ST-MEM


def layer_norm(x: torch.Tensor, weights: dict[str, torch.Tensor], name: str, eps: float = 1e-5) -> torch.Tensor:
    centred = x - x.mean(-1, keepdim=True)
    unit = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    return unit * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x: torch.Tensor, weights: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    return torch.einsum("...i,oi->...o", x, weights[f"{name}.weight"]) + weights[f"{name}.bias"]


def block(x: torch.Tensor, weights: dict[str, torch.Tensor], name: str, head_size: int = 64) -> torch.Tensor:
    """One pre-norm block on (batch, tokens, width)."""
    qkv = linear(layer_norm(x, weights, f"{name}.attn.norm"), weights, f"{name}.attn.fn.to_qkv")
    q, k, v = (part.unflatten(-1, (-1, head_size)) for part in qkv.chunk(3, dim=-1))
    attention = (torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(head_size)).softmax(-1)
    context = torch.einsum("bhqk,bkhd->bqhd", attention, v).flatten(2)
    x = x + linear(context, weights, f"{name}.attn.fn.to_out.0")
    hidden = linear(layer_norm(x, weights, f"{name}.ff.norm"), weights, f"{name}.ff.fn.net.0")
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    return x + linear(hidden, weights, f"{name}.ff.fn.net.3")


def embed(ecg: torch.Tensor, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """ECG (B, L, T) -> patches with positions (B, L, 30, width)."""
    patches = ecg.unflatten(2, (-1, 75))
    patches = layer_norm(patches, weights, "to_patch_embedding.1")
    patches = layer_norm(linear(patches, weights, "to_patch_embedding.2"), weights, "to_patch_embedding.3")
    return patches + weights["pos_embedding"][:, None, 1:-1]


def with_separators(patches: torch.Tensor, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """(B, L, K, width) -> (B, L, K + 2, width), lead embeddings added."""
    positions, separator = weights["pos_embedding"], weights["sep_embedding"]
    rows = []
    for lead in range(patches.shape[1]):
        left = (separator + positions[0, 0]).expand(len(patches), 1, -1)
        right = (separator + positions[0, -1]).expand(len(patches), 1, -1)
        rows.append(torch.cat([left, patches[:, lead], right], dim=1) + weights[f"lead_embeddings.{lead}"])
    return torch.stack(rows, dim=1)


def encode(ecg: torch.Tensor, weights: dict[str, torch.Tensor], depth: int) -> torch.Tensor:
    """Pooled output of the encoder, from the description of the paper."""
    tokens = with_separators(embed(ecg, weights), weights)
    x = tokens.flatten(1, 2)
    for layer in range(depth):
        x = block(x, weights, f"block{layer}")
    patches = x.unflatten(1, tokens.shape[1:3])[:, :, 1:-1]
    return layer_norm(patches.mean((1, 2)), weights, "norm")


def autoencode(ecg: torch.Tensor, noise: torch.Tensor, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Prediction, mask and loss of the masked autoencoder (2 + 2 blocks), one ECG and one lead after the other."""
    encoder = {name.removeprefix("encoder."): tensor for name, tensor in weights.items() if name.startswith("encoder.")}
    patches = embed(ecg, encoder)
    order = noise.argsort(-1)
    kept = torch.stack(
        [torch.stack([p[o[:7]] for p, o in zip(*ecg, strict=True)]) for ecg in zip(patches, order, strict=True)]
    )
    x = with_separators(kept, encoder).flatten(1, 2)
    for layer in range(2):
        x = block(x, encoder, f"block{layer}")
    x = linear(layer_norm(x, encoder, "norm"), weights, "to_decoder_embedding").unflatten(1, (ecg.shape[1], 9))
    predicted, mask = torch.zeros(*noise.shape, 75), torch.ones_like(noise)
    for sample in range(len(ecg)):
        for lead in range(ecg.shape[1]):
            row = weights["mask_embedding"][0, 0].repeat(32, 1)
            row[0], row[31] = x[sample, lead, 0], x[sample, lead, -1]
            for place, token in zip(order[sample, lead, :7], x[sample, lead, 1:-1], strict=True):
                row[1 + place] = token
                mask[sample, lead, place] = 0
            row = (row + weights["decoder_pos_embed"][0])[None]
            for layer in range(2):
                row = block(row, weights, f"decoder_blocks.{layer}")
            row = linear(layer_norm(row, weights, "decoder_norm", eps=1e-6), weights, "decoder_head")
            predicted[sample, lead] = row[0, 1:-1]
    target = ecg.unflatten(2, (-1, 75))
    target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
    errors = (predicted - target).square().mean(-1)
    return {"logits": predicted, "mask": mask, "loss": (errors * mask).sum() / mask.sum()}


def golden(shared_dir, name: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Weights and arrays of a golden file."""
    arrays = np.load(shared_dir / "golden" / name)
    tensors = {key: torch.tensor(arrays[key]) for key in arrays.files}
    weights = {key.removeprefix("weight/"): value for key, value in tensors.items() if key.startswith("weight/")}
    return weights, tensors


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_st_mem_equals_the_published_encoder(shared_dir, attention):
    weights, arrays = golden(shared_dir, "st_mem_encoder_w96_d3.npz")
    model = st_mem(weights, attention_head_size=32).model
    model.set_attn_implementation(attention)
    with torch.no_grad():
        pooled = model(arrays["input"]).pooler_output
    assert report("ST-MEM encoder, published module", pooled, arrays["pooled"]) <= 1e-5


def test_st_mem_equals_the_published_autoencoder(shared_dir):
    weights, arrays = golden(shared_dir, "st_mem_mae_w64_d2.npz")
    model = st_mem(weights).model
    model.decoder.layernorm.eps = 1e-5  # the golden module was built by hand, the published sizes have 1e-6 here
    with torch.no_grad():
        output = model(arrays["input"], noise=arrays["noise"])
    assert torch.equal(output.mask, arrays["mask"].bool())
    assert report("ST-MEM autoencoder, published module: prediction", output.logits, arrays["pred"]) <= 1e-5
    assert report("ST-MEM autoencoder, published module: loss", output.loss, arrays["loss"]) <= 1e-5


@pytest.mark.parametrize("batch_size", [1, 3])
def test_st_mem_encoder_equals_its_description(batch_size):
    weights = st_mem_encoder()
    model = st_mem(weights).model
    ecg = torch.randn(batch_size, 12, 2250)
    with torch.no_grad():
        pooled = model(ecg).pooler_output
    assert report(f"ST-MEM encoder, written out, batch {batch_size}", pooled, encode(ecg, weights, 2)) <= 1e-5


def test_st_mem_autoencoder_equals_its_description():
    weights = st_mem_full()
    model = st_mem(weights).model
    ecg, noise = torch.randn(2, 12, 2250), torch.rand(2, 12, 30)
    with torch.no_grad():
        output = model(ecg, noise=noise)
    expected = autoencode(ecg, noise, weights)
    assert torch.equal(output.mask.float(), expected["mask"])
    assert report("ST-MEM autoencoder, written out: prediction", output.logits, expected["logits"]) <= 1e-5
    assert report("ST-MEM autoencoder, written out: loss", output.loss, expected["loss"]) <= 1e-5


@pytest.mark.parametrize(("width", "heads"), [(384, 6), (768, 12)], ids=["small", "base"])
def test_st_mem_sizes_are_read_from_the_shapes(width, heads):
    config = st_mem(st_mem_encoder(width, depth=3, heads=heads)).model.config
    assert (config.hidden_size, config.num_attention_heads, config.num_hidden_layers) == (width, heads, 3)
    assert (config.seq_length, config.patch_size, config.num_leads) == (2250, 75, 12)


def test_st_mem_fine_tuned_on_one_lead_keeps_its_leads_and_loses_its_head():
    weights = st_mem_encoder(leads=1) | {"head.weight": torch.zeros(5, 48), "head.bias": torch.zeros(5)}
    converted = st_mem(weights)
    assert converted.dropped == ["head.weight", "head.bias"]
    assert converted.model.config.num_leads == 1
    assert converted.model(torch.zeros(1, 1, 2250)).pooler_output.shape == (1, 48)


# ---- MViT-v2-S


@pytest.fixture
def echoprime(monkeypatch):
    """Builds torchvision's MViT-v2-S with another head, as EchoPrime does, for any clip geometry."""
    mvit = pytest.importorskip("torchvision.models.video.mvit", reason="torchvision is the parity oracle (dev extra)")
    build = mvit._mvit  # `mvit_v2_s` fixes 16 frames of 224 px

    def make(frames: int, size: int, classes: int) -> torch.nn.Module:
        geometry = {"temporal_size": frames, "spatial_size": (size, size)}
        monkeypatch.setattr(mvit, "_mvit", lambda **settings: build(**{**settings, **geometry}))
        return randomise(mvit.mvit_v2_s(num_classes=classes))

    return make


@pytest.mark.parametrize(
    ("batch_size", "frames", "size"),
    [(1, 16, 224), (3, 8, 64), (2, 4, 96), pytest.param(2, 32, 224, marks=pytest.mark.slow)],
)
def test_mvit_equals_torchvision(echoprime, batch_size, frames, size):
    reference = echoprime(frames, size, 512)
    model = mvit_v2_s(reference.state_dict(), keep_head=True).model
    assert (model.config.num_frames, model.config.image_size) == (frames, size)
    clips = torch.randn(batch_size, frames, 3, size, size)
    with torch.no_grad():
        trunks: list[torch.Tensor] = []
        reference.head.register_forward_pre_hook(lambda _, inputs: trunks.append(inputs[0]))
        ours, theirs = model(clips), reference(clips.transpose(1, 2))
        (trunk,) = trunks
    what = f"MViT-v2-S, torchvision, {batch_size} x {frames} frames of {size} px"
    assert report(f"{what}: 768-d trunk", ours.pooler_output, trunk) <= TOLERANCE
    assert report(f"{what}: 512-d head", ours.video_embeds, theirs) <= TOLERANCE
    assert ours.video_embeds.shape == (batch_size, 512)


def test_trunk_alone_leaves_the_head_out(echoprime):
    reference = echoprime(4, 64, 400)
    converted = mvit_v2_s(reference.state_dict())
    assert converted.dropped == ["head.1.weight", "head.1.bias"]
    clips = torch.randn(2, 4, 3, 64, 64)
    reference.head = torch.nn.Identity()
    with torch.no_grad():
        difference = report(
            "MViT-v2-S, Kinetics layout", converted.model(clips).pooler_output, reference(clips.transpose(1, 2))
        )
    assert difference <= TOLERANCE


# ---- ConvNeXt


@pytest.fixture(scope="module")
def convnext_base():
    models = pytest.importorskip("torchvision.models", reason="torchvision is the parity oracle (dev extra)")
    return randomise(models.convnext_base(num_classes=len(VIEWS)))


@pytest.mark.parametrize(("batch_size", "size"), [(1, 224), (3, 160)])
def test_view_classifier_equals_torchvision(convnext_base, batch_size, size):
    model = convnext_views(convnext_base.state_dict()).model
    frames = torch.randn(batch_size, 3, size, size)
    with torch.no_grad():
        ours, theirs = model(frames).logits, convnext_base(frames)
    assert report(f"ConvNeXt-base, torchvision, {batch_size} x {size} px", ours, theirs) <= TOLERANCE
    assert model.config.id2label == dict(enumerate(VIEWS))
    assert sum(p.numel() for p in model.parameters()) == 87_577_739


# ---- what does not fit


def test_missing_and_unexpected_tensors_are_all_listed():
    weights = st_mem_encoder()
    del weights["norm.bias"]
    weights["block1.ff.norm.weight"] = torch.zeros(3)
    weights["surprise"] = torch.zeros(2)
    with pytest.raises(ConversionError) as caught:
        st_mem(weights)
    text = str(caught.value)
    assert "3 tensors are in the way" in text
    assert "missing: layernorm.bias (48,)" in text
    assert "unexpected: surprise (2,)" in text
    assert "wrong shape: layers.1.layernorm_after.weight is (3,), expected (48,)" in text


@pytest.mark.parametrize("convert", [st_mem, mvit_v2_s, convnext_views])
def test_another_models_weights_are_refused(convert):
    with pytest.raises(ConversionError, match=r"no .* checkpoint: it lacks .*fc\.weight"):
        convert({"fc.weight": torch.zeros(2, 2)})


def test_other_problems_are_named():
    full = st_mem_full()
    full["to_patch_embedding.1.bias"] = full["to_patch_embedding.1.bias"] + 1
    with pytest.raises(ConversionError, match=r"copy of encoder.to_patch_embedding.1.bias, but the two differ"):
        st_mem(full)
    with pytest.raises(ConversionError, match="expected 3 x heads x 64"):
        st_mem(st_mem_encoder(head_size=40))
    gap = {name: tensor for name, tensor in st_mem_encoder(depth=3).items() if not name.startswith("block1.")}
    with pytest.raises(ConversionError, match=r"without a gap, got \[0, 2\]"):
        st_mem(gap)
