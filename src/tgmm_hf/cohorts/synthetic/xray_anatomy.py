"""Shapes of a drawn chest X-ray: thorax, lungs, heart, bones, vessels, device.

Coordinates of the body: x from the midline, positive towards the patient's left, which is the right side of the
picture; y downwards from the top of the picture. The unit is half of the picture's width. The drawings are ours. They
follow the proportions of textbooks, not a picture of a person.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.interpolate import CubicSpline

THORAX = 0.72
"""Half of the largest inner width of the thorax. The cardiothoracic ratio is heart width over twice this number."""
ANGLE_Y = 1.60
"""Height of the costophrenic angles."""
HILUM = ((-0.185, 0.80), (0.195, 0.745))
"""Centre of the right and of the left hilum."""
RIGHT_SHARE = 0.35
"""Share of the heart's width that lies to the right of the midline."""
GENERATOR = (0.50, 0.43)
"""Centre of a pacemaker's generator."""
GENERATOR_HALF = (0.082, 0.068)
"""Half of the width and of the height of the generator."""
VERTEBRA = 0.128
"""Distance of two vertebrae."""

_WALL_Y = np.array([0.0, 0.2, 0.3, 0.45, 0.65, 0.9, 1.15, 1.4, 1.6, 2.4])
_WALL_X = np.array([0.10, 0.27, 0.42, 0.545, 0.63, 0.69, 0.715, 0.72, 0.72, 0.70])
_wall = CubicSpline(_WALL_Y, _WALL_X)
_LUNG = np.array(
    [
        *[(0.085, 0.42), (0.10, 0.285), (0.15, 0.215), (0.235, 0.195), (0.325, 0.24), (0.43, 0.36), (0.55, 0.55)],
        *[(0.635, 0.78), (0.69, 1.03), (0.715, 1.28), (0.72, 1.50), (0.715, 1.66), (0.40, 1.68), (0.085, 1.66)],
        (0.08, 1.1),
    ]
)
"""Contour of the left lung, without the heart and the diaphragm."""


@dataclass(frozen=True)
class Body:
    """What the X-ray of a patient differs in besides the evidence. Nothing here depends on the cardiac state.

    Attributes:
        is_ap: Anterior-posterior, taken at the bed. Else posterior-anterior.
        is_female: Breast shadows are drawn.
        scale: Size of the body in the picture.
        stretch: Width of the body over its usual width.
        turn: Rotation in the plane of the picture, radians.
        shift: Shift (x, y) of the body.
        twist: Rotation of the patient about the long axis: shift of what lies in front.
        breath: Height of the diaphragm, positive for a shallow breath.
        domes: Offsets of the right and left dome.
        fat: Thickness of the chest wall beside the ribs.
        slope: Slope of the ribs.
        tilt: Shift of the lower end of the heart, positive for a heart that lies flat.
        knob: Size of the aortic knob.
    """

    is_ap: bool
    is_female: bool
    scale: float
    stretch: float
    turn: float
    shift: tuple[float, float]
    twist: float
    breath: float
    domes: tuple[float, float]
    fat: float
    slope: float
    tilt: float
    knob: float


def draw_body(rng: np.random.Generator, is_ap: bool, is_female: bool) -> Body:
    """Draw the body of one X-ray."""
    bed = float(is_ap)
    return Body(
        is_ap=is_ap,
        is_female=is_female,
        scale=float(rng.uniform(0.96, 1.08)),
        stretch=float(rng.normal(1.03, 0.03)),
        turn=float(rng.normal(0, np.deg2rad(1.0 + bed))),
        shift=(float(rng.normal(0, 0.025)), float(rng.normal(0, 0.03))),
        twist=float(rng.normal(0, 0.010 + 0.012 * bed)),
        breath=float(rng.normal(0.0, 0.05) + 0.09 * bed),
        domes=(float(rng.normal(0, 0.02)), float(rng.normal(0.05, 0.02))),
        fat=float(rng.uniform(0.10, 0.24)),
        slope=float(rng.normal(1.0, 0.15) - 0.15 * bed),
        tilt=float(rng.normal(0, 0.02)),
        knob=float(rng.uniform(0.7, 1.3)),
    )


