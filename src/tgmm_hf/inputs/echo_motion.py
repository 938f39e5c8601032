"""Doubts about how a clip moves: parts that stand still, frames in a wrong order, mixed fields, a picture that slides.

These are codes and no refusals, because a rare clip of a heart may look alike. The limits were set on the synthetic
cohort and one real clip; `docs/results/checks/echo.md` has the measured rates and the command.
"""

from itertools import pairwise

import numpy as np
from scipy.fft import fft2, ifft2
from scipy.ndimage import gaussian_filter, label, minimum_filter

from .echo_checks import MIN_FRAMES, MOVED, correlation, lit_area, shrunk, thick_area
from .echo_still import still_doubt

STILL_SHARE = 0.5
"""A part of the picture of which a smaller share moves is named. In good clips all pixels of a sector move."""
LARGE_PART = 0.3
"""Parts of the picture of at least this share of the largest part are looked at."""
UNORDERED, STRUCTURED = 0.85, 0.8
"""Frames are in a wrong order if neighbours are UNORDERED of the way from the most alike frame to the mean frame. This
is judged only if the most alike frame differs by less than STRUCTURED of the mean difference."""
SMALLEST_AREA, SMALLEST_NUMBER = 500, 8
"""Pixels of the shrunk sector, and different frames, that the order of frames needs."""
MIXED_ROWS, ROWS_AREA = 0.96, 10_000
"""Rows two apart that differ by less than MIXED_ROWS of what neighbours differ by are fields of two moments. A sector
of fewer pixels than ROWS_AREA is not judged."""
CUT, CUT_NUMBER, CUT_SIDE = 0.95, 6, 3
"""A clip was cut if frames before and after a moment differ by at least CUT times as much as any frames on one side.
Good clips have at most 0.82. A clip of fewer than CUT_NUMBER frames is not judged. Fewer than CUT_SIDE frames on one
side are no second clip, because a title or a black frame may come first or last."""
SLIDES, SLID_ALIKE = 0.8, 0.9
"""A picture slides if at least SLIDES of its frames are the frame before, moved by a pixel (of the shrunk picture) or
more, with a correlation above SLID_ALIKE."""


def motion_doubts(grey: np.ndarray) -> list[dict[str, str]]:
    """List what is doubtful about the movement of a clip.

    Args:
        grey: (frames, height, width) uint8, the frames that the model reads.

    Returns:
        One {"code", "text"} for each doubt: "mostly_still", "frames_out_of_order", "fields_mixed", "picture_slides",
        "clip_cut", "picture_still".
    """
    area = thick_area(grey)
    if len(grey) < MIN_FRAMES or not area.any():
        return []
    parts = large_parts(area)
    texts = {
        "mostly_still": _still_doubt(grey, parts),
        "frames_out_of_order": _order_doubt(grey),
        "fields_mixed": _fields_doubt(grey, parts[0]),
        "picture_slides": _slide_doubt(grey, parts[0]),
        "clip_cut": _cut_doubt(grey),
        "picture_still": still_doubt(grey),
    }
    return [{"code": code, "text": text} for code, text in texts.items() if text is not None]


def large_parts(area: np.ndarray) -> list[np.ndarray]:
    """Cut an area (height, width) bool into its connected parts, largest first, without those below `LARGE_PART`."""
    labelled, number = label(area)
    sizes = np.bincount(labelled.ravel(), minlength=number + 1)[1:]
    order = [index for index in np.argsort(-sizes) if sizes[index] >= LARGE_PART * sizes.max()]
    return [labelled == index + 1 for index in order]


def moved_share(grey: np.ndarray, part: np.ndarray) -> float:
    """Compute the share of the pixels of a part that differ from the first frame by `MOVED` or more at any time."""
    pixels = grey[:, part].astype(np.int16)
    return float((np.abs(pixels - pixels[0]) >= MOVED).any(axis=0).mean())


def _still_doubt(grey: np.ndarray, parts: list[np.ndarray]) -> str | None:
    share = min(moved_share(grey, part) for part in parts)
    if share >= STILL_SHARE:
        return None
    return f"only {share:.0%} of a part of the picture moves: a frozen picture beside or behind something that moves"


