"""Run all kinds of hostile inputs, and write a table of what became of them: `make robustness`."""

import argparse
import json
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

from kinds import KINDS
from supervisor import BYTES, SECONDS, Pool
from trials import FAULTS, OUTCOMES, UNEXPECTED, Finding

COSTLY = {"echo_bomb": 16, "model_config": 40, "model_weights": 40, "model_processor": 40, "labs_json": 40}
"""Kinds with fewer cases, because a case takes long."""


def cases_of(cases: int, seed: int, kinds: list[str]) -> list[tuple[str, int]]:
    """List the cases: `cases` of each kind, from the seed on. Kinds alternate, so that long ones are spread."""
    numbers = {name: min(cases, COSTLY.get(name, cases)) for name in kinds}
    return [(name, seed * 100_000 + number) for number in range(cases) for name in kinds if number < numbers[name]]


def measure(cases: list[tuple[str, int]], workers: int) -> dict[str, list[tuple[int, Finding]]]:
    """Run cases in worker processes: kind -> (seed, finding) of each case."""
    findings = defaultdict(list)
    with Pool(["kinds"], workers) as pool:
        for number, ((name, seed), finding) in enumerate(pool.run(cases), start=1):
            findings[name].append((seed, finding))
            if number % 100 == 0:
                print(f"{number} of {len(cases)} cases", file=sys.stderr, flush=True)
    return {name: sorted(found) for name, found in sorted(findings.items())}


def table(findings: dict[str, list[tuple[int, Finding]]]) -> list[str]:
    """Write the table by kind as Markdown."""
    columns = ("cases", "judged", *OUTCOMES)
    lines = [f"| kind | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    total: Counter[str] = Counter()
    for name, found in findings.items():
        counts = Counter(finding.outcome for _, finding in found)
        counts |= Counter({"cases": len(found), "judged": sum(finding.judged for _, finding in found)})
        total += counts
        lines.append(f"| {name} | {' | '.join(str(counts[column]) for column in columns)} |")
    lines.append(f"| **all** | {' | '.join(f'**{total[column]}**' for column in columns)} |")
    return lines


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=64, help="cases of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kinds", nargs="*", default=sorted(KINDS))
    parser.add_argument("--out", type=Path, default=None, help="directory of the table; only printed by default")
    options = parser.parse_args()
    started = time.monotonic()
    findings = measure(cases_of(options.cases, options.seed, options.kinds), options.workers)
    minutes = (time.monotonic() - started) / 60
    lines = table(findings)
    print("\n".join(lines))
    faults = [
        (name, *found)
        for name, all_found in findings.items()
        for found in all_found
        if found[1].outcome in (*FAULTS, UNEXPECTED)
    ]
    for name, seed, finding in faults:
        print(f"{finding.outcome}: {name} {seed}: {finding.what}: {finding.detail}")
    if options.out is not None:
        _write(options, lines, faults, minutes)


def _write(options: argparse.Namespace, lines: list[str], faults: list, minutes: float) -> None:
    """Write the page. It holds no paths, because the folders of the cases are random."""
    options.out.mkdir(parents=True, exist_ok=True)
    head = [
        "# Hostile inputs",
        "",
        f"Command: `make robustness CASES={options.cases} SEED={options.seed}`. It took {minutes:.0f} minutes. A case is made from the name of its",
        "kind and its seed, so the same command makes the same inputs. `tests/robustness/kinds_*.py` holds the kinds.",
        "",
        "* **judged**: cases whose right value is known. The model input is compared with it.",
        "* **answered**: the input is used, and judged right if the right value is known.",
        "* **refused**: not used, with a reason that somebody foresaw. **unexpected**: refused, but nobody foresaw the reason.",
        f"* **foreign**: another exception, or a dead process. **hang**: over {SECONDS:.0f} s of work. **memory**: over {BYTES >> 30} GiB.",
        "* **nan**: a value in a model input that is not finite. **silent**: another value than the right one, and no word.",
        "",
    ]
    tail = [
        "",
        "## Cases that break the promise, or were not foreseen",
        "",
        "| outcome | kind | seed | input |",
        "|---|---|---:|---|",
    ]
    for name, seed, finding in faults:
        what = "".join(
            sign if sign.isprintable() and sign not in "|`" and ord(sign) < 0x2000 else "?" for sign in finding.what
        )
        tail.append(f"| {finding.outcome} | {name} | {seed} | {what[:80]} |")
    (options.out / "inputs.md").write_text(
        "\n".join([*head, *lines, *(tail if faults else [])]) + "\n", encoding="utf-8"
    )
    outcomes = {name: finding.outcome for name, _, finding in faults}
    print(json.dumps(outcomes), file=sys.stderr)


if __name__ == "__main__":
    main()
