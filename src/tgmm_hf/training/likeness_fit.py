"""Fit the description of training inputs that `inputs/training_likeness.py` compares an input with."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tgmm_hf.inputs.training_likeness import LARGEST, Likeness, scores_of

FEWEST_PATIENTS = 100
"""With fewer patients no limit holds a rate of 1 % of false alarms, so nothing is fitted."""
FALSE_ALARMS = (0.007, 0.003)
"""Largest shares of patients like those of the training that are marked by each of both scores: 1 % for a modality."""
FEWEST_VALUES = 50
"""A number that fewer training inputs have is not compared."""
FEWEST_OF_A_GROUP = 30
"""A view with fewer training clips is compared with all clips."""
MOST_COMPONENTS, INPUTS_PER_COMPONENT = 60, 8
TAIL = 0.05
"""Share of the training inputs that make a tail."""
FOLDS = 5
SMALLEST, SMALLEST_SHARE = 0.02, 0.1
"""Smallest distance from the middle that counts as one: absolute, and as a share of the widest number of the same kind.
A number that hardly ever changes in the training, such as the black of a cell, would set the limit otherwise."""
SMALLEST_TAIL, SMALLEST_REST = 0.2, 0.1
"""Smallest size of a tail (a normal distribution has 0.26 by itself, 0.38 in deviations of the rest), and smallest
deviation of a number from what the components say, in distances."""
NEIGHBOURS = 5
"""A stored quantile is the mean of this many neighbouring values, so that it is no value of one patient."""
FILLINGS = 3
"""How often missing numbers are filled with their expectation before the components are fitted again."""


@dataclass(frozen=True)
class Summaries:
    """Numbers of the inputs of one modality.

    Attributes:
        names: of the numbers.
        values: (inputs, numbers); NaN where an input does not have a number.
        groups: of each input, such as its view; "" without groups.
        patients: of each input, a number.
    """

    names: tuple[str, ...]
    values: np.ndarray
    groups: tuple[str, ...]
    patients: np.ndarray

    def part(self, chosen: np.ndarray) -> "Summaries":
        """Return the inputs where `chosen` (inputs,) is True."""
        groups = tuple(group for group, is_chosen in zip(self.groups, chosen, strict=True) if is_chosen)
        return Summaries(self.names, self.values[chosen], groups, self.patients[chosen])


def collect(inputs: Sequence[tuple[int, str, dict[str, float]]], names: Sequence[str] | None = None) -> Summaries:
    """Put the numbers of inputs into one table.

    Args:
        inputs: (patient, group, name -> value) of each input.
        names: of the numbers. With None, a number is taken if at least `FEWEST_VALUES` inputs have it.
    """
    if names is None:
        counts = Counter(name for _, _, values in inputs for name in values)
        names = sorted(name for name, count in counts.items() if count >= FEWEST_VALUES)
    values = np.array([[numbers.get(name, np.nan) for name in names] for _, _, numbers in inputs], np.float64)
    return Summaries(
        tuple(names),
        values.reshape(len(inputs), len(names)),
        tuple(group for _, group, _ in inputs),
        np.array([patient for patient, _, _ in inputs], int),
    )


def fit_likeness(training: Summaries, validation: Summaries, unit: str = "inputs") -> dict[str, Any] | None:
    """Fit the description of one modality, and its limit.

    The limit is the conformal quantile of scores of patients that the fit did not see: of the validation patients, and
    of each fifth of the training patients by a fit to the others. The score of a patient is that of the worst input.

    Args:
        training: numbers of the training inputs.
        validation: numbers of the validation inputs, with the same names.
        unit: what an input is called, for messages.

    Returns:
        What `Likeness` takes, JSON-able; None with too few patients, without numbers or without a finite limit.
    """
    patients = len(set(training.patients)) + len(set(validation.patients))
    if patients < FEWEST_PATIENTS or not training.names or len(training.values) < FEWEST_VALUES:
        return None
    stored = _fit(training)
    scores = [_patient_scores(stored, validation)]
    folds = training.patients % FOLDS
    for fold in range(FOLDS):
        if (folds == fold).any() and (folds != fold).any():
            scores.append(_patient_scores(_fit(training.part(folds != fold)), training.part(folds == fold)))
    ordered = np.sort(np.concatenate(scores), axis=0)
    ranks = np.ceil((len(ordered) + 1) * (1 - np.array(FALSE_ALARMS))).astype(int)
    limits = ordered[np.minimum(ranks, len(ordered)) - 1, [0, 1]]
    if not np.isfinite(limits).all():
        return None
    stored |= {"limits": limits, "number": len(training.values), "unit": unit}
    return {key: _rounded(value) for key, value in stored.items()}


def _patient_scores(stored: dict[str, Any], inputs: Summaries) -> np.ndarray:
    """Return the largest scores of each patient's inputs, (patients, 2)."""
    if not len(inputs.values):
        return np.zeros((0, 2))
    scores = scores_of(Likeness(stored).excess(inputs.values, inputs.groups))
    return np.array([scores[inputs.patients == patient].max(axis=0) for patient in np.unique(inputs.patients)])


