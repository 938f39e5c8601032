"""Run all benchmarks in small sizes and print one table: reference, ours, ratio, goal.

    make bench FILES=DIRECTORY

Each benchmark runs in a process of its own with one thread. One that fails, or takes longer than its limit, is named
below the table and does not stop the others. `--files` is a directory with real files: `data/echo_dicom/*.dcm` and
`data/wfdb/ptbxl/*.hea`. Without it the rows that need them are left out. All together take about 20 minutes on two free
cores. On a busy machine `--patience 8` gives each benchmark eight times its time. `--out` writes the table and
everything that the benchmarks printed.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measuring import argument_parser, environment, write

HERE = Path(__file__).parent
Printed = list[dict[str, Any]]
"""The JSON objects that a benchmark printed."""


@dataclass
class Benchmark:
    """One benchmark file with small sizes.

    Attributes:
        name: File without suffix.
        options: Its command line.
        rows: Makes rows of the table from what it printed.
        limit: Seconds after which it is stopped.
        is_missing: Whether it needs files that are not here.
    """

    name: str
    options: list[str]
    rows: Callable[[Printed], list[dict[str, Any]]] = field(default=lambda printed: printed[-1]["rows"])
    limit: float = 300
    is_missing: bool = False


def benchmarks(shared: Path, scratch: Path) -> list[Benchmark]:
    """List all benchmarks."""
    clips = sorted(map(str, (shared / "data" / "echo_dicom").glob("*.dcm")))[:1]
    records = [str(path.with_suffix("")) for path in sorted((shared / "data" / "wfdb" / "ptbxl").glob("HR*.hea"))[:4]]
    return [
        Benchmark("echo_clip", clips, is_missing=not clips),
        Benchmark("sector_mask", clips, is_missing=not clips),
        Benchmark("ecg_values", records, is_missing=not records),
        Benchmark("synth", ["--patients", "24"]),
        Benchmark(
            "prepare",
            ["--patients", "16", "--size", "paper", "--directory", str(scratch / "prepare")],
            prepare_rows,
        ),
        Benchmark("echo_mvit", ["--clips", "1", "4", "--pairs", "2"], limit=420),
        Benchmark("echo_mvit_parts", ["--repeats", "3"], part_rows),
        Benchmark("st_mem", ["--batch-size", "8", "--pairs", "3"]),
        Benchmark("answers", ["--views", "1", "--pairs", "3"], limit=420),
        Benchmark("frozen_features_cache", ["--patients", "2", "--views", "3", "--batch-size", "2"], cache_rows),
        Benchmark("prediction", ["--patients", "24", "--pairs", "3", "--memory", "300", "2000"]),
        Benchmark("precision", ["--views", "1", "--repeats", "2"]),
        Benchmark("start", ["--pairs", "3"]),
        Benchmark(
            "curate",
            ["--rows", "1000000", "10000000", "--directory", str(scratch / "curate")],
            curate_rows,
            limit=600,
        ),
        Benchmark("loading", ["--repeats", "3"], loading_rows),
        Benchmark("meit", ["--pairs", "3"]),
        Benchmark("beat", ["--seconds", "600", "--pairs", "3"]),
        Benchmark("more_index", ["--vectors", "100000"]),
        Benchmark("explanation", ["--size", "tiny"]),
    ]


def ratio_row(name: str, what: str, ratio: float) -> dict[str, Any]:
    """Make a row of a benchmark that prints its ratio, without a goal."""
    return {"row": name, "what": what, "ratio": ratio}


def prepare_rows(printed: Printed) -> list[dict[str, Any]]:
    """Read `prepare.py`."""
    what = "core use of prepare with two processes, {} model"
    return [
        {
            "row": "12, prepare",
            "what": what.format(entry["size"]),
            "value": entry["ratios"]["two_over_one_by_cpu"],
            "goal": 0.95,
        }
        for entry in printed
    ]


def part_rows(printed: Printed) -> list[dict[str, Any]]:
    """Read `echo_mvit_parts.py`."""
    return [ratio_row("MViT, part", f"{entry['part']}, plain / ours", entry["ratio"]) for entry in printed]


def cache_rows(printed: Printed) -> list[dict[str, Any]]:
    """Read `frozen_features_cache.py`."""
    return [
        ratio_row("cache", f"an epoch without / with the cache, {name}", entry["ratio"])
        for name, entry in printed[-1].items()
        if isinstance(entry, dict)
    ]


def curate_rows(printed: Printed) -> list[dict[str, Any]]:
    """Read `curate.py`."""
    name = "cpu_microseconds_per_row"
    return [
        ratio_row("curate", f"pandas / ours, {entry['rows']:,} rows", entry["pandas"][name] / entry["curate"][name])
        for entry in printed
        if "pandas" in entry
    ]


def loading_rows(printed: Printed) -> list[dict[str, Any]]:
    """Read `loading.py`."""
    ratios = printed[-1]["tgmm / bert"]
    return [ratio_row("loading", f"BERT / TGMM, {name.replace('_', ' ')}", 1 / value) for name, value in ratios.items()]


def objects_in(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects that begin at the start of a line."""
    decoder, place = json.JSONDecoder(), 0
    while (place := text.find("{", place)) >= 0:
        if place and text[place - 1] != "\n":
            place += 1
            continue
        try:
            content, end = decoder.raw_decode(text, place)
        except json.JSONDecodeError:
            place += 1
            continue
        yield content
        place = end


