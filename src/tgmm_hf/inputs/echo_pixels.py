"""Pixel operations of EchoPrime's preprocessing: colours, sector mask, resizing.

EchoPrime calls OpenCV. These functions are written without it, so that a model's repository reads clips wherever
PyTorch and SciPy are: colours have OpenCV's very integers, resized values differ from OpenCV's by at most 1.
"""

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial import ConvexHull

try:
    import cv2
except ImportError:
    cv2 = None  # type: ignore[assignment]

# OpenCV's fixed-point coefficients (imgproc/src/color_yuv.simd.hpp, color_rgb.simd.hpp)
_YUV_SHIFT, _GREY_SHIFT = 14, 15
_YUV_TO_BGR = np.array([[1 << _YUV_SHIFT] * 3, [33292, -6472, 0], [0, -9519, 18678]])  # rows Y, U, V
_BGR_TO_GREY = np.array([3735, 19235, 9798])
_RGB_TO_Y = np.array([4899, 9617, 1868])
_CB, _CR = 9241, 11682
_SQUARE = 21  # ten steps of a 3 x 3 neighbourhood
_OUTLINE = 2.3  # pixels that OpenCV's line of thickness 3 reaches to either side, as measured


def ycbcr_to_bgr(frames: np.ndarray) -> np.ndarray:
    """uint8 (frames, height, width, 3) YCbCr -> BGR by OpenCV's YUV coefficients, as EchoPrime does (not DICOM's)."""
    if cv2 is not None:  # the same values, seven times as fast
        return np.stack([cv2.cvtColor(frame, cv2.COLOR_YUV2BGR) for frame in frames])
    return np.stack([_scaled(frame, _YUV_TO_BGR, -128 * _YUV_TO_BGR[1:].sum(0), _YUV_SHIFT) for frame in frames])


def rgb_to_ycbcr(frames: np.ndarray) -> np.ndarray:
    """uint8 (frames, height, width, 3) RGB -> YCbCr by OpenCV's coefficients."""
    converted = np.empty_like(frames)
    for frame, out in zip(frames, converted, strict=True):
        y = _scaled(frame, _RGB_TO_Y, 0, _YUV_SHIFT)
        red_blue = frame[..., [0, 2]] - y[..., None].astype(np.float32)
        out[..., 0] = y
        out[..., 1] = _scaled(red_blue, np.array([0, _CB]), 128 << _YUV_SHIFT, _YUV_SHIFT)
        out[..., 2] = _scaled(red_blue, np.array([_CR, 0]), 128 << _YUV_SHIFT, _YUV_SHIFT)
    return converted


def bgr_to_grey(frames: np.ndarray) -> np.ndarray:
    """uint8 (frames, height, width, 3) BGR -> (frames, height, width)."""
    return np.stack([_scaled(frame, _BGR_TO_GREY, 0, _GREY_SHIFT) for frame in frames])


def resize_cubic(frames: np.ndarray, size: int) -> np.ndarray:
    """uint8 (frames, height, width, 3) -> (frames, size, size, 3): cubic with a = -0.75, not antialiased, as OpenCV."""
    planes = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
    resized = torch.nn.functional.interpolate(planes, (size, size), mode="bicubic", align_corners=False)
    return resized.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def sector_mask(frames: np.ndarray) -> np.ndarray:
    """Where the ultrasound sector is: lit and moving, without ECG strip, text and scales.

    EchoPrime's steps, on the frames at hand rather than on all, with its failures mended: "lit" is a union over frames
    (its 8-bit count wraps at 255 frames), "moving" is any difference from the first frame (it compared first and last
    only, and blackened clips that end as they begin).

    Args:
        frames: (frames, height, width, 3) uint8 BGR.

    Returns:
        (height, width) bool. Falls back to everything lit when nothing moves, and to the whole frame when nothing is
        lit over a larger area.
    """
    grey = bgr_to_grey(frames)
    lit = (grey > 0).any(axis=0).astype(np.uint8)
    lit = ndimage.minimum_filter(lit, _SQUARE, mode="constant", cval=1)  # thin lines and letters go
    moving = (grey != grey[0]).any(axis=0)
    moving[:20, :20] = False  # some machines blink a mark there
    seed = lit * moving if (lit * moving).any() else lit
    if not seed.any():
        return np.ones(lit.shape, bool)
    mask = _fill_holes(ndimage.maximum_filter(seed, _SQUARE, mode="constant", cval=0) > 0)
    components, number = ndimage.label(mask, np.ones((3, 3)))
    for component in range(1, number + 1):
        mask |= _convex_hull(components == component)
    return _fill_holes(mask)


def _scaled(frame: np.ndarray, weights: np.ndarray, offset: np.ndarray | int, shift: int) -> np.ndarray:
    """(frame @ weights + offset) / 2^shift, rounded half up, clipped to uint8.

    In float32, for speed, and all the same exact: every product and sum is a multiple of 2^-shift below 2^(24-shift).
    """
    values = frame.astype(np.float32) @ (weights / (1 << shift)).astype(np.float32)
    values += np.asarray(offset / (1 << shift) + 0.5, np.float32)
    np.floor(values, out=values)
    return np.clip(values, 0, 255, out=values).astype(np.uint8)


def _fill_holes(mask: np.ndarray) -> np.ndarray:
    """Everything that the background cannot reach from outside the picture."""
    regions, _ = ndimage.label(np.pad(~mask, 1, constant_values=True))
    return regions[1:-1, 1:-1] != regions[0, 0]


def _convex_hull(component: np.ndarray) -> np.ndarray:
    """Pixels (height, width) of the component's convex hull, outline included."""
    height, width = component.shape
    if min(height, width) < 2:  # a line; in any other picture the components are squares at least
        return component
    rows = np.flatnonzero(component.any(axis=1))
    first, last = component[rows].argmax(axis=1), width - 1 - component[rows, ::-1].argmax(axis=1)
    points = np.concatenate([np.stack([rows, first], axis=1), np.stack([rows, last], axis=1)])
    # a side's normal has unit length, so a pixel lies (down * row + right * column + offset) outside of it
    down, right, offset = ConvexHull(points).equations.T
    right = np.where(np.abs(right) < 1e-9, 1e-9, right)
    bounds = (_OUTLINE - offset - down * np.arange(height)[:, None]) / right  # columns, (rows, sides)
    starts, ends = bounds[:, right < 0].max(axis=1), bounds[:, right > 0].min(axis=1)
    columns = np.arange(width)
    return (columns >= starts[:, None]) & (columns <= ends[:, None])
