"""Doubts about how a clip moves: parts that stand still, frames in a wrong order, mixed fields, a picture that slides.

These are codes and no refusals, because a rare clip of a heart may look alike. The limits were set on the synthetic
cohort and one real clip; `docs/results/checks/echo.md` has the measured rates and the command.
"""

from itertools import pairwise

import numpy as np
from scipy.fft import irfft2, rfft2
from scipy.ndimage import binary_erosion, minimum_filter, uniform_filter

from .echo_brightness import MIN_FRAMES, ClipBrightness, blurred, thick_side, total_difference
from .echo_checks import correlation
from .echo_still import still_doubt

STILL_SHARE = 0.5
"""A part of the picture of which a smaller share moves is named. In good clips all pixels of a sector move."""
STILL_AREA, STILL_AROUND = 0.12, 0.9
"""A picture is named, too, if at least STILL_AREA of it stands still together with STILL_AROUND of what lies around, as
the frozen picture of a compare screen does. A real clip has 0.045, the synthetic cohort nothing."""
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
FOREIGN = 0.35
"""A frame is foreign if it differs from all others by more than any two of them, and by FOREIGN of the contrast of the
mean of the others. Frames of other views differ by 0.52 or more, frames of 60 good clips by 0.2 at most."""
BRIGHT, DARK, WRAPPED = 200, 50, 0.01
"""Brightness has overflowed if in WRAPPED of the pairs of neighbours inside the picture one is below DARK and the other
at least BRIGHT. 30 good clips of the synthetic cohort have at most 0.003, the real one 0. Clips that were doubled have
0.003 to 0.06, clips 1.6 times as bright are mostly below the limit."""
BRIGHT_SHARE, WRAPPED_EDGE, WRAPPED_STEP = 0.005, 3, 4
"""Share of bright pixels below which nothing is looked at, pixels of the edge that are left out, and step of frames."""
SLIDES, SLID_ALIKE = 0.8, 0.9
"""A picture slides if at least SLIDES of its frames are the frame before, moved by a pixel (of the shrunk picture) or
more, with a correlation above SLID_ALIKE."""


def motion_doubts(clip: ClipBrightness) -> list[dict[str, str]]:
    """List what is doubtful about the movement of a clip.

    Args:
        clip: brightness of the frames that the model reads.

    Returns:
        One {"code", "text"} for each doubt: "mostly_still", "frames_out_of_order", "fields_mixed", "picture_slides",
        "clip_cut", "pixels_wrapped", "picture_still".
    """
    if len(clip) < MIN_FRAMES or not clip.thick_parts:
        return []
    parts = large_parts(clip.thick_parts)
    texts = {
        "mostly_still": _still_doubt(clip, parts),
        "frames_out_of_order": _order_doubt(clip),
        "fields_mixed": _fields_doubt(clip.frames, parts[0]),
        "picture_slides": _slide_doubt(clip, parts[0]),
        "clip_cut": _cut_doubt(clip),
        "pixels_wrapped": _wrapped_doubt(clip, parts[0]),
        "picture_still": still_doubt(clip),
    }
    return [{"code": code, "text": text} for code, text in texts.items() if text is not None]


def large_parts(parts: list[np.ndarray]) -> list[np.ndarray]:
    """Keep the parts (height, width) bool, largest first, that have at least `LARGE_PART` of the largest one."""
    sizes = [int(np.count_nonzero(part)) for part in parts]
    return [part for part, size in zip(parts, sizes, strict=True) if size >= LARGE_PART * sizes[0]]


def _still_doubt(clip: ClipBrightness, parts: list[np.ndarray]) -> str | None:
    """Say that most of a part, (height, width) bool, does not move at any time."""
    share = min(float(clip.moved[part].mean()) for part in parts)
    if share < STILL_SHARE:
        return (
            f"only {share:.0%} of a part of the picture moves: a frozen picture beside or behind something that moves"
        )
    still = clip.ever_lit & ~clip.moved
    around = uniform_filter(still.astype(np.float32), thick_side(still.shape[0]))
    share = np.count_nonzero(clip.thick_area & (around > STILL_AROUND)) / np.count_nonzero(clip.thick_area)
    if share < STILL_AREA:
        return None
    return f"{share:.0%} of the picture is an area that stands still: a frozen picture beside one that moves"


