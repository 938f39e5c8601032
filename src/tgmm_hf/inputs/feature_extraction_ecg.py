"""Prepare ECGs as ST-MEM's encoder reads them: `ecg_values` (batch, 12, 2250) and `ecg_mask` (batch, 12).

file or array --harmonise--> (12, samples) in millivolts at 250 Hz, and a mask of usable leads
              --windows----> (12, 2250): cut, 0.67 Hz high-pass, 40 Hz low-pass, one mean and standard deviation

`ecg_signal` repairs leads, units and gaps for every model family. This file holds what ST-MEM needs beyond that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from transformers import BatchFeature
from transformers.feature_extraction_utils import FeatureExtractionMixin

from ..utils.hub_code import HubCode
from ..utils.names import LEADS
from .ecg_numbers import zero_phase
from .ecg_signal import HarmonisedEcg, as_recording, harmonise_recording, require_rate, require_samples, resample_leads
from .ecg_summary import middle_of


@dataclass
class PreparedEcg:
    """What the model reads of one ECG.

    Attributes:
        values (`np.ndarray` of shape `(12, num_samples)`, or `(3, 12, num_samples)` for `crop="three"`): float32.
        mask (`np.ndarray` of shape `(12,)`, bool): True for a usable lead.
        notes (`list[str]`): which leads were derived, interpolated or masked, and why.
        checks (`list[dict]`): findings of `ecg_checks`: {"code", "item" ("ecg" or "ecg.V6"), "text"}.
        middle (`np.ndarray` of shape `(12, samples)`): at most 10 s before filters and scaling, which are compared with
            the training (`unlike_training.py`); None from an extractor that does not give them.
        rate (`float`): sampling rate of `middle` in Hz.
    """

    values: np.ndarray
    mask: np.ndarray
    notes: list[str] = field(default_factory=list)
    checks: list[dict[str, str]] = field(default_factory=list)
    middle: np.ndarray | None = None
    rate: float = 0.0


class EcgFeatureExtractor(HubCode, FeatureExtractionMixin):
    r"""Feature extractor that prepares 12-lead ECGs as the published ST-MEM weights saw them.

    Args:
        sampling_rate (`int`, *optional*, defaults to 250): Hz, after FFT resampling.
        num_samples (`int`, *optional*, defaults to 2250): samples of the window, 9 s at 250 Hz.
        highpass (`float`, *optional*, defaults to 0.67): Hz, -6 dB point of the zero-phase high-pass.
        lowpass (`float`, *optional*, defaults to 40.0): Hz, -6 dB point of the zero-phase low-pass.
        filter_order (`int`, *optional*, defaults to 5): order of each of the two Butterworth filters.
        filter_first (`bool`, *optional*, defaults to `False`): filter the whole recording, then cut the window. The
            default cuts first, because ST-MEM was trained that way. It leaves filter transients in the window: the two
            orders differ by up to one standard deviation in the first second.
        max_gap_seconds (`float`, *optional*, defaults to 0.1): longest run of missing samples that is interpolated
            linearly, with a note. A lead with a longer one is masked.
        min_leads (`int`, *optional*, defaults to 6): with fewer usable leads a recording is refused. I and II alone
            give six leads by Einthoven's law.
    """

    hub_auto_class = "AutoFeatureExtractor"
    model_input_names = ["ecg_values", "ecg_mask"]  # noqa: RUF012 (transformers' convention)

    def __init__(  # noqa: PLR0913 - the keys of a saved preprocessor_config.json
        self,
        sampling_rate: int = 250,
        num_samples: int = 2250,
        highpass: float = 0.67,
        lowpass: float = 40.0,
        filter_order: int = 5,
        filter_first: bool = False,
        max_gap_seconds: float = 0.1,
        min_leads: int = 6,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if not 0 < highpass < lowpass < sampling_rate / 2:
            raise ValueError(
                f"0 < highpass ({highpass} Hz) < lowpass ({lowpass} Hz) < half the sampling rate "
                f"({sampling_rate / 2} Hz) does not hold"
            )
        if not 1 <= min_leads <= len(LEADS):
            raise ValueError(f"min_leads is {min_leads}, expected 1 to {len(LEADS)}")
        self.sampling_rate = sampling_rate
        self.num_samples = num_samples
        self.highpass = highpass
        self.lowpass = lowpass
        self.filter_order = filter_order
        self.filter_first = filter_first
        self.max_gap_seconds = max_gap_seconds
        self.min_leads = min_leads

    @property
    def lowest_rate(self) -> float:
        """Lowest sampling rate (Hz) of a recording that can be used."""
        return 2 * self.lowpass

    @property
    def model_rate(self) -> float:
        """Rate (Hz) of the values that the model reads. A subclass may thin the window out."""
        return self.sampling_rate

    @property
    def model_samples(self) -> int:
        """Number of values that the model reads of each lead."""
        return self.num_samples

    def __call__(
        self,
        ecg: Any,
        *,
        crop: str = "center",
        generator: np.random.Generator | None = None,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """Prepare one ECG, or a list of ECGs with `None` where a patient has none.

        Args:
            ecg: path | `EcgRecording` | mapping with `signal` (leads, samples), `sampling_rate` (Hz), `lead_names` and
                optionally `units` and `source` | list of these and `None`.
            crop: "center" (prediction), "random" (training) or "three" (start, middle and end, to be averaged).
            generator: source of the random crops.
            return_tensors: "pt" for PyTorch, "np" or `None` for NumPy.

        Returns:
            `BatchFeature` with `ecg_values` (batch, 12, num_samples) float32, or (batch, 3, 12, num_samples) for
            `crop="three"`, and `ecg_mask` (batch, 12) bool. The rows of `None` are zero and masked. Without any ECG in
            the batch the two keys are absent.

        Raises:
            InputRefusedError: if an ECG cannot be used. The message names the file, the values and the remedy.
        """
        items = list(ecg) if isinstance(ecg, (list, tuple)) else [ecg]
        prepared = [None if item is None else self.prepare(item, crop=crop, generator=generator) for item in items]
        return BatchFeature(self.stack(prepared), tensor_type=return_tensors)

    def prepare(self, ecg: Any, *, crop: str = "center", generator: np.random.Generator | None = None) -> PreparedEcg:
        """Prepare one ECG for the model.

        Args:
            ecg: path | `EcgRecording` | mapping with `signal` (leads, samples), `sampling_rate` (Hz) and `lead_names`.
            crop: "center", "random" or "three" (start, middle and end).
            generator: source of the random crop.

        Returns:
            `PreparedEcg` with the window (12, num_samples), or three windows (3, 12, num_samples) for `crop="three"`.

        Raises:
            InputRefusedError: if the ECG cannot be used; `harmonise` lists the reasons.
        """
        harmonised = self.harmonise(ecg)
        values = self.windows(harmonised.signal, harmonised.mask, crop=crop, generator=generator)
        return PreparedEcg(
            values if crop == "three" else values[0],
            harmonised.mask,
            harmonised.notes,
            harmonised.checks,
            middle_of(harmonised.signal, self.sampling_rate),
            self.sampling_rate,
        )

    def stack(self, prepared: Sequence[PreparedEcg | None]) -> dict[str, np.ndarray]:
        """Stack prepared ECGs into a batch.

        Args:
            prepared: one entry per patient, `None` where the patient has no usable ECG. All have the same crop.

        Returns:
            "ecg_values" (batch, 12, num_samples) float32, or (batch, 3, 12, num_samples) for `crop="three"`, and
            "ecg_mask" (batch, 12) bool. The rows of `None` are zero and masked. Empty if every entry is `None`.
        """
        present = [entry for entry in prepared if entry is not None]
        if not present:
            return {}
        values = np.zeros((len(prepared), *present[0].values.shape), dtype=np.float32)
        mask = np.zeros((len(prepared), len(LEADS)), dtype=bool)
        for row, entry in enumerate(prepared):
            if entry is not None:
                values[row], mask[row] = entry.values, entry.mask
        return {"ecg_values": values, "ecg_mask": mask}

    def harmonise(self, ecg: Any) -> HarmonisedEcg:
        """Do everything before the window is cut: leads by name, millivolts, gaps, derived leads, resampling.

        Args:
            ecg: path | `EcgRecording` | mapping with `signal` (leads, samples), `sampling_rate` (Hz) and `lead_names`.

        Returns:
            `HarmonisedEcg` with signal (12, samples) float32 at the extractor's `sampling_rate`.

        Raises:
            InputRefusedError: if the recording is too short, has too few usable leads, doubled or unknown leads, an
                unknown unit, an amplitude that belongs to another unit, or a shape that does not fit the lead names.
        """
        recording = as_recording(ecg)
        require_rate(recording, self.lowest_rate, f"for the band up to {self.lowest_rate / 2:g} Hz")
        require_samples(recording, self.num_samples, self.sampling_rate)
        harmonised = harmonise_recording(recording, max_gap_seconds=self.max_gap_seconds, min_leads=self.min_leads)
        return self.resample(harmonised)

    def resample(self, harmonised: HarmonisedEcg) -> HarmonisedEcg:
        """Resample a harmonised ECG to `sampling_rate` by FFT. A subclass may resample in another way."""
        return resample_leads(harmonised, self.sampling_rate)

    def windows(
        self,
        signal: np.ndarray,
        mask: np.ndarray,
        *,
        crop: str = "center",
        generator: np.random.Generator | None = None,
    ) -> np.ndarray:
        """Cut, filter and scale the windows of a harmonised signal.

        Args:
            signal: (12, samples) at `sampling_rate`, as `harmonise` returns it.
            mask: (12,) bool, usable leads.
            crop: "center", "random" or "three" (start, middle and end).
            generator: source of the random crop.

        Returns:
            (windows, 12, num_samples) float32: one window, or three for `crop="three"`.
        """
        starts = self.start_positions(signal.shape[1], crop, generator)
        return np.stack([self.finish(signal, mask, start) for start in starts])

    def start_positions(
        self, num_samples: int, crop: str = "center", generator: np.random.Generator | None = None
    ) -> list[int]:
        """Choose where the windows begin in a signal.

        Args:
            num_samples: length of the signal, at `sampling_rate`.
            crop: "center", "random" or "three" (start, middle and end).
            generator: source of the random crop.

        Returns:
            List of the first sample of each window: three for `crop="three"`, otherwise one.

        Raises:
            ValueError: if the signal is shorter than the window, or `crop` is unknown.
        """
        spare = num_samples - self.num_samples
        if spare < 0:
            raise ValueError(f"{num_samples} samples are fewer than the window's {self.num_samples}")
        if crop == "center":
            return [spare // 2]
        if crop == "three":
            return [0, spare // 2, spare]  # The last window holds the last sample, also if `spare` is odd.
        if crop == "random":
            generator = np.random.default_rng() if generator is None else generator
            return [int(generator.integers(0, spare + 1))]
        raise ValueError(f"crop is {crop!r}, expected 'center', 'random' or 'three'")

    def finish(self, signal: np.ndarray, mask: np.ndarray, start: int) -> np.ndarray:
        """Cut one window, filter it to the pass band and standardise it.

        Args:
            signal: (12, samples) at `sampling_rate`, as `harmonise` returns it.
            mask: (12,) bool, usable leads.
            start: first sample of the window.

        Returns:
            (12, num_samples) float32. The samples of all usable leads *together* have mean 0 and standard deviation 1,
            so that amplitude ratios between leads survive. Masked leads are zero.
        """
        usable = np.asarray(signal, dtype=np.float64)[mask]
        window = slice(start, start + self.num_samples)
        if usable.shape[1] < window.stop:
            raise ValueError(f"a window from {start} to {window.stop} does not fit into {usable.shape[1]} samples")
        usable = self._band_pass(usable)[:, window] if self.filter_first else self._band_pass(usable[:, window])
        deviation = usable.std()
        values = np.zeros((len(LEADS), self.num_samples), dtype=np.float32)
        if deviation > 0:
            values[mask] = (usable - usable.mean()) / deviation
        return values

    def _band_pass(self, signal: np.ndarray) -> np.ndarray:
        """Filter (leads, samples) with the zero-phase high-pass, then the low-pass; the shape stays."""
        for cutoff, kind in ((self.highpass, "highpass"), (self.lowpass, "lowpass")):
            signal = zero_phase(self.filter_order, cutoff, kind, self.sampling_rate)(signal)
        return signal
