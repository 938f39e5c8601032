"""Find views of one study that show the same recording: the same pixels, another moment, mirrored, or cropped."""

from collections.abc import Mapping
from hashlib import sha256
from itertools import combinations

import numpy as np
import torch
from scipy.ndimage import uniform_filter

SIDE = 56
"""Clips are compared at about this size (pixels)."""
COARSE = 9
"""Side (pixels) of what is too coarse to tell recordings apart, such as the outline of the sector."""
AS_ALIKE = 0.95
"""Two views show one recording if a frame and the most alike frame of the other view correlate at least this many times
as well as neighbouring frames of one view do."""
STEADY = 0.5
"""Correlation of neighbouring frames below which nothing can be said."""
ZOOMS = tuple(round(1.04 + 0.04 * step, 2) for step in range(12))
"""Magnifications by which a cropped copy may differ."""
ZOOMED_FRAMES = 4
"""Frames of a view that are magnified for the comparison."""


def copied_views(clips: Mapping[str, np.ndarray], frame_counts: Mapping[str, int]) -> list[tuple[str, str, bool]]:
    """List the views that show the recording of an earlier view.

    Args:
        clips: view -> (frames, size, size, 3) uint8.
        frame_counts: view -> number of real frames; the rest is padding.

    Returns:
        (view, earlier view, whether the pixels are equal) for each such view.
    """
    digests = {view: sha256(clip.tobytes()).digest() for view, clip in clips.items()}
    grey = {view: clip[: frame_counts[view]].max(axis=-1).astype(np.float32) for view, clip in clips.items()}
    textures = {view: _texture(frames) for view, frames in grey.items()}
    mirrored = {view: _texture(frames[:, :, ::-1]) for view, frames in grey.items()}
    magnified = {view: [_texture(_magnified(frames, zoom)) for zoom in ZOOMS] for view, frames in grey.items()}
    copies: dict[str, tuple[str, str, bool]] = {}
    for first, second in combinations(clips, 2):
        versions = [textures[second], mirrored[second], *magnified[second]]
        pairs = [(textures[first], version) for version in versions]
        pairs += [(textures[second], other) for other in magnified[first]]
        is_equal = digests[first] == digests[second]
        if second not in copies and (
            is_equal or any(_is_one_recording(texture, version) for texture, version in pairs)
        ):
            copies[second] = (second, first, is_equal)
    return list(copies.values())


def _magnified(grey: np.ndarray, zoom: float) -> np.ndarray:
    """Magnify the middle of the first frames: (frames, size, size) -> (at most `ZOOMED_FRAMES`, size, size)."""
    size = grey.shape[1]
    inner = max(1, round(size / zoom))
    start = (size - inner) // 2
    cut = torch.from_numpy(grey[:ZOOMED_FRAMES, start : start + inner, start : start + inner].copy())[:, None]
    larger = torch.nn.functional.interpolate(cut, size=(size, size), mode="bilinear", align_corners=False)
    return larger[:, 0].numpy()


def _texture(grey: np.ndarray) -> np.ndarray:
    """Return the fine structure of frames (frames, size, size), of length one each: (frames, pixels) float32."""
    step = max(1, grey.shape[1] // SIDE)
    side = grey.shape[1] // step
    small = grey[:, : side * step, : side * step].reshape(len(grey), side, step, side, step).mean(axis=(2, 4))
    fine = (small - uniform_filter(small, (0, COARSE, COARSE))).reshape(len(grey), -1)
    fine -= fine.mean(axis=1, keepdims=True)
    return fine / np.maximum(np.linalg.norm(fine, axis=1, keepdims=True), 1e-6)


def _is_one_recording(first: np.ndarray, second: np.ndarray) -> bool:
    """Tell whether frames of two views are as alike as neighbouring frames of one view."""
    if min(len(first), len(second)) < 2:
        return False
    steady = max(float(np.median((clip[:-1] * clip[1:]).sum(axis=1))) for clip in (first, second))
    across = float(np.median((first @ second.T).max(axis=1)))
    return steady >= STEADY and across >= AS_ALIKE * steady
