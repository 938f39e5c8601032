"""The directories of a training run: may they be replaced, and do they hold a run that may be continued?"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from accelerate.utils import broadcast_object_list
from datasets import Dataset

from tgmm_hf.evaluation.unseen import SEEN, seen_patients, weights_digest
from tgmm_hf.training.checkpoints import TRAINING_FILES, discard
from tgmm_hf.training.processes import fail_together
from tgmm_hf.training.saving import RUN_RECORD, files_of_saved_model
from tgmm_hf.training.settings_files import differences, flat
from tgmm_hf.utils.files import claim_directory, read_json, write_json

MAY_CHANGE = {
    f"run.{key}"
    for key in (
        "resume",
        "data.workers",
        "data.cache",
        "data.cache.directory",
        "optimisation.logging_steps",
        "optimisation.logging",
    )
}
"""Settings that you may change when you resume a run. `epochs` may change too if the learning-rate schedule does not
depend on it."""
FINISHED = "finished"
"""Empty file beside the checkpoints of a finished run."""
SETTINGS = "settings.json"
"""File beside the checkpoints with the settings of the run, the hash of its data and the digests of its sources."""


class Run(Protocol):
    """The settings of a training of any family, as this file and the base trainer read them."""

    @property
    def seed(self) -> int:
        """Seed of everything that is drawn."""

    @property
    def data(self) -> Any:
        """Settings of the data, with `workers`."""

    @property
    def output(self) -> str:
        """Directory of the saved model."""

    @property
    def resume(self) -> str:
        """Whether a stopped run goes on: "auto" or "never"."""

    @property
    def model(self) -> Any:
        """Settings of the model, with `sources`."""

    @property
    def optimisation(self) -> Any:
        """Settings of the optimisation, with `schedule`, `keep`, `logging` and `logging_steps`."""

    @property
    def inputs(self) -> list[str]:
        """Files and directories that the run reads and must not replace."""

    @property
    def training_directory(self) -> Path:
        """Directory of the checkpoints."""

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a nested dictionary."""


def claim_directories(run: Run) -> None:
    """Refuse a run whose output directory holds files that a run does not write, because they would be deleted.

    With `resume: never` the training directory is checked in the same way.

    Raises:
        FileExistsError: If there are such files. The message names some of them.
    """
    claim_directory(run.output, files_of_saved_model(run.output), keep=run.inputs)
    if run.resume == "never":
        claim_directory(run.training_directory, TRAINING_FILES, keep=run.inputs)


def begin_run(
    run: Run, should_save: bool, data_hash: str, splits: Mapping[str, Dataset], sources: Iterable[str]
) -> bool:
    """Write the settings of a run and its list of patients into the training directory.

    Every process has to call this; the first one writes.

    Args:
        run: The settings of the run.
        should_save: Whether this process writes.
        data_hash: The hash of the data.
        splits: Split -> rows with the column `patient_id`.
        sources: Directories and Hub repositories that the run starts from and that may have seen patients.

    Returns:
        True if a run with these settings is already finished.
    """
    finished = [False]
    with fail_together():
        if should_save:
            finished = [claim_training_directory(run, data_hash)]
            write_json(run.training_directory / SEEN, seen_patients(data_hash, splits, sources))
    broadcast_object_list(finished)
    return finished[0]


def claim_training_directory(run: Run, data_hash: str) -> bool:
    """Write the settings of a run into its training directory, and compare them with the settings that are there.

    With `resume: never` the old training directory is removed first.

    Args:
        run: The settings of the run.
        data_hash: The hash of the prepared data set.

    Returns:
        True if a run with these settings is already finished.

    Raises:
        ValueError: If the directory holds a run with other settings, data or sources, or if the output holds a model
            whose training directory is gone.
    """
    directory = run.training_directory
    settings = {"run": run.to_dict(), "data_hash": data_hash}
    if weights := weights_of_sources(run):
        settings["weights"] = weights
    if run.resume == "never" and directory.exists():
        discard(directory)
    has_model = (Path(run.output) / RUN_RECORD).is_file()
    finished = False
    if (directory / SETTINGS).is_file():
        before = read_json(directory / SETTINGS)
        _check_same_settings(run, before, settings)
        same = not differences(before, settings, MAY_CHANGE)
        finished = same and (directory / FINISHED).is_file() and has_model
    elif has_model and run.resume != "never":
        raise ValueError(
            f"{run.output} holds a trained model, but its training directory {directory} is gone, so its settings "
            "cannot be compared. Give another output, or train in its place with resume: never."
        )
    directory.mkdir(parents=True, exist_ok=True)
    if not finished:
        (directory / FINISHED).unlink(missing_ok=True)
    write_json(directory / SETTINGS, settings)
    return finished


def weights_of_sources(run: Run) -> dict[str, str]:
    """Compute the digest of the weights of each local directory that a run starts from: directory -> digest.

    Sources on the Hub have no entry. The name of a directory alone is not enough, because other weights may be written
    to it later.
    """
    return {source: weights_digest(Path(source)) for source in run.model.sources if Path(source).is_dir()}


def _check_same_settings(run: Run, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise a ValueError if the settings `before` and `now` differ in more than may change.

    The message names the first setting that differs.
    """
    may_change = MAY_CHANGE | ({"run.optimisation.epochs"} if run.optimisation.schedule == "plateau" else set())
    if different := differences(before, now, may_change):
        key, directory = different[0], run.training_directory
        kind = "finished run" if (directory / FINISHED).is_file() else "run"
        raise ValueError(
            f"{directory} holds a {kind} of other settings: {key} was {flat(before).get(key)!r}, now "
            f"{flat(now).get(key)!r}. Give another output, or start over in its place with resume: never."
        )
