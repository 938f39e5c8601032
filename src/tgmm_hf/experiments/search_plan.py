"""The plan of a search: which settings of a training are searched, and where."""

import copy
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tgmm_hf.training.arguments import RunArguments, parse_arguments
from tgmm_hf.training.settings_files import flat, parse_dataclass, put, read_yaml
from tgmm_hf.training.starting_model import check_overrides, new_config

SEARCHABLE = (
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
"""Beginnings of the settings that may be searched. The other settings say what is compared, or how fast it runs."""


@dataclass(frozen=True)
class Space:
    """Where one setting is searched: from `low` to `high`, or among `choices`.

    Attributes:
        low: smallest value. If both ends are whole numbers, only whole numbers are tried, unless the setting is a
            decimal number.
        high: largest value. It may be tried too.
        log: draw uniformly on a logarithmic scale.
        choices: numbers, text, true, false or null.
    """

    low: Any = None
    high: Any = None
    log: bool = False
    choices: list | None = None

    def check(self, name: str) -> None:
        """Raise a ValueError if the space of the setting `name` is neither a range nor a list of choices."""
        if (self.choices is None) == (self.low is None or self.high is None):
            given = {key: value for key, value in asdict(self).items() if value is not None}
            raise ValueError(f"settings.{name} needs low and high, or choices (and not both), got {given}.")
        if self.choices is None:
            self._check_range(name)
        else:
            self._check_choices(name)

    def _check_choices(self, name: str) -> None:
        if self.low is not None or self.high is not None or self.log:
            raise ValueError(f"settings.{name} has choices: low, high and log do not go with them.")
        if not self.choices or any(isinstance(choice, list | dict) for choice in self.choices):
            raise ValueError(f"settings.{name}.choices must be numbers, text, true, false or null, got {self.choices}.")

    def _check_range(self, name: str) -> None:
        for end in (self.low, self.high):
            if isinstance(end, bool) or not isinstance(end, int | float):
                raise ValueError(f"settings.{name}: {end!r} is no number (YAML takes 1e-4 for text: write 1.0e-4).")
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(
                f"settings.{name} needs low < high, and low > 0 with log: true; low is {self.low}, high {self.high}."
            )

    def extremes(self) -> list[Any]:
        """Return the values to check before the search: all choices, or both ends of the range."""
        return [self.low, self.high] if self.choices is None else self.choices

    def suggest(self, trial: Any, name: str, *, decimal: bool) -> Any:
        """Draw the value of one optuna trial. The same trial always gets the same value.

        Args:
            trial: The optuna trial.
            name: The name of the setting.
            decimal: Whether the setting is a decimal number.
        """
        if self.choices is not None:
            return trial.suggest_categorical(name, self.choices)
        if not decimal and isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class SearchPlan:
    """A search, as a YAML file states it.

    Attributes:
        output: directory of the results, and of the files that a stopped search continues from.
        base: training configuration that every trial starts from. Its path is relative to the plan's directory.
        settings: "section.key" of the configuration -> where it is searched, see [`Space`].
        trials: number of trials. If you raise it later, a finished search is continued.
        seed: seed of the settings that are tried. All trainings have the seed of `base`.
        overrides: settings that replace those of `base` in every trial.
        every_choice: try every combination of choices once, instead of drawing settings. All settings need choices.
    """

    output: str
    base: str
    settings: dict[str, Space]
    trials: int = 20
    seed: int = 0
    overrides: dict[str, Any] = field(default_factory=dict)
    every_choice: bool = False

    def __post_init__(self) -> None:
        if not self.settings or self.trials < 1:
            raise ValueError("A search needs at least one of settings and of trials.")
        for name, space in self.settings.items():
            space.check(name)
        if self.every_choice:
            self._check_combinations()

    def _check_combinations(self) -> None:
        """Raise a ValueError if a setting has no choices, or there are fewer combinations than trials."""
        if ranges := [name for name, space in self.settings.items() if space.choices is None]:
            raise ValueError(f"every_choice needs choices, and settings.{ranges[0]} has low and high.")
        combinations = math.prod(len(choices) for choices in self.choices.values())
        if self.trials > combinations:
            raise ValueError(
                f"every_choice has {combinations} combinations, and trials is {self.trials}: set it lower."
            )

    @property
    def choices(self) -> dict[str, list]:
        """Setting -> its choices, of the settings that have some."""
        return {name: space.choices for name, space in self.settings.items() if space.choices is not None}


@dataclass(frozen=True)
class Search:
    """A plan of a search, and the training configuration that its trials change.

    Attributes:
        plan: The plan.
        base_settings: Settings of the configuration as nested dictionaries, with the plan's overrides.
    """

    plan: SearchPlan
    base_settings: dict[str, Any]

    @property
    def out(self) -> Path:
        """Directory of the results, as the plan names it."""
        return Path(self.plan.output)

    @property
    def base(self) -> RunArguments:
        """The training that every trial starts from."""
        return self.run({}, "base")

    def run(self, settings: dict[str, Any], name: str) -> RunArguments:
        """Make the training configuration of a trial.

        Args:
            settings: "section.key" -> value that replaces the value of the base.
            name: Name of the output directory, `<out>/trials/<name>`.
        """
        nested = copy.deepcopy(self.base_settings)
        for key, value in {**settings, "output": str(self.out / "trials" / name)}.items():
            put(nested, key, value)
        return parse_arguments(nested)

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Draw the settings of one optuna trial: "section.key" -> value."""
        base = flat(self.base.to_dict())
        return {
            name: space.suggest(trial, name, decimal=isinstance(base.get(name), float))
            for name, space in self.plan.settings.items()
        }


def read_search(path: str | Path) -> Search:
    """Read the plan in a YAML file. Each setting is checked by itself, at both ends or with every choice.

    Raises:
        FileNotFoundError: If the plan or its configuration does not exist.
        ValueError: If a setting is unknown, missing or wrong.
    """
    path = Path(path)
    plan = parse_dataclass(SearchPlan, read_yaml(path))
    base_settings = read_yaml(path.parent / plan.base)
    for name, value in plan.overrides.items():
        put(base_settings, name, value)
    search = Search(plan, base_settings)
    tasks = search.base.tasks
    for name, space in plan.settings.items():
        if not name.startswith(SEARCHABLE):
            raise ValueError(f"settings.{name} cannot be searched: {', '.join(SEARCHABLE)} can.")
        if name.startswith("tasks.") and name.split(".")[1] not in tasks:
            raise ValueError(f"settings.{name}: {plan.base} trains no such task, but {', '.join(tasks)}.")
        for value in space.extremes():
            run = search.run({name: value}, "check")
            check_overrides(run.model)
            if run.model.checkpoint is None:
                new_config(run.model, run.tasks)
    return search
