"""Sum the times of tests by directory and by file, to see where the time of the tests goes.

    .venv/bin/python -m pytest -n 2 --dist loadfile --durations=0 -vv > tests.log
    python scripts/sum_test_times.py tests.log

Times are wall times of setup, call and teardown in the worker processes, as pytest prints them. They do not hold
importing and collecting.
"""

import argparse
import re
import sys
from collections import defaultdict
from pathlib import Path, PurePosixPath

DURATION = re.compile(r"^([\d.]+)s (setup|call|teardown) +(\S+?\.py)::", re.MULTILINE)
"""A line of pytest's list of slowest durations: seconds, phase and file."""


def sums(log: str) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Sum the seconds in a log of pytest by directory, by file and by phase."""
    directories: dict[str, float] = defaultdict(float)
    files: dict[str, float] = defaultdict(float)
    phases: dict[str, float] = defaultdict(float)
    for seconds, phase, file in DURATION.findall(log):
        directories[str(PurePosixPath(file).parent)] += float(seconds)
        files[file] += float(seconds)
        phases[phase] += float(seconds)
    return directories, files, phases


def main() -> None:
    """Read a log and print the sums, the largest first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path, help="output of pytest with --durations=0")
    parser.add_argument("--files", type=int, default=25, help="files that are printed (default 25)")
    arguments = parser.parse_args()
    directories, files, phases = sums(arguments.log.read_text(encoding="utf-8"))
    for table, number in ((phases, None), (directories, None), (files, arguments.files)):
        largest = sorted(table.items(), key=lambda item: -item[1])[:number]
        sys.stdout.writelines(f"| {seconds:.0f} | {name} |\n" for name, seconds in largest)


if __name__ == "__main__":
    main()