def _fit(inputs: Summaries) -> dict[str, Any]:
    """Fit everything but the limit."""
    values = inputs.values
    centres = {"": _middles(values)}
    for group, count in Counter(inputs.groups).items():
        if group and count >= FEWEST_OF_A_GROUP:
            chosen = np.array(inputs.groups) == group
            middles = _middles(values[chosen])
            centres[group] = np.where(np.isnan(middles), centres[""], middles)
    number = values.shape[1]
    plain: dict[str, Any] = {"low": np.ones(number), "high": np.ones(number), "mean": np.zeros(number)}
    plain |= {"components": np.zeros((1, number)), "usual": np.zeros((2, number)), "spread": np.ones(1)}
    plain |= {"rest": np.ones(number), "share": _end_share(values)}
    plain |= {key: np.ones((2, number)) for key in ("above", "below", "left")}
    start: dict[str, Any] = {"names": list(inputs.names), "centres": centres, "limits": (0, 0), "number": 0}
    apart = Likeness({**start, **plain}).distances(values, inputs.groups)
    floor = _floors(inputs.names, _quantile(apart, 1 - TAIL) - _quantile(apart, TAIL))
    ends = ((-1, TAIL), (1, 1 - TAIL))
    low, high = (np.maximum(np.nan_to_num(sign * _quantile(apart, share)), floor) for sign, share in ends)
    usual = np.stack([_quantile(apart, plain["share"]), _quantile(apart, 1 - plain["share"])])
    fitted = start | plain | {"low": low, "high": high, "usual": np.nan_to_num(usual)}
    signed = np.where(apart > 0, apart / high, apart / low)
    fitted |= {"above": _tail(np.maximum(signed, 0), SMALLEST_TAIL)}
    fitted |= {"below": _tail(np.maximum(-signed, 0), SMALLEST_TAIL)}
    return _fit_components(fitted, np.clip(signed, -LARGEST, LARGEST))


