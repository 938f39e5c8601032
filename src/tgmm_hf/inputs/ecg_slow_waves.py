"""Find a recording without its slow waves: a high-pass filter of 3 Hz or more destroys ST segment and T wave.

Decision 178 has the reasons, `docs/results/checks/ecg.md` the measured rates.
"""

import numpy as np

SLOW_HZ, FAST_HZ = (1.0, 4.0), (6.0, 15.0)
"""Bands (Hz) of T waves and of QRS complexes. Slower waves are left out, because a good filter of the baseline removes
them."""
MIN_SLOW = 0.18
"""Smallest energy in SLOW_HZ over that in FAST_HZ, of the lead on place RANK. Of 1,646 public recordings the lowest two
have 0.19 and 0.21, also after a filter of 0.67 Hz."""
RANK = 3
"""The lead with the third largest share is judged, because a lead may have a small T wave."""
MAX_SECONDS = 60.0
"""A longer recording is judged by its beginning."""


def slow_share(signal: np.ndarray, sampling_rate: float) -> float | None:
    """Compare the energy of slow waves with that of QRS complexes.

    Args:
        signal: (leads, samples) as recorded, without NaN, in any unit.
        sampling_rate: Hz, above 30.

    Returns:
        Energy in `SLOW_HZ` over energy in `FAST_HZ` of the lead on place `RANK`; None with fewer leads that move.
    """
    signal = signal[:, : int(MAX_SECONDS * sampling_rate)]
    window = np.hanning(signal.shape[1])
    power = np.square(np.abs(np.fft.rfft((signal - signal.mean(axis=1, keepdims=True)) * window, axis=1)))
    frequency = np.fft.rfftfreq(signal.shape[1], 1 / sampling_rate)
    slow, fast = (power[:, (frequency >= low) & (frequency < high)].sum(axis=1) for low, high in (SLOW_HZ, FAST_HZ))
    moves = fast > 1e-12 * max(float(power.max()), 1e-30)
    shares = np.sort(slow[moves] / fast[moves])
    return float(shares[-RANK]) if len(shares) >= RANK else None


__all__ = ["slow_share"]
