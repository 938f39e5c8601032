"""The residual quantiser of Beat against hand-computed numbers and against vector-quantize-pytorch."""

import socket
from pathlib import Path

import pytest
import torch
import torch.distributed
from closeness import assert_close
from torch import multiprocessing

from tgmm_hf import BeatConfig
from tgmm_hf.families.heartcare.vector_quantizer import (
    Codebook,
    ResidualVectorQuantizer,
    code_usage,
    rotate_gradient,
    straight_through,
)

WIDTH, SIZE = 6, 12


def config(**settings) -> BeatConfig:
    sizes = {"hidden_size": WIDTH, "codebook_size": SIZE, "dead_code_threshold": 0.0, "codebook_decay": 0.8}
    return BeatConfig(**{**sizes, **settings})


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def quantizer(seed: int = 0, **settings) -> ResidualVectorQuantizer:
    made = ResidualVectorQuantizer(config(**settings))
    for index, codebook in enumerate(made.codebooks):
        codebook.vectors.copy_(draw(*codebook.vectors.shape, seed=seed + index) / (index + 1))
        codebook.counts.fill_(1.0)
        codebook.sums.copy_(codebook.vectors)
    return made


# ---- by hand


def test_moving_averages_by_hand():
    codebook = Codebook(config(hidden_size=1, codebook_size=2, codebook_decay=0.5, codebook_eps=0.1))
    codebook.vectors.copy_(torch.tensor([[1.0], [4.0]]))
    codebook.counts.copy_(torch.tensor([2.0, 2.0]))
    codebook.sums.copy_(torch.tensor([[2.0], [8.0]]))
    batch = torch.tensor([[0.0], [1.0], [6.0]])
    codes = codebook.nearest(batch)
    assert codes.tolist() == [0, 0, 1]
    codebook.update(batch, codes)
    assert codebook.counts.tolist() == [2.0, 1.5]  # half of 2, 2 and half of 2, 1
    assert codebook.sums.tolist() == [[1.5], [7.0]]  # half of 2, 8 and half of 0 + 1, 6
    # counts with Laplace smoothing: (2 + 0.1) / (3.5 + 2 * 0.1) * 3.5 and (1.5 + 0.1) / 3.7 * 3.5
    assert_close(codebook.vectors, torch.tensor([[1.5 * 3.7 / (2.1 * 3.5)], [7 * 3.7 / (1.6 * 3.5)]]))


def test_a_code_that_was_never_used_keeps_its_vector():
    codebook = Codebook(config(hidden_size=1, codebook_size=2))
    codebook.vectors.copy_(torch.tensor([[0.0], [100.0]]))
    codebook.update(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0]))
    assert_close(codebook.vectors, torch.tensor([[2.0], [100.0]]), atol=1e-3)  # Laplace smoothing moves a little


def test_second_level_codes_what_is_left():
    made = ResidualVectorQuantizer(config(hidden_size=2, codebook_size=2))
    made.codebooks[0].vectors.copy_(torch.tensor([[10.0, 0.0], [0.0, 10.0]]))
    made.codebooks[1].vectors.copy_(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))
    latents = torch.tensor([[[11.0, 2.0], [-1.0, 8.0]]])
    quantized, codes = made.eval()(latents)
    assert codes.tolist() == [[[0, 0], [1, 1]]]
    assert quantized.tolist() == [[[11.0, 1.0], [-1.0, 9.0]]]


def test_of_equal_codes_the_first_is_taken():
    codebook = Codebook(config(hidden_size=1, codebook_size=3))
    codebook.vectors.copy_(torch.tensor([[5.0], [1.0], [1.0]]))
    assert codebook.nearest(torch.tensor([[0.0], [1.0], [3.0]])).tolist() == [1, 1, 0]