def run(benchmark: Benchmark, patience: float = 1) -> tuple[list[dict[str, Any]], Printed, str]:
    """Run one benchmark in a process of its own.

    Args:
        benchmark: The benchmark.
        patience: Its limit is multiplied by this.

    Returns:
        Its rows, what it printed, and why it failed ("" if it did not).
    """
    if benchmark.is_missing:
        return [], [], "not measured: it needs real files, see --files"
    command = [sys.executable, str(HERE / f"{benchmark.name}.py"), *benchmark.options]
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=patience * benchmark.limit,
            env=os.environ | threads,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return [], [], f"stopped after {patience * benchmark.limit:g} s"
    printed = list(objects_in(done.stdout))
    if done.returncode:
        return [], printed, f"failed: {(done.stderr.strip().splitlines() or ['without a message'])[-1][:200]}"
    try:
        return benchmark.rows(printed), printed, ""
    except (KeyError, IndexError, TypeError) as error:
        return [], printed, f"its output has another form than expected ({type(error).__name__})"


def table(rows: list[dict[str, Any]]) -> str:
    """Write the rows as a Markdown table."""
    lines = ["| row | what | reference, CPU ms | ours, CPU ms | ratio or figure | goal |", "|---|---|---|---|---|---|"]
    for entry in rows:
        value = entry.get("ratio", entry.get("value"))
        sides = [f"{entry[side]['cpu_ms']:.3g}" if side in entry else "" for side in ("reference", "ours")]
        goal = f"{'<=' if entry.get('at_most') else '>='} {entry['goal']:g}" if entry.get("goal") else ""
        lines.append(f"| {entry['row']} | {entry['what']} | {sides[0]} | {sides[1]} | {value:.3g} | {goal} |")
    return "\n".join(lines)


def main() -> None:
    """Run the benchmarks one after the other and print the table."""
    parser = argument_parser(__doc__)
    parser.add_argument("--files", type=Path, default=Path("none"), help="directory with real files")
    parser.add_argument("--only", nargs="+", help="names of the benchmarks to run (default all)")
    parser.add_argument(
        "--patience", type=float, default=1, help="multiplies the limits of time, for a busy machine (default 1)"
    )
    parser.add_argument("--out", type=Path, help="file to write: JSON with rows and outputs")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    outputs: dict[str, Printed] = {}
    failures: dict[str, str] = {}
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for benchmark in benchmarks(arguments.files, Path(scratch)):
            if arguments.only and benchmark.name not in arguments.only:
                continue
            sys.stderr.write(f"{benchmark.name} ...\n")
            start = time.perf_counter()
            made, outputs[benchmark.name], failure = run(benchmark, arguments.patience)
            seconds[benchmark.name] = round(time.perf_counter() - start, 1)
            rows += made
            if failure:
                failures[benchmark.name] = failure
    result = {"rows": rows, "failures": failures, "seconds": seconds, "machine": environment()}
    write(table(rows))
    write("".join(f"\n{name}: {failure}" for name, failure in failures.items()))
    write(f"machine: {json.dumps(result['machine'])}; {sum(seconds.values()):.0f} s")
    if arguments.out is not None:
        arguments.out.write_text(json.dumps({**result, "outputs": outputs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
