"""Evaluate a MoRE model on one split of a table: retrieval between X-rays, ECGs and notes, and zero-shot findings."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from tqdm import tqdm

from tgmm_hf.data.finding_prompts import FindingPrompts, prompts_of_columns
from tgmm_hf.data.label_columns import read_labels
from tgmm_hf.data.note_index import encode_rows, load_more
from tgmm_hf.data.note_tables import NoteRow, read_note_table
from tgmm_hf.evaluation.metrics import (
    LEVEL,
    bootstrap_draws,
    estimate,
    resampled_auc,
    resampled_average_precision,
)
from tgmm_hf.evaluation.note_retrieval import KINDS, SHUFFLED, Inputs, directions_of, evaluate_note_direction
from tgmm_hf.evaluation.notices import SMALL_N
from tgmm_hf.evaluation.report_controls import MODEL, exchanged_ecgs
from tgmm_hf.evaluation.unseen import check_unseen, read_if_present, weights_digest
from tgmm_hf.families.more.zero_shot_prompts import EncodedPrompts, encode_prompts, label_similarity
from tgmm_hf.pipeline_binding import BindingCheck
from tgmm_hf.utils.code_revision import code_revision
from tgmm_hf.utils.digests import file_digest
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.names import BOOTSTRAP_RESAMPLES
from tgmm_hf.utils.versions import package_versions

NOTES = (
    "Intervals: 95 % percentile bootstrap over patients, of the queries; the candidates stay. They do not cover the "
    "choice of the training seed.",
    "Retrieval: a candidate of the same patient is right, also of another study. Equal scores count against the model. "
    "With notes, candidates of other patients with an equal note are left out.",
    "Shuffled: the queries are exchanged among patients. Chance: the expectation of a random order.",
    "Zero-shot: the score is the largest cosine with the prompts of the finding, minus the mean cosine with the texts "
    "against it where such texts are given. Nothing is standardised. 0.5 is the AUROC of chance, the prevalence its "
    "average precision.",
)


@dataclass(frozen=True)
class MoreEvaluationSettings:
    """What to evaluate, and how.

    Attributes:
        split: Split of the table to be scored.
        prompts: JSON file as `finding_prompts` describes it. None takes the names of the findings.
        seed: Seed of the bootstrap and of the shuffling.
        bootstrap: Number of resamples.
        batch_size: Rows that are encoded together.
        allow_outside: Whether files outside the directory of the table are read.
        progress: Whether to show a progress bar.
    """

    split: str = "test"
    prompts: str | Path | None = None
    seed: int = 0
    bootstrap: int = BOOTSTRAP_RESAMPLES
    batch_size: int = 16
    allow_outside: bool = False
    progress: bool = True


@dataclass(frozen=True)
class ScoredRows:
    """The rows of a split that are scored.

    Attributes:
        model: Directory or Hub repository of the model.
        data: The table.
        rows: The rows of the split.
        labels: Finding -> id of a row -> label.
        warnings: What is doubtful in the choice of the rows.
    """

    model: str
    data: Path
    rows: list[NoteRow]
    labels: dict[str, dict[str, float]]
    warnings: list[str]

    def entries(
        self, network: Any, processor: Any, settings: MoreEvaluationSettings, notes: Sequence[str], patients: int
    ) -> dict[str, Any]:
        """Return the entries of metrics.json that say what was scored, with which model, and what is doubtful.

        Args:
            network: The model.
            processor: Its processor.
            settings: What is evaluated, and how.
            notes: Sentences about the figures.
            patients: Number of patients that are scored.
        """
        binding, directory = BindingCheck()(network, processor), Path(self.model)
        few = [f"Only {patients} patients are scored, so the intervals are wide."] if patients < SMALL_N else []
        return {
            "model": self.model,
            "data": self.data.name,
            "data_hash": f"sha256:{file_digest(self.data)}",
            "split": settings.split,
            "training": _training(directory),
            "weights": weights_digest(directory) if directory.is_dir() else None,
            "model_fingerprint": binding.model,
            "processor_fingerprint": binding.processor,
            "checks": binding.checks,
            "code_revision": code_revision(network, processor),
            "seed": settings.seed,
            "bootstrap": settings.bootstrap,
            "level": LEVEL,
            "warnings": [*(check["text"] for check in binding.checks), *self.warnings, *few],
            "notes": [*notes, *binding.notes],
            "versions": package_versions("scipy"),
        }


def read_scored_rows(model: str, data: str | Path, settings: MoreEvaluationSettings) -> ScoredRows:
    """Read the rows and the labels of a split, and check that the model was not trained on their patients.

    Args:
        model: Directory or Hub repository of the model.
        data: The table.
        settings: What is evaluated, and how.

    Raises:
        TgmmError: If the table cannot be used, or has no row of the split.
        ValueError: If scored patients were trained on.
    """
    every = read_note_table(data, allow_outside=settings.allow_outside)
    rows = [row for row in every if row.split == settings.split]
    if not rows:
        raise TgmmError(Path(data).name, f"no row is of the {settings.split} split. Name another one with --split.")
    patients = Dataset.from_dict({"patient_id": [row.patient_id for row in rows]})
    directory = Path(model) if Path(model).is_dir() else None
    warnings = check_unseen(directory, f"sha256:{file_digest(data)}", patients, settings.split)
    return ScoredRows(model, Path(data), rows, read_labels(data), warnings)


@dataclass
class _Item:
    """One X-ray, ECG or note: its patient, the rows in which it stands, and its vector (p,), None if refused."""

    patient: str
    rows: list[NoteRow] = field(default_factory=list)
    vector: NDArray | None = None


def compute_more_evaluation(
    model: str, data: str | Path, settings: MoreEvaluationSettings
) -> tuple[dict[str, Any], list[list[str]]]:
    """Evaluate a MoRE model without writing files.

    Args:
        model: Directory or Hub repository of a saved MoRE model.
        data: Table as `read_note_table` reads it, with or without columns of labels.
        settings: What to evaluate, and how.

    Returns:
        The content of metrics.json; and id, item and reason of each refused input.

    Raises:
        TgmmError: If model, table or prompts cannot be used, or no input of the split can be.
        ValueError: If scored patients were trained on.
    """
    network, processor = load_more(model)
    scored = read_scored_rows(model, data, settings)
    prompts = prompts_of_columns(settings.prompts, list(scored.labels))
    items, refused = _encode_items(scored.rows, network, processor, settings)
    inputs = {kind: _inputs(items[kind], processor) for kind in KINDS}
    directions = directions_of(inputs)
    if not directions:
        raise TgmmError(Path(data).name, f"fewer than two kinds of input of the {settings.split} split can be used.")
    patients = {str(patient) for entry in inputs.values() for patient in entry.patients}
    metrics = {
        "family": "more",
        "n": len(scored.rows),
        "patients": len(patients),
        "inputs": {kind: len(inputs[kind].patients) for kind in KINDS},
        "refused": len(refused),
        "retrieval": {
            f"{query}->{target}": evaluate_note_direction(
                inputs[query],
                inputs[target],
                equal_notes="text" in (query, target),
                seed=settings.seed,
                replicates=settings.bootstrap,
            )
            for query, target in directions
        },
        "zero_shot": _zero_shot(items, inputs, scored.labels, prompts, network, processor, settings),
        "prompts": prompts.as_file(),
        **scored.entries(network, processor, settings, NOTES, len(patients)),
    }
    return metrics, refused


def _encode_items(
    rows: Sequence[NoteRow], model: Any, processor: Any, settings: MoreEvaluationSettings
) -> tuple[dict[str, list[_Item]], list[list[str]]]:
    """Encode each X-ray, ECG and note of a patient once: kind -> usable items; and the refused inputs."""
    items: dict[str, dict[Any, _Item]] = {kind: {} for kind in KINDS}
    carried: dict[tuple[str, str], _Item] = {}
    carriers: list[NoteRow] = []
    for row in rows:
        new: dict[str, Any] = {}
        for kind in KINDS:
            content = processor.note(row.text) if kind == "text" and row.text else getattr(row, kind)
            if not content:
                continue
            if (row.patient_id, content) not in items[kind]:
                item = items[kind][row.patient_id, content] = carried[kind, row.id] = _Item(row.patient_id)
                new[kind] = row.text if kind == "text" else content
            item = items[kind][row.patient_id, content]
            item.rows.append(row)
        if new:
            carriers.append(replace(row, xray=new.get("xray"), ecg=new.get("ecg"), text=new.get("text")))
    refused: list[list[str]] = []
    hidden = None if settings.progress else True
    for start in tqdm(range(0, len(carriers), settings.batch_size), desc="encode", unit="batch", disable=hidden):
        part = encode_rows(carriers[start : start + settings.batch_size], model, processor)
        refused += part["refused"]
        for kind, row_id, *_, vector in part["vectors"]:
            carried[kind, row_id].vector = np.array(vector, np.float32)
    return {kind: [item for item in items[kind].values() if item.vector is not None] for kind in KINDS}, refused


def _inputs(items: Sequence[_Item], processor: Any) -> Inputs:
    """Stack the items of one kind. The notes of an item are the notes of its rows. A note has itself only."""
    return Inputs(
        np.stack([item.vector for item in items if item.vector is not None]) if items else np.zeros((0, 1)),
        np.array([item.patient for item in items], dtype=object),
        [{processor.note(row.text) for row in item.rows if row.text} for item in items],
    )


def _zero_shot(  # noqa: PLR0913 - what is scored, and with what
    items: dict[str, list[_Item]],
    inputs: dict[str, Inputs],
    labels: dict[str, dict[str, float]],
    prompts: FindingPrompts,
    model: Any,
    processor: Any,
    settings: MoreEvaluationSettings,
) -> dict[str, Any]:
    """Score each finding on X-rays and on ECGs: finding -> kind -> figures. {} without columns of labels."""
    if not prompts.prompts:
        return {}
    with torch.no_grad():
        texts = encode_prompts(model, processor, prompts.prompts, model.device)
        denials = encode_prompts(model, processor, prompts.against, model.device) if prompts.against else None
    figures: dict[str, Any] = {finding: {} for finding in prompts.prompts}
    for kind in ("xray", "ecg"):
        if not items[kind]:
            continue
        vectors = torch.from_numpy(inputs[kind].vectors)
        scores = finding_scores(vectors, texts, denials)
        for finding, score in scores.items():
            label = np.array([_label_of(item, labels[finding]) for item in items[kind]])
            is_known = ~np.isnan(label)
            figures[finding][kind] = label_figures(
                score[is_known], label[is_known], inputs[kind].patients[is_known], settings
            )
    return figures


def finding_scores(vectors: torch.Tensor, texts: EncodedPrompts, denials: EncodedPrompts | None) -> dict[str, NDArray]:
    """Score each finding by the largest cosine with its prompts, minus the mean cosine with the texts against it.

    Args:
        vectors: (B, p) of X-rays or ECGs, of length one.
        texts: The encoded prompts.
        denials: The encoded texts against findings. A finding without such texts keeps its largest cosine.

    Returns:
        Finding -> scores (B,) float64.
    """
    similarity = label_similarity(vectors @ texts.vectors.T, texts.label_of, "max").double().numpy()
    scores = dict(zip(texts.labels, similarity.T, strict=True))
    if denials is not None:
        against = label_similarity(vectors @ denials.vectors.T, denials.label_of, "mean").double().numpy()
        for finding, subtracted in zip(denials.labels, against.T, strict=True):
            scores[finding] = scores[finding] - subtracted
    return scores


def _label_of(item: _Item, labels: dict[str, float]) -> float:
    """Return the label of an item; NaN if the label is unknown, or if the rows of the item disagree."""
    values = {labels[row.id] for row in item.rows if labels[row.id] == labels[row.id]}
    return values.pop() if len(values) == 1 else float("nan")


def label_figures(
    score: NDArray, label: NDArray, patients: NDArray, settings: MoreEvaluationSettings
) -> dict[str, Any]:
    """Compute the figures of one finding on one kind of input, also with scores exchanged among patients.

    Args:
        score: A higher score means that the finding is more likely, (n,).
        label: 0 or 1, (n,).
        patients: Patient of each input, (n,).
        settings: Seed and number of resamples.
    """
    entry: dict[str, Any] = {"n": len(label), "patients": len(set(patients)), "positives": int(label.sum())}
    entry |= {"prevalence": float(label.mean()) if len(label) else None, "systems": {}}
    if not 0 < label.sum() < len(label):
        return {**entry, "missing": f"AUROC needs both classes: {entry['positives']} of {len(label)} are positive"}
    draws = bootstrap_draws(patients, label, settings.bootstrap, settings.seed)
    scores = {MODEL: score}
    if entry["patients"] > 1:
        scores[SHUFFLED] = score[exchanged_ecgs(list(patients), np.random.default_rng(settings.seed))]
    for name, values in scores.items():
        figures = estimate(partial(resampled_auc, values, label), draws.by_outcome).entry("auc")
        precision = estimate(partial(resampled_average_precision, values, label), draws.free)
        entry["systems"][name] = figures | precision.entry("auprc")
    return entry


def _training(directory: Path) -> dict[str, Any] | None:
    """Return data_hash, parameters and seed of the model's run record; None without a record."""
    run = read_if_present(directory / "run.json")
    keys = ("data_hash", "parameters", "trainable_parameters", "seed")
    return None if run is None else {name: run[name] for name in keys if name in run}
