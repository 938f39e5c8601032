"""Read a user's own picture of an ECG: a file, a Pillow image or an array -> (height, width, 3) uint8."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..utils.errors import InputRefusedError
from .input_limits import LIMITS, MIB, InputLimits, check_file, refusing
from .optional_packages import require_package

try:
    from PIL import Image, ImageOps
except ImportError:
    Image = ImageOps = None  # type: ignore[assignment]

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
"""Formats of picture files, by Pillow's names."""
SMALLEST_SIDE = 64
"""Pixels. A smaller picture shows no waves of twelve leads."""
LARGEST_PIXELS = 64 * MIB
"""Rows x columns. A photograph of 64 megapixels passes."""
SMALLEST_RANGE = 16
"""Grey levels between darkest and brightest pixel. A blank page has less."""


def read_picture(picture: Any, limits: InputLimits = LIMITS) -> NDArray[np.uint8]:
    """Read a picture of an ECG.

    Args:
        picture: path of a file in one of `FORMATS` | Pillow image | uint8 array (height, width) or (height, width, 3).
        limits: `max_file_bytes` is the largest size of a file.

    Returns:
        (height, width, 3) uint8, turned as the file says (EXIF). What is transparent is white.

    Raises:
        InputRefusedError: if there is no such file, it is no picture, or it is too small, too large or blank.
    """
    if isinstance(picture, ValueError):  # a refusal in place of a file that must not be read
        raise picture
    if isinstance(picture, str | Path):
        values = _read_file(Path(picture), limits)
        item = str(picture)
    elif isinstance(picture, np.ndarray):
        values, item = _as_colours(picture), "picture"
    elif hasattr(picture, "convert") and hasattr(picture, "size"):
        with refusing("picture"):
            values, item = _from_pillow(picture, "picture"), "picture"
    else:
        raise InputRefusedError(
            "picture",
            f"a {type(picture).__name__} is no picture: give a path, a Pillow image or a uint8 array (height, width, "
            "3)",
        )
    _check(values, item)
    return values


def _read_file(path: Path, limits: InputLimits) -> NDArray[np.uint8]:
    """Read a picture file. Its size is checked before it is decoded."""
    require_package(Image, "pillow", "reading a picture")
    check_file(path, limits)
    try:
        image = Image.open(path, formats=FORMATS)
    except (OSError, ValueError, SyntaxError) as error:
        raise InputRefusedError(str(path), f"no picture of a known format ({', '.join(FORMATS)})") from error
    with refusing(path), image:
        return _from_pillow(image, str(path))


def _from_pillow(image: Any, item: str) -> NDArray[np.uint8]:
    """Decode a Pillow image, turn it as its header says, and put it on white."""
    require_package(Image, "pillow", "reading a picture")
    width, height = image.size
    _check_size(height, width, item)
    if getattr(image, "n_frames", 1) > 1:
        raise InputRefusedError(item, f"{image.n_frames} pages, expected one: save the page with the ECG as a picture")
    if image.mode.startswith(("I", "F")):
        raise InputRefusedError(item, f"the mode is {image.mode}, expected 8 bits a colour: save it as PNG or JPEG")
    image = ImageOps.exif_transpose(image).convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return np.asarray(Image.alpha_composite(white, image).convert("RGB"))


def _as_colours(picture: NDArray) -> NDArray[np.uint8]:
    """Bring an array to (height, width, 3)."""
    grey = picture.ndim == 2
    if picture.dtype != np.uint8 or not (grey or (picture.ndim == 3 and picture.shape[2] == 3)):
        raise InputRefusedError(
            "picture",
            f"an array of {picture.dtype} with shape {picture.shape}, expected uint8 of shape (height, width, 3) or "
            "(height, width)",
        )
    return np.repeat(picture[..., None], 3, axis=2) if grey else picture


def _check_size(height: int, width: int, item: str) -> None:
    """Refuse a picture that is too small or too large."""
    if min(height, width) < SMALLEST_SIDE or height * width > LARGEST_PIXELS:
        raise InputRefusedError(
            item,
            f"{width} x {height} pixels; expected are sides of at least {SMALLEST_SIDE} and at most "
            f"{LARGEST_PIXELS // MIB} megapixels",
        )


def _check(values: NDArray[np.uint8], item: str) -> None:
    """Refuse a picture that is too small, too large or blank."""
    _check_size(values.shape[0], values.shape[1], item)
    if (span := int(values.max()) - int(values.min())) < SMALLEST_RANGE:
        raise InputRefusedError(item, f"all pixels lie within {span} grey levels: the picture shows nothing")


__all__ = ["read_picture"]
