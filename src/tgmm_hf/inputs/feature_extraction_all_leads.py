"""What the feature extractors of encoders without a mask for leads share: all twelve leads are needed."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import BatchFeature
from transformers.feature_extraction_utils import FeatureExtractionMixin

from ..utils.hub_code import HubCode
from ..utils.names import LEADS
from .ecg_recording import EcgRecording
from .ecg_signal import HarmonisedEcg, as_recording, harmonise_recording, require_rate, require_samples
from .feature_extraction_ecg import PreparedEcg

LOWEST_RATE = 100.0
"""Hz. The QRS complex has energy up to about 40 Hz, so a lower rate would deform it."""


class AllLeadsFeatureExtractor(HubCode, FeatureExtractionMixin):
    """Feature extractor of an encoder that has no mask for leads.

    Leads III, aVR, aVL and aVF are derived from I and II where they are missing. A subclass defines `prepare`.

    Args:
        sampling_rate: Hz, of the model's input.
        num_samples: samples of the model's window. A longer recording gives its centre (ours).
        lead_order: order of the leads in `input_values`, the package's order when None.
        max_gap_seconds: longest run of missing samples that is interpolated linearly, with a note (ours). An ECG with a
            longer one is refused.
    """

    hub_auto_class = "AutoFeatureExtractor"
    model_input_names = ["input_values"]  # noqa: RUF012 (transformers' convention)

    def __init__(
        self, sampling_rate: int, num_samples: int, lead_order: list[str] | None, max_gap_seconds: float, **kwargs: Any
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

    @abstractmethod
    def prepare(self, ecg: Any) -> PreparedEcg:
        """Prepare one ECG for the model.

        Args:
            ecg: path | `EcgRecording` | mapping with `signal` (leads, samples), `sampling_rate` (Hz) and `lead_names`.

        Returns:
            `PreparedEcg` with values (12, num_samples), and a mask (12,) that is True everywhere.

        Raises:
            InputRefusedError: if the recording is too short, lacks a lead, has doubled or unknown leads, an unknown
                unit, an amplitude that belongs to another unit, or a shape that does not fit the lead names.
        """

    def harmonise(self, ecg: Any) -> tuple[EcgRecording, HarmonisedEcg]:
        """Read an ECG and repair leads, units and gaps. Arguments and errors as `prepare`.

        Returns:
            The recording as it is, and twelve leads in millivolts at the rate of the recording.
        """
        recording = as_recording(ecg)
        require_rate(recording, LOWEST_RATE, "for the QRS complex")
        require_samples(recording, self.num_samples, self.sampling_rate)
        harmonised = harmonise_recording(recording, max_gap_seconds=self.max_gap_seconds, min_leads=self.min_leads)
        return recording, harmonised

    def centre(self, signal: np.ndarray) -> np.ndarray:
        """Cut the central `num_samples` of a signal (12, samples)."""
        start = (signal.shape[1] - self.num_samples) // 2
        return signal[:, start : start + self.num_samples]

    def ordered(self, leads: np.ndarray) -> np.ndarray:
        """Bring leads (12, samples) from the package's order into `lead_order`."""
        return leads[[LEADS.index(lead) for lead in self.lead_order or LEADS]]

    def stack(self, prepared: Sequence[PreparedEcg]) -> dict[str, np.ndarray]:
        """Stack prepared ECGs: "input_values" (batch, 12, num_samples) float32."""
        return {"input_values": np.stack([entry.values for entry in prepared])}


__all__ = ["AllLeadsFeatureExtractor"]
