"""What the benchmarks share: clocks, peak memory and output."""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable


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


def peak_gib() -> float:
    """Return the peak resident memory of this process in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
