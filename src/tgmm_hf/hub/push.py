"""Upload a saved model or a synthetic cohort to the Hub, in one commit. Any other file is refused."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id

from tgmm_hf.evaluation.evaluate_bench import BENCH_FAMILY
from tgmm_hf.evaluation.unseen import weights_digest
from tgmm_hf.hub.card import EncoderLicence, cohort_card, encoder_licences, model_card, read_encoder_licence
from tgmm_hf.hub.card_more import more_card
from tgmm_hf.hub.card_reporter import reporter_card
from tgmm_hf.training.saving import MODEL_FILES
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import read_json

PUSHED_FILES = (*MODEL_FILES, r"[a-z_]+\.py", r"view_classifier/[a-z_]+\.py")
"""Files that a saved model may hold. Any other file is refused by name, because it may be a patient's file."""

KEPT_AT_HOME = {"run.json"}
"""Files that are read for the card but not uploaded, because they name directories of the machine that trained."""

NEEDED = ("config.json", "processor_config.json", "tokenizer.json")
"""Files that every saved model must have, besides its weights and its code."""

NEEDED_CODE = {
    "tgmm": ("modeling_tgmm.py", "processing_tgmm.py"),
    "meit": ("modeling_meit.py", "processing_meit.py"),
    "heartcare": ("modeling_heartcare.py", "processing_heartcare.py"),
    "more": ("modeling_more.py", "processing_more.py"),
}
"""`model_type` of a saved model that can be uploaded -> files of its code."""

CARDS = {"meit": reporter_card, "heartcare": reporter_card, "more": more_card}
"""`model_type` -> function that writes the card. All other models get the card of a TGMM model."""

COHORT_FILES = (
    r"(cohort|truth)\.parquet",
    r"(bayes|synth)\.json",
    r"views\.csv",
    r"hosp/(patients|admissions|diagnoses_icd|d_icd_diagnoses|labevents|d_labitems|prescriptions|omr)\.csv\.gz",
    r"ecg/(record_list|machine_measurements|ecg_statements)\.csv",
    r"echo/(echo-record-list|echo-study-list)\.csv",
)
"""Files that the generator writes beside the recordings and clips that its cohort table names."""

HTTP_ERROR: Any = HfHubHTTPError.__bases__[0]
"""Base of all errors of the HTTP client. Which client it is depends on the version of huggingface_hub."""

SYNTHETIC_MARKS = ("truth.parquet", "bayes.json")
"""Files that only the generator can write. A cohort without them counts as real patients."""


class NotForTheHubError(TgmmError):
    """A directory that must not be uploaded. The reason says which files prevent it and what to do."""


def push_model(  # noqa: PLR0913 - a wrong upload cannot be undone, so every choice has its own name
    directory: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    metrics: str | Path | None = None,
    encoders: Sequence[str | Path] = (),
    accept_licences: bool = False,
    api: HfApi | None = None,
) -> CommitInfo:
    """Upload a saved TGMM repository (code, weights, processor, model card) in one commit.

    Args:
        directory: Directory that `save_repository` or `tgmm train` wrote.
        repo_id: "owner/name" on the Hub. It is created if it does not exist.
        private: Make a new repository private; None takes the Hub's default.
        revision: Branch. It is created if it does not exist. None takes the default branch.
        metrics: `metrics.json` of `tgmm evaluate`, for the results in the card.
        encoders: Directories of pretrained encoders (`tgmm convert`) whose licences bind this model. The encoders that
            `TgmmModel.from_encoders` noted in the configuration count in any case.
        accept_licences: Confirms that the terms of the encoders were read and allow this upload.
        api: Client of the Hub. None makes one with the endpoint and the token of the environment.

    Returns:
        The commit.

    Raises:
        TgmmError: If `repo_id` is no name of a repository, the Hub cannot be reached or takes no files, the metrics
            belong to other weights, or the directory has a README.md, so that `metrics` and `encoders` would have no
            effect.
        NotForTheHubError: If the directory holds a file that no saved model has, if a needed file is missing, or if the
            licence of an encoder may forbid the upload and `accept_licences` is False.
    """
    check_repo_id(repo_id)
    directory = Path(directory)
    files = model_files(directory)
    card = directory / "README.md"
    if card.exists() and (metrics or encoders):
        raise TgmmError(
            str(card),
            "this card is uploaded as it is, so --metrics and --encoder would have no effect. Remove the card to get a "
            "new card, or leave the options out.",
        )
    config = read_json(directory / "config.json")
    own_card = CARDS.get(str(config.get("model_type")))
    scored = None if metrics is None else _metrics_of(directory, Path(metrics))
    licences = [*encoder_licences(directory, config), *(read_encoder_licence(encoder) for encoder in encoders)]
    _check_licences(licences, accept_licences)
    operations = [CommitOperationAdd(path.relative_to(directory).as_posix(), path) for path in files]
    if not card.exists():
        text = (
            own_card(repo_id, config=config, licences=licences, metrics=scored)
            if own_card is not None
            else model_card(
                repo_id,
                config=config,
                run=read_json(directory / "run.json") if (directory / "run.json").is_file() else None,
                metrics=scored,
                licences=licences,
                columns=read_json(directory / "processor_config.json").get("labs_columns"),
            )
        )
        operations.append(CommitOperationAdd("README.md", text.encode()))
    return commit_files(api or HfApi(), repo_id, "model", operations, private, revision)


