"""Pixel operations: colours by the published coefficients, resizing as by PyTorch, the sector as by EchoPrime."""

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage

from tgmm_hf.inputs import echo_pixels
from tgmm_hf.inputs.echo_pixels import bgr_to_grey, resize_cubic, rgb_to_ycbcr, sector_mask, ycbcr_to_bgr
from tgmm_hf.inputs.image_processing_echo import EchoImageProcessor


def colours() -> np.ndarray:
    """Every pair of the last two components with every fifth value of the first: (52, 256, 256, 3)."""
    return np.stack(np.meshgrid(*[np.arange(0, 256, step, dtype=np.uint8) for step in (5, 1, 1)], indexing="ij"), -1)


def rounded(values: np.ndarray) -> np.ndarray:
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)


def ycbcr_by_formula(rgb: np.ndarray) -> np.ndarray:
    """Compute OpenCV's fixed-point YCbCr (14 bits) in float64."""
    y = rounded(rgb @ (np.array([4899, 9617, 1868]) / 2**14))
    blue = rounded((rgb[..., 2].astype(float) - y) * 9241 / 2**14 + 128)
    red = rounded((rgb[..., 0].astype(float) - y) * 11682 / 2**14 + 128)
    return np.stack([y, blue, red], -1)


def test_colours_follow_the_coefficients_of_echoprime() -> None:
    frames = colours()
    weights = np.array([[1 << 14] * 3, [33292, -6472, 0], [0, -9519, 18678]]) / 2**14  # rows Y, U, V
    shifted = frames - np.array([0.0, 128.0, 128.0])
    assert np.array_equal(ycbcr_to_bgr(frames), rounded(shifted @ weights))
    assert np.array_equal(bgr_to_grey(frames), rounded(frames @ (np.array([3735, 19235, 9798]) / 2**15)))
    assert np.array_equal(rgb_to_ycbcr(frames), ycbcr_by_formula(frames))


@pytest.mark.parametrize(("side", "size"), [(480, 224), (192, 224), (76, 64), (77, 64), (64, 64)])
def test_resizing_is_cubic_without_antialiasing(side: int, size: int) -> None:
    noise = np.random.default_rng(side).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    planes = torch.from_numpy(noise).permute(0, 3, 1, 2).float()
    resized = torch.nn.functional.interpolate(planes, (size, size), mode="bicubic", align_corners=False)
    expected = resized.round().clamp(0, 255).permute(0, 2, 3, 1).numpy()
    difference = np.abs(resize_cubic(noise, size) - expected)
    assert difference.max() <= 1 and (difference > 0).mean() < 5e-3


def echoprimes_mask(frames: np.ndarray) -> np.ndarray:
    """EchoPrime's steps with EchoPrime's calls (defects mended as documented in `sector_mask`)."""
    grey = np.stack([cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in frames])
    kernel = np.ones((3, 3), np.uint8)
    lit = cv2.erode((grey > 0).any(axis=0).astype(np.uint8), kernel, iterations=10)
    moving = (grey != grey[0]).any(axis=0)
    moving[:20, :20] = False
    mask = cv2.dilate(lit * moving, kernel, iterations=10)
    contours, _ = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE)
    for contour in contours:
        cv2.drawContours(mask, [cv2.convexHull(contour)], -1, 1, 3)
    return ndimage.binary_fill_holes(mask)


def sector(height: int, width: int, tilt: float, seed: int) -> np.ndarray:
    """(8, height, width, 3) uint8: a fan of moving speckle and a moving island, text above, on black."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    angle, radius = np.arctan2(columns - width / 2, rows - 5) - tilt, np.hypot(rows - 5, columns - width / 2)
    shown = (np.abs(angle) < 0.6) & (radius > 20) & (radius < 0.85 * height)
    shown |= np.hypot(rows - 0.8 * height, columns - 0.1 * width) < 25
    frames = np.where(shown, generator.integers(30, 255, (8, height, width)), 0).astype(np.uint8)
    frames[:, 4:12, 4:60] = 255
    return np.repeat(frames[..., None], 3, axis=-1)


@pytest.mark.parametrize("tilt", [0.0, 0.3, -0.5])
@pytest.mark.parametrize(("height", "width"), [(240, 320), (480, 640)])
def test_the_sector_is_echoprimes(height: int, width: int, tilt: float) -> None:
    frames = sector(height, width, tilt, seed=height)
    ours, theirs = sector_mask(frames), echoprimes_mask(frames)
    ring = ndimage.binary_dilation(theirs, iterations=2) & ~ndimage.binary_erosion(theirs, iterations=2, border_value=1)
    assert theirs.mean() > 0.1 and not (ours ^ theirs)[~ring].any()
    assert (ours & theirs).sum() / (ours | theirs).sum() > 0.99


@pytest.mark.parametrize("shape", [(3, 50, 8), (3, 8, 50), (3, 1, 40), (2, 40, 1)])
def test_a_sector_of_any_shape(shape: tuple[int, int, int]) -> None:
    frames = np.random.default_rng(0).integers(1, 255, (*shape, 3), dtype=np.uint8)
    assert sector_mask(frames).shape == shape[1:]


def test_a_sector_without_gaps_between_its_parts() -> None:
    """Four bars around a square: their hulls close it, so the inside belongs to the sector."""
    bars = np.zeros((200, 200), bool)
    bars[20:60, 20:180] = bars[140:180, 20:180] = bars[20:180, 20:60] = bars[20:180, 140:180] = True
    frames = np.where(bars, np.random.default_rng(0).integers(30, 255, (4, 200, 200)), 0).astype(np.uint8)
    mask = sector_mask(np.repeat(frames[..., None], 3, axis=-1))
    assert mask[30:170, 30:170].all() and not mask[:10].any()


def test_a_clip_without_opencv_names_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(echo_pixels, "cv2", None)
    with pytest.raises(ImportError, match="needs opencv-python-headless: pip install opencv-python-headless"):
        EchoImageProcessor(num_frames=4).prepare_clip(sector(240, 320, 0.0, seed=1))
