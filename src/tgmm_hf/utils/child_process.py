"""Processes that end when the one that waits for them ends, however that happens."""

import multiprocessing
import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import IO

STDIN = 0


def run_child(command: Sequence[str], output: IO[str], environment: Mapping[str, str]) -> int:
    """Run a command that calls `end_with_parent`; its exit status, negative for a signal.

    Its standard input is a pipe that nothing is written to: it closes when this process ends, killed or not. Else the
    same command, given again, would train in a directory in which an orphan still trains.
    """
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, env=dict(environment)
    ) as process:
        return process.wait()


def end_with_parent() -> None:
    """End this process with its parent: called first by what `run_child` runs, and by the workers of a pool.

    Those would wait for work for ever when the process that they work for is killed, and hold their memory.
    """
    threading.Thread(target=_wait, daemon=True).start()


def _wait() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    else:
        while os.read(STDIN, 1024):  # not sys.stdin, whose lock this thread would hold when the interpreter ends
            pass
    os._exit(1)
