"""What a synthetic ECG shows: measurements of its waves without noise, statements that follow, the machine's report.

The limits are those of textbooks, in `STATEMENT_RULES`. A wave begins and ends 1.5 standard deviations from the centre
of its first and last bump. Amplitudes are means over all whole beats.
"""

from collections.abc import Callable, Mapping

import numpy as np

from tgmm_hf.cohorts.ecg_statements import BY_CODE
from tgmm_hf.cohorts.synthetic.render_ecg import (
    CHEST_LEADS,
    LIMB_LEADS,
    MIMIC_LEADS,
    P_CENTRES,
    P_WIDTHS,
    QRS_CENTRES,
    QRS_WIDTHS,
    RATE,
    SECONDS,
    DrawnEcg,
    p_middles,
    stretch_of,
    t_peaks,
)

EDGE = 1.5
"""Standard deviations from the centre of a bump to the edge of its wave."""
J_DELAY = 0.040
"""Seconds from the end of the QRS complex to the place where the ST segment is measured."""
FIRST_WAVE_MS = 40
"""Place of the P wave's begin in the averaged beat of machine_measurements.csv."""
QRS_WITHOUT_P_MS = 200
"""Place of the QRS complex in the averaged beat of an ECG without P waves."""

Measurements = Mapping[str, float | None]
"""Name -> value. None: the ECG does not show it, as the PR interval in atrial fibrillation."""


def measure(drawn: DrawnEcg) -> dict[str, float | None]:
    """Measure an ECG.

    Returns:
        heart_rate (beats per minute); rr_interval, p_duration, pr_interval, qrs_duration, qt_interval, qtc_interval
        (ms, Bazett); p_axis, qrs_axis, t_axis (degrees); sokolow_lyon (mV, S in V1 plus the larger R of V5 and V6);
        limb_voltage, chest_voltage (mV, largest span of a QRS complex); st_level (mV, V5); t_amplitude (mV, mean of V5
        and V6); p_terminal (mV, depth of the late P wave in V1). The last and those of the P wave are None in
        fibrillation.
    """
    width = drawn.physical["qrs_width"] / 1000
    start, end = _edges(QRS_CENTRES, QRS_WIDTHS)
    inside = drawn.beats[(drawn.beats > 0.4) & (drawn.beats < SECONDS - 0.6)]
    leads = dict(zip(MIMIC_LEADS, drawn.leads(with_fibrillation=False).T, strict=True))
    interval = float(np.diff(drawn.beats[(drawn.beats > 0) & (drawn.beats < SECONDS)]).mean())
    stretch = float(stretch_of(drawn.beats)[np.isin(drawn.beats, inside)].mean())
    qrs = _mean_window(leads, inside, start * width - 0.01, end * width + 0.01)
    t_places = t_peaks(drawn.physical, drawn.beats)[np.isin(drawn.beats, inside)]
    t_wave = {lead: _mean_at(values, t_places) for lead, values in leads.items()}
    return {
        "heart_rate": 60 / interval,
        "rr_interval": 1000 * interval,
        "qrs_duration": 1000 * (end - start) * width,
        "qt_interval": drawn.physical["qt_interval"] * stretch,
        "qtc_interval": drawn.physical["qt_interval"],
        "qrs_axis": _axis({lead: values.max() + values.min() for lead, values in qrs.items()}),
        "t_axis": _axis(t_wave),
        "sokolow_lyon": float(max(qrs["V5"].max(), qrs["V6"].max()) - qrs["V1"].min()),
        "limb_voltage": float(max(np.ptp(qrs[lead]) for lead in LIMB_LEADS)),
        "chest_voltage": float(max(np.ptp(qrs[lead]) for lead in CHEST_LEADS)),
        "st_level": _mean_at(leads["V5"], inside + end * width + J_DELAY),
        "t_amplitude": (t_wave["V5"] + t_wave["V6"]) / 2,
        **_measure_p_wave(drawn, leads, inside, start * width),
    }


def _measure_p_wave(
    drawn: DrawnEcg, leads: Mapping[str, np.ndarray], beats: np.ndarray, qrs_start: float
) -> dict[str, float | None]:
    """Measure the P wave: p_duration, pr_interval (ms), p_axis (degrees), p_terminal (mV); None with fibrillation.

    Args:
        drawn: The ECG.
        leads: Lead -> values without noise.
        beats: Times of the beats to measure, in seconds.
        qrs_start: Begin of the QRS complex, in seconds from the R peak.
    """
    if drawn.fibrillating:
        return dict.fromkeys(("p_duration", "pr_interval", "p_axis", "p_terminal"))
    middles = p_middles(drawn.physical, beats, drawn.variation)
    start = P_CENTRES[0] - EDGE * P_WIDTHS[0]
    end = P_CENTRES[1] + EDGE * P_WIDTHS[1]
    return {
        "p_duration": 1000 * (end - start),
        "pr_interval": 1000 * float(np.mean(beats + qrs_start - (middles + start))),
        "p_axis": _axis({lead: _mean_at(values, middles) for lead, values in leads.items()}),
        "p_terminal": -_mean_at(leads["V1"], middles + P_CENTRES[1]),
    }


def _edges(centres: tuple[float, ...], widths: tuple[float, ...]) -> tuple[float, float]:
    """Return begin and end of a wave of several bumps, in the unit of the centres."""
    starts = [centre - EDGE * width for centre, width in zip(centres, widths, strict=True)]
    ends = [centre + EDGE * width for centre, width in zip(centres, widths, strict=True)]
    return min(starts), max(ends)


