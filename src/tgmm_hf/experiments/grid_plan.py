"""The plan of a grid: which trainings `tgmm reproduce` runs."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tgmm_hf.evaluation.optimum import read_optimum
from tgmm_hf.training.arguments import RunArguments, read_arguments
from tgmm_hf.training.run_directory import weights_of_sources
from tgmm_hf.training.settings_files import parse_dataclass, read_yaml
from tgmm_hf.training.starting_model import new_config
from tgmm_hf.utils.digests import json_digest
from tgmm_hf.utils.files import read_json
from tgmm_hf.utils.names import BOOTSTRAP_RESAMPLES

RUN_FILES = (
    r"(spec|done)\.json",
    r"log\.txt",
    r"model/",
    r"model-training/",
    r"evaluation/",
    r"\..+-[0-9a-f]{32}",
)
"""Entries of the directory of a run, for `claim_directory`. The last one is a file whose writing was cut short."""


@dataclass(frozen=True)
class GridPlan:
    """A grid of trainings, as a YAML file states it.

    Attributes:
        output: directory of the runs, the tables and `reproduce.json`.
        base: training configuration that every run starts from. Its path is relative to the plan's directory.
        rows: name of a row of the tables -> settings of the configuration that this row changes, as
            "section.key": value. The first row is compared with each of the others.
        seeds: seeds of the trainings.
        overrides: settings that are changed in every row.
        test: prepared data whose test split is scored. Null takes the data of the training.
        bayes: synthetic cohort of `test`, for the optimum in the evaluation of each run.
        bootstrap: number of resamples.
    """

    output: str
    base: str
    rows: dict[str, dict[str, Any] | None]
    seeds: list = field(default_factory=lambda: [0, 1, 2])
    overrides: dict[str, Any] = field(default_factory=dict)
    test: str | None = None
    bayes: str | None = None
    bootstrap: int = BOOTSTRAP_RESAMPLES

    def __post_init__(self) -> None:
        if not self.rows or not self.seeds:
            raise ValueError("A plan needs at least one of rows and of seeds.")
        if any(type(seed) is not int for seed in self.seeds) or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must be different whole numbers, got {self.seeds}.")
        if broken := [row for row in self.rows if not row or row.startswith(".") or "/" in row]:
            raise ValueError(f"A row's name is the name of its directory: {broken} cannot be.")


@dataclass(frozen=True)
class GridRun:
    """One training of a grid: a row of the tables with one seed.

    Attributes:
        row: Name of the row.
        seed: Seed of the training.
        directory: Directory of the model, the evaluation and the log.
        spec: Everything that the run depends on, the data included, the code not included.
    """

    row: str
    seed: int
    directory: Path
    spec: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Digest of the spec, equal for runs with equal settings and data."""
        return json_digest(self.spec)

    @property
    def evaluation(self) -> Path:
        """Directory of the evaluation, below `directory`."""
        return self.directory / "evaluation"

    def has_other_settings(self) -> bool:
        """Tell whether `directory` already holds a run with other settings or data."""
        spec = self.directory / "spec.json"
        return spec.is_file() and replace(self, spec=read_json(spec)).fingerprint != self.fingerprint

    def is_done(self) -> bool:
        """Tell whether `directory` holds this run, trained and evaluated, with the same settings and data."""
        done = self.directory / "done.json"
        if not done.is_file() or not (self.evaluation / "metrics.json").is_file():
            return False
        return bool(read_json(done)["fingerprint"] == self.fingerprint)


def read_plan(path: str | Path) -> tuple[GridPlan, list[GridRun]]:
    """Read the plan in a YAML file, and list its runs, seed by seed. The settings of all runs are checked.

    Raises:
        FileNotFoundError: If the plan, its configuration, prepared data or a synthetic cohort does not exist.
        ValueError: If a setting is unknown, missing or wrong.
    """
    path = Path(path)
    plan = parse_dataclass(GridPlan, read_yaml(path))
    if plan.bayes is not None:
        read_optimum(plan.bayes)  # checked here, because a run needs it only after its training
    runs = []
    for seed in plan.seeds:
        for row, settings in plan.rows.items():
            directory = Path(plan.output) / "runs" / row / f"seed{seed}"
            changes = {**plan.overrides, **(settings or {}), "seed": seed, "output": str(directory / "model")}
            overrides = [f"{name}={json.dumps(value)}" for name, value in changes.items()]
            run = read_arguments(path.parent / plan.base, overrides)
            if run.model.checkpoint is None:
                new_config(run.model, run.tasks)
            runs.append(GridRun(row, seed, directory, _spec(plan, run)))
    return plan, runs


def _spec(plan: GridPlan, run: RunArguments) -> dict[str, Any]:
    """Collect everything that a run depends on: settings, digests of data and of starting weights, and evaluation.

    Raises:
        FileNotFoundError: If prepared data does not exist.
    """
    test = plan.test or run.data.directory
    hashes = {name: _data_hash(name) for name in {run.data.directory, test}}
    spec: dict[str, Any] = {"run": run.to_dict(), "test": test, "bayes": plan.bayes, "bootstrap": plan.bootstrap}
    spec |= {"data_hash": hashes[run.data.directory], "test_hash": hashes[test]}
    return spec | ({"weights": weights} if (weights := weights_of_sources(run)) else {})


def _data_hash(directory: str) -> str:
    """Read the digest of the prepared data in a directory. Raise a FileNotFoundError if there is none."""
    prepare_file = Path(directory) / "prepare.json"
    if not prepare_file.is_file():
        raise FileNotFoundError(f"There is no prepared data in {directory} (no prepare.json): run `tgmm prepare`.")
    return str(read_json(prepare_file)["data_hash"])
