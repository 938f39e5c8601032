"""One YAML file, any family: read the settings of a training and run it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tgmm_hf.training.arguments import RunArguments, parse_arguments
from tgmm_hf.training.reporter_arguments import ReporterRunArguments
from tgmm_hf.training.settings_files import parse_dataclass, read_settings

FAMILIES = ("tgmm", "meit")
"""Values of the key `family`. A file without it is one of TGMM."""


def read_any_arguments(path: str | Path, overrides: Sequence[str] = ()) -> RunArguments | ReporterRunArguments:
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
    return parse_arguments(settings) if family == FAMILIES[0] else parse_dataclass(ReporterRunArguments, settings)


def train_any(run: RunArguments | ReporterRunArguments) -> dict[str, Any]:
    """Train a model of the family that the settings belong to. Return the content of `run.json`."""
    if isinstance(run, ReporterRunArguments):
        from tgmm_hf.training.train_reporter import train_reporter

        return train_reporter(run)
    from tgmm_hf.training.train import train

    return train(run)
