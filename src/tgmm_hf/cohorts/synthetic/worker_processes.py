"""Worker processes that draw the files of patients."""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

import cv2

from tgmm_hf.utils.child_process import end_with_parent


@contextmanager
def drawing_processes(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Give a pool of processes with one thread each.

    OpenCV's threads are ended in this process while the pool runs. A forked process has none of these threads, and
    would wait for them forever.

    Args:
        workers: Number of processes.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with ProcessPoolExecutor(workers, initializer=_begin) as pool:
            yield pool
    finally:
        cv2.setNumThreads(threads)


def _begin() -> None:
    """Begin a worker process: it ends with its parent, and OpenCV uses one thread."""
    end_with_parent()
    cv2.setNumThreads(1)
