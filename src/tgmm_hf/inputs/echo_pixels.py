"""Pixel operations of EchoPrime's preprocessing: colours, sector mask, resizing. OpenCV does them, as in EchoPrime."""

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


def bgr_to_grey(frames: np.ndarray) -> np.ndarray:
    """Convert BGR (frames, height, width, 3) uint8 to grey (frames, height, width)."""
    _require_opencv()
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in frames])


def resize_cubic(frames: np.ndarray, size: int) -> np.ndarray:
    """Resize (frames, height, width, 3) uint8 to (frames, size, size, 3): cubic, not antialiased."""
    _require_opencv()
    return np.stack([cv2.resize(frame, (size, size), interpolation=cv2.INTER_CUBIC) for frame in frames])


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
    kernel = np.ones((3, 3), np.uint8)
    lit = cv2.erode((grey > 0).any(axis=0).astype(np.uint8), kernel, iterations=STEPS)  # thin lines and letters go
    moving = (grey != grey[0]).any(axis=0)
    moving[:MARK_SIZE, :MARK_SIZE] = False
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
