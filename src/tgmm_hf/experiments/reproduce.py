"""`tgmm reproduce`: a grid of trainings, evaluated on the same patients, and the paper's tables 2 to 6 of the grid.

Every run is a process of its own (`python -m tgmm_hf.experiments.reproduce RUN/spec.json`). If a run fails or is
killed, the other runs go on. A finished run is not computed again.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from tgmm_hf.evaluation.notices import small_sample_warnings
from tgmm_hf.evaluation.optimum import read_optimum
from tgmm_hf.evaluation.tables import as_csv, headline, tasks_of
from tgmm_hf.experiments.grid_figures import (
    collect_figures,
    differences_between_rows,
    differences_between_subsets,
    read_metrics,
)
from tgmm_hf.experiments.grid_plan import RUN_FILES, GridPlan, GridRun, read_plan
from tgmm_hf.experiments.grid_tables import grid_tables, row_difference_table, subset_difference_table, write_figures
from tgmm_hf.reports.evaluation_report import evaluate_with_report
from tgmm_hf.training.arguments import parse_arguments
from tgmm_hf.training.checkpoints import discard
from tgmm_hf.training.frozen_features_collator import fill_and_read_cache
from tgmm_hf.training.train import train
from tgmm_hf.utils.child_process import end_with_parent, run_child
from tgmm_hf.utils.digests import file_digest
from tgmm_hf.utils.files import claim_directory, read_json, write_json, write_text
from tgmm_hf.utils.output_lock import only_run
from tgmm_hf.utils.versions import package_versions

NOTES = (
    "Cells: mean ± standard deviation over the seeds; one seed has none. All seeds have the same training patients and "
    "the same test patients.",
    "differences: the plan's first row minus each other row, means over the seeds, paired by patient, with 95 % "
    "bootstrap intervals over patients. Only seeds that both rows have are compared; they are named. by seed: the "
    "difference of each seed. p: DeLong's test of the first of these seeds, adjusted by Holm over all rows and subsets "
    "of a task. combinations: all modalities minus each other subset, for the first row, in the same way.",
    "One model answers for all seven subsets of modalities; no model is trained for one subset alone.",
)


def reproduce(path: str | Path, *, workers: int = 1, progress: bool = True) -> dict[str, Any]:
    """Run the trainings of a grid that are not done yet, then write the tables of all runs that are done.

    Writes ``tables/table2.csv`` to ``table6.csv``, ``tables/differences.csv``, ``tables/combinations.csv`` and
    ``reproduce.json`` to the output of the plan. The model, the evaluation and the log of each run are in
    ``runs/ROW/seedN``.

    Args:
        path: YAML file of the plan, see [`~tgmm_hf.experiments.grid_plan.GridPlan`].
        workers: Number of runs at the same time. Each run gets its share of the cores.
        progress: Whether to show a progress bar.

    Returns:
        The content of ``reproduce.json``. Its entry "runs" says which runs failed, and why.

    Raises:
        FileExistsError: If the directory of a run that would be started over holds files that no run writes.
        ValueError: If the plan is wrong.
    """
    plan, runs = read_plan(path)
    with only_run(plan.output):
        return _run_plan(plan, runs, Path(path), workers, progress)


def _run_plan(plan: GridPlan, runs: list[GridRun], path: Path, workers: int, progress: bool) -> dict[str, Any]:
    """Run what is not done of a plan, write its tables, and return the content of ``reproduce.json``.

    Raises:
        FileExistsError: If the directory of a run that would be started over holds files that no run writes.
    """
    waiting = [run for run in runs if not run.is_done()]
    for run in waiting:
        if run.has_other_settings():
            claim_directory(run.directory, RUN_FILES, keep=[path])
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(runs), initial=len(runs) - len(waiting), desc="runs", disable=not progress) as bar,
    ):
        futures = {pool.submit(_execute, run, workers): run for run in waiting}
        for future in as_completed(futures):
            bar.update()
            reason, run = future.result(), futures[future]
            result = _headlines(run) if reason is None else f"failed: {reason}"
            tqdm.write(f"{run.row}, seed {run.seed}: {result}", file=sys.stderr)
    results = _summarise(plan, runs, path)
    _write_results(results, Path(plan.output))
    write_figures(results["differences"], next(iter(plan.rows)), Path(plan.output) / "figures")
    return results


def run_command(spec: Path) -> list[str]:
    """Return the command line that starts the process of one run. `spec` is its spec.json."""
    return [sys.executable, "-m", "tgmm_hf.experiments.reproduce", str(spec)]


def _execute(run: GridRun, workers: int) -> str | None:
    """Train and evaluate a run in a process of its own. Writes spec.json, log.txt and, if it succeeds, done.json.

    A run with other settings in the same directory is removed first.

    Returns:
        None if the run succeeded, else the last line of its log.
    """
    spec, log = run.directory / "spec.json", run.directory / "log.txt"
    if run.has_other_settings():
        discard(run.directory)  # a stopped run with the same settings keeps its checkpoints
    run.directory.mkdir(parents=True, exist_ok=True)
    write_json(spec, run.spec)
    started = time.time()
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    environment = {"OMP_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false", "MPLBACKEND": "Agg", **os.environ}
    with log.open("w") as output:
        code = run_child(run_command(spec), output, environment)
        if code < 0:
            output.write(f"\nkilled by signal {-code}\n")
    if code != 0:
        return _last_line(log)
    seconds = round(time.time() - started, 1)
    write_json(run.directory / "done.json", {"fingerprint": run.fingerprint, "seconds": seconds})
    return None


def _headlines(run: GridRun) -> str:
    """Return the headline figure of each task of a finished run, as one line of text."""
    metrics = read_json(run.evaluation / "metrics.json")
    return "; ".join(headline(*task)[0] for task in tasks_of(metrics))


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it wrote nothing"


def run_one(spec_file: Path) -> None:
    """Train and evaluate the run that a spec.json describes. The process of a run calls this.

    Writes the model to the output of the run, and the evaluation to the directory `evaluation` beside `spec_file`.
    """
    spec = read_json(spec_file)
    run = parse_arguments(spec["run"])
    train(run)
    evaluate_with_report(
        run.output,
        spec["test"],
        spec_file.parent / "evaluation",
        bayes=spec["bayes"],
        # thresholds are chosen on the validation split of the training data
        validation=None if spec["test"] == run.data.directory else run.data.directory,
        bootstrap=spec["bootstrap"],
        progress=False,
        read=None if run.data.cache is None else partial(fill_and_read_cache, run),
    )


def _summarise(plan: GridPlan, runs: list[GridRun], path: Path) -> dict[str, Any]:
    """Compute the content of ``reproduce.json`` from the evaluations of the finished runs.

    `path` is the file of the plan, whose digest is included.
    """
    directories: dict[str, dict[int, Path]] = {row: {} for row in plan.rows}
    for run in runs:
        if run.is_done():
            directories[run.row][run.seed] = run.evaluation
    metrics = {row: seeds for row, seeds in read_metrics(directories).items() if seeds}
    figures = collect_figures(metrics)
    components = {row: next(iter(seeds.values()))["components"] for row, seeds in metrics.items()}
    optimum = None if plan.bayes is None else read_optimum(plan.bayes)[0]
    differences = differences_between_rows(directories, optimum, bootstrap=plan.bootstrap)
    combinations = differences_between_subsets(directories, bootstrap=plan.bootstrap)
    tables = dict(grid_tables(figures, components)) if components else {}
    if differences:
        tables["differences"] = row_difference_table(differences, next(iter(plan.rows)))
    if combinations:
        tables["combinations"] = subset_difference_table(combinations)
    # most warnings are the same in all runs, because all runs test the same patients
    warnings = [text for seeds in metrics.values() for entry in seeds.values() for text in small_sample_warnings(entry)]
    return {
        "plan": asdict(plan),
        "plan_sha256": file_digest(path),
        "versions": package_versions(),
        "notes": list(NOTES),
        "warnings": list(dict.fromkeys(warnings)),
        "runs": [_run_entry(run, metrics) for run in runs],
        "figures": [{**key._asdict(), **entry} for key, entry in figures.items()],
        "differences": differences,
        "combinations": combinations,
        "tables": {name: {"header": header, "rows": rows} for name, (header, rows) in tables.items()},
    }


def _run_entry(run: GridRun, metrics: dict[str, dict[int, dict[str, Any]]]) -> dict[str, Any]:
    """Make the entry of one run in ``reproduce.json``.

    `metrics` is the result of `read_metrics`. The entry has "status" "done", or "failed" with a "reason".
    """
    entry = {"row": run.row, "seed": run.seed, "data_hash": run.spec["data_hash"], "test_hash": run.spec["test_hash"]}
    if not run.is_done():
        return {**entry, "status": "failed", "reason": _last_line(run.directory / "log.txt")}
    scored = metrics[run.row][run.seed]
    done = read_json(run.directory / "done.json")
    kept = {name: scored[name] for name in ("components", "training", "weights", "code_revision")}
    return {**entry, "status": "done", **done, **kept}


def _write_results(results: dict[str, Any], out: Path) -> None:
    """Write ``tables/<name>.csv`` and ``reproduce.json`` into `out`. `results` is the content of the latter."""
    for name, table in results["tables"].items():
        write_text(out / "tables" / f"{name}.csv", as_csv(table["header"], table["rows"]))
    write_json(out / "reproduce.json", results)


if __name__ == "__main__":
    end_with_parent()
    run_one(Path(sys.argv[1]))
