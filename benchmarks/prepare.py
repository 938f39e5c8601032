"""Throughput of `tgmm prepare` per core, with one process and with two, and its peak memory.

    python benchmarks/prepare.py --patients 96 --directory scratch

Writes a synthetic cohort (`tgmm synth`: clips of 32 frames, 240 x 320, JPEG) and prepares it for the tiny (64 px) and
the paper's (224 px) model. Three parts are measured: a quarter, the whole, and the whole by two processes with half
each (`--shard 1/2` and `2/2`). Each process reads the files itself, without the watched worker process of the command,
so that its CPU time is that of the work. Imports are not timed. On a busy machine look at the CPU time
(`cpu_seconds_per_record`). "record" in the result is one row of the cohort table. Printed ratios:

* `two_over_one`: records per second, two processes over one. 2 would be perfect.
* `two_over_one_by_cpu`: the same per core, from the CPU time. 1 would be perfect.
* `memory_whole_over_quarter`: peak memory, which includes the imports (`imports_gib`).
* `dry_run_over_time`: the estimate of `--dry-run` over the measured time.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import argument_parser, peak_gib, write

from tgmm_hf import TgmmConfig, default_processor
from tgmm_hf.cohorts.synthetic.cohort import write_cohort
from tgmm_hf.data import prepare
from tgmm_hf.processing_tgmm import BERT_CASED_SIZE

prepare.SHARD_SIZE = 4  # so that a small cohort has shards for two processes


def run_part(cohort: Path, out: Path, size: str, part: tuple[int, int]) -> dict[str, float]:
    """Prepare one part in this process, after a dry run. The dry run takes the time of the imports."""
    config = TgmmConfig() if size == "paper" else TgmmConfig.tiny(labs_config={"vocab_size": BERT_CASED_SIZE})
    arguments = (cohort / "cohort.parquet", out, default_processor(config))
    imports_gib = peak_gib()
    estimate = prepare.dry_run(*arguments, part=part)["seconds"]
    start, cpu_start = time.perf_counter(), time.process_time()
    # Without limits the files are read in this process, not in a worker process, whose CPU time nobody would count.
    counts = prepare.prepare(*arguments, part=part, limits=None)["counts"].values()
    return {
        "records": sum(count["records"] for count in counts),
        "clips": sum(count["clips"] for count in counts),
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu_start,
        "estimated_seconds": estimate,
        "imports_gib": imports_gib,
        "peak_gib": peak_gib(),
    }


def measure(cohort: Path, out: Path, size: str, parts: list[tuple[int, int]]) -> dict[str, float]:
    """Prepare the given parts at the same time, each in a process of its own."""
    commands = [
        [
            sys.executable,
            __file__,
            "--directory",
            str(cohort),
            "--out",
            str(out),
            "--size",
            size,
            "--part",
            *map(str, part),
        ]
        for part in parts
    ]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    results = [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]
    total = {name: sum(result[name] for result in results) for name in ("records", "clips", "cpu_seconds")}
    seconds = max(result["seconds"] for result in results)
    return {
        "processes": len(parts),
        "records": total["records"],
        "records_per_second": total["records"] / seconds,
        "clips_per_second": total["clips"] / seconds,
        "cpu_seconds_per_record": total["cpu_seconds"] / total["records"],
        "dry_run_over_time": sum(r["estimated_seconds"] for r in results) / sum(r["seconds"] for r in results),
        "imports_gib": max(result["imports_gib"] for result in results),
        "peak_gib": max(result["peak_gib"] for result in results),
    }


def compare(cohort: Path, scratch: Path, size: str) -> dict[str, Any]:
    """Measure the three parts for one size of the model."""
    quarter = measure(cohort, scratch / f"{size}-quarter", size, [(1, 4)])
    one = measure(cohort, scratch / f"{size}-one", size, [(1, 1)])
    two = measure(cohort, scratch / f"{size}-two", size, [(1, 2), (2, 2)])
    ratios = {
        "two_over_one": two["records_per_second"] / one["records_per_second"],
        "two_over_one_by_cpu": one["cpu_seconds_per_record"] / two["cpu_seconds_per_record"],
        "memory_whole_over_quarter": one["peak_gib"] / quarter["peak_gib"],
    }
    return {"quarter": quarter, "one": one, "two": two, "ratios": ratios}


def main() -> None:
    """Measure both sizes and print one line for each."""
    parser = argument_parser(__doc__)
    parser.add_argument("--patients", type=int, default=96, help="patients of the cohort (default 96)")
    parser.add_argument(
        "--directory", type=Path, required=True, help="directory to write; a cohort that is there is used again"
    )
    parser.add_argument(
        "--size",
        choices=("tiny", "paper"),
        nargs="+",
        default=["tiny", "paper"],
        help="sizes of the model (default both)",
    )
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--part", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:  # this process was started by `measure`
        (size,) = arguments.size
        write(run_part(arguments.directory, arguments.out, size, tuple(arguments.part)))
        return
    arguments.directory.mkdir(parents=True, exist_ok=True)
    cohort = arguments.directory / f"cohort-{arguments.patients}"
    write_cohort(cohort, arguments.patients)
    for size in arguments.size:
        with tempfile.TemporaryDirectory(dir=arguments.directory) as scratch:
            result = compare(cohort, Path(scratch), size)
        rounded = {run: {name: round(value, 3) for name, value in part.items()} for run, part in result.items()}
        write({"size": size, **rounded})


if __name__ == "__main__":
    main()
