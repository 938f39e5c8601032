"""How the processes of one training agree on errors."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from accelerate import PartialState
from accelerate.utils import gather_object


@contextmanager
def fail_together() -> Iterator[None]:
    """Run the block of a `with` statement in every process. If it raises in one process, raise in all.

    Every process has to enter the block. No process leaves the block before all have reached its end. Without this, the
    other processes would wait for ever for a process that failed.

    Raises:
        RuntimeError: If the block raised in another process. The message names the process and its error.
    """
    try:
        yield
    finally:
        error = sys.exc_info()[1]
        if isinstance(error, Exception):  # an interruption reaches all processes by itself
            gather_object([f"{type(error).__name__}: {error}"])
    failures = gather_object([None])
    for process, failure in enumerate(failures):
        if failure is not None:
            raise RuntimeError(f"Process {process} failed, so process {PartialState().process_index} stops: {failure}")
