"""Checks of decoded echo frames: is there an ultrasound picture in them, and do their colours fit the header?

Each check returns a reason, or None. The limits were set on the synthetic cohort and one real clip;
`docs/results/checks/echo.md` has the measured rates and the command.
"""

from itertools import pairwise

import numpy as np
from scipy.ndimage import minimum_filter, uniform_filter

from ..utils.errors import InputRefusedError
from .echo_brightness import (
    FLAT,
    GLIMMER,
    MIN_FRAMES,
    ClipBrightness,
    blurred,
    brightness_of,
    flat_pixels,
    thick_side,
)

MIN_SIDE = 16
"""Smallest height or width (pixels) of a frame."""
DARK, BRIGHT = 24, 230
"""A pixel up to DARK is not lit, a pixel from BRIGHT is white."""
MIN_LIT = 0.005
"""Smallest share of lit pixels. A clip with less is refused. A sector fills more than a tenth of a frame."""
MAX_WHITE = 0.97
"""Largest share of white pixels. A clip with more is refused."""
MIN_SPAN = 8
"""Smallest difference between the darkest and the brightest pixel (0 to 255) of a clip. A clip with less is refused."""
BLACK_OR_WHITE, MIN_TOP, MIN_BRIGHT = 0.9, 0.05, 100
"""A clip is refused as thresholded if more than BLACK_OR_WHITE of the pixels that are ever lit are within 16 of black
or of the brightest pixel, and more than MIN_TOP near the brightest one. Good clips have at most 0.5 and 0.002.
A clip without a pixel of MIN_BRIGHT is not judged."""
MIN_CORRELATION = 0.3
"""Smallest correlation of neighbouring pixels. A clip with less is refused. Noise has 0, a picture more than 0.7."""
STRIPES = 0.995
"""A frame whose neighbours correlate more than this in one direction shows stripes; it is not torn."""
EQUAL_PLANES = 0.9
"""The thirds of an uncompressed frame that correlate more than this are its three planes."""
MIN_MOVED, MIN_SECTOR_MOVED = 0.001, 0.02
"""Smallest share of the picture, and of the sector's pixels, that moves in a clip. A clip with less is refused as
frozen. In good clips the whole sector moves."""
MAX_FLAT_LIT, MAX_FLAT = 0.5, 0.85
"""Largest share of flat pixels among those that are lit, and of all in the sector. A clip with more is refused as
drawn. Good clips have less than 0.01, because of their speckle."""
REPEATED_SHARE = 0.3
"""A clip is noted where at least this share of its frames repeats the frame before."""
NO_CHANGE, CHANGE_PERCENTILE = 0.25, 80
"""A frame of a video repeats the frame before if it differs by less than NO_CHANGE of the CHANGE_PERCENTILE over all
frames: compression makes repeated frames differ a little. In good clips all but single frames have more than 0.65."""
MIN_COMMON = 0.15
"""Smallest correlation of a blurred frame with the next one. A clip with less is refused. Noise has 0.05, the synthetic
cohort at least 0.3, a real clip 0.95."""
MIN_AREA = 600
"""Pixels of the shrunk sector. A smaller sector has too few independent points for correlations: a blurred pixel stands
for about 50."""
MIN_NEIGHBOURS, STANDING = 0.15, 0.5
"""Noise that stands still is refused: pixels correlate less than MIN_NEIGHBOURS with their neighbours and more than
STANDING with the next frame."""
MIN_TEXTURE = 0.03
"""Smallest share of fine texture in the contrast of a sector. A clip with less is refused. A ramp has 0.01, a real clip
0.15."""


def refuse_without_content(frames: np.ndarray, colour_space: str, item: str) -> None:
    """Refuse frames that show no moving picture.

    Args:
        frames: (frames, height, width, 3) uint8, the frames that the model reads.
        colour_space: "YBR", "RGB" or "MONOCHROME".
        item: file or view name, for the message.

    Raises:
        InputRefusedError: if the frames are too small, black, white, of one colour, noise, torn or frozen.
    """
    reason = content_fault(ClipBrightness(brightness_of(frames, colour_space)))
    if reason is not None:
        raise InputRefusedError(item, reason)


