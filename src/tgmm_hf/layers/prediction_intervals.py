"""Prediction interval of a regression: where the measured value lies for 90 % of patients, say.

`tgmm train` finds the half-widths on validation patients (evaluation/prediction_intervals.py), one for each subset of
modalities and level. Decision 209.
"""

from collections.abc import Mapping
from typing import Any

from ..configuration_measured_tasks import INTERVALS_KEY
from .prediction_sets import fewest_patients, levels_of


def half_width_at(stored: Mapping[str, Any], subset: str, level: float) -> float | None:
    """Look up the half-width of a task's stored intervals for a subset; None if there is none."""
    width = stored.get("subsets", {}).get(subset, {}).get("half_widths", {}).get(f"{level:g}")
    return None if width is None else float(width)


def describe_value(
    name: str, task: Mapping[str, Any], value: float, deviation: float | None, subset: str, is_fitting: bool
) -> tuple[dict[str, Any], list[str]]:
    """Describe the number of one patient.

    A number outside the range of the task is given as it is, and marked.

    Args:
        name: name of the task, for notes.
        task: settings of the task.
        value: the model's number, in the unit of the task.
        deviation: its predicted standard deviation, if the model gives one.
        subset: modalities that the patient has, such as "labs+ecg".
        is_fitting: False if the intervals were fitted for other weights, so that none is given.

    Returns:
        {"value", "unit", "range", "in_range", "deviation" if there is one, "interval": {"level", "low", "high",
        "text"} at the main level, "intervals": of all levels if there are several}; and notes.
    """
    low, high = task["range"]
    unit = task["unit"]
    answer: dict[str, Any] = {"value": value, "unit": unit, "range": [low, high], "in_range": low <= value <= high}
    notes = []
    if not answer["in_range"]:
        notes.append(f"{name}: {value:.4g} {unit} lies outside the range of the task ({low:g} to {high:g} {unit})")
    if deviation is not None:
        answer["deviation"] = deviation
    stored = task.get(INTERVALS_KEY)
    if not stored:
        return answer, notes
    if not is_fitting:
        notes.append(f"{name}: the prediction intervals were fitted for other weights, so that none is given")
        return answer, notes
    intervals = []
    for level in levels_of(task):
        width = half_width_at(stored, subset, level)
        if width is None:
            notes.append(
                f"{name}: too few validation patients with {subset} for a prediction interval at {100 * level:g} % "
                f"({fewest_patients(level)} are needed)"
            )
            continue
        half = width if deviation is None else width * deviation
        text = f"{value - half:.4g} to {value + half:.4g} {unit} at {100 * level:g} %"
        intervals.append({"level": level, "low": value - half, "high": value + half, "text": text})
    if intervals:
        answer["interval"] = intervals[0]
    return answer | ({"intervals": intervals} if len(intervals) > 1 else {}), notes


__all__ = ["describe_value", "half_width_at"]
