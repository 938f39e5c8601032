"""Engines that write a list of shards: processes of this machine, or tasks on a Ray cluster.

An engine yields every shard as soon as the shard is written, in any order. The written bytes do not depend on the
engine. With both engines, a worker process reads the files, and its parent watches it (`utils/watched_worker.py`).
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch

from tgmm_hf.data.admissions import AdmissionPreparer
from tgmm_hf.data.shards import Shard, Supervision, write_shard
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.watched_worker import LIMITS, Limits, Say, Step, WatchedWorker, WorkerStoppedError

Engine = Callable[[Sequence[Shard], AdmissionPreparer, Path, int | None, Limits | None], Iterator[Shard]]
RUN_AGAIN = "What is done is kept: run the same command again to go on."


def run_local(
    shards: Sequence[Shard],
    preparer: AdmissionPreparer,
    out: Path,
    num_proc: int | None,
    limits: Limits | None = LIMITS,
) -> Iterator[Shard]:
    """Write shards in worker processes of this machine.

    Args:
        shards: The shards to write.
        preparer: Prepares their rows.
        out: Directory of the prepared data.
        num_proc: Number of worker processes. None means one per core.
        limits: Limits of the reading of one input. None writes one shard after the other in this process, unwatched.

    Yields:
        Every shard that was handled.

    Raises:
        TgmmError: If a worker process died between two inputs, or files could not be read or changed meanwhile.
    """
    not_read = _NotRead()
    if limits is None:
        for shard in shards:
            not_read.add(write_shard(shard, preparer, out))
            yield shard
        not_read.refuse()
        return
    number = min(num_proc or os.cpu_count() or 1, len(shards))
    writer = _ShardWriter(preparer, out, limits, one_thread=number > 1)
    workers = [WatchedWorker(writer, limits) for _ in range(number)]
    free: SimpleQueue[WatchedWorker] = SimpleQueue()
    for worker in workers:
        free.put(worker)

    def write(shard: Shard) -> int:
        worker = free.get()
        try:
            return write_watched(worker, shard)
        finally:
            free.put(worker)

    pool = ThreadPoolExecutor(number)
    try:
        futures = {pool.submit(write, shard): shard for shard in shards}
        for future in as_completed(futures):
            not_read.add(future.result())
            yield futures[future]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # otherwise an error would wait for all other shards
        for worker in workers:
            worker.close()
        pool.shutdown()
    not_read.refuse()


@dataclass(frozen=True)
class _ShardWriter:
    """Function of a worker process: writes a shard below `out`."""

    preparer: AdmissionPreparer
    out: Path
    limits: Limits
    one_thread: bool

    def __call__(self, say: Say, shard: Shard, stopped: dict[Step, str]) -> int:
        if self.one_thread:
            torch.set_num_threads(1)  # otherwise a view classifier takes all cores in every process
        return write_shard(shard, self.preparer, self.out, Supervision(say, stopped, self.limits))


def write_watched(worker: WatchedWorker, shard: Shard) -> int:
    """Write a shard in a worker process. Leave out the inputs at which the process dies or reaches a limit.

    An input at which the process died is tried once more, because somebody else may have killed the process. The other
    rows of the shard are read again after each stop, which keeps the worker process free of any state.

    Returns:
        Number of files that could not be read, as `write_shard` does.

    Raises:
        TgmmError: If the process died between two inputs, two times.
    """
    stopped: dict[Step, str] = {}
    deaths: set[Step] = set()
    while True:
        try:
            number: int = worker.run(shard, stopped)
            return number
        except WorkerStoppedError as error:
            if error.died and error.step not in deaths:
                deaths.add(error.step)
                continue
            if error.step is None:
                raise TgmmError(
                    "a worker process", f"was killed, often because memory ran out: use fewer --workers. {RUN_AGAIN}"
                ) from error
            stopped[error.step] = error.reason


class _NotRead:
    """Counter of the files that could not be read, and of their shards."""

    def __init__(self) -> None:
        self.files = 0
        self.shards = 0

    def add(self, files: int) -> None:
        """Count the files of one shard."""
        self.files += files
        self.shards += bool(files)

    def refuse(self) -> None:
        """Raise a TgmmError if there are such files."""
        if self.files:
            raise TgmmError(
                f"{self.files} file(s)",
                f"could not be read, or changed or vanished while they were read, so {self.shards} shard(s) are not "
                f"finished: check the disk and the permissions. {RUN_AGAIN}",
            )


def run_ray(
    shards: Sequence[Shard],
    preparer: AdmissionPreparer,
    out: Path,
    num_proc: int | None,
    limits: Limits | None = LIMITS,
) -> Iterator[Shard]:
    """Write shards as tasks of a Ray cluster.

    The cluster is the one that this machine belongs to. If there is none, one is started here. Every machine must see
    this working directory, the files of the table and `out` under the same paths, and have this package installed.

    Args:
        shards: The shards to write.
        preparer: Prepares their rows.
        out: Directory of the prepared data.
        num_proc: Maximum number of tasks at a time. None means twice the cores of the cluster.
        limits: Limits of the reading of one input. None reads unwatched, in the process of the task.

    Yields:
        Every shard that was handled.

    Raises:
        TgmmError: If Ray is not installed, a task failed, or files could not be read or changed meanwhile. Ray itself
            repeats tasks whose machine died.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that is started here sends no usage statistics
    try:
        import ray
    except ImportError as error:
        raise TgmmError("--engine ray", "needs Ray: pip install 'tgmm-hf[cluster]'") from error
    not_read = _NotRead()
    started_here = not ray.is_initialized()
    if started_here:
        ray.init()
    try:
        task = ray.remote(_write_shard_in)
        stored_preparer = ray.put(preparer)
        limit = num_proc or 2 * int(ray.cluster_resources()["CPU"])
        waiting = deque(shards)
        running: dict[Any, Shard] = {}
        while waiting or running:
            while waiting and len(running) < limit:
                shard = waiting.popleft()
                running[task.remote(shard, stored_preparer, out, Path.cwd(), limits)] = shard
            (finished, *_), _ = ray.wait(list(running))
            not_read.add(ray.get(finished) or 0)
            yield running.pop(finished)
    except ray.exceptions.RayError as error:
        raise TgmmError("a task on the cluster", f"failed: {str(error).splitlines()[-1]} {RUN_AGAIN}") from error
    finally:
        if started_here:
            ray.shutdown()
    not_read.refuse()


def _write_shard_in(
    shard: Shard, preparer: AdmissionPreparer, out: Path, directory: Path, limits: Limits | None
) -> int:
    os.chdir(directory)  # relative paths start here
    if limits is None:
        return write_shard(shard, preparer, out)
    worker = WatchedWorker(_ShardWriter(preparer, out, limits, one_thread=True), limits)
    try:
        return write_watched(worker, shard)
    finally:
        worker.close()


ENGINES: dict[str, Engine] = {"local": run_local, "ray": run_ray}
