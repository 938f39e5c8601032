"""Read chest X-rays (DICOM, PNG, JPEG, arrays) into grey pictures as a viewer shows them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..utils.errors import InputRefusedError
from .dicom_files import is_dicom, read_dicom
from .echo_decoders import PixelsError, refuse_damaged_jpeg
from .input_limits import LIMITS, InputLimits, check_file, refusal_of, refusing
from .optional_packages import require_package
from .xray_dicom import FRONTAL, XrayPicture, check_xray_header, check_xray_size, decode_dicom_xray

try:
    from PIL import Image, ImageOps
except ImportError:
    Image = ImageOps = None  # type: ignore[assignment]

COLOURED = 24
"""Difference of two colour channels from which a pixel is coloured, on the 0-255 scale."""
MAX_COLOURED = 0.1
"""Largest share of coloured pixels. A picture with more is no X-ray. A coloured mark covers far less."""
SMALLEST_SPAN = 16
"""Smallest difference between the 1st and the 99th percentile (0 to 255). A picture with less shows nothing."""
_EXIF_ORIENTATION = 0x0112
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I")
"""Modes of Pillow for a grey PNG with 16 bits."""


def read_xray(xray: Any, views: Sequence[str] = FRONTAL, limits: InputLimits = LIMITS) -> XrayPicture:
    """Read any accepted form of a chest X-ray.

    Args:
        xray: path of a DICOM (CR, DX), PNG or JPEG file; the content decides, not the suffix | `PIL.Image.Image` |
            array (height, width) uint8 or uint16, air dark, or (height, width, 3) uint8 grey | `XrayPicture`.
        views: views that are used. A file that states another one is refused. A file that states none is used, with a
            note.
        limits: largest sizes.

    Returns:
        `XrayPicture`.

    Raises:
        InputRefusedError: if the file is missing or damaged, is no chest X-ray, states another view, or shows nothing.
        ImportError: if pydicom or Pillow is needed and not installed.
    """
    if isinstance(xray, ValueError):  # a refusal in place of a file that must not be read
        raise xray
    if isinstance(xray, str | Path):
        picture = _read_file(Path(xray), limits)
    elif hasattr(xray, "pixels") and hasattr(xray, "is_dicom"):  # no isinstance: remote code may hold two copies
        picture = xray
    elif Image is not None and isinstance(xray, Image.Image):
        with refusing("xray", _refusal):
            picture = _from_pillow(xray, "xray", limits)
    else:
        picture = _from_array(xray, limits)
    _check_content(picture)
    if picture.view and picture.view not in views:
        raise InputRefusedError(
            picture.source,
            f"the view is {picture.view}, the model takes {', '.join(views)}: give a frontal X-ray, or name the view "
            "under `views` of the image processor for a model that was trained on it",
        )
    if not picture.view and not any("view" in note for note in picture.notes):
        picture.notes.append("nothing states the view; it was taken for frontal")
    return picture


def _read_file(path: Path, limits: InputLimits) -> XrayPicture:
    """Read a DICOM, PNG or JPEG file."""
    with refusing(path, _refusal):
        check_file(path, limits)
        if is_dicom(path):
            dataset = read_dicom(path, limits=limits)
            check_xray_header(dataset, str(path), limits)
            return decode_dicom_xray(dataset, str(path))
        require_package(Image, "pillow", "reading PNG and JPEG files")
        data = path.read_bytes()
        if data[:2] == b"\xff\xd8":
            refuse_damaged_jpeg(data)
        elif data[:8] != b"\x89PNG\r\n\x1a\n":
            raise InputRefusedError(str(path), "neither DICOM nor PNG nor JPEG: not a chest X-ray that can be read")
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            return _from_pillow(image, str(path), limits)


def _from_pillow(image: Any, item: str, limits: InputLimits) -> XrayPicture:
    """Turn a picture of Pillow into grey values. Its size is checked before it is decoded."""
    check_xray_size(image.height, image.width, item, limits)
    notes = []
    if image.getexif().get(_EXIF_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
        notes.append("turned as its EXIF data say")
    if image.mode in _SIXTEEN_BITS:
        return XrayPicture(_to_bytes(np.asarray(image), item), source=item, notes=notes)
    if image.mode == "1":
        raise InputRefusedError(item, "its pixels are only black or white: not an X-ray")
    if image.mode not in ("L", "LA"):
        image = image.convert("RGB")
        _refuse_colours(np.asarray(image), item)
    return XrayPicture(np.asarray(image.convert("L")), source=item, notes=notes)


def _from_array(array: Any, limits: InputLimits) -> XrayPicture:
    """Turn an array into grey values."""
    if not isinstance(array, np.ndarray):
        raise InputRefusedError(
            "xray", f"a {type(array).__name__}: give a path, a Pillow image or an array (height, width) of grey values"
        )
    is_grey = array.ndim == 2 and array.dtype in (np.uint8, np.uint16)
    is_rgb = array.ndim == 3 and array.shape[-1] == 3 and array.dtype == np.uint8
    if not (is_grey or is_rgb) or np.ma.isMaskedArray(array):
        raise InputRefusedError(
            "xray", f"{array.dtype} of shape {array.shape}, expected uint8 or uint16 (height, width), or grey uint8 RGB"
        )
    check_xray_size(array.shape[0], array.shape[1], "xray", limits)
    if is_rgb:
        _refuse_colours(array, "xray")
        array = array[..., 1]
    return XrayPicture(array if array.dtype == np.uint8 else _to_bytes(array, "xray"))


def _to_bytes(values: np.ndarray, item: str) -> np.ndarray:
    """Scale grey values of 16 bits to uint8 by their lowest and highest value."""
    lowest, highest = int(values.min()), int(values.max())
    if lowest == highest:
        raise InputRefusedError(item, "all pixels have one grey value: nothing to see")
    scaled = (values.astype(np.float64) - lowest) / (highest - lowest)
    return np.rint(scaled * 255).astype(np.uint8)


def _refuse_colours(rgb: np.ndarray, item: str) -> None:
    """Refuse a picture (height, width, 3) uint8 with many coloured pixels, such as a photograph."""
    spread = rgb.max(-1).astype(int) - rgb.min(-1)
    share = float((spread > COLOURED).mean())
    if share > MAX_COLOURED:
        raise InputRefusedError(item, f"{share:.0%} of its pixels are coloured: a photograph or a scan, not an X-ray")


def _check_content(picture: XrayPicture) -> None:
    """Refuse a picture that shows nothing."""
    low, high = np.percentile(picture.pixels, (1, 99))
    if high - low < SMALLEST_SPAN:
        raise InputRefusedError(
            picture.source,
            f"its grey values hardly differ (1st percentile {low:g}, 99th {high:g} of 255): the X-ray shows nothing",
        )


def _refusal(error: Exception, item: Path | str) -> InputRefusedError:
    """Turn what a decoder raised into the refusal to raise. A library's text is left out: it may quote the header."""
    is_bomb = type(error).__name__ == "DecompressionBombError"  # Pillow's, for a picture of more pixels than it decodes
    # NotImplementedError: pydicom knows no decoder for the transfer syntax. SyntaxError: Pillow, over a damaged PNG.
    foreseen = (
        OSError,
        ValueError,
        RuntimeError,
        NotImplementedError,
        AttributeError,
        EOFError,
        SyntaxError,
        TypeError,
    )
    if isinstance(error, RecursionError) or getattr(error, "errno", None) is not None:
        return refusal_of(error, item)
    if not is_bomb and not isinstance(error, foreseen):
        return refusal_of(error, item)
    if isinstance(error, PixelsError):
        why = str(error)
    elif "missing dependencies" in str(error):  # pydicom, where no installed package decodes the transfer syntax
        why = "no installed package decodes this transfer syntax"
    else:
        why = type(error).__name__
    return InputRefusedError(
        str(item), f"the picture cannot be decoded ({why}): the file is damaged, or export it again"
    )


__all__ = ["read_xray"]
