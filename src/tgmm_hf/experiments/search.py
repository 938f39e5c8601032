"""`tgmm search`: settings of a training tried one after the other, and the one with the best validation score.

It is `transformers.Trainer.hyperparameter_search` on optuna, one trial a call: each trial's settings are drawn from the
seed, the trial's place and the trials before it, so that a search that was stopped goes on as if it had not been.
"""

import copy
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
import yaml
from datasets import DatasetDict
from tqdm.auto import tqdm
from transformers import set_seed

from tgmm_hf.evaluation.tables import as_csv
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.training.arguments import RunArguments, parse_arguments, parse_dataclass, put, read_yaml
from tgmm_hf.training.checkpoints import discard, last_checkpoint
from tgmm_hf.training.train import (
    MAY_CHANGE,
    PACKAGES,
    assemble,
    check_overrides,
    claim_training_directory,
    differences,
    flat,
    new_config,
    read_data,
    weights_of_sources,
)
from tgmm_hf.training.trainer import TgmmTrainer, early_stopping, optimiser_arguments, trainer_arguments
from tgmm_hf.utils.files import whole_file, write_json

SEARCHED = (
    "model.",
    "tasks.",
    "data.max_views",
    "data.cell_dropout",
    "optimisation.accumulation_steps",
    "optimisation.batch_size",
    "optimisation.epochs",
    "optimisation.learning_rate",
    "optimisation.max_grad_norm",
    "optimisation.optimizer",
    "optimisation.plateau_factor",
    "optimisation.plateau_patience",
    "optimisation.schedule",
    "optimisation.warmup_fraction",
    "optimisation.weight_decay",
)
"""Beginnings of the settings that may be searched. All others say what is compared, or how fast it is computed."""
STUDY = "search"
FAILURES = (ValueError, FloatingPointError, torch.OutOfMemoryError)
"""What settings may be to blame for: they do not fit together, the loss is not finite, the memory is too small."""


@dataclass(frozen=True)
class Space:
    """Where one setting is searched: from `low` to `high`, or among `choices`.

    Attributes:
        low: smallest value. If both ends are whole, so is what is tried, unless the setting is a decimal number.
        high: largest value, tried too.
        log: draw the logarithm evenly, not the number.
        choices: numbers, text, true, false or null.
    """

    low: Any = None
    high: Any = None
    log: bool = False
    choices: list | None = None

    def check(self, name: str) -> None:
        """Refuse what is not a range and no list of choices."""
        if (self.choices is None) == (self.low is None or self.high is None):
            raise ValueError(f"settings.{name} needs low and high, or choices (and not both), got {_said(self)}.")
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log:
                raise ValueError(f"settings.{name} has choices: low, high and log do not go with them.")
            if not self.choices or any(isinstance(choice, list | dict) for choice in self.choices):
                raise ValueError(
                    f"settings.{name}.choices must be numbers, text, true, false or null, got {self.choices}."
                )
            return
        for end in (self.low, self.high):
            if isinstance(end, bool) or not isinstance(end, int | float):
                raise ValueError(f"settings.{name}: {end!r} is no number (YAML takes 1e-4 for text: write 1.0e-4).")
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(
                f"settings.{name} needs low < high, and low > 0 with log: true; low is {self.low}, high {self.high}."
            )

    def ends(self) -> list[Any]:
        """All choices, or both ends."""
        return [self.low, self.high] if self.choices is None else self.choices

    def suggest(self, trial: Any, name: str, *, decimal: bool) -> Any:
        """The value of one optuna trial; the same whenever it is asked again."""
        if self.choices is not None:
            return trial.suggest_categorical(name, self.choices)
        if not decimal and isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Plan:
    """A search, as a YAML file states it.

    Attributes:
        output: directory of results and of what is needed to go on.
        base: training configuration that every trial starts from; its path is taken from the plan's directory.
        settings: "section.key" of the configuration -> where it is searched, see [`Space`].
        trials: how many settings are tried; more of them than at first continue a search that is done.
        seed: of the settings that are tried. The trainings all have that of `base`.
        overrides: settings that are other than those of `base` in every trial.
    """

    output: str
    base: str
    settings: dict[str, Space]
    trials: int = 20
    seed: int = 0
    overrides: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.settings or self.trials < 1:
            raise ValueError("A search needs at least one of settings and of trials.")
        for name, space in self.settings.items():
            space.check(name)


