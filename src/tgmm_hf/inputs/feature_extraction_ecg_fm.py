"""Prepare ECGs as ECG-FM reads them: `ecg_values` (batch, 12, 2500) and `ecg_mask` (batch, 12).

file or array --harmonise--> (12, samples) in millivolts at 500 Hz, and a mask of usable leads
              --windows----> (12, 2500): each lead with mean 0 and deviation 1 over the whole recording, 5 s

There is no filter. The published code scales the whole recording before it cuts windows (decision 216).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..utils.names import LEADS
from .ecg_signal import HarmonisedEcg, samples_at
from .feature_extraction_ecg import EcgFeatureExtractor

LOWEST_RATE = 100.0
"""Hz. The QRS complex has energy up to about 40 Hz, so a lower rate would deform it (ours)."""


class EcgFmFeatureExtractor(EcgFeatureExtractor):
    r"""Feature extractor that prepares 12-lead ECGs as the published ECG-FM weights saw them.

    Args:
        sampling_rate (`int`, *optional*, defaults to 500): Hz, after linear interpolation.
        num_samples (`int`, *optional*, defaults to 2500): samples of the window, 5 s.
        lead_order (`list[str]`, *optional*): order of the leads. Only the package's own is taken, which the weights
            were trained on.
        max_gap_seconds (`float`, *optional*, defaults to 0.1): as in [`EcgFeatureExtractor`].
        min_leads (`int`, *optional*, defaults to 6): as in [`EcgFeatureExtractor`]. A lead that is not usable is zero,
            as a lead that was masked in the pre-training.
    """

    def __init__(
        self,
        sampling_rate: int = 500,
        num_samples: int = 2500,
        lead_order: Sequence[str] = LEADS,
        max_gap_seconds: float = 0.1,
        min_leads: int = 6,
        **kwargs: Any,
    ):
        super().__init__(sampling_rate, num_samples, max_gap_seconds=max_gap_seconds, min_leads=min_leads, **kwargs)
        del self.highpass, self.lowpass, self.filter_order, self.filter_first  # this class has no filter
        if list(lead_order) != list(LEADS):
            raise ValueError(f"lead_order is {list(lead_order)}, and ECG-FM was trained on {list(LEADS)}.")
        self.lead_order = list(lead_order)

    @property
    def lowest_rate(self) -> float:
        """Lowest sampling rate (Hz) of a recording that can be used."""
        return LOWEST_RATE

    def resample(self, harmonised: HarmonisedEcg) -> HarmonisedEcg:
        """Resample the usable leads to `sampling_rate` by linear interpolation, as published. Others stay zero."""
        samples = harmonised.signal.shape[1]
        length = samples_at(samples, harmonised.sampling_rate, self.sampling_rate)
        if length == samples:
            return replace(harmonised, sampling_rate=self.sampling_rate)
        places = np.linspace(0, length - 1, samples)
        resampled = np.zeros((len(LEADS), length), dtype=np.float32)
        for lead in np.flatnonzero(harmonised.mask):
            resampled[lead] = np.interp(np.arange(length), places, harmonised.signal[lead])
        return replace(harmonised, signal=resampled, sampling_rate=self.sampling_rate)

    def finish(self, signal: np.ndarray, mask: np.ndarray, start: int) -> np.ndarray:
        """Standardise each lead over the whole recording, and cut one window of it.

        Args:
            signal: (12, samples) at `sampling_rate`, as `harmonise` returns it.
            mask: (12,) bool, usable leads.
            start: first sample of the window.

        Returns:
            (12, num_samples) float32. A lead that is flat or not usable is zero.
        """
        usable = np.asarray(signal, dtype=np.float64)[mask]
        stop = start + self.num_samples
        if usable.shape[1] < stop:
            raise ValueError(f"a window from {start} to {stop} does not fit into {usable.shape[1]} samples")
        deviation = usable.std(axis=1, keepdims=True)
        scaled = (usable - usable.mean(axis=1, keepdims=True)) / np.where(deviation == 0, 1, deviation)
        values = np.zeros((len(LEADS), self.num_samples), dtype=np.float32)
        values[mask] = scaled[:, start:stop]
        return values


__all__ = ["EcgFmFeatureExtractor"]
