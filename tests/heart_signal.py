"""A plain heart for tests: beats with P, QRS and T waves in twelve leads that obey Einthoven and Goldberger."""

import numpy as np

_WAVES = ((0.16, 0.025, 0.15), (0.27, 0.009, -0.12), (0.30, 0.010, 1.1), (0.33, 0.010, -0.25), (0.55, 0.05, 0.3))
"""Centre and width in seconds and size in mV of P, Q, R, S and T."""


def make_heart(samples: int = 5000, rate: float = 500.0, seed: int = 0) -> np.ndarray:
    """(12, samples) mV in the order of LEADS; the seed decides axis, sizes and a little noise."""
    generator = np.random.default_rng(seed)
    time = (np.arange(samples) / rate + generator.uniform(0, 0.2)) % 0.8  # 75 beats a minute
    waves = np.stack([size * np.exp(-(((time - centre) / width) ** 2) / 2) for centre, width, size in _WAVES])

    def lead(scale: float) -> np.ndarray:
        sizes = scale * generator.uniform(0.6, 1.4, len(waves))
        return sizes @ waves + 0.01 * generator.normal(size=samples)

    one, two = lead(0.5), lead(0.9)
    limb = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    return np.stack([*limb, *(lead(scale) for scale in (-0.6, 0.8, 1.0, 1.4, 1.2, 0.8))])
