"""ECG: evidence -> ten seconds of a 12-lead electrocardiogram from a moving cardiac dipole.

The dipole (x to the left, y to the feet, z to the back; millivolts) is a sum of Gaussian bumps in time, one or two per
wave of a beat. The leads are its projections by Dower's transform (Dower et al. 1980, inverse-dipole coefficients).
Evidence: QRS width, hypertrophy (leftward-posterior voltage), T-wave polarity, QT interval, P terminal force, AF.
Nuisance: heart rate, respiratory variation, electrode gains, heart orientation, baseline wander, muscle noise, hum. A
varied ECG (`Variation`) has more nuisance, so that a report about it has more to say.
"""

from dataclasses import dataclass

import numpy as np

from tgmm_hf.cohorts.synthetic.devices import ECG_DEVICE, RATE, SECONDS, EcgDevice
from tgmm_hf.cohorts.synthetic.evidence import CENTRE, Evidence, sigmoid

MIMIC_LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
"""Lead order of MIMIC-IV-ECG files: aVF before aVL."""

LIMB_LEADS, CHEST_LEADS = MIMIC_LEADS[:6], MIMIC_LEADS[6:]

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
ST_AXIS = np.array([0.75, 0.45, -0.10])
"""Direction of a shift of the ST segment: left and down, so that V5, V6, I and II show it."""
P_CENTRES, P_WIDTHS = (-0.018, 0.025), (0.017, 0.020)
"""Seconds. Centres of the right and left atrial wave, from the middle of the P wave, and their widths."""
QRS_CENTRES, QRS_WIDTHS = (-0.32, 0.0, 0.34), (0.11, 0.15, 0.13)
"""Centres and widths of the septal, main and basal wave, in shares of the QRS width."""

PHYSICAL = {
    "qrs_width": lambda v: 70 + 110 * sigmoid(0.9 * (v - CENTRE) - 0.3),  # ms
    "hypertrophy": lambda v: 0.5 + 1.9 * sigmoid(v - CENTRE),  # gain of the leftward-posterior voltage
    "t_wave": lambda v: 0.50 - 1.00 * sigmoid(v - CENTRE),  # mV, negative = strain pattern
    "qt_interval": lambda v: 360 + 170 * sigmoid(v - CENTRE - 0.3),  # ms, corrected for rate
    "p_terminal": lambda v: 0.02 + 0.20 * sigmoid(v - CENTRE),  # mV, late backward P force
}
"""Name of a parameter -> function from axis units to physical units, one-to-one."""


@dataclass(frozen=True)
class Variation:
    """What differs between ECGs besides the evidence. The defaults are those of a plain ECG.

    Attributes:
        rate: Heart rate in beats per minute. None: 58 to 95, drawn with the beats.
        pr_delay: Seconds from the middle of the P wave to the begin of the QRS complex.
        axis: Degrees by which the QRS complex is turned in the frontal plane, positive towards the feet.
        voltage: Factor of all voltages.
        st_shift: Millivolts of the dipole between QRS complex and T wave. Positive raises the ST segment of V5.
    """

    rate: float | None = None
    pr_delay: float = 0.115
    axis: float = 0.0
    voltage: float = 1.0
    st_shift: float = 0.0


PLAIN = Variation()


@dataclass(frozen=True)
class DrawnEcg:
    """An ECG before noise: everything that its waves follow from.

    Attributes:
        physical: Parameter -> value in physical units, see `PHYSICAL`. `p_terminal` is missing with fibrillation.
        fibrillating: Whether the atria fibrillate.
        variation: What differs besides the evidence.
        beats: Times of the R peaks in seconds, (beats,), from before 0 to after the end.
        atria: Dipole of the fibrillating atria, (3, T) millivolts; None without fibrillation.
        turn: Rotation of the heart, (3, 3).
        scale: Factor of all voltages.
        gains: Factor of each lead, (1, 12).
    """

    physical: dict[str, float]
    fibrillating: bool
    variation: Variation
    beats: np.ndarray
    atria: np.ndarray | None
    turn: np.ndarray
    scale: float
    gains: np.ndarray

    def leads(self, with_fibrillation: bool = True) -> np.ndarray:
        """Compute the leads without noise, (T, 12) in millivolts.

        Args:
            with_fibrillation: Whether to include the waves of fibrillating atria.
        """
        time = sample_times()
        dipole = np.zeros((3, len(time)))
        for centre, width, vector in waves(self.physical, self.beats, self.fibrillating, self.variation):
            add_bumps(dipole, time, centre, width, vector)
        if with_fibrillation and self.atria is not None:
            dipole += self.atria
        return leads_of(self.turn @ dipole * self.scale) * self.gains


