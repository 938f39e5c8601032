"""Prediction sets of a diagnosis: the candidates that cannot be left out at a level such as 90 %.

Split-conformal prediction (Vovk et al., Algorithmic Learning in a Random World, 2005), with the probability of the
candidate as score (Sadinle et al., JASA 2019;114:223) and one threshold for each candidate (class-conditional, also
called Mondrian), because coverage over all patients would hide the rare sick ones. `tgmm train` finds the thresholds on
validation patients (evaluation/prediction_sets.py), one set of them for each subset of modalities.

A candidate is in the set if its probability reaches its threshold. Of new patients of the same kind with that
condition, at least the share `level` then has it in the set.
"""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

SETS_KEY = "prediction_sets"
"""Key of a task in the configuration: {"subsets": {subset: thresholds}, "weights", "fitted_on"}."""
LEVELS_KEY = "set_levels"
"""Key of a task in the configuration: the levels that are fitted, the main one first."""
DEFAULT_LEVELS = (0.9,)


def rank_of_threshold(number: int, level: float) -> int:
    """Compute which of the n highest probabilities of validation patients is the threshold: ceil((n + 1) level).

    Above n there is none: with so few patients the candidate can never be left out. `level` is taken as it is written,
    because (9 + 1) * 0.9 is more than 9 in binary numbers.
    """
    return math.ceil((number + 1) * Fraction(str(level)))


def fewest_patients(level: float) -> int:
    """Compute the smallest number of validation patients with a condition that gives a threshold: 9 at level 0.9."""
    exact = Fraction(str(level))
    return math.ceil(exact / (1 - exact))


def candidates_in_set(probabilities: Sequence[float], thresholds: Sequence[float | None] | None) -> list[int]:
    """List the indices of the candidates that are in the set of one patient.

    Without a threshold for every candidate, and where no candidate reaches its threshold, all candidates are in the
    set. An empty set would be read as "nothing is wrong", and a larger set keeps the level.

    Args:
        probabilities: of the C candidates.
        thresholds: of the C candidates; None for a candidate, or at all, if there were too few validation patients.
    """
    everything = list(range(len(probabilities)))
    if thresholds is None or any(threshold is None for threshold in thresholds):
        return everything
    kept = [i for i in everything if probabilities[i] >= float(thresholds[i] or 0.0)]
    return kept or everything


def thresholds_at(sets: Mapping[str, Any], subset: str, level: float) -> list[float | None] | None:
    """Look up the thresholds of a task's stored sets for a subset of modalities; None if there are none."""
    stored = sets.get("subsets", {}).get(subset, {}).get("thresholds", {})
    return stored.get(f"{level:g}")


def levels_of(task: Mapping[str, Any]) -> list[float]:
    """List the levels of a task's prediction sets, the main one first."""
    return [float(level) for level in task.get(LEVELS_KEY) or DEFAULT_LEVELS]


def describe_set(
    name: str, task: Mapping[str, Any], probabilities: Sequence[float], subset: str, level: float, is_fitting: bool
) -> tuple[dict[str, Any], list[str]]:
    """Describe the prediction set of one patient in words.

    Args:
        name: name of the task, for notes.
        task: settings of the task, with stored sets.
        probabilities: of the task's candidates.
        subset: modalities that the patient has, such as "labs+ecg".
        level: for example 0.9.
        is_fitting: False if the sets were fitted for other weights, so that nothing is left out.

    Returns:
        {"level", "candidates": [names], "text"} and notes that say why nothing could be left out. The text is the name
        of the only candidate, or "cannot say at 90 %".
    """
    candidates = list(task["candidates"])
    thresholds = thresholds_at(task[SETS_KEY], subset, level) if is_fitting else None
    kept = candidates_in_set(probabilities, thresholds)
    names = [candidates[index] for index in kept]
    if len(names) == 1:
        text = names[0]
    elif len(names) < len(candidates):
        text = " or ".join(names)
    else:
        text = f"cannot say at {100 * level:g} %"
    notes = []
    if not is_fitting:
        notes.append(f"{name}: the prediction sets were fitted for other weights, so that nothing can be left out")
    elif thresholds is None or None in thresholds:
        notes.append(
            f"{name}: too few validation patients with {subset} for a prediction set at {100 * level:g} % "
            f"({fewest_patients(level)} are needed for each candidate), so that nothing can be left out"
        )
    elif len(kept) == len(candidates) and not any(p >= t for p, t in zip(probabilities, thresholds, strict=True)):
        notes.append(
            f"{name}: at {100 * level:g} % no candidate is as probable as for validation patients with it, so that "
            "nothing is left out"
        )
    return {"level": level, "candidates": names, "text": text}, notes


__all__ = [
    "DEFAULT_LEVELS",
    "LEVELS_KEY",
    "SETS_KEY",
    "candidates_in_set",
    "describe_set",
    "fewest_patients",
    "levels_of",
    "rank_of_threshold",
    "thresholds_at",
]
