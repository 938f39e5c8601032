"""Types of a task's settings: a configuration that was edited by hand is refused by the name of the setting."""

from collections.abc import Callable, Collection, Mapping
from typing import Any


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_level(value: Any) -> bool:
    return _is_number(value) and 0 < value < 1


def _list_of(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Return a function that tells whether a value is a list whose entries are all right."""
    return lambda value: isinstance(value, list | tuple) and all(map(is_right, value))


def _is_hazards(value: Any) -> bool:
    """Tell whether a value is subset -> baseline hazard. `cumulative_incidence` checks what a hazard holds."""
    return isinstance(value, Mapping) and all(
        isinstance(hazard, Mapping) and _is_range(hazard.get("risk_range")) for hazard in value.values()
    )


def _is_range(value: Any) -> bool:
    return _list_of(_is_number)(value) and len(value) == 2


def _is_sets(value: Any) -> bool:
    """Tell whether a value is stored prediction sets: {"subsets": {subset: {"thresholds": {level: [...]}}}, ...}."""
    if not (isinstance(value, Mapping) and isinstance(value.get("subsets"), Mapping)):
        return False
    of_subsets = [
        subset.get("thresholds") if isinstance(subset, Mapping) else None for subset in value["subsets"].values()
    ]
    is_thresholds = _list_of(lambda each: each is None or _is_number(each))
    return all(isinstance(levels, Mapping) and all(map(is_thresholds, levels.values())) for levels in of_subsets)


def _is_name(value: Any) -> bool:
    return _is_text(value) and value.strip() == value != ""


def _is_intervals(value: Any) -> bool:
    """Tell whether a value is stored prediction intervals: {"subsets": {subset: {"half_widths": {level: number}}}}."""
    if not (isinstance(value, Mapping) and _of_subsets(value.get("subsets"), ("half_widths",))):
        return False
    widths = [stored["half_widths"] for stored in value["subsets"].values()]
    return all(
        isinstance(by_level, Mapping) and all(width is None or _is_number(width) for width in by_level.values())
        for by_level in widths
    )


def _is_finding_calibration(value: Any) -> bool:
    """Tell whether a value is {"subsets": {subset: {finding: {"threshold", "temperature"}}}}."""
    if not (isinstance(value, Mapping) and isinstance(value.get("subsets"), Mapping)):
        return False
    return all(_of_subsets(subset, ("threshold", "temperature")) for subset in value["subsets"].values())


def _of_subsets(value: Any, keys: tuple[str, ...]) -> bool:
    """Tell whether a value has, for each subset of modalities, a mapping with these keys."""
    return isinstance(value, Mapping) and all(
        isinstance(stored, Mapping) and all(key in stored for key in keys) for stored in value.values()
    )


TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "question": (_is_text, "a text"),
    "learnable_phrase": (_is_text, "a text"),
    "candidates": (_list_of(_is_text), "a list of texts"),
    "num_learnable_tokens": (_is_count, "a whole number"),
    "insert_position": (_is_count, "a whole number"),
    "weight": (_is_number, "a number"),
    "loss_weights": (lambda value: isinstance(value, Mapping) and all(map(_is_number, value.values())), "numbers"),
    "horizon_days": (_is_number, "a number of days"),
    "report_days": (_list_of(_is_number), "a list of days"),
    "margin": (_is_number, "a number"),
    "temperature": (_is_number, "a number"),
    "slot_reading": (lambda value: value in ("together", "slot_by_slot"), "'together' or 'slot_by_slot'"),
    "question_ids": (_list_of(_is_count), "a list of token ids"),
    "phrase_ids": (_list_of(_is_count), "a list of token ids"),
    "candidate_ids": (_list_of(_list_of(_is_count)), "a list of token ids for each candidate"),
    "baseline_hazards": (_is_hazards, "baseline hazards as `tgmm train` writes them"),
    "thresholds": (lambda value: _of_subsets(value, ("value",)), "thresholds as `tgmm train` writes them"),
    "validation_answers": (
        lambda value: _of_subsets(value, ("n", "quantiles")),
        "answers of validation patients as `tgmm train` writes them",
    ),
    "prediction_sets": (_is_sets, "prediction sets as `tgmm train` writes them"),
    "unit": (_is_text, "a text"),
    "range": (lambda value: _is_range(value) and value[0] < value[1], "two numbers, the smaller one first"),
    "loss": (_is_text, "a text"),
    "cut_points": (_list_of(_is_number), "a list of numbers in the unit of the task"),
    "center": (_is_number, "a number"),
    "scale": (lambda value: _is_number(value) and value > 0, "a number above 0"),
    "findings": (
        lambda value: _list_of(_is_name)(value) and len(value) > 0 and len(set(value)) == len(value),
        "a list of different texts, at least one",
    ),
    "training_values": (
        lambda value: isinstance(value, Mapping) and all(key in value for key in ("n", "mean", "median")),
        "figures of the training patients as `tgmm train` writes them",
    ),
    "prediction_intervals": (_is_intervals, "prediction intervals as `tgmm train` writes them"),
    "finding_calibration": (_is_finding_calibration, "a calibration as `tgmm train` writes it"),
    "set_levels": (
        lambda value: _list_of(_is_level)(value) and len(value) > 0,
        "a list of numbers between 0 and 1, such as [0.9, 0.95]",
    ),
}
"""Setting of a task -> function that tells whether a value may be, and what is expected in words."""


def check_task_types(name: str, task: Mapping[str, Any]) -> None:
    """Refuse a task with a setting of the wrong type. A setting that is not there is not checked.

    Args:
        name: name of the task, for the message.
        task: settings of the task.

    Raises:
        ValueError: on the first wrong setting.
    """
    for setting, (is_right, expected) in TYPES.items():
        if setting in task and not is_right(task[setting]):
            value = repr(task[setting])
            shown = value if len(value) <= 80 else f"{value[:80]} ..."
            raise ValueError(f"Task {name!r}: {setting} must be {expected}, got {shown}")
    sets = task.get("prediction_sets") or {}
    candidates = len(task.get("candidates", ()))
    for subset, stored in sets.get("subsets", {}).items():
        if any(len(thresholds) != candidates for thresholds in stored["thresholds"].values()):
            raise ValueError(f"Task {name!r}: the prediction sets of {subset} need {candidates} thresholds a level.")


def check_token_ids(tasks: Mapping[str, Mapping[str, Any]], answer_ids: Collection[int], vocabulary: int) -> None:
    """Refuse tasks whose token ids the model does not have.

    Args:
        tasks: name -> settings, with token ids.
        answer_ids: `config.answer_token_ids`.
        vocabulary: number of tokens of the text encoder.

    Raises:
        ValueError: if an id of a question or a phrase is outside the vocabulary, or an id of a candidate is none of the
            answers' ids.
    """
    for name, task in tasks.items():
        outside = [
            token for key in ("question_ids", "phrase_ids") for token in task.get(key, ()) if token >= vocabulary
        ]
        unknown = {token for ids in task.get("candidate_ids", ()) for token in ids} - set(answer_ids)
        if outside or unknown:
            raise ValueError(
                f"Task {name!r} has token ids that the model lacks: {[*outside, *sorted(unknown)][:5]}. Tokenize the "
                "tasks again with the tokenizer of the model (config.tokenize_tasks)."
            )
