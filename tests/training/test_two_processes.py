"""Two processes give the losses of one with an equal global batch, and fill one cache together."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from prepared_data import SMALL_ECHO

from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.training.arguments import RunArguments, parse_arguments
from tgmm_hf.training.saving import save_repository
from tgmm_hf.training.starting_model import build

ROOT = Path(__file__).resolve().parents[2]
STEADY = {
    # no random numbers, because two processes draw other numbers than one
    "feature_dropout": 0.0,
    "modality_dropout": 0.0,
    "drop_path": 0.0,
    "training_subsets": 2,
    "ecg_config": {"num_hidden_layers": 2},
    "echo_config": SMALL_ECHO,
}
RECORDING = """
import json, os, sys
from pathlib import Path
from tgmm_hf.training.arguments import read_arguments
from tgmm_hf.training.train import train
from tgmm_hf.training.trainer import TgmmTrainer

losses = []
compute_loss = TgmmTrainer.compute_loss

def recording(self, *args, **kwargs):
    loss = compute_loss(self, *args, **kwargs)
    losses.append(loss.item())
    return loss

TgmmTrainer.compute_loss = recording
train(read_arguments(sys.argv[1]))
Path(f"{sys.argv[1]}-{os.environ.get('RANK', 0)}.json").write_text(json.dumps(losses))
"""

FAILING = """
import os, sys
from tgmm_hf.training import checkpoints, frozen_features_cache, run_directory, train as train_file, trainer
from tgmm_hf.training.arguments import read_arguments

def fail(*args, **kwargs):
    raise ValueError("nothing goes on")

where = {
    "claims the directory": (run_directory, "claim_training_directory"),
    "fills the cache": (frozen_features_cache.FrozenFeaturesCache, "store"),
    "looks for checkpoints": (checkpoints, "last_checkpoint"),
    "validates": (trainer, "validate"),
    "saves": (train_file, "save_repository"),
}
if os.environ["RANK"] == "0":
    setattr(*where[sys.argv[2]], fail)
train_file.train(read_arguments(sys.argv[1]))
"""


def settings(prepared_dir: Path, directory: Path, processes: int) -> RunArguments:
    return parse_arguments(
        {
            "output": str(directory / "model"),
            "data": {"directory": str(prepared_dir), "cache": {"directory": str(directory / "cache")}},
            "tasks": {"hf_diagnosis": None, "hf_risk": None, "retrieval": None},
            "model": {"checkpoint": str(directory.parent / "start"), "trainable_layers": 1},
            "optimisation": {"epochs": 2, "batch_size": 8 // processes, "optimizer": "adamw"},
        }
    )


def start(run: RunArguments, directory: Path, launcher: list[str]) -> None:
    (directory / "run.yaml").write_text(yaml.safe_dump(run.to_dict()))
    (directory / "record.py").write_text(RECORDING)
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, "record.py", "run.yaml"]
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(prepared_dir: Path, tmp_path: Path) -> None:
    plan: dict[str, Any] = settings(prepared_dir, tmp_path / "plan", 1).to_dict()
    plan["data"]["cache"], plan["model"] = None, {"overrides": STEADY}
    torch.manual_seed(0)
    save_repository(*build(parse_arguments(plan), load_prepared(prepared_dir)), tmp_path / "start")
    models, losses, records = [], [], []
    for processes, launcher in ((1, []), (2, ["-m", "torch.distributed.run", "--nproc_per_node", "2"])):
        directory = tmp_path / str(processes)
        directory.mkdir()
        start(settings(prepared_dir, directory, processes), directory, launcher)
        models.append(TgmmModel.from_pretrained(directory / "model"))
        losses.append([json.loads(path.read_text()) for path in sorted(directory.glob("run.yaml-*.json"))])
        records.append(json.loads((directory / "model" / "run.json").read_text()))
    assert [record["processes"] for record in records] == [1, 2]
    ((one,), (first, second)) = losses
    assert len(one) == 6
    assert first == pytest.approx(second, abs=1e-6)
    assert first == pytest.approx(one, abs=1e-4)
    # Weights are not compared: where a gradient is only rounding, Adam still takes a whole step.
    evaluated = [[line["eval_loss"] for line in record["history"] if "eval_loss" in line] for record in records]
    assert evaluated[1] == pytest.approx(evaluated[0], abs=1e-3)
    for name, figures in models[0].named_buffers():
        if "standardise" in name:
            assert torch.allclose(figures, models[1].get_buffer(name), rtol=1e-4, atol=1e-4), name
    caches = [
        {path.name: path.read_bytes() for path in (tmp_path / name / "cache").rglob("*.safetensors")} for name in "12"
    ]
    assert caches[0] == caches[1] and len(caches[0]) == 24 + 16


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment", ["claims the directory", "fills the cache", "looks for checkpoints", "validates", "saves"]
)
def test_if_the_first_process_fails_the_second_ends_too(moment: str, prepared_dir: Path, tmp_path: Path) -> None:
    """The processes are started one by one, because torchrun would end the second one itself."""
    run = settings(prepared_dir, tmp_path / "plan", 1).to_dict()
    run["data"]["cache"], run["model"] = None, {"overrides": STEADY}
    save_repository(*build(parse_arguments(run), load_prepared(prepared_dir)), tmp_path / "start")
    run = settings(prepared_dir, tmp_path / "run", 2).to_dict()
    run["optimisation"]["epochs"] = 1
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FAILING, str(tmp_path / "run.yaml"), moment],
            env={**environment, "RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    try:
        first, second = (process.communicate(timeout=300)[1] for process in processes)
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [1, 1]
    assert "ValueError: nothing goes on" in first
    assert "RuntimeError: Process 0 failed, so process 1 stops: ValueError: nothing goes on" in second


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "accelerate").glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_reads_the_committed_configurations(path: Path) -> None:
    config = load_config_from_file(str(path))
    assert str(config.distributed_type) in {
        "DistributedType.MULTI_GPU",
        "DistributedType.FSDP",
        "DistributedType.DEEPSPEED",
    }
    named = config.fsdp_config.get("fsdp_transformer_layer_cls_to_wrap", "")
    sources = "".join(file.read_text() for file in (ROOT / "src" / "tgmm_hf").rglob("*.py"))
    assert all(f"class {name}(" in sources for name in named.split(",") if name not in ("", "BertLayer"))
