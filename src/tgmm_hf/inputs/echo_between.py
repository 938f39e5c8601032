"""Look at the frames between those that the model reads, because the sector mask gets better by them.

The model reads every second frame of a clip. A pixel at the rim of the sector may be dark in each of them, so the mask
looks at the frames between too. Only their brightness is decoded. Decision 202 has the reasons.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

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


def range_of_dataset(dataset: Any, indices: range, size: tuple[int, int]) -> np.ndarray | None:
    """Return the `brightness_range` of frames of a DICOM file. A frame that cannot be decoded is left out.

    Args:
        dataset: pydicom `Dataset` with pixels.
        indices: numbers of the frames.
        size: (height, width) of the frames that the model reads.
    """
    decode = brightness_decoder(dataset)

    def pictures() -> Iterator[np.ndarray]:
        for index in indices:
            try:
                picture = decode(index)
            except (OSError, ValueError, RuntimeError, AttributeError, NotImplementedError, EOFError):
                continue  # the model does not read this frame
            if picture.dtype == np.uint8 and picture.shape == size:
                yield picture

    return brightness_range(pictures())


__all__ = ["brightness_range", "indices_between", "range_of_array", "range_of_dataset"]
