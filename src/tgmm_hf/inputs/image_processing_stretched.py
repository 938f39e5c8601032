"""Prepare echo studies as encoders read them that were trained on whole frames, stretched to a square.

study --echo_study--> a clip for each view slot
clip  --prepare_clip--> uint8 (frames, size, size, 3) BGR: stretched, then the central square is cut out
      --normalise-----> float32 (frames, 3, size, size), channels in the order of the encoder

EchoJEPA and PanEcho were trained on such frames (decisions 214 and 215). The sector is not masked, and a clip that is
too short repeats its last frame.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..utils.imagenet import IMAGENET_MEAN, IMAGENET_STD
from ..utils.names import VIEWS
from .echo_pixels import masked_bgr, resize_area
from .echo_reading import EchoClip
from .echo_study import PreparedClip
from .image_processing_echo import CropBox, EchoImageProcessor, sector_of_clip

CHANNEL_ORDERS = ("RGB", "BGR")
ECHOPRIME_ZOOM = 0.1
"""Share of the centre square that EchoPrime's view classifier does not see, at every side."""


class StretchedEchoImageProcessor(EchoImageProcessor):
    r"""Image processor that stretches whole frames to a square, for encoders that were trained on such frames.

    Args:
        size (`int`, *optional*, defaults to 224): height and width of the output.
        resize_size (`int`, *optional*, defaults to 256): height and width that a frame is stretched to, before the
            central square of `size` pixels is cut out.
        num_frames (`int`, *optional*, defaults to 16): frames of a clip, from its start.
        frame_stride (`int`, *optional*, defaults to 2): step between frames.
        channel_order (`str`, *optional*, defaults to `"RGB"`): order of the channels of the output, "RGB" or "BGR".
        image_mean (`list[float]`, *optional*): per channel (B, G, R), on the 0-255 scale; ImageNet's by default.
        image_std (`list[float]`, *optional*): per channel (B, G, R), on the 0-255 scale; ImageNet's by default.
        mask_sector (`bool`, *optional*, defaults to `False`): blacken everything outside the ultrasound sector.
        views (`list[str]`, *optional*): names of the view slots in the model's order.
        view_threshold (`float`, *optional*, defaults to 0): as in [`EchoImageProcessor`].
    """

    def __init__(  # noqa: PLR0913 - the keys of a saved preprocessor_config.json
        self,
        size: int = 224,
        resize_size: int = 256,
        num_frames: int = 16,
        frame_stride: int = 2,
        channel_order: str = "RGB",
        image_mean: Sequence[float] = IMAGENET_MEAN[::-1],
        image_std: Sequence[float] = IMAGENET_STD[::-1],
        mask_sector: bool = False,
        views: Sequence[str] = VIEWS,
        view_threshold: float = 0.0,
        **kwargs: Any,
    ):
        if resize_size < size:
            raise ValueError(f"resize_size is {resize_size}, smaller than size {size}: no square can be cut out")
        if channel_order not in CHANNEL_ORDERS:
            raise ValueError(f"channel_order is {channel_order!r}, expected one of {', '.join(CHANNEL_ORDERS)}")
        zoom = (resize_size - size) / (2 * resize_size)  # what is cut off at every side, for maps on the frames
        super().__init__(
            size, num_frames, frame_stride, zoom, image_mean, image_std, mask_sector, views, view_threshold, **kwargs
        )
        self.resize_size = resize_size
        self.channel_order = channel_order

    def to_dict(self) -> dict[str, Any]:
        """Return the settings that are saved. `zoom` is none of them, because it follows from the sizes."""
        return {key: value for key, value in super().to_dict().items() if key != "zoom"}

    def masked_frames(self, clip: Any) -> np.ndarray:
        """Read the chosen frames as BGR, stretched to a square, for pictures: (frames, resize_size, resize_size, 3).

        Everything outside the sector is black whatever `mask_sector` says, because burned-in text may name the patient.
        """
        clip = self.read_clip(clip)
        return resize_area(masked_bgr(clip.frames, clip.colour_space, sector_of_clip(clip)), self.resize_size)

    def masked_squares(self, clip: Any) -> list[np.ndarray]:
        """Return the whole frames: each (height, width, 3) uint8 BGR. They are masked if `mask_sector` is True."""
        clip = self.read_clip(clip)
        return masked_bgr(clip.frames, clip.colour_space, sector_of_clip(clip) if self.mask_sector else None)

    def classified_frame(self, clip: EchoClip, squares: Sequence[np.ndarray]) -> np.ndarray:
        """Return the first frame as EchoPrime's view classifier was trained on it: masked, centre square, zoomed."""
        top, left, side = CropBox.of_centre(clip.frames.shape[1], clip.frames.shape[2], ECHOPRIME_ZOOM)
        square = slice(top, top + side), slice(left, left + side)
        return masked_bgr(clip.frames[(slice(0, 1), *square)], clip.colour_space, sector_of_clip(clip)[square])[0]

    def crop_and_resize(self, frames: np.ndarray, size: int) -> np.ndarray:
        """Stretch frames and cut the central square out: (frames, h, w, 3) -> (frames, size, size, 3).

        `size` replaces the size of the processor, and the square that is stretched to grows in proportion.
        """
        stretched = resize_area(frames, round(self.resize_size * size / self.size))
        start = (stretched.shape[1] - size) // 2
        return stretched[:, start : start + size, start : start + size]

    def resize_clip(self, squares: Sequence[np.ndarray]) -> PreparedClip:
        """Bring whole frames to the model's size, and repeat the last frame until there are `num_frames`."""
        frames = self.crop_and_resize(np.stack(squares), self.size)
        repeated = np.repeat(frames[-1:], self.num_frames - len(frames), axis=0)
        return PreparedClip(np.concatenate([frames, repeated]), len(squares))

    def normalise(self, clips: np.ndarray) -> np.ndarray:
        """Scale uint8 BGR (..., height, width, 3) to float32 (..., 3, height, width) in the encoder's channel order."""
        clips = np.asarray(clips)
        if clips.dtype != np.uint8 or clips.ndim < 3 or clips.shape[-1] != 3:
            raise ValueError(f"clips are {clips.dtype} of shape {clips.shape}, expected uint8 (..., height, width, 3)")
        mean, deviation = (np.asarray(values, np.float32) for values in (self.image_mean, self.image_std))
        values = np.moveaxis((clips - mean) / deviation, -1, -3)
        return np.ascontiguousarray(values[..., ::-1, :, :] if self.channel_order == "RGB" else values)

    def stack_clips(self, batch_size: int, clips: Sequence[tuple[int, int, np.ndarray, int]]) -> dict[str, np.ndarray]:
        """Normalise clips into a batch, as [`EchoImageProcessor`] does. Repeated frames are frames as all others."""
        shape = (batch_size, len(self.views), self.num_frames, 3, self.size, self.size)
        pixel_values, view_mask = np.zeros(shape, np.float32), np.zeros(shape[:2], bool)
        for row, view, clip, _ in clips:
            pixel_values[row, view] = self.normalise(clip)
            view_mask[row, view] = True
        return {"pixel_values_videos": pixel_values, "view_mask": view_mask}


__all__ = ["StretchedEchoImageProcessor"]