def content_fault(clip: ClipBrightness) -> str | None:
    """Say why a clip shows no moving picture.

    Args:
        clip: brightness of the frames.

    Returns:
        The reason why the clip is not used, or None if it shows a moving picture.
    """
    height, width = clip.frames.shape[1:]
    if min(height, width) < MIN_SIDE:
        return f"frames of {height} x {width} pixels, at least {MIN_SIDE} x {MIN_SIDE} are needed: not a clip"
    fault = _uniform_fault(clip) or _texture_fault(clip.frames[0]) or _threshold_fault(clip) or _frozen_fault(clip)
    return fault or _drawn_fault(clip) or _sector_fault(clip)


def _uniform_fault(clip: ClipBrightness) -> str | None:
    """Return the fault of a clip that is black, white or of one brightness, else None."""
    lit, white = clip.share(DARK + 1), clip.share(BRIGHT)
    if lit < MIN_LIT:
        return f"the frames are black ({lit:.1%} of the pixels are lit): nothing is shown"
    if white > MAX_WHITE:
        return f"the frames are white ({white:.1%} of the pixels): nothing is shown"
    present = clip.counts > 0
    darkest, brightest = present.argmax(axis=1), 255 - present[:, ::-1].argmax(axis=1)
    if brightest.max() - darkest.min() < MIN_SPAN:
        span = f"{darkest.min()} to {brightest.max()}"
        return f"all pixels of the frames have one brightness ({span}): nothing is shown"
    spans = brightest - darkest
    if (spans < MIN_SPAN).mean() > 0.5:
        return "more than half of the frames have one brightness each: nothing is shown"
    return None


def _threshold_fault(clip: ClipBrightness) -> str | None:
    """Return the fault of a clip whose pixels are black or white, without grey, else None."""
    highest = int(clip.highest.max())
    if highest < MIN_BRIGHT:  # each value of a dark clip is near black or near its brightest pixel
        return None
    counts = clip.counts.sum(axis=0)
    number = len(clip) * int(np.count_nonzero(clip.ever_lit))
    # A pixel that is never lit has GLIMMER or less in every frame.
    dark = int(counts[: 2 * GLIMMER + 1].sum()) - (clip.frames.size - number)
    top = int(counts[highest - 2 * GLIMMER :].sum())
    extreme, bright = (top + dark) / number, top / number
    if extreme <= BLACK_OR_WHITE or bright <= MIN_TOP:
        return None
    return f"{extreme:.0%} of the lit pixels are black or white: the frames were thresholded and show no tissue"


