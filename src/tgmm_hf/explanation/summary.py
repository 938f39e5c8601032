"""Averages over patients with intervals, and the table of a faithfulness check."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tgmm_hf.explanation.faithfulness import EVIDENCE_SHARE, evidence_units, pointing

LEVEL = 0.95
LARGEST_CORRELATION = 0.5
"""A map whose mean correlation with that of shuffled weights is higher hardly depends on the weights (ours)."""
GAINS = {"deletion": -1.0, "insertion": 1.0, "comprehensiveness": 1.0, "sufficiency": -1.0}
"""Figure -> sign with which a difference from random orders is better when positive."""


def summarise(measured: Sequence[dict[str, Any]], seed: int, bootstrap: int) -> dict[str, Any]:
    """Average the figures of patients.

    Args:
        measured: one entry a patient: modality -> what `check.measure` returns.
        seed: of the resamples.
        bootstrap: number of resamples.

    Returns:
        modality -> method -> figure: {"mean", "ci", "n"}. "<figure>_gain" is the paired difference from random orders,
        positive when better. "beats_random" says whether the interval of the deletion gain lies above zero,
        "depends_on_weights" whether the map changes when all weights are shuffled.
    """
    result: dict[str, Any] = {}
    for modality in dict.fromkeys(name for patient in measured for name in patient):
        patients = [_with_pointing(patient[modality], modality) for patient in measured if modality in patient]
        result[modality] = {
            method: _method(patients, method, seed, bootstrap) for method in patients[0] if method != "random"
        }
    return result


def _with_pointing(entry: dict[str, Any], modality: str) -> dict[str, dict[str, float]]:
    """Add pointing, mass and chance to the figures of one modality of one patient: method -> figure -> number."""
    evidence = evidence_units(np.array(entry["planted"]), EVIDENCE_SHARE[modality])
    figures = {method: dict(numbers) for method, numbers in entry["figures"].items()}
    for method, values in entry["maps"].items():
        figures[method] |= pointing(np.array(values), evidence)
    return figures


def _method(patients: Sequence[dict[str, Any]], method: str, seed: int, bootstrap: int) -> dict[str, Any]:
    """Average the figures of one method of one modality."""
    entry: dict[str, Any] = {}
    for figure in dict.fromkeys(name for patient in patients for name in patient[method]):
        values = [patient[method][figure] for patient in patients if figure in patient[method]]
        entry[figure] = mean_with_interval(np.array(values), seed, bootstrap)
    for figure, sign in GAINS.items():
        differences = [sign * (patient[method][figure] - patient["random"][figure]) for patient in patients]
        entry[f"{figure}_gain"] = mean_with_interval(np.array(differences), seed, bootstrap)
    entry["beats_random"] = entry["deletion_gain"]["ci"][0] > 0
    shuffled = entry.get("correlation all")
    entry["depends_on_weights"] = shuffled is None or shuffled["mean"] < LARGEST_CORRELATION
    return entry


def mean_with_interval(values: np.ndarray, seed: int, bootstrap: int) -> dict[str, Any]:
    """Compute the mean over patients and its percentile interval: {"mean", "ci": [low, high], "n"}."""
    draws = np.random.default_rng(seed).integers(0, len(values), (bootstrap, len(values)))
    low, high = np.quantile(values[draws].mean(1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"mean": float(values.mean()), "ci": [float(low), float(high)], "n": len(values)}


def effect_ratios(measured: Sequence[dict[str, Any]], seed: int, bootstrap: int) -> dict[str, Any]:
    """Divide the mean change of the score without evidence by that without as many other units.

    Args:
        measured: one entry a patient, as for `summarise`.
        seed: of the resamples.
        bootstrap: number of resamples.

    Returns:
        modality -> {"ratio", "ci", "n"}. Near 1 the model reads units without evidence as much as those with evidence.
    """
    result = {}
    for modality in dict.fromkeys(name for patient in measured for name in patient):
        effects = [patient[modality]["effect"] for patient in measured if modality in patient]
        pairs = np.array([[effect["evidence"], effect["other_units"]] for effect in effects if effect])
        if len(pairs) and pairs[:, 1].mean() > 0:
            draws = np.random.default_rng(seed).integers(0, len(pairs), (bootstrap, len(pairs)))
            evidence, other_units = pairs[draws].mean(1).T
            low, high = np.quantile(evidence / np.maximum(other_units, 1e-12), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            ratio = float(pairs[:, 0].mean() / pairs[:, 1].mean())
            result[modality] = {"ratio": ratio, "ci": [float(low), float(high)], "n": len(pairs)}
    return result


def table_text(summary: dict[str, Any]) -> str:
    """Write the summary as a Markdown table, one row per modality and method."""
    columns = {
        "pointing": "pointing",
        "mass": "mass",
        "chance": "chance",
        "deletion_gain": "deletion gain",
        "insertion_gain": "insertion gain",
        "comprehensiveness_gain": "comprehensiveness gain",
        "sufficiency_gain": "sufficiency gain",
        "correlation top": "top shuffled",
        "correlation all": "all shuffled",
    }
    lines = [
        f"| modality | method | {' | '.join(columns.values())} | beats random | depends on weights |",
        "|---" * (len(columns) + 4) + "|",
    ]
    for modality, methods in summary["modalities"].items():
        for method, entry in methods.items():
            cells = [_cell(entry.get(name), with_interval=name.endswith("gain")) for name in columns]
            cells += ["yes" if entry[name] else "no" for name in ("beats_random", "depends_on_weights")]
            lines.append(f"| {modality} | {method} | {' | '.join(cells)} |")
    lines += ["", "| modality | change of the score without evidence, against as many other units |", "|---|---|"]
    for modality, entry in summary.get("evidence_effect", {}).items():
        lines.append(f"| {modality} | {entry['ratio']:.2f} ({entry['ci'][0]:.2f} to {entry['ci'][1]:.2f}) |")
    return "\n".join(lines) + "\n"


def _cell(figure: dict[str, Any] | None, *, with_interval: bool) -> str:
    """Write a figure, with its interval if asked for; "" if it was not measured."""
    if figure is None:
        return ""
    text = f"{figure['mean']:.2f}"
    return f"{text} ({figure['ci'][0]:.2f} to {figure['ci'][1]:.2f})" if with_interval else text
