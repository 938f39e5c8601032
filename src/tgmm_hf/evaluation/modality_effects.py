"""How much the answers depend on each modality: a dead modality or a constant model is warned of."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from tgmm_hf.configuration_tasks import CANDIDATE_KINDS
from tgmm_hf.evaluation.predictions import Predictions
from tgmm_hf.utils.names import MODALITIES, join_names

FLOOR = 0.01
"""Smallest mean change of a probability that counts as an effect: one per cent, the last digit that people read."""
FEWEST = 20
"""Number of admissions from which a small effect is warned of."""


def modality_effects(predictions: Predictions, tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Measure for each task how much the probability of the last candidate depends on each modality.

    Args:
        predictions: Predictions under all subsets. Labels are not used.
        tasks: `TgmmConfig.tasks`. Tasks whose answers are not the probabilities of candidates are left out.

    Returns:
        Task -> {"spread", "n", "floor", "modalities"}. "spread" is the mean absolute deviation from the median over the
        n admissions, each answered on all that it has; it is 0 if everybody gets one answer. "modalities" is modality
        -> "change", the mean absolute change of the probability if the modality is taken away from the "n" admissions
        that have another one, too; and "spread_alone" of the answers from this modality alone, over "n_alone"
        admissions. A figure without admissions is None.
    """
    effects: dict[str, Any] = {}
    for task, settings in tasks.items():
        if settings["kind"] not in CANDIDATE_KINDS:
            continue
        table = predictions.table[predictions.table["task"] == task]
        wide = table.pivot(index="row", columns="subset", values="probability").dropna(how="all")
        largest_subset = pd.Series({row: _largest(values) for row, values in wide.notna().iterrows()}, dtype=object)
        whole = np.array([wide.at[row, subset] for row, subset in largest_subset.items()], dtype=np.float64)
        effects[task] = {"spread": _spread(whole), "n": len(whole), "floor": FLOOR, "modalities": {}}
        for modality in MODALITIES:
            effects[task]["modalities"][modality] = _effect_of(modality, wide, largest_subset, whole)
    return effects


def _largest(is_scored: pd.Series) -> str:
    """Name the largest subset that an admission was scored under. `is_scored` is subset -> bool."""
    return max((str(name) for name, scored in is_scored.items() if scored), key=lambda name: name.count("+"))


def _effect_of(modality: str, wide: pd.DataFrame, largest_subset: pd.Series, whole: np.ndarray) -> dict[str, Any]:
    """Measure the effect of one modality, see `modality_effects`.

    Args:
        modality: For example "ecg".
        wide: Probability by admission (rows) and subset (columns), NaN where not scored.
        largest_subset: The largest subset of each admission.
        whole: The probability under it.
    """
    without = [join_names([name for name in subset.split("+") if name != modality]) for subset in largest_subset]
    is_member = np.array(
        [
            modality in subset.split("+") and bool(smaller)
            for subset, smaller in zip(largest_subset, without, strict=True)
        ]
    )
    rows = [
        (row, smaller) for row, smaller, member in zip(largest_subset.index, without, is_member, strict=True) if member
    ]
    probability_without = np.array([wide.at[row, subset] for row, subset in rows], dtype=np.float64)
    alone = wide[modality].dropna().to_numpy(np.float64) if modality in wide else np.array([])
    change = float(np.abs(whole[is_member] - probability_without).mean()) if len(probability_without) else None
    return {"change": change, "n": len(probability_without), "spread_alone": _spread(alone), "n_alone": len(alone)}


def _spread(probability: np.ndarray) -> float | None:
    """Return the mean absolute deviation from the median; None for no values."""
    return float(np.abs(probability - np.median(probability)).mean()) if len(probability) else None


def effect_warnings(effects: Mapping[str, Any]) -> list[str]:
    """List warnings about tasks whose answers hardly move, at all or with a modality.

    Args:
        effects: The result of `modality_effects`.
    """
    warnings = []
    for task, effect in effects.items():
        if effect["n"] >= FEWEST and _is_small(effect["spread"]):
            warnings.append(
                f"{task}: all patients get nearly the same answer (mean deviation {effect['spread']:.4f}, floor "
                f"{FLOOR:g}): the model does not use its inputs."
            )
            continue
        for modality, each in effect["modalities"].items():
            reasons = []
            if each["n"] >= FEWEST and _is_small(each["change"]):
                reasons.append(f"taking it away changes the probability by {each['change']:.4f} on average")
            if each["n_alone"] >= FEWEST and _is_small(each["spread_alone"]):
                reasons.append(
                    f"alone it gives everybody nearly one answer (mean deviation {each['spread_alone']:.4f})"
                )
            if reasons:
                warnings.append(
                    f"{task}: the answers hardly depend on {modality}: {', and '.join(reasons)} (floor {FLOOR:g})."
                )
    return warnings


def _is_small(value: float | None) -> bool:
    """Tell whether an effect is below the floor. A missing one is not."""
    return value is not None and value < FLOOR
