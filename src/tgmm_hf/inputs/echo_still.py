"""Doubt whether a clip shows more than one picture whose brightness, place or size changes.

A heart changes its shape and its speckle. A still picture can grow brighter, pan or zoom. This change can be undone.
Each frame, moved, scaled and dimmed back, equals the first frame. `docs/results/checks/echo.md` has the measured rates,
decision 179 the reasons.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import minimum_filter, spline_filter

from .echo_brightness import MIN_FRAMES, ClipBrightness, blurred

STILL = 0.993
"""Frames show one picture if each correlates with the first one by at least this after it is moved and scaled back. Of
320 clips of the synthetic cohort, whose hearts move little, the highest has 0.989; a real clip has 0.90."""
SMALLEST_AREA = 200
"""A sector of fewer pixels (of the shrunk frame) is not judged."""
_BLUR, _RIM, _LIT, _STEPS = 1.5, 9, 4, 4
_PAD = 12
"""Pixels by which the rim is repeated before a frame becomes a spline, as scipy does: a spline swings at its ends."""


class Placement(NamedTuple):
    """Where the first picture lies in a frame.

    Attributes:
        down: pixels by which it lies lower.
        right: pixels by which it lies further right.
        scale: its size, 1 for the size of the first frame.
    """

    down: float
    right: float
    scale: float


def still_doubt(clip: ClipBrightness) -> str | None:
    """Say that a clip is one picture that was made brighter, moved or scaled.

    Args:
        clip: brightness of the frames that the model reads.

    Returns:
        The doubt, or None.
    """
    if len(clip) < MIN_FRAMES:
        return None
    frames = blurred(clip.small, _BLUR)
    seen = (frames.min(axis=0) > _LIT) & (clip.small_lit > 0.5)
    inner = minimum_filter(seen.astype(np.uint8), _RIM, mode="constant").astype(bool)
    if inner.sum() < SMALLEST_AREA:
        return None
    place, alike = Placement(0.0, 0.0, 1.0), 1.0
    for frame in frames[1:]:
        place, likeness = _place_of(frames[0], frame, inner, place)
        alike = min(alike, likeness)
        if alike < STILL:
            return None
    return (
        f"all frames are the first one (correlation {alike:.3f}), made brighter or darker, moved or scaled: a still "
        "picture, not a heart that beats"
    )


def _place_of(first: np.ndarray, frame: np.ndarray, inner: np.ndarray, start: Placement) -> tuple[Placement, float]:
    """Find where a frame shows the first picture, by least squares.

    Args:
        first: (height, width), the first frame.
        frame: (height, width), as `first`.
        inner: (height, width) bool, the pixels of `first` that are compared.
        start: the placement that is tried first.

    Returns:
        The placement, and the correlation of the two pictures there; 0 if they do not come together.
    """
    box = _box_around(inner)
    middle = _middle(first)
    inside = inner[box]
    down, right = (axis[inside] for axis in np.mgrid[box] - middle[:, None, None])
    target, place, spline = first[inner], start, _spline_of(frame)
    for _ in range(_STEPS):
        seen = _moved_back(spline, place, box)
        slope_down, slope_right = (slope[inside] for slope in np.gradient(seen))
        growth = slope_down * down + slope_right * right
        columns = np.stack([slope_down, slope_right, growth, target, np.ones_like(target)], axis=1)
        change, *_ = np.linalg.lstsq(columns, seen[inside], rcond=None)
        place = Placement(place.down - change[0], place.right - change[1], place.scale - change[2])
        if not 0.5 < place.scale < 2 or max(abs(place.down), abs(place.right)) > len(first) / 3:
            return start, 0.0
    seen = _moved_back(spline, place, box)[inside]
    if min(seen.std(), target.std()) == 0:
        return start, 0.0
    return place, float(np.corrcoef(seen, target)[0, 1])


def _box_around(inner: np.ndarray) -> tuple[slice, slice]:
    """Return the rows and columns of an area (height, width) bool that touches no rim, and one more on each side."""
    rows, columns = (np.flatnonzero(inner.any(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]) - 1, int(rows[-1]) + 2), slice(int(columns[0]) - 1, int(columns[-1]) + 2)


def _spline_of(frame: np.ndarray) -> np.ndarray:
    """Compute the coefficients of the cubic spline through a frame (height, width), with a repeated rim of `_PAD`."""
    coefficients: np.ndarray = spline_filter(np.pad(frame, _PAD, mode="edge"), order=3, mode="nearest")
    return coefficients


def _moved_back(spline: np.ndarray, place: Placement, box: tuple[slice, slice]) -> np.ndarray:
    """Move and scale a frame so that its picture lies as in the first frame; return a box of it.

    The values are those of scipy's `affine_transform` with cubic splines and a repeated rim. They are computed for all
    rows and then for all columns, by two products of matrices, because nothing is turned.

    Args:
        spline: the frame, as `_spline_of` returns it.
        place: where the first picture lies in the frame.
        box: rows and columns of the first frame.
    """
    height, width = (size - 2 * _PAD for size in spline.shape)
    rows = _spline_weights(box[0], height, place.down, place.scale)
    columns = _spline_weights(box[1], width, place.right, place.scale)
    moved: np.ndarray = rows @ spline @ columns.T
    return moved


def _spline_weights(side: slice, size: int, shift: float, scale: float) -> np.ndarray:
    """Compute how the coefficients of one axis give the values at moved and scaled places: (places, size + 2 pads).

    Args:
        side: first place and one past the last, in the first frame.
        size: number of pixels of the axis.
        shift: pixels by which the picture lies further along this axis.
        scale: its size.
    """
    middle = (size - 1) / 2
    places = middle * (1 - scale) + shift + scale * np.arange(side.start, side.stop)
    places = np.clip(places + _PAD, 1, size + 2 * _PAD - 3)  # beyond the repeated rim nothing changes
    first = np.floor(places).astype(int)
    step = places - first
    weights = np.stack([(1 - step) ** 3, 3 * step**3 - 6 * step**2 + 4, 3 * (1 - step) ** 3 - 6 * (1 - step) ** 2 + 4])
    weights = np.concatenate([weights, step[None] ** 3]) / 6
    matrix = np.zeros((len(places), size + 2 * _PAD))
    for offset, values in zip(range(-1, 3), weights, strict=True):
        matrix[np.arange(len(places)), first + offset] = values
    return matrix


def _middle(frame: np.ndarray) -> np.ndarray:
    """Return the place of the middle of a frame (height, width)."""
    return (np.array(frame.shape) - 1) / 2


__all__ = ["still_doubt"]
