"""Run some kinds in this process and print the finds: debug_kinds.py CASES KIND ... (a helper while writing kinds)."""

import collections
import sys
import tempfile
import time
from pathlib import Path

from kinds import KINDS
from trials import FAULTS, UNEXPECTED, run_case

count, *names = sys.argv[1:]
verbose = "-v" in names
for name in [one for one in KINDS if any(one.startswith(part) for part in names if part != "-v")]:
    start, outcomes = time.monotonic(), collections.Counter()
    for seed in range(int(count)):
        with tempfile.TemporaryDirectory() as folder:
            finding = run_case(name, seed, Path(folder))
        outcomes[finding.outcome] += 1
        if verbose or finding.outcome in (*FAULTS, UNEXPECTED):
            print("   ", name, seed, *finding[:3])
    print(name, dict(outcomes), f"{time.monotonic() - start:.1f} s", flush=True)
