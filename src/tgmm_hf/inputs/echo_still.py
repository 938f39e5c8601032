"""Doubt whether a clip shows more than one picture whose brightness, place or size changes.

A heart changes its shape and its speckle. A still picture can grow brighter, pan or zoom. This change can be undone.
Each frame, moved, scaled and dimmed back, equals the first frame. `docs/results/checks/echo.md` has the measured rates,
decision 179 the reasons.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import affine_transform, minimum_filter

from .echo_brightness import MIN_FRAMES, ClipBrightness, blurred

STILL = 0.993
"""Frames show one picture if each correlates with the first one by at least this after it is moved and scaled back. Of
320 clips of the synthetic cohort, whose hearts move little, the highest has 0.989; a real clip has 0.90."""
SMALLEST_AREA = 200
"""A sector of fewer pixels (of the shrunk frame) is not judged."""
_BLUR, _RIM, _LIT, _STEPS = 1.5, 9, 4, 4


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
    target, place = first[inner], start
    for _ in range(_STEPS):
        seen = _moved_back(frame, place, box)
        slope_down, slope_right = (slope[inside] for slope in np.gradient(seen))
        growth = slope_down * down + slope_right * right
        columns = np.stack([slope_down, slope_right, growth, target, np.ones_like(target)], axis=1)
        change, *_ = np.linalg.lstsq(columns, seen[inside], rcond=None)
        place = Placement(place.down - change[0], place.right - change[1], place.scale - change[2])
        if not 0.5 < place.scale < 2 or max(abs(place.down), abs(place.right)) > len(first) / 3:
            return start, 0.0
    seen = _moved_back(frame, place, box)[inside]
    if min(seen.std(), target.std()) == 0:
        return start, 0.0
    return place, float(np.corrcoef(seen, target)[0, 1])


def _box_around(inner: np.ndarray) -> tuple[slice, slice]:
    """Return the rows and columns of an area (height, width) bool that touches no rim, and one more on each side."""
    rows, columns = (np.flatnonzero(inner.any(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]) - 1, int(rows[-1]) + 2), slice(int(columns[0]) - 1, int(columns[-1]) + 2)


def _moved_back(frame: np.ndarray, place: Placement, box: tuple[slice, slice]) -> np.ndarray:
    """Move and scale a frame (height, width) so that its picture lies as in the first frame; return a box of it."""
    start = np.array([side.start for side in box])
    shift = _middle(frame) * (1 - place.scale) + np.array([place.down, place.right]) + start * place.scale
    shape = tuple(side.stop - side.start for side in box)
    moved: np.ndarray = affine_transform(
        frame, [place.scale, place.scale], offset=shift, output_shape=shape, order=3, mode="nearest"
    )
    return moved


def _middle(frame: np.ndarray) -> np.ndarray:
    """Return the place of the middle of a frame (height, width)."""
    return (np.array(frame.shape) - 1) / 2


__all__ = ["still_doubt"]