def test_gradient_by_hand():
    latent = torch.tensor([[1.0, 0.0]], requires_grad=True)
    code = torch.tensor([[0.0, 2.0]])  # a quarter turn, twice as long
    for gradient, expected in (((1.0, 0.0), (0.0, -2.0)), ((0.0, 1.0), (2.0, 0.0))):
        (found,) = torch.autograd.grad(rotate_gradient(latent, code), latent, torch.tensor([gradient]))
        assert_close(found, torch.tensor([expected]))
        (found,) = torch.autograd.grad(straight_through(latent, code), latent, torch.tensor([gradient]))
        assert found.tolist() == [list(gradient)]


@pytest.mark.parametrize("latent", [[0.0, 0.0], [0.0, -1.0], [0.0, 2.0], [1e-9, 0.0]])
def test_values_are_exact_and_gradients_finite(latent):
    latents, code = torch.tensor([latent], requires_grad=True), torch.tensor([[0.0, 2.0]])
    rotated = rotate_gradient(latents, code)
    assert torch.equal(rotated, code) and torch.equal(straight_through(latents, code), code)
    rotated.sum().backward()
    assert latents.grad.isfinite().all()


def test_usage():
    assert code_usage(torch.tensor([[0, 1], [0, 2], [3, 1]]), 4).tolist() == [0.5, 0.5]


# ---- dead codes


def dead_case(threshold: float) -> Codebook:
    codebook = Codebook(config(hidden_size=1, codebook_size=3, dead_code_threshold=threshold))
    codebook.vectors.copy_(torch.tensor([[0.0], [10.0], [1000.0]]))
    codebook.counts.copy_(torch.tensor([4.0, 4.0, 0.1]))
    codebook.sums.copy_(codebook.vectors * codebook.counts[:, None])
    return codebook


def test_dead_codes_are_replaced_by_vectors_of_the_batch():
    batch = torch.tensor([[0.0], [1.0], [9.0], [12.0]])
    off = dead_case(0.0)
    off.update(batch, off.nearest(batch))
    assert_close(off.vectors[2], torch.tensor([1000.0]), rtol=1e-2)
    codebook = dead_case(0.1)
    torch.manual_seed(0)
    codebook.update(batch, codebook.nearest(batch))
    assert codebook.vectors[2, 0].item() in batch.flatten().tolist()
    assert_close(codebook.vectors[:2], off.vectors[:2])  # codes in use are not touched
    assert_close(codebook.counts[2], 0.1 * off.counts.mean())
    assert_close(codebook.sums[2], codebook.vectors[2] * codebook.counts[2])
    again = dead_case(0.1)
    torch.manual_seed(0)
    again.update(batch, again.nearest(batch))
    assert torch.equal(again.vectors, codebook.vectors)


def test_a_new_codebook_is_filled_from_the_latents():
    latents = 5 + draw(40, 10, WIDTH)
    for threshold, used in ((0.0, False), (0.05, True)):
        torch.manual_seed(0)
        made = ResidualVectorQuantizer(config(dead_code_threshold=threshold)).train()
        for _ in range(5):
            made(latents)
        shares = code_usage(made.encode(latents), SIZE)
        assert bool((shares > 0.5).all()) == used, shares


def test_fewer_vectors_than_codes():
    made = ResidualVectorQuantizer(config(dead_code_threshold=0.05)).train()
    quantized, _ = made(draw(1, 2, WIDTH))
    assert quantized.shape == (1, 2, WIDTH) and all(value.isfinite().all() for value in made.buffers())


def test_a_shared_codebook_is_updated_once_with_all_levels():
    made, latents = quantizer(shared_codebook=True).train(), draw(3, 4, WIDTH, seed=5)
    alone = quantizer(shared_codebook=True).codebooks[0]
    first = alone.nearest(latents)
    rest = latents - alone.vectors[first]
    codes = torch.stack([first, alone.nearest(rest)], -1)
    assert torch.equal(made(latents)[1], codes)
    alone.update(torch.stack([latents, rest], 2).flatten(0, 2), codes.flatten())
    assert_close(made.codebooks[0].vectors, alone.vectors)
    assert_close(made.codebooks[0].counts.sum(), torch.tensor(0.8 * SIZE + 0.2 * 24))


