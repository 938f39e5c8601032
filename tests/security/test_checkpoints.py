"""A stranger's checkpoint runs no code, takes no more memory than its size allows, and ends."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from command_line import run
from fresh_process import FORKING

from tgmm_hf.hub.convert import loading
from tgmm_hf.hub.convert.loading import load_weights
from tgmm_hf.utils.errors import TgmmError


class TouchesAFile:
    """Pickled, it makes a file when somebody loads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("kind", ["zip", "legacy", "plain"])
def test_a_hostile_pickle_is_refused_and_runs_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind != "zip":  # a new interpreter takes seconds
        monkeypatch.setattr(loading, "subprocess", FORKING)
    made, path = tmp_path / "made", tmp_path / "weights.pt"
    content = {"model": {"a": torch.zeros(2)}, "args": TouchesAFile(made)}
    if kind == "plain":
        path.write_bytes(pickle.dumps(content["args"]))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(TgmmError):
        load_weights(path)
    assert not made.exists()
    torch.load(path, weights_only=False) if kind != "plain" else pickle.loads(path.read_bytes())
    assert made.exists(), "the file is hostile indeed"


def test_the_command_refuses_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": TouchesAFile(tmp_path / "made")}, tmp_path / "weights.pt")
    assert run("convert", "st-mem", tmp_path / "weights.pt", tmp_path / "out", "--accept-license") == 1
    assert "more than tensors" in capsys.readouterr().err
    assert not (tmp_path / "made").exists() and not (tmp_path / "out").exists()


def test_a_small_file_that_declares_a_huge_tensor(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1).expand(10**12)}, tmp_path / "huge.pt")  # a view: one value is stored
    assert (tmp_path / "huge.pt").stat().st_size < 5000
    with pytest.raises(TgmmError, match="hostile"):
        load_weights(tmp_path / "huge.pt")


def test_reading_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "slow.pt")
    monkeypatch.setattr(loading, "READING_SECONDS", 0.01)
    with pytest.raises(TgmmError, match="took longer"):
        load_weights(tmp_path / "slow.pt")


class TellsTheEnvironment:
    """Pickled, it becomes a tensor of the number of variables whose name contains "TOKEN"."""

    def __reduce__(self) -> tuple:
        code = "__import__('torch').tensor(sum('TOKEN' in name for name in __import__('os').environ))"
        return (eval, (code,))


def test_the_reading_process_gets_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `allow_pickle` the file's code runs, in a process that holds no token."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    torch.save({"a": TellsTheEnvironment()}, tmp_path / "curious.pt")
    assert load_weights(tmp_path / "curious.pt", allow_pickle=True)["a"].item() == 0
    assert json.dumps(sorted(loading.ENVIRONMENT)).count("TOKEN") == 0


def test_tensors_that_share_memory_or_are_no_plain_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "subprocess", FORKING)
    whole = torch.arange(12.0).reshape(3, 4)
    torch.save({"whole": whole, "row": whole[1], "turned": whole.T}, tmp_path / "views.pt")
    weights = load_weights(tmp_path / "views.pt")
    assert torch.equal(weights["turned"], whole.T) and torch.equal(weights["row"], whole[1])
    torch.save({"a": whole.to_sparse()}, tmp_path / "sparse.pt")
    with pytest.raises(TgmmError, match="sparse"):
        load_weights(tmp_path / "sparse.pt")
