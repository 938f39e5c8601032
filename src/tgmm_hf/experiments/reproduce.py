"""`tgmm reproduce`: a grid of trainings, each evaluated on the same patients, and the paper's tables 2 to 6 of them.

Every run is a process of its own (`python -m tgmm_hf.experiments.reproduce RUN/spec.json`): one that fails or is killed
stops no other, and what a finished one left is not computed again.
"""

import hashlib
import json
import os
import platform
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from tgmm_hf.evaluation.notices import small_sample_warnings
from tgmm_hf.evaluation.optimum import read_optimum
from tgmm_hf.evaluation.tables import as_csv, headline, tasks_of
from tgmm_hf.experiments.runs import (
    collect_figures,
    combination_differences,
    combination_table,
    difference_table,
    grid_tables,
    paired_differences,
    read_metrics,
    write_figures,
)
from tgmm_hf.reports.evaluation_report import evaluate_with_report
from tgmm_hf.training.arguments import RunArguments, parse_arguments, parse_dataclass, read_arguments, read_yaml
from tgmm_hf.training.checkpoints import discard
from tgmm_hf.training.frozen_features_cache import read_cached
from tgmm_hf.training.train import PACKAGES, new_config, train, weights_of_sources
from tgmm_hf.utils.child_process import end_with_parent, run_child
from tgmm_hf.utils.files import claim_directory, whole_file, write_json

NOTES = (
    "Cells: mean ± standard deviation over the seeds; one seed has none. The same patients are trained on and tested "
    "with every seed.",
    "differences: the plan's first row minus each other one, means over the seeds, paired by patient; 95 % bootstrap "
    "intervals over patients. They compare the seeds that both rows have, which are named; by seed: each one's own "
    "difference. DeLong's p is of the first of them alone, adjusted by Holm over all rows and combinations of a task. "
    "combinations: all modalities minus each other combination, of the first row, likewise.",
    "One model answers for all seven modality combinations; no model is trained for one combination alone.",
)


@dataclass(frozen=True)
class Plan:
    """A grid of trainings, as a YAML file states it.

    Attributes:
        output: directory of runs, tables and record.
        base: training configuration that every run starts from; its path is taken from the plan's directory.
        rows: name -> settings of the configuration that are other in this row of the tables, as "section.key": value.
            All others are compared with the first one.
        seeds: of the trainings.
        overrides: settings that are other in every row.
        test: prepared data whose test split is scored; that of the training data when null.
        bayes: synthetic cohort of `test`, for the best reachable figures in each run's own evaluation.
        bootstrap: number of resamples.
    """

    output: str
    base: str
    rows: dict[str, dict[str, Any] | None]
    seeds: list = field(default_factory=lambda: [0, 1, 2])
    overrides: dict[str, Any] = field(default_factory=dict)
    test: str | None = None
    bayes: str | None = None
    bootstrap: int = 1000

    def __post_init__(self) -> None:
        if not self.rows or not self.seeds:
            raise ValueError("A plan needs at least one of rows and of seeds.")
        if any(type(seed) is not int for seed in self.seeds) or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must be different whole numbers, got {self.seeds}.")
        if broken := [row for row in self.rows if not row or row.startswith(".") or "/" in row]:
            raise ValueError(f"A row's name is the name of its directory: {broken} cannot be.")


@dataclass(frozen=True)
class GridRun:
    """One training of the grid: a row of the tables with one seed."""

    row: str
    seed: int
    directory: Path
    spec: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Stands for all that the run is told, the data included; not for the code."""
        return hashlib.sha256(json.dumps(self.spec, sort_keys=True).encode()).hexdigest()

    @property
    def evaluation(self) -> Path:
        return self.directory / "evaluation"

    def is_of_other_settings(self) -> bool:
        """Whether the run's directory holds a run of other settings or data."""
        spec = self.directory / "spec.json"
        return spec.is_file() and replace(self, spec=json.loads(spec.read_text())).fingerprint != self.fingerprint

    def is_done(self) -> bool:
        done = self.directory / "done.json"
        if not done.is_file() or not (self.evaluation / "metrics.json").is_file():
            return False
        return bool(json.loads(done.read_text())["fingerprint"] == self.fingerprint)


