"""Processes that end together with the process that started them, also when that process is killed.

Two kinds need this: a command that trains (an orphan would go on training in a directory that the same command uses
again), and the worker processes of a pool (an orphan would wait for work for ever and hold its memory).
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

    Its standard input is a pipe into which nothing is written. The pipe closes when this process ends, killed or not,
    and so the command notices.

    Args:
        command: Program and its arguments.
        output: File for its standard output and standard error.
        environment: Its environment variables.

    Returns:
        Its exit status; negative if a signal ended it.
    """
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, env=dict(environment)
    ) as process:
        return process.wait()


def end_with_parent() -> None:
    """End this process when its parent ends.

    A command that `run_child` runs calls this first; a pool calls it in every worker process.
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
