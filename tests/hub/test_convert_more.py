"""`tgmm convert more`: a published checkpoint becomes a MoreModel that computes the same.

`published_features` writes the published forward pass out in plain PyTorch, from the description of its layout.
"""

from pathlib import Path

import pytest
import torch
from closeness import assert_close, is_close
from command_line import run
from tiny_reporters import byte_tokenizer
from torch.nn import functional
from transformers import AutoModel, AutoProcessor

from tgmm_hf import MoreModel
from tgmm_hf.hub.convert import convert
from tgmm_hf.hub.convert.more import more_checkpoint
from tgmm_hf.hub.convert.renaming import ConversionError
from tgmm_hf.utils.errors import TgmmError

pytestmark = pytest.mark.usefixtures("forked_reading")

WIDTH, HEAD, DEPTH, WORDS, POSITIONS = 128, 64, 2, 261, 66
Weights = dict[str, torch.Tensor]


def published_file(old_peft: bool = False) -> Weights:
    """Random tensors in the published layout (published: 768 wide, 12 layers, ECG 1,000 samples, X-ray 224)."""
    generator = torch.Generator().manual_seed(0)
    weights: Weights = {}

    def linear(name: str, rows: int, columns: int, bias: bool = True) -> None:
        weights[f"{name}.weight"] = torch.randn(rows, columns, generator=generator) * 1.5 / columns**0.5
        if bias:
            weights[f"{name}.bias"] = torch.randn(rows, generator=generator) * 0.1

    def norm(name: str, width: int, batch: bool = False) -> None:
        weights[f"{name}.weight"] = 1 + 0.1 * torch.randn(width, generator=generator)
        weights[f"{name}.bias"] = 0.1 * torch.randn(width, generator=generator)
        if batch:
            weights[f"{name}.running_mean"] = 0.1 * torch.randn(width, generator=generator)
            weights[f"{name}.running_var"] = 0.5 + torch.rand(width, generator=generator)
            weights[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def convolution(name: str, shape: tuple[int, ...]) -> None:
        weights[f"{name}.weight"] = torch.randn(shape, generator=generator) / shape[1] ** 0.5
        weights[f"{name}.bias"] = torch.randn(shape[0], generator=generator) * 0.1

    for name, tokens in (("xray", 1 + 4), ("ecg", 1 + 16)):
        vit = f"{name}_model.vit_model"
        weights[f"{vit}.cls_token"] = torch.randn(1, 1, WIDTH, generator=generator)
        weights[f"{vit}.pos_embed"] = torch.randn(1, tokens, WIDTH, generator=generator)
        for block in range(DEPTH):
            prefix = f"{vit}.blocks.{block}"
            norm(f"{prefix}.norm1", WIDTH)
            linear(f"{prefix}.attn.qkv", 3 * WIDTH, WIDTH, bias=False)
            linear(f"{prefix}.attn.proj", WIDTH, WIDTH)
            norm(f"{prefix}.norm2", WIDTH)
            linear(f"{prefix}.mlp.fc1", 2 * WIDTH, WIDTH)
            linear(f"{prefix}.mlp.fc2", WIDTH, 2 * WIDTH)
        norm(f"{vit}.norm", WIDTH)
    convolution("xray_model.vit_model.patch_embed.proj", (WIDTH, 3, 16, 16))
    convolution("ecg_model.vit_model.patch_embed.conv1.0", (24, 12, 5))
    norm("ecg_model.vit_model.patch_embed.conv1.2", 24, batch=True)
    convolution("ecg_model.vit_model.patch_embed.conv2.0", (WIDTH, 24, 5))
    norm("ecg_model.vit_model.patch_embed.conv2.2", WIDTH, batch=True)
    for name in ("xray_text", "ecg_text", "text"):
        for layer, rows in ((0, WIDTH), (2, 16)):
            linear(f"projector_{name}.layers.{layer}.linear", rows, WIDTH, bias=False)
            norm(f"projector_{name}.layers.{layer}.bn", rows, batch=True)
    text = "text_model.base_model.model"
    for name, rows in (("word", WORDS), ("position", POSITIONS), ("token_type", 1)):
        weights[f"{text}.embeddings.{name}_embeddings.weight"] = torch.randn(rows, WIDTH, generator=generator)
    norm(f"{text}.embeddings.LayerNorm", WIDTH)
    for layer in range(DEPTH):
        prefix = f"{text}.encoder.layer.{layer}"
        for name in ("query", "key", "value"):
            is_adapted = name != "key"
            linear(f"{prefix}.attention.self.{name}{'' if old_peft or not is_adapted else '.base_layer'}", WIDTH, WIDTH)
            if is_adapted:
                linear(f"{prefix}.attention.self.{name}.lora_A.default", 4, WIDTH, bias=False)
                linear(f"{prefix}.attention.self.{name}.lora_B.default", WIDTH, 4, bias=False)
        linear(f"{prefix}.attention.output.dense", WIDTH, WIDTH)
        norm(f"{prefix}.attention.output.LayerNorm", WIDTH)
        linear(f"{prefix}.intermediate.dense", 2 * WIDTH, WIDTH)
        linear(f"{prefix}.output.dense", WIDTH, 2 * WIDTH)
        norm(f"{prefix}.output.LayerNorm", WIDTH)
    linear(f"{text}.pooler.dense", WIDTH, WIDTH)
    return weights


class Published:
    """The published forward pass, written out."""

    def __init__(self, weights: Weights):
        self.weights = weights

    def linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        bias = self.weights.get(f"{name}.bias")
        return x @ self.weights[f"{name}.weight"].T + (0 if bias is None else bias)

    def norm(self, x: torch.Tensor, name: str, eps: float) -> torch.Tensor:
        scaled = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + eps).sqrt()
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def batch_norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """`x` has its channels last."""
        mean, variance = self.weights[f"{name}.running_mean"], self.weights[f"{name}.running_var"]
        return (x - mean) / (variance + 1e-5).sqrt() * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def attend(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        heads = []
        for start in range(0, WIDTH, HEAD):
            one = slice(start, start + HEAD)
            scores = torch.einsum("bid,bjd->bij", q[..., one], k[..., one]) / HEAD**0.5
            if mask is not None:
                scores = scores.masked_fill(mask[:, None] == 0, -torch.inf)
            heads.append(scores.softmax(-1) @ v[..., one])
        return torch.cat(heads, -1)

    def vit(self, tokens: torch.Tensor, name: str) -> torch.Tensor:
        vit = f"{name}_model.vit_model"
        tokens = torch.cat([self.weights[f"{vit}.cls_token"].expand(len(tokens), -1, -1), tokens], 1)
        tokens = tokens + self.weights[f"{vit}.pos_embed"]
        for block in range(DEPTH):
            prefix = f"{vit}.blocks.{block}"
            q, k, v = self.linear(self.norm(tokens, f"{prefix}.norm1", 1e-6), f"{prefix}.attn.qkv").split(WIDTH, -1)
            tokens = tokens + self.linear(self.attend(q, k, v), f"{prefix}.attn.proj")
            inner = self.linear(self.norm(tokens, f"{prefix}.norm2", 1e-6), f"{prefix}.mlp.fc1")
            tokens = tokens + self.linear(functional.gelu(inner), f"{prefix}.mlp.fc2")
        return self.norm(tokens, f"{vit}.norm", 1e-6)[:, 0]

    def project(self, x: torch.Tensor, name: str) -> torch.Tensor:
        for layer in (0, 2):
            x = self.batch_norm(
                self.linear(x, f"projector_{name}.layers.{layer}.linear"), f"projector_{name}.layers.{layer}.bn"
            )
            x = x.relu() if layer == 0 else x
        return x

    def xray(self, pixels: torch.Tensor) -> torch.Tensor:
        kernel, bias = (self.weights[f"xray_model.vit_model.patch_embed.proj.{name}"] for name in ("weight", "bias"))
        patches = []
        for row in range(0, pixels.shape[2], 16):
            for column in range(0, pixels.shape[3], 16):
                patch = pixels[:, :, row : row + 16, column : column + 16]
                patches.append(torch.einsum("bcij,dcij->bd", patch, kernel) + bias)
        return self.project(self.vit(torch.stack(patches, 1), "xray"), "xray_text")

    def ecg(self, values: torch.Tensor) -> torch.Tensor:
        frames = values
        for number, stride in ((1, 5), (2, 1)):
            name = f"ecg_model.vit_model.patch_embed.conv{number}"
            kernel, bias = self.weights[f"{name}.0.weight"], self.weights[f"{name}.0.bias"]
            starts = range(0, frames.shape[2] - 4, stride)
            moved = [torch.einsum("bci,dci->bd", frames[:, :, at : at + 5], kernel) + bias for at in starts]
            frames = self.batch_norm(torch.stack(moved, 1).relu(), f"{name}.2").transpose(1, 2)  # ReLU comes first
        return self.project(self.vit(frames.transpose(1, 2), "ecg"), "ecg_text")

    def adapted(self, x: torch.Tensor, name: str) -> torch.Tensor:
        low = x @ self.weights[f"{name}.lora_A.default.weight"].T @ self.weights[f"{name}.lora_B.default.weight"].T
        base = f"{name}.base_layer" if f"{name}.base_layer.weight" in self.weights else name
        return self.linear(x, base) + 8 / 4 * low

    def text(self, ids: torch.Tensor, mask: torch.Tensor, over_padding: bool) -> torch.Tensor:
        text = "text_model.base_model.model"
        table = {
            name: self.weights[f"{text}.embeddings.{name}_embeddings.weight"]
            for name in ("word", "position", "token_type")
        }
        positions = torch.where(ids != 1, (ids != 1).cumsum(1) + 1, 1)  # RoBERTa counts from 2, padding has 1
        x = table["word"][ids] + table["position"][positions] + table["token_type"][0]
        x = self.norm(x, f"{text}.embeddings.LayerNorm", 1e-5)
        for layer in range(DEPTH):
            prefix = f"{text}.encoder.layer.{layer}"
            query, value = (self.adapted(x, f"{prefix}.attention.self.{name}") for name in ("query", "value"))
            attended = self.attend(query, self.linear(x, f"{prefix}.attention.self.key"), value, mask)
            x = self.norm(
                x + self.linear(attended, f"{prefix}.attention.output.dense"),
                f"{prefix}.attention.output.LayerNorm",
                1e-5,
            )
            inner = functional.gelu(self.linear(x, f"{prefix}.intermediate.dense"))
            x = self.norm(x + self.linear(inner, f"{prefix}.output.dense"), f"{prefix}.output.LayerNorm", 1e-5)
        kept = torch.ones_like(mask) if over_padding else mask
        return self.project((x * kept[..., None]).sum(1) / kept.sum(1, keepdim=True), "text")


def inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask = (torch.arange(20) < torch.tensor([20, 12, 5])[:, None]).long()
    ids = torch.randint(5, WORDS, (3, 20), generator=generator).masked_fill(mask == 0, 1)
    return {
        "pixel_values": torch.randn(3, 3, 32, 32, generator=generator),
        "input_values": torch.randn(3, 12, 100, generator=generator),
        "input_ids": ids,
        "attention_mask": mask,
    }


@pytest.mark.parametrize("old_peft", [False, True], ids=["PEFT", "PEFT before 0.6"])
def test_a_published_checkpoint_computes_the_same(old_peft: bool, tmp_path: Path):
    weights = published_file(old_peft)
    torch.save(weights, tmp_path / "more.pt")
    convert("more", tmp_path / "more.pt", tmp_path / "more", accept_license=True)
    model = AutoModel.from_pretrained(tmp_path / "more").eval()
    assert type(model) is MoreModel and model.config.mean_over_padding and not model.logit_scale.requires_grad
    batch, published = inputs(), Published(weights)
    xray, ecg = published.xray(batch["pixel_values"]), published.ecg(batch["input_values"])
    text = published.text(batch["input_ids"], batch["attention_mask"], over_padding=True)
    with torch.no_grad():
        assert_close(model.get_xray_features(batch["pixel_values"]).pooler_output, xray, rtol=1e-4, atol=1e-4)
        assert_close(model.get_ecg_features(batch["input_values"]).pooler_output, ecg, rtol=1e-4, atol=1e-4)
        found = model.get_text_features(batch["input_ids"], batch["attention_mask"]).pooler_output
        assert_close(found, text, rtol=1e-4, atol=1e-4)
        output = model(**batch, return_loss=True)
    xray, ecg, text = (functional.normalize(each, dim=-1) for each in (xray, ecg, text))
    target = torch.arange(3)
    expected = sum(
        0.5 * functional.cross_entropy(one @ two.T / 0.02, target)
        for other in (xray, ecg)
        for one, two in ((text, other), (other, text))
    )
    assert_close(output.loss, expected, rtol=1e-3, atol=1e-3)
    assert_close(output.logits_per_xray, xray @ text.T / 0.02, rtol=1e-3, atol=1e-2)


def test_masked_mean_of_the_same_weights():
    weights = published_file()
    model = more_checkpoint(weights).model
    model.config.mean_over_padding = False
    batch, published = inputs(), Published(weights)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    with torch.no_grad():
        found = model.get_text_features(ids, mask).pooler_output
    assert_close(found, published.text(ids, mask, over_padding=False), rtol=1e-4, atol=1e-4)
    over_padding = published.text(ids, mask, over_padding=True)
    assert_close(found[:1], over_padding[:1], rtol=1e-4, atol=1e-4)  # a text without padding
    assert not is_close(found[1:], over_padding[1:])


def test_training_goes_on_with_the_published_share_of_the_text_encoder():
    model = more_checkpoint(published_file()).model
    trained = [name for name, each in model.text_encoder.named_parameters() if each.requires_grad]
    assert all(name.endswith("bias") or ".low_rank_" in name for name in trained)
    assert sum(".low_rank_" in name for name in trained) == 2 * 2 * DEPTH


def test_the_command_writes_a_processor_with_a_tokenizer(tmp_path: Path, capsys):
    torch.save(published_file(), tmp_path / "more.pt")
    byte_tokenizer().save_pretrained(tmp_path / "tokenizer")
    words = ("convert", "more", tmp_path / "more.pt", tmp_path / "more", "--accept-license")
    assert len(byte_tokenizer()) == WORDS
    assert run(*words, "--tokenizer", tmp_path / "tokenizer") == 0
    assert "pooler" in capsys.readouterr().out
    processor = AutoProcessor.from_pretrained(tmp_path / "more")
    batch = processor(text={"xray": "clear lungs", "ecg": "sinus rhythm"}, return_tensors="pt")
    assert batch["input_ids"].shape == (1, POSITIONS - 2)
    assert processor.feature_extractor.lead_order[4] == "aVF" and processor.feature_extractor.num_samples == 100
    model = AutoModel.from_pretrained(tmp_path / "more").eval()
    with torch.no_grad():
        assert model(**batch).text_embeds.shape == (1, 16)
    card = (tmp_path / "more" / "README.md").read_text()
    assert "8 / 4" in card and "no-licence" in card


def test_files_of_another_model_and_wrong_options_are_refused(tmp_path: Path):
    weights = published_file()
    lacking = {name: value for name, value in weights.items() if name != "ecg_model.vit_model.norm.weight"}
    further = {**weights, "fusion.weight": torch.zeros(2, 2)}
    wrong = {**weights, "projector_text.layers.0.linear.weight": torch.zeros(WIDTH, 5)}
    uneven = {**weights, "xray_model.vit_model.blocks.1.attn.qkv.weight": torch.zeros(3 * WIDTH - 1, WIDTH)}
    no_adapters = {name: value for name, value in weights.items() if "lora_" not in name}
    for content in (lacking, further, wrong, uneven, no_adapters, {"a": torch.zeros(1)}):
        with pytest.raises(ConversionError):
            more_checkpoint(content)
    torch.save(weights, tmp_path / "more.pt")
    with pytest.raises(TgmmError, match="tokenizer"):
        convert("meit", tmp_path / "more.pt", tmp_path / "out", accept_license=True, tokenizer=tmp_path)
    other = byte_tokenizer()
    other.add_tokens(["<new>"])
    other.save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(ConversionError, match="262"):
        convert("more", tmp_path / "more.pt", tmp_path / "out", accept_license=True, tokenizer=tmp_path / "tokenizer")
    assert not (tmp_path / "out").exists()