@dataclass(frozen=True)
class Search:
    """A plan and the training configuration that its trials change."""

    plan: Plan
    told: dict[str, Any]

    @property
    def out(self) -> Path:
        return Path(self.plan.output)

    @property
    def base(self) -> RunArguments:
        return self.run({}, "base")

    def run(self, settings: dict[str, Any], name: str) -> RunArguments:
        """The training with these settings; it may write `name` to the directory of the trials."""
        told = copy.deepcopy(self.told)
        for key, value in {**settings, "output": str(self.out / "trials" / name)}.items():
            put(told, key, value)
        return parse_arguments(told)

    def suggest(self, trial: Any) -> dict[str, Any]:
        """A trial's settings."""
        now = flat(self.base.to_dict())
        return {
            name: space.suggest(trial, name, decimal=isinstance(now.get(name), float))
            for name, space in self.plan.settings.items()
        }


def read_search(path: str | Path) -> Search:
    """A plan whose settings, each by itself, are checked at both ends or with every choice.

    Raises:
        FileNotFoundError: if the plan or its configuration are not there.
        ValueError: on unknown or wrong settings, by name.
    """
    path = Path(path)
    plan = parse_dataclass(Plan, read_yaml(path))
    told = read_yaml(path.parent / plan.base)
    for name, value in plan.overrides.items():
        put(told, name, value)
    search = Search(plan, told)
    tasks = search.base.tasks
    for name, space in plan.settings.items():
        if not name.startswith(SEARCHED):
            raise ValueError(f"settings.{name} cannot be searched: {', '.join(SEARCHED)} can.")
        if name.startswith("tasks.") and name.split(".")[1] not in tasks:
            raise ValueError(f"settings.{name}: {plan.base} trains no such task, but {', '.join(tasks)}.")
        for value in space.ends():
            run = search.run({name: value}, "check")
            check_overrides(run.model)
            if run.model.checkpoint is None:
                new_config(run.model, run.tasks)
    return search