def _model_type(directory: Path) -> str:
    """Return the `model_type` of the saved model in a directory; "" without a configuration."""
    path = directory / "config.json"
    return str(read_json(path).get("model_type", "")) if path.is_file() else ""


def _metrics_of(directory: Path, path: Path) -> dict[str, Any]:
    """Read the metrics.json at `path`. Raise a TgmmError if its figures are not of the weights in `directory`."""
    metrics: dict[str, Any] = read_json(path)
    weights = weights_digest(directory)
    family = _model_type(directory)
    scored = metrics.get("family", "tgmm")
    if scored == BENCH_FAMILY:
        scored = metrics.get("model_family")
    if scored != (family if family in CARDS else "tgmm"):
        raise TgmmError(str(path), "these figures are of a model of another family. Give those of this model.")
    if metrics.get("weights") != weights:
        raise TgmmError(
            str(path),
            f"these figures are of other weights ({metrics.get('weights')}; {directory} has {weights}). Run `tgmm "
            "evaluate` on this model.",
        )
    return metrics


def _check_licences(licences: Sequence[EncoderLicence], accepted: bool) -> None:
    """Raise a NotForTheHubError if the licence of an encoder may forbid the upload and `accepted` is False."""
    closed = [licence for licence in licences if not licence.is_open]
    if closed and not accepted:
        raise NotForTheHubError(
            "weights",
            "they come from encoders whose terms may forbid passing them on:\n"
            + "\n".join(licence.line() for licence in closed)
            + "\nRead the terms. If they allow this upload, add --accept-licences.",
        )


def push_cohort(
    directory: str | Path, repo_id: str, *, private: bool | None = None, api: HfApi | None = None
) -> CommitInfo:
    """Upload a cohort of `tgmm synth`. No other cohort can be uploaded.

    Args:
        directory: Directory of the cohort.
        repo_id: "owner/name" of the Hub data set. It is created if it does not exist.
        private: Make a new repository private; None takes the Hub's default.
        api: Client of the Hub. None makes one with the endpoint and the token of the environment.

    Returns:
        The commit.

    Raises:
        NotForTheHubError: If the cohort lacks the files that only the generator writes, or holds a file that the
            generator does not write.
    """
    check_repo_id(repo_id)
    directory = Path(directory)
    if missing := [name for name in SYNTHETIC_MARKS if not (directory / name).is_file()]:
        raise NotForTheHubError(
            str(directory),
            f"it lacks {', '.join(missing)}, so it is no cohort of `tgmm synth`. Only synthetic cohorts can be "
            "uploaded, never the data of real patients.",
        )
    files = sorted(path for path in directory.rglob("*") if not path.is_dir())
    names = [path.relative_to(directory).as_posix() for path in files]
    _refuse_unknown(directory, files, names, [*COHORT_FILES, *map(re.escape, _recordings_and_clips(directory))])
    operations = [CommitOperationAdd(name, path) for name, path in zip(names, files, strict=True)]
    card = cohort_card(repo_id, read_json(directory / "bayes.json"))
    operations.append(CommitOperationAdd("README.md", card.encode()))
    return commit_files(api or HfApi(), repo_id, "dataset", operations, private, None)


def _recordings_and_clips(directory: Path) -> list[str]:
    """List the ECG and echo files that the cohort table in a directory names, relative to the directory."""
    table = pq.read_table(directory / "cohort.parquet", columns=["ecg_path", "echo_paths"])
    ecgs = [path for path in table["ecg_path"].to_pylist() if path]
    clips = [path for paths in table["echo_paths"].to_pylist() for path in paths or []]
    return [*(f"{path}{suffix}" for path in ecgs for suffix in (".hea", ".dat")), *clips]


