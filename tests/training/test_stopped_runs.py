"""Runs that are killed, meet NaN, a full disk or a damaged checkpoint: they give the same weights or refuse."""

import errno
import logging
import os
import signal
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from closeness import assert_same_training
from prepared_data import SMALL_ECHO
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import modeling_utils

from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.layers import answering
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.training import checkpoints
from tgmm_hf.training.arguments import RunArguments, parse_arguments
from tgmm_hf.training.checkpoints import agree_on_checkpoint, discard, last_checkpoint
from tgmm_hf.training.saving import save_repository
from tgmm_hf.training.starting_model import build
from tgmm_hf.training.train import train
from tgmm_hf.training.trainer import TgmmTrainer
from tgmm_hf.utils.files import whole_file

OVERRIDES = {"echo_config": SMALL_ECHO, "ecg_config": {"num_hidden_layers": 1}}


def settings(prepared_dir: Path, output: Path, epochs: int = 3, **changes: Any) -> RunArguments:
    return parse_arguments(
        {
            "output": str(output),
            "data": {"directory": str(prepared_dir)},
            "tasks": {"hf_diagnosis": None},
            "model": {"overrides": OVERRIDES},
            "optimisation": {"epochs": epochs, "batch_size": 8, "early_stopping_patience": None, "keep": "last"},
            **changes,
        }
    )


def checkpoint(directory: Path, step: int, state: str | None = "{}") -> Path:
    """Write a checkpoint with the files that are read when a run is resumed."""
    path = directory / f"checkpoint-{step}"
    path.mkdir(parents=True)
    save_file({"weight": torch.zeros(100)}, path / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        torch.save({"state": torch.arange(1000)}, path / name)
    if state is not None:
        (path / "trainer_state.json").write_text(state)
    return path


def test_the_newest_whole_checkpoint_is_taken(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "nothing") is None
    checkpoint(tmp_path, 5, state='{"epo')  # killed while it was written
    assert last_checkpoint(tmp_path) is None
    checkpoint(tmp_path, 9)
    checkpoint(tmp_path, 10)
    checkpoint(tmp_path, 20, state=None)
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")


# Safetensors have no checksum, so a changed file is not noticed. The Trainer itself warns if random states are missing.
@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", "cut short"),
        ("model.safetensors", "gone"),
        ("optimizer.pt", "cut short"),
        ("optimizer.pt", "gone"),
        ("optimizer.pt", "changed"),
        ("scheduler.pt", "gone"),
        ("rng_state.pth", "changed"),
    ],
)
def test_a_damaged_checkpoint_is_skipped_with_a_warning(
    name: str, damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint(tmp_path, 1)
    file = checkpoint(tmp_path, 2) / name
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        middle = len(content) // 2
        file.write_bytes(content[:middle] + (b"" if damage == "cut short" else b"?" * 9 + content[middle + 9 :]))
    with caplog.at_level(logging.WARNING):
        assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-1")
    assert "checkpoint-2 cannot be read" in caplog.text
    (tmp_path / "checkpoint-1" / "scheduler.pt").unlink()
    with pytest.raises(ValueError, match="None of the 2 checkpoints .* start over with resume: never"):
        last_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "forms",
    [
        ["pytorch_model_fsdp.bin", "optimizer.bin", "scheduler.pt"],
        ["pytorch_model_fsdp_0/", "optimizer_0/", "scheduler.pt"],
        ["global_step2/"],
    ],
    ids=["FSDP, whole", "FSDP, sharded", "DeepSpeed"],
)
def test_checkpoints_of_sharded_trainings_are_recognised(forms: list[str], tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 2)
    contents = {name: (path / name).read_bytes() for name in ("model.safetensors", "optimizer.pt", "scheduler.pt")}
    for name in contents:
        (path / name).unlink()
    (path / "view_classifier").mkdir()  # neither this nor training_args.bin counts as weights or a state
    for name in forms:
        with pytest.raises(ValueError, match="None of the 1 checkpoints"):
            last_checkpoint(tmp_path)
        if name.endswith("/"):
            (path / name).mkdir()
        else:
            (path / name).write_bytes(contents.get(name, b"pickled"))
    assert last_checkpoint(tmp_path) == str(path)


