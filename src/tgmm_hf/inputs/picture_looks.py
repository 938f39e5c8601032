"""Make a drawn ECG look like a scan or a photograph: turned, cut, in another colour, in uneven light, blurred, noisy.

A training that sees only clean drawings learns only clean drawings. Every look follows from one number, the seed.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from .ecg_picture import Colour, SheetColours

GRIDS: tuple[tuple[Colour, Colour], ...] = (
    ((250, 220, 220), (240, 170, 170)),  # red
    ((252, 228, 205), (240, 185, 130)),  # orange
    ((215, 238, 215), (160, 210, 160)),  # green
    ((218, 228, 248), (165, 190, 235)),  # blue
    ((232, 232, 232), (200, 200, 200)),  # grey
)
"""Colours of the small and the large lines."""
LARGEST_ROTATION = 5.0
"""Degrees."""
LARGEST_CROP = 0.03
"""Share of the width or height that is cut from a side."""
DARKEST = 0.4
"""Share of the light that is missing at the dark end of a photograph."""
LARGEST_BLUR = 1.2
"""Standard deviation of the blur in pixels of the drawing."""
LARGEST_NOISE = 12.0
"""Standard deviation of the noise in grey levels."""


@dataclass(frozen=True)
class PictureLook:
    """How a drawn ECG is photographed.

    Attributes:
        colours: of paper, grid and ink.
        rotation: degrees, counter-clockwise.
        crop: shares of height and width that are cut: top, bottom, left, right.
        shadow: share of the light that is missing at the dark end.
        direction: degrees, where the dark end lies.
        blur: standard deviation in pixels.
        noise: standard deviation in grey levels.
        seed: of the noise.
    """

    colours: SheetColours
    rotation: float = 0.0
    crop: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    shadow: float = 0.0
    direction: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    seed: int = 0


def draw_look(seed: int) -> PictureLook:
    """Choose a look at random. The same seed gives the same look."""
    generator = np.random.default_rng(seed)
    small, large = GRIDS[generator.integers(len(GRIDS))]
    warmth = int(generator.integers(0, 25))
    ink = int(generator.integers(0, 70))
    return PictureLook(
        colours=SheetColours(
            paper=(255, 255 - warmth // 3, 255 - warmth), small=small, large=large, ink=(ink, ink, ink)
        ),
        rotation=float(generator.uniform(-LARGEST_ROTATION, LARGEST_ROTATION)),
        crop=tuple(generator.uniform(0, LARGEST_CROP, 4).tolist()),
        shadow=float(generator.uniform(0, DARKEST)),
        direction=float(generator.uniform(0, 360)),
        blur=float(generator.uniform(0, LARGEST_BLUR)),
        noise=float(generator.uniform(0, LARGEST_NOISE)),
        seed=seed,
    )


def photograph(picture: NDArray[np.uint8], look: PictureLook) -> NDArray[np.uint8]:
    """Turn, cut, shade and blur a drawn picture, and add noise.

    Args:
        picture: (height, width, 3), drawn in the colours of the look.
        look: what is done.

    Returns:
        (height, width, 3) uint8, smaller by what was cut.
    """
    values = _turn(picture.astype(np.float32), look.rotation)
    top, bottom, left, right = look.crop
    height, width = values.shape[:2]
    values = values[round(top * height) : height - round(bottom * height)]
    values = values[:, round(left * width) : width - round(right * width)]
    values = values * _light(values.shape[0], values.shape[1], look)[..., None]
    if look.blur > 0:
        values = gaussian_filter(values, (look.blur, look.blur, 0))
    if look.noise > 0:
        values += look.noise * np.random.default_rng(look.seed).standard_normal(values.shape, dtype=np.float32)
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def _turn(picture: NDArray, degrees: float) -> NDArray:
    """Turn a picture (height, width, 3) around its centre. What lies outside of it is as its nearest edge."""
    if degrees == 0:
        return picture
    angle, (height, width) = np.deg2rad(degrees), picture.shape[:2]
    y, x = np.linspace(1 - height, height - 1, height)[:, None], np.linspace(1 - width, width - 1, width)
    # from where each pixel comes, -1 to 1 between the centres of the first and the last pixel
    source_y = (y * np.cos(angle) + x * np.sin(angle)) / (height - 1)
    source_x = (x * np.cos(angle) - y * np.sin(angle)) / (width - 1)
    grid = torch.from_numpy(np.stack([source_x, source_y], axis=-1)).float()
    channels = torch.from_numpy(picture).permute(2, 0, 1)
    turned = torch.nn.functional.grid_sample(
        channels[None], grid[None], mode="bilinear", padding_mode="border", align_corners=True
    )
    return turned[0].permute(1, 2, 0).numpy()


def _light(height: int, width: int, look: PictureLook) -> NDArray:
    """Return the light on every pixel (height, width), 1 at the bright end and `1 - look.shadow` at the dark end."""
    angle = np.deg2rad(look.direction)
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
    along = x * np.cos(angle) + y * np.sin(angle)
    along = (along - along.min()) / (along.max() - along.min())
    return (1 - look.shadow * along).astype(np.float32)


__all__ = ["PictureLook", "draw_look", "photograph"]
