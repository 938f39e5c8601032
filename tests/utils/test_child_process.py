"""Child processes: output, exit status, and their end when the parent is killed, also in a pool."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tgmm_hf.utils.child_process import run_child

CHILD = "from tgmm_hf.utils.child_process import end_with_parent; end_with_parent(); "
BEAT = """
import time
from pathlib import Path
while True:
    Path({beat!r}).write_text(str(time.time()))
    time.sleep(0.05)
"""
PARENT = """
import os, sys
from tgmm_hf.utils.child_process import run_child
with open(os.devnull, "w") as output:
    run_child([sys.executable, "-c", {child!r}], output, os.environ)
"""

POOL = """
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tgmm_hf.utils.child_process import end_with_parent
from beating import beat

if __name__ == "__main__":
    with ProcessPoolExecutor(1, get_context({method!r}), initializer=end_with_parent) as pool:
        pool.submit(beat).result()
"""


@pytest.mark.parametrize("status", [0, 3])
def test_output_and_exit_status_of_a_child_process(tmp_path: Path, status: int) -> None:
    log = tmp_path / "log.txt"
    with log.open("w") as output:
        script = f"{CHILD}import sys; print('said'); sys.exit({status})"
        assert run_child([sys.executable, "-c", script], output, os.environ) == status
    assert log.read_text() == "said\n"


def test_a_child_process_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    beat = tmp_path / "beat"
    child = CHILD + BEAT.format(beat=str(beat))
    parent = subprocess.Popen([sys.executable, "-c", PARENT.format(child=child)], stdin=subprocess.DEVNULL)
    kill_once_there_is(beat, parent)
    until(lambda: still(beat), seconds=30)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_pool_end_when_their_parent_is_killed(tmp_path: Path, method: str) -> None:
    beat = tmp_path / "beat"
    body = textwrap.indent(BEAT.format(beat=str(beat)), "    ")
    (tmp_path / "beating.py").write_text(f"def beat():\n{body}")
    (tmp_path / "pool.py").write_text(POOL.format(method=method))
    parent = subprocess.Popen([sys.executable, str(tmp_path / "pool.py")])
    kill_once_there_is(beat, parent)
    until(lambda: still(beat), seconds=30)


def kill_once_there_is(beat: Path, parent: subprocess.Popen) -> None:
    try:
        until(beat.exists, seconds=120)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()


def still(beat: Path) -> bool:
    before = beat.read_text()
    time.sleep(1)
    return beat.read_text() == before


def until(holds, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)
