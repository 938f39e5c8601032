"""Doubts about shape, size and brightness of the picture: turned, cut in half, small, two pictures, oval, too bright.

These are codes and no refusals, because a rare display may look alike. The limits were set on the synthetic cohort and
one real clip; `docs/results/checks/echo.md` has the measured rates and the command, decision 172 the reasons.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import label, maximum_filter, minimum_filter, uniform_filter
from scipy.spatial import ConvexHull, QhullError

from .echo_brightness import MIN_FRAMES, ClipBrightness, shrunk

LEAN = 0.035
"""A sector opens downwards, so its centre lies below the middle of its box. It is turned over if the centre lies higher
than this share of the box above the middle, and turned to a side or cut in half if it lies further to a side. The real
clip has 0.047 downwards and 0.009 to a side, the synthetic cohort 0.08 to 0.10 and at most 0.011."""
SMALL = 0.4
"""A picture is small if it is less high and less wide than this share of the frame. The real clip has 0.74 and 0.51."""
SECOND_PART = 0.2
"""Two pictures lie beside or above each other if the second largest part is at least this share of the largest one,
their boxes do not overlap from left to right or from top to bottom, and neither leans to one side as the halves of a
shadowed sector do. No good clip of 100 had a second part at all."""
OVAL = 0.93
"""A picture is oval if it shares at least this of the union with the ellipse in its box. Sectors have at most 0.85, a
slice of a body 0.99."""
WHITE, MAX_WHITE_SECTOR = 250, 0.06
"""A picture is too bright if a larger share of its sector is at least WHITE. Good clips have less than 0.001."""
DARK_LEVEL, MIN_DARK = 40, 0.05
"""A picture is too bright if a smaller share of the frame is at most DARK_LEVEL. Good clips have at least 0.6."""
_SMOOTH, _THIN, _SHARE, _ROUNDING = 5, 7, 0.35, 1e-6
"""Sides (pixels of a shrunk frame) of what is smoothed and of what is too thin for a picture, the share of active
pixels in a picture, and the slack of a side of an outline, in pixels, against rounding."""


class Outline(NamedTuple):
    """Figures of the convex outline of a picture.

    Attributes:
        down: how far its centre lies below the middle of its box, as a share of the box's height.
        right: how far its centre lies to the right of the middle, as a share of the box's width.
        height: share of the frame's height.
        width: share of the frame's width.
        oval: share that it has in common with the ellipse in its box, of their union.
    """

    down: float
    right: float
    height: float
    width: float
    oval: float


def shape_doubts(clip: ClipBrightness, has_still_part: bool) -> list[dict[str, str]]:
    """List what is doubtful about shape, size and brightness of a picture.

    Args:
        clip: brightness of the frames that the model reads.
        has_still_part: whether a part of the picture stands still. Then only the brightness is judged, because the
            shape is found by what moves.

    Returns:
        One {"code", "text"} for each doubt: "sector_turned", "two_pictures", "picture_small", "picture_oval",
        "picture_bright".
    """
    if len(clip) < MIN_FRAMES or min(clip.frames.shape[1:]) < 2 * _THIN:
        return []
    parts = moving_parts(clip)
    hulls = [convex_hull(part) for part in parts[:1]]
    texts = _shape_texts(parts, outline(hulls[0])) if hulls and not has_still_part else {}
    if (bright := _bright_doubt(clip, hulls)) is not None:
        texts["picture_bright"] = bright
    return [{"code": code, "text": text} for code, text in texts.items()]


def moving_parts(clip: ClipBrightness) -> list[np.ndarray]:
    """Find the connected parts of a clip that are lit, move and are no thin lines or letters.

    Returns:
        Masks of the size of a shrunk frame, bool, largest first.
    """
    active = clip.moved & clip.ever_lit
    dense = uniform_filter(shrunk(active[None])[0], _SMOOTH, mode="constant") > _SHARE
    thick = maximum_filter(minimum_filter(dense, _THIN, mode="constant"), _THIN, mode="constant")
    labelled, number = label(thick)
    sizes = np.bincount(labelled.ravel(), minlength=number + 1)[1:]
    return [labelled == index + 1 for index in np.argsort(-sizes)]


def convex_hull(part: np.ndarray) -> np.ndarray:
    """Fill the convex outline of a mask (height, width) bool. A line without width stays as it is."""
    rows = np.flatnonzero(part.any(axis=1))
    ends = part[rows].argmax(axis=1), part.shape[1] - 1 - part[rows, ::-1].argmax(axis=1)
    points = np.concatenate([np.stack([rows, end], axis=1) for end in ends])
    try:
        sides = ConvexHull(points).equations
    except QhullError:
        return part
    # Each side says which columns of a row are inside: a * row + b * column + c <= 0.
    a, b, c = sides.T
    slack = _ROUNDING - np.arange(part.shape[0])[:, None] * a - c
    with np.errstate(divide="ignore", invalid="ignore"):
        limit = slack / b
    left = np.where(b < 0, limit, -np.inf).max(axis=1)
    right = np.where(b > 0, limit, np.inf).min(axis=1)
    is_crossed = (slack >= 0)[:, b == 0].all(axis=1)
    column = np.arange(part.shape[1])
    inside: np.ndarray = is_crossed[:, None] & (column >= left[:, None]) & (column <= right[:, None])
    return inside


def outline(hull: np.ndarray) -> Outline:
    """Measure a filled convex outline (height, width) bool."""
    top, bottom, left, right = _box(hull)
    height, width = bottom - top, right - left
    rows, columns = np.nonzero(hull)
    row, column = np.ogrid[: hull.shape[0], : hull.shape[1]]
    down, across = (row + 0.5 - top) / height - 0.5, (column + 0.5 - left) / width - 0.5
    ellipse = np.square(down) + np.square(across) <= 0.25
    return Outline(
        down=float((rows.mean() + 0.5 - top) / height - 0.5),
        right=float((columns.mean() + 0.5 - left) / width - 0.5),
        height=height / hull.shape[0],
        width=width / hull.shape[1],
        oval=float((ellipse & hull).sum() / (ellipse | hull).sum()),
    )


def _box(part: np.ndarray) -> tuple[int, int, int, int]:
    """Return the first and one past the last row, and the first and one past the last column, of a mask."""
    rows, columns = (np.flatnonzero(part.any(axis=axis)) for axis in (1, 0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _shape_texts(parts: list[np.ndarray], shape: Outline) -> dict[str, str]:
    """Write the doubts, code -> text, about the shape of the largest part and about a second part."""
    texts: dict[str, str] = {}
    if (place := _second_place(parts)) is not None:
        share = parts[1].sum() / parts[0].sum()
        texts["two_pictures"] = (
            f"two pictures lie {place} each other, the smaller one {share:.0%} of the larger one: export one view alone"
        )
    if shape.height < SMALL and shape.width < SMALL:
        texts["picture_small"] = (
            f"the picture fills {shape.height:.0%} of the frame's height and {shape.width:.0%} of its width (below "
            f"{SMALL:.0%}): the model sees the centre of the frame, so cut the frame to the picture"
        )
    if shape.oval >= OVAL:
        texts["picture_oval"] = (
            f"the picture is an oval ({shape.oval:.0%} like an ellipse), not a sector: a slice of CT or MR, or a "
            "round transducer?"
        )
    elif abs(shape.right) > LEAN and abs(shape.right) > shape.down:
        texts["sector_turned"] = (
            f"the sector lies to one side (its centre {abs(shape.right):.1%} from the middle of its box, at most "
            f"{LEAN:.1%} is usual): turned by 90 degrees, cut in half, or half of it dark?"
        )
    elif shape.down < -LEAN:
        texts["sector_turned"] = (
            f"the sector opens upwards (its centre {-shape.down:.1%} above the middle of its box): upside down, or "
            "displayed with the transducer below?"
        )
    return texts


def _second_place(parts: list[np.ndarray]) -> str | None:
    """Say how the two largest parts lie: "beside" or "above" each other; None if the second one is no picture."""
    if len(parts) < 2 or parts[1].sum() < SECOND_PART * parts[0].sum():
        return None
    if not all(abs(outline(convex_hull(part)).right) <= LEAN for part in parts[:2]):
        return None
    (top, bottom, left, right), (other_top, other_bottom, other_left, other_right) = map(_box, parts[:2])
    if right <= other_left or other_right <= left:
        return "beside"
    return "above" if bottom <= other_top or other_bottom <= top else None


def _bright_doubt(clip: ClipBrightness, hulls: list[np.ndarray]) -> str | None:
    """Say that nothing in the frame is dark, or that too much of the first hull, if there is one, is white."""
    grey, dark = clip.frames, clip.share(0, DARK_LEVEL)
    if dark < MIN_DARK:
        return f"{dark:.1%} of the frame is dark (at least {MIN_DARK:.0%} is usual): brightened or inverted?"
    if not hulls or clip.share(WHITE) * hulls[0].size <= MAX_WHITE_SECTOR * np.count_nonzero(hulls[0]):
        return None
    step = max(1, grey.shape[1] // hulls[0].shape[0])
    area = np.kron(hulls[0], np.ones((step, step), bool))[: grey.shape[1], : grey.shape[2]]
    is_white = (grey[:, : area.shape[0], : area.shape[1]] >= WHITE) & area
    white = np.count_nonzero(is_white) / (len(grey) * int(np.count_nonzero(area)))
    if white <= MAX_WHITE_SECTOR:
        return None
    return (
        f"{white:.0%} of the sector is white (at most {MAX_WHITE_SECTOR:.0%} is usual): brightened, or gain too high?"
    )


__all__ = ["Outline", "convex_hull", "moving_parts", "outline", "shape_doubts"]
