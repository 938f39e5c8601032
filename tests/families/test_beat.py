"""Beat, the ECG tokenizer: codes and signals, what moves the codebooks, saving, and refusals."""

from pathlib import Path

import pytest
import torch
from closeness import assert_close
from fresh_process import run_without_package
from transformers import AutoConfig, AutoModel

from tgmm_hf import BeatConfig, BeatModel
from tgmm_hf.families.heartcare.beat_transformer import cut_patches, join_patches

SMALL = {
    "seq_length": 500, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "attention_head_size": 16,
    "intermediate_size": 48, "codebook_size": 16,
}  # fmt: skip
CLEAN_PROCESS = """
import sys
sys.modules["tgmm_hf"] = None  # importing it raises ImportError
import torch
from transformers import AutoModel
model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
codes = model.encode(torch.load(sys.argv[2]))
torch.save({"codes": codes, "signal": model.decode(codes).detach()}, sys.argv[3])
"""


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


WINDOWS, NEXT = draw(5, 12, 500), draw(5, 12, 250, seed=1)


def small(**settings) -> BeatModel:
    """A small model in evaluation mode whose codes are spread out, so that different ECGs have different codes."""
    torch.manual_seed(0)
    model = BeatModel(BeatConfig(**{**SMALL, **settings})).eval()
    for codebook in model.quantizer.codebooks:
        codebook.vectors.normal_()
    return model


def prototype(**settings) -> BeatModel:
    return small(**{"shared_codebook": True, "shared_output": True, **settings})


def codebooks(model: BeatModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.named_buffers()}


def test_defaults_are_the_papers_design():
    config = BeatConfig()
    assert (config.seq_length, config.codebook_size, config.num_levels) == (1000, 512, 2)
    assert (config.reconstruction_weight, config.prediction_weight, config.quantization_weight) == (1.0, 0.5, 0.25)
    with torch.device("meta"):
        model = BeatModel(config)
    first, second = model.quantizer.codebooks  # core and residual
    assert first is not second and first.vectors.shape == (512, 128)


def test_prototype_has_the_size_that_was_counted():
    with torch.device("meta"):
        model = BeatModel(BeatConfig.prototype())
    # The prototype keeps 1,024 positions, of which it reads 20, and 20 mask tokens, which it never reads.
    assert model.num_parameters() == 4_941_740 - (1024 - 20) * 128 - 20 * 128
    assert len(model.quantizer.codebooks) == 1


@pytest.mark.parametrize(
    ("settings", "queries"),
    [
        ({}, 10),
        ({"seq_length": 1000}, 20),
        ({"num_queries": 30, "local_paths": False}, 30),
        ({"num_levels": 3}, 10),
        ({"num_leads": 8}, 10),
    ],
)
def test_shapes(settings, queries):
    model = small(**settings)
    config = model.config
    windows = draw(2, config.num_leads, config.seq_length)
    with torch.no_grad():
        output = model(windows)
    assert output.codes.shape == (2, queries, config.num_levels) and output.codes.dtype == torch.int64
    assert output.latents.shape == output.quantized_latents.shape == (2, queries, 32)
    assert output.reconstruction.shape == windows.shape
    assert output.prediction.shape == (2, config.num_leads, 250)
    assert output.loss is None and output.reconstruction_loss is None


def test_patches_are_channel_major_and_joined_again():
    windows = torch.arange(2 * 3 * 8.0).reshape(2, 3, 8)
    patches = cut_patches(windows, 4)
    assert patches.shape == (2, 2, 12)
    assert patches[0, 1].tolist() == [4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23]  # lead after lead
    assert torch.equal(join_patches(patches, 3), windows)


@pytest.mark.parametrize("gradient", ["rotation", "straight_through"])
@pytest.mark.parametrize("make", [small, prototype])
def test_codes_give_exactly_the_reconstruction(make, gradient):
    model = make(quantizer_gradient=gradient)
    output = model(WINDOWS)  # with gradients, which must not change the values
    codes = model.encode(WINDOWS)
    assert torch.equal(codes, output.codes)
    assert len(codes.flatten(1).unique(dim=0)) == len(WINDOWS)
    assert torch.equal(model.decode(codes), output.reconstruction)
    assert torch.equal(model.quantizer.decode(codes), output.quantized_latents)


def test_loss_is_the_weighted_sum():
    model = small()
    with torch.no_grad():
        output = model(WINDOWS, next_values=NEXT)
    parts = [
        (output.reconstruction - WINDOWS).square().mean(),
        (output.prediction - NEXT).square().mean(),
        (output.latents - output.quantized_latents).square().mean(),
    ]
    assert_close([output.reconstruction_loss, output.prediction_loss, output.quantization_loss], parts)
    assert_close(output.loss, parts[0] + 0.5 * parts[1] + 0.25 * parts[2])
    other = prototype(prediction_weight=1.0, quantization_weight=0.0)
    with torch.no_grad():
        output = other(WINDOWS, next_values=NEXT)
    assert_close(output.loss, output.reconstruction_loss + output.prediction_loss)


