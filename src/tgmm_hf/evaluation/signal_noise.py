"""Noise on processed ECGs, to measure how reports change when the signal is worse."""

import numpy as np
from numpy.typing import NDArray

DECIBELS = (20, 15, 10, 5)
"""Signal-to-noise ratios of the white noise."""
LONGEST_SEGMENTS = (0.05, 0.1, 0.15, 0.2)
"""Longest shares of the recording that the published noise covers."""
HIGHEST_DEVIATION = 0.1
"""Highest standard deviation of the published noise, as a part of the range of the scaled ECG."""


def add_white_noise(values: NDArray, decibels: float, generator: np.random.Generator, rescale: bool) -> NDArray:
    """Add white noise to every lead, with one signal-to-noise ratio in all leads.

    The ratio is 10 log10(power of the lead / power of the noise). The power of a lead is its mean square after its mean
    is removed. A lead without any signal gets no noise.

    Args:
        values: (12, samples), as the feature extractor gives them.
        decibels: Signal-to-noise ratio.
        generator: Source of the noise.
        rescale: Scale the result to 0-1 over all leads, as MEIT's extractor does. The scaling is linear, so the result
            is the same as with noise on the millivolts.

    Returns:
        (12, samples) float32.
    """
    clean = values.astype(np.float64)
    power = clean.var(axis=-1, keepdims=True)
    noisy = clean + np.sqrt(power * 10 ** (-decibels / 10)) * generator.standard_normal(clean.shape)
    if rescale:
        noisy = (noisy - noisy.min()) / (noisy.max() - noisy.min() or 1.0)
    return noisy.astype(np.float32)


def add_segment_noise(values: NDArray, longest: float, generator: np.random.Generator) -> NDArray:
    """Add the noise of MEIT's published robustness test: one random segment, the same noise in all leads.

    The length of the segment is uniform up to `longest`, and the standard deviation uniform up to 0.1 of the range of
    the scaled ECG. The result is not scaled again.

    Args:
        values: (12, samples), scaled to 0-1.
        longest: Longest share of the recording.
        generator: Source of the noise.

    Returns:
        (12, samples) float32.
    """
    samples = values.shape[-1]
    length = int(generator.uniform(0, longest) * samples)
    start = int(generator.integers(0, samples - length + 1))
    noisy = values.astype(np.float32)
    deviation = generator.uniform(0, HIGHEST_DEVIATION)
    noisy[..., start : start + length] += (deviation * generator.standard_normal(length)).astype(np.float32)
    return noisy
