"""A worker process under a supervisor: results, exceptions, deaths, limits, and its end with the parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.watched_worker import Limits, WatchedWorker, WorkerStoppedError


class UnpicklableError(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def work(say, action, value=None):
    say(action)
    if action == "echo":
        return value, os.getpid()
    if action == "raise":
        raise value
    if action == "unpicklable":
        raise UnpicklableError(1, 2)
    if action == "exit":
        os._exit(3)
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "grow":
        kept = np.ones(value, np.uint8)
        time.sleep(600)
        return len(kept)
    if action == "sleep outside":
        say(None)
        time.sleep(value)
        return None
    time.sleep(600)
    return None


@pytest.fixture
def worker():
    worker = WatchedWorker(work, Limits(seconds=1, memory=300 * 2**20))
    yield worker
    worker.close()


def test_one_process_serves_many_jobs_and_survives_exceptions(worker):
    array = np.arange(10**6)
    (back, pid), (_, again) = worker.run("echo", array), worker.run("echo")
    np.testing.assert_array_equal(back, array)
    assert pid == again != os.getpid()
    with pytest.raises(KeyError, match="one"):
        worker.run("raise", KeyError("one"))
    with pytest.raises(RuntimeError, match="UnpicklableError"):
        worker.run("unpicklable")
    assert worker.run("echo")[1] == pid


def test_a_dead_process_is_reported_and_replaced(worker):
    for action, words in (("exit", "exit code 3"), ("kill", "signal SIGKILL")):
        with pytest.raises(WorkerStoppedError) as stopped:
            worker.run(action)
        assert stopped.value.died and stopped.value.step == action and words in stopped.value.reason
        assert worker.run("echo", 5)[0] == 5


def test_a_process_that_was_killed_between_two_jobs_is_replaced(worker):
    _, pid = worker.run("echo")
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    with pytest.raises(WorkerStoppedError) as stopped:
        worker.run("echo")
    assert stopped.value.died and stopped.value.step is None
    assert worker.run("echo", 5)[0] == 5


def test_a_step_that_takes_too_long_ends_the_process(worker):
    with pytest.raises(WorkerStoppedError) as stopped:
        worker.run("hang")
    assert not stopped.value.died and "1 s" in stopped.value.reason
    worker.run("sleep outside", 1.2)  # no step, no limit


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is watched on Linux only")
def test_a_step_that_takes_too_much_memory_ends_the_process():
    worker = WatchedWorker(work, Limits(seconds=60, memory=50 * 2**20))
    with pytest.raises(WorkerStoppedError) as stopped:
        worker.run("grow", 400 * 2**20)
    assert not stopped.value.died and "0.0488 GiB" in stopped.value.reason
    worker.close()


def test_a_closed_worker_starts_no_process(worker):
    worker.close()
    with pytest.raises(TgmmError):
        worker.run("echo")


SCRIPT = """
import sys
print("the script runs")
sys.path.insert(0, {folder!r})
from test_watched_worker import work
from tgmm_hf.utils import watched_worker
from tgmm_hf.utils.watched_worker import Limits, WatchedWorker
watched_worker.PRELOAD = ("math",)
worker = WatchedWorker(work, Limits())
print(worker.run("echo", 7)[0], flush=True)
worker.run("hang")
"""


def test_a_script_without_guard_works_and_its_worker_ends_with_it(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(folder=str(Path(__file__).parent)))
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert [process.stdout.readline() for _ in range(2)] == ["the script runs\n", "7\n"]
    process.send_signal(signal.SIGKILL)
    assert process.stdout.read() == ""  # ends when no process has the pipe any more
    process.wait()


def test_a_worker_process_has_one_thread_and_the_parent_keeps_its_settings(tmp_path):
    """Threads of several worker processes would wait for each other; the model of the parent keeps its threads."""
    (tmp_path / "job.py").write_text(
        "import os\ndef threads(say):\n    say(None)\n"
        "    return os.environ['OMP_NUM_THREADS'], os.environ['MKL_NUM_THREADS']\n"
    )
    code = (
        "import os\nfrom job import threads\nfrom tgmm_hf.utils.watched_worker import Limits, WatchedWorker\n"
        "worker = WatchedWorker(threads, Limits(seconds=60, memory=2**30))\n"
        "print(*worker.run(), os.environ['OMP_NUM_THREADS'], os.environ.get('MKL_NUM_THREADS'))\nworker.close()\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "MKL_NUM_THREADS"}
    environment |= {"OMP_NUM_THREADS": "2", "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1", "2", "None"]