def _order_doubt(grey: np.ndarray) -> str | None:
    """Say that neighbouring frames are no more alike than any others, although some frames are alike."""
    lit = minimum_filter(shrunk(lit_area(grey)[None])[0] > 0.8, 3, mode="nearest")
    grey = grey[[True, *(bool((one != two).any()) for one, two in pairwise(grey))]]
    if lit.sum() < SMALLEST_AREA or len(grey) < SMALLEST_NUMBER:
        return None
    frames = np.stack([gaussian_filter(frame, 1)[lit] for frame in shrunk(grey)])
    frames -= frames.mean(axis=0)  # what stands still says nothing of the order
    power = (frames * frames).sum(axis=1)
    distance = np.sqrt(np.maximum(power[:, None] + power[None] - 2 * frames @ frames.T, 0))
    number = len(distance)
    mean = distance.sum() / (number * (number - 1))
    neighbours = float(np.diag(distance, 1).mean())
    nearest = float((distance + np.diag(np.full(number, np.inf))).min(axis=1).mean())
    if nearest > STRUCTURED * mean or neighbours - nearest < UNORDERED * (mean - nearest):
        return None
    return (
        "neighbouring frames are no more alike than frames far apart: the frames are in a wrong order, of several "
        "clips, or too far apart in time"
    )


def _fields_doubt(grey: np.ndarray, part: np.ndarray) -> str | None:
    """Say that rows two apart are more alike than neighbours: even and odd rows are of two moments, or exchanged."""
    if part.sum() < ROWS_AREA:
        return None
    frames = grey.astype(np.int16)

    def difference(step: int, start: int = 0, stride: int = 1) -> float:
        rows = slice(start, part.shape[0] - step, stride)
        is_inside = part[rows] & part[start + step :: stride][: part[rows].shape[0]]
        apart = np.abs(frames[:, rows] - frames[:, start + step :: stride][:, : part[rows].shape[0]])
        return float(apart[:, is_inside].mean()) if is_inside.any() else 0.0

    neighbours = max(difference(1, 0, 2), difference(1, 1, 2))
    second = difference(2)
    if second >= MIXED_ROWS * neighbours:
        return None
    return (
        f"rows two apart differ by {second:.1f}, neighbouring rows by {neighbours:.1f}: even and odd rows are of two "
        "moments, or exchanged"
    )


def _slide_doubt(grey: np.ndarray, part: np.ndarray) -> str | None:
    """Say that the inner half of a picture only slides from frame to frame, as a strip, a text or a drawing does."""
    rows, columns = (np.flatnonzero(part.any(axis=axis)) for axis in (1, 0))
    inner = tuple(
        slice(int(places[0] + len(places) // 4), int(places[-1] - len(places) // 4)) for places in (rows, columns)
    )
    frames = shrunk(grey)
    step = max(1, grey.shape[1] // frames.shape[1])
    cut = frames[:, inner[0].start // step : inner[0].stop // step, inner[1].start // step : inner[1].stop // step]
    if min(cut.shape[1:]) < 8:
        return None
    slid = float(np.mean([_has_slid(one, two) for one, two in pairwise(cut)]))
    if slid < SLIDES:
        return None
    return f"{slid:.0%} of the frames are the frame before, moved: a strip, a text or a drawing that slides"


def _cut_doubt(grey: np.ndarray) -> str | None:
    """Say that all frames before a moment differ from all frames after it: two clips follow each other."""
    if len(grey) < CUT_NUMBER:
        return None
    frames = np.stack([gaussian_filter(frame, 2)[::2, ::2].ravel() for frame in shrunk(grey)])
    power = np.square(frames).sum(axis=1)
    distance = np.sqrt(np.maximum(power[:, None] + power[None] - 2 * frames @ frames.T, 0))
    first = int(np.diag(distance, 1).argmax()) + 1
    within = max(float(distance[:first, :first].max()), float(distance[first:, first:].max()))
    across = float(distance[:first, first:].min())
    if across < CUT * within or within == 0 or min(first, len(grey) - first) < CUT_SIDE:
        return None
    return (
        f"the picture changes at once after {first} of the {len(grey)} frames that the model reads: two views or two "
        "clips follow each other"
    )


def _has_slid(first: np.ndarray, second: np.ndarray) -> bool:
    """Tell whether a picture (height, width) is another one moved by at least a pixel, by phase correlation."""
    product = np.conj(fft2(first - first.mean())) * fft2(second - second.mean())
    peak = np.abs(ifft2(product / (np.abs(product) + 1e-6)))
    down, right = np.unravel_index(peak.argmax(), peak.shape)
    height, width = first.shape
    down, right = int(down - height * (down > height // 2)), int(right - width * (right > width // 2))
    if (down, right) == (0, 0) or abs(down) > height // 2 or abs(right) > width // 2:
        return False
    here = second[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
    before = first[max(0, -down) : height + min(0, -down), max(0, -right) : width + min(0, -right)]
    return bool(here.std() > 0 and correlation(before, here) > SLID_ALIKE)