RUN_FILES = (
    r"(spec|done)\.json",
    r"log\.txt",
    r"model/",
    r"model-training/",
    r"evaluation/",
    r"\..+-[0-9a-f]{32}",
)
"""What the directory of one run holds, for `claim_directory`; the last is a file whose writing was cut short."""


def read_plan(path: str | Path) -> tuple[Plan, list[GridRun]]:
    """A plan and its runs, seed by seed; every run's settings are checked before the first one starts.

    Raises:
        FileNotFoundError: if the plan, its configuration, prepared data or synthetic cohort are not there.
        ValueError: on unknown or wrong settings, by name.
    """
    path = Path(path)
    plan = parse_dataclass(Plan, read_yaml(path))
    if plan.bayes is not None:
        read_optimum(plan.bayes)  # every run needs it, after its training
    runs = []
    for seed in plan.seeds:
        for row, own in plan.rows.items():
            directory = Path(plan.output) / "runs" / row / f"seed{seed}"
            changed = {**plan.overrides, **(own or {}), "seed": seed, "output": str(directory / "model")}
            overrides = [f"{name}={json.dumps(value)}" for name, value in changed.items()]
            run = read_arguments(path.parent / plan.base, overrides)
            if run.model.checkpoint is None:
                new_config(run.model, run.tasks)
            runs.append(GridRun(row, seed, directory, _spec(plan, run)))
    return plan, runs


def _spec(plan: Plan, run: RunArguments) -> dict[str, Any]:
    test = plan.test or run.data.directory
    hashes = {name: _data_hash(name) for name in {run.data.directory, test}}
    told: dict[str, Any] = {"run": run.to_dict(), "test": test, "bayes": plan.bayes, "bootstrap": plan.bootstrap}
    told |= {"data_hash": hashes[run.data.directory], "test_hash": hashes[test]}
    return told | ({"weights": weights} if (weights := weights_of_sources(run)) else {})


def _data_hash(directory: str) -> str:
    record = Path(directory) / "prepare.json"
    if not record.is_file():
        raise FileNotFoundError(f"There is no prepared data in {directory} (no prepare.json): run `tgmm prepare`.")
    return str(json.loads(record.read_text())["data_hash"])


def reproduce(path: str | Path, *, workers: int = 1, progress: bool = True) -> dict[str, Any]:
    """Run what is not done yet of a plan's grid, then write the tables of all that is.

    Writes ``tables/table2.csv`` to ``table6.csv``, ``tables/differences.csv`` and ``reproduce.json`` to the plan's
    output; each run's model, evaluation and log lie in ``runs/ROW/seedN``.

    Args:
        path: the plan, see [`Plan`].
        workers: processes at once; each gets its share of the cores.

    Returns:
        The content of ``reproduce.json``; `runs` says which failed, and why.

    Raises:
        FileExistsError: if the directory of a run that would be started over holds files that no run writes.
        ValueError: if the plan is wrong.
    """
    plan, runs = read_plan(path)
    waiting = [run for run in runs if not run.is_done()]
    for run in waiting:
        if run.is_of_other_settings():
            claim_directory(run.directory, RUN_FILES, keep=[path])
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(runs), initial=len(runs) - len(waiting), desc="runs", disable=not progress) as bar,
    ):
        futures = {pool.submit(_execute, run, workers): run for run in waiting}
        for future in as_completed(futures):
            bar.update()
            reason, run = future.result(), futures[future]
            said = _headlines(run) if reason is None else f"failed: {reason}"
            tqdm.write(f"{run.row}, seed {run.seed}: {said}", file=sys.stderr)
    record = _summarise(plan, runs, Path(path))
    _write(record, Path(plan.output))
    write_figures(record["differences"], next(iter(plan.rows)), Path(plan.output) / "figures")
    return record


def child_command(spec: Path) -> list[str]:
    """What runs one run."""
    return [sys.executable, "-m", "tgmm_hf.experiments.reproduce", str(spec)]