def render_ecg(
    table: Evidence, rng: np.random.Generator, variation: Variation = PLAIN, device: EcgDevice = ECG_DEVICE
) -> np.ndarray:
    """Render the ECG of one patient: (T, 12) in millivolts, ten seconds, leads as in `MIMIC_LEADS`.

    T is 5000, ten seconds at 500 Hz, unless the device has another rate.

    Args:
        table: Evidence of the patient, one row.
        rng: Source of everything that is no evidence, such as noise.
        variation: Further differences, drawn from another source.
        device: The electrocardiograph, which adds noise.
    """
    drawn = draw_ecg(table, rng, variation)
    return device.filtered(device.sampled(drawn.leads()) + noise(rng, device))


def draw_ecg(table: Evidence, rng: np.random.Generator, variation: Variation = PLAIN) -> DrawnEcg:
    """Draw beats, rotation and gains of one patient's ECG. The arguments are those of [`render_ecg`]."""
    fibrillating = bool(table.ecg_af[0])
    ecg = DrawnEcg(
        physical={name: float(PHYSICAL[name](v)) for name, v in table.parameters_of("ecg").items()},
        fibrillating=fibrillating,
        variation=variation,
        # the order of these draws makes the bytes of a cohort
        beats=beat_times(rng, fibrillating, variation.rate),
        atria=fibrillation(rng, sample_times()) if fibrillating else None,
        turn=rotation(rng),
        scale=rng.uniform(0.85, 1.15) * variation.voltage,
        gains=rng.normal(1.0, 0.03, (1, 12)),
    )
    if variation != PLAIN:
        # Limb leads with different gains contradict each other if they are large, as with a turned axis.
        ecg.gains[:, : len(LIMB_LEADS)] = ecg.gains[0, 0]
    return ecg


def draw_variation(rng: np.random.Generator) -> Variation:
    """Draw the variation of an ECG. Two of five ECGs differ from a plain one by their rate only.

    The sources of change are independent, but a long PR interval comes with a rate below 80 only, because the P wave
    would fall into the T wave.
    """
    plain = rng.random() < 0.4
    speed = rng.choice(3, p=(0.2, 0.55, 0.25))
    rate = rng.uniform(*((40, 57), (62, 97), (103, 125))[speed])
    delay = rng.uniform(0.165, 0.215) if rng.random() < 0.4 and rate < 80 else rng.uniform(0.09, 0.14)
    axis = rng.choice(3, p=(0.6, 0.2, 0.2))
    turn = (rng.normal(0, 8), rng.uniform(-100, -80), rng.uniform(75, 95))[axis]
    voltage = rng.uniform(0.2, 0.4) if rng.random() < 0.15 else 1.0
    st_shift = float(rng.choice((0.0, -1.0, 1.0), p=(0.7, 0.15, 0.15))) * rng.uniform(0.15, 0.35)
    return Variation(rate=rate if speed == 1 else None) if plain else Variation(rate, delay, turn, voltage, st_shift)


def sample_times() -> np.ndarray:
    """Return the times of the samples in seconds, (5000,)."""
    return np.arange(RATE * SECONDS) / RATE


def beat_times(rng: np.random.Generator, fibrillating: bool, rate: float | None = None) -> np.ndarray:
    """Draw the times of the R peaks in seconds, from before 0 to after the end; irregular if `fibrillating`.

    `rate` in beats per minute replaces the drawn rate.
    """
    drawn = rng.uniform(58, 95)
    cycle = 60 / (drawn if rate is None else rate)
    spread = 0.20 if fibrillating else 0.015
    intervals = cycle * np.clip(rng.normal(1, spread, 40), 0.6, 1.7)
    times = -rng.uniform(0, 1) * cycle - cycle + np.cumsum(intervals)
    return times[times < SECONDS + cycle]


def stretch_of(beats: np.ndarray) -> np.ndarray:
    """Compute by how much the QT interval of each beat is longer than at 60 beats per minute (Bazett), (beats,)."""
    intervals = np.diff(beats, append=beats[-1] + np.median(np.diff(beats)))
    return np.sqrt(np.clip(intervals, 0.45, 1.5))


def t_peaks(physical: dict[str, float], beats: np.ndarray) -> np.ndarray:
    """Compute the times of the T wave's peaks in seconds, (beats,)."""
    width, qt = physical["qrs_width"] / 1000, physical["qt_interval"] / 1000 * stretch_of(beats)
    return beats - 0.45 * width + 0.72 * qt


def p_middles(physical: dict[str, float], beats: np.ndarray, variation: Variation = PLAIN) -> np.ndarray:
    """Compute the times of the middle of the P waves in seconds, (beats,)."""
    width = physical["qrs_width"] / 1000
    return beats - 0.5 * width - variation.pr_delay