def smooth(points: np.ndarray, closed: bool = True, number: int = 8) -> np.ndarray:
    """Lay a Catmull-Rom spline through points (n, 2), with `number` points for each of them."""
    if closed:
        padded = np.vstack([points[-1:], points, points[:2]])
    else:
        padded = np.vstack([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = np.arange(number)[:, None] / number
    weights = 0.5 * np.hstack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3])
    windows = np.stack([padded[k : len(padded) - 3 + k] for k in range(4)])
    curve = np.einsum("tk,knd->ntd", weights, windows).reshape(-1, 2)
    return curve if closed else np.vstack([curve, points[-1:]])


def wall(y: np.ndarray | float) -> np.ndarray:
    """Return half of the inner width of the thorax at the height y."""
    return _wall(np.clip(y, 0.0, 2.4))


@lru_cache
def lung_outline(side: int) -> np.ndarray:
    """Return the contour (n, 2) of a lung without heart and diaphragm. `side` is -1 (right) or 1 (left)."""
    return smooth(_LUNG * (side, 1))


def dome(body: Body, side: int) -> np.ndarray:
    """Return the line (n, 2) of one half of the diaphragm, from the midline to beyond the wall."""
    x = np.linspace(0.0, 0.80, 60)
    top = 1.41 - body.breath + body.domes[(side + 1) // 2]
    inner = 0.07 * np.clip((0.36 - x) / 0.36, 0, None) ** 2
    outer = (ANGLE_Y - top) * (np.clip(x - 0.36, 0, None) / (THORAX - 0.36)) ** 2.6
    return np.stack([side * x, top + inner + outer], axis=1)


def heart_outline(body: Body, ratio: float, atrium: float) -> np.ndarray:
    """Return the contour (n, 2) of heart, large vessels and mediastinum.

    Args:
        body: The patient's body.
        ratio: Cardiothoracic ratio.
        atrium: Size of the left atrium, 0 (small) to 1 (large). It fills the waist of the left border.
    """
    width = 2 * THORAX * ratio
    right, left = RIGHT_SHARE * width, (1 - RIGHT_SHARE) * width
    low = 0.5 * (body.domes[0] + body.domes[1]) - 0.8 * body.breath + body.tilt
    knob, front = 0.02 * (body.knob - 1), body.twist
    points = [(-0.10, -0.2), (-0.10, 0.2), (-0.115, 0.38), (-0.132, 0.54), (-0.135, 0.70)]
    points += [(-0.16, 0.83), (-0.80 * right, 0.96 + low), (-right, 1.16 + low), (-0.97 * right, 1.30 + low)]
    points += [(-0.80 * right, 1.42 + low), (0.0, 1.56 + low), (0.74 * left, 1.53 + low), (0.95 * left, 1.45 + low)]
    points += [(left, 1.36 + low), (0.97 * left, 1.23 + low), (0.83 * left, 1.06 + 0.8 * low)]
    points += [(0.56 * left + 0.03 + 0.055 * atrium, 0.87 + 0.4 * low), (0.40 * left + 0.065, 0.74), (0.178, 0.635)]
    points += [(0.205 + knob, 0.54), (0.19 + knob, 0.455), (0.135, 0.37), (0.105, 0.2), (0.10, -0.2)]
    return smooth(np.array(points) + np.array([front, 0.0]))


def posterior_rib(body: Body, number: int, side: int) -> np.ndarray:
    """Return the line (n, 2) of the posterior part of a rib, from the spine to the wall. `number` counts from 1."""
    start = 0.155 + 0.112 * number + 0.0025 * number**2
    drop = (0.03 + 0.022 * number + 0.10 * min(number / 4, 1)) * body.slope
    along = np.linspace(0.0, 1.0, 26)
    y = start - 0.028 * np.sin(np.pi * np.clip(along * 1.6, 0, 1)) + drop * along**2.0
    reach = float(wall(y[-1])) - 0.09
    x = 0.085 + (reach + 0.005) * np.sin(along * np.pi / 2) ** 1.05
    return np.stack([side * x, y], axis=1)


def anterior_rib(body: Body, number: int, side: int) -> np.ndarray:
    """Return the line (n, 2) of the anterior part of a rib, from the wall towards the sternum."""
    start = posterior_rib(body, number, side)[-1]
    along = np.linspace(0.0, 1.0, 22)
    end = 0.21 + 0.022 * number
    reach = abs(start[0]) - end
    x = abs(start[0]) + 0.012 * np.sin(np.pi * np.clip(along * 2.5, 0, 1)) - reach * along**1.35
    y = start[1] + (0.17 + 0.025 * number) * body.slope * (along - 0.22 * along**3)
    return np.stack([side * x + body.twist, y], axis=1)


def clavicle(body: Body, side: int) -> np.ndarray:
    """Return the line (n, 2) of a clavicle, from the sternum to the shoulder."""
    rise = -0.05 if body.is_ap else 0.02
    points = [(0.075, 0.40 + rise), (0.22, 0.365 + rise), (0.42, 0.275), (0.60, 0.205), (0.78, 0.20)]
    return smooth(np.array(points) * (side, 1) + np.array([1.6 * body.twist, 0]), closed=False)


def scapula(body: Body, side: int) -> np.ndarray:
    """Return the contour (n, 2) of a shoulder blade. At the bed it covers a part of the lung."""
    inwards = -0.10 if body.is_ap else 0.03
    points = [(0.60, 0.28), (0.555, 0.45), (0.585, 0.72), (0.655, 0.97), (0.70, 0.93), (0.76, 0.66), (0.84, 0.42)]
    return smooth((np.array([*points, (0.80, 0.26)]) + np.array([inwards, 0])) * (side, 1))


@lru_cache
def airway() -> tuple[tuple[np.ndarray, float], ...]:
    """List the lines of trachea and main bronchi with their widths."""
    trachea = np.array([(0.0, -0.2), (-0.002, 0.2), (-0.012, 0.5), (-0.006, 0.645)])
    right = np.array([(-0.006, 0.635), (-0.07, 0.71), (-0.15, 0.785)])
    left = np.array([(-0.006, 0.635), (0.075, 0.70), (0.175, 0.745)])
    return (smooth(trachea, False), 0.082), (smooth(right, False), 0.06), (smooth(left, False), 0.05)


Vessel = tuple[float, float, float, float, float, float]
"""One piece of a vessel of the lung: start (x, y), end (x, y), width, share of the way to the edge of the lung."""


def vessel_tree(rng: np.random.Generator, side: int) -> list[Vessel]:
    """Draw the vessels of one lung: ten trees that leave the hilum in all directions and branch."""
    x, y = HILUM[(side + 1) // 2]
    pieces: list[Vessel] = []
    for angle in np.linspace(-1.40, 1.32, 10) + rng.normal(0, 0.11, 10):
        down = math.sin(angle)
        width = 0.0225 * (0.80 + 0.30 * down) * rng.uniform(0.7, 1.25)
        shift, lift = rng.standard_normal(2)
        _grow(rng, pieces, (x + 0.02 * shift, y + 0.10 * down + 0.03 * lift, float(angle), width, 0.0), side)
    return pieces


def _grow(
    rng: np.random.Generator, pieces: list[Vessel], stem: tuple[float, float, float, float, float], side: int
) -> None:
    """Add a vessel and its branches to `pieces`. `stem` is its start x and y, direction, width and depth."""
    x, y, angle, width, depth = stem
    while depth < 1 and width > 0.0028:
        length, forks, turn = rng.random(3)
        step = 0.035 + 0.035 * length
        end = (x + side * step * math.cos(angle), y + step * math.sin(angle))
        pieces.append((x, y, *end, width, depth))
        (x, y), angle, depth = end, angle + rng.normal(0, 0.24), depth + step / 0.60
        width *= 0.87
        if forks < 0.40:
            aside = math.copysign(0.35 + abs(turn - 0.5), turn - 0.5)
            _grow(rng, pieces, (x, y, angle + aside, width * 0.66, depth + 0.05), side)


def device_lines(body: Body, ratio: float, chambers: int) -> list[np.ndarray]:
    """List the leads (n, 2) of a pacemaker: into the right ventricle, and into the right atrium with two chambers."""
    left = (1 - RIGHT_SHARE) * 2 * THORAX * ratio
    low = 0.5 * (body.domes[0] + body.domes[1]) - 0.8 * body.breath
    start = [(0.44, 0.41), (0.40, 0.335), (0.27, 0.33), (0.12, 0.385), (-0.03, 0.45), (-0.095, 0.58), (-0.11, 0.80)]
    ventricle = [(-0.12, 1.02 + low), (-0.03, 1.24 + low), (0.16, 1.34 + low), (0.55 * left, 1.36 + low)]
    lines = [smooth(np.array([*start, *ventricle]) + np.array([body.twist, 0]), closed=False)]
    if chambers == 2:
        shifted = [(x + 0.012, y + 0.012) for x, y in start]
        atrium = [(-0.105, 0.98 + low), (-0.07, 1.07 + low), (-0.035, 1.0 + low)]
        lines.append(smooth(np.array([*shifted, *atrium]) + np.array([body.twist, 0]), closed=False))
    return lines
