"""Prepare ECGs as the ECG encoder of MoRE reads them: `input_values` (batch, 12, 1000), each lead from -1 to 1.

file or array --harmonise--> (12, samples) in millivolts, all twelve leads
              --finish-----> (12, 1000): 100 Hz, the central 10 s, baseline removed, one minimum and maximum a lead

`ecg_signal` repairs leads, units and gaps for every model family. This file holds what MoRE needs beyond that.
"""

from fractions import Fraction
from typing import Any

import numpy as np
import scipy

from .feature_extraction_all_leads import AllLeadsFeatureExtractor
from .feature_extraction_ecg import PreparedEcg

BASELINE_SECONDS = (0.21, 0.61)
"""Lengths of the two median filters, one after the other: 21 and 61 samples at 100 Hz, as published."""
LARGEST_FACTOR = 10_000
"""Largest numerator and denominator of the ratio of two sampling rates."""


class MoreFeatureExtractor(AllLeadsFeatureExtractor):
    r"""Feature extractor that prepares 12-lead ECGs as MoRE was trained on them.

    All twelve leads are needed, because the encoder has no mask for leads. Leads III, aVR, aVL and aVF are derived from
    I and II where they are missing.

    Args:
        sampling_rate (`int`, *optional*, defaults to 100): Hz. Another rate is resampled by a polyphase filter.
        num_samples (`int`, *optional*, defaults to 1000): samples of the window, 10 s at 100 Hz. A longer recording
            gives its centre (ours).
        lead_order (`list[str]`, *optional*): order of the leads in `input_values`, the package's order when None. The
            published code keeps the order of the files, and MIMIC-IV-ECG stores aVF before aVL.
        max_gap_seconds (`float`, *optional*, defaults to 0.1): longest run of missing samples that is interpolated
            linearly, with a note (ours). An ECG with a longer one is refused.
    """

    def __init__(
        self,
        sampling_rate: int = 100,
        num_samples: int = 1000,
        lead_order: list[str] | None = None,
        max_gap_seconds: float = 0.1,
        **kwargs: Any,
    ):
        super().__init__(sampling_rate, num_samples, lead_order, max_gap_seconds, **kwargs)

    def prepare(self, ecg: Any) -> PreparedEcg:
        """Prepare one ECG for the model, as [`AllLeadsFeatureExtractor`] says. The values lie between -1 and 1."""
        _, harmonised = self.harmonise(ecg)
        ratio = Fraction(self.sampling_rate / harmonised.sampling_rate).limit_denominator(LARGEST_FACTOR)
        signal = scipy.signal.resample_poly(harmonised.signal, ratio.numerator, ratio.denominator, axis=-1)
        return PreparedEcg(self.finish(self.centre(signal)), harmonised.mask, list(harmonised.notes), harmonised.checks)

    def finish(self, window: np.ndarray) -> np.ndarray:
        """Remove the baseline of a window, scale each lead by its own lowest and highest value, and order the leads.

        Args:
            window: (12, samples) in millivolts, leads in the package's order.

        Returns:
            (12, samples) float32 between -1 and 1. Amplitude ratios between leads are lost, as published.
        """
        baseline = window
        for seconds in BASELINE_SECONDS:
            length = 2 * int(seconds * self.sampling_rate / 2) + 1
            baseline = np.stack([scipy.signal.medfilt(lead, length) for lead in baseline])
        flat = window - baseline
        lowest, span = flat.min(1, keepdims=True), np.ptp(flat, axis=1, keepdims=True)
        scaled = np.where(span > 0, 2 * (flat - lowest) / np.where(span > 0, span, 1) - 1, -1.0)
        return self.ordered(scaled.astype(np.float32))


__all__ = ["MoreFeatureExtractor"]
