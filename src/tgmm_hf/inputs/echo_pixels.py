"""Pixel operations of EchoPrime's preprocessing: colours, sector mask, resizing. OpenCV does them, as in EchoPrime."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .optional_packages import LatePackage, require_package

cv2: Any = LatePackage("cv2")

MARK_SIZE = 20
"""Side (pixels) of the top left corner in which some machines blink a mark."""
STEPS = 10
"""Steps of erosion and dilation: an isolated structure thinner than 21 pixels is no part of the sector."""
OUTLINE = 3
"""Thickness (pixels) of the line that EchoPrime draws around each part of the sector."""


def ycbcr_to_bgr(frames: np.ndarray) -> np.ndarray:
    """Convert YCbCr to BGR by OpenCV's YUV coefficients, as EchoPrime does. DICOM's coefficients differ.

    Args:
        frames: (frames, height, width, 3) uint8.

    Returns:
        The same shape, uint8, channels B, G, R.
    """
    _require_opencv()
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_YUV2BGR) for frame in frames])


def rgb_to_ycbcr(frames: np.ndarray) -> np.ndarray:
    """Convert RGB to Y, Cb, Cr by OpenCV's coefficients: (frames, height, width, 3) uint8 -> the same shape."""
    _require_opencv()
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]] for frame in frames])


def as_ycbcr(frame: np.ndarray, colour_space: str) -> np.ndarray:
    """Convert a frame to the YCbCr components that a scanner stores.

    RGB is converted back to YCbCr, because EchoPrime read stored YCbCr with OpenCV's YUV coefficients, not DICOM's. A
    clip must look the same to its encoder whichever way the file stores it.

    Args:
        frame: (height, width, 3) uint8.
        colour_space: "YBR", "RGB" or "MONOCHROME".

    Returns:
        The same shape, uint8, components Y, Cb, Cr.
    """
    if colour_space == "YBR":
        return frame
    if colour_space == "MONOCHROME":
        return np.stack([frame[..., 0], *[np.full_like(frame[..., 0], 128)] * 2], axis=-1)
    return rgb_to_ycbcr(frame[None])[0]


def masked_bgr(frames: np.ndarray, colour_space: str, mask: np.ndarray | None) -> list[np.ndarray]:
    """Convert frames to BGR, as `ycbcr_to_bgr` does, and blacken what lies outside a mask.

    Args:
        frames: (frames, height, width, 3) uint8 as stored.
        colour_space: "YBR", "RGB" or "MONOCHROME".
        mask: (height, width) bool, True for what stays; None for everything.

    Returns:
        Each frame as (height, width, 3) uint8.
    """
    _require_opencv()
    converted = [cv2.cvtColor(as_ycbcr(frame, colour_space), cv2.COLOR_YUV2BGR) for frame in frames]
    if mask is None:
        return converted
    inside = np.ascontiguousarray(mask).view(np.uint8)
    return [cv2.bitwise_and(frame, frame, mask=inside) for frame in converted]


def luminance(frames: np.ndarray, colour_space: str) -> np.ndarray:
    """Return the grey of frames (frames, height, width, 3) uint8 as (frames, height, width): Y of YBR.

    Args:
        frames: as stored.
        colour_space: "YBR", "RGB" or "MONOCHROME".
    """
    _require_opencv()
    out = np.empty(frames.shape[:3], np.uint8)
    for frame, target in zip(frames, out, strict=True):
        if colour_space == "RGB":
            cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY, dst=target)
        else:
            cv2.extractChannel(frame, 0, dst=target)
    return out


def bgr_to_grey(frames: np.ndarray) -> np.ndarray:
    """Convert BGR (frames, height, width, 3) uint8 to grey (frames, height, width)."""
    _require_opencv()
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in frames])


def resize_cubic(frames: Sequence[np.ndarray] | np.ndarray, size: int) -> np.ndarray:
    """Resize frames, each (height, width, 3) uint8, to (frames, size, size, 3): cubic, not antialiased."""
    _require_opencv()
    return np.stack([cv2.resize(frame, (size, size), interpolation=cv2.INTER_CUBIC) for frame in frames])


def resize_area(frames: Sequence[np.ndarray] | np.ndarray, size: int) -> np.ndarray:
    """Resize frames, each (height, width, 3) uint8, to (frames, size, size, 3): mean over the area of a new pixel."""
    _require_opencv()
    return np.stack([cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA) for frame in frames])


def sector_mask(frames: np.ndarray) -> np.ndarray:
    """Find the ultrasound sector: lit and moving, without ECG strip, text and scales.

    The steps are EchoPrime's, with three of its defects mended. It looks at the given frames, not at the whole clip.
    "Lit" is a union over frames, because EchoPrime's 8-bit count overflows at 255 frames. "Moving" is any difference
    from the first frame, because EchoPrime compares the first and last frame only and blackens a clip that ends as it
    begins.

    Args:
        frames: (frames, height, width, 3) uint8 BGR.

    Returns:
        (height, width) bool, True in the sector. If nothing moves, everything lit is True. If no lit area is large
        enough, the whole frame is True.
    """
    grey = bgr_to_grey(frames)
    return sector_of(grey[0], grey.min(axis=0), grey.max(axis=0))


def sector_of(first: np.ndarray, lowest: np.ndarray, highest: np.ndarray) -> np.ndarray:
    """Find the sector as `sector_mask` does, from the brightness of a clip.

    Args:
        first: (height, width) uint8, the first frame.
        lowest: (height, width) uint8, the smallest brightness of each pixel over the frames.
        highest: (height, width) uint8, the largest brightness.

    Returns:
        As `sector_mask`.
    """
    _require_opencv()
    kernel = np.ones((3, 3), np.uint8)
    lit = cv2.erode((highest > 0).astype(np.uint8), kernel, iterations=STEPS)  # thin lines and letters go
    moving = ((highest != first) | (lowest != first)).astype(np.uint8)
    moving[:MARK_SIZE, :MARK_SIZE] = 0
    seed = lit * moving if (lit * moving).any() else lit
    if not seed.any():
        return np.ones(lit.shape, bool)
    mask = cv2.dilate(seed, kernel, iterations=STEPS)
    hulls = [cv2.convexHull(contour) for contour in _outer_contours(mask)]
    cv2.drawContours(mask, hulls, -1, 1, OUTLINE)
    cv2.drawContours(mask, hulls, -1, 1, cv2.FILLED)
    cv2.drawContours(mask, _outer_contours(mask), -1, 1, cv2.FILLED)  # holes between two hulls
    return mask.astype(bool)


def _outer_contours(mask: np.ndarray) -> list[np.ndarray]:
    """Find the outer contour (points, 1, 2) of each connected part of a mask (height, width) uint8; points are x, y."""
    return list(cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0])


def _require_opencv() -> None:
    """Raise `ImportError` with the pip command if OpenCV is not installed."""
    require_package(cv2, "opencv-python-headless", "preparing echo clips")
