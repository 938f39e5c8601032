"""Compare numbers that describe an input with those of the training inputs.

`tgmm train` fits a description (`training/stored_inputs.py`). An input has two scores.

The first score looks at one number at a time. A number can lie far from the middle of the training inputs. It can also
differ from the value that is expected from the other numbers of the same input. This expectation is the mean of a
normal distribution whose covariance is that of principal components and a rest (probabilistic principal component
analysis: Tipping and Bishop, J. R. Stat. Soc. B 61, 1999). It uses only the numbers that the input has. A number with
long tails in the training has to differ more. The largest difference is the score.

The second score is the distance of all numbers together from the middle (Mahalanobis). The limits are quantiles of the
scores of inputs that were not used for the fit.
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
FEWEST_OTHERS = 2
"""With fewer other numbers nothing is expected of a number."""
MOST_BYTES = 8 << 20
"""Largest size of an unpacked description."""


class Excess(NamedTuple):
    """How far the numbers of inputs stray.

    Attributes:
        alone: (inputs, numbers) by themselves, in sizes of the tail of the training inputs; 0 within 95 % of them.
        given: (inputs, numbers) compared with what is expected from the other numbers; 0 with too few of them.
        expected: (inputs, numbers) values that are expected from the other numbers.
        together: (inputs,) distance of all numbers together from the middle; 0 is the middle of normal inputs and 1 is
            one deviation, whatever the count of numbers.
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
        self.number, self.limits = int(stored["number"]), np.asarray(stored["limits"], float)
        self.unit = str(stored.get("unit", ""))
        self.centres = {group: np.asarray(values, float) for group, values in stored["centres"].items()}
        self.low, self.high, self.usual = (np.asarray(stored[key], float) for key in ("low", "high", "usual"))
        self.above, self.below, self.left = (np.asarray(stored[key], float) for key in ("above", "below", "left"))
        self.mean, self.components = (np.asarray(stored[key], float) for key in ("mean", "components"))
        self.spread, self.rest = (np.asarray(stored[key], float) for key in ("spread", "rest"))
        self.share = np.asarray(stored["share"], float)

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
        alone = np.where(is_there, np.maximum(outer, 0), 0.0)
        left, expected, together = self.conditional(np.clip(signed, -LARGEST, LARGEST) - self.mean, is_there)
        given = np.where(left != 0, np.maximum((np.abs(left) - self.left[0]) / self.left[1], 0), 0.0)
        return Excess(alone, given, self._values_of(expected + self.mean, groups), together)

    def conditional(self, near: np.ndarray, is_there: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compare each number with its distribution given the other numbers of the input, and all numbers together.

        Args:
            near: (inputs, numbers) signed distances minus `mean`; any finite value where a number is missing.
            is_there: (inputs, numbers) bool, False where a number is missing.

        Returns:
            Difference of each number from what the other numbers let expect, in deviations (inputs, numbers), 0 for a
            missing number or with fewer than `FEWEST_OTHERS` other numbers; the expected distances minus `mean`
            (inputs, numbers); `Excess.together`.
        """
        left, expected, together = np.zeros_like(near), np.zeros_like(near), np.zeros(len(near))
        patterns, pattern_of = np.unique(is_there, axis=0, return_inverse=True)
        for place, present in enumerate(patterns):
            count = int(present.sum())
            if count == 0:
                continue
            chosen = pattern_of.reshape(-1) == place
            components, rest = self.components[:, present], self.rest[present]
            weighted = components / rest
            precision = weighted @ components.T + np.diag(1 / np.square(self.spread))
            solved = np.linalg.solve(precision, weighted)
            values = near[np.ix_(chosen, present)]
            parts = values @ solved.T
            expected[chosen] = parts @ self.components
            error = values - parts @ components
            # `share` is how far a number decides about its own estimate; without it the error grows by 1 / free.
            share = np.clip((components * solved).sum(axis=0), 0, 1 - 1e-6)
            free = 1 - share
            if count > FEWEST_OTHERS:
                left[np.ix_(chosen, present)] = error / np.sqrt(rest * free)
            expected[np.ix_(chosen, present)] = values - error / free
            along = np.square(parts / self.spread).sum(axis=1) / max(share.sum(), 1e-9)
            across = (np.square(error) / rest).sum(axis=1) / free.sum()
            degrees = 4 * share.sum() * free.sum() / count + 1e-9
            # The cube root of a mean of squares is nearly normal (Wilson and Hilferty, PNAS 17, 1931).
            together[chosen] = (np.cbrt((along + across) / 2) - 1) / np.sqrt(2 / (9 * degrees))
        return left, expected, together

    def _values_of(self, signed: np.ndarray, groups: Sequence[str]) -> np.ndarray:
        """Turn signed distances (inputs, numbers) back into values."""
        centres = np.stack([self.centres.get(group, self.centres[""]) for group in groups])
        return np.asarray(centres + np.where(signed > 0, signed * self.high, signed * self.low))

    def usual_range(self, place: int, group: str) -> tuple[float, float]:
        """Return the values of the number at a place that `usual_share` of the inputs of a group lie between."""
        centre = self.centres.get(group, self.centres[""])[place]
        return float(centre + self.usual[0, place]), float(centre + self.usual[1, place])

    def usual_share(self, place: int) -> float:
        """Return the share of the training inputs that lies within `usual_range`: 0.98, or less of few inputs."""
        return 1 - 2 * float(self.share[place])


def scores_of(excess: Excess) -> np.ndarray:
    """Return two scores of each input, (inputs, 2): its largest excess as a logarithm, and all numbers together."""
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
