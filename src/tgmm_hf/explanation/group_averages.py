"""Averages of explanations over groups of patients: what the model rests on as a rule (paper, figure 8).

`tgmm evaluate --explain N` uses them. A mean of contributions says in which direction a part moves the answers of a
group. A mean of absolute contributions says how much it moves them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tgmm_hf.data.collator import TgmmCollator
from tgmm_hf.explanation.attribution import Attribution
from tgmm_hf.explanation.explain import methods_of, steps
from tgmm_hf.explanation.modalities import explain_modalities
from tgmm_hf.explanation.prepared_patient import PreparedPatient
from tgmm_hf.explanation.scoring import Question, question_of
from tgmm_hf.explanation.slots import explain_slots, mean_of
from tgmm_hf.explanation.verified import best_method, is_shown, marked, stored_check

SMALLEST_SHOWN = 10
"""Fewer patients get no average, because it might tell about one of them."""
ALL = "all patients"
MAPS = ("labs", "ecg")
"""Modalities whose maps are averaged. Echo maps are not, because the regions of two hearts do not lie alike."""


@dataclass(frozen=True)
class Explained:
    """One patient: outcome ("positive", "negative" or None where it is unknown) and attributions."""

    outcome: str | None
    attributions: tuple[Attribution, ...]


def explain_groups(  # noqa: PLR0913 - what is explained, of whom, and how many
    model: Any,
    processor: Any,
    rows: Any,
    task: str,
    patients: int,
    seed: int,
    progress: Callable[[Sequence[int]], Any] = lambda numbers: numbers,
) -> dict[str, Any]:
    """Explain patients that are drawn at random, and average over groups by outcome.

    Args:
        model: `TgmmModel`.
        processor: its `TgmmProcessor`.
        rows: prepared rows of a split.
        task: a diagnosis or a prognosis of the model.
        patients: largest number of patients.
        seed: seed of the draw and of SHAP's permutations.
        progress: wraps the positions of the patients, for example to draw a progress bar.

    Returns:
        {"target", "unit", "methods": modality -> name, "not_shown": modalities whose method failed the check beside the
        model, "groups": name -> `average`}. JSON-able.

    Raises:
        ValueError: if the model has no such task, or the task has no score.
    """
    question, check = question_of(model.config.tasks, task), stored_check(model)
    methods = {name: (best_method(check, task, name) or methods_of(model)[name][0],) for name in MAPS}
    collator = TgmmCollator(processor, model.config, training=False, seed=seed)
    drawn = np.random.default_rng(seed).permutation(len(rows))[:patients]
    explained = []
    for number in progress(sorted(int(row) for row in drawn)):
        case = PreparedPatient(model, processor, collator, rows[number], question)
        maps = steps(case.score, processor, case.labs, methods, seed)
        attributions = [explain_modalities(case.score), *explain_slots(case.score)]
        attributions += [marked(method(), check) for _, _, method in maps]
        explained.append(Explained(_outcome(rows[number], question), tuple(attributions)))
    groups = {ALL: explained}
    for outcome in ("positive", "negative"):
        groups[outcome] = [patient for patient in explained if patient.outcome == outcome]
    failed = {
        attribution.modality
        for patient in explained
        for attribution in patient.attributions
        if not is_shown(attribution)
    }
    return {
        "target": question.target,
        "unit": question.unit,
        "methods": {name: chosen[0] for name, chosen in methods.items()},
        "not_shown": sorted(failed),
        "groups": {name: average(members) for name, members in groups.items()},
    }


def _outcome(row: Mapping[str, Any], question: Question) -> str | None:
    """Tell the outcome of a patient: the candidate that is explained or another one; an observed event or none."""
    key = "label" if question.kind == "diagnosis" else "event"
    value = row.get(f"{key}_{question.task}")
    if value is None or value != value:  # prepared rows hold NaN for an unknown label
        return None
    positive = question.index if question.kind == "diagnosis" else 1
    return "positive" if int(value) == positive else "negative"


def average(members: Sequence[Explained]) -> dict[str, Any]:
    """Average the explanations of a group.

    Args:
        members: the patients of the group.

    Returns:
        {"n"}, and with `SMALLEST_SHOWN` patients or more: "modalities", "views" and "labs", name -> {"mean",
        "mean_absolute", "n"}; "ecg", lead -> mean share of the absolute contributions; and each map of the slots by its
        name, {"rows", "columns", "values", "n"}. A part with fewer patients is left out, like a map of a method that
        failed the check.
    """
    result: dict[str, Any] = {"n": len(members)}
    if len(members) < SMALLEST_SHOWN:
        return result
    for modality in ("modalities", "views", "labs"):
        result[modality] = _mean_by_name(_of(members, modality))
    result["ecg"] = _lead_shares(_of(members, "ecg"))
    slots = _of(members, "slots")
    for method in dict.fromkeys(attribution.method for attribution in slots):
        maps = [attribution for attribution in slots if attribution.method == method]
        if len(maps) >= SMALLEST_SHOWN:
            mean = mean_of(maps)
            values = [[None if value != value else float(value) for value in row] for row in mean.values]
            names = [list(axis.labels or ()) for axis in mean.axes]
            result[method] = {"rows": names[0], "columns": names[1], "values": values, "n": len(maps)}
    return result


def _of(members: Sequence[Explained], modality: str) -> list[Attribution]:
    """List the attributions of a modality that may be shown."""
    return [
        attribution
        for patient in members
        for attribution in patient.attributions
        if attribution.modality == modality and is_shown(attribution)
    ]


def _mean_by_name(attributions: Sequence[Attribution]) -> dict[str, dict[str, Any]]:
    """Average values with one labelled axis by their names, largest mean of the absolute values first."""
    values: dict[str, list[float]] = {}
    for attribution in attributions:
        for name, value in zip(attribution.axes[0].labels or (), attribution.values, strict=True):
            if value == value:
                values.setdefault(name, []).append(float(value))
    means = {
        name: {"mean": float(np.mean(of)), "mean_absolute": float(np.mean(np.abs(of))), "n": len(of)}
        for name, of in values.items()
        if len(of) >= SMALLEST_SHOWN
    }
    return dict(sorted(means.items(), key=lambda item: -item[1]["mean_absolute"]))


def _lead_shares(attributions: Sequence[Attribution]) -> dict[str, float]:
    """Average the share of the absolute contributions that each lead has."""
    if len(attributions) < SMALLEST_SHOWN:
        return {}
    shares = []
    for attribution in attributions:
        sums = np.nansum(np.abs(attribution.values), axis=1)
        shares.append(sums / (sums.sum() or 1.0))
    labels = attributions[0].axes[0].labels or ()
    return {str(lead): float(share) for lead, share in zip(labels, np.mean(shares, axis=0), strict=True)}
