"""ECG: evidence -> ten seconds of a 12-lead electrocardiogram from a moving cardiac dipole.

The dipole (x to the left, y to the feet, z to the back; millivolts) is a sum of Gaussian bumps in time, one or two per
wave of a beat. The leads are its projections by Dower's transform (Dower et al. 1980, inverse-dipole coefficients).
Evidence: QRS width, hypertrophy (leftward-posterior voltage), T-wave polarity, QT interval, P terminal force, AF.
Nuisance: heart rate, respiratory variation, electrode gains, heart orientation, baseline wander, muscle noise, hum.
"""

import numpy as np

from tgmm_hf.cohorts.synthetic.evidence import CENTRE, Evidence, sigmoid

RATE, SECONDS = 500, 10
MIMIC_LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
"""Lead order of MIMIC-IV-ECG files: aVF before aVL."""

DOWER = {
    "I": (0.632, -0.235, 0.059),
    "II": (0.235, 1.066, -0.132),
    "V1": (-0.515, 0.157, -0.917),
    "V2": (0.044, 0.164, -1.387),
    "V3": (0.882, 0.098, -1.277),
    "V4": (1.213, 0.127, -0.601),
    "V5": (1.125, 0.127, -0.086),
    "V6": (0.831, 0.076, 0.230),
}

T_AXIS = np.array([0.75, 0.45, -0.35])
"""Direction of the T wave that turns with strain: left, down, to the front."""
T_REST = np.array([-0.06, 0.22, 0.15])
"""Millivolts. The part of the T wave that stays, nearly perpendicular, so that the QT interval is always visible."""

PHYSICAL = {
    "qrs_width": lambda v: 70 + 110 * sigmoid(0.9 * (v - CENTRE) - 0.3),  # ms
    "hypertrophy": lambda v: 0.5 + 1.9 * sigmoid(v - CENTRE),  # gain of the leftward-posterior voltage
    "t_wave": lambda v: 0.50 - 1.00 * sigmoid(v - CENTRE),  # mV, negative = strain pattern
    "qt_interval": lambda v: 360 + 170 * sigmoid(v - CENTRE - 0.3),  # ms, corrected for rate
    "p_terminal": lambda v: 0.02 + 0.20 * sigmoid(v - CENTRE),  # mV, late backward P force
}
"""Axis units -> physical units, one-to-one."""


def render_ecg(table: Evidence, rng: np.random.Generator) -> np.ndarray:
    """Render the evidence of one patient as signal (5000, 12) in millivolts, in the lead order of MIMIC."""
    fibrillating = bool(table.ecg_af[0])
    physical = {name: float(PHYSICAL[name](v)) for name, v in table.parameters_of("ecg").items()}
    beats = beat_times(rng, fibrillating)
    time = np.arange(RATE * SECONDS) / RATE
    dipole = np.zeros((3, len(time)))
    for centre, width, vector in waves(physical, beats, fibrillating):
        add_bumps(dipole, time, centre, width, vector)
    if fibrillating:
        dipole += fibrillation(rng, time)
    signal = leads_of(rotation(rng) @ dipole * rng.uniform(0.85, 1.15))
    signal *= rng.normal(1.0, 0.03, (1, 12))
    return signal + noise(rng, time)


def beat_times(rng: np.random.Generator, fibrillating: bool) -> np.ndarray:
    """Draw the times of the R peaks (s), from before the start to after the end; irregular in fibrillation."""
    cycle = 60 / rng.uniform(58, 95)
    spread = 0.20 if fibrillating else 0.015
    intervals = cycle * np.clip(rng.normal(1, spread, 40), 0.6, 1.7)
    times = -rng.uniform(0, 1) * cycle - cycle + np.cumsum(intervals)
    return times[times < SECONDS + cycle]


def waves(
    physical: dict[str, float], beats: np.ndarray, fibrillating: bool
) -> list[tuple[np.ndarray, float | np.ndarray, np.ndarray]]:
    """List every wave as (centre in each beat in s, width in s, dipole vector in mV)."""
    width = physical["qrs_width"] / 1000
    gain = physical["hypertrophy"]
    stretch = np.sqrt(np.clip(np.diff(beats, append=beats[-1] + np.median(np.diff(beats))), 0.45, 1.5))
    qt = physical["qt_interval"] / 1000 * stretch  # Bazett
    t_peak = beats - 0.45 * width + 0.72 * qt
    left_back = np.array([0.75, 0.15, 0.55]) * gain
    out: list[tuple[np.ndarray, float | np.ndarray, np.ndarray]] = [
        (beats - 0.32 * width, 0.11 * width, np.array([-0.12, -0.05, -0.25])),  # septal: to the front and right
        (beats, 0.15 * width, left_back + np.array([0.20, 0.65, 0.0])),  # main: left, down, back
        (beats + 0.34 * width, 0.13 * width, left_back * 0.45 + np.array([-0.15, -0.25, 0.1])),  # late basal
        (t_peak, 0.055 * stretch, physical["t_wave"] * T_AXIS + T_REST),
    ]
    if not fibrillating:
        p_peak = beats - 0.5 * width - 0.115
        out += [
            (p_peak - 0.018, 0.017, np.array([0.04, 0.09, -0.06])),  # right atrium
            (p_peak + 0.025, 0.020, np.array([0.06, 0.04, 0.02]) + physical["p_terminal"] * np.array([0.2, 0.1, 1.0])),
        ]
    return out


def add_bumps(
    dipole: np.ndarray, time: np.ndarray, centre: np.ndarray, width: float | np.ndarray, vector: np.ndarray
) -> None:
    """Add one Gaussian bump per beat to the dipole (3, T), in place."""
    shape = np.exp(-0.5 * ((time - centre[:, None]) / np.reshape(width, (-1, 1))) ** 2).sum(axis=0)
    dipole += vector[:, None] * shape


def fibrillation(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """Draw small atrial waves (3, T) of 4 to 8 Hz in place of P waves."""
    out = np.zeros((3, len(time)))
    for _ in range(3):
        wave = np.sin(2 * np.pi * (rng.uniform(4, 8) * time + rng.random()))
        out += 0.02 * rng.normal(1, 0.3, (3, 1)) * wave
    return out


def rotation(rng: np.random.Generator) -> np.ndarray:
    """Draw a small rotation (3, 3) of the heart in the chest, about 3 degrees per axis."""
    a, b, c = np.deg2rad(rng.normal(0, 3, 3))
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(c), -np.sin(c)], [0, np.sin(c), np.cos(c)]])
    return about_z @ about_y @ about_x


def leads_of(dipole: np.ndarray) -> np.ndarray:
    """Project a dipole (3, T) to twelve leads (T, 12); the limb leads follow Einthoven and Goldberger."""
    measured = {name: np.array(vector) @ dipole for name, vector in DOWER.items()}
    one, two = measured["I"], measured["II"]
    measured |= {"III": two - one, "aVR": -(one + two) / 2, "aVL": one - two / 2, "aVF": two - one / 2}
    return np.stack([measured[name] for name in MIMIC_LEADS], axis=1)


def noise(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """Draw baseline wander, mains hum and muscle noise (T, 12) in millivolts."""
    out = rng.normal(0, 0.012, (len(time), 12))
    out += 0.006 * np.sin(2 * np.pi * (60 * time + rng.random()))[:, None] * rng.random(12)
    for _ in range(2):
        wave = np.sin(2 * np.pi * (rng.uniform(0.1, 0.4) * time + rng.random()))
        out += 0.06 * wave[:, None] * rng.normal(1, 0.4, 12)
    return out
