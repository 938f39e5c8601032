"""Compare numbers that describe an input with those of the training inputs.

`tgmm train` fits a description (`training/stored_inputs.py`). It knows two things of each number: how far from the
middle it lies in training inputs, and what the other numbers of an input say about it (principal components). Either
distance is divided by its own tail, so that a number that often strays has to stray further. The largest of all is the
first score of an input. The second is the distance of all numbers together (Mahalanobis). The limits are quantiles of
the scores of inputs that were not fitted on.
"""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

LARGEST = 4.0
"""Distances from the middle are cut here before they are compared with the other numbers of the input."""
MOST_BYTES = 8 << 20
"""Largest size of an unpacked description."""


class Excess(NamedTuple):
    """How far the numbers of inputs stray.

    Attributes:
        alone: (inputs, numbers) by themselves, in sizes of the tail of the training inputs; 0 within 95 % of them.
        given: (inputs, numbers) compared with what the other numbers say.
        expected: (inputs, numbers) what the other numbers say.
        together: (inputs,) distance of all numbers together from the middle, as a logarithm; about 0 in the training.
    """

    alone: np.ndarray
    given: np.ndarray
    expected: np.ndarray
    together: np.ndarray


class Likeness:
    """A description of the training inputs of one modality.

    Args:
        stored: what `fit_likeness` returns, with lists or arrays.

    Attributes:
        names: of the numbers.
        number: of training inputs.
        limits: scores above are unlike the training, see `scores_of`.
    """

    def __init__(self, stored: Mapping[str, Any]):
        self.names: list[str] = list(stored["names"])
        self.places = {name: place for place, name in enumerate(self.names)}
        self.number, self.limits = int(stored["number"]), np.asarray(stored["limits"], float)
        self.unit = str(stored.get("unit", ""))
        self.centres = {group: np.asarray(values, float) for group, values in stored["centres"].items()}
        self.low, self.high, self.usual = (np.asarray(stored[key], float) for key in ("low", "high", "usual"))
        self.above, self.below, self.left = (np.asarray(stored[key], float) for key in ("above", "below", "left"))
        self.mean, self.components = (np.asarray(stored[key], float) for key in ("mean", "components"))
        self.spread, self.rest = np.asarray(stored["spread"], float), float(stored["rest"])

    def vector(self, values: Mapping[str, float]) -> np.ndarray:
        """Return the numbers (1, numbers) of an input, NaN for a number that it does not have."""
        return np.array([[values.get(name, np.nan) for name in self.names]])

    def distances(self, values: np.ndarray, groups: Sequence[str]) -> np.ndarray:
        """Return the signed distances (inputs, numbers) from the middle of the training inputs of the same group."""
        centres = np.stack([self.centres.get(group, self.centres[""]) for group in groups])
        apart = values - centres
        return np.where(apart > 0, apart / self.high, apart / self.low)

    def excess(self, values: np.ndarray, groups: Sequence[str]) -> Excess:
        """Compare inputs with the training inputs.

        Args:
            values: (inputs, numbers); NaN is not compared.
            groups: group of each input, such as its view; "" stands for all inputs.
        """
        signed = self.distances(values, groups)
        is_there = ~np.isnan(signed)
        signed = np.where(is_there, signed, 0.0)
        outer = np.where(
            signed > 0, (signed - self.above[0]) / self.above[1], (-signed - self.below[0]) / self.below[1]
        )
        alone = np.maximum(outer, 0) * is_there
        near = np.clip(signed, -LARGEST, LARGEST) - self.mean
        parts = near @ self.components.T
        expected = parts @ self.components
        left = (near - expected) * is_there
        given = np.maximum((np.abs(left) - self.left[0]) / self.left[1], 0) * is_there
        along, across = np.square(parts / self.spread).mean(axis=1), np.square(left).mean(axis=1) / self.rest
        together = np.log((along + across) / 2 + 1e-9)
        return Excess(alone, given, self._values_of(expected + self.mean, groups), together)

    def _values_of(self, signed: np.ndarray, groups: Sequence[str]) -> np.ndarray:
        """Turn signed distances (inputs, numbers) back into values."""
        centres = np.stack([self.centres.get(group, self.centres[""]) for group in groups])
        return np.asarray(centres + np.where(signed > 0, signed * self.high, signed * self.low))

    def usual_range(self, place: int, group: str) -> tuple[float, float]:
        """Return the values of the number at a place that 98 % of the training inputs of a group lie between."""
        centre = self.centres.get(group, self.centres[""])[place]
        return float(centre + self.usual[0, place]), float(centre + self.usual[1, place])


def scores_of(excess: Excess) -> np.ndarray:
    """Return both scores of each input, (inputs, 2): its largest excess as a logarithm, and all numbers together."""
    largest = np.maximum(excess.alone.max(axis=1, initial=0), excess.given.max(axis=1, initial=0))
    return np.stack([np.log1p(largest), excess.together], axis=1)


def pack(content: Mapping[str, Any]) -> str:
    """Pack JSON-able content into one line of text."""
    text = json.dumps(content, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode("ascii")


@lru_cache(maxsize=8)
def unpack(packed: str) -> dict[str, Any]:
    """Read what `pack` wrote. The result is shared, so do not change it.

    Raises:
        ValueError: if the text is nothing that `pack` wrote.
    """
    try:
        opened = zlib.decompressobj()
        text = opened.decompress(base64.b64decode(packed, validate=True), MOST_BYTES)
        content = json.loads(text)
    except (ValueError, zlib.error, RecursionError) as error:
        raise ValueError("the description of the training inputs is damaged; restore processor_config.json") from error
    if not isinstance(content, dict):
        raise ValueError("the description of the training inputs is no mapping; restore processor_config.json")
    return content


__all__ = ["Excess", "Likeness", "pack", "scores_of", "unpack"]
