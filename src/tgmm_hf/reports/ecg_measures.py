"""Rate, axis and intervals of an ECG, measured by NeuroKit2 where it is installed (extra `measures`).

The model does not read these figures. They are a library's, and nobody has checked them.
"""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tgmm_hf.inputs.ecg_sheet import EcgTraces
from tgmm_hf.utils.names import LEADS
from tgmm_hf.utils.versions import package_versions

try:
    import neurokit2
except ImportError:
    neurokit2 = None

MEASURED_LEAD = "II"
"""Lead whose waves are measured."""
FEWEST_BEATS = 3
"""With fewer measured beats a figure is left out."""
PLAUSIBLE = {"PR": (80, 400), "QRS": (50, 220), "QT": (200, 650)}
"""In ms. If one interval lies outside, the library has missed the waves, so neither interval nor axis is shown.
On a synthetic patient of the demo it gave a QRS of 308 ms, where the trace has about 100 ms."""


def measure_ecg(traces: EcgTraces) -> list[dict[str, str]]:
    """Measure a recording: {"name", "value"} for each figure, and one entry that names the library.

    Rate, PR, QRS and QT are medians over the beats of lead II. QTc is by Fridericia. The axis comes from the areas of
    QRS in I and aVF. A figure that fewer than `FEWEST_BEATS` beats give is left out. Where an interval is not in
    `PLAUSIBLE`, only the rate is given.

    Args:
        traces: the recording.

    Returns:
        An empty list without the library, without a complete lead II, or if the library finds no beats.
    """
    signal = traces.signal[LEADS.index(MEASURED_LEAD)]
    if neurokit2 is None or MEASURED_LEAD in traces.problems or not np.isfinite(signal).all():
        return []
    rate = traces.sampling_rate
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of empty means, where the library finds no wave in a beat
            clean = neurokit2.ecg_clean(signal, sampling_rate=rate)
            peaks = neurokit2.ecg_peaks(clean, sampling_rate=rate)[1]["ECG_R_Peaks"]
            waves = neurokit2.ecg_delineate(clean, peaks, sampling_rate=rate, method="dwt")[1]
    except (ValueError, IndexError, ZeroDivisionError, TypeError, KeyError):  # what the library raises over odd signals
        return []
    figures = _intervals(np.asarray(peaks, float), waves, rate)
    is_plausible = all(low <= figures[name] <= high for name, (low, high) in PLAUSIBLE.items() if name in figures)
    axis = _axis(traces, waves) if is_plausible else None
    if not is_plausible:
        figures = {name: value for name, value in figures.items() if name == "rate"}
    shown = [
        {"name": name, "value": f"{figures[name]:.0f} {unit}"}
        for name, unit in (("rate", "/min"), ("PR", "ms"), ("QRS", "ms"), ("QT", "ms"), ("QTc", "ms"))
        if name in figures
    ]
    shown += [] if axis is None else [{"name": "axis", "value": f"{axis:.0f}°"}]
    version = package_versions("neurokit2")["neurokit2"]
    return [*shown, {"name": "measured by", "value": f"NeuroKit2 {version}, not checked"}] if shown else []


def _intervals(peaks: NDArray, waves: Mapping[str, Sequence[float]], rate: float) -> dict[str, float]:
    """Compute rate (per minute) and PR, QRS, QT and QTc (ms) as far as there are enough beats.

    Args:
        peaks: samples of the R peaks.
        waves: name of a point -> its sample in each beat, NaN where it is not known.
        rate: Hz.
    """
    figures = {}
    if len(peaks) > FEWEST_BEATS:
        figures["rate"] = 60 * rate / float(np.median(np.diff(peaks)))
    points = {
        "PR": ("ECG_P_Onsets", "ECG_R_Onsets"),
        "QRS": ("ECG_R_Onsets", "ECG_R_Offsets"),
        "QT": ("ECG_R_Onsets", "ECG_T_Offsets"),
    }
    for name, (start, end) in points.items():
        length = np.asarray(waves[end], float) - np.asarray(waves[start], float)
        if np.isfinite(length).sum() >= FEWEST_BEATS:
            figures[name] = 1000 * float(np.nanmedian(length)) / rate
    if "QT" in figures and "rate" in figures:
        figures["QTc"] = figures["QT"] / (60 / figures["rate"]) ** (1 / 3)
    return figures


def _axis(traces: EcgTraces, waves: Mapping[str, Sequence[float]]) -> float | None:
    """Compute the QRS axis in degrees from the areas of QRS in I and aVF; None without them.

    aVF is larger by 2 / sqrt(3) to have the scale of a bipolar lead.
    """
    leads = traces.signal[[LEADS.index("I"), LEADS.index("aVF")]]
    beats = np.column_stack([waves["ECG_R_Onsets"], waves["ECG_R_Offsets"]]).astype(float)
    beats = beats[np.isfinite(beats).all(axis=1)].astype(int)
    if {"I", "aVF"} & set(traces.problems) or len(beats) < FEWEST_BEATS or not np.isfinite(leads).all():
        return None
    areas = np.median([(leads[:, a:b] - leads[:, [a]]).sum(axis=1) for a, b in beats], axis=0)
    return float(np.degrees(np.arctan2(areas[1] * 2 / np.sqrt(3), areas[0])))
