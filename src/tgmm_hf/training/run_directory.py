"""The directories of a training run: which may be replaced, and which hold a run that may be continued."""

from pathlib import Path
from typing import Any

from tgmm_hf.evaluation.unseen import weights_digest
from tgmm_hf.training.arguments import RunArguments
from tgmm_hf.training.checkpoints import TRAINING_FILES, discard
from tgmm_hf.training.saving import RUN_RECORD, files_of_saved_model
from tgmm_hf.training.settings_files import differences, flat
from tgmm_hf.utils.files import claim_directory, read_json, write_json

MAY_CHANGE = {
    f"run.{key}"
    for key in (
        "resume",
        "data.workers",
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


def claim_directories(run: RunArguments) -> None:
    """Refuse an output that would be replaced although it holds files that a run does not write.

    With `resume: never` the training directory is checked in the same way.

    Raises:
        FileExistsError: With the names of some of these files.
    """
    claim_directory(run.output, files_of_saved_model(run.output), keep=directories_to_keep(run))
    if run.resume == "never":
        claim_directory(run.training_directory, TRAINING_FILES, keep=directories_to_keep(run))


def directories_to_keep(run: RunArguments) -> list[str]:
    """List the directories that a run reads, or fills for later runs, and must not replace."""
    return [run.data.directory, *([run.data.cache.directory] if run.data.cache else [])]


def claim_training_directory(run: RunArguments, data_hash: str) -> bool:
    """Write the settings of a run beside its checkpoints, after checking the settings that are already there.

    Args:
        run: The settings of the run.
        data_hash: The hash of the prepared data set.

    Returns:
        Whether a run with these settings is already finished here.

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


def weights_of_sources(run: RunArguments) -> dict[str, str]:
    """Digest the weights of each local directory that a run starts from.

    The path alone is not enough, because other weights may be written to the same path later.
    """
    return {source: weights_digest(Path(source)) for source in run.model.sources if Path(source).is_dir()}


def _check_same_settings(run: RunArguments, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to continue a run whose settings were different."""
    may_change = MAY_CHANGE | ({"run.optimisation.epochs"} if run.optimisation.schedule == "plateau" else set())
    if different := differences(before, now, may_change):
        key, directory = different[0], run.training_directory
        kind = "finished run" if (directory / FINISHED).is_file() else "run"
        raise ValueError(
            f"{directory} holds a {kind} of other settings: {key} was {flat(before).get(key)!r}, now "
            f"{flat(now).get(key)!r}. Give another output, or start over in its place with resume: never."
        )
