"""Run cases in worker processes that are used again, and killed when a case takes too long or too much memory."""

import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from trials import FOREIGN, HANG, MEMORY, Finding

from tgmm_hf.utils.watched_worker import PRELOAD

SECONDS, BYTES = 20.0, 2 << 30
"""A case that takes longer, or a worker that needs more memory, breaks the promise."""
START_SECONDS = 120.0
"""A worker imports torch before its first case."""
Case = tuple[str, int]


def _work(pipe: Connection, modules: tuple[str, ...]) -> None:
    """Run cases until the pipe closes. What a library prints goes nowhere."""
    import importlib

    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    import torch

    torch.set_num_threads(1)
    for module in modules:
        importlib.import_module(module)
    from trials import run_case

    pipe.send(None)
    while True:
        try:
            case, folder = pipe.recv()
        except EOFError:
            return
        _reset_peak()
        finding = run_case(*case, Path(folder))
        if peak_memory(os.getpid()) > BYTES:
            finding = Finding(MEMORY, finding.what, f"peak of {peak_memory(os.getpid()) >> 20} MiB", finding.judged)
        pipe.send(tuple(finding))


def _reset_peak() -> None:
    """Let Linux measure the peak memory of this process anew."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(process: int, field: str = "VmHWM") -> int:
    """Read the peak memory (bytes) of a process since `_reset_peak`; 0 if it has ended."""
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) << 10
    return 0


def cpu_seconds(process: int) -> float:
    """Read how long a process has been at work; 0 if it has ended."""
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    ready: bool = False
    case: Case | None = None
    folder: str = ""
    started: float = 0.0
    cpu: float = 0.0


class Pool:
    """Worker processes for cases.

    Args:
        modules: modules to import in a worker: the kinds, and a planted fault of a test.
        workers: number of processes.
        seconds: limit of a case.
        limit: bytes of memory that a worker may hold.
    """

    def __init__(self, modules: Iterable[str], workers: int = 2, seconds: float = SECONDS, limit: int = BYTES) -> None:
        self.modules, self.seconds, self.limit = tuple(modules), seconds, limit
        self.context = multiprocessing.get_context("forkserver")  # imports the package once for all processes
        self.context.set_forkserver_preload(list(PRELOAD))
        self.workers = [self._start() for _ in range(workers)]

    def _start(self) -> _Worker:
        here, there = self.context.Pipe()
        process = self.context.Process(target=_work, args=(there, self.modules), daemon=True)
        process.start()
        there.close()
        return _Worker(process, here, started=time.monotonic())

    def run(self, cases: Iterable[Case]) -> Iterator[tuple[Case, Finding]]:
        """Run cases and yield each with its finding, in the order in which they end."""
        waiting = iter(cases)
        for worker in self.workers:
            self._give(worker, waiting)
        while any(worker.case for worker in self.workers):
            ready = wait([worker.pipe for worker in self.workers if worker.case], timeout=0.05)
            for number, worker in enumerate(self.workers):
                if worker.case is None:
                    continue
                finding = self._finding(worker, worker.pipe in ready)
                if finding is None:
                    continue
                case = worker.case
                shutil.rmtree(worker.folder, ignore_errors=True)
                if finding.outcome in (FOREIGN, HANG, MEMORY) and not worker.ready:
                    self.workers[number] = worker = self._start()
                worker.case = None
                self._give(worker, waiting)
                yield case, finding

    def _give(self, worker: _Worker, waiting: Iterator[Case]) -> None:
        """Give the next case to a worker."""
        case = next(waiting, None)
        if case is not None:
            worker.case, worker.folder = case, tempfile.mkdtemp(prefix="tgmm-case-")
            worker.pipe.send((case, worker.folder))
            worker.started, worker.cpu = time.monotonic(), cpu_seconds(worker.process.pid)

    def _finding(self, worker: _Worker, has_news: bool) -> Finding | None:
        """Return the finding of a worker's case, None while it runs. A worker that was killed is not `ready`."""
        if has_news:
            try:
                message = worker.pipe.recv()
            except (EOFError, OSError):
                worker.process.join()
                worker.ready = False
                return Finding(FOREIGN, "", f"the process died with status {worker.process.exitcode}")
            if message is None:  # the worker has started, its case begins now
                worker.ready, worker.started = True, time.monotonic()
                worker.cpu = cpu_seconds(worker.process.pid)
                return None
            return Finding(*message)
        seconds = time.monotonic() - worker.started
        if not worker.ready:
            return self._kill(worker, HANG, "the worker does not start") if seconds > START_SECONDS else None
        # On a busy machine only the worker's own time counts; a worker that sleeps for ever has none.
        own = cpu_seconds(worker.process.pid) - worker.cpu
        if own > self.seconds or (seconds > self.seconds and own < 0.1 * self.seconds) or seconds > 3 * self.seconds:
            return self._kill(worker, HANG, f"not done after {seconds:.0f} s, {own:.0f} s of it at work")
        if peak_memory(worker.process.pid, "VmRSS") > self.limit:
            return self._kill(worker, MEMORY, f"more than {self.limit >> 20} MiB")
        return None

    def _kill(self, worker: _Worker, outcome: str, detail: str) -> Finding:
        worker.process.kill()
        worker.process.join()
        worker.ready = False
        return Finding(outcome, "", detail)

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers:
            worker.process.kill()
            worker.process.join()
            shutil.rmtree(worker.folder, ignore_errors=True) if worker.folder else None

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
