"""Describe a clip by some two hundred numbers, so that it can be compared with the clips of the training.

The clip is the one that the model reads: masked, cut and resized. No number stands for a fault. `training_likeness.py`
tells which numbers are unusual for the view.
"""

import numpy as np

THUMB, CELLS = 32, 8
"""Side of the small pictures in which motion is measured, and of the grid in which brightness is described."""
DARK = 6.0
"""Grey values (0 to 255) below which a pixel counts as black."""
TEXTURE_FRAMES = 4
"""Number of frames whose finest structure is described."""
LAGS = (2, 3, 4, 6, 8)
"""Frames apart whose differences are compared with those of neighbouring frames."""
TINY = 1e-6
Values = dict[str, float]
"""Name of a number, such as "bright.r2c3" -> its value."""
WORDS = {
    "black": ("the share of the picture that stays black", False),
    "holes": ("the share of the picture that stays black although the picture surrounds it", True),
    "dim": ("the grey value that 10 % of the picture stays below", True),
    "middle": ("the median grey value of the picture", True),
    "bright90": ("the grey value that 10 % of the picture exceed", True),
    "bright99": ("the grey value that 1 % of the picture exceed", True),
    "white": ("the share of white pixels", True),
    "colour": ("how far blue and red differ over the brightness", True),
    "red": ("how far the picture is blue (above 0) or red", False),
    "across": ("the change from a pixel to the next in a row over the brightness", True),
    "down": ("the change from a pixel to the next in a column over the brightness", True),
    "across_two": ("the change over two pixels of a row over that over one", True),
    "down_two": ("the change over two pixels of a column over that over one", True),
    "motion": ("the change from frame to frame over the contrast", True),
    "fine_motion": ("the change from frame to frame of single pixels over that of areas", True),
    "lag2": ("the change over two frames over that over one", True),
    "lag3": ("the change over three frames over that over one", True),
    "lag4": ("the change over four frames over that over one", True),
    "lag6": ("the change over six frames over that over one", True),
    "lag8": ("the change over eight frames over that over one", True),
    "largest_step": ("the largest change between frames over the usual one", True),
    "smallest_step": ("the smallest change between frames over the usual one", True),
    "jerk": ("the change of the motion from frame to frame over the motion", True),
    "flicker": ("the deviation of the brightness of frames over its mean", True),
    "first": ("the share of the first component of the motion", True),
    "second": ("the share of the second component of the motion", True),
    "third": ("the share of the third component of the motion", True),
    "likeness_sides": ("how alike the left and the right half are, mirrored", False),
    "light": ("the brightness over that of the picture", True),
    "moving": ("the motion over that of the picture", True),
    "filled": ("the share that is not black", False),
}
"""First part of a name -> its words, and whether the value is a logarithm. Cells of the grid have row and column."""


def summarise_clip(frames: np.ndarray, num_real: int) -> Values:
    """Describe a clip.

    Args:
        frames: (frames, size, size, 3) uint8 BGR, as the model reads it.
        num_real: number of real frames; the frames after them are padding.

    Returns:
        Name -> value. A clip of one frame has no numbers about motion, and a picture of fewer than `CELLS` rows has no
        numbers at all.
    """
    if min(frames.shape[1:3]) < CELLS:
        return {}
    frames = frames[: max(1, num_real)]
    small = _thumbs(frames)
    grey = small.mean(axis=-1)
    values: Values = {}
    _brightness(values, small, grey)
    _texture(values, frames)
    _grid(values, grey)
    if len(frames) > 2:
        _motion(values, grey, frames)
    return values


