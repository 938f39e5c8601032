"""Brightness of the frames of a clip, and the figures that several checks need, each computed once.

A clip of 16 frames at 480 x 640 has 5 MB of brightness. Going over it costs as much as some of the checks. So the
figures are cached here, and OpenCV filters the pictures.
"""

from functools import cached_property
from typing import Any

import numpy as np

from .optional_packages import LatePackage, require_package

cv2: Any = LatePackage("cv2")

GLIMMER = 8
"""A pixel up to GLIMMER may be noise of JPEG in the black background."""
MOVED = 2
"""A pixel moves if its brightness (0 to 255) differs from the first frame by at least this much."""
SMALL_HEIGHT = 96
"""Pictures are compared at about this height (pixels), because speckle and compression differ at full size."""
FLAT = 1
"""A pixel is flat if its neighbours differ by at most this much."""
PANEL_FLAT = 0.2
"""What does not move is a panel where more than this share of the pixels around is flat. A frozen picture has its
speckle, so at most 0.01 are flat."""
MIN_FRAMES = 4
"""Fewer frames are not judged by correlations, because one pair of frames may lie at opposite ends of a heartbeat."""
THICK, THICK_HEIGHT, MIN_THICK = 21, 240, 5
"""Side (pixels) of a square that fits into a sector but not into letters or an ECG strip, in frames of THICK_HEIGHT
rows or more. In smaller frames it is smaller in proportion, because all of the picture is, but at least MIN_THICK."""


class ClipBrightness:
    """Brightness of the frames of one clip.

    Args:
        frames: (frames, height, width) uint8.

    Attributes:
        frames (`np.ndarray` of shape `(frames, height, width)`): uint8, contiguous.
    """

    def __init__(self, frames: np.ndarray):
        require_package(cv2, "opencv-python-headless", "reading echo clips")
        self.frames = np.ascontiguousarray(frames)

    def __len__(self) -> int:
        return len(self.frames)

    @cached_property
    def highest(self) -> np.ndarray:
        """Largest brightness of each pixel at any time: (height, width) uint8."""
        return self.frames.max(axis=0)

    @cached_property
    def lowest(self) -> np.ndarray:
        """Smallest brightness of each pixel at any time: (height, width) uint8."""
        return self.frames.min(axis=0)

    @cached_property
    def ever_lit(self) -> np.ndarray:
        """Where a pixel is brighter than `GLIMMER` at any time: (height, width) bool."""
        return self.highest > GLIMMER

    @cached_property
    def moved(self) -> np.ndarray:
        """Where a pixel differs from the first frame by `MOVED` or more at any time: (height, width) bool."""
        first = self.frames[0]
        moves: np.ndarray = np.maximum(self.highest - first, first - self.lowest) >= MOVED
        return moves

    @cached_property
    def counts(self) -> np.ndarray:
        """Number of pixels of each brightness in each frame: (frames, 256) int64."""
        histograms = [cv2.calcHist([frame], [0], None, [256], [0, 256]).ravel() for frame in self.frames]
        return np.stack(histograms).astype(np.int64)

    def share(self, lowest: int, highest: int = 255) -> float:
        """Compute the share of all pixels whose brightness is `lowest` to `highest`, both included."""
        return float(self.counts[:, lowest : highest + 1].sum() / self.frames.size)

    @cached_property
    def small(self) -> np.ndarray:
        """The frames at about `SMALL_HEIGHT`, as `shrunk` gives them."""
        return shrunk(self.frames)

    @cached_property
    def small_lit(self) -> np.ndarray:
        """Share of the pixels of `lit_area`, at the size of `small`: (height, width) float32."""
        return shrunk(self.lit_area[None])[0]

    @cached_property
    def lit_area(self) -> np.ndarray:
        """Where a pixel is ever lit, without bars and panels: (height, width) bool.

        A bar or panel, also with text on it, is the same in all frames, and much of it is flat. Programs draw such
        areas beside the picture. The sector mask leaves them out of what the model sees, because they do not move.
        """
        square = np.ones((3, 3), np.uint8)
        flat = self.ever_lit & (cv2.dilate(self.highest, square) - cv2.erode(self.lowest, square) <= FLAT)
        if len(self) < MIN_FRAMES or not flat.any():  # in two frames much stands still
            return self.ever_lit
        share = cv2.blur(flat.astype(np.float32), (THICK, THICK), borderType=cv2.BORDER_REPLICATE)
        area: np.ndarray = self.ever_lit & ~((share > PANEL_FLAT) & (self.highest - self.lowest < MOVED))
        return area

    @cached_property
    def thick_area(self) -> np.ndarray:
        """What of `lit_area` is thicker than letters, such as the sector: (height, width) bool.

        All False if the area is smaller than a hundredth of the frame.
        """
        return _thick(self.lit_area)

    @cached_property
    def whole_thick_area(self) -> np.ndarray:
        """What is ever lit and thicker than letters, with bars and panels, in the form of `thick_area`."""
        return _thick(self.ever_lit)

    @cached_property
    def thick_parts(self) -> list[np.ndarray]:
        """The connected parts of `thick_area`, largest first: each (height, width) bool."""
        number, labelled = cv2.connectedComponents(self.thick_area.view(np.uint8), connectivity=4)
        sizes = np.bincount(labelled.ravel(), minlength=number)[1:]
        return [labelled == index + 1 for index in np.argsort(-sizes, kind="stable")]


