"""Look at the frames between the frames that the model reads, because the sector mask gets better by them.

The model reads every second frame of a clip. A pixel at the rim of the sector may be dark in each of them, so the mask
looks at the frames between too. Only their brightness is decoded. Decision 202 has the reasons.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np

from .echo_checks import change_of
from .echo_decoders import brightness_decoder
from .echo_pixels import luminance


def indices_between(total: int, num_frames: int, stride: int) -> range:
    """List the frames halfway between the frames 0, stride, 2 x stride, ... that the model reads.

    Args:
        total: number of frames of the clip.
        num_frames: largest number of frames that the model reads.
        stride: step between two of them. With 1 no frame lies between.
    """
    return range(stride // 2, min(total, (num_frames - 1) * stride), stride) if stride > 1 else range(0)


def brightness_range(pictures: Iterable[np.ndarray]) -> np.ndarray | None:
    """Return the lowest and the highest brightness of each pixel over some pictures.

    Args:
        pictures: each (height, width) uint8.

    Returns:
        (2, height, width) uint8, or None without a picture.
    """
    extent = None
    for picture in pictures:
        if extent is None:
            extent = np.stack([picture, picture])
        np.minimum(extent[0], picture, out=extent[0])
        np.maximum(extent[1], picture, out=extent[1])
    return extent


def range_of_array(frames: np.ndarray, num_frames: int, stride: int) -> np.ndarray | None:
    """Return the `brightness_range` of the frames between; `frames` (all frames, height, width, 3) uint8 RGB."""
    return brightness_range(
        luminance(frames[index : index + 1], "RGB")[0] for index in indices_between(len(frames), num_frames, stride)
    )


class BrightnessOfDataset:
    """Brightness of single frames of a DICOM file. Each frame is decoded once.

    Args:
        dataset: pydicom `Dataset` with pixels.
        size: (height, width) of the frames that the model reads.
    """

    def __init__(self, dataset: Any, size: tuple[int, int]) -> None:
        self.decode, self.size = brightness_decoder(dataset), size
        self.pictures: dict[int, np.ndarray | None] = {}

    def picture(self, index: int) -> np.ndarray | None:
        """Return (height, width) uint8 of a frame. None if it cannot be decoded, because the model may not read it."""
        if index not in self.pictures:
            self.pictures[index] = self._decoded(index)
        return self.pictures[index]

    def range_of(self, indices: range) -> np.ndarray | None:
        """Return the `brightness_range` of frames. A frame that cannot be decoded is left out."""
        pictures = map(self.picture, indices)
        return brightness_range(picture for picture in pictures if picture is not None)

    def changes(self, number: int) -> list[float]:
        """Compute how much each of the first `number` frames differs from the one before, see `change_of`.

        A pair with a frame that cannot be decoded is left out.
        """
        pairs = pairwise(self.picture(index) for index in range(number))
        return [
            change_of(before[..., None], frame[..., None])
            for before, frame in pairs
            if before is not None and frame is not None
        ]

    def _decoded(self, index: int) -> np.ndarray | None:
        """Decode the brightness of a frame; None for one that is damaged or has another size."""
        try:
            picture = self.decode(index)
        except (OSError, ValueError, RuntimeError, AttributeError, NotImplementedError, EOFError):
            # What the decoders raise for a damaged frame. A frame that the model reads is refused where it is read;
            # without a frame between, the mask is only a little less exact (decision 202).
            return None
        return picture if picture.dtype == np.uint8 and picture.shape == self.size else None


__all__ = ["BrightnessOfDataset", "brightness_range", "indices_between", "range_of_array"]
