"""Evaluate a MoRE model that names findings: from X-ray and ECG, from the X-ray alone, and from the ECG alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from tgmm_hf.data.label_columns import PREFIX
from tgmm_hf.data.note_index import load_more
from tgmm_hf.data.note_tables import NoteRow
from tgmm_hf.evaluation.evaluate_more import MoreEvaluationSettings, ScoredRows, label_figures, read_scored_rows
from tgmm_hf.evaluation.metrics import UndefinedFigureError, bootstrap_counts, estimate, resampled_auc
from tgmm_hf.families.more.modeling_more_classification import MoreForClassification
from tgmm_hf.utils.errors import TgmmError

BOTH, XRAY, ECG, AVAILABLE = "both", "xray", "ecg", "available"
"""From what the findings are named. "available" is what a row has, and is scored if a row lacks one of the two."""
NEEDED = {BOTH: ("xray", "ecg"), XRAY: ("xray",), ECG: ("ecg",), AVAILABLE: ()}
FINDINGS_NOTES = (
    "Intervals: 95 % percentile bootstrap over patients. They do not cover the choice of the training seed.",
    "X-ray and ECG, X-ray alone and ECG alone are scored on the same rows, those with both. A row is a pair, so a "
    "patient with many pairs weighs more.",
    "Shuffled: the scores are exchanged among patients. 0.5 is the AUROC of chance, the prevalence its average "
    "precision.",
    "Labels of MIMIC-CXR-JPG are read from the reports by a program. They are no reading of the X-ray.",
)


def compute_findings_evaluation(
    model: str, data: str | Path, settings: MoreEvaluationSettings
) -> tuple[dict[str, Any], list[list[str]]]:
    """Evaluate a MoRE model that names findings, without writing files.

    Args:
        model: Directory or Hub repository of a saved `MoreForClassification`.
        data: Table as `read_note_table` reads it, with a column of labels for each finding of the model.
        settings: What to evaluate, and how. `prompts` is not used.

    Returns:
        The content of metrics.json; and id, item and reason of each refused input.

    Raises:
        TgmmError: If model or table cannot be used, or no input of the split can be.
        ValueError: If scored patients were trained on.
    """
    network, processor = load_more(model, MoreForClassification)
    scored = read_scored_rows(model, data, settings)
    findings = [network.config.id2label[place] for place in range(network.config.num_labels)]
    if missing := [name for name in findings if name not in scored.labels]:
        raise TgmmError(
            scored.data.name, f"lacks the column(s) {', '.join(PREFIX + name for name in missing)}. Add the labels."
        )
    logits, refused = _all_logits(scored, network, processor, settings)
    labels = np.array([[scored.labels[name][row.id] for name in findings] for row in scored.rows])
    patients = np.array([row.patient_id for row in scored.rows], dtype=object)
    is_complete = ~np.isnan(logits[BOTH]).any(1)
    systems = dict.fromkeys((BOTH, XRAY, ECG), is_complete) if is_complete.any() else {}
    if (is_usable := ~np.isnan(logits[AVAILABLE]).any(1)).sum() > is_complete.sum():
        systems[AVAILABLE] = is_usable
    if not systems:
        raise TgmmError(scored.data.name, f"no X-ray and no ECG of the {settings.split} split can be used.")
    metrics = {
        "family": "more",
        "objective": "findings",
        "n": len(scored.rows),
        "patients": len(set(patients[is_usable])),
        "inputs": {name: int(rows.sum()) for name, rows in systems.items()},
        "refused": len(refused),
        "findings": {
            finding: {
                name: _figures(logits[name][:, place], labels[:, place], patients, rows, settings)
                for name, rows in systems.items()
            }
            for place, finding in enumerate(findings)
        },
        "mean_auc": {
            name: mean_auc(logits[name][rows], labels[rows], patients[rows], settings) for name, rows in systems.items()
        },
        **scored.entries(network, processor, settings, FINDINGS_NOTES, len(set(patients[is_usable]))),
    }
    return metrics, refused


def mean_auc(scores: NDArray, labels: NDArray, patients: NDArray, settings: MoreEvaluationSettings) -> dict[str, Any]:
    """Compute the mean AUROC of the findings, with an interval from resamples that all findings share.

    Args:
        scores: (n, findings).
        labels: (n, findings), 0, 1 or NaN.
        patients: Patient of each row, (n,).
        settings: Seed and number of resamples.

    Returns:
        "auc", "auc_ci" and the number of "findings", of those with both classes.
    """
    has_label = ~np.isnan(labels)
    usable = [place for place in range(labels.shape[1]) if len(set(labels[has_label[:, place], place])) == 2]

    def figure(counts: NDArray) -> NDArray:
        if not usable:
            raise UndefinedFigureError("no finding has both classes")
        return np.mean(
            [
                resampled_auc(
                    scores[has_label[:, place], place],
                    labels[has_label[:, place], place],
                    counts[:, has_label[:, place]],
                )
                for place in usable
            ],
            axis=0,
        )

    counts = bootstrap_counts(patients, None, settings.bootstrap, settings.seed)
    return {"findings": len(usable), **estimate(figure, counts).entry("auc")}


def _figures(
    scores: NDArray, labels: NDArray, patients: NDArray, rows: NDArray, settings: MoreEvaluationSettings
) -> dict[str, Any]:
    """Compute the figures of one finding on the chosen rows with a known label. All arrays are of shape (n,)."""
    chosen = rows & ~np.isnan(labels)
    return label_figures(scores[chosen], labels[chosen], patients[chosen], settings)


def _all_logits(
    scored: ScoredRows, network: MoreForClassification, processor: Any, settings: MoreEvaluationSettings
) -> tuple[dict[str, NDArray], list[list[str]]]:
    """Compute the logits of all rows from each choice of inputs: name -> (n, findings), NaN where one is missing."""
    width = network.classifier.out_features
    logits = {name: np.full((len(scored.rows), width), np.nan) for name in NEEDED}
    refused: list[list[str]] = []
    hidden = None if settings.progress else True
    for start in tqdm(range(0, len(scored.rows), settings.batch_size), desc="findings", unit="batch", disable=hidden):
        rows = scored.rows[start : start + settings.batch_size]
        batch, entries = _read(rows, processor)
        refused += entries
        for name, part in _logits_of(batch, len(rows), network).items():
            logits[name][start : start + len(rows)] = part
    return logits, refused


def _read(rows: Sequence[NoteRow], processor: Any) -> tuple[Mapping[str, torch.Tensor], list[list[str]]]:
    """Read X-rays and ECGs of some rows: the batch, and id, item and reason of what is refused."""
    if not any(row.xray or row.ecg for row in rows):
        return {}, []
    batch, reports = processor(
        xray=[row.xray for row in rows],
        ecg=[row.ecg for row in rows],
        on_refusal="report",
        strictness="note",
        return_report=True,
        return_tensors="pt",
    )
    refused = [
        [row.id, entry["item"], entry["reason"]]
        for row, report in zip(rows, reports, strict=True)
        for entry in report["refused"]
    ]
    return batch, refused


@torch.no_grad()
def _logits_of(batch: Mapping[str, torch.Tensor], number: int, network: MoreForClassification) -> dict[str, NDArray]:
    """Compute the logits of one batch from each choice of inputs: name -> (number, findings), NaN where missing."""
    nothing = torch.zeros(number, dtype=torch.bool)
    present = {name: batch.get(f"{name}_mask", nothing).bool() for name in (XRAY, ECG)}
    logits = {}
    for name, needed in NEEDED.items():
        rows = present[XRAY] | present[ECG]
        for part in needed:
            rows = rows & present[part]
        shown = needed or (XRAY, ECG)
        inputs = {
            key: batch[key][rows]
            for part, keys in ((XRAY, ("pixel_values", "xray_mask")), (ECG, ("input_values", "ecg_mask")))
            for key in keys
            if part in shown and key in batch
        }
        logits[name] = np.full((number, network.classifier.out_features), np.nan)
        if rows.any():
            inputs = {key: value.to(network.device) for key, value in inputs.items()}
            logits[name][rows.numpy()] = network(**inputs).logits.double().cpu().numpy()
    return logits
