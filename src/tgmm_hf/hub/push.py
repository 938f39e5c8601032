"""`tgmm push` and `tgmm push-data`: one commit on the Hub of exactly the files that belong there."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi

from tgmm_hf.evaluation.unseen import weights_digest
from tgmm_hf.hub.card import EncoderLicence, cohort_card, encoder_licences, model_card, read_encoder_licence
from tgmm_hf.training.saving import MODEL_FILES

PUSHED_FILES = (*MODEL_FILES, r"[a-z_]+\.py", r"view_classifier/[a-z_]+\.py")
"""What a saved model may hold; anything else may be a patient's, and is refused by name."""

KEPT_AT_HOME = {"run.json"}
"""Read for the card, but not uploaded: it names directories of the machine that trained."""

NEEDED = ("config.json", "processor_config.json", "tokenizer.json", "modeling_tgmm.py", "processing_tgmm.py")

COHORT_FILES = (
    r"(cohort|truth)\.parquet",
    r"(bayes|synth)\.json",
    r"views\.csv",
    r"hosp/(patients|admissions|diagnoses_icd|d_icd_diagnoses|labevents|d_labitems|prescriptions|omr)\.csv\.gz",
    r"ecg/(record_list|machine_measurements)\.csv",
    r"echo/(echo-record-list|echo-study-list)\.csv",
)
"""What the generator writes beside the records that its cohort table names."""
SYNTHETIC_MARKS = ("truth.parquet", "bayes.json")
"""Only the generator knows the truth behind its patients: without these files a cohort counts as real."""


class NotForTheHubError(ValueError):
    """A directory must not be uploaded; the message says which files and what to do."""


