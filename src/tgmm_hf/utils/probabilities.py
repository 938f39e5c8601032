"""Probabilities whose logits are scaled, as calibration by a temperature does."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

SMALLEST_PROBABILITY = 1e-6
"""A float32 softmax may give exactly 0 or 1. Their logits are infinite."""


def finite_logit(probability: NDArray) -> NDArray:
    """Compute the logits of probabilities (n,). 0 and 1 are moved inside by `SMALLEST_PROBABILITY`."""
    return logit(np.clip(probability, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY))


def scaled(probability: NDArray, temperature: float) -> NDArray:
    """Divide the logits of probabilities (n,) by a temperature, and turn them back. Their order does not change."""
    return expit(finite_logit(probability) / temperature)
