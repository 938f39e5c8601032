"""Prepare ECGs as MEIT's encoder reads them: `input_values` (batch, 12, 5000), scaled to 0-1.

file or array --harmonise--> (12, samples) in millivolts, all twelve leads
              --scale------> (12, 5000): 500 Hz, the central 10 s, one minimum and one maximum over all leads

`ecg_signal` repairs leads, units and gaps for every model family. This file holds what MEIT needs beyond that.
"""

from typing import Any

import numpy as np

from .ecg_signal import resample_leads
from .feature_extraction_all_leads import AllLeadsFeatureExtractor
from .feature_extraction_ecg import PreparedEcg

SMALLEST_RANGE = 1e-8
"""Added to the range before the division, as published."""


class MeitFeatureExtractor(AllLeadsFeatureExtractor):
    r"""Feature extractor that prepares 12-lead ECGs as MEIT was trained on them: no filter, one scale for all leads.

    All twelve leads are needed, because the encoder has no mask for leads. Leads III, aVR, aVL and aVF are derived from
    I and II where they are missing.

    Args:
        sampling_rate (`int`, *optional*, defaults to 500): Hz. Another rate is resampled by FFT (ours).
        num_samples (`int`, *optional*, defaults to 5000): samples of the window, 10 s at 500 Hz. A longer recording
            gives its centre (ours).
        lead_order (`list[str]`, *optional*): order of the leads in `input_values`, the package's order when None. The
            published code keeps the order of the files, so weights that it trained may need another one.
        max_gap_seconds (`float`, *optional*, defaults to 0.1): longest run of missing samples that is interpolated
            linearly, with a note (ours). An ECG with a longer one is refused.
    """

    def __init__(
        self,
        sampling_rate: int = 500,
        num_samples: int = 5000,
        lead_order: list[str] | None = None,
        max_gap_seconds: float = 0.1,
        **kwargs: Any,
    ):
        super().__init__(sampling_rate, num_samples, lead_order, max_gap_seconds, **kwargs)

    def prepare(self, ecg: Any) -> PreparedEcg:
        """Prepare one ECG for the model, as [`AllLeadsFeatureExtractor`] says. The values lie between 0 and 1."""
        recording, harmonised = self.harmonise(ecg)
        notes = list(harmonised.notes)
        if recording.sampling_rate < self.sampling_rate:
            notes.append(
                f"recorded at {recording.sampling_rate:g} Hz and resampled to {self.sampling_rate} Hz, so that nothing "
                f"above {recording.sampling_rate / 2:g} Hz is in the signal"
            )
        signal = resample_leads(harmonised, self.sampling_rate).signal
        return PreparedEcg(self.scale(self.centre(signal)), harmonised.mask, notes, harmonised.checks)

    def scale(self, window: np.ndarray) -> np.ndarray:
        """Scale a window (12, samples) by its lowest and highest value over all leads, and order the leads.

        Returns:
            (12, samples) float32 between 0 and 1. Amplitude ratios between leads survive.
        """
        lowest, highest = window.min(), window.max()
        return self.ordered(((window - lowest) / (highest - lowest + SMALLEST_RANGE)).astype(np.float32))


__all__ = ["MeitFeatureExtractor"]
