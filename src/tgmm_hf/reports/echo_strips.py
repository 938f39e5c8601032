"""Echo clips for a page without scripts: all frames of a view side by side in one picture, which CSS moves on.

A strip shows the frames that the model reads, masked to the ultrasound sector. So names that a machine has burnt into
the picture outside of the sector are not shown.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tgmm_hf.explanation.attribution import Attribution
from tgmm_hf.explanation.material import ClipMaterial

MAX_HEIGHT = 240
"""Largest height of a frame in pixels. A study of eleven views then takes about 2 MB."""
QUALITY = 80
"""JPEG quality of the frames."""
LARGEST_OPACITY = 150
"""Opacity (0 to 255) of the overlay where the contribution is largest."""
FULL = 0.995
"""Share of the absolute values of all views that lies below full opacity."""
COLOUR_FOR, COLOUR_AGAINST = (230, 159, 0), (86, 180, 233)
"""Colours of the overlay: orange for the answer, blue against it (Okabe and Ito)."""


@dataclass(frozen=True)
class EchoStrip:
    """One view as a strip of frames.

    Attributes:
        view: name of the view.
        frames: number of frames.
        width: of one frame in pixels.
        height: in pixels.
        picture: data URI of the frames side by side, JPEG.
        overlay: data URI of the contributions in the same places, PNG with transparency; "" without contributions.
        item: position of the file, such as "echo[3]".
        by: who named the view, "name" or "classifier".
        confidence: probability of the view.
    """

    view: str
    frames: int
    width: int
    height: int
    picture: str
    overlay: str = ""
    item: str = ""
    by: str = "name"
    confidence: float = 1.0


def echo_strip(
    view: str,
    clip: ClipMaterial,
    attribution: Attribution | None = None,
    entry: Mapping[str, Any] | None = None,
) -> EchoStrip:
    """Draw one view.

    Args:
        view: name of the view.
        clip: the frames that the model reads, and the square of them that it sees.
        attribution: contributions with the axes view, frame, row and column; None without.
        entry: what the prediction says about the clip: {"item", "by", "confidence"}.
    """
    shown = _shrunk(clip.frames)
    count, height, width = shown.shape[:3]
    maps = None if attribution is None else view_map(attribution, view)
    scale = height / clip.frames.shape[1]
    top, left, side = (round(length * scale) for length in clip.box)
    overlay = "" if maps is None else _overlay(maps, (top, left, side), shown)
    about = entry or {}
    return EchoStrip(
        view=view,
        frames=count,
        width=width,
        height=height,
        picture=data_uri(_side_by_side(shown), "JPEG"),
        overlay=overlay,
        item=about.get("item", ""),
        by=about.get("by", "name"),
        confidence=about.get("confidence", 1.0),
    )


def view_map(attribution: Attribution, view: str) -> NDArray | None:
    """Return the map (frames, rows, columns) of one view, -1 to 1; None if the attribution has none for it.

    All views have one scale, so that their overlays can be compared. It ends at the `FULL` quantile of the absolute
    values, because one bright pixel would otherwise make all others invisible.
    """
    names = [axis.name for axis in attribution.axes]
    if names != ["view", "frame", "row", "column"]:
        return None
    labels = attribution.axes[0].labels or ()
    if view not in labels:
        return None
    maps = attribution.values[labels.index(view)]
    if not np.isfinite(maps).any():
        return None
    scale = float(np.nanquantile(np.abs(attribution.values), FULL)) or float(np.nanmax(np.abs(attribution.values)))
    return np.clip(np.nan_to_num(maps / (scale or 1.0)), -1, 1)


def _shrunk(frames: NDArray) -> NDArray:
    """Make frames (frames, height, width, 3) at most `MAX_HEIGHT` high."""
    height, width = frames.shape[1:3]
    if height <= MAX_HEIGHT:
        return frames
    size = (max(1, round(width * MAX_HEIGHT / height)), MAX_HEIGHT)
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX)) for frame in frames])


def _overlay(maps: NDArray, square: tuple[int, int, int], shown: NDArray) -> str:
    """Paint the contributions of every frame into its place of the strip, as a data URI.

    Args:
        maps: (map frames, rows, columns), -1 to 1, over the square that the model reads. Fewer frames than the clip
            has are spread over its frames.
        square: top, left and side of that square in the shown frames.
        shown: the frames as they are shown.
    """
    count, height, width = shown.shape[:3]
    top, left, side = square
    painted = np.zeros((count, height, width, 4), np.uint8)
    for frame in range(count):
        values = maps[frame * len(maps) // count].astype(np.float32)
        scaled = Image.fromarray(values).resize((side, side), Image.Resampling.BILINEAR)
        strength = np.asarray(scaled)[: height - top, : width - left]
        target = painted[frame, top : top + side, left : left + side]
        target[..., :3] = np.where(strength[..., None] >= 0, COLOUR_FOR, COLOUR_AGAINST)
        target[..., 3] = np.clip(np.abs(strength), 0, 1) * LARGEST_OPACITY
    return data_uri(_side_by_side(painted), "PNG")


def _side_by_side(frames: NDArray) -> NDArray:
    """Join frames (frames, height, width, channels) to one picture (height, frames x width, channels)."""
    return np.ascontiguousarray(np.concatenate(list(frames), axis=1))


def data_uri(picture: NDArray, file_format: str) -> str:
    """Encode a picture, uint8, as a data URI in the format "JPEG" or "PNG"."""
    buffer = BytesIO()
    options: dict[str, Any] = {"quality": QUALITY} if file_format == "JPEG" else {"optimize": True}
    Image.fromarray(picture).save(buffer, file_format, **options)
    return f"data:image/{file_format.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