def test_prediction_reads_every_latent():
    model = small(num_queries=20)
    latents = draw(1, 20, 32).requires_grad_()
    model._predict(latents).square().sum().backward()
    assert (latents.grad[0].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("make", [small, prototype])
def test_codes_alone_are_those_of_the_whole_pass(make):
    model = make()
    whole, short = model(WINDOWS), model(WINDOWS, codes_only=True)
    assert torch.equal(whole.codes, short.codes) and torch.equal(whole.quantized_latents, short.quantized_latents)
    assert short.reconstruction is None and short.prediction is None
    with pytest.raises(ValueError, match="Give one of them"):
        model(WINDOWS, next_values=NEXT, codes_only=True)


def test_tokenising_and_evaluation_leave_the_codebooks_alone():
    for model in (small(), prototype()):
        before = codebooks(model)
        model(WINDOWS, next_values=NEXT).loss.backward()
        model.train().encode(WINDOWS)
        model.decode(model.encode(WINDOWS))
        assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
        model(WINDOWS)  # training mode
        assert not any(torch.equal(value, before[name]) for name, value in model.named_buffers())


def test_training_mode_gives_the_codes_of_before_the_update():
    model = small()
    expected, quantized = model.encode(WINDOWS), model(WINDOWS).quantized_latents
    output = model.train()(WINDOWS)
    assert torch.equal(output.codes, expected) and torch.equal(output.quantized_latents, quantized)


def test_a_batch_equals_its_singles():
    model = small()
    together = model.encode(WINDOWS)
    assert torch.equal(together, torch.cat([model.encode(window[None]) for window in WINDOWS]))
    assert torch.equal(together, model.encode(WINDOWS))
    order = torch.tensor([3, 1, 4, 0, 2])
    assert torch.equal(together[order], model.encode(WINDOWS[order]))
    with torch.no_grad():
        outputs = model(WINDOWS, next_values=NEXT)
        for row in range(len(WINDOWS)):
            single = model(WINDOWS[row : row + 1])
            assert_close(single.reconstruction[0], outputs.reconstruction[row])
            assert_close(single.prediction[0], outputs.prediction[row])


@pytest.mark.parametrize("gradient", ["rotation", "straight_through"])
@pytest.mark.parametrize("make", [small, prototype])
def test_every_parameter_gets_a_gradient(make, gradient):
    model = make(quantizer_gradient=gradient).train()
    model(WINDOWS, next_values=NEXT).loss.backward()
    without = [name for name, each in model.named_parameters() if each.grad is None or not each.grad.any()]
    assert without == []
    assert (model.position_embeddings.grad.abs().sum(1) > 0).all()
    assert (model.query_tokens.grad.abs().sum(1) > 0).all()


def test_the_encoder_learns_from_the_reconstruction_alone():
    model = small(prediction_weight=0.0, quantization_weight=0.0).train()
    model(WINDOWS, next_values=NEXT).loss.backward()
    assert model.query_tokens.grad.any() and model.encoder.layers[0].attention.query.weight.grad.any()


def test_a_query_token_starts_with_its_patches_and_a_position_with_its_latent():
    model = small()
    captured = {}
    for name in ("encoder", "decoder"):
        getattr(model, name).register_forward_pre_hook(lambda _, given, name=name: captured.update({name: given[0]}))
    other = WINDOWS.clone()
    other[..., 50:100] = 0  # the third and fourth patch, which the second query token stands for
    with torch.no_grad():
        codes = model.encode(WINDOWS)
        before = captured["encoder"][:, 20:].clone()
        model.encode(other)
        moved = (captured["encoder"][:, 20:] != before).any(2).any(0)
        assert moved.tolist() == [place == 1 for place in range(10)]
        model.decode(codes)
        before = captured["decoder"][:, :20].clone()
        codes[:, 1] = (codes[:, 1] + 1) % model.config.codebook_size
        model.decode(codes)
        moved = (captured["decoder"][:, :20] != before).any(2).any(0)
    assert moved.tolist() == [place in (2, 3) for place in range(20)]


def test_it_learns_a_rhythm_of_new_ecgs():
    """Without the local paths the error stays at 1 for hundreds of steps (decision 195)."""
    torch.manual_seed(0)
    model = BeatModel(BeatConfig(**{**SMALL, "codebook_size": 64})).train()
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)

    def waves(number: int) -> torch.Tensor:
        place = torch.arange(750) / 250 * (1 + torch.rand(number, 1, 1)) + torch.rand(number, 1, 1)
        pulses = torch.exp(-(((place % 1 - 0.5) / 0.05) ** 2)).expand(-1, 12, -1)
        return (pulses - pulses.mean(-1, keepdim=True)) / pulses.std(-1, keepdim=True)

    for _ in range(60):
        batch = waves(16)
        optimiser.zero_grad()
        model(batch[..., :500], batch[..., 500:]).loss.backward()
        optimiser.step()
    with torch.no_grad():
        unseen = waves(32)[..., :500]
        error = (model.eval().decode(model.encode(unseen)) - unseen).square().mean()
    assert float(error) < 0.7