def _fit_components(fitted: dict[str, Any], near: np.ndarray) -> dict[str, Any]:
    """Add the means, the components and what they leave.

    Args:
        fitted: what `Likeness` takes; its means, components and rest are replaced.
        near: (inputs, numbers) signed distances, NaN where a number is missing.
    """
    is_there = ~np.isnan(near)
    mean = np.where(is_there, near, 0.0).sum(axis=0) / np.maximum(is_there.sum(axis=0), 1)
    near = np.where(is_there, near - mean, 0.0)
    count = max(1, min(MOST_COMPONENTS, len(near) // INPUTS_PER_COMPONENT, near.shape[1] // 2))
    filled = near
    for _ in range(1 if is_there.all() else FILLINGS):
        _, directions = np.linalg.eigh(filled.T @ filled)
        components = directions[:, ::-1][:, :count].T
        parts = filled @ components.T
        left = np.where(is_there, near - parts @ components, 0.0)
        rest = np.square(left).sum(axis=0) / np.maximum(is_there.sum(axis=0), 1)
        fitted |= {"mean": mean, "components": components, "spread": np.maximum(parts.std(axis=0), SMALLEST)}
        # Where few components stand for many numbers, a rest far below the mean is mostly chance.
        floor = max(SMALLEST_REST**2, (1 - 2 * count / near.shape[1]) * float(rest.mean()))
        fitted |= {"rest": np.maximum(rest, floor)}
        deviations, expected, _ = Likeness(fitted).conditional(near, is_there)
        filled = np.where(is_there, near, expected)
    return fitted | {"left": _tail(np.where(deviations != 0, np.abs(deviations), np.nan), SMALLEST_TAIL)}


def _middles(values: np.ndarray) -> np.ndarray:
    """Return the medians of the columns; NaN for a column without numbers."""
    return _quantile(values, 0.5)


def _quantile(values: np.ndarray, share: float | np.ndarray) -> np.ndarray:
    """Return a quantile of each column (inputs, columns) without its NaN: the mean of `NEIGHBOURS` ordered values.

    The quantile is NaN for a column with fewer values. `share` may differ by column (columns,).
    """
    counts = (~np.isnan(values)).sum(axis=0)
    middle = np.rint(share * np.maximum(counts - 1, 0)).astype(int)
    first = np.clip(middle - NEIGHBOURS // 2, 0, np.maximum(counts - NEIGHBOURS, 0))
    places = np.minimum(first + np.arange(NEIGHBOURS)[:, None], len(values) - 1)
    ordered = np.sort(values, axis=0)  # NaN comes last
    return np.asarray(ordered[places, np.arange(values.shape[1])].mean(axis=0))


def _end_share(values: np.ndarray) -> np.ndarray:
    """Return the share of each column (inputs, columns) that lies beyond either end of its usual range.

    It is 1 %, or more in a column of few values, because an end is the mean of `NEIGHBOURS` values.
    """
    counts = (~np.isnan(values)).sum(axis=0)
    return np.asarray(np.clip(NEIGHBOURS / 2 / np.maximum(counts, 1), 0.01, 0.5))


def _floors(names: Sequence[str], widths: np.ndarray) -> np.ndarray:
    """Return the smallest distance of each number that counts as one.

    Args:
        names: of the numbers. Those with the same first part are of one kind.
        widths: of the middle 90 % of each number.
    """
    kinds = [name.partition(".")[0] for name in names]
    widest: dict[str, float] = {}
    for kind, width in zip(kinds, np.nan_to_num(widths).tolist(), strict=True):
        widest[kind] = max(widest.get(kind, 0.0), width)
    return np.array([max(SMALLEST, SMALLEST_SHARE * widest[kind]) for kind in kinds])


def _tail(values: np.ndarray, smallest: float) -> np.ndarray:
    """Return where the tail of each column begins and the mean by which its values exceed this, (2, columns).

    The tail is `TAIL` of the values, and at least `NEIGHBOURS` values.

    Args:
        values: (inputs, columns); NaN is left out.
        smallest: smallest mean.
    """
    sizes = (~np.isnan(values)).sum(axis=0)
    begin = np.nan_to_num(_quantile(values, 1 - np.clip(NEIGHBOURS / np.maximum(sizes, 1), TAIL, 0.5)))
    over = np.where(values > begin, values - begin, 0.0)
    counts = np.maximum((over > 0).sum(axis=0), 1)
    return np.stack([begin, np.maximum(over.sum(axis=0) / counts, smallest)])


def _rounded(value: Any) -> Any:
    """Round arrays to four digits, as lists."""
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, np.ndarray):
        return np.array([float(f"{number:.4g}") for number in value.ravel()]).reshape(value.shape).tolist()
    return value


__all__ = ["FALSE_ALARMS", "FEWEST_PATIENTS", "Summaries", "collect", "fit_likeness"]
