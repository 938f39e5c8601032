"""Where the time of `tgmm synth` goes: drawing and writing the files of patients, profiled in one process.

    OMP_NUM_THREADS=1 python benchmarks/synth_profile.py --patients 6

`tgmm synth` draws in worker processes, which a profiler does not see. Here the same functions run in this process.
Prints CPU milliseconds of a patient, and the functions and packages with the largest share of the profiled CPU time
of their own. The profiler makes Python code look slower beside compiled code.
"""

import cProfile
import pstats
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
from measuring import argument_parser, environment, write

from tgmm_hf.cohorts.synthetic import cohort


class InThisProcess:
    """In place of a pool of processes: does the work at once."""

    def map(self, function: Callable[..., Any], *items: Iterable[Any], **_: Any) -> Iterator[Any]:
        """Apply a function to the items, one after the other."""
        return map(function, *items)


@contextmanager
def no_processes(workers: int) -> Iterator[InThisProcess]:
    """In place of `drawing_processes`."""
    yield InThisProcess()


def package_of(file: str, name: str) -> str:
    """Name the package of a profiled function. Compiled functions have no file, so they count by their own name."""
    parts = Path(file).parts
    if "site-packages" in parts:
        return parts[parts.index("site-packages") + 1]
    if "tgmm_hf" in parts:
        return "tgmm_hf"
    return "Python's own library" if len(parts) > 1 else f"compiled: {name.split(' of ')[-1].strip('<>{}')}"


def main() -> None:
    """Profile and print one JSON object."""
    parser = argument_parser(__doc__)
    parser.add_argument("--patients", type=int, default=6, help="patients to draw (default 6)")
    parser.add_argument("--top", type=int, default=16, help="functions to print (default 16)")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    cohort.drawing_processes = no_processes  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as scratch:
        cohort.write_cohort(Path(scratch) / "first", 2)  # computes once what all cohorts need
        start = time.process_time()
        cohort.write_cohort(Path(scratch) / "second", arguments.patients)
        seconds = time.process_time() - start
        profile = cProfile.Profile(time.process_time)
        profile.runcall(cohort.write_cohort, Path(scratch) / "third", arguments.patients)
    stats: Any = pstats.Stats(profile)
    ranked = sorted(stats.stats.items(), key=lambda item: -item[1][2])[: arguments.top]
    shares = {
        f"{Path(file).name}:{name}": round(own / stats.total_tt, 3) for (file, _, name), (*_, own, _, _) in ranked
    }
    packages: Counter[str] = Counter()
    for (file, _, name), (*_, own, _, _) in stats.stats.items():
        packages[package_of(file, name)] += own / stats.total_tt
    result: dict[str, Any] = {"cpu_ms": round(1e3 * seconds / arguments.patients, 1), "functions": shares}
    result["packages"] = {name: round(share, 3) for name, share in packages.most_common(10)}
    write({**result, "machine": environment()}, 1)


if __name__ == "__main__":
    main()