def test_it_learns_a_batch_by_heart():
    torch.manual_seed(0)
    model = BeatModel(BeatConfig(**SMALL)).train()
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    time = torch.arange(500) / 250
    windows = torch.stack([torch.sin(6.28 * rate * time).expand(12, -1) for rate in (1.0, 1.7, 2.5, 4.0)])
    losses = []
    for _ in range(80):
        output = model(windows, next_values=windows[..., :250])
        optimiser.zero_grad()
        output.loss.backward()
        optimiser.step()
        losses.append(output.reconstruction_loss.item())
    with torch.no_grad():
        rebuilt = model.eval().decode(model.encode(windows))
    assert float((rebuilt - windows).square().mean()) < 0.5 * losses[0]


def test_share_of_codes_used():
    model = small(codebook_size=4)
    codes = torch.tensor([[[0, 1], [0, 2]], [[0, 3], [1, 0]]])
    assert model.code_usage(codes).tolist() == [0.5, 1.0]
    assert model.code_usage(codes[:1]).tolist() == [0.25, 0.5]


# ---- saving


def test_saved_model_gives_the_same_codes(tmp_path):
    model = small().train()
    model(WINDOWS)  # so that counts and sums are not those of a new model
    model.eval().save_pretrained(tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), BeatConfig)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert isinstance(loaded, BeatModel)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    assert torch.equal(loaded.encode(WINDOWS), model.encode(WINDOWS))
    assert (tmp_path / "model.safetensors").is_file() and (tmp_path / "vector_quantizer.py").is_file()


@pytest.mark.slow
def test_clean_process_without_the_package_gives_the_same_codes(tmp_path):
    model = small()
    model.save_pretrained(tmp_path / "beat")
    torch.save(WINDOWS, tmp_path / "windows.pt")
    words = [str(tmp_path / name) for name in ("beat", "windows.pt", "clean.pt")]
    run_without_package(CLEAN_PROCESS, *words, work=tmp_path)
    clean = torch.load(Path(words[2]))
    assert torch.equal(clean["codes"], model.encode(WINDOWS))
    with torch.no_grad():
        assert_close(clean["signal"], model.decode(clean["codes"]))


def test_codebooks_stay_in_float32(tmp_path):
    model = small()
    model.save_pretrained(tmp_path)
    short = BeatModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert short.dtype == torch.bfloat16 and {value.dtype for value in short.buffers()} == {torch.float32}
    codes = short.encode(WINDOWS.bfloat16())
    assert short.decode(codes).dtype == torch.bfloat16
    short.train()(WINDOWS.bfloat16(), next_values=NEXT.bfloat16()).loss.backward()
    with pytest.raises(ValueError, match=r"codebooks are in torch\.bfloat16"):
        model.bfloat16().train()(WINDOWS.bfloat16())


def test_autocast_does_not_change_the_codes_of_latents():
    quantizer, latents = small().quantizer, draw(400, 10, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(quantizer.encode(latents), quantizer(latents)[1])
        short = quantizer.encode(latents)
    assert torch.equal(short, quantizer.encode(latents))


# ---- refusals


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        (draw(2, 12, 400), "has 400 samples, this model takes 500"),
        (draw(2, 11, 500), r"shape \(2, 11, 500\).*12 leads"),
        (draw(12, 500), r"shape \(12, 500\)"),
        (torch.zeros(2, 12, 500, dtype=torch.int64), "expected floating point"),
        (draw(2, 12, 500).index_fill(1, torch.tensor([4]), torch.nan), "NaN or infinity for patient 0, lead or view 4"),
    ],
)
def test_windows_that_do_not_fit_are_refused(windows, message):
    model = small()
    for call in (model, model.encode):
        with pytest.raises(ValueError, match=message):
            call(windows)


def test_a_next_second_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="next_values has 500 samples, this model takes 250"):
        small()(WINDOWS, next_values=WINDOWS)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.zeros(2, 10, 1, dtype=torch.int64), r"shape \(2, 10, 1\).*10 query tokens, 2 levels"),
        (torch.zeros(10, 2, dtype=torch.int64), r"shape \(10, 2\)"),
        (torch.zeros(2, 10, 2), r"torch\.float32, expected whole numbers"),
        (torch.full((2, 10, 2), 16), "codes holds 16 to 16, and the codebook has the codes 0 to 15"),
        (torch.full((2, 10, 2), -1), "codes holds -1 to -1"),
    ],
)
def test_codes_that_do_not_fit_are_refused(codes, message):
    with pytest.raises(ValueError, match=message):
        small().decode(codes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seq_length": 510}, "seq_length must be a multiple of patch_size, got 510 and 25"),
        ({"prediction_length": 0}, "prediction_length must be a multiple of patch_size, got 0"),
        ({"num_queries": 15}, "num_queries must be a multiple of the number of predicted patches, 10"),
        ({"num_queries": 30}, "num_queries must divide the number of patches, 40 .*got 30"),
        ({"num_queries": 20, "shared_output": True}, r"num_queries must be 10 .*got 20"),
        ({"quantizer_gradient": "none"}, "quantizer_gradient must be one of"),
        ({"num_levels": 0}, "must be at least 1, got 0"),
        ({"codebook_decay": 1.0}, "below 1, got 1.0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        BeatConfig(**settings)