class SearchTrainer(TgmmTrainer):
    """[`TgmmTrainer`] that is given another model, other data and other numbers for every trial.

    Raises:
        ValueError: if base and data do not fit together, or several processes were started.
    """

    def __init__(self, search: Search, storage: Any, prepared: DatasetDict, data: dict[str, Any]) -> None:
        self.search, self.storage, self.prepared, self.data = search, storage, prepared, data
        base = search.base
        arguments = trainer_arguments(base, use_cpu=not torch.cuda.is_available())
        if arguments.world_size > 1:
            raise ValueError(f"tgmm search runs in one process, {arguments.world_size} were started.")
        arguments.output_dir = str(search.out / "trials")
        self.run = base
        self.parts = assemble(base, prepared, data)
        self.weights = {name: task["weight"] for name, task in self.parts.model.config.tasks.items()}
        super().__init__(
            tasks=list(base.tasks),
            validation_collator=self.parts.validation_collator,
            model_init=self.model_of,
            args=arguments,
            data_collator=self.parts.training_collator,
            train_dataset=self.parts.rows["train"],
            eval_dataset=self.parts.rows["validation"],
            callbacks=[self.parts.training_collator, *early_stopping(base)],
        )

    def try_next(self, study: Any) -> None:
        """One more trial of an optuna study."""
        import optuna

        place = len(tried(study))
        name = f"{place + 1:03d}"

        def settings(trial: Any) -> dict[str, Any]:
            self.run = self.search.run(self.search.suggest(trial), name)
            return optimiser_arguments(self.run)

        seed = int(np.random.SeedSequence([self.search.plan.seed, place]).generate_state(1)[0])
        try:
            self.hyperparameter_search(
                hp_space=settings,
                compute_objective=self.kept_score,
                n_trials=1,
                direction="maximize",
                backend="optuna",
                hp_name=lambda trial: self.run.training_directory.name,
                study_name=STUDY,
                storage=self.storage,
                load_if_exists=True,
                sampler=optuna.samplers.TPESampler(seed=seed),
                pruner=optuna.pruners.NopPruner(),  # steps of other batch sizes cannot be compared
            )
        except ValueError:  # the parent wants the best trial, and if all have failed so far there is none
            if study.trials[-1].state is not optuna.trial.TrialState.PRUNED:
                raise
        if self.run.training_directory.is_dir():
            discard(self.run.training_directory)

    def train(self, resume_from_checkpoint: Any = None, trial: Any = None, **kwargs: Any) -> Any:
        """As the parent, from the trial's last checkpoint if it was stopped; settings that fail end the trial alone."""
        with _failing(trial):
            self.hp_space(trial)
        claim_training_directory(self.run, self.data["data_hash"])
        checkpoint = last_checkpoint(self.run.training_directory)
        with _failing(trial):
            return super().train(checkpoint, trial, **kwargs)

    def model_of(self, trial: Any) -> TgmmModel:
        """The model of a trial; its collators and data replace those of the trial before. That of the base for None."""
        if trial is None:
            return self.parts.model
        self.remove_callback(self.parts.training_collator)
        self.parts = assemble(self.run, self.prepared, self.data)
        self.add_callback(self.parts.training_collator)
        self.data_collator, self.validation_collator = self.parts.training_collator, self.parts.validation_collator
        self.train_dataset, self.eval_dataset = self.parts.rows["train"], self.parts.rows["validation"]
        self.parts.fill_cache(self.prepared, self.accelerator, self.run.data.workers)
        set_seed(self.run.seed)  # `tgmm train` starts its steps from there
        return self.parts.model

    def kept_score(self, metrics: dict[str, float]) -> float:
        """Validation score of the epoch that would be kept by now, its tasks weighted as in the base."""
        epochs = [line for line in self.state.log_history if "eval_score" in line]
        if self.run.optimisation.keep == "last":
            kept = epochs[-1]
        elif self.run.optimisation.selection == "loss":
            kept = min(epochs, key=lambda line: line["eval_loss"])
        else:
            kept = max(epochs, key=lambda line: line["eval_score"])
        defined = [name for name in self.tasks if f"eval_{name}_score" in kept]
        return fmean([kept[f"eval_{name}_score"] for name in defined], [self.weights[name] for name in defined])


def search(path: str | Path) -> dict[str, Any]:
    """Try what is not tried yet of a search.

    Writes ``search.json``, ``trials.csv`` and ``best.yaml``, a configuration for ``tgmm train``, to the plan's output
    after every trial; ``search.sqlite`` is optuna's storage.

    Args:
        path: the plan, see [`Plan`].

    Returns:
        The content of ``search.json``.

    Raises:
        ImportError: without the extra `optuna`.
        FileNotFoundError: if the plan, its configuration or prepared data are not there.
        ValueError: if the plan is wrong, the output holds another search, or no trial came to its end.
    """
    try:
        import optuna
    except ImportError as error:
        raise ImportError("tgmm search needs optuna: pip install 'tgmm-hf[optuna]'.") from error

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # its numbers of trials count those that were stopped, too
    search = read_search(path)
    prepared, data = read_data(search.base.data.directory)
    search.out.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.RDBStorage(f"sqlite:///{search.out / 'search.sqlite'}")
    study = optuna.create_study(study_name=STUDY, storage=storage, direction="maximize", load_if_exists=True)
    _claim(study, search, data["data_hash"])
    for stopped in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        study.tell(stopped.number, state=optuna.trial.TrialState.FAIL)
    trainer = None
    while len(tried(study)) < search.plan.trials:
        trainer = trainer or SearchTrainer(search, storage, prepared, data)
        trainer.try_next(study)
        record = _record(search, study, data["data_hash"])
        _write(search, record)
        tqdm.write(_line(record["trials"][-1], search.plan.trials), file=sys.stderr)
    record = _record(search, study, data["data_hash"])
    _write(search, record)
    if record["best"] is None:
        raise ValueError(f"None of {len(record['trials'])} trials came to its end: {record['trials'][0]['failed']}")
    return record


