"""Cox risk sets and contrastive negatives are those of the global batch: two processes give one process's loss and
gradient."""

import socket
from pathlib import Path

import pytest
import torch
import torch.distributed
from tiny_models import only, random_batch, random_labels, smallest_model
from torch import multiprocessing

from tgmm_hf.encoders import branches
from tgmm_hf.layers import pooling
from tgmm_hf.layers.distributed import gather_batch
from tgmm_hf.layers.losses import cox_loss, info_nce_loss
from tgmm_hf.layers.pooling import TgmmStandardise


def data() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "x": torch.randn(8, 3),
        "time": torch.rand(8) * 1000,
        "event": torch.tensor([1, 0, 1, 1, 0, 1, 0, 1]),
        "paired": torch.tensor([True, True, True, False, True, True, True, True]),
        "early": torch.arange(8) < 3,  # all in one process of two
    }


def losses(weight: torch.Tensor, part: dict[str, torch.Tensor]) -> torch.Tensor:
    """A linear risk and two linear embeddings of the rows of one process, standardised, against the rows of all of
    them."""
    features = part["x"] @ weight
    standardised = torch.zeros_like(features)
    for present in ("paired", "early"):  # as of two modalities
        rows = part[present].nonzero()[:, 0]
        # nobody here has it: then nothing asks for gradients, as behind frozen parts
        own = features[rows] if len(rows) else features[rows].detach()
        standardised = standardised.index_add(0, rows, TgmmStandardise(3).train()(own))
    risk = gather_batch(standardised[:, 0])
    time, event, paired = (gather_batch(part[name]) for name in ("time", "event", "paired"))
    first, second = (gather_batch(torch.nn.functional.normalize(standardised * weight[i], dim=1)) for i in (1, 2))
    return cox_loss(risk, time, event) + info_nce_loss(first, second, paired, temperature=0.2)


def run(rank: int, port: int, out: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    weight = torch.arange(1.0, 10.0).reshape(3, 3).requires_grad_()
    loss = losses(weight, {name: value[rank * 4 : rank * 4 + 4] for name, value in data().items()})
    loss.backward()
    torch.distributed.all_reduce(weight.grad)  # DistributedDataParallel averages the gradients
    torch.save({"loss": loss.detach(), "grad": weight.grad / 2}, out / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(run, args=(port, tmp_path), nprocs=2)
    weight = torch.arange(1.0, 10.0).reshape(3, 3).requires_grad_()
    loss = losses(weight, data())
    loss.backward()
    for rank in (0, 1):
        result = torch.load(tmp_path / f"{rank}.pt")
        assert torch.allclose(result["loss"], loss, atol=1e-6)
        assert torch.allclose(result["grad"], weight.grad, atol=1e-5)
    assert weight.grad.abs().max() > 1e-3


@pytest.mark.parametrize("absent", ["left out", "masked"])
def test_a_process_without_a_modality_takes_part_with_nothing(absent, monkeypatch):
    """The others wait for its part of the running statistics."""
    model = smallest_model().train()
    batch = only(random_batch(model.config), ("labs",))
    if absent == "left out":
        batch = {name: batch[name] for name in ("input_ids", "attention_mask")}
    labels = {"hf_diagnosis": random_labels()["hf_diagnosis"]}
    torch.manual_seed(1)
    alone = model(**batch, task=["hf_diagnosis"], labels=labels).loss
    asked = []
    monkeypatch.setattr(branches, "several_processes", lambda: True)
    monkeypatch.setattr(pooling, "sum_over_processes", lambda tensor: asked.append(tensor) or tensor)
    model = smallest_model().train()
    torch.manual_seed(1)
    loss = model(**batch, task=["hf_diagnosis"], labels=labels).loss
    loss.backward()
    assert torch.allclose(loss, alone)
    assert len(asked) == 3 + 1 + 1  # labs: number, sum, squares; here the others have nothing of ECG and echo either
    assert model.ecg_pool.standardise.steps == 0 and torch.isfinite(loss)
