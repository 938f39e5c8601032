"""Engines that write a list of shards: processes of this machine, or tasks on a Ray cluster.

An engine yields every shard as soon as it is written, in any order. The bytes do not depend on the engine.
"""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch

from tgmm_hf.data.admissions import AdmissionPreparer
from tgmm_hf.data.shards import Shard, write_shard
from tgmm_hf.utils.child_process import end_with_parent
from tgmm_hf.utils.errors import TgmmError

Engine = Callable[[Sequence[Shard], AdmissionPreparer, Path, int | None], Iterator[Shard]]
RUN_AGAIN = "What is done is kept: run the same command again to go on."


def run_local(shards: Sequence[Shard], preparer: AdmissionPreparer, out: Path, num_proc: int | None) -> Iterator[Shard]:
    """Write shards in processes of this machine.

    Args:
        shards: The shards to write.
        preparer: Prepares their rows.
        out: Directory of the prepared data.
        num_proc: Number of worker processes. None means one per core.

    Yields:
        Every shard that was written.

    Raises:
        TgmmError: If a worker process was killed.
    """
    workers = min(num_proc or os.cpu_count() or 1, len(shards))
    if workers <= 1:
        for shard in shards:
            write_shard(shard, preparer, out)
            yield shard
        return
    # Not "fork", because threads of PyTorch do not survive it.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(workers, context, _start_worker, (preparer, out)) as pool:
        futures = {pool.submit(_work, shard): shard for shard in shards}
        try:
            for future in as_completed(futures):
                future.result()
                yield futures[future]
        except BrokenProcessPool as error:
            raise TgmmError(
                "a worker process", f"was killed, often because memory ran out: use fewer --workers. {RUN_AGAIN}"
            ) from error
        finally:
            # Without this, the pool would work through its queue before it reports an error.
            pool.shutdown(wait=False, cancel_futures=True)


_worker: tuple[AdmissionPreparer, Path]


def _start_worker(preparer: AdmissionPreparer, out: Path) -> None:
    global _worker
    _worker = (preparer, out)
    torch.set_num_threads(1)  # otherwise a view classifier takes all cores in every process
    end_with_parent()


def _work(shard: Shard) -> None:
    write_shard(shard, *_worker)


def run_ray(shards: Sequence[Shard], preparer: AdmissionPreparer, out: Path, num_proc: int | None) -> Iterator[Shard]:
    """Write shards as tasks of a Ray cluster.

    The cluster is the one that this machine belongs to. If there is none, one is started here. Every machine must see
    this working directory, the files of the table and `out` under the same paths, and have this package installed.

    Args:
        shards: The shards to write.
        preparer: Prepares their rows.
        out: Directory of the prepared data.
        num_proc: Maximum number of tasks at a time. None means twice the cores of the cluster.

    Yields:
        Every shard that was written.

    Raises:
        TgmmError: If Ray is not installed, or a task failed. Ray itself repeats tasks whose machine died.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that is started here sends no usage statistics
    try:
        import ray
    except ImportError as error:
        raise TgmmError("--engine ray", "needs Ray: pip install 'tgmm-hf[cluster]'") from error
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
                running[task.remote(shard, stored_preparer, out, Path.cwd())] = shard
            (finished, *_), _ = ray.wait(list(running))
            ray.get(finished)
            yield running.pop(finished)
    except ray.exceptions.RayError as error:
        raise TgmmError("a task on the cluster", f"failed: {str(error).splitlines()[-1]} {RUN_AGAIN}") from error
    finally:
        if started_here:
            ray.shutdown()


def _write_shard_in(shard: Shard, preparer: AdmissionPreparer, out: Path, directory: Path) -> None:
    os.chdir(directory)  # relative paths start here
    write_shard(shard, preparer, out)


ENGINES: dict[str, Engine] = {"local": run_local, "ray": run_ray}