@contextmanager
def _failing(trial: Any) -> Iterator[None]:
    """Settings that fail end their trial, with the reason, and not the search."""
    import optuna

    try:
        yield
    except FAILURES as error:
        trial.set_user_attr("failed", f"{type(error).__name__}: {error}")
        raise optuna.TrialPruned from error


def tried(study: Any) -> list[Any]:
    """The trials that came to an end, with a score or with settings that failed; not those that were stopped."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED])


def _claim(study: Any, search: Search, data_hash: str) -> None:
    """Write down what the trials are told, or refuse to go on with a study of other settings."""
    settings = {name: asdict(space) for name, space in search.plan.settings.items()}
    run = {name: value for name, value in search.base.to_dict().items() if name != "output"}
    now = {"run": run, "settings": settings, "seed": search.plan.seed, "data_hash": data_hash}
    now |= {"weights": weights} if (weights := weights_of_sources(search.base)) else {}
    before = study.user_attrs.get("told", now)
    if different := differences(before, now, MAY_CHANGE):
        key = different[0]
        raise ValueError(
            f"{search.out} holds a search of other settings: {key} was {flat(before).get(key)!r}, now "
            f"{flat(now).get(key)!r}. Give another output."
        )
    study.set_user_attr("told", now)


def _record(search: Search, study: Any, data_hash: str) -> dict[str, Any]:
    trials = [
        {
            "trial": place,
            "score": trial.value,
            "settings": trial.params,
            "seconds": round(trial.duration.total_seconds(), 1),
            "failed": trial.user_attrs.get("failed"),
        }
        for place, trial in enumerate(tried(study), start=1)
    ]
    scored = [trial for trial in trials if trial["failed"] is None]
    return {
        "plan": asdict(search.plan),
        "data_hash": data_hash,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in (*PACKAGES, "optuna")},
        "trials": trials,
        "best": max(scored, key=lambda trial: trial["score"], default=None),
    }


def _write(search: Search, record: dict[str, Any]) -> None:
    write_json(search.out / "search.json", record)
    names = list(search.plan.settings)
    rows = [
        [trial["trial"], trial["score"], *(trial["settings"].get(name) for name in names), trial["failed"]]
        for trial in record["trials"]
    ]
    with whole_file(search.out / "trials.csv") as building:
        building.write_text(as_csv(["trial", "score", *names, "failed"], [[_text(x) for x in row] for row in rows]))
    if (best := record["best"]) is None:
        return
    settings = search.run(best["settings"], "best").to_dict() | {"output": str(search.out / "best")}
    with whole_file(search.out / "best.yaml") as building:
        building.write_text(
            f"# tgmm search: trial {best['trial']} of {len(record['trials'])}, validation score {best['score']:.4f}.\n"
            + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
        )


def _line(trial: dict[str, Any], trials: int) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in trial["settings"].items())
    came_to = f"score {trial['score']:.4f}" if trial["failed"] is None else trial["failed"]
    return f"trial {trial['trial']} of {trials}: {came_to}; {settings}"


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _said(space: Space) -> dict[str, Any]:
    return {name: value for name, value in asdict(space).items() if value is not None}
