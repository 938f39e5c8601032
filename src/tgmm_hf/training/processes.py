"""How the processes of one training agree on errors."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from accelerate import PartialState
from accelerate.utils import gather_object


@contextmanager
def fail_together() -> Iterator[None]:
    """Run a block in every process. If it raises in one, raise in all, so that no process waits forever.

    No process leaves the block before all processes have reached its end.

    Raises:
        RuntimeError: If the block raised in another process.
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
