"""One YAML file, any family: read the settings of a training and run it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tgmm_hf.training.arguments import RunArguments, parse_arguments
from tgmm_hf.training.beat_arguments import BeatRunArguments
from tgmm_hf.training.heartcare_arguments import HeartcareRunArguments
from tgmm_hf.training.more_arguments import MoreRunArguments
from tgmm_hf.training.more_findings_arguments import MoreFindingsRunArguments
from tgmm_hf.training.reporter_arguments import ReporterRunArguments
from tgmm_hf.training.settings_files import parse_dataclass, read_settings

AnyRunArguments = (
    RunArguments
    | ReporterRunArguments
    | BeatRunArguments
    | HeartcareRunArguments
    | MoreRunArguments
    | MoreFindingsRunArguments
)
"""The settings of a training of any family."""
FAMILIES = ("tgmm", "meit", "beat", "heartcare", "more")
"""Values of the key `family`. A file without it is one of TGMM."""

OBJECTIVES = ("contrast", "findings")
"""Values of the key `objective` of `family: more`: notes against X-rays and ECGs, or findings."""


def read_any_arguments(path: str | Path, overrides: Sequence[str] = ()) -> AnyRunArguments:
    """Read the YAML file of a training. Its key `family` says which model is trained.

    Args:
        path: The YAML file.
        overrides: "section.key=value" settings that replace those of the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not valid YAML, or a setting is unknown, missing or wrong.
    """
    settings = read_settings(path, overrides)
    family = settings.pop("family", FAMILIES[0])
    if family not in FAMILIES:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}, got {family!r}.")
    parsers: dict[str, Callable[[Any], AnyRunArguments]] = {
        "tgmm": parse_arguments,
        "meit": lambda content: parse_dataclass(ReporterRunArguments, content),
        "beat": lambda content: parse_dataclass(BeatRunArguments, content),
        "heartcare": lambda content: parse_dataclass(HeartcareRunArguments, content),
        "more": _parse_more,
    }
    return parsers[family](settings)


def _parse_more(content: dict[str, Any]) -> MoreRunArguments | MoreFindingsRunArguments:
    """Read the settings of a training of MoRE. Its key `objective` says what is learned; without it, to compare."""
    if content.get("objective", OBJECTIVES[0]) not in OBJECTIVES:
        raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, got {content['objective']!r}.")
    if content.get("objective") == OBJECTIVES[1]:
        return parse_dataclass(MoreFindingsRunArguments, content)
    return parse_dataclass(MoreRunArguments, {name: value for name, value in content.items() if name != "objective"})


def train_any(run: AnyRunArguments) -> dict[str, Any]:
    """Train a model of the family that the settings belong to. Return the content of `run.json`."""
    if isinstance(run, ReporterRunArguments):
        from tgmm_hf.training.train_reporter import train_reporter

        return train_reporter(run)
    if isinstance(run, BeatRunArguments):
        from tgmm_hf.training.train_beat import train_beat

        return train_beat(run)
    if isinstance(run, HeartcareRunArguments):
        from tgmm_hf.training.train_heartcare import train_heartcare

        return train_heartcare(run)
    if isinstance(run, MoreRunArguments):
        from tgmm_hf.training.train_more import train_more

        return train_more(run)
    if isinstance(run, MoreFindingsRunArguments):
        from tgmm_hf.training.train_more_findings import train_more_findings

        return train_more_findings(run)
    from tgmm_hf.training.train import train

    return train(run)