def model_files(directory: Path) -> list[Path]:
    """List the files of a saved model that are uploaded. run.json is not among them.

    Raises:
        FileNotFoundError: If there is no such directory.
        NotForTheHubError: If the directory holds a file that no saved model has, or lacks a needed file.
    """
    if not directory.is_dir():
        raise FileNotFoundError(f"There is no directory {directory}. Name the directory of a saved model.")
    files = sorted(path for path in directory.rglob("*") if path.is_symlink() or not path.is_dir())
    relative = [path.relative_to(directory).as_posix() for path in files]
    _refuse_unknown(directory, files, relative, PUSHED_FILES)
    names = set(relative)
    needed = [*NEEDED, *NEEDED_CODE.get(_model_type(directory), NEEDED_CODE["tgmm"])]
    missing = [name for name in needed if name not in names]
    if not any(name.endswith(".safetensors") for name in names):
        missing.append("model.safetensors")
    if missing:
        raise NotForTheHubError(
            str(directory),
            f"this directory is no complete saved model, it lacks {', '.join(missing)}. Save model and processor there "
            "(`tgmm train` does), and do not convert or rename files.",
        )
    return [path for path in files if path.name not in KEPT_AT_HOME]


def _refuse_unknown(directory: Path, files: Sequence[Path], names: Sequence[str], kinds: Sequence[str]) -> None:
    """Raise a NotForTheHubError if a file may not be uploaded. A link may not, because its target lies elsewhere.

    Args:
        directory: The directory, for the message.
        files: All files of the directory.
        names: Their names relative to the directory, in the same order.
        kinds: Regular expressions of the allowed names.
    """
    allowed = re.compile("|".join(f"(?:{kind})" for kind in kinds))
    unknown = [
        name
        for path, name in zip(files, names, strict=True)
        if path.is_symlink() or not path.is_file() or not allowed.fullmatch(name)
    ]
    if unknown:
        shown = ", ".join(unknown[:10]) + (" ..." if len(unknown) > 10 else "")
        raise NotForTheHubError(
            str(directory),
            f"it holds {len(unknown)} entries that may not be uploaded, because they might be patient data: {shown}. "
            "Move them elsewhere and push again.",
        )


def commit_files(  # noqa: PLR0913 - what goes where
    api: HfApi,
    repo_id: str,
    repo_type: str,
    operations: Sequence[CommitOperationAdd],
    private: bool | None,
    revision: str | None = None,
    space_sdk: str | None = None,
) -> CommitInfo:
    """Make the repository and the branch `revision` on the Hub if they are missing, and commit the files to them.

    `repo_type` is "model", "dataset" or "space". A Space has a `space_sdk`.
    """
    try:
        api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True, space_sdk=space_sdk)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, repo_type=repo_type, exist_ok=True)
        return api.create_commit(
            repo_id, list(operations), commit_message="Upload by tgmm-hf", repo_type=repo_type, revision=revision
        )
    except (HTTP_ERROR, OfflineModeIsEnabled, LocalTokenNotFoundError) as error:
        raise TgmmError(repo_id, _hub_problem(error)) from error


def _hub_problem(error: Exception) -> str:
    """Say in one sentence why the Hub took no files, and what to do."""
    if isinstance(error, OfflineModeIsEnabled):
        return "the Hub is switched off, because HF_HUB_OFFLINE is set. Unset it, and push again."
    response = getattr(error, "response", None)
    status = None if response is None else response.status_code
    if isinstance(error, LocalTokenNotFoundError) or status in (401, 403):
        return (
            "the Hub takes no files without a token that may write to this repository. Log in with `hf auth login`, or "
            "set HF_TOKEN, and push again."
        )
    if status is not None:
        return f"the Hub answered with the status {status}. Nothing may have been uploaded. Push again later."
    return (
        f"the Hub cannot be reached ({type(error).__name__}), so nothing was uploaded. Check the connection of this "
        "machine, and push again."
    )


def check_repo_id(repo_id: str) -> None:
    """Refuse a name that is not "owner/name", before any file is read and before the network is used."""
    try:
        validate_repo_id(repo_id)
        valid = repo_id.count("/") == 1
    except HFValidationError:
        valid = False
    if not valid:
        raise TgmmError(
            repo_id,
            "this is no name of a Hub repository. Write owner/name, of letters, digits, '-', '_' and '.', such as "
            "clinic/tgmm-demo.",
        )