def _texture_fault(frame: np.ndarray) -> str | None:
    """Return the fault of a frame (height, width) that is noise, or torn because its width is wrong; else None."""
    along, down = correlation(frame[:, :-1], frame[:, 1:]), correlation(frame[:-1], frame[1:])
    if max(along, down) < MIN_CORRELATION:
        return (
            f"the frames are noise (neighbouring pixels correlate with {max(along, down):.2f}, a picture has more than "
            f"{MIN_CORRELATION}): damaged or not a clip"
        )
    if min(along, down) < MIN_CORRELATION and max(along, down) < STRIPES:
        return (
            f"the frames are torn (neighbours correlate with {along:.2f} along rows and {down:.2f} along columns): "
            "rows and columns of the header do not fit the pixel data"
        )
    return None


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Compute the correlation (-1 to 1) of two equally large pictures; 1 if a picture has no contrast."""
    a, b = (picture.astype(np.float32).ravel() for picture in (first, second))
    a, b = (picture - float(picture.mean(dtype=np.float64)) for picture in (a, b))
    scale = float(np.sqrt(float(a @ a) * float(b @ b)))
    return float(a @ b) / scale if scale > 0 else 1.0


def _frozen_fault(clip: ClipBrightness) -> str | None:
    """Return the fault of a clip if nothing moves in the sector, else None.

    A running ECG strip or clock does not count as movement. A single frame has no fault.
    """
    if len(clip) < 2:
        return None
    if clip.thick_parts:
        share, least = float(clip.moved[clip.thick_parts[0]].mean()), MIN_SECTOR_MOVED
    else:
        share, least = _dense_share(clip.moved), MIN_MOVED
    if share < least:
        return f"the frames do not change ({share:.2%} of the sector moves): a frozen picture, not a clip"
    return None


def _drawn_fault(clip: ClipBrightness) -> str | None:
    """Return the fault of a clip whose areas are flat, as bars, letters and drawings are."""
    area, whole = clip.thick_area, clip.whole_thick_area
    if whole.any() and (share := 1 - float(area[whole].mean())) > MAX_FLAT:
        return f"{share:.0%} of the picture is flat and still: a drawing or a text, not ultrasound"
    if not area.any():
        return None
    frame = clip.frames[len(clip) // 2]
    is_flat = flat_pixels(frame, FLAT)
    lit = area & (frame > DARK) & (frame < BRIGHT)
    share = float(is_flat[lit].mean()) if lit.any() else 0.0
    if share <= MAX_FLAT_LIT and float(is_flat[area].mean()) <= MAX_FLAT:
        return None
    return f"{max(share, float(is_flat[area].mean())):.0%} of the picture is flat: a drawing or a text, not ultrasound"


def _sector_fault(clip: ClipBrightness) -> str | None:
    """Return the fault of a clip with noise or a smooth pattern in its sector, else None.

    Ultrasound has fine texture, because of its speckle. The tissue stays from frame to frame.
    """
    small = clip.small
    area = minimum_filter(uniform_filter(clip.small_lit, 3) > 0.9, 7, mode="nearest")
    if area.mean() < 0.01:
        return None
    first = small[small[:, area].mean(axis=1).argmax()]  # the brightest one, because the first may be black
    texture = float(np.abs(first - uniform_filter(first, 3))[area].mean() / max(first[area].std(), 1e-6))
    if texture < MIN_TEXTURE:
        return f"the sector is smooth (texture {texture:.3f} of its contrast): a drawn pattern, not ultrasound"
    if len(small) < MIN_FRAMES or area.sum() < MIN_AREA:
        return None
    weight = np.maximum(blurred(area.astype(np.float32)[None], 2)[0], 1e-6)[area]
    smooth = blurred(small * area, 2)[:, area] / weight
    common = float(np.median(neighbour_correlations(smooth)))
    if common < MIN_COMMON:
        return f"the frames have nothing in common (blurred frames correlate with {common:.2f}): noise, not a clip"
    standing = float(np.median(neighbour_correlations(small[:, area])))
    pairs = area[:, :-1] & area[:, 1:], area[:-1] & area[1:]
    along = correlation(first[:, :-1][pairs[0]], first[:, 1:][pairs[0]])
    down = correlation(first[:-1][pairs[1]], first[1:][pairs[1]])
    if max(along, down) < MIN_NEIGHBOURS and standing > STANDING:
        return f"the sector is noise that stands still (neighbouring pixels correlate with {max(along, down):.2f})"
    return None


def neighbour_correlations(frames: np.ndarray) -> np.ndarray:
    """Compute the correlation of each frame with the next one: (frames, pixels) -> (frames - 1,).

    The correlation is 1 if one of the two frames has no contrast.
    """
    centred = frames - frames.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    scales = np.sqrt(np.einsum("ij,ij->i", centred, centred))
    products = np.einsum("ij,ij->i", centred[:-1], centred[1:])
    scale = scales[:-1] * scales[1:]
    likeness: np.ndarray = np.where(scale > 0, products / np.maximum(scale, 1e-30), 1.0)
    return likeness


def _dense_share(moved: np.ndarray) -> float:
    """Compute the share of pixels around which most pixels move; `moved` (height, width) bool, True if it moves."""
    return float((uniform_filter(moved.astype(np.float32), thick_side(moved.shape[0]), mode="constant") > 0.5).mean())


def repeated_share(frames: np.ndarray) -> float:
    """Compute the share of frames that equal the frame before, 0 for one frame; `frames` (frames, height, width, 3)."""
    if len(frames) < 2:
        return 0.0
    middle = frames.shape[1] // 2  # one row tells most frames apart
    return float(np.mean([np.array_equal(a[middle], b[middle]) and np.array_equal(a, b) for a, b in pairwise(frames)]))


def change_of(before: np.ndarray, frame: np.ndarray) -> float:
    """Compute the mean difference (0 to 255) of two frames (height, width, 3) uint8, at every second pixel."""
    earlier, later = (picture[::2, ::2].max(axis=-1).astype(np.int16) for picture in (before, frame))
    return float(np.abs(earlier - later).mean())


def repeats_note(changes: list[float], are_all: bool = True) -> dict[str, str] | None:
    """Note a clip whose frames, one after the other, often repeat the frame before.

    Args:
        changes: what `change_of` gives for each pair of consecutive frames of the file.
        are_all: False if only the first frames of the file were compared.

    Returns:
        {"code", "text"}, or None.
    """
    if len(changes) < MIN_FRAMES:
        return None
    share = float(np.mean(np.array(changes) < NO_CHANGE * np.percentile(changes, CHANGE_PERCENTILE)))
    if share < REPEATED_SHARE:
        return None
    which = "the frames of the file" if are_all else f"the first {len(changes) + 1} frames of the file"
    text = f"{share:.0%} of {which} repeat the frame before: it was exported at a higher frame rate"
    return {"code": "frames_repeated", "text": f"{text}, so the model sees a heart that moves too slowly"}


# ---- colours


def colour_fault(frame: np.ndarray, colour_space: str) -> str | None:
    """Say whether the components of a frame contradict the colour space that the header declares.

    Most of an echo picture is black or grey. In YBR its Cb and Cr are 128 there, in RGB its components are equal.

    Args:
        frame: (height, width, 3) uint8 as stored.
        colour_space: "YBR", "RGB" or "MONOCHROME".

    Returns:
        The contradiction, or None.
    """
    if colour_space == "MONOCHROME":
        return None
    first, second, third = (np.ascontiguousarray(frame[..., channel]) for channel in range(3))
    clear = ~_is_near(first, 128, 40)  # brightness near 128 looks the same in both spaces
    number = int(np.count_nonzero(clear))
    if number < 0.25 * clear.size:
        return None
    if colour_space == "RGB":
        chroma_rests = _is_near(second, 128, 12) & _is_near(third, 128, 12) & clear
        if np.count_nonzero(chroma_rests) > 0.6 * number:
            return "RGB is declared, but the second and third component rest at 128 as Cb and Cr do: YBR is stored"
        return None
    equal = (_distance(first, second) <= 8) & (_distance(first, third) <= 8) & clear
    if np.count_nonzero(equal) > 0.6 * number:
        return "YBR is declared, but the three components are equal as in grey RGB: RGB is stored"
    return None


def _is_near(values: np.ndarray, middle: int, distance: int) -> np.ndarray:
    """Tell where `values` (uint8) differ from `middle` by at most `distance`."""
    near: np.ndarray = (values >= middle - distance) & (values <= middle + distance)
    return near


def _distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Compute the absolute difference of two arrays of uint8 in uint8."""
    apart: np.ndarray = np.maximum(first, second) - np.minimum(first, second)
    return apart