# ---- against vector-quantize-pytorch


def oracle_of(codebook: Codebook, rotation: bool):
    library = pytest.importorskip("vector_quantize_pytorch", reason="vector-quantize-pytorch is an oracle (dev extra)")
    oracle = library.VectorQuantize(
        WIDTH, SIZE, decay=0.8, eps=1e-5, threshold_ema_dead_code=0, rotation_trick=rotation,
        straight_through=not rotation, commitment_weight=0.0,
    )  # fmt: skip
    oracle._codebook.embed.data.copy_(codebook.vectors[None])
    oracle._codebook.embed_avg.data.copy_(codebook.sums[None])
    oracle._codebook.cluster_size.data.copy_(codebook.counts[None])
    return oracle


@pytest.mark.parametrize("gradient", ["rotation", "straight_through"])
def test_training_step_equals_the_oracle(gradient):
    made = quantizer(num_levels=1, quantizer_gradient=gradient).train()
    oracle = oracle_of(made.codebooks[0], gradient == "rotation").train()
    latents, weights = draw(8, 10, WIDTH, seed=3).requires_grad_(), draw(8, 10, WIDTH, seed=4)
    quantized, codes = made(latents)
    expected, expected_codes, _ = oracle(latents)
    assert torch.equal(codes[..., 0], expected_codes)
    assert_close(quantized, expected)
    (found,) = torch.autograd.grad((quantized * weights).sum(), latents)
    (wanted,) = torch.autograd.grad((expected * weights).sum(), latents)
    assert_close(found, wanted, atol=1e-5)
    codebook = made.codebooks[0]
    assert_close(codebook.counts, oracle._codebook.cluster_size[0])
    assert_close(codebook.sums, oracle._codebook.embed_avg[0])
    assert_close(codebook.vectors, oracle._codebook.embed[0])


@pytest.mark.parametrize("shared", [False, True])
def test_codes_and_vectors_equal_the_oracle(shared):
    library = pytest.importorskip("vector_quantize_pytorch", reason="vector-quantize-pytorch is an oracle (dev extra)")
    made = quantizer(shared_codebook=shared).eval()
    oracle = library.ResidualVQ(dim=WIDTH, num_quantizers=2, codebook_size=SIZE, shared_codebook=shared).eval()
    for level, layer in enumerate(oracle.layers):
        layer._codebook.embed.data.copy_(made.codebook(level).vectors[None])
    latents = draw(8, 10, WIDTH, seed=3)
    quantized, codes = made(latents)
    expected, expected_codes, _ = oracle(latents)
    assert torch.equal(codes, expected_codes)
    assert_close(quantized, expected)
    assert_close(made.decode(codes), oracle.get_output_from_indices(expected_codes))


# ---- several processes


def in_one_process(rank: int, port: int, out: Path, threshold: float) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.manual_seed(rank)  # the processes draw different vectors
    made = quantizer(dead_code_threshold=threshold).train()
    for step in range(3):
        made(draw(6, 4, WIDTH, seed=10 + step)[rank * 3 : rank * 3 + 3])
    torch.save(dict(made.named_buffers()), out / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_two_processes_equal_one(tmp_path, threshold):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(in_one_process, (port, tmp_path, threshold), nprocs=2)
    first, second = torch.load(tmp_path / "0.pt"), torch.load(tmp_path / "1.pt")
    assert all(torch.equal(first[name], second[name]) for name in first)
    if threshold == 0:
        made = quantizer(dead_code_threshold=threshold).train()
        for step in range(3):
            made(draw(6, 4, WIDTH, seed=10 + step))
        assert_close(first, dict(made.named_buffers()))