def test_the_first_process_chooses_the_checkpoint_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a shared disk, another process may not see the newest checkpoint yet, or may see a removed one."""
    sent: list[Any] = []

    def broadcast(objects: list[Any]) -> None:
        sent.append(objects[0])
        objects[0] = sent[0]

    monkeypatch.setattr(checkpoints, "broadcast_object_list", broadcast)
    newest = str(checkpoint(tmp_path / "first", 6))
    checkpoint(tmp_path / "second", 3)
    assert agree_on_checkpoint(tmp_path / "first", is_first_process=True) == newest
    assert agree_on_checkpoint(tmp_path / "second", is_first_process=False) == newest
    assert sent == [newest, None]


def test_two_writers_with_one_process_id_do_not_share_a_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers that fill one cache may have the same process id."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    path = tmp_path / "file"
    with whole_file(path) as first:
        first.write_text("first")
        with whole_file(path) as second:
            second.write_text("second")
        assert (first.read_text(), path.read_text()) == ("first", "second")
    assert path.read_text() == "first" and list(tmp_path.iterdir()) == [path]


def test_a_discarded_directory_is_gone_at_once(tmp_path: Path) -> None:
    checkpoint(tmp_path / "run", 1)
    discard(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_nan_stops_the_run_by_name_and_nothing_is_saved(
    prepared_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    weighted_loss = answering.weighted_loss

    def spoiled(task: Any, losses: dict[str, torch.Tensor]) -> torch.Tensor:
        steps.append(task)
        if len(steps) == 4:  # the first step of the second epoch
            losses["unlikely"] = losses["unlikely"] * torch.nan
        return weighted_loss(task, losses)

    monkeypatch.setattr(answering, "weighted_loss", spoiled)
    run = settings(prepared_dir, tmp_path / "model", epochs=2)
    with pytest.raises(FloatingPointError, match=r"loss of step 4 is nan: {'hf_diagnosis/unlikely': nan}"):
        train(run)
    assert not Path(run.output).exists()
    assert last_checkpoint(run.training_directory) == str(run.training_directory / "checkpoint-3")


def test_weights_that_are_not_finite_are_never_saved(
    prepared_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the last step no loss is computed that would show it."""
    train_only = TgmmTrainer.train

    def spoiled(self: TgmmTrainer, *args: Any, **kwargs: Any) -> None:
        train_only(self, *args, **kwargs)
        with torch.no_grad():
            self.model.fusion.projection.query.weight[0, 0] = torch.nan

    monkeypatch.setattr(TgmmTrainer, "train", spoiled)
    run = settings(prepared_dir, tmp_path / "model", epochs=1)
    with pytest.raises(FloatingPointError, match=r"1 weights .* fusion.projection.query.weight: no model is saved"):
        train(run)
    assert not Path(run.output).exists()


@pytest.mark.parametrize("where", ["weights", "optimizer"])
def test_after_a_full_disk_the_run_continues_from_the_checkpoint_before(
    where: str, prepared_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = settings(prepared_dir, tmp_path / "model", epochs=2)
    with monkeypatch.context() as patch:

        def full(write: Callable[..., Any]) -> Callable[..., Any]:
            def refuse(content: Any, path: Any, *args: Any, **kwargs: Any) -> Any:
                if "checkpoint-6" in str(path):
                    Path(path).write_bytes(b"begun")
                    raise FULL[where]
                return write(content, path, *args, **kwargs)

            return refuse

        if where == "weights":
            patch.setattr(modeling_utils, "safe_save_file", full(modeling_utils.safe_save_file))
        else:
            patch.setattr(torch, "save", full(torch.save))
        with pytest.raises(OSError, match="The disk is full: make room and run the same command again") as caught:
            train(run)
    assert caught.value.errno == errno.ENOSPC
    assert [path.name for path in run.training_directory.glob("checkpoint-*")] == ["checkpoint-3"]
    assert train(run)["kept_step"] == 6


FULL = {
    "weights": SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    "optimizer": OSError(errno.ENOSPC, "No space left on device"),
}


# --- kill -9 ------------------------------------------------------------------------------------------------------


def killed(context: Any, run: RunArguments, moment: Callable[[], bool]) -> bool:
    """Start the run in its own process and kill it when `moment` is true. Tell whether it was killed."""
    process = context.Process(target=train, args=(run,))
    process.start()
    while process.is_alive() and not moment():
        time.sleep(0.002)
    alive = process.is_alive()
    if alive:
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return alive


def weights(run: RunArguments) -> dict[str, torch.Tensor]:
    return TgmmModel.from_pretrained(run.output).state_dict()


@pytest.mark.slow
def test_a_run_that_is_killed_several_times_gives_the_same_weights(prepared_dir: Path, tmp_path: Path) -> None:
    """It is killed while the cache is filled, within an epoch, and while a checkpoint is written."""
    plan = parse_arguments({"output": "-", "data": {"directory": str(prepared_dir)}, "tasks": {"hf_diagnosis": None}})
    plan.model.overrides.update(OVERRIDES)
    save_repository(*build(plan, load_prepared(prepared_dir)), tmp_path / "start")

    def run(name: str) -> RunArguments:
        cache = {"directory": str(tmp_path / name / "cache"), "variants": 2}
        data = {"directory": str(prepared_dir), "cache": cache, "cell_dropout": 0.3}
        model = {"checkpoint": str(tmp_path / "start"), "trainable_layers": 1}
        return settings(prepared_dir, tmp_path / name / "model", data=data, model=model)

    context = get_context("forkserver")  # imports once; a fork of this process would bring autograd's threads
    context.set_forkserver_preload(["tgmm_hf.training.train"])
    whole, stopped = run("whole"), run("stopped")
    assert not killed(context, whole, lambda: False)
    cache, training = tmp_path / "stopped" / "cache", stopped.training_directory
    moments: list[Callable[[], bool]] = [
        lambda: len(list(cache.rglob("*.safetensors"))) > 5,
        lambda: (training / "checkpoint-3").is_dir(),
        lambda: (training / "checkpoint-3" / "trainer_state.json").is_file(),
        lambda: (training / "checkpoint-6" / "optimizer.pt").is_file(),
        lambda: (training / "checkpoint-9" / "trainer_state.json").is_file(),
    ]
    deaths = [killed(context, stopped, moment) for moment in moments]
    assert all(deaths[:3]) and not Path(stopped.output).exists()
    assert not killed(context, stopped, lambda: False)
    assert_same_training(weights(stopped), weights(whole))
