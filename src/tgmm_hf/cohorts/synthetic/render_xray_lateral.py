"""Lateral chest X-ray. It shows no evidence: training and evaluation of MoRE use frontal pictures only."""

from collections.abc import Sequence

import numpy as np

from tgmm_hf.cohorts.synthetic import xray_anatomy as anatomy
from tgmm_hf.cohorts.synthetic.render_xray import Canvas, blur, circle, develop


def render_lateral(rng: np.random.Generator, shape: tuple[int, int] = (544, 512)) -> np.ndarray:
    """Draw a lateral chest X-ray: sternum on the left of the picture, spine on the right.

    Args:
        rng: Source of everything in the picture.
        shape: Height and width in pixels.

    Returns:
        Grey values (height, width) uint8, air dark.
    """
    canvas = Canvas(shape, anatomy.draw_body(rng, is_ap=False, is_female=False))
    trunk = canvas.polygon(_spline(_TRUNK), soft=1.5)
    lung = canvas.polygon(_spline(_LUNG), soft=2.0)
    heart = canvas.polygon(_spline(_HEART), soft=3.0)
    low = rng.uniform(-0.03, 0.05)
    dome = _spline(_DOME, closed=False)
    abdomen = [canvas.polygon(dome + np.array([0.0, low + shift]), soft=1.3) for shift in (0.0, 0.05)]
    seen = lung * (1 - 0.55 * heart) * (1 - 0.75 * abdomen[0]) * (1 - 0.75 * abdomen[1])
    across = np.clip(1 - (canvas.x / np.float32(0.95)) ** 2, 0.1, 1)
    attenuation = trunk * (np.sqrt(across) * np.float32(0.95) - np.float32(0.55) * seen)
    attenuation += 0.05 * abdomen[1] * trunk + _bones(canvas, seen, rng)
    hilum = np.exp(-((canvas.x - 0.02) ** 2 + (canvas.y - 0.85) ** 2) / np.float32(0.012))
    attenuation += np.float32(0.16) * hilum * seen
    return develop(attenuation, trunk, rng, is_ap=False)


def _bones(canvas: Canvas, seen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw vertebrae, sternum and oblique ribs."""
    total = np.zeros(canvas.shape, np.float32)
    start = rng.uniform(0, 0.12)
    for number in range(16):
        y = start + 0.135 * number
        body = circle(32)
        box = np.sign(body) * np.abs(body) ** 0.4 * (0.085, 0.054) + (_spine_x(y), y)
        shell = canvas.polygon(box, soft=1.2)
        total += np.float32(0.06) * shell + np.float32(0.08) * np.clip(shell - blur(shell, 3), 0, None)
    layer = np.zeros(canvas.shape, np.uint8)
    for number in range(1, 10):
        y = 0.22 + 0.12 * number
        rib = np.array([(_spine_x(y), y), (0.25, y - 0.02), (-0.05, y + 0.13), (-0.38, y + 0.33)])
        canvas.line(layer, _spline(rib, closed=False), 0.04, 150)
    sternum = canvas.polygon(_spline(_STERNUM), soft=1.5)
    return (
        total
        + np.float32(0.09 / 255) * blur(layer, 1.6).astype(np.float32) * np.minimum(seen, 1)
        + np.float32(0.16) * sternum
    )


def _spine_x(y: float) -> float:
    """Return where the spine lies at the height y."""
    return 0.52 + 0.14 * np.sin(np.pi * np.clip(y - 0.1, 0, 1.6) / 1.6)


def _spline(points: Sequence[tuple[float, float]] | np.ndarray, closed: bool = True) -> np.ndarray:
    """Lay a spline through points (n, 2)."""
    return anatomy.smooth(np.asarray(points, dtype=float), closed=closed)


_TRUNK = [(-0.15, -0.2), (-0.25, 0.2), (-0.55, 0.5), (-0.72, 0.9), (-0.74, 1.4), (-0.72, 2.4), (0.80, 2.4), (0.86, 1.6)]
_TRUNK += [(0.90, 1.0), (0.86, 0.6), (0.70, 0.3), (0.40, 0.1), (0.30, -0.2)]
_LUNG = [(0.10, 0.22), (-0.12, 0.34), (-0.42, 0.60), (-0.57, 0.95), (-0.60, 1.28), (-0.55, 1.62), (0.60, 1.78)]
_LUNG += [(0.72, 1.50), (0.76, 1.0), (0.66, 0.55), (0.42, 0.28)]
_HEART = [
    (-0.05, 0.88),
    (-0.32, 1.0),
    (-0.52, 1.22),
    (-0.50, 1.48),
    (-0.20, 1.58),
    (0.10, 1.50),
    (0.22, 1.25),
    (0.14, 1.0),
]
_DOME = [(-0.75, 1.50), (-0.40, 1.36), (-0.05, 1.36), (0.30, 1.46), (0.58, 1.62), (0.85, 1.78), (0.9, 2.6), (-0.9, 2.6)]
_STERNUM = [(-0.30, 0.42), (-0.36, 0.44), (-0.56, 0.80), (-0.66, 1.25), (-0.60, 1.26), (-0.49, 0.82)]