def _mean_window(leads: Mapping[str, np.ndarray], beats: np.ndarray, start: float, end: float) -> dict[str, np.ndarray]:
    """Average each lead over the beats, from `start` to `end` seconds around the R peak."""
    offsets = np.arange(round(start * RATE), round(end * RATE) + 1)
    places = np.round(beats * RATE).astype(int)[:, None] + offsets
    return {lead: values[places].mean(axis=0) for lead, values in leads.items()}


def _mean_at(values: np.ndarray, times: np.ndarray) -> float:
    """Average a lead over moments, given in seconds."""
    return float(values[np.clip(np.round(times * RATE).astype(int), 0, len(values) - 1)].mean())


def _axis(amplitudes: Mapping[str, float]) -> float:
    """Compute an axis in degrees from the amplitudes of I and aVF. An augmented lead is smaller by the root of 3/4."""
    return float(np.rad2deg(np.arctan2(amplitudes["aVF"] * 2 / np.sqrt(3), amplitudes["I"])))


def _at_least(name: str, limit: float) -> Callable[[Measurements], bool]:
    """Make the rule "the measurement `name` is there and at least `limit`"."""

    def rule(measured: Measurements) -> bool:
        value = measured[name]
        return value is not None and value >= limit

    return rule


def _between(name: str, low: float, high: float) -> Callable[[Measurements], bool]:
    """Make the rule "the measurement `name` is there, at least `low` and less than `high`"."""

    def rule(measured: Measurements) -> bool:
        value = measured[name]
        return value is not None and low <= value < high

    return rule


def _is_sinus(measured: Measurements) -> bool:
    return measured["pr_interval"] is not None


STATEMENT_RULES: dict[str, Callable[[Measurements], bool]] = {
    "AFIB": lambda m: not _is_sinus(m),
    "SR": lambda m: _is_sinus(m) and _between("heart_rate", 60, 100)(m),
    "SBRAD": lambda m: _is_sinus(m) and _between("heart_rate", 0, 60)(m),
    "STACH": lambda m: _is_sinus(m) and _at_least("heart_rate", 100)(m),
    "1AVB": _at_least("pr_interval", 200),  # ms
    "LAD": _between("qrs_axis", -90, -30),  # degrees
    "RAD": _at_least("qrs_axis", 90),
    "LAO/LAE": _at_least("p_terminal", 0.15),  # mV
    "IVCD": _at_least("qrs_duration", 120),  # ms
    "VCLVH": _at_least("sokolow_lyon", 3.5),  # mV
    "LVOLT": lambda m: _between("limb_voltage", 0, 0.5)(m) and _between("chest_voltage", 0, 1.0)(m),  # mV
    "STE_": _at_least("st_level", 0.1),  # mV
    "STD_": _between("st_level", -9, -0.1),
    "INVT": _between("t_amplitude", -9, -0.1),  # mV
    "LOWT": _between("t_amplitude", -0.1, 0.1),
    "LNGQT": _at_least("qtc_interval", 460),  # ms
}
"""Code -> rule, in the order of the report."""
STATEMENT_CODES = (*STATEMENT_RULES, "NORM")
"""All codes that a synthetic ECG can have. NORM: sinus rhythm at a normal rate and no other statement."""


def statements_of(measured: Measurements) -> dict[str, bool]:
    """Decide for each of `STATEMENT_CODES` whether an ECG has the statement."""
    present = {code: rule(measured) for code, rule in STATEMENT_RULES.items()}
    return present | {"NORM": [code for code, is_present in present.items() if is_present] == ["SR"]}


def report_lines(statements: Mapping[str, bool]) -> list[str]:
    """Write the machine's report: one line per statement that is present, and "Normal ECG" or "Abnormal ECG"."""
    lines = [BY_CODE[code].wording for code in STATEMENT_CODES if statements[code]]
    return lines if statements["NORM"] else [*lines, "Abnormal ECG"]


def machine_row(measured: Measurements, statements: Mapping[str, bool]) -> dict[str, object]:
    """Write the columns of one ECG in machine_measurements.csv. Times are ms in the averaged beat. Missing is empty."""
    row: dict[str, object] = {f"report_{k}": line for k, line in enumerate(report_lines(statements))}
    present = {name: value for name, value in measured.items() if value is not None}
    qrs_onset = float(QRS_WITHOUT_P_MS)
    if "pr_interval" in present:
        row |= {"p_onset": FIRST_WAVE_MS, "p_end": round(FIRST_WAVE_MS + present["p_duration"])}
        qrs_onset = FIRST_WAVE_MS + present["pr_interval"]
    row |= {
        "qrs_onset": round(qrs_onset),
        "qrs_end": round(qrs_onset + present["qrs_duration"]),
        "t_end": round(qrs_onset + present["qt_interval"]),
    }
    names = ("rr_interval", "p_axis", "qrs_axis", "t_axis")
    return row | {name: round(present[name]) for name in names if name in present}


def truth_row(measured: Measurements, statements: Mapping[str, bool]) -> dict[str, object]:
    """Write the columns of one ECG in ecg_statements.csv: measurements, then 1 or 0 for each code."""
    rounded = {name: round(value, 3) for name, value in measured.items() if value is not None}
    return {**rounded, **{code: int(is_present) for code, is_present in statements.items()}}


MEASURED = (
    *("heart_rate", "rr_interval", "p_duration", "pr_interval", "qrs_duration", "qt_interval", "qtc_interval"),
    *("p_axis", "qrs_axis", "t_axis", "sokolow_lyon", "limb_voltage", "chest_voltage", "st_level", "t_amplitude"),
    "p_terminal",
)
"""Names of all measurements, in the order of the columns of ecg_statements.csv."""
