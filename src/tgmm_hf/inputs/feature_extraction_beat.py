"""Prepare ECGs as Beat reads them: `input_values` (batch, windows, 12, samples) and `window_mask` (batch, windows).

file or array --harmonise--> (12, samples) in millivolts, all twelve leads
              --clean------> (12, samples) at 250 Hz: 0.5 Hz high-pass, moving average of one period of the mains
              --windows----> (windows, 12, num_samples): the fewest that cover the recording, each lead standardised

`ecg_signal` repairs leads, units and gaps for every model family. This file holds what Beat needs beyond that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import scipy
from transformers import BatchFeature
from transformers.feature_extraction_utils import FeatureExtractionMixin

from ..utils.hub_code import HubCode
from ..utils.names import LEADS
from .ecg_signal import HarmonisedEcg, as_recording, harmonise_recording, require_rate, require_samples, samples_at
from .feature_extraction_ecg import PreparedEcg

LOWEST_RATE = 100.0
"""Hz. The QRS complex has energy up to about 40 Hz, so a lower rate would deform it."""
SMALLEST_DEVIATION = 1e-6
"""Added to the standard deviation before the division, as in the prototype."""
LARGEST_FACTOR = 10_000
"""Largest factor of the resampling. A rate is approximated by a ratio of whole numbers up to it."""


@dataclass
class PreparedWindows(PreparedEcg):
    """What Beat reads of one ECG.

    Attributes:
        values (`np.ndarray` of shape `(windows, 12, num_samples)`): float32, in time order.
        starts (`list[float]`): seconds from the first sample of the recording to the first sample of each window.
    """

    starts: list[float] = field(default_factory=list)


class BeatFeatureExtractor(HubCode, FeatureExtractionMixin):
    r"""Feature extractor that prepares 12-lead ECGs for Beat as the public prototype of Heartcare does.

    All twelve leads are needed, because Beat has no mask for leads. Leads III, aVR, aVL and aVF are derived from I and
    II where they are missing. The whole recording is filtered, then cut.

    Args:
        sampling_rate (`int`, *optional*, defaults to 250): Hz. Another rate is resampled by a polyphase filter.
        num_samples (`int`, *optional*, defaults to 1000): samples of a window, 4 s at 250 Hz.
        max_windows (`int`, *optional*, defaults to 3): largest number of windows of a recording. The default covers
            10 s. A longer recording gives its centre, with a note (ours).
        highpass (`float`, *optional*, defaults to 0.5): Hz, of the zero-phase Butterworth high-pass.
        filter_order (`int`, *optional*, defaults to 5): order of the high-pass.
        mains (`int`, *optional*, defaults to 50): Hz. The zero-phase moving average is one period long.
        max_gap_seconds (`float`, *optional*, defaults to 0.1): longest run of missing samples that is interpolated
            linearly, with a note (ours). An ECG with a longer one is refused.
    """

    hub_auto_class = "AutoFeatureExtractor"
    model_input_names = ["input_values", "window_mask"]  # noqa: RUF012 (transformers' convention)

    def __init__(  # noqa: PLR0913 - the keys of a saved preprocessor_config.json
        self,
        sampling_rate: int = 250,
        num_samples: int = 1000,
        max_windows: int = 3,
        highpass: float = 0.5,
        filter_order: int = 5,
        mains: int = 50,
        max_gap_seconds: float = 0.1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if num_samples < 1 or max_windows < 1:
            raise ValueError(f"num_samples and max_windows must be at least 1, got {num_samples} and {max_windows}.")
        if not 0 < highpass < sampling_rate / 2:
            raise ValueError(f"highpass must lie between 0 and {sampling_rate / 2:g} Hz, got {highpass:g} Hz.")
        self.sampling_rate = sampling_rate
        self.num_samples = num_samples
        self.max_windows = max_windows
        self.highpass = highpass
        self.filter_order = filter_order
        self.mains = mains
        self.max_gap_seconds = max_gap_seconds

    @property
    def min_leads(self) -> int:
        """Number of leads that an ECG needs: all, because Beat has no mask for leads."""
        return len(LEADS)

    def __call__(self, ecg: Any, *, return_tensors: str | None = None) -> BatchFeature:
        """Prepare one ECG, or a list of ECGs with `None` where there is none.

        Args:
            ecg: path | `EcgRecording` | mapping with `signal` (leads, samples), `sampling_rate` (Hz), `lead_names` and
                optionally `units` and `source` | list of these and `None`.
            return_tensors: "pt" for PyTorch, "np" or `None` for NumPy.

        Returns:
            `BatchFeature` as `stack` describes it.

        Raises:
            InputRefusedError: if an ECG cannot be used. The message names the file, the values and the remedy.
        """
        items = list(ecg) if isinstance(ecg, (list, tuple)) else [ecg]
        prepared = [None if item is None else self.prepare(item) for item in items]
        return BatchFeature(self.stack(prepared), tensor_type=return_tensors)

    def prepare(self, ecg: Any) -> PreparedWindows:
        """Prepare one ECG for the model.

        Args:
            ecg: path | `EcgRecording` | mapping with `signal` (leads, samples), `sampling_rate` (Hz) and `lead_names`.

        Returns:
            `PreparedWindows` with values (windows, 12, num_samples) in time order, the seconds at which they start,
            and a mask (12,), True everywhere.

        Raises:
            InputRefusedError: if the recording is shorter than a window, lacks a lead, has doubled or unknown leads, an
                unknown unit, an amplitude that belongs to another unit, or a shape that does not fit the lead names.
        """
        recording = as_recording(ecg)
        require_rate(recording, LOWEST_RATE, "for the QRS complex")
        require_samples(recording, self.num_samples, self.sampling_rate)
        harmonised = harmonise_recording(recording, max_gap_seconds=self.max_gap_seconds, min_leads=self.min_leads)
        signal = self.clean(harmonised)
        starts = self.start_positions(signal.shape[1])
        notes = list(harmonised.notes)
        if signal.shape[1] > self.max_windows * self.num_samples:
            shown, whole = (starts[-1] + self.num_samples - starts[0], signal.shape[1])
            notes.append(
                f"{whole / self.sampling_rate:g} s long, and the central {shown / self.sampling_rate:g} s are read"
            )
        values = np.stack([self.scale(signal[:, start : start + self.num_samples]) for start in starts])
        seconds = [start / self.sampling_rate for start in starts]
        return PreparedWindows(values, harmonised.mask, notes, harmonised.checks, starts=seconds)

    def clean(self, ecg: HarmonisedEcg) -> np.ndarray:
        """Resample and filter a whole recording.

        Args:
            ecg: as `harmonise_recording` gives it.

        Returns:
            (12, samples) float64 in millivolts at `sampling_rate`.
        """
        length = samples_at(ecg.signal.shape[1], ecg.sampling_rate, self.sampling_rate)
        ratio = (Fraction(self.sampling_rate) / Fraction(ecg.sampling_rate)).limit_denominator(LARGEST_FACTOR)
        signal = ecg.signal
        if ratio != 1:
            # With zeros before and after it, a signal with an offset would ring at both ends.
            signal = scipy.signal.resample_poly(signal, ratio.numerator, ratio.denominator, axis=1, padtype="line")[
                :, :length
            ]
            # A rate that is no ratio of small numbers can give one sample less.
            signal = np.pad(signal, ((0, 0), (0, length - signal.shape[1])), mode="edge")
        signal = scipy.signal.sosfiltfilt(
            _high_pass(self.filter_order, self.highpass, self.sampling_rate), signal, axis=1
        )
        taps = max(self.sampling_rate // self.mains, 2)
        return scipy.signal.filtfilt(np.ones(taps), [taps], signal, axis=1)

    def start_positions(self, num_samples: int) -> list[int]:
        """Choose where the windows begin: the fewest that cover the recording, evenly spread (ours).

        Neighbouring windows overlap where the recording is no multiple of a window. Of a recording that is longer than
        `max_windows` windows the centre is covered, without overlap.

        Args:
            num_samples: length of the recording at `sampling_rate`, at least one window.

        Returns:
            The first sample of each window, in time order.
        """
        count = min(-(-num_samples // self.num_samples), self.max_windows)
        covered = min(num_samples, count * self.num_samples)
        first = (num_samples - covered) // 2
        return [first + round(start) for start in np.linspace(0, covered - self.num_samples, count)]

    def scale(self, window: np.ndarray) -> np.ndarray:
        """Standardise each lead of a window (12, samples): mean 0, deviation 1, float32."""
        deviation = window.std(axis=1, keepdims=True)
        return ((window - window.mean(axis=1, keepdims=True)) / (deviation + SMALLEST_DEVIATION)).astype(np.float32)

    def stack(self, prepared: Sequence[PreparedEcg | None]) -> dict[str, np.ndarray]:
        """Stack prepared ECGs into a batch.

        Args:
            prepared: one entry per row, `None` where there is no ECG.

        Returns:
            "input_values" (batch, windows, 12, num_samples) float32, and "window_mask" (batch, windows) bool. Rows with
            fewer windows than the longest one end with zeros that are masked. Empty if every entry is `None`.
        """
        present = [entry for entry in prepared if entry is not None]
        if not present:
            return {}
        most = max(len(entry.values) for entry in present)
        values = np.zeros((len(prepared), most, *present[0].values.shape[1:]), dtype=np.float32)
        mask = np.zeros((len(prepared), most), dtype=bool)
        for row, entry in enumerate(prepared):
            if entry is not None:
                values[row, : len(entry.values)], mask[row, : len(entry.values)] = entry.values, True
        return {"input_values": values, "window_mask": mask}


@lru_cache(maxsize=8)
def _high_pass(order: int, cutoff: float, sampling_rate: float) -> np.ndarray:
    """Design a Butterworth high-pass, `cutoff` in Hz, and return its second-order sections (sections, 6)."""
    return scipy.signal.butter(order, cutoff, btype="highpass", fs=sampling_rate, output="sos")


__all__ = ["BeatFeatureExtractor", "PreparedWindows"]