def _thumbs(frames: np.ndarray) -> np.ndarray:
    """Shrink frames (frames, size, size, 3) to means of blocks (frames, THUMB or less, THUMB or less, 3)."""
    side = max(1, frames.shape[1] // THUMB)
    count = frames.shape[1] // side
    cut = frames[:, : count * side, : count * side]
    if side == 1:
        return cut.astype(np.float32)
    rows = cut.reshape(len(cut), count, side, -1).sum(axis=2, dtype=np.uint16)
    blocks = rows.reshape(len(cut), count, count, side, 3).sum(axis=3, dtype=np.float32)
    return np.asarray(blocks / side**2)


def _log(value: float | np.ndarray, floor: float = TINY) -> float:
    """Take the logarithm of a value that may be 0."""
    return float(np.log(np.maximum(value, floor)))


def _brightness(values: Values, small: np.ndarray, grey: np.ndarray) -> None:
    """Add shares of black and white, grey values and colours of a clip (frames, rows, columns, 3) and its grey."""
    mean = grey.mean(axis=0)
    is_shown = grey.max(axis=0) >= DARK
    values["black"] = float(1 - is_shown.mean())
    around = [np.logical_or.accumulate(is_shown, axis=axis) for axis in (0, 1)]
    around += [np.flip(np.logical_or.accumulate(np.flip(is_shown, axis), axis=axis), axis) for axis in (0, 1)]
    values["holes"] = _log((np.logical_and.reduce(around) & ~is_shown).mean(), 1e-3)
    shown = np.sort(mean[is_shown]) if is_shown.any() else np.zeros(1)
    for name, share in (("dim", 0.1), ("middle", 0.5), ("bright90", 0.9), ("bright99", 0.99)):
        values[name] = _log(shown[round(share * (shown.size - 1))], 1.0)
    values["white"] = _log((grey > 240).mean(), 1e-4)
    apart = small[..., 0] - small[..., 2]
    values["colour"] = _log(np.abs(apart).mean() / (grey.mean() + TINY), 1e-3)
    values["red"] = float(apart.mean() / (grey.mean() + 1.0))
    left, right = mean[:, : mean.shape[1] // 2], mean[:, ::-1][:, : mean.shape[1] // 2]
    left, right = left - left.mean(), right - right.mean()
    sizes = np.sqrt(np.square(left).sum() * np.square(right).sum())
    values["likeness_sides"] = float((left * right).sum() / (sizes + TINY))


def _texture(values: Values, frames: np.ndarray) -> None:
    """Add how fast the grey changes from pixel to pixel in a few frames."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, TEXTURE_FRAMES).astype(int))
    green = frames[chosen, :, :, 1].astype(np.float32)
    bright = float(green.mean()) + 1.0
    for name, axis in (("across", 2), ("down", 1)):
        change = float(np.abs(np.diff(green, axis=axis)).mean())
        apart = green[:, :, 2:] - green[:, :, :-2] if axis == 2 else green[:, 2:] - green[:, :-2]
        values[name] = _log(change / bright, 1e-3)
        values[f"{name}_two"] = _log((float(np.abs(apart).mean()) + 0.01) / (change + 0.01))


def _grid(values: Values, grey: np.ndarray) -> None:
    """Add brightness, motion and darkness in a grid of `CELLS` x `CELLS` of a clip (frames, rows, columns)."""
    edges = np.arange(CELLS) * grey.shape[1] // CELLS
    counts = np.diff(np.append(edges, grey.shape[1]))
    area = counts[:, None] * counts[None, :]
    whole = float(grey.mean()) + 1.0
    moving = grey.std(axis=0)
    pictures = {
        "light": (grey.mean(axis=0), whole, 0.02),
        "moving": (moving, float(moving.mean()) + 0.1, 0.02),
        "filled": ((grey.max(axis=0) >= DARK).astype(np.float32), 1.0, None),
    }
    for name, (picture, size, floor) in pictures.items():
        cells = np.add.reduceat(np.add.reduceat(picture, edges, axis=0), edges, axis=1) / area / size
        cells = cells if floor is None else np.log(np.maximum(cells, floor))
        for row, line in enumerate(cells.tolist(), start=1):
            values.update({f"{name}.r{row}c{column}": value for column, value in enumerate(line, start=1)})


def _motion(values: Values, grey: np.ndarray, frames: np.ndarray) -> None:
    """Add how a clip (frames, rows, columns), with its full `frames`, changes over time."""
    flat = grey.reshape(len(grey), -1)
    means = flat.mean(axis=1)
    values["flicker"] = _log(means.std() / (means.mean() + 1.0), 1e-4)
    steps = np.abs(np.diff(flat, axis=0)).mean(axis=1)
    usual = float(np.median(steps)) + 0.01
    values["motion"] = _log(usual / (float(flat.std()) + 1.0), 1e-3)
    values["largest_step"] = _log(steps.max() / usual, 1e-2)
    values["smallest_step"] = _log(steps.min() / usual, 1e-2)
    mean_step = float(steps.mean()) + 0.01
    for lag in (lag for lag in LAGS if lag < len(flat)):
        values[f"lag{lag}"] = _log(np.abs(flat[lag:] - flat[:-lag]).mean() / mean_step, 1e-2)
    values["jerk"] = _log(np.abs(np.diff(flat, 2, axis=0)).mean() / mean_step, 1e-2)
    middle = len(frames) // 2
    fine = np.abs(frames[middle, :, :, 1].astype(np.int16) - frames[middle - 1, :, :, 1]).mean()
    values["fine_motion"] = _log((float(fine) + 0.01) / (float(steps[middle - 1]) + 0.01))
    around = flat - flat.mean(axis=0)
    roots = np.linalg.eigvalsh(around @ around.T)[::-1]
    for name, root in zip(("first", "second", "third"), roots, strict=False):
        values[name] = _log(root / (np.maximum(roots, 0).sum() + TINY), 1e-4)


__all__ = ["WORDS", "summarise_clip"]
