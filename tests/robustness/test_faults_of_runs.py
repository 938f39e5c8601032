"""What happens around the long commands train, evaluate and reproduce: killed, disk full, files gone, two at once.

The right behaviour is that of `test_faults.py`: what was there stays, nothing half-written is left, the message is one
line, and the same command run again gives what an undisturbed run gives.
"""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import yaml
from prepared_data import FRAMES, SIZE, write_prepared_data
from safetensors.numpy import load_file
from test_faults import finish, limit_files, one_line, start

COMMANDS = ["train", "evaluate", "reproduce"]
MOMENTS = {"SIGKILL": 0.5, "SIGTERM": 0.65, "SIGINT": 0.8, "SIGHUP": 0.9}
"""Signal -> share of an undisturbed run's duration after which it is sent."""
VARYING = {"model", "data", "training"}
"""Keys of metrics.json that hold paths and times."""
STOPS = [(command, name) for command in ("train", "evaluate") for name in MOMENTS] + [("reproduce", "SIGKILL")]
"""A grid starts trainings and evaluations, whose stops are tested, so that one signal is enough."""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Prepared data of invented patients."""
    return write_prepared_data(tmp_path_factory.mktemp("prepared"))


def write_settings(data: Path, output: Path) -> Path:
    """Write the settings of a training of one epoch and of a grid of two such trainings; return the directory."""
    directory = output.parent / f"{output.name}-settings"
    directory.mkdir(parents=True, exist_ok=True)
    run = {
        "output": str(output),
        "data": {"directory": str(data), "max_views": 1},
        "tasks": {"hf_diagnosis": None},
        "model": {"size": "tiny", "overrides": {"echo_config": {"image_size": SIZE, "num_frames": FRAMES}}},
        "optimisation": {"epochs": 1, "batch_size": 8, "keep": "last", "early_stopping_patience": None},
    }
    (directory / "run.yaml").write_text(yaml.safe_dump(run))
    grid = {"output": str(output), "base": "run.yaml", "seeds": [0]}
    grid |= {"rows": {"TGMM": None, "Mean-Cat": {"model.overrides.fusion": "concat"}}}
    (directory / "grid.yaml").write_text(yaml.safe_dump(grid))
    return directory


@pytest.fixture(scope="module")
def model(data, tmp_path_factory) -> Path:
    """A model of one epoch."""
    out = tmp_path_factory.mktemp("trained") / "model"
    status, errors = finish(start(["train", str(write_settings(data, out) / "run.yaml")]))
    assert status == 0, errors
    return out


def words(command: str, data: Path, model: Path, out: Path) -> list[str]:
    """Return the command line of a cheap run."""
    if command == "evaluate":
        return ["evaluate", str(model), str(data), "--out", str(out), "--bootstrap", "100"]
    settings = write_settings(data, out)
    return [command, str(settings / ("run.yaml" if command == "train" else "grid.yaml"))]


def results(out: Path) -> dict[str, object]:
    """Return what a run computed, without times: weights, figures, and the bytes of tables."""
    found: dict[str, object] = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.suffix == ".safetensors":
            found[name] = {key: value.tobytes() for key, value in load_file(path).items()}
        elif path.name == "metrics.json":
            found[name] = {key: value for key, value in json.loads(path.read_text()).items() if key not in VARYING}
        elif path.suffix == ".csv":
            found[name] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def undisturbed(data, model, tmp_path_factory) -> dict[str, tuple[dict[str, object], float]]:
    """Command -> results of a run that nothing disturbed, and its duration in seconds."""
    runs = {}
    for command in COMMANDS:
        out = tmp_path_factory.mktemp("undisturbed") / "out"
        started = time.monotonic()
        status, errors = finish(start(words(command, data, model, out)))
        assert status == 0, errors
        runs[command] = results(out), time.monotonic() - started
        assert runs[command][0], f"{command} left nothing to compare"
    return runs


@pytest.mark.slow
@pytest.mark.parametrize(("command", "name"), STOPS)
def test_a_stopped_run_is_run_again_to_the_same_results(command, name, data, model, undisturbed, tmp_path):
    expected, duration = undisturbed[command]
    line = words(command, data, model, tmp_path / "out")
    process = start(line)
    time.sleep(MOMENTS[name] * duration)
    if process.poll() is None:
        os.killpg(process.pid, getattr(signal, name))
    finish(process)
    for file in tmp_path.rglob("*.json"):
        json.loads(file.read_text())  # whole, or not there
    status, errors = finish(start(line))
    assert status == 0, errors
    assert results(tmp_path / "out") == expected


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_one_line_and_the_next_run_is_whole(command, data, model, undisturbed, tmp_path):
    line = words(command, data, model, tmp_path / "out")
    status, errors = finish(start(line, preexec_fn=limit_files))
    assert status == 1 and "Traceback" not in errors, errors
    assert one_line(errors) or command == "reproduce", errors  # a grid lists its failed runs, each with a log
    status, errors = finish(start(line))
    assert status == 0, errors
    assert results(tmp_path / "out") == undisturbed[command][0]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_of_two_runs_on_one_output_the_second_is_refused(command, data, model, undisturbed, tmp_path):
    line = words(command, data, model, tmp_path / "out")
    ends = [finish(process) for process in [start(line), start(line)]]
    assert sorted(status for status, _ in ends) == [0, 1], ends
    assert all(one_line(errors) for status, errors in ends if status)
    assert results(tmp_path / "out") == undisturbed[command][0]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_data_that_vanished_are_one_line(command, data, model, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    for shard in (tmp_path / "data").rglob("*.arrow"):
        shard.unlink()
    status, errors = finish(start(words(command, tmp_path / "data", model, tmp_path / "out")))
    assert status == 1 and one_line(errors), errors
    assert not results(tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_clock_that_was_set_back_changes_nothing(command, data, model, undisturbed, tmp_path):
    """The data come from the future, then the same run sees data that are older than its results."""
    copy = tmp_path / data.name  # tables name the directory of the data
    shutil.copytree(data, copy)
    for moment in (time.time() + 10**8, 10**8):
        for path in copy.rglob("*"):
            os.utime(path, (moment, moment))
        status, errors = finish(start(words(command, copy, model, tmp_path / "out")))
        assert status == 0, errors
        assert results(tmp_path / "out") == undisturbed[command][0]
