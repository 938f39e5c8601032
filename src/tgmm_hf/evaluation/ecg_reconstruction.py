"""How near a rebuilt ECG is to the original: squared error, percent root-mean-square difference, shifts of R peaks.

The R peaks are found by NeuroKit2 in one lead of both signals. A peak of the original and a peak of the rebuilt signal
are partners if they are each other's nearest and at most `LONGEST_SHIFT` apart.
"""

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tgmm_hf.utils.names import LEADS

PEAK_LEAD = "II"
"""Lead in which R peaks are sought."""
LONGEST_SHIFT = 0.15
"""Seconds. A larger distance is another beat, or none."""


class PeakShift(NamedTuple):
    """R peaks of one ECG, compared with the R peaks of its rebuilt signal.

    Attributes:
        milliseconds: distances of the partners, in ms.
        missed: number of peaks of the original without a partner.
        added: number of peaks of the rebuilt signal without a partner.
    """

    milliseconds: NDArray
    missed: int
    added: int


def squared_error(signal: NDArray, rebuilt: NDArray) -> NDArray:
    """Compute the mean squared error of each ECG: (n, 12, samples) twice -> (n,)."""
    return ((signal - rebuilt) ** 2).mean(axis=(1, 2))


def percent_difference(signal: NDArray, rebuilt: NDArray) -> NDArray:
    """Compute the percent root-mean-square difference (PRD) of each ECG, with the mean of each lead removed.

    100 x root of (sum of squared errors / sum of squared distances of the original from the means of its leads). A
    rebuilt signal of the means alone has 100.

    Args:
        signal: (n, 12, samples).
        rebuilt: (n, 12, samples).

    Returns:
        (n,) percent. NaN for an ECG whose leads do not move.
    """
    around = signal - signal.mean(axis=2, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = ((signal - rebuilt) ** 2).sum(axis=(1, 2)) / (around**2).sum(axis=(1, 2))
    return np.asarray(100 * np.sqrt(np.where(np.isfinite(share), share, np.nan)))


def r_peaks(signal: NDArray, sampling_rate: float) -> NDArray:
    """Find the R peaks of an ECG (12, samples) in lead `PEAK_LEAD`: seconds from its first sample.

    The result is empty if the library finds no beats.

    Raises:
        ImportError: If NeuroKit2 is not installed (extra `measures`).
    """
    import neurokit2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of empty means, where the library finds no beat
        try:
            peaks = neurokit2.ecg_peaks(signal[LEADS.index(PEAK_LEAD)], sampling_rate=sampling_rate)[1]
        except (ValueError, IndexError, ZeroDivisionError, TypeError, KeyError):  # errors of the library on odd signals
            return np.zeros(0)
    return np.asarray(peaks["ECG_R_Peaks"], dtype=float) / sampling_rate


def compare_peaks(original: NDArray, rebuilt: NDArray) -> PeakShift:
    """Pair R peaks, given in seconds, of an ECG and of its rebuilt signal."""
    if not len(original) or not len(rebuilt):
        return PeakShift(np.zeros(0), len(original), len(rebuilt))
    distance = np.abs(original[:, None] - rebuilt[None, :])
    nearest, back = distance.argmin(axis=1), distance.argmin(axis=0)
    places = np.arange(len(original))
    paired = (back[nearest] == places) & (distance[places, nearest] <= LONGEST_SHIFT)
    number = int(paired.sum())
    return PeakShift(1000 * distance[places, nearest][paired], len(original) - number, len(rebuilt) - number)