def _execute(run: GridRun, workers: int) -> str | None:
    """Train and evaluate in a process of its own; None, or the last line of what it said before it failed."""
    spec, log = run.directory / "spec.json", run.directory / "log.txt"
    if run.is_of_other_settings():
        discard(run.directory)  # a run that was stopped keeps its checkpoints
    run.directory.mkdir(parents=True, exist_ok=True)
    write_json(spec, run.spec)
    started = time.time()
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    environment = {"OMP_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false", "MPLBACKEND": "Agg", **os.environ}
    with log.open("w") as output:
        code = run_child(child_command(spec), output, environment)
        if code < 0:
            output.write(f"\nkilled by signal {-code}\n")
    if code != 0:
        return _last_line(log)
    seconds = round(time.time() - started, 1)
    write_json(run.directory / "done.json", {"fingerprint": run.fingerprint, "seconds": seconds})
    return None


def _headlines(run: GridRun) -> str:
    """The main figure of each task."""
    metrics = json.loads((run.evaluation / "metrics.json").read_text())
    return "; ".join(headline(*task)[0] for task in tasks_of(metrics))


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def run_one(spec: Path) -> None:
    """What the process of one run does."""
    told = json.loads(spec.read_text())
    run = parse_arguments(told["run"])
    train(run)
    evaluate_with_report(
        run.output,
        told["test"],
        spec.parent / "evaluation",
        bayes=told["bayes"],
        # thresholds are chosen on the validation split of the training data
        validation=None if told["test"] == run.data.directory else run.data.directory,
        bootstrap=told["bootstrap"],
        progress=False,
        read=None if run.data.cache is None else partial(read_cached, run),
    )


def _summarise(plan: Plan, runs: list[GridRun], path: Path) -> dict[str, Any]:
    done = [run for run in runs if run.is_done()]
    directories: dict[str, dict[int, Path]] = {row: {} for row in plan.rows}
    for run in done:
        directories[run.row][run.seed] = run.evaluation
    metrics = {row: seeds for row, seeds in read_metrics(directories).items() if seeds}
    figures = collect_figures(metrics)
    components = {row: next(iter(seeds.values()))["components"] for row, seeds in metrics.items()}
    truth = None if plan.bayes is None else read_optimum(plan.bayes)[0]
    differences = paired_differences(directories, truth, bootstrap=plan.bootstrap)
    combinations = combination_differences(directories, bootstrap=plan.bootstrap)
    tables = dict(grid_tables(figures, components)) if components else {}
    if differences:
        tables["differences"] = difference_table(differences, next(iter(plan.rows)))
    if combinations:
        tables["combinations"] = combination_table(combinations)
    # mostly the same in all runs: they test the same patients
    small = [text for seeds in metrics.values() for each in seeds.values() for text in small_sample_warnings(each)]
    return {
        "plan": asdict(plan),
        "plan_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "notes": list(NOTES),
        "warnings": list(dict.fromkeys(small)),
        "runs": [_run_record(run, metrics) for run in runs],
        "figures": [{**key._asdict(), **entry} for key, entry in figures.items()],
        "differences": differences,
        "combinations": combinations,
        "tables": {name: {"header": header, "rows": rows} for name, (header, rows) in tables.items()},
    }


def _run_record(run: GridRun, metrics: dict[str, dict[int, dict[str, Any]]]) -> dict[str, Any]:
    record = {"row": run.row, "seed": run.seed, "data_hash": run.spec["data_hash"], "test_hash": run.spec["test_hash"]}
    if not run.is_done():
        return {**record, "status": "failed", "reason": _last_line(run.directory / "log.txt")}
    scored = metrics[run.row][run.seed]
    done = json.loads((run.directory / "done.json").read_text())
    kept = {name: scored[name] for name in ("components", "training", "weights", "code_revision")}
    return {**record, "status": "done", **done, **kept}


def _write(record: dict[str, Any], out: Path) -> None:
    (out / "tables").mkdir(parents=True, exist_ok=True)
    for name, table in record["tables"].items():
        with whole_file(out / "tables" / f"{name}.csv") as building:
            building.write_text(as_csv(table["header"], table["rows"]))
    write_json(out / "reproduce.json", record)


if __name__ == "__main__":
    end_with_parent()
    run_one(Path(sys.argv[1]))