def thick_side(height: int) -> int:
    """Return the side (pixels, odd) of a square that fits into a sector but not into letters, for a frame's height."""
    return min(THICK, max(MIN_THICK, THICK * height // THICK_HEIGHT // 2 * 2 + 1))


def _thick(lit: np.ndarray) -> np.ndarray:
    """Return what of a mask (height, width) is thicker than letters; nothing if it is a hundredth of it or less."""
    area = smallest_near(lit, thick_side(lit.shape[0]))
    return area if area.mean() > 0.01 else np.zeros_like(area)


def brightness_of(frames: np.ndarray, colour_space: str) -> np.ndarray:
    """Return the brightness of `frames` (frames, height, width, 3) as (frames, height, width).

    The brightness is the largest component of RGB, and the first component of YBR (Y) and MONOCHROME.
    """
    if colour_space == "RGB":
        largest: np.ndarray = np.maximum(np.maximum(frames[..., 0], frames[..., 1]), frames[..., 2])
        return largest
    return first_component(frames)


def first_component(frames: np.ndarray) -> np.ndarray:
    """Copy the first component of (frames, height, width, 3) uint8 to a contiguous (frames, height, width)."""
    require_package(cv2, "opencv-python-headless", "reading echo clips")
    out = np.empty(frames.shape[:3], np.uint8)
    for frame, target in zip(frames, out, strict=True):
        cv2.extractChannel(frame, 0, dst=target)
    return out


def shrunk(grey: np.ndarray) -> np.ndarray:
    """Average pixels until a frame is about `SMALL_HEIGHT` high: (frames, height, width) -> float32, smaller.

    Args:
        grey: uint8 or bool.
    """
    step = max(1, grey.shape[1] // SMALL_HEIGHT)
    height, width = grey.shape[1] // step, grey.shape[2] // step
    kind = np.uint16 if step <= 15 else np.uint32  # 15 x 15 x 255 fits into 16 bits
    rows = grey[:, : height * step, : width * step].reshape(len(grey), height, step, width * step)
    columns = _sum_over(rows, 2, kind).reshape(len(grey), height, width, step)
    return _sum_over(columns, 3, kind).astype(np.float32) / np.float32(step * step)


def _sum_over(values: np.ndarray, axis: int, kind: type) -> np.ndarray:
    """Sum integers over a short axis. numpy's own sum is slower there."""
    slices = np.moveaxis(values, axis, 0)
    total = slices[0].astype(kind)
    for part in slices[1:]:
        total += part
    return total


def blurred(pictures: np.ndarray, sigma: float) -> np.ndarray:
    """Blur pictures (pictures, height, width) float32 by a Gaussian of `sigma` pixels, cut at 4 sigma."""
    radius = int(4 * sigma + 0.5)
    places = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * np.square(places / sigma))
    weights /= weights.sum()
    out = np.empty(pictures.shape, np.float32)
    for picture, target in zip(pictures, out, strict=True):
        cv2.sepFilter2D(picture, cv2.CV_32F, weights, weights, dst=target, borderType=cv2.BORDER_REFLECT)
    return out


def flat_pixels(picture: np.ndarray, largest: int) -> np.ndarray:
    """Tell which pixels of (height, width) uint8 differ from no neighbour of 3 x 3 by more: (height, width) bool.

    The difference of the brightest and the darkest of the nine pixels is at most `largest`.
    """
    square = np.ones((3, 3), np.uint8)
    flat: np.ndarray = cv2.dilate(picture, square) - cv2.erode(picture, square) <= largest
    return flat


def total_difference(first: np.ndarray, second: np.ndarray, inside: np.ndarray) -> float:
    """Sum the absolute differences of two pictures (height, width) uint8 where `inside` (bool) is True."""
    return float(cv2.norm(first, second, cv2.NORM_L1, inside.view(np.uint8)))


def smallest_near(flags: np.ndarray, side: int) -> np.ndarray:
    """Return `flags` (height, width) bool, True only where the whole square of `side` pixels around it is True.

    What lies outside the picture does not count.
    """
    near: np.ndarray = cv2.erode(flags.view(np.uint8), np.ones((side, side), np.uint8)).astype(bool)
    return near


__all__ = [
    "FLAT",
    "GLIMMER",
    "MIN_FRAMES",
    "MOVED",
    "ClipBrightness",
    "blurred",
    "brightness_of",
    "first_component",
    "flat_pixels",
    "shrunk",
    "smallest_near",
    "thick_side",
    "total_difference",
]
