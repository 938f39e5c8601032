"""Prepare ECGs as the ECG encoder of MoRE reads them: `input_values` (batch, 12, 1000), each lead from -1 to 1.

file or array --harmonise--> (12, samples) in millivolts, all twelve leads
              --finish-----> (12, 1000): 100 Hz, the central 10 s, baseline removed, one minimum and maximum a lead

`ecg_signal` repairs leads, units and gaps for every model family. This file holds what MoRE needs beyond that.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import scipy
from transformers import BatchFeature
from transformers.feature_extraction_utils import FeatureExtractionMixin

from ..utils.hub_code import HubCode
from ..utils.names import LEADS
from .ecg_signal import as_recording, harmonise_recording, require_rate, require_samples
from .feature_extraction_ecg import PreparedEcg

LOWEST_RATE = 100.0
"""Hz. The QRS complex has energy up to about 40 Hz, so a lower rate would deform it."""
BASELINE_SECONDS = (0.21, 0.61)
"""Lengths of the two median filters, one after the other: 21 and 61 samples at 100 Hz, as published."""
LARGEST_FACTOR = 10_000
"""Largest numerator and denominator of the ratio of two sampling rates."""


class MoreFeatureExtractor(HubCode, FeatureExtractionMixin):
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

    hub_auto_class = "AutoFeatureExtractor"
    model_input_names = ["input_values"]  # noqa: RUF012 (transformers' convention)

    def __init__(
        self,
        sampling_rate: int = 100,
        num_samples: int = 1000,
        lead_order: list[str] | None = None,
        max_gap_seconds: float = 0.1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if lead_order is not None and sorted(lead_order) != sorted(LEADS):
            raise ValueError(f"lead_order must name each of {', '.join(LEADS)} once, got {lead_order}.")
        self.sampling_rate = sampling_rate
        self.num_samples = num_samples
        self.lead_order = lead_order
        self.max_gap_seconds = max_gap_seconds

    @property
    def min_leads(self) -> int:
        """Number of leads that an ECG needs: all, because the encoder has no mask for leads."""
        return len(LEADS)

    def __call__(self, ecg: Any, *, return_tensors: str | None = None) -> BatchFeature:
        """Prepare one ECG, or a list of ECGs.

        Args:
            ecg: path | `EcgRecording` | mapping with `signal` (leads, samples), `sampling_rate` (Hz), `lead_names` and
                optionally `units` and `source` | list of these.
            return_tensors: "pt" for PyTorch, "np" or `None` for NumPy.

        Returns:
            `BatchFeature` with `input_values` (batch, 12, num_samples) float32.

        Raises:
            InputRefusedError: if an ECG cannot be used. The message names the file, the values and the remedy.
        """
        items = list(ecg) if isinstance(ecg, (list, tuple)) else [ecg]
        return BatchFeature(self.stack([self.prepare(item) for item in items]), tensor_type=return_tensors)

    def prepare(self, ecg: Any) -> PreparedEcg:
        """Prepare one ECG for the model.

        Args:
            ecg: path | `EcgRecording` | mapping with `signal` (leads, samples), `sampling_rate` (Hz) and `lead_names`.

        Returns:
            `PreparedEcg` with values (12, num_samples) between -1 and 1, and a mask (12,) that is True everywhere.

        Raises:
            InputRefusedError: if the recording is too short, lacks a lead, has doubled or unknown leads, an unknown
                unit, an amplitude that belongs to another unit, or a shape that does not fit the lead names.
        """
        recording = as_recording(ecg)
        require_rate(recording, LOWEST_RATE, "for the QRS complex")
        require_samples(recording, self.num_samples, self.sampling_rate)
        harmonised = harmonise_recording(recording, max_gap_seconds=self.max_gap_seconds, min_leads=self.min_leads)
        ratio = Fraction(self.sampling_rate / harmonised.sampling_rate).limit_denominator(LARGEST_FACTOR)
        signal = scipy.signal.resample_poly(harmonised.signal, ratio.numerator, ratio.denominator, axis=-1)
        start = (signal.shape[1] - self.num_samples) // 2
        values = self.finish(signal[:, start : start + self.num_samples])
        return PreparedEcg(values, harmonised.mask, list(harmonised.notes), harmonised.checks)

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
        return scaled.astype(np.float32)[[LEADS.index(lead) for lead in self.lead_order or LEADS]]

    def stack(self, prepared: Sequence[PreparedEcg]) -> dict[str, np.ndarray]:
        """Stack prepared ECGs: "input_values" (batch, 12, num_samples) float32."""
        return {"input_values": np.stack([entry.values for entry in prepared])}


__all__ = ["MoreFeatureExtractor"]