def _order_doubt(clip: ClipBrightness) -> str | None:
    """Say that neighbouring frames are no more alike than any others, although some frames are alike."""
    lit = minimum_filter(clip.small_lit > 0.8, 3, mode="nearest")
    is_new = [True, *(bool((one != two).any()) for one, two in pairwise(clip.frames))]
    if lit.sum() < SMALLEST_AREA or sum(is_new) < SMALLEST_NUMBER:
        return None
    frames = blurred(clip.small[is_new], 1)[:, lit]
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
    rows, columns = (np.flatnonzero(part.any(axis=axis)) for axis in (1, 0))
    box = slice(int(rows[0]) // 2 * 2, int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    frames, part = grey[(slice(None), *box)], part[box]

    def difference(step: int, start: int = 0, stride: int = 1) -> float:
        above, below = slice(start, part.shape[0] - step, stride), slice(start + step, None, stride)
        height = part[above].shape[0]
        is_inside = part[above] & part[below][:height]
        number = np.count_nonzero(is_inside) * len(frames)
        if not number:
            return 0.0
        return sum(total_difference(frame[above], frame[below][:height], is_inside) for frame in frames) / number

    neighbours = max(difference(1, 0, 2), difference(1, 1, 2))
    second = difference(2)
    if second >= MIXED_ROWS * neighbours:
        return None
    return (
        f"rows two apart differ by {second:.1f}, neighbouring rows by {neighbours:.1f}: even and odd rows are of two "
        "moments, or exchanged"
    )


def _slide_doubt(clip: ClipBrightness, part: np.ndarray) -> str | None:
    """Say that the inner half of a picture only slides from frame to frame, as a strip, a text or a drawing does."""
    rows, columns = (np.flatnonzero(part.any(axis=axis)) for axis in (1, 0))
    inner = tuple(
        slice(int(places[0] + len(places) // 4), int(places[-1] - len(places) // 4)) for places in (rows, columns)
    )
    frames = clip.small
    step = max(1, part.shape[0] // frames.shape[1])
    cut = frames[:, inner[0].start // step : inner[0].stop // step, inner[1].start // step : inner[1].stop // step]
    if min(cut.shape[1:]) < 8:
        return None
    slid = float(np.mean(_have_slid(cut)))
    if slid < SLIDES:
        return None
    return f"{slid:.0%} of the frames are the frame before, moved: a strip, a text or a drawing that slides"


def _cut_doubt(clip: ClipBrightness) -> str | None:
    """Say that single frames are another picture, or that all frames before a moment differ from all after it."""
    number = len(clip)
    if number < CUT_NUMBER:
        return None
    frames = _coarse(clip)
    distance = _distances(frames)
    if (foreign := _foreign_frames(frames, distance)) is not None:
        return (
            f"frame {foreign + 1} of the {number} that the model reads is another picture than all others: a frame of "
            "another view or clip"
        )
    first = int(np.diag(distance, 1).argmax()) + 1
    within = max(float(distance[:first, :first].max()), float(distance[first:, first:].max()))
    across = float(distance[:first, first:].min())
    if across < CUT * within or within == 0 or min(first, number - first) < CUT_SIDE:
        return None
    return (
        f"the picture changes at once after {first} of the {number} frames that the model reads: two views or two "
        "clips follow each other"
    )


def _wrapped_doubt(clip: ClipBrightness, part: np.ndarray) -> str | None:
    """Say that bright pixels lie beside dark ones: the brightness was multiplied and overflowed 8 bits."""
    if clip.share(BRIGHT) < BRIGHT_SHARE:
        return None
    inner = binary_erosion(part, iterations=WRAPPED_EDGE)
    is_pair = inner[:, 1:] & inner[:, :-1]
    frames = clip.frames[::WRAPPED_STEP]
    left, right = frames[:, :, :-1][:, is_pair], frames[:, :, 1:][:, is_pair]
    jumps = (np.minimum(left, right) < DARK) & (np.maximum(left, right) >= BRIGHT)
    share = float(jumps.mean()) if jumps.size else 0.0
    if share < WRAPPED:
        return None
    return f"{share:.1%} of neighbouring pixels jump from dark to bright: the brightness may have overflowed its 8 bits"


def _coarse(clip: ClipBrightness) -> np.ndarray:
    """Return the frames blurred, as vectors (frames, pixels)."""
    return blurred(clip.small, 2)[:, ::2, ::2].reshape(len(clip), -1)


def _distances(frames: np.ndarray) -> np.ndarray:
    """Compute the distance between any two vectors: (frames, frames)."""
    power = np.square(frames).sum(axis=1)
    return np.sqrt(np.maximum(power[:, None] + power[None] - 2 * frames @ frames.T, 0))


def _foreign_frames(frames: np.ndarray, distance: np.ndarray) -> int | None:
    """Find one or two neighbouring frames inside a clip that are another picture. Return the number of the first."""
    for length in range(1, CUT_SIDE):
        for start in range(1, len(frames) - length):
            inside = np.arange(start, start + length)
            outside = np.delete(np.arange(len(frames)), inside)
            mean = frames[outside].mean(axis=0)
            contrast = np.linalg.norm(mean - mean.mean())
            across, within = distance[np.ix_(inside, outside)].min(), distance[np.ix_(outside, outside)].max()
            if across > within and across > FOREIGN * contrast:
                return start
    return None


def _have_slid(frames: np.ndarray) -> list[bool]:
    """Tell for each frame (height, width) but the first whether it is the frame before, moved by at least a pixel."""
    spectra = rfft2(frames - frames.mean(axis=(1, 2), keepdims=True))
    products = np.conj(spectra[:-1]) * spectra[1:]
    peaks = np.abs(irfft2(products / (np.abs(products) + 1e-6), s=frames.shape[1:]))
    places = peaks.reshape(len(peaks), -1).argmax(axis=1)
    return [_has_slid(one, two, int(place)) for one, two, place in zip(frames, frames[1:], places, strict=False)]


def _has_slid(first: np.ndarray, second: np.ndarray, place: int) -> bool:
    """Tell whether a picture (height, width) is another one moved by at least a pixel.

    `place` is the peak of their phase correlation, as an index into the flat picture.
    """
    height, width = first.shape
    down, right = divmod(place, width)
    down, right = down - height * (down > height // 2), right - width * (right > width // 2)
    if (down, right) == (0, 0) or abs(down) > height // 2 or abs(right) > width // 2:
        return False
    here = second[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
    before = first[max(0, -down) : height + min(0, -down), max(0, -right) : width + min(0, -right)]
    return bool(here.std() > 0 and correlation(before, here) > SLID_ALIKE)