def planar_fault(frame: np.ndarray, colour_space: str, planar: int) -> str | None:
    """Say whether an uncompressed frame is far less coloured with the other planar configuration.

    Args:
        frame: (height, width, 3) uint8, decoded as the header declares.
        colour_space: "YBR" or "RGB".
        planar: PlanarConfiguration that the header declares: 0 for RGBRGB..., 1 for RR...GG...BB...

    Returns:
        The contradiction, or None.
    """
    height, width = frame.shape[:2]
    if planar:
        other = np.moveaxis(frame, -1, 0).reshape(height, width, 3)
    else:
        other = np.moveaxis(frame.reshape(3, height, width), 0, -1)
    by_row = np.moveaxis(frame.reshape(height, 3, width), 1, -1)
    declared, exchanged = _colourfulness(frame, colour_space), _colourfulness(other, colour_space)
    rows = _colourfulness(by_row, colour_space)
    is_beside = min(correlation(by_row[..., 1], by_row[..., number]) for number in (0, 2)) > EQUAL_PLANES
    if not planar and rows <= exchanged and ((declared > 8 and rows < declared / 3) or (is_beside and rows < declared)):
        return (
            f"the picture is far less coloured if each row holds its three components one after the other (mean "
            f"{rows:.0f} instead of {declared:.0f}): the components are stored by row"
        )
    first, second, third = frame.reshape(3, -1)
    is_threefold = min(correlation(first, second), correlation(second, third)) > EQUAL_PLANES
    if not planar and colour_space == "RGB" and is_threefold and exchanged < declared / 2:
        return "PlanarConfiguration 0 is declared, but the picture shows the same three times: it is stored by plane"
    if declared > 8 and exchanged < declared / 3:
        return (
            f"PlanarConfiguration {planar} is declared, but the picture is far less coloured with {1 - planar} (mean "
            f"{exchanged:.0f} instead of {declared:.0f}): the header contradicts the pixels"
        )
    return None


def _colourfulness(frame: np.ndarray, colour_space: str) -> float:
    """Compute the mean distance (0 to 255) of the pixels of `frame` (height, width, 3) from grey."""
    if colour_space == "YBR":
        return float(np.abs(frame[..., 1:].astype(np.int16) - 128).mean())
    return float((frame.max(axis=-1).astype(np.int16) - frame.min(axis=-1)).mean())
