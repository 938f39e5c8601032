"""The runner of the benchmarks makes one table and is not stopped by a benchmark that fails."""

import importlib
import mmap
import sys
import time
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def benchmark_named(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    monkeypatch.setattr(sys, "path", sys.path)
    return importlib.import_module


@pytest.fixture
def run_all(benchmark_named):
    return benchmark_named("run_all")


def test_a_benchmark_that_fails_or_is_slow_is_named(run_all, tmp_path, monkeypatch):
    monkeypatch.setattr(run_all, "HERE", tmp_path)
    (tmp_path / "broken.py").write_text("raise SystemExit('no such file')")
    (tmp_path / "slow.py").write_text("import time; time.sleep(60)")
    (tmp_path / "odd.py").write_text("print('no result')")
    (tmp_path / "good.py").write_text('print(\'{\\n "rows": [{"row": "1", "what": "x", "value": 2}]\\n}\')')
    ends = {name: run_all.run(run_all.Benchmark(name, [], limit=5)) for name in ("broken", "odd", "good")}
    ends["slow"] = run_all.run(run_all.Benchmark("slow", [], limit=0.5))
    ends["missing"] = run_all.run(run_all.Benchmark("good", [], is_missing=True))
    assert ends["good"][0] == [{"row": "1", "what": "x", "value": 2}] and not ends["good"][2]
    assert "no such file" in ends["broken"][2] and "0.5 s" in ends["slow"][2]
    assert ends["odd"][2] and ends["missing"][2] and not ends["odd"][0]


def test_the_table_shows_times_ratio_and_goal(run_all):
    sides = {"reference": {"cpu_ms": 1500.0}, "ours": {"cpu_ms": 30.0}}
    rows = [
        {"row": "1a", "what": "clip", **sides, "ratio": 50.0, "goal": 40.0},
        {"row": "2", "what": "difference", "value": 1e-7, "goal": 1e-5, "at_most": True},
        {"row": "MViT", "what": "forward", "ratio": 2.0},
    ]
    first, second, third = run_all.table(rows).splitlines()[2:]
    assert "50" in first and "1.5e+03" in first and ">= 40" in first
    assert "<= 1e-05" in second and third.endswith("|  |")


def test_every_benchmark_of_the_table_exists(run_all, tmp_path):
    for benchmark in run_all.benchmarks(tmp_path, tmp_path):
        assert (run_all.HERE / f"{benchmark.name}.py").is_file()


def test_the_script_for_a_gpu_runs_on_a_cpu_in_tiny_sizes(benchmark_named):
    gpu = benchmark_named("gpu")
    entries = list(gpu.results(gpu.Sizes("cpu", is_tiny=True), ["float32"], repeats=1, seconds=600))
    assert len(entries) == 1 + 5  # the matrix product, and five comparisons
    for entry in entries[1:]:
        assert entry["ratio"] > 0 and entry["ours"]["ms"] > 0
    shares = [entry["share"] for entry in entries if "share" in entry]
    assert len(shares) == 3 and min(shares) > 0


def test_the_script_for_a_gpu_names_what_it_has_no_time_for(benchmark_named):
    gpu = benchmark_named("gpu")
    entries = list(gpu.results(gpu.Sizes("cpu", is_tiny=True), ["float32"], repeats=1, seconds=-1))
    assert [("not_measured" in entry) for entry in entries] == [False] + [True] * 5


def test_memory_that_a_function_takes_and_gives_back_is_seen(benchmark_named):
    measuring = benchmark_named("measuring")

    def take_and_give_back():
        # A map of its own, because memory that an earlier test of this process gave back may be used again.
        block = mmap.mmap(-1, 2**26, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        np.frombuffer(block, np.uint8)[:] = 1
        time.sleep(0.5)  # the sampler needs a moment, on a busy machine a longer one
        block.close()

    assert 2**26 <= measuring.peak_growth(take_and_give_back) < 2**27
