"""What the benchmarks share: clocks, peak memory and output."""

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """Make a parser whose help shows the docstring of the script as it is written."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def write(content: object, indent: int | None = None) -> None:
    """Write a line to the standard output: a text as it is, anything else as JSON."""
    text = content if isinstance(content, str) else json.dumps(content, indent=indent)
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def best_seconds(
    runs: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Measure the fastest of several calls of each function, after one call to warm up.

    The functions are called in turn, so that a busy moment of the machine hits all of them.

    Args:
        runs: Name -> function.
        repeats: Number of measured calls of each function.
        clock: Function that gives seconds; `time.process_time` counts the CPU time of this process only.
    """
    for run in runs.values():
        run()
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(repeats):
        for name, run in runs.items():
            start = clock()
            run()
            best[name] = min(best[name], clock() - start)
    return best


def alternate(runs: dict[str, Callable[[], object]], pairs: int) -> dict[str, dict[str, float]]:
    """Measure the median wall and CPU time of functions that are called in turn: A B A B, after one call to warm up.

    Args:
        runs: Name -> function.
        pairs: Number of measured calls of each function.

    Returns:
        Name -> {"wall_ms", "cpu_ms"}. CPU time counts all threads of this process.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(pairs):
        for name, run in runs.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: {
            "wall_ms": 1e3 * statistics.median(w for w, _ in taken),
            "cpu_ms": 1e3 * statistics.median(c for _, c in taken),
        }
        for name, taken in times.items()
    }


def anonymous_bytes() -> int:
    """Return the bytes of this process that are not mapped from a file. Linux only."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")))


def peak_growth(run: Callable[[], object]) -> int:
    """Measure by how many bytes the memory grows at most while a function runs, in a forked process.

    Call it before this process has run the function, because freed memory that is used again is no growth. The memory
    is looked at every two milliseconds, so a shorter peak is missed.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_growth, args=(sender, run))
    process.start()
    growth: int = receiver.recv()
    process.join()
    return growth


def _send_growth(sender: Any, run: Callable[[], object]) -> None:
    before, peak, done = anonymous_bytes(), 0, threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, anonymous_bytes())
            time.sleep(0.002)

    sampler = threading.Thread(target=sample)
    sampler.start()
    run()
    done.set()
    sampler.join()
    sender.send(max(peak, anonymous_bytes()) - before)


def row(name: str, what: str, reference: dict[str, float], ours: dict[str, float], goal: float) -> dict[str, Any]:
    """Make a row of the table of `benchmarks/run_all.py` from what `alternate` returns.

    Args:
        name: Number of the row, such as "1a".
        what: What is compared with what.
        reference: Times of the reference.
        ours: Times of this package.
        goal: Smallest ratio reference / ours, by CPU time.
    """
    return {
        "row": name,
        "what": what,
        "reference": reference,
        "ours": ours,
        "ratio": reference["cpu_ms"] / ours["cpu_ms"],
        "ratio_by_wall": reference["wall_ms"] / ours["wall_ms"],
        "goal": goal,
    }


def figure(name: str, what: str, value: float, goal: float, *, at_most: bool = False) -> dict[str, Any]:
    """Make a row for a figure that is no ratio of two times; `at_most` if the goal is an upper limit."""
    return {"row": name, "what": what, "value": value, "goal": goal, "at_most": at_most}


def environment() -> dict[str, Any]:
    """Describe the machine and the threads of this process."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "python": platform.python_version(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "load": round(os.getloadavg()[0], 1),
    }


def _processor() -> str:
    """Read the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def peak_gib() -> float:
    """Return the peak resident memory of this process in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
