"""A plain heart: beats with P, QRS and T waves in twelve leads that obey Einthoven and Goldberger.

Tests and scripts use this heart where an ECG must be right and nothing else is asked. It carries no evidence of a
disease. `render_ecg` makes the ECGs of the synthetic cohort.
"""

import numpy as np

WAVES = ((0.16, 0.025, 0.15), (0.27, 0.009, -0.12), (0.30, 0.010, 1.1), (0.33, 0.010, -0.25), (0.55, 0.05, 0.3))
"""Centre and width in seconds and size in mV of P, Q, R, S and T."""
INTERVAL, VARIATION = 0.8, 0.02
"""Mean seconds between beats (75 a minute), and their standard deviation as a share of it: no heart beats evenly."""
CHEST_SIZES = (-0.6, 0.8, 1.0, 1.4, 1.2, 0.8)
"""Size of V1 to V6 beside the wave sizes."""


def make_heart(samples: int = 5000, rate: float = 500.0, seed: int = 0) -> np.ndarray:
    """Make an ECG of a plain heart.

    Args:
        samples: Number of samples.
        rate: Sampling rate in Hz.
        seed: Decides the intervals, the axis, the sizes of the waves and a little noise.

    Returns:
        (12, samples) in millivolts, in the order of `LEADS`.
    """
    generator = np.random.default_rng(seed)
    time = np.arange(samples) / rate
    number = int(time[-1] / INTERVAL * 1.2) + 4
    intervals = INTERVAL * np.clip(generator.normal(1, VARIATION, number), 0.9, 1.1)
    starts = np.concatenate(([0.0], intervals.cumsum())) - generator.uniform(0, 0.2)
    since = time - starts[np.searchsorted(starts, time, side="right") - 1]  # seconds since the beat began
    waves = np.stack([size * np.exp(-(((since - centre) / width) ** 2) / 2) for centre, width, size in WAVES])

    def lead(scale: float) -> np.ndarray:
        sizes = scale * generator.uniform(0.6, 1.4, len(waves))
        return sizes @ waves + 0.01 * generator.normal(size=samples)

    one, two = lead(0.5), lead(0.9)
    limb = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    return np.stack([*limb, *(lead(scale) for scale in CHEST_SIZES)])
