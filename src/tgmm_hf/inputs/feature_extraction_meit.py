"""Prepare ECGs as MEIT's encoder reads them: `input_values` (batch, 12, 5000), scaled to 0-1.

file or array --harmonise--> (12, samples) in millivolts, all twelve leads
              --scale------> (12, 5000): 500 Hz, the central 10 s, one minimum and one maximum over all leads

`ecg_signal` repairs leads, units and gaps for every model family. This file holds what MEIT needs beyond that.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import BatchFeature
from transformers.feature_extraction_utils import FeatureExtractionMixin

from ..utils.hub_code import HubCode
from ..utils.names import LEADS
from .ecg_signal import as_recording, harmonise_recording, require_rate, require_samples, resample_leads
from .feature_extraction_ecg import PreparedEcg

LOWEST_RATE = 100.0
"""Hz. The QRS complex has energy up to about 40 Hz, so a lower rate would deform it."""
SMALLEST_RANGE = 1e-8
"""Added to the range before the division, as published."""


class MeitFeatureExtractor(HubCode, FeatureExtractionMixin):
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

    hub_auto_class = "AutoFeatureExtractor"
    model_input_names = ["input_values"]  # noqa: RUF012 (transformers' convention)

    def __init__(
        self,
        sampling_rate: int = 500,
        num_samples: int = 5000,
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
            `PreparedEcg` with values (12, num_samples) between 0 and 1, and a mask (12,) that is True everywhere.

        Raises:
            InputRefusedError: if the recording is too short, lacks a lead, has doubled or unknown leads, an unknown
                unit, an amplitude that belongs to another unit, or a shape that does not fit the lead names.
        """
        recording = as_recording(ecg)
        require_rate(recording, LOWEST_RATE, "for the QRS complex")
        require_samples(recording, self.num_samples, self.sampling_rate)
        harmonised = harmonise_recording(recording, max_gap_seconds=self.max_gap_seconds, min_leads=self.min_leads)
        notes = list(harmonised.notes)
        if recording.sampling_rate < self.sampling_rate:
            notes.append(
                f"recorded at {recording.sampling_rate:g} Hz and resampled to {self.sampling_rate} Hz, so that nothing "
                f"above {recording.sampling_rate / 2:g} Hz is in the signal"
            )
        signal = resample_leads(harmonised, self.sampling_rate).signal
        start = (signal.shape[1] - self.num_samples) // 2
        values = self.scale(signal[:, start : start + self.num_samples])
        return PreparedEcg(values, harmonised.mask, notes, harmonised.checks)

    def scale(self, window: np.ndarray) -> np.ndarray:
        """Scale a window (12, samples) by its lowest and highest value over all leads, and order the leads.

        Returns:
            (12, samples) float32 between 0 and 1. Amplitude ratios between leads survive.
        """
        lowest, highest = window.min(), window.max()
        scaled = ((window - lowest) / (highest - lowest + SMALLEST_RANGE)).astype(np.float32)
        return scaled[[LEADS.index(lead) for lead in self.lead_order or LEADS]]

    def stack(self, prepared: Sequence[PreparedEcg]) -> dict[str, np.ndarray]:
        """Stack prepared ECGs: "input_values" (batch, 12, num_samples) float32."""
        return {"input_values": np.stack([entry.values for entry in prepared])}


__all__ = ["MeitFeatureExtractor"]
