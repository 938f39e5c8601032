"""Prepare ECGs as HuBERT-ECG reads them: `ecg_values` (batch, 12, 500) and `ecg_mask` (batch, 12).

file or array --harmonise--> (12, samples) in millivolts at 500 Hz, and a mask of usable leads
              --windows----> (12, 500): 0.05 to 47 Hz, each lead scaled to -1 to 1, 5 s, every fifth sample kept

Filter and scale see the whole recording, before the window is cut. So did the published code (decision 213).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import scipy

from ..utils.names import LEADS
from .feature_extraction_ecg import EcgFeatureExtractor

SMALLEST_RANGE = 1e-8
"""Added to the range of a lead before the division, as published."""


class HubertEcgFeatureExtractor(EcgFeatureExtractor):
    r"""Feature extractor that prepares 12-lead ECGs as the published HuBERT-ECG weights saw them.

    Args:
        sampling_rate (`int`, *optional*, defaults to 500): Hz, after FFT resampling.
        num_samples (`int`, *optional*, defaults to 2500): samples of the window at this rate, 5 s.
        highpass (`float`, *optional*, defaults to 0.05): Hz, lower cutoff of the filter.
        lowpass (`float`, *optional*, defaults to 47.0): Hz, upper cutoff of the filter.
        filter_seconds (`float`, *optional*, defaults to 0.3): length of the linear-phase filter, run forwards and
            backwards.
        decimation (`int`, *optional*, defaults to 5): factor by which the rate is lowered last. The leads are decimated
            as one sequence, one lead after the other, as published.
        lead_order (`list[str]`, *optional*): order of the leads. Only the package's own is taken, which the weights
            were trained on.
        max_gap_seconds (`float`, *optional*, defaults to 0.1): as in [`EcgFeatureExtractor`].
        min_leads (`int`, *optional*, defaults to 6): as in [`EcgFeatureExtractor`]. A lead that is not usable is zero
            (ours: the published code has no mask of leads).
    """

    def __init__(  # noqa: PLR0913 - the keys of a saved preprocessor_config.json
        self,
        sampling_rate: int = 500,
        num_samples: int = 2500,
        highpass: float = 0.05,
        lowpass: float = 47.0,
        filter_seconds: float = 0.3,
        decimation: int = 5,
        lead_order: Sequence[str] = LEADS,
        max_gap_seconds: float = 0.1,
        min_leads: int = 6,
        **kwargs: Any,
    ):
        super().__init__(
            sampling_rate,
            num_samples,
            highpass,
            lowpass,
            max_gap_seconds=max_gap_seconds,
            min_leads=min_leads,
            **kwargs,
        )
        del self.filter_order, self.filter_first  # settings of a filter that this class does not have
        if decimation < 1 or num_samples % decimation:
            raise ValueError(f"num_samples ({num_samples}) must be a multiple of decimation ({decimation}).")
        if list(lead_order) != list(LEADS):
            raise ValueError(f"lead_order is {list(lead_order)}, and HuBERT-ECG was trained on {list(LEADS)}.")
        self.filter_seconds = filter_seconds
        self.decimation = decimation
        self.lead_order = list(lead_order)

    @property
    def model_rate(self) -> float:
        """Rate (Hz) of the values that the model reads."""
        return self.sampling_rate / self.decimation

    @property
    def model_samples(self) -> int:
        """Number of values that the model reads of each lead."""
        return self.num_samples // self.decimation

    def finish(self, signal: np.ndarray, mask: np.ndarray, start: int) -> np.ndarray:
        """Filter and scale the whole recording, cut one window of it, and decimate the window.

        Args:
            signal: (12, samples) at `sampling_rate`, as `harmonise` returns it.
            mask: (12,) bool, usable leads.
            start: first sample of the window.

        Returns:
            (12, num_samples / decimation) float32 between about -1 and 1. Leads that are not usable are zero.
        """
        usable = np.asarray(signal, dtype=np.float64)[mask]
        stop = start + self.num_samples
        if usable.shape[1] < stop:
            raise ValueError(f"a window from {start} to {stop} does not fit into {usable.shape[1]} samples")
        if len(usable):
            usable = self._filter(usable)
        lowest, highest = usable.min(axis=1, keepdims=True), usable.max(axis=1, keepdims=True)
        window = np.zeros((len(LEADS), self.num_samples))
        window[mask] = (2 * (usable - lowest) / (highest - lowest + SMALLEST_RANGE) - 1)[:, start:stop]
        # The published code decimates the flattened leads, so that the filter runs across the ends of a lead.
        kept = window.reshape(-1)
        if self.decimation > 1:
            kept = scipy.signal.decimate(kept, self.decimation)
        values = kept.reshape(len(LEADS), -1).astype(np.float32)
        values[~np.asarray(mask, bool)] = 0
        return values

    def _filter(self, signal: np.ndarray) -> np.ndarray:
        """Run the linear-phase band-pass forwards and backwards over (leads, samples); the shape stays."""
        taps = _band_pass_taps(self.filter_seconds, self.highpass, self.lowpass, self.sampling_rate)
        return np.asarray(scipy.signal.filtfilt(taps, [1.0], signal, axis=-1))


@lru_cache(maxsize=16)
def _band_pass_taps(seconds: float, highpass: float, lowpass: float, sampling_rate: float) -> np.ndarray:
    """Design the filter: (taps,), an odd number of taps in `seconds`, Hamming window."""
    number = int(seconds * sampling_rate) // 2 * 2 + 1
    return np.asarray(scipy.signal.firwin(number, (highpass, lowpass), fs=sampling_rate, pass_zero=False))


__all__ = ["HubertEcgFeatureExtractor"]
