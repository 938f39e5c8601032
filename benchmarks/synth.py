"""Patients a core-second of `tgmm synth` (row 12), and a digest of the files.

    OMP_NUM_THREADS=1 python benchmarks/synth.py --patients 24

Core-seconds are the CPU time of this process and of its worker processes, without the imports. The digest covers every
file, so two versions of the package that draw the same files give the same digest.
"""

import hashlib
import resource
import statistics
import tempfile
import time
from pathlib import Path

from measuring import argument_parser, environment, figure, write

from tgmm_hf.cohorts.synthetic.cohort import write_cohort

GOAL = 5.0


def core_seconds() -> float:
    """Return the CPU time of this process and of its finished children."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def digest_of(directory: Path) -> str:
    """Return the SHA-256 of the names and contents of all files under a directory."""
    digest = hashlib.sha256()
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(directory)).encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def main() -> None:
    """Write a cohort several times and print one JSON object."""
    parser = argument_parser(__doc__)
    parser.add_argument("--patients", type=int, default=24, help="patients of the cohort (default 24)")
    parser.add_argument("--repeats", type=int, default=3, help="measured cohorts (default 3)")
    arguments = parser.parse_args()
    rates, walls, digests = [], [], set()
    for repeat in range(arguments.repeats + 1):
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "cohort"
            wall, start = time.perf_counter(), core_seconds()
            write_cohort(out, arguments.patients)
            used, wall = core_seconds() - start, time.perf_counter() - wall
            digests.add(digest_of(out))
        if repeat:  # the first one warms up
            rates.append(arguments.patients / used)
            walls.append(arguments.patients / wall)
    (digest,) = digests
    write(
        {
            "rows": [figure("12, synth", "patients a core-second of tgmm synth", statistics.median(rates), GOAL)],
            "patients_a_second_by_wall": statistics.median(walls),
            "digest": digest,
            "patients": arguments.patients,
            "machine": environment(),
        }
    )


if __name__ == "__main__":
    main()
