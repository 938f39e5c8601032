"""Processes that end when the process that started them ends, even if it is killed.

Two kinds of processes need this. A training that goes on alone would write into a directory that the same command uses
again. A worker process of a pool that goes on alone would wait for work for ever and hold its memory.
"""

import multiprocessing
import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import IO

STDIN = 0


def run_child(command: Sequence[str], output: IO[str], environment: Mapping[str, str]) -> int:
    """Run a command that calls `end_with_parent`, and wait for its end.

    The standard input of the command is a pipe into which nothing is written. The pipe closes when this process ends,
    killed or not. The command sees this and ends too.

    Args:
        command: Program and its arguments.
        output: Open file for the standard output and standard error of the command.
        environment: All environment variables of the command.

    Returns:
        Exit status of the command; the negative number of the signal if a signal ended it.
    """
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, env=dict(environment)
    ) as process:
        return process.wait()


def end_with_parent() -> None:
    """Start a thread that ends this process when its parent ends. The call itself returns at once.

    Call it first in a command that `run_child` runs, and in every worker process of a pool.
    """
    threading.Thread(target=_wait, daemon=True).start()


def _wait() -> None:
    """Wait for the end of the parent, then end this process."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    else:
        # Not sys.stdin, because this thread would hold its lock when the interpreter ends.
        while os.read(STDIN, 1024):
            pass
    os._exit(1)
