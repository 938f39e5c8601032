"""Find uncompressed clips whose header cuts the pixel data into frames in a wrong way, although the lengths agree.

A header may declare doubled rows and half of the frames, or colours by frame where they are stored by volume. Each
check compares parts of the decoded frames that are alike only then. The limits were set on the synthetic cohort and one
real clip. `scripts/measure_echo_checks.py` plants these faults and counts false refusals.
"""

from itertools import pairwise

import numpy as np
from scipy.ndimage import uniform_filter

from .echo_brightness import ClipBrightness, brightness_of, shrunk
from .echo_checks import DARK, MIN_SIDE, correlation

LAYOUT_FRAMES = 6
"""Number of consecutive frames from the start of a clip that the checks need."""
PARTS = (2, 3)
"""Numbers of pictures in one frame, or of frames that one picture is cut into, that are looked for."""
ALIKE, UNLIKE = 0.9, 0.6
"""Pictures of one clip correlate more than ALIKE, other parts of a picture less than UNLIKE."""
COARSE = 15
"""Side (pixels of a shrunk frame) of what is too coarse to tell pictures apart."""
ONE_TEXTURE, SAME_TEXTURE = 0.98, 0.05
"""The components of a grey frame share their texture, so they correlate more than ONE_TEXTURE. Components are moments
if they correlate less, and at most SAME_TEXTURE more than two frames do."""
ONE_PICTURE = 0.3
"""Components that correlate less are noise, which the content check refuses."""
GREY_SHARE, GREY_STEPS = 0.5, 1
"""If more than GREY_SHARE of the lit pixels have components that differ by GREY_STEPS at most, the components are
colours and not moments. A coloured trace that runs below the picture looks like moments otherwise."""
AS_ALIKE = 0.1
"""Largest difference of two correlations that count as the same."""


def layout_fault(frames: np.ndarray, colour_space: str, has_planes: bool = True) -> str | None:
    """Say how the header cuts the pixel data wrongly.

    Args:
        frames: (frames, height, width, 3) uint8, the first consecutive frames, at most `LAYOUT_FRAMES`.
        colour_space: "YBR", "RGB" or "MONOCHROME".
        has_planes: whether three components are stored. A palette stores one.

    Returns:
        The fault, or None.
    """
    if min(frames.shape[1:3]) < MIN_SIDE:
        return None
    small = shrunk(brightness_of(frames, colour_space))
    fault = _stacked_fault(small) or _cut_fault(small)
    return fault or (_volume_fault(frames) if has_planes and colour_space == "RGB" else None)


def _stacked_fault(grey: np.ndarray) -> str | None:
    """Return the fault of frames (frames, height, width) that show several pictures above each other, else None."""
    mean = grey.mean(axis=0)
    mean = mean - uniform_filter(mean, COARSE)  # a slope from dark to bright is alike everywhere
    for number in PARTS:
        height = mean.shape[0] // number
        parts = [mean[start : start + height] for start in range(0, number * height, height)]
        alike = [correlation(parts[index], parts[index + 1]) for index in range(number - 1)]
        if min(alike) > ALIKE and _contrast(parts) > 0:
            return (
                f"each frame shows {number} pictures above each other (they correlate with {min(alike):.2f}): the "
                f"header declares too many rows and too few frames"
            )
    return None


def _cut_fault(grey: np.ndarray) -> str | None:
    """Return the fault of frames (frames, height, width) that show the parts of one picture in turn, else None."""
    for number in PARTS:
        if len(grey) < 2 * number:
            continue
        same = [correlation(grey[index], grey[index + number]) for index in range(number)]
        other = [correlation(grey[index], grey[index + 1]) for index in range(number)]
        if min(same) > ALIKE - AS_ALIKE and max(other) < UNLIKE:
            return (
                f"frames {number} apart are alike (correlation {min(same):.2f}), neighbours are not "
                f"({max(other):.2f}): the header declares too few rows and too many frames"
            )
    return None


def _volume_fault(frames: np.ndarray) -> str | None:
    """Return the fault of RGB frames (frames, height, width, 3) whose components are three moments, else None."""
    if len(frames) < 2 or correlation(frames[0, ..., 0], frames[0, ..., 1]) < ONE_PICTURE:
        return None
    area = ClipBrightness(frames.max(axis=-1)).thick_area
    if not area.any():
        return None
    if _grey_share(frames[0][area]) > GREY_SHARE:
        return None
    planes = (
        np.moveaxis(frames, -1, 1).reshape(-1, *area.shape).astype(np.float32)
    )  # red 0, green 0, blue 0, red 1, ...
    texture = [(plane - uniform_filter(plane, 3))[area] for plane in planes]
    alike = np.array([correlation(one, two) for one, two in pairwise(texture)])
    is_across = np.arange(len(alike)) % 3 == 2  # blue and the next frame's red
    inside, across = float(np.median(alike[~is_across])), float(np.median(alike[is_across]))
    moves = correlation(texture[0], texture[3]) < ONE_TEXTURE  # red and the next frame's red
    # Textures without likeness are those of colours that were painted on, not of three moments of one clip.
    if moves and SAME_TEXTURE < inside < ONE_TEXTURE and across > inside - SAME_TEXTURE:
        return (
            f"the three components of a frame differ as frames do (their textures correlate with {inside:.2f}): "
            "the colours are stored by volume, all red planes first"
        )
    return None


def _grey_share(pixels: np.ndarray) -> float:
    """Return the share of the lit pixels (pixels, 3) uint8 whose three components are equal; 0 without lit pixels."""
    lit = pixels[pixels.max(axis=1) > DARK].astype(np.int16)
    return float((lit.max(axis=1) - lit.min(axis=1) <= GREY_STEPS).mean()) if len(lit) else 0.0


def _contrast(parts: list[np.ndarray]) -> float:
    """Return the smallest standard deviation of some pictures; 0 where one of them shows nothing."""
    return min(float(part.std()) for part in parts)
