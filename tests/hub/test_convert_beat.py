"""`tgmm convert beat`: a file of the public prototype becomes a BeatModel that computes the same.

`forward_of_prototype` writes the prototype's forward pass out in plain PyTorch, from the description of its layout.
"""

import re
from pathlib import Path

import pytest
import torch
from closeness import assert_close
from command_line import run
from torch.nn import functional
from transformers import AutoModel

from tgmm_hf import BeatModel
from tgmm_hf.hub.convert import convert
from tgmm_hf.hub.convert.beat import beat_prototype, stored_gamma
from tgmm_hf.hub.convert.renaming import ConversionError
from tgmm_hf.utils.errors import TgmmError

pytestmark = pytest.mark.usefixtures("forked_reading")

LEADS, PATCH, HEAD = 12, 25, 64
WINDOWS = torch.randn(4, LEADS, 500, generator=torch.Generator().manual_seed(1))


def prototype_file(offset: float = 1.0, width: int = 32, depth: int = 2, heads: int = 2) -> dict[str, torch.Tensor]:
    """Random tensors in the layout of the prototype (published: 128 wide, 6 layers, 8 heads, 256 codes).

    `offset` is the mean of the stored gammas: 1 for gains, 0 for gains minus one.
    """
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) / shape[-1] ** 0.5

    patches, codes, inner = 20, 16, heads * HEAD
    weights = {"latents": normal(10, width), "mask_tokens": normal(patches, width), "pos_emb.weight": normal(64, width)}
    for name, shape in (
        ("sequence_to_tokens.1", (width, LEADS * PATCH)),
        ("tokens_to_sequence.0", (LEADS * PATCH, width)),
    ):
        weights |= {f"{name}.weight": normal(*shape), f"{name}.bias": normal(shape[0])}
    for stack in ("encoder", "decoder"):
        for layer in range(2 * depth):
            prefix = f"{stack}.layers.{layer}"
            weights[f"{prefix}.0.0.gamma"] = offset + 0.1 * torch.randn(width, generator=generator)
            if layer % 2 == 0:
                weights |= {f"{prefix}.1.to_{name}.weight": normal(inner, width) for name in "qkv"}
                weights[f"{prefix}.1.to_out.weight"] = normal(width, inner)
            else:
                weights |= {
                    f"{prefix}.1.ff.0.0.weight": normal(4 * width, width),
                    f"{prefix}.1.ff.0.0.bias": normal(4 * width),
                }
                weights |= {f"{prefix}.1.ff.2.weight": normal(width, 4 * width), f"{prefix}.1.ff.2.bias": normal(width)}
        weights[f"{stack}.final_norm.gamma"] = offset + 0.1 * torch.randn(width, generator=generator)
    vectors = torch.randn(1, codes, width, generator=generator)
    codebook = {"embed": vectors, "embed_avg": 3 * vectors, "cluster_size": torch.full((1, codes), 3.0)}
    codebook["initted"] = torch.ones(1)
    return weights | {f"vq._codebook.{name}": value for name, value in codebook.items()}


def stack_of_prototype(
    weights: dict[str, torch.Tensor], stack: str, tokens: torch.Tensor, added: float
) -> torch.Tensor:
    """One of the two stacks: norms with a gain only, attention without biases, an MLP, and a last norm."""

    def norm(values: torch.Tensor, name: str) -> torch.Tensor:
        centred = values - values.mean(-1, keepdim=True)
        scaled = centred / (values.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        return scaled * (weights[name] + added)

    depth = len([name for name in weights if re.fullmatch(rf"{stack}\.layers\.\d+\.0\.0\.gamma", name)])
    for layer in range(depth):
        prefix = f"{stack}.layers.{layer}"
        normed = norm(tokens, f"{prefix}.0.0.gamma")
        if layer % 2 == 0:
            q, k, v = (normed @ weights[f"{prefix}.1.to_{name}.weight"].T for name in "qkv")
            heads = []
            for start in range(0, q.shape[-1], HEAD):
                one = slice(start, start + HEAD)
                scores = torch.einsum("bid,bjd->bij", q[..., one], k[..., one]) / HEAD**0.5
                heads.append(scores.softmax(-1) @ v[..., one])
            tokens = tokens + torch.cat(heads, -1) @ weights[f"{prefix}.1.to_out.weight"].T
        else:
            inner = functional.gelu(
                normed @ weights[f"{prefix}.1.ff.0.0.weight"].T + weights[f"{prefix}.1.ff.0.0.bias"]
            )
            tokens = tokens + inner @ weights[f"{prefix}.1.ff.2.weight"].T + weights[f"{prefix}.1.ff.2.bias"]
    return norm(tokens, f"{stack}.final_norm.gamma")


def forward_of_prototype(weights: dict[str, torch.Tensor], windows: torch.Tensor, added: float):
    """Reconstruction, prediction and codes of the prototype; `added` is what its norms add to the stored gamma."""

    def to_signal(tokens: torch.Tensor) -> torch.Tensor:
        values = tokens @ weights["tokens_to_sequence.0.weight"].T + weights["tokens_to_sequence.0.bias"]
        return torch.cat([token.reshape(len(values), LEADS, PATCH) for token in values.unbind(1)], -1)

    patches = [windows[:, :, start : start + PATCH].reshape(len(windows), -1) for start in range(0, 500, PATCH)]
    tokens = torch.stack(patches, 1) @ weights["sequence_to_tokens.1.weight"].T + weights["sequence_to_tokens.1.bias"]
    positions = weights["pos_emb.weight"][: len(patches)].expand(len(windows), -1, -1)
    queries = weights["latents"].expand(len(windows), -1, -1)
    encoded = stack_of_prototype(weights, "encoder", torch.cat([tokens + positions, queries], 1), added)
    latents = encoded[:, len(patches) :]
    vectors = weights["vq._codebook.embed"][0]
    codes, left, quantized = [], latents, torch.zeros_like(latents)
    for _ in range(2):
        nearest = (left[:, :, None] - vectors).norm(dim=-1).argmin(-1)
        quantized, left = quantized + vectors[nearest], left - vectors[nearest]
        codes.append(nearest)
    decoded = stack_of_prototype(weights, "decoder", torch.cat([positions, quantized], 1), added)
    return to_signal(decoded[:, : len(patches)]), to_signal(latents), torch.stack(codes, -1)


def save(weights: dict[str, torch.Tensor], path: Path) -> Path:
    torch.save(
        {"model_state_dict": weights, "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": 1e-4}]}}, path
    )
    return path


