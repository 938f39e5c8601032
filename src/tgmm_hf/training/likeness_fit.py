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
SMALLEST_TAIL, SMALLEST_REST = 0.2, 0.05
"""Smallest sizes of a tail, in distances: of numbers by themselves (a normal distribution has 0.26), of their rest."""


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
        names: of the numbers; None for those that at least `FEWEST_VALUES` inputs have.
    """
    if names is None:
        counts = Counter(name for _, _, values in inputs for name in values)
        names = sorted(name for name, count in counts.items() if count >= FEWEST_VALUES)
    values = np.array([[each.get(name, np.nan) for name in names] for _, _, each in inputs], np.float64)
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
        What `Likeness` takes, JSON-able; None with too few patients or without numbers.
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
            chosen = np.array([each == group for each in inputs.groups])
            middles = _middles(values[chosen])
            centres[group] = np.where(np.isnan(middles), centres[""], middles)
    number = values.shape[1]
    plain: dict[str, Any] = {"low": np.ones(number), "high": np.ones(number), "mean": np.zeros(number)}
    plain |= {"components": np.zeros((1, number)), "usual": np.zeros((2, number)), "spread": np.ones(1), "rest": 1.0}
    plain |= {key: np.ones((2, number)) for key in ("above", "below", "left")}
    start: dict[str, Any] = {"names": list(inputs.names), "centres": centres, "limits": (0, 0), "number": 0}
    apart = Likeness({**start, **plain}).distances(values, inputs.groups)
    floor = _floors(inputs.names, _quantile(apart, 1 - TAIL) - _quantile(apart, TAIL))
    low, high = (np.maximum(sign * _quantile(apart, share), floor) for sign, share in ((-1, TAIL), (1, 1 - TAIL)))
    fitted = start | {"low": low, "high": high, "usual": np.stack([_quantile(apart, 0.01), _quantile(apart, 0.99)])}
    signed = np.where(apart > 0, apart / high, apart / low)
    fitted |= {"above": _tail(np.maximum(signed, 0), SMALLEST_TAIL)}
    fitted |= {"below": _tail(np.maximum(-signed, 0), SMALLEST_TAIL)}
    near = np.where(np.isnan(signed), 0.0, np.clip(signed, -LARGEST, LARGEST))
    mean = near.mean(axis=0)
    _, directions = np.linalg.eigh((near - mean).T @ (near - mean))
    count = max(1, min(MOST_COMPONENTS, len(values) // INPUTS_PER_COMPONENT, number // 2))
    components = directions[:, ::-1][:, :count].T
    parts = (near - mean) @ components.T
    left = np.where(np.isnan(signed), np.nan, np.abs(near - mean - parts @ components))
    spread = np.maximum(parts.std(axis=0), SMALLEST)
    rest = float(np.nan_to_num(np.square(left)).mean()) + SMALLEST**2
    fitted |= {"mean": mean, "components": components, "left": _tail(left, SMALLEST_REST)}
    return fitted | {"spread": spread, "rest": rest}


def _middles(values: np.ndarray) -> np.ndarray:
    """Return the medians of the columns; NaN for a column without numbers."""
    return _quantile(values, 0.5)


def _quantile(values: np.ndarray, share: float) -> np.ndarray:
    """Return a quantile of each column (inputs, columns) without its NaN; NaN for a column of nothing else."""
    ordered = np.sort(values, axis=0)  # NaN comes last
    counts = (~np.isnan(values)).sum(axis=0)
    place = share * np.maximum(counts - 1, 0)
    lower = np.floor(place).astype(int)
    upper = np.minimum(lower + 1, np.maximum(counts - 1, 0))
    columns = np.arange(values.shape[1])
    return np.asarray(ordered[lower, columns] + (place - lower) * (ordered[upper, columns] - ordered[lower, columns]))


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

    Args:
        values: (inputs, columns); NaN is left out.
        smallest: smallest mean.
    """
    begin = _quantile(values, 1 - TAIL)
    over = np.where(values > begin, values - begin, 0.0)
    counts = np.maximum((over > 0).sum(axis=0), 1)
    return np.stack([begin, np.maximum(over.sum(axis=0) / counts, smallest)])


def _rounded(value: Any) -> Any:
    """Round arrays to four digits, as lists."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return np.array([float(f"{each:.4g}") for each in value.ravel()]).reshape(value.shape).tolist()
    return value


__all__ = ["FALSE_ALARMS", "FEWEST_PATIENTS", "Summaries", "collect", "fit_likeness"]
