"""How long a grid of trainings will take, measured on a few steps of each row of the plan."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.evaluation.predictions import collect_predictions
from tgmm_hf.experiments.grid_plan import GridRun, read_plan
from tgmm_hf.training.arguments import RunArguments, parse_arguments
from tgmm_hf.training.train import TrainingParts, assemble
from tgmm_hf.training.training_data import read_data
from tgmm_hf.utils.files import read_json

STEPS = 3
"""Number of training steps that are measured for each row, after one step that is not."""


@dataclass(frozen=True)
class RowDuration:
    """How long the waiting runs of a row take.

    Attributes:
        row: Name of the row.
        runs: Number of runs that are not done.
        seconds: Seconds of one run, training and evaluation.
        source: "a finished run", or "measured steps".
    """

    row: str
    runs: int
    seconds: float
    source: str


def estimate_duration(path: str) -> tuple[list[RowDuration], int]:
    """Estimate the time of the runs of a plan that are not done. Nothing is written.

    A row with a finished run takes as long as this run took. Of any other row one run is assembled and makes `STEPS`
    training steps in memory.

    Args:
        path: YAML file of the plan.

    Returns:
        One entry for each row with waiting runs, and the number of runs that are done.

    Raises:
        ValueError: If the plan is wrong, or a run cannot be assembled.
    """
    plan, runs = read_plan(path)
    durations = []
    for row in plan.rows:
        of_row = [run for run in runs if run.row == row]
        waiting = [run for run in of_row if not run.is_done()]
        if not waiting:
            continue
        done = [read_json(run.directory / "done.json")["seconds"] for run in of_row if run.is_done()]
        if done:
            durations.append(RowDuration(row, len(waiting), sum(done) / len(done), "a finished run"))
        else:
            durations.append(RowDuration(row, len(waiting), _measured_seconds(waiting[0]), "measured steps"))
    return durations, sum(run.is_done() for run in runs)


def _measured_seconds(grid_run: GridRun) -> float:
    """Measure a few steps of a run, and return the seconds of its whole training and evaluation."""
    run = parse_arguments(grid_run.spec["run"])
    data_settings: Any = run.data
    run = replace(run, data=replace(data_settings, cache=None))  # a cache would have to be filled first
    prepared, data = read_data(run.data.directory)
    parts = assemble(run, prepared, data)
    size = run.optimisation.batch_size
    step = _seconds_of_a_step(parts, run)
    answer = _seconds_of_an_answer(parts, list(run.tasks), size)
    test = load_prepared(grid_run.spec["test"])
    scored = sum(len(test[split]) for split in ("test",) if split in test) + len(parts.rows["validation"])
    epochs = run.optimisation.epochs
    steps = math.ceil(len(parts.rows["train"]) / size) * epochs
    return steps * step + answer * (len(parts.rows["validation"]) * epochs + scored)


def _seconds_of_a_step(parts: TrainingParts, run: RunArguments) -> float:
    """Measure the mean seconds of a training step: read a batch, forward, backward."""
    model, rows, size = parts.model, parts.rows["train"], run.optimisation.batch_size
    model.train()
    began = time.perf_counter()
    for number in range(STEPS + 1):
        if number == 1:  # the first step pays for imports and memory
            began = time.perf_counter()
        batch = parts.training_collator([rows[(number * size + place) % len(rows)] for place in range(size)])
        model(**_without_names(batch), task=list(run.tasks)).loss.backward()
        model.zero_grad()
    return (time.perf_counter() - began) / STEPS


def _seconds_of_an_answer(parts: TrainingParts, tasks: Sequence[str], size: int) -> float:
    """Measure the seconds of one patient in a validation: all subsets and tasks."""
    rows = parts.rows["validation"].select(range(min(size, len(parts.rows["validation"]))))
    began = time.perf_counter()
    collect_predictions(parts.model, rows, parts.validation_collator, tasks=tasks, batch_size=size, progress=False)
    return (time.perf_counter() - began) / len(rows)


def _without_names(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tensors and labels of a batch, which are the arguments of the model."""
    return {name: value for name, value in batch.items() if isinstance(value, torch.Tensor) or name == "labels"}


def duration_text(durations: Sequence[RowDuration], done: int, workers: int) -> str:
    """Write the estimate for the terminal.

    Args:
        durations: Entries of `estimate_duration`.
        done: Number of runs that are done.
        workers: Number of runs at the same time.
    """
    if not durations:
        return f"all {done} runs are done: nothing to train."
    lines = [f"{entry.row}: {entry.runs} runs of {spell(entry.seconds)} ({entry.source})" for entry in durations]
    total = sum(entry.runs * entry.seconds for entry in durations)
    runs = sum(entry.runs for entry in durations)
    lines.append(f"{runs} runs to do, {done} done: about {spell(total)} with one run at a time.")
    if workers > 1:
        lines.append(
            f"With {workers} runs at a time each has fewer cores, so the time is between {spell(total / workers)} and "
            f"{spell(total)}."
        )
    lines.append("Not counted: bootstrap, figures, starting, early stopping, a cache. Nothing was written.")
    return "\n".join(lines)


def spell(seconds: float) -> str:
    """Write a duration with the unit that fits: "45 s", "12 min", "3.4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
