"""Pixel operations against OpenCV: colours exactly, resizing within 1, the sector but for its border."""

import numpy as np
import pytest
from scipy import ndimage

from tgmm_hf.inputs import echo_pixels as pixels_echo
from tgmm_hf.inputs.echo_pixels import bgr_to_grey, resize_cubic, rgb_to_ycbcr, sector_mask, ycbcr_to_bgr
from tgmm_hf.inputs.image_processing_echo import EchoImageProcessor

cv2 = pytest.importorskip("cv2")


@pytest.fixture
def no_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels_echo, "cv2", None)


def colours() -> np.ndarray:
    """Every pair of the last two components with every fifth value of the first: (52, 256, 256, 3)."""
    return np.stack(np.meshgrid(*[np.arange(0, 256, step, dtype=np.uint8) for step in (5, 1, 1)], indexing="ij"), -1)


def by_opencv(frames: np.ndarray, code: int) -> np.ndarray:
    return np.stack([cv2.cvtColor(frame, code) for frame in frames])


@pytest.mark.usefixtures("no_opencv")
def test_colours_are_opencvs() -> None:
    frames = colours()
    assert np.array_equal(ycbcr_to_bgr(frames), by_opencv(frames, cv2.COLOR_YUV2BGR))
    assert np.array_equal(bgr_to_grey(frames), by_opencv(frames, cv2.COLOR_BGR2GRAY))
    assert np.array_equal(rgb_to_ycbcr(frames), by_opencv(frames, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]])


@pytest.mark.parametrize(("side", "size"), [(480, 224), (192, 224), (76, 64), (77, 64), (64, 64)])
def test_resizing_is_opencvs_within_one(side: int, size: int) -> None:
    noise = np.random.default_rng(side).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    expected = np.stack([cv2.resize(frame, (size, size), interpolation=cv2.INTER_CUBIC) for frame in noise])
    difference = np.abs(resize_cubic(noise, size).astype(int) - expected)
    assert difference.max() <= 1 and (difference > 0).mean() < 5e-3


def opencvs_mask(frames: np.ndarray) -> np.ndarray:
    """EchoPrime's steps with EchoPrime's calls (defects mended as documented in `sector_mask`)."""
    grey, kernel = by_opencv(frames, cv2.COLOR_BGR2GRAY), np.ones((3, 3), np.uint8)
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
def test_the_sector_is_opencvs_but_for_its_border(height: int, width: int, tilt: float) -> None:
    frames = sector(height, width, tilt, seed=height)
    ours, theirs = sector_mask(frames), opencvs_mask(frames)
    ring = ndimage.binary_dilation(theirs, iterations=2) & ~ndimage.binary_erosion(theirs, iterations=2, border_value=1)
    assert theirs.mean() > 0.1 and not (ours ^ theirs)[~ring].any()
    assert (ours & theirs).sum() / (ours | theirs).sum() > 0.99


@pytest.mark.parametrize("shape", [(3, 50, 8), (3, 8, 50), (3, 1, 40), (2, 40, 1)])
def test_a_sector_of_any_shape(shape: tuple[int, int, int]) -> None:
    frames = np.random.default_rng(0).integers(1, 255, (*shape, 3), dtype=np.uint8)
    assert sector_mask(frames).shape == shape[1:]


def test_a_clip_is_the_same_with_and_without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    clip, processor = sector(240, 320, 0.0, seed=1), EchoImageProcessor(num_frames=4)
    with_opencv = processor.prepare_clip(clip).frames
    monkeypatch.setattr(pixels_echo, "cv2", None)
    assert with_opencv.any() and np.array_equal(processor.prepare_clip(clip).frames, with_opencv)
