"""Contributions to one answer, as the patient report shows them: tables, ECG bands and sentences."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tgmm_hf.explanation.attribution import Attribution
from tgmm_hf.explanation.verified import TRUE, UNKNOWN
from tgmm_hf.reports.ecg_paper import Band
from tgmm_hf.reports.lab_bars import contribution_bar
from tgmm_hf.utils.names import LEADS

HEAT_TITLES = {
    "slot_attention": "Slot map: the slot of a row reads the slots of the columns",
    "candidate_attention": "Candidates: the candidate of a row reads the slots of the columns",
    "gates": "Gates: how much of each modality enters the slot of a row",
}
"""Method of a slot map -> heading of its table, which says how to read it."""
MODALITY_NAMES = {"labs": "Laboratory", "ecg": "ECG", "echo": "Echo", "xray": "X-ray", "ecg_time": "ECG over time"}
"""Modality -> its name in a report."""
FINEST_BAND = 0.08
"""Shortest band on the ECG in seconds (2 mm). Finer maps are averaged, because a narrower band cannot be seen."""
CHECK_NOTES = {
    TRUE: "In the check of this model the method beats random order",
    UNKNOWN: "Nobody has measured whether the method beats random order for this model",
}
"""Note of an attribution about its check -> its sentence in a report."""
METHOD_NAMES = {
    "shap": "SHAP",
    "shapley": "exact Shapley values",
    "grad_cam_plus_plus": "Grad-CAM++",
    "guided_grad_cam": "guided Grad-CAM++",
    "integrated_gradients": "integrated gradients",
    "token_integrated_gradients": "integrated gradients of the tokens",
    "gradient_x_input": "gradient x input",
    "gradient_x_activation": "gradient x activation",
    "occlusion": "occlusion",
    "attn_lrp": "AttnLRP",
    "gradient_attention": "gradient x attention, rolled out over the blocks",
}
"""Name of a method in the code -> its name in a report."""


def find(attributions: Sequence[Attribution], task: str, modality: str) -> Attribution | None:
    """Return the first attribution of a modality for a task; None without one.

    Args:
        attributions: all of a patient.
        task: name of the task.
        modality: "labs", "ecg", "echo", "modalities", "views" or "slots".
    """
    return next(
        (attribution for attribution in attributions if (attribution.task, attribution.modality) == (task, modality)),
        None,
    )


def why_not_shown(attribution: Attribution) -> str:
    """Say in one sentence why an attribution is not shown."""
    method = METHOD_NAMES.get(attribution.method, attribution.method)
    what = MODALITY_NAMES.get(attribution.modality, attribution.modality)
    return f"{what}: {method} does not beat random order in the check of this model, so its map is not shown."


def method_text(attribution: Attribution) -> str:
    """Say by which method an attribution was computed, for which answer and compared with what, and its notes."""
    method = METHOD_NAMES.get(attribution.method, attribution.method)
    unit = "a map without a unit" if attribution.unit == "relative" else f"in {attribution.unit}"
    compared = "" if attribution.baseline in ("", "none") else f", compared with {attribution.baseline}"
    notes = "".join(f" {sentence(CHECK_NOTES.get(note, note))}" for note in attribution.notes)
    return f"Contributions to {attribution.target!r} by {method}, {unit}{compared}.{notes}"


def sentence(text: str) -> str:
    """Write a note as a sentence, with a capital letter and a full stop."""
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."


def contribution_rows(attribution: Attribution) -> list[dict[str, Any]]:
    """List the parts of an attribution with one labelled axis: {"name", "value", "bar"}. NaN is left out.

    Args:
        attribution: of modalities, views or anything else with one axis.
    """
    labels = attribution.axes[0].labels or tuple(map(str, range(attribution.values.shape[0])))
    present = [(name, float(value)) for name, value in zip(labels, attribution.values, strict=True) if value == value]
    largest = max((abs(value) for _, value in present), default=0.0)
    return [
        {
            "name": MODALITY_NAMES.get(name, name.replace("_", " ")),
            "value": value,
            "bar": contribution_bar(value, largest),
        }
        for name, value in present
    ]


def _shown_name(name: str) -> str:
    """Write the name of a modality or a view for a reader."""
    return MODALITY_NAMES.get(name, name.replace("_", " "))


def sum_sentence(attribution: Attribution) -> str:
    """Say what the contributions add up to; "" for a method that promises no sum."""
    if attribution.baseline_output is None or attribution.completeness_error is None:
        return ""
    total, start, end = (
        round(float(value), 2) + 0.0  # no "-0.00"
        for value in (np.nansum(attribution.values), attribution.baseline_output, attribution.output)
    )
    return f"They add up to {total:+.2f}: from {start:+.2f} without these inputs to {end:+.2f} with them."


def ecg_bands(attribution: Attribution | None, window_start: float) -> list[Band]:
    """Turn a map over leads and time into bands for the drawing.

    Args:
        attribution: with the axes lead, and token or sample in seconds of the model's window; None without.
        window_start: where the window begins, in seconds of the drawn recording.

    Returns:
        Bands with the strength relative to the largest absolute value of the map.
    """
    if attribution is None or [axis.name for axis in attribution.axes] not in (["lead", "token"], ["lead", "sample"]):
        return []
    time = attribution.axes[1]
    joined = max(1, round(FINEST_BAND / time.step))
    values = _averaged(attribution.values, joined)
    if not np.isfinite(values).any() or (largest := float(np.nanmax(np.abs(values)))) <= 0:
        return []
    leads = attribution.axes[0].labels or LEADS
    return list(_bands(values / largest, leads, window_start + time.start, time.step * joined))


def _averaged(values: np.ndarray, joined: int) -> np.ndarray:
    """Average (leads, positions) over groups of `joined` positions. A last group that is not full is filled with 0."""
    missing = -values.shape[1] % joined
    return np.pad(values, ((0, 0), (0, missing))).reshape(len(values), -1, joined).mean(axis=2)


def _bands(strengths: np.ndarray, leads: Sequence[str], start: float, step: float) -> Iterator[Band]:
    """Make one band for each finite value of (leads, positions)."""
    for lead, row in zip(leads, strengths, strict=True):
        for position, strength in enumerate(row):
            if np.isfinite(strength):
                yield Band(lead, start + position * step, start + (position + 1) * step, float(strength))


def lead_shares(attribution: Attribution | None) -> list[dict[str, Any]]:
    """List which share of the absolute contributions each lead has, largest first: {"name", "share"}."""
    if attribution is None or attribution.axes[0].name != "lead":
        return []
    sums = np.nansum(np.abs(attribution.values), axis=1)
    total = float(sums.sum()) or 1.0
    leads = attribution.axes[0].labels or LEADS
    usable = np.isfinite(attribution.values).any(axis=1)
    shares = [
        (lead, float(each) / total) for lead, each, is_usable in zip(leads, sums, usable, strict=True) if is_usable
    ]
    return [{"name": lead, "share": share} for lead, share in sorted(shares, key=lambda pair: -pair[1])]


def heat_table(attribution: Attribution) -> dict[str, Any]:
    """Make a table of numbers whose cells are shaded by their size: {"title", "columns", "rows"}.

    Args:
        attribution: with two labelled axes and values from 0 to 1, such as the slot map. NaN becomes an empty cell.
    """
    names, columns = (axis.labels or () for axis in attribution.axes)
    rows = [
        {"name": name, "cells": [None if value != value else float(value) for value in row]}
        for name, row in zip(names, attribution.values, strict=True)
    ]
    title = HEAT_TITLES.get(attribution.method, attribution.method.replace("_", " "))
    return {"title": f"{title} ({attribution.task})", "columns": columns, "rows": rows}


def plain(attribution: Attribution, largest_number: int = 2000) -> Mapping[str, Any]:
    """Return an attribution as JSON values. A map with more values keeps its 50 strongest positions only."""
    content = attribution.to_dict()
    if attribution.values.size > largest_number:
        content["values"] = None
        content["strongest"] = [{"at": list(at), "value": value} for at, value in attribution.strongest(50)]
    return content