@pytest.mark.parametrize(("offset", "added"), [(1.0, 0.0), (0.0, 1.0)])
def test_converted_prototype_computes_the_same(tmp_path, offset, added):
    weights = prototype_file(offset)
    converted = convert("beat", save(weights, tmp_path / "beat.pt"), tmp_path / "beat", accept_license=True)
    assert converted.dropped == ["mask_tokens", "vq._codebook.initted", "pos_emb.weight[20:]"]
    model = AutoModel.from_pretrained(tmp_path / "beat")
    assert isinstance(model, BeatModel) and model.config.seq_length == 500
    with torch.no_grad():
        output = model(WINDOWS)
    reconstruction, prediction, codes = forward_of_prototype(weights, WINDOWS, added)
    assert torch.equal(output.codes, codes) and len(codes.unique()) > 8
    assert_close(output.reconstruction, reconstruction, rtol=0, atol=1e-5)
    assert_close(output.prediction, prediction, rtol=0, atol=1e-5)
    assert torch.equal(model.decode(model.encode(WINDOWS)), output.reconstruction)
    assert torch.equal(model.quantizer.codebooks[0].sums, weights["vq._codebook.embed_avg"][0])


def test_command_and_card(tmp_path, capsys):
    source = save(prototype_file(0.0), tmp_path / "beat.pt")
    words = ("convert", "beat", source, tmp_path / "beat", "--accept-license", "--norm-gamma", "gain-minus-one")
    assert run(*words) == 0
    assert "BeatModel" in capsys.readouterr().out
    card = (tmp_path / "beat" / "README.md").read_text()
    assert "the gain minus one (as the option says): 1 was added to them" in card
    assert "no licence file" in card and "the numbers are unchanged" not in card
    assert not (tmp_path / "beat" / "preprocessor_config.json").exists()


def test_an_option_decides_where_the_gammas_do_not():
    weights = prototype_file(0.5)
    with pytest.raises(ConversionError, match="--norm-gamma gain-minus-one"):
        beat_prototype(weights)
    gain, minus_one = (beat_prototype(weights, choice) for choice in ("gain", "gain-minus-one"))
    assert_close(minus_one.model.encoder.norm.weight, gain.model.encoder.norm.weight + 1)
    assert "as the option says" in minus_one.changes[0]


@pytest.mark.parametrize(
    ("medians", "expected"),
    [([1.0, 0.6, 1.4], "gain"), ([0.0, -0.4, 0.4], "gain-minus-one"), ([0.4, 0.6], None), ([1.6, 1.0], None)],
)
def test_rule_for_gammas(medians, expected):
    gammas = {f"{index}.gamma": torch.full((8,), median) for index, median in enumerate(medians)}
    if expected:
        assert stored_gamma(gammas) == expected
        return
    with pytest.raises(ValueError, match=rf"between {min(medians):.2f} and {max(medians):.2f}"):
        stored_gamma(gammas)


def test_option_is_for_beat_only(tmp_path):
    source = save(prototype_file(), tmp_path / "beat.pt")
    for kind, choice in (("st-mem", "gain"), ("beat", "loud")):
        with pytest.raises(TgmmError, match="--norm-gamma is for beat"):
            convert(kind, source, tmp_path / "out", accept_license=True, norm_gamma=choice)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"surprise": torch.zeros(1)}, "unexpected: surprise"),
        ({"latents": None}, "no Beat prototype checkpoint: it lacks latents"),
        ({"decoder.layers.3.1.ff.2.bias": None}, r"missing: decoder\.layers\.1\.mlp\.fc2\.bias"),
        ({"vq._codebook.embed": torch.zeros(2, 16, 32)}, r"wrong shape: quantizer\.codebooks\.0\.vectors"),
        ({"sequence_to_tokens.1.weight": torch.zeros(32, 299)}, "A patch has 299 values"),
    ],
)
def test_other_layouts_are_refused(change, message):
    weights = {name: value for name, value in {**prototype_file(), **change}.items() if value is not None}
    with pytest.raises(ConversionError, match=message):
        beat_prototype(weights)
