"""Prepare chest X-rays as the X-ray encoder of MoRE reads them: `pixel_values` (batch, 3, 224, 224).

file or array --xray_reading--> (height, width) uint8, air dark
              --prepare-------> (3, 224, 224) float32: resized, contrast equalised, normalised

The steps are the published ones. The pictures of MIMIC-CXR-JPG, on which MoRE was trained, are made from DICOM files
with an equalised histogram. So the histogram of a DICOM file is equalised here too. A PNG or JPEG file keeps its
histogram.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from transformers import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor

from ..utils.hub_code import HubCode
from .input_limits import LIMITS, InputLimits
from .optional_packages import LatePackage, require_package
from .xray_dicom import FRONTAL, VIEWS_OF_XRAYS
from .xray_reading import read_xray

cv2: Any = LatePackage("cv2")
try:
    from PIL import Image
except ImportError:
    Image = None  # type: ignore[assignment]

TILES = 8
"""Tiles of the adaptive equalisation in each direction, as in scikit-image."""
LEVELS = 256
"""Number of grey values of a picture of 8 bits."""


@dataclass
class PreparedXray:
    """What the model reads of one X-ray.

    Attributes:
        values: (3, size, size) float32.
        view: as `XrayPicture.view`.
        notes: what was assumed or changed.
        checks: {"code", "item", "text"} for what makes the X-ray doubtful.
    """

    values: np.ndarray
    view: str = ""
    notes: list[str] = field(default_factory=list)
    checks: list[dict[str, str]] = field(default_factory=list)


class MoreImageProcessor(HubCode, BaseImageProcessor):
    r"""Image processor that prepares chest X-rays as MoRE was trained on them.

    Args:
        size (`int`, *optional*, defaults to 224): height and width of the output. The aspect ratio is not kept, as
            published.
        clip_limit (`float`, *optional*, defaults to 0.01): limit of the adaptive histogram equalisation (CLAHE), as a
            share of a tile's pixels. None leaves the equalisation out.
        image_mean (`float`, *optional*, defaults to 0.499): mean, on the 0-1 scale.
        image_std (`float`, *optional*, defaults to 0.293): standard deviation, on the 0-1 scale.
        equalize_dicom (`bool`, *optional*, defaults to `True`): equalise the histogram of a DICOM file, as in
            MIMIC-CXR-JPG.
        views (`list[str]`, *optional*): views that are used, "PA" and "AP" by default. Add "lateral", "oblique" or
            "decubitus" only for a model that was trained on them.

    Attributes:
        limits (`InputLimits`): largest sizes that a file may have or declare. Not saved with the processor.
    """

    limits: InputLimits = LIMITS

    hub_auto_class = "AutoImageProcessor"
    model_input_names = ["pixel_values"]  # noqa: RUF012 (transformers' convention)

    def __init__(
        self,
        size: int = 224,
        clip_limit: float | None = 0.01,
        image_mean: float = 0.499,
        image_std: float = 0.293,
        equalize_dicom: bool = True,
        views: Sequence[str] = FRONTAL,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if unknown := set(views) - set(VIEWS_OF_XRAYS):
            raise ValueError(f"views must be of {', '.join(VIEWS_OF_XRAYS)}, got {sorted(unknown)}.")
        if size < TILES or image_std <= 0 or (clip_limit is not None and not 0 < clip_limit <= 1):
            raise ValueError(
                f"size must be at least {TILES}, image_std above 0 and clip_limit between 0 and 1, got {size}, "
                f"{image_std} and {clip_limit}."
            )
        self.size = size
        self.clip_limit = clip_limit
        self.image_mean = image_mean
        self.image_std = image_std
        self.equalize_dicom = equalize_dicom
        self.views = list(views)

    def __call__(self, images: Any, *, return_tensors: str | None = None, **kwargs: Any) -> BatchFeature:
        """Prepare one X-ray, or a list of X-rays.

        Args:
            images: path, Pillow image, array or `XrayPicture`, see `read_xray`; or a list of these.
            return_tensors: "pt" for PyTorch, "np" or `None` for NumPy.
            kwargs: none is known. A misspelt argument is refused.

        Returns:
            `BatchFeature` with `pixel_values` (batch, 3, size, size) float32.

        Raises:
            InputRefusedError: if an X-ray cannot be used.
            TypeError: on an unknown argument.
        """
        if kwargs:
            raise TypeError(f"MoreImageProcessor takes no {sorted(kwargs)}. Set sizes when you build it.")
        items = list(images) if isinstance(images, list | tuple) else [images]
        return BatchFeature(self.stack([self.prepare(item) for item in items]), tensor_type=return_tensors)

    def prepare(self, xray: Any) -> PreparedXray:
        """Prepare one X-ray for the model.

        Args:
            xray: path, Pillow image, array or `XrayPicture`, see `read_xray`.

        Returns:
            `PreparedXray` with values (3, size, size).

        Raises:
            InputRefusedError: if the X-ray cannot be used.
            ImportError: if Pillow or OpenCV is not installed.
        """
        picture = read_xray(xray, self.views, self.limits)
        grey = self.equalise(picture.pixels, picture.is_dicom)
        checks = [{"code": check["code"], "item": "xray", "text": check["text"]} for check in picture.checks]
        return PreparedXray(self.normalise(grey), picture.view, picture.notes, checks)

    def normalise(self, grey: np.ndarray) -> np.ndarray:
        """Bring a picture (size, size) uint8, as `equalise` gives it, to (3, size, size) float32."""
        values = (grey.astype(np.float32) / 255 - np.float32(self.image_mean)) / np.float32(self.image_std)
        return np.repeat(values[None], 3, axis=0)

    def equalise(self, pixels: np.ndarray, is_dicom: bool) -> np.ndarray:
        """Resize a picture and equalise its contrast.

        Args:
            pixels: (height, width) uint8.
            is_dicom: whether the picture was made from a DICOM file.

        Returns:
            (size, size) uint8.
        """
        require_package(cv2, "opencv-python-headless", "preparing X-rays")
        require_package(Image, "pillow", "preparing X-rays")
        if is_dicom and self.equalize_dicom:
            pixels = cv2.equalizeHist(pixels)
        # Pillow's bicubic filter averages over the pixels that it leaves out, as in the published code
        resized = Image.fromarray(pixels).resize((self.size, self.size), Image.Resampling.BICUBIC)
        grey = stretch(np.asarray(resized))
        if self.clip_limit is None:
            return grey
        # OpenCV's limit is relative to an even histogram, scikit-image's to the pixels of a tile
        clahe = cv2.createCLAHE(clipLimit=self.clip_limit * LEVELS, tileGridSize=(TILES, TILES))
        return stretch(clahe.apply(grey))

    def stack(self, prepared: Sequence[PreparedXray]) -> dict[str, np.ndarray]:
        """Stack prepared X-rays: "pixel_values" (batch, 3, size, size) float32."""
        return {"pixel_values": np.stack([entry.values for entry in prepared])}


def stretch(pixels: np.ndarray) -> np.ndarray:
    """Stretch grey values (height, width) uint8 linearly to 0-255."""
    lowest, highest = int(pixels.min()), int(pixels.max())
    if lowest == highest:
        return pixels
    return np.rint((pixels.astype(np.float32) - lowest) * (255 / (highest - lowest))).astype(np.uint8)


__all__ = ["MoreImageProcessor", "PreparedXray"]
