"""How a list of shards gets written: by processes of this machine, or by tasks on a Ray cluster.

An engine yields every shard when it is written, in any order. The bytes are the same whoever writes them.
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

from tgmm_hf.data.builder import RecordPreparer
from tgmm_hf.data.shards import Shard, write_shard
from tgmm_hf.utils.child_process import end_with_parent

Engine = Callable[[Sequence[Shard], RecordPreparer, Path, int | None], Iterator[Shard]]
GO_ON = "What is done is kept: run the same command again to go on."


def run_local(shards: Sequence[Shard], preparer: RecordPreparer, out: Path, num_proc: int | None) -> Iterator[Shard]:
    """Write shards in processes of this machine; all cores when `num_proc` is None.

    Raises:
        RuntimeError: if a process was killed.
    """
    workers = min(num_proc or os.cpu_count() or 1, len(shards))
    if workers <= 1:
        for shard in shards:
            write_shard(shard, preparer, out)
            yield shard
        return
    # not "fork": PyTorch's threads do not survive it
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
            raise RuntimeError(
                f"A worker process was killed (often for memory: use fewer --workers). {GO_ON}"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # else an error would first work through the queue


_worker: tuple[RecordPreparer, Path]


def _start_worker(preparer: RecordPreparer, out: Path) -> None:
    global _worker
    _worker = (preparer, out)
    torch.set_num_threads(1)  # a view classifier would otherwise take all cores in every process
    end_with_parent()


def _work(shard: Shard) -> None:
    write_shard(shard, *_worker)


def run_ray(shards: Sequence[Shard], preparer: RecordPreparer, out: Path, num_proc: int | None) -> Iterator[Shard]:
    """Write shards as tasks of the Ray cluster that this machine belongs to, or of one started here if there is none.

    At most `num_proc` tasks are handed out at a time, twice the cluster's cores when it is None. Every machine must see
    this working directory, the table's files and `out` under the same paths, and have this package installed.

    Raises:
        RuntimeError: if Ray is not installed, or a task failed (tasks whose machine died are tried again by Ray).
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster started here reports to nobody
    try:
        import ray
    except ImportError as error:
        raise RuntimeError("--engine ray needs Ray: pip install 'tgmm-hf[cluster]'") from error
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
        raise RuntimeError(f"A task on the cluster failed: {str(error).splitlines()[-1]} {GO_ON}") from error
    finally:
        if started_here:
            ray.shutdown()


def _write_shard_in(shard: Shard, preparer: RecordPreparer, out: Path, directory: Path) -> None:
    os.chdir(directory)  # where relative paths start
    write_shard(shard, preparer, out)


ENGINES: dict[str, Engine] = {"local": run_local, "ray": run_ray}
