"""ECG records -> `ecg_values` (batch, 12, 2250) and `ecg_mask` (batch, 12): what ST-MEM's encoder reads.

file or array --harmonise--> (12, samples) mV at 250 Hz in model order, NaN-free, with a mask of usable leads
              --start_positions--> where the 9-s windows begin
              --finish--> (12, 2250): crop, 0.67 Hz high-pass, 40 Hz low-pass, one mean and standard deviation
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import butter, resample, sosfiltfilt
from transformers import BatchFeature
from transformers.feature_extraction_utils import FeatureExtractionMixin

from ..utils.errors import InputRefusedError
from ..utils.hub_code import HubCode
from ..utils.names import LEADS
from .ecg_reading import EcgRecord, millivolts_per_unit, normalise_lead_name, read_ecg

# A lead whose samples span less than this (mV) is taken for not connected: a tenth of the smallest standard mark.
FLAT_MV = 0.01
MAX_STILL_SECONDS = 2.0
# Larger excursions from the median (mV) are no heart: paced and hypertrophic QRS complexes stay below 10 mV.
IMPLAUSIBLE_MV = 20.0
# A record whose largest lead spans less than this (mV) has lost a factor: no living heart writes so little.
TINY_MV = 0.05
# Of a lead, at most this share may be interpolated; with more missing the lead is masked.
MAX_INTERPOLATED_SHARE = 0.1

# Einthoven and Goldberger: the limb leads as (weight of I, weight of II).
_LIMB_LEADS = {"III": (-1.0, 1.0), "aVR": (-0.5, -0.5), "aVL": (1.0, -0.5), "aVF": (-0.5, 1.0)}


@dataclass
class HarmonisedEcg:
    """An ECG in the model's terms, before the crop.

    Attributes:
        signal (`np.ndarray` of shape `(12, samples)`, float32): mV at 250 Hz (or the caller's normalised units), leads
            in the order of `LEADS`, free of NaN; masked leads are zero.
        mask (`np.ndarray` of shape `(12,)`, bool): usable leads.
        notes (`list[str]`): what was derived, interpolated or masked, and why.
    """

    signal: np.ndarray
    mask: np.ndarray
    notes: list[str] = field(default_factory=list)


class EcgFeatureExtractor(HubCode, FeatureExtractionMixin):
    r"""Prepares 12-lead ECGs as the published ST-MEM weights saw them.

    Args:
        sampling_rate (`int`, *optional*, defaults to 250): Hz, after FFT resampling.
        num_samples (`int`, *optional*, defaults to 2250): samples of the window, 9 s at 250 Hz.
        highpass (`float`, *optional*, defaults to 0.67): Hz, -6 dB point of the zero-phase high-pass.
        lowpass (`float`, *optional*, defaults to 40.0): Hz, -6 dB point of the zero-phase low-pass.
        filter_order (`int`, *optional*, defaults to 5): order of both Butterworth filters.
        filter_first (`bool`, *optional*, defaults to `False`): filter the whole record, then crop. The default is
            the order ST-MEM was trained with, which leaves filter transients in the window: the other order differs
            by up to one standard deviation in the first second.
        max_gap_seconds (`float`, *optional*, defaults to 0.1): longest run of missing samples that is interpolated
            (linearly, reported in the notes); a lead with a longer one is masked.
        min_leads (`int`, *optional*, defaults to 6): with fewer usable leads a record is refused. Six is what I and II
            alone give by Einthoven's law.
    """

    hub_auto_class = "AutoFeatureExtractor"
    model_input_names = ["ecg_values", "ecg_mask"]  # noqa: RUF012 (transformers' convention)

    def __init__(
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

    def __call__(
        self,
        ecg: Any,
        *,
        crop: str = "center",
        generator: np.random.Generator | None = None,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """One ECG or a list of them (`None` where a patient has none).

        Args:
            ecg: path of a WFDB record or DICOM waveform | `EcgRecord` | mapping with `signal` (leads, samples),
                `sampling_rate` (Hz), `lead_names` and optionally `units` ("mV" by default, "uV", "V" or "normalised")
                | list of these and `None`.
            crop: "center" (prediction), "random" (training) or "three" (start, middle, end, to be averaged).
            generator: source of the random crops.
            return_tensors: "pt", "np" or `None`.

        Returns:
            `BatchFeature` with `ecg_values` (batch, 12, num_samples) float32 - (batch, 3, 12, num_samples) for
            `crop="three"` - and `ecg_mask` (batch, 12) bool. Rows of `None` are zero and masked; without any ECG in the
            batch both keys are absent.

        Raises:
            InputRefusedError: an ECG that cannot be used, naming file, values and remedy.
        """
        items = list(ecg) if isinstance(ecg, (list, tuple)) else [ecg]
        if all(item is None for item in items):
            return BatchFeature({})
        crops = 3 if crop == "three" else 1
        values = np.zeros((len(items), crops, len(LEADS), self.num_samples), dtype=np.float32)
        masks = np.zeros((len(items), len(LEADS)), dtype=bool)
        for row, item in enumerate(items):
            if item is None:
                continue
            harmonised = self.harmonise(item)
            masks[row] = harmonised.mask
            starts = self.start_positions(harmonised.signal.shape[1], crop, generator)
            values[row] = [self.finish(harmonised.signal, harmonised.mask, start) for start in starts]
        if crop != "three":
            values = values[:, 0]
        return BatchFeature({"ecg_values": values, "ecg_mask": masks}, tensor_type=return_tensors)

    def harmonise(self, ecg: Any) -> HarmonisedEcg:
        """Everything before the crop: leads by name, millivolts, gaps, derived leads, 250 Hz.

        Args:
            ecg: path, `EcgRecord` or mapping, as for `__call__`.

        Returns:
            `HarmonisedEcg` with signal (12, samples) and mask (12,).

        Raises:
            InputRefusedError: too short, too few usable leads, duplicate or unknown leads, unknown unit, an amplitude
                that belongs to another unit, a shape that does not fit the lead names.
        """
        record = self._as_record(ecg)
        self._check_record(record)
        millivolts, names = self._in_millivolts(record)
        notes = list(record.notes)
        signal = np.zeros((len(LEADS), millivolts.shape[1]))
        problems = dict.fromkeys(LEADS, "missing")
        for name, values in zip(names, millivolts, strict=True):
            row = LEADS.index(name)
            signal[row], problems[name] = self._repair_lead(values, name, record, notes)
        if record.units != "normalised":
            _derive_limb_leads(signal, problems, notes)
        mask = np.array([problems[lead] == "" for lead in LEADS])
        if mask.sum() < self.min_leads:
            reasons = ", ".join(f"{lead} {problem}" for lead, problem in problems.items() if problem)
            raise InputRefusedError(
                record.source, f"{mask.sum()} usable leads, at least {self.min_leads} are needed (min_leads): {reasons}"
            )
        notes += [f"lead {lead} masked: {problem}" for lead, problem in problems.items() if problem]
        return HarmonisedEcg(self._resample(signal, mask, record.sampling_rate), mask, notes)

    def start_positions(
        self, num_samples: int, crop: str = "center", generator: np.random.Generator | None = None
    ) -> list[int]:
        """Where the windows begin in a record of `num_samples` samples: one start, or three for `crop="three"`.

        Raises:
            ValueError: the record is shorter than the window, or `crop` is unknown.
        """
        spare = num_samples - self.num_samples
        if spare < 0:
            raise ValueError(f"{num_samples} samples are fewer than the window's {self.num_samples}")
        if crop == "center":
            return [spare // 2]
        if crop == "three":
            return [0, spare // 2, spare]
        if crop == "random":
            generator = np.random.default_rng() if generator is None else generator
            return [int(generator.integers(0, spare + 1))]
        raise ValueError(f"crop is {crop!r}, expected 'center', 'random' or 'three'")

    def finish(self, signal: np.ndarray, mask: np.ndarray, start: int) -> np.ndarray:
        """Crop, band-pass, standardise.

        Args:
            signal: (12, samples) at `sampling_rate`, as `harmonise` gives it.
            mask: (12,) bool, usable leads.
            start: first sample of the window.

        Returns:
            (12, num_samples) float32: mean 0 and standard deviation 1 over all samples of the usable leads *together*,
            so that amplitude ratios between leads survive; masked leads are zero.
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
        for cutoff, kind in ((self.highpass, "highpass"), (self.lowpass, "lowpass")):
            sections = _design(self.filter_order, cutoff, kind, self.sampling_rate)
            signal = sosfiltfilt(sections, signal, axis=-1)
        return signal

    def _as_record(self, ecg: Any) -> Any:
        if isinstance(ecg, (str, Path)):
            return read_ecg(ecg)
        if isinstance(ecg, Mapping):
            return _record_from_mapping(ecg)
        # no isinstance check on EcgRecord: remote code may hold two copies of its module
        if isinstance(ecg, np.ndarray) or not hasattr(ecg, "lead_names"):
            raise InputRefusedError(
                "ecg",
                f"a {type(ecg).__name__} without lead names: give a path, or a mapping with signal (leads, samples), "
                "sampling_rate (Hz) and lead_names",
            )
        return ecg

    def _check_record(self, record: Any) -> None:
        shape = record.signal.shape
        if record.signal.ndim != 2 or shape[0] != len(record.lead_names):
            turned = record.signal.ndim == 2 and shape[1] == len(record.lead_names)
            remedy = "transpose it (signal.T)" if turned else "give one row per lead name"
            raise InputRefusedError(
                record.source, f"signal of shape {shape} with {len(record.lead_names)} lead names: {remedy}"
            )
        if not np.isfinite(record.sampling_rate) or record.sampling_rate < 2 * self.lowpass:
            raise InputRefusedError(
                record.source,
                f"sampling rate {record.sampling_rate:g} Hz, at least {2 * self.lowpass:g} Hz are needed "
                f"for the band up to {self.lowpass:g} Hz: check the rate or find the original recording",
            )
        seconds, needed = shape[1] / record.sampling_rate, self.num_samples / self.sampling_rate
        if int(shape[1] * self.sampling_rate / record.sampling_rate) < self.num_samples:
            raise InputRefusedError(
                record.source,
                f"{seconds:g} s long ({shape[1]} samples at {record.sampling_rate:g} Hz), {needed:g} s are needed: "
                "records are never padded; check the sampling rate or find a longer recording",
            )

    def _in_millivolts(self, record: Any) -> tuple[np.ndarray, list[str]]:
        names: list[str] = []
        for raw in record.lead_names:
            name = normalise_lead_name(raw)
            if name is None:
                raise InputRefusedError(record.source, f"lead name {raw!r} is not known; known are {', '.join(LEADS)}")
            if name in names:
                twin = record.lead_names[names.index(name)]
                raise InputRefusedError(record.source, f"{twin!r} and {raw!r} both name lead {name}: keep one of them")
            names.append(name)
        signal = np.asarray(record.signal, dtype=np.float64)
        signal = np.where(np.isfinite(signal), signal, np.nan)
        if record.units == "normalised":
            return signal, names
        try:
            signal = signal * millivolts_per_unit(record.units)
        except ValueError as error:
            raise InputRefusedError(
                record.source, f"{error}, or give units='normalised' for z-scored arrays"
            ) from error
        _check_amplitude(signal, record)
        return signal, names

    def _repair_lead(self, values: np.ndarray, name: str, record: Any, notes: list[str]) -> tuple[np.ndarray, str]:
        """The lead without gaps and an empty string, or zeros and why the lead cannot be used."""
        nothing = np.zeros_like(values)
        missing = np.isnan(values)
        if missing.all():
            return nothing, "has no values"
        if missing.any():
            longest = _longest_run(missing) / record.sampling_rate
            if longest > self.max_gap_seconds:
                return nothing, f"has a gap of {longest:.3g} s, the limit is {self.max_gap_seconds:g} s"
            if missing.mean() > MAX_INTERPOLATED_SHARE:
                return nothing, f"lacks {missing.mean():.0%} of its samples, the limit is {MAX_INTERPOLATED_SHARE:.0%}"
            where = np.arange(values.size)
            values = np.interp(where, where[~missing], values[~missing])
            notes.append(f"lead {name}: {missing.sum()} missing samples interpolated, longest gap {longest:.3g} s")
        span = float(np.ptp(values))
        if record.units == "normalised":
            return (nothing, "is flat") if span == 0 else (values, "")
        if span < FLAT_MV:
            return nothing, f"is flat ({span:.2g} mV from lowest to highest, the limit is {FLAT_MV:g} mV)"
        still = _longest_run(np.diff(values) == 0) / record.sampling_rate
        if still > MAX_STILL_SECONDS:
            return nothing, f"stands still for {still:.3g} s, the limit is {MAX_STILL_SECONDS:g} s"
        peak = float(np.abs(values - np.median(values)).max())
        if peak > IMPLAUSIBLE_MV:
            return nothing, f"reaches {peak:.3g} mV, the limit is {IMPLAUSIBLE_MV:g} mV"
        return values, ""

    def _resample(self, signal: np.ndarray, mask: np.ndarray, sampling_rate: float) -> np.ndarray:
        length = int(signal.shape[1] * self.sampling_rate / sampling_rate)
        resampled = np.zeros((len(LEADS), length), dtype=np.float32)
        usable = signal[mask]
        resampled[mask] = usable if length == signal.shape[1] else resample(usable, length, axis=-1)
        return resampled


@lru_cache(maxsize=8)
def _design(order: int, cutoff: float, kind: str, sampling_rate: float) -> np.ndarray:
    """Second-order sections of a Butterworth filter; designing them costs as much as filtering 9 s."""
    return butter(order, cutoff, btype=kind, fs=sampling_rate, output="sos")


def _record_from_mapping(ecg: Mapping) -> EcgRecord:
    known = {"signal", "sampling_rate", "lead_names", "units", "source"}
    missing = sorted({"signal", "sampling_rate", "lead_names"} - set(ecg))
    unknown = sorted(set(ecg) - known)
    source = str(ecg.get("source", "ecg"))
    if missing or unknown:
        raise InputRefusedError(
            source, f"an ECG mapping needs signal, sampling_rate and lead_names; missing {missing}, unknown {unknown}"
        )
    try:
        signal = np.asarray(ecg["signal"], dtype=np.float64)
        sampling_rate = float(ecg["sampling_rate"])
    except (TypeError, ValueError) as error:
        raise InputRefusedError(source, f"signal and sampling_rate must be numbers: {error}") from error
    units = str(ecg.get("units", "mV"))
    units = "normalised" if units.casefold() in ("normalised", "normalized") else units
    return EcgRecord(signal, sampling_rate, list(ecg["lead_names"]), units, source)


def _check_amplitude(millivolts: np.ndarray, record: Any) -> None:
    """Refuses a record whose typical lead is a thousand times too large or too small: the unit is wrong."""
    leads = millivolts[~np.isnan(millivolts).all(axis=1)]
    if leads.size == 0:
        return
    peaks = np.nanmax(np.abs(leads - np.nanmedian(leads, axis=1, keepdims=True)), axis=1)
    if np.median(peaks) > IMPLAUSIBLE_MV:
        raise InputRefusedError(
            record.source,
            f"amplitude of {np.median(peaks):.4g} mV in the typical lead, at most {IMPLAUSIBLE_MV:g} mV is plausible: "
            f"the signal came as {record.units!r}; is it in µV (units='uV'), or already scaled (units='normalised')?",
        )
    spans = np.nanmax(leads, axis=1) - np.nanmin(leads, axis=1)
    if 0 < spans.max() < TINY_MV:
        raise InputRefusedError(
            record.source,
            f"amplitude of {spans.max():.2g} mV in the largest lead, at least {TINY_MV:g} mV is plausible: "
            f"the signal came as {record.units!r}; is it in mV or V?",
        )


def _derive_limb_leads(signal: np.ndarray, problems: dict[str, str], notes: list[str]) -> None:
    """Fills absent III, aVR, aVL and aVF from I and II; in place. A lead that was recorded but is bad stays masked."""
    if problems["I"] or problems["II"]:
        return
    derived = [lead for lead in _LIMB_LEADS if problems[lead] == "missing"]
    for lead in derived:
        of_one, of_two = _LIMB_LEADS[lead]
        signal[LEADS.index(lead)] = of_one * signal[LEADS.index("I")] + of_two * signal[LEADS.index("II")]
        problems[lead] = ""
    if derived:
        notes.append(f"derived from I and II: {', '.join(derived)}")


def _longest_run(flags: np.ndarray) -> int:
    """Length of the longest run of `True`."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    return int((edges[1::2] - edges[::2]).max(initial=0))
