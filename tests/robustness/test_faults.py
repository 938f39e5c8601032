"""What happens around a command: it is killed, the disk is full, files vanish, two runs share an output.

The right behaviour is always the same: what was there stays, nothing half-written is left, the message is one line, and
the same command run again gives what an undisturbed run gives.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cohort_files import cohort_rows, write_clip, write_ecg, write_table
from command_line import run
from kinds_models import saved_model

CUT = 20_000
"""Bytes that a file may grow to where the disk is "full". A process that writes more gets an error, as on a full disk."""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    """Ten patients with files."""
    root = tmp_path_factory.mktemp("cohort")
    rows = cohort_rows(10)
    for number, row in enumerate(rows):
        if row["ecg_path"]:
            write_ecg(root / row["ecg_path"], number)
        for path in filter(None, row["echo_paths"].split(";")):
            write_clip(root / path, number)
    write_table(root / "cohort.csv", rows)
    return root


def words(command: str, cohort: Path, out: Path) -> list[str]:
    """The command line of a cheap run."""
    lines = {
        "predict": ["predict", saved_model(), "--manifest", cohort / "cohort.csv", "--out", out / "p.json"],
        "prepare": ["prepare", cohort / "cohort.csv", "--out", out, "--workers", 1],
        "synth": ["synth", out, "--patients", 7, "--frames", 2, "--height", 96, "--width", 96, "--workers", 1],
    }
    return [str(word) for word in lines[command]]


def content(out: Path) -> dict[str, bytes]:
    """All files of a result."""
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def comparable(files: dict[str, bytes]) -> dict[str, bytes]:
    """Leave out what differs from run to run by design: times and duration in summaries."""
    return {name: data for name, data in files.items() if not name.endswith(("prepare.json", "synth.json"))}


def start(line: list[str], **options) -> subprocess.Popen:
    """Start a command in a process of its own."""
    program = [sys.executable, "-c", "from tgmm_hf.cli import main; main()", *line]
    pipe = subprocess.PIPE
    return subprocess.Popen(program, stdout=pipe, stderr=pipe, text=True, start_new_session=True, **options)


def finish(process: subprocess.Popen) -> tuple[int, str]:
    """Wait for a command: its status and what it printed to standard error."""
    _, errors = process.communicate(timeout=300)
    return process.returncode, errors


def one_line(errors: str) -> bool:
    """Tell whether an error is a sentence, not a traceback."""
    return "Traceback" not in errors and "tgmm:" in errors


COMMANDS = ["predict", "prepare", "synth"]


@pytest.fixture(scope="module")
def undisturbed(cohort, tmp_path_factory):
    """Results of runs that nothing disturbed."""
    results = {}
    for command in COMMANDS:
        out = tmp_path_factory.mktemp("undisturbed") / command
        if command == "predict":
            out.mkdir()
        assert finish(start(words(command, cohort, out)))[0] == 0
        results[command] = comparable(content(out))
    return results


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT", "SIGHUP"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_stopped_run_is_run_again_to_the_same_bytes(command, name, cohort, undisturbed, tmp_path):
    out = tmp_path / "out"
    if command == "predict":
        out.mkdir()
    process = start(words(command, cohort, out))
    deadline = time.monotonic() + 60
    while not any(out.glob("*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)  # until the first file is there; predict writes only at its end
        if command == "predict" and time.monotonic() > deadline - 54:
            break
    if process.poll() is None:
        os.killpg(process.pid, getattr(signal, name))
    finish(process)
    for file in out.rglob("*.json"):
        json.loads(file.read_text())  # whole, or not there
    assert finish(start(words(command, cohort, out)))[0] == 0
    assert comparable(content(out)) == undisturbed[command]


def limit_files() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (CUT, CUT))


@pytest.mark.slow
@pytest.mark.parametrize("command", ["prepare", "synth"])
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(command, cohort, undisturbed, tmp_path):
    out = tmp_path / "out"
    status, errors = finish(start(words(command, cohort, out), preexec_fn=limit_files))
    assert status == 1 and one_line(errors)
    assert finish(start(words(command, cohort, out)))[0] == 0
    assert comparable(content(out)) == undisturbed[command]


@pytest.mark.parametrize("command", COMMANDS)
def test_an_output_that_cannot_be_written_is_one_line(command, cohort, tmp_path, capsys):
    (tmp_path / "file").write_text("a file where a directory belongs")
    assert run(*words(command, cohort, tmp_path / "file" / "out")) != 0
    assert "Traceback" not in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "a file where a directory belongs"


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a command as nobody")
@pytest.mark.parametrize("command", ["prepare", "synth"])
def test_a_read_only_directory_is_one_line(command, cohort, tmp_path):
    for path in (tmp_path, *tmp_path.parents[:3], cohort, *cohort.parents[:2]):
        if str(path).startswith("/tmp/"):
            path.chmod(0o755)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    environment = {**os.environ, "HOME": "/tmp", "HF_HOME": "/tmp/tgmm-nobody"}
    try:
        process = start(words(command, cohort, closed / "out"), user=65534, group=65534, env=environment)
    except PermissionError:
        pytest.skip("another user may not start this Python, or this user may not become another one")
    status, errors = finish(process)
    assert status == 1 and one_line(errors) and not any(closed.iterdir())


@pytest.mark.parametrize("command", ["prepare", "synth"])
def test_a_directory_of_the_users_is_not_replaced(command, cohort, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("three years of work")
    status = run(*words(command, cohort, out))
    assert "Traceback" not in capsys.readouterr().err
    assert (out / "thesis.txt").read_text() == "three years of work"
    assert status == 0 or list(content(out)) == ["thesis.txt"]  # written beside it, or refused before any work


def test_a_prediction_does_not_write_over_a_directory(cohort, tmp_path, capsys):
    (tmp_path / "p.json").mkdir()
    (tmp_path / "p.json" / "thesis.txt").write_text("three years of work")
    assert run(*words("predict", cohort, tmp_path)) != 0
    assert "Traceback" not in capsys.readouterr().err
    assert (tmp_path / "p.json" / "thesis.txt").exists()


def copied(cohort: Path, tmp_path: Path) -> Path:
    shutil.copytree(cohort, tmp_path / "cohort")
    return tmp_path / "cohort"


def test_a_vanished_file_is_a_refusal_of_one_input(cohort, tmp_path):
    """The patient's other inputs are used."""
    mine = copied(cohort, tmp_path)
    (mine / "ecg" / "2.dat").unlink()
    assert run(*words("predict", mine, tmp_path)) == 0
    (answer,) = [one for one in json.loads((tmp_path / "p.json").read_text()) if one["id"] == "a2"]
    assert answer["used"]["labs"] and not answer["used"]["ecg"]
    assert [entry for entry in answer["refused"] if "ecg" in entry["item"]]