def push_model(
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
        directory: what `save_repository` or `tgmm train` wrote.
        repo_id: "owner/name" on the Hub; made if it does not exist.
        private: for a new repository.
        revision: branch; made if it does not exist. The default branch if None.
        metrics: `metrics.json` of `tgmm evaluate`, for the card's results.
        encoders: directories of pretrained encoders (`tgmm convert`) whose licences bind this model, beside those that
            its configuration names (`TgmmModel.from_encoders` writes them).
        accept_licences: the terms of those encoders were read and allow this upload.
        api: client with endpoint and token; the environment's if None.

    Raises:
        ValueError: if the metrics are of other weights, or would not be used.
        NotForTheHubError: if a file of the directory is not of a kind that a saved model has, or one is missing; if an
            encoder's licence is not known to allow it and `accept_licences` is False.
    """
    directory = Path(directory)
    files = model_files(directory)
    card = directory / "README.md"
    if card.exists() and (metrics or encoders):
        raise ValueError(
            f"{card} is uploaded as it is, so --metrics and --encoder would be without effect: remove it to have one "
            "written, or leave the options out."
        )
    scored = None if metrics is None else _metrics_of(directory, Path(metrics))
    config = json.loads((directory / "config.json").read_text())
    licences = [*encoder_licences(directory, config), *(read_encoder_licence(encoder) for encoder in encoders)]
    _check_licences(licences, accept_licences)
    operations = [CommitOperationAdd(path.relative_to(directory).as_posix(), path) for path in files]
    if not card.exists():
        text = model_card(
            repo_id,
            config=config,
            run=_read_json(directory / "run.json"),
            metrics=scored,
            licences=licences,
        )
        operations.append(CommitOperationAdd("README.md", text.encode()))
    return _commit(api or HfApi(), repo_id, "model", operations, private, revision)


def _metrics_of(directory: Path, path: Path) -> dict[str, Any]:
    """The figures for the card, if they are of these very weights."""
    metrics: dict[str, Any] = json.loads(path.read_text())
    weights = weights_digest(directory)
    if metrics.get("weights") != weights:
        raise ValueError(
            f"{path} is of other weights ({metrics.get('weights')}; {directory} has {weights}): evaluate this model."
        )
    return metrics


def _check_licences(licences: Sequence[EncoderLicence], accepted: bool) -> None:
    closed = [licence for licence in licences if not licence.is_open]
    if closed and not accepted:
        raise NotForTheHubError(
            "These weights come from encoders whose terms may forbid to pass them on:\n"
            + "\n".join(licence.line() for licence in closed)
            + "\nRead them; if they allow this upload, say so with --accept-licences."
        )


def push_cohort(
    directory: str | Path, repo_id: str, *, private: bool | None = None, api: HfApi | None = None
) -> CommitInfo:
    """Upload a cohort of `tgmm synth`; no other cohort can be published by this command.

    Raises:
        NotForTheHubError: if the cohort does not carry the generator's truth, or holds a file the generator does not
            write.
    """
    directory = Path(directory)
    if missing := [name for name in SYNTHETIC_MARKS if not (directory / name).is_file()]:
        raise NotForTheHubError(
            f"{directory} lacks {', '.join(missing)}: it is no cohort of `tgmm synth`. Only synthetic cohorts are "
            "published; real patients' records are not, whoever asks."
        )
    files = sorted(path for path in directory.rglob("*") if not path.is_dir())
    names = [path.relative_to(directory).as_posix() for path in files]
    _refuse_unknown(directory, files, names, [*COHORT_FILES, *map(re.escape, _records(directory))])
    operations = [CommitOperationAdd(name, path) for name, path in zip(names, files, strict=True)]
    card = cohort_card(repo_id, json.loads((directory / "bayes.json").read_text()))
    operations.append(CommitOperationAdd("README.md", card.encode()))
    return _commit(api or HfApi(), repo_id, "dataset", operations, private, None)


def _records(directory: Path) -> list[str]:
    """ECG and echo files that the cohort table names."""
    table = pq.read_table(directory / "cohort.parquet", columns=["ecg_path", "echo_paths"])
    ecgs = [path for path in table["ecg_path"].to_pylist() if path]
    clips = [path for paths in table["echo_paths"].to_pylist() for path in paths or []]
    return [*(f"{path}{suffix}" for path in ecgs for suffix in (".hea", ".dat")), *clips]


def model_files(directory: Path) -> list[Path]:
    """The files of a saved model that are uploaded, after everything in the directory was found to be one of them."""
    if not directory.is_dir():
        raise FileNotFoundError(f"There is no directory {directory}.")
    files = sorted(path for path in directory.rglob("*") if path.is_symlink() or not path.is_dir())
    relative = [path.relative_to(directory).as_posix() for path in files]
    _refuse_unknown(directory, files, relative, PUSHED_FILES)
    names = set(relative)
    missing = [name for name in NEEDED if name not in names]
    if not any(name.endswith(".safetensors") for name in names):
        missing.append("model.safetensors")
    if missing:
        raise NotForTheHubError(
            f"{directory} is no complete TGMM repository, it lacks {', '.join(missing)}: save model and processor "
            "there (`tgmm train` does), without converting or renaming files."
        )
    return [path for path in files if path.name not in KEPT_AT_HOME]


def _refuse_unknown(directory: Path, files: Sequence[Path], names: Sequence[str], kinds: Sequence[str]) -> None:
    """Links are refused too: what they point to lies elsewhere."""
    allowed = re.compile("|".join(f"(?:{kind})" for kind in kinds))
    unknown = [
        name
        for path, name in zip(files, names, strict=True)
        if path.is_symlink() or not path.is_file() or not allowed.fullmatch(name)
    ]
    if unknown:
        shown = ", ".join(unknown[:10]) + (" ..." if len(unknown) > 10 else "")
        raise NotForTheHubError(
            f"{directory} holds {len(unknown)} entries that are not uploaded, so that no patient data leaves by "
            f"accident: {shown}. Move them elsewhere and push again."
        )


def _commit(
    api: HfApi,
    repo_id: str,
    repo_type: str,
    operations: Sequence[CommitOperationAdd],
    private: bool | None,
    revision: str | None,
) -> CommitInfo:
    api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True)
    if revision is not None:
        api.create_branch(repo_id, branch=revision, repo_type=repo_type, exist_ok=True)
    return api.create_commit(
        repo_id, list(operations), commit_message="Upload by tgmm-hf", repo_type=repo_type, revision=revision
    )


def _read_json(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text()) if path.is_file() else None