def waves(
    physical: dict[str, float], beats: np.ndarray, fibrillating: bool, variation: Variation = PLAIN
) -> list[tuple[np.ndarray, float | np.ndarray, np.ndarray]]:
    """List the waves of the ECG.

    Args:
        physical: Parameter -> value in physical units, see `PHYSICAL`.
        beats: Times of the R peaks in seconds, (beats,).
        fibrillating: With fibrillation there is no P wave.
        variation: What differs besides the evidence.

    Returns:
        For each wave: its centre in each beat in seconds (beats,), its width in seconds, a number or (beats,), and its
        dipole vector in millivolts (3,).
    """
    width = physical["qrs_width"] / 1000
    stretch = stretch_of(beats)
    left_back = np.array([0.75, 0.15, 0.55]) * physical["hypertrophy"]
    qrs = (
        np.array([-0.12, -0.05, -0.25]),  # septal: to the front and right
        left_back + np.array([0.20, 0.65, 0.0]),  # main: left, down, back
        left_back * 0.45 + np.array([-0.15, -0.25, 0.1]),  # late basal
    )
    turn = frontal_turn(variation.axis)
    out: list[tuple[np.ndarray, float | np.ndarray, np.ndarray]] = [
        (beats + centre * width, share * width, turn @ vector)
        for centre, share, vector in zip(QRS_CENTRES, QRS_WIDTHS, qrs, strict=True)
    ]
    out.append((t_peaks(physical, beats), 0.055 * stretch, physical["t_wave"] * T_AXIS + T_REST))
    if variation.st_shift:
        out.append((beats + 0.535 * width + 0.05, 0.035 * stretch, variation.st_shift * ST_AXIS))
    if not fibrillating:
        middle = p_middles(physical, beats, variation)
        left_atrium = np.array([0.06, 0.04, 0.02]) + physical["p_terminal"] * np.array([0.2, 0.1, 1.0])
        out += [
            (middle + P_CENTRES[0], P_WIDTHS[0], np.array([0.04, 0.09, -0.06])),  # right atrium
            (middle + P_CENTRES[1], P_WIDTHS[1], left_atrium),
        ]
    return out


def frontal_turn(degrees: float) -> np.ndarray:
    """Return the matrix (3, 3) of a turn in the frontal plane, positive from the left towards the feet."""
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])


def add_bumps(
    dipole: np.ndarray, time: np.ndarray, centre: np.ndarray, width: float | np.ndarray, vector: np.ndarray
) -> None:
    """Add one Gaussian bump per beat to the dipole, in place.

    Args:
        dipole: (3, T) millivolts.
        time: (T,) seconds.
        centre: (beats,) seconds.
        width: Standard deviation in seconds, a number or (beats,).
        vector: (3,) millivolts, the height of the bump.
    """
    shape = np.exp(-0.5 * ((time - centre[:, None]) / np.reshape(width, (-1, 1))) ** 2).sum(axis=0)
    dipole += vector[:, None] * shape


def fibrillation(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """Draw the small atrial waves of fibrillation, 4 to 8 Hz, as a dipole (3, T) in millivolts for `time` (T,)."""
    out = np.zeros((3, len(time)))
    for _ in range(3):
        wave = np.sin(2 * np.pi * (rng.uniform(4, 8) * time + rng.random()))
        out += 0.02 * rng.normal(1, 0.3, (3, 1)) * wave
    return out


def rotation(rng: np.random.Generator) -> np.ndarray:
    """Draw a rotation matrix (3, 3) of the heart in the chest. The angles have a standard deviation of 3 degrees."""
    a, b, c = np.deg2rad(rng.normal(0, 3, 3))
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(c), -np.sin(c)], [0, np.sin(c), np.cos(c)]])
    return about_z @ about_y @ about_x


def leads_of(dipole: np.ndarray) -> np.ndarray:
    """Project a dipole (3, T) to twelve leads (T, 12), in the order of `MIMIC_LEADS`.

    III and the leads aVR, aVL and aVF are computed from I and II, by the laws of Einthoven and Goldberger.
    """
    measured = {name: np.array(vector) @ dipole for name, vector in DOWER.items()}
    one, two = measured["I"], measured["II"]
    measured |= {"III": two - one, "aVR": -(one + two) / 2, "aVL": one - two / 2, "aVF": two - one / 2}
    return np.stack([measured[name] for name in MIMIC_LEADS], axis=1)


def noise(rng: np.random.Generator, device: EcgDevice = ECG_DEVICE) -> np.ndarray:
    """Draw baseline wander, mains hum and muscle noise of a device, (T, 12) in millivolts, at its rate."""
    time = device.sample_times()
    out = rng.normal(0, device.muscle, (len(time), 12))
    out += device.hum * np.sin(2 * np.pi * (device.mains * time + rng.random()))[:, None] * rng.random(12)
    for _ in range(2):
        wave = np.sin(2 * np.pi * (rng.uniform(0.1, 0.4) * time + rng.random()))
        out += device.wander * wave[:, None] * rng.normal(1, 0.4, 12)
    return out