def refused(out: Path) -> str:
    return (out / "refused.csv").read_text() if (out / "refused.csv").exists() else ""


@pytest.mark.slow
@pytest.mark.parametrize("option", [[], ["--overwrite"]])
def test_a_file_that_comes_back_is_read_by_the_next_run(option, cohort, undisturbed, tmp_path):
    mine = copied(cohort, tmp_path)
    data = (mine / "ecg" / "2.dat").read_bytes()
    (mine / "ecg" / "2.dat").unlink()
    run(*words("prepare", mine, tmp_path / "out"))
    (mine / "ecg" / "2.dat").write_bytes(data)
    assert run(*words("prepare", mine, tmp_path / "out"), *option) == 0
    assert "a2" not in refused(tmp_path / "out")
    shards = {name: data for name, data in content(tmp_path / "out").items() if name.endswith(".arrow")}
    assert shards == {name: data for name, data in undisturbed["prepare"].items() if name.endswith(".arrow")}


@pytest.mark.slow
def test_a_clock_that_was_set_back_changes_nothing(cohort, undisturbed, tmp_path):
    """Files from the future, then files older than the result."""
    mine = copied(cohort, tmp_path)
    for moment in (time.time() + 10**8, 10**8):
        for path in mine.rglob("*"):
            os.utime(path, (moment, moment))
        assert run(*words("prepare", mine, tmp_path / "out")) == 0
        shards = {name: data for name, data in content(tmp_path / "out").items() if name.endswith(".arrow")}
        assert shards == {name: data for name, data in undisturbed["prepare"].items() if name.endswith(".arrow")}


@pytest.mark.slow
def test_a_dead_worker_process_does_not_lose_the_cohort(cohort, undisturbed, tmp_path):
    out = tmp_path / "out"
    line = words("prepare", cohort, out)
    line[line.index("--workers") + 1] = "2"
    process = start(line)
    children: list[int] = []
    while process.poll() is None and not children:
        listed = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(process.pid)], capture_output=True, text=True)
        children = [int(row.split()[0]) for row in listed.stdout.splitlines() if "tracker" not in row]
        time.sleep(0.05)
    for child in children[-1:]:
        os.kill(child, signal.SIGKILL)
    _, errors = finish(process)
    assert "Traceback" not in errors
    assert finish(start(words("prepare", cohort, out)))[0] == 0
    assert comparable(content(out)).keys() == undisturbed["prepare"].keys()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["prepare", "synth"])
def test_of_two_runs_on_one_output_the_second_is_refused(command, cohort, undisturbed, tmp_path):
    out = tmp_path / "out"
    processes = [start(words(command, cohort, out)) for _ in range(2)]
    ends = [finish(process) for process in processes]
    assert sorted(status for status, _ in ends) == [0, 1]
    assert all(one_line(errors) for status, errors in ends if status)
    assert comparable(content(out)) == undisturbed[command]
