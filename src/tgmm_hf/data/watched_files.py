"""Process files in watched worker processes: a file that kills its process is refused, and the others go on."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch

from tgmm_hf.inputs.input_limits import refusal_of
from tgmm_hf.utils.errors import InputRefusedError, TgmmError, is_refusal
from tgmm_hf.utils.watched_worker import LIMITS, Limits, Say, WatchedWorker, WorkerStoppedError

AT_ONCE = 500
"""Number of files that are handed out before the first of them is waited for."""
STEP = "file"


@dataclass(frozen=True)
class ProcessedFile:
    """What became of one file.

    Attributes:
        values: The array of the extractor. None if the file was refused.
        reason: Why the file was refused. None if it was not.
    """

    values: np.ndarray | None
    reason: str | None


def result_of(process: Callable[[], np.ndarray]) -> ProcessedFile:
    """Call a function that processes one file. Its refusal is a result too, any other error is raised."""
    try:
        return ProcessedFile(process(), None)
    except ValueError as error:
        if not is_refusal(error):
            raise
        return ProcessedFile(None, error.reason)  # type: ignore[attr-defined]


def process_watched(
    numbers: Sequence[int], read: Callable[[int], Any], extractor: Any, workers: int, limits: Limits = LIMITS
) -> Iterator[ProcessedFile]:
    """Process files in worker processes, and yield the results in the order of the files.

    Args:
        numbers: Numbers of the files.
        read: Gives what the extractor takes for a number, such as a path. It is called in this process.
        extractor: It is copied to each worker process.
        workers: Number of worker processes.
        limits: Limits of one file. A file at which the process reaches a limit or dies is refused.
    """
    watched = [WatchedWorker(_Preparer(extractor), limits) for _ in range(min(workers, len(numbers)))]
    free: SimpleQueue[WatchedWorker] = SimpleQueue()
    for worker in watched:
        free.put(worker)

    def process(number: int) -> ProcessedFile:
        worker = free.get()
        try:
            return result_of(lambda: _process_in(worker, read(number)))
        finally:
            free.put(worker)

    pool = ThreadPoolExecutor(max(len(watched), 1))
    try:
        for start in range(0, len(numbers), AT_ONCE):
            yield from pool.map(process, numbers[start : start + AT_ONCE])
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in watched:
            worker.close()
        pool.shutdown()


class _Preparer:
    """Function of a worker process: processes a file. An error that nobody foresaw refuses the file, by its type."""

    def __init__(self, extractor: Any) -> None:
        self.extractor = extractor

    def __call__(self, say: Say, file: Any) -> np.ndarray:
        torch.set_num_threads(1)  # otherwise the threads of several processes wait for each other
        say(STEP)
        try:
            values: np.ndarray = self.extractor.prepare(file).values
            return values
        except ImportError:
            raise
        except Exception as error:  # whatever a damaged file raises
            if is_refusal(error):
                raise
            raise refusal_of(error, STEP) from error


def _process_in(worker: WatchedWorker, file: Any) -> np.ndarray:
    """Process a file in a worker process. If the process dies, try once more: somebody else may have killed it.

    Raises:
        InputRefusedError: If the extractor refuses the file, or the process died or reached a limit while it read it.
        TgmmError: If the process died before it began with the file, two times.
    """
    deaths = 0
    while True:
        try:
            values: np.ndarray = worker.run(file)
            return values
        except WorkerStoppedError as error:
            deaths += error.died
            if error.died and deaths < 2:
                continue
            if error.step is None:
                text = "was killed, often because memory ran out: use fewer workers. What is done is kept."
                raise TgmmError("a worker process", text) from error
            raise InputRefusedError(STEP, error.reason) from error


__all__ = ["ProcessedFile", "process_watched", "result_of"]
