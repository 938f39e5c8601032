"""Prepare echo studies: `pixel_values_videos` (batch, 11, frames, 3, height, width) and `view_mask` (batch, 11).

study --echo_study--> a clip for each view slot
clip  --prepare_clip--> uint8 (frames, size, size, 3) BGR
      --normalise-----> float32 (frames, 3, size, size)

The steps are EchoPrime's (github.com/echonet/EchoPrime), so that its encoder sees what it was trained on. Everything
outside the ultrasound sector is masked (text, ECG strip). Frames become BGR by OpenCV's YUV coefficients. The centre
square is zoomed by 10 %, resized with cubic interpolation and normalised on the 0-255 scale.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from transformers import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils import logging

from ..utils.hub_code import HubCode
from ..utils.names import VIEWS
from .echo_pixels import luminance, masked_bgr, resize_cubic, sector_of
from .echo_reading import EchoClip, clip_from_array, read_echo_clip
from .echo_study import PreparedClip, StudyClips, StudySorter, ViewClassifier, is_study_batch
from .echo_view_names import checked_views
from .input_limits import LIMITS, InputLimits

logger = logging.get_logger(__name__)

ECHOPRIME_MEAN = (29.110628, 28.076836, 29.096405)
ECHOPRIME_STD = (47.989223, 46.456997, 47.20083)
"""Mean and standard deviation per channel (B, G, R), on the 0-255 scale, with which EchoPrime was trained."""


class CropBox(NamedTuple):
    """The square of a frame that the model sees, in pixels of the original frame.

    Attributes:
        top: first row.
        left: first column.
        side: number of rows and of columns.
    """

    top: int
    left: int
    side: int

    @classmethod
    def of_centre(cls, height: int, width: int, zoom: float) -> "CropBox":
        """Find the centre square of a frame (`height`, `width`) without a share `zoom` of it at every side."""
        side = min(height, width)
        border = int(side * zoom)
        return cls((height - side) // 2 + border, (width - side) // 2 + border, side - 2 * border)


class EchoImageProcessor(HubCode, BaseImageProcessor):
    r"""Image processor that prepares echocardiograms as the published EchoPrime weights saw them.

    Args:
        size (`int`, *optional*, defaults to 224): height and width of the output.
        num_frames (`int`, *optional*, defaults to 16): frames of a clip, from its start.
        frame_stride (`int`, *optional*, defaults to 2): step between frames. The frame rate does not matter.
        zoom (`float`, *optional*, defaults to 0.1): share of the centre square that is cut off at every side.
        image_mean (`list[float]`, *optional*): per channel (B, G, R), on the 0-255 scale.
        image_std (`list[float]`, *optional*): per channel (B, G, R), on the 0-255 scale.
        mask_sector (`bool`, *optional*, defaults to `True`): blacken everything outside the ultrasound sector. Turn it
            off only for frames that show nothing but the sector (already masked, already cropped).
        views (`list[str]`, *optional*): names of the view slots in the model's order.
        view_threshold (`float`, *optional*, defaults to 0): a clip is left out if the view classifier gives its
            likeliest view a lower probability. EchoPrime takes the likeliest view whatever its probability.

    If a clip gives fewer than `num_frames` frames at this stride, the rest of the output is padding. Padding is zero
    *after* normalisation, as in EchoPrime. In an unnormalised uint8 clip padding has the rounded mean colour, which is
    nearest to that zero. `normalise` makes a frame of this colour exactly zero, so the two ways give the same values.

    Attributes:
        limits (`InputLimits`): largest sizes that a file may have or declare. Not saved with the processor.
    """

    limits: InputLimits = LIMITS

    hub_auto_class = "AutoImageProcessor"
    model_input_names = ["pixel_values_videos", "view_mask"]  # noqa: RUF012 (transformers' convention)

    def __init__(  # noqa: PLR0913 - the keys of a saved preprocessor_config.json
        self,
        size: int = 224,
        num_frames: int = 16,
        frame_stride: int = 2,
        zoom: float = 0.1,
        image_mean: Sequence[float] = ECHOPRIME_MEAN,
        image_std: Sequence[float] = ECHOPRIME_STD,
        mask_sector: bool = True,
        views: Sequence[str] = VIEWS,
        view_threshold: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if not 0 <= zoom < 0.5:
            raise ValueError(f"zoom is {zoom}, expected 0 to below 0.5 (share cut off at every side)")
        if min(size, num_frames, frame_stride) < 1:
            raise ValueError(f"size {size}, num_frames {num_frames} and frame_stride {frame_stride} must be at least 1")
        self.size = size
        self.num_frames = num_frames
        self.frame_stride = frame_stride
        self.zoom = zoom
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)
        self.mask_sector = mask_sector
        self.views = list(views)
        self.view_threshold = view_threshold

    def __call__(
        self,
        echo: Any,
        *,
        views: Mapping[str, str] | None = None,
        view_classifier: ViewClassifier | None = None,
        allow_outside: bool = False,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """Prepare one study, or a list of studies with `None` where a patient has none.

        Args:
            echo: study directory | list of files | mapping view -> file or array (frames, height, width, 3) uint8 RGB,
                with `None` for an absent view | list of these and `None` (see `is_study_batch`).
            views: file name or end of a path -> view name, for directories and lists of files.
            view_classifier: names the view of the other files; see `prepare_study`.
            allow_outside: follow links that lead out of a study directory.
            return_tensors: "pt" for PyTorch, "np" or `None` for NumPy.

        Returns:
            `BatchFeature` with `pixel_values_videos` (batch, 11, num_frames, 3, size, size) float32 and `view_mask`
            (batch, 11) bool. Absent views and patients are zero and masked. Without any study no key is present.

        Raises:
            InputRefusedError: if a study has no usable clip, or a clip given under its view cannot be used. Other files
                that go unused do not raise: `prepare_study` returns them with the reasons.
        """
        studies = list(echo) if is_study_batch(echo) else [echo]
        prepared: list[StudyClips | None] = []
        for study in studies:
            clips = None
            if study is not None:
                clips = self.prepare_study(
                    study, views=views, view_classifier=view_classifier, allow_outside=allow_outside
                )
                if (error := clips.refusal(study)) is not None:
                    raise error
                if clips.refused:
                    logger.info(f"{len(clips.refused)} files of a study were not used: {clips.refused}")
            prepared.append(clips)
        return BatchFeature(self.stack(prepared), tensor_type=return_tensors)

    def prepare_study(
        self,
        study: Any,
        *,
        views: Mapping[str, str] | None = None,
        view_classifier: ViewClassifier | None = None,
        allow_outside: bool = False,
        check_views: bool = False,
    ) -> StudyClips:
        """Sort the clips of one study and return `StudyClips`. A bad file goes to its `refused` and does not raise.

        A file gets its view by name (`views`, or the key of a mapping), else from the classifier, which is asked in
        batches. Of several clips for one view the surest fills the slot (a view given by name is certain), then the
        longest, then the first by name. Only clips that fill a slot or need the classifier are decoded.

        Args:
            study: directory | list of files | mapping view -> clip.
            views: file name or end of a path -> view name.
            view_classifier: an [`EchoViewClassifier`], or a function that takes first frames (clips, 3, size, size) as
                normalised by this processor and returns logits or probabilities (clips, 11).
            allow_outside: follow links that lead out of the study directory. They are refused by default.
            check_views: note where an [`EchoViewClassifier`] is sure of another view than the given one.

        Raises:
            InputRefusedError: if the study directory does not exist or holds no echo file, or `views` is no mapping.
            TypeError: if `study` is not a directory, a list of files or a mapping.
        """
        return StudySorter(self, checked_views(views), view_classifier, allow_outside, check_views).sort(study)

    def prepare_clip(self, clip: Any) -> PreparedClip:
        """Choose frames, mask the sector, convert colours, crop, zoom and resize one clip.

        Args:
            clip: path | `EchoClip` | array (frames, height, width, 3) uint8 RGB with *all* frames of the clip.

        Returns:
            `PreparedClip` with uint8 (num_frames, size, size, 3) BGR and the number of real frames.

        Raises:
            InputRefusedError: if the clip is a still, not uint8, or of another shape.
            ImportError: if OpenCV is not installed.
        """
        return self.resize_clip(self.masked_squares(clip))

    def read_clip(self, clip: Any) -> EchoClip:
        """Read the chosen frames of a clip as they are stored, into an `EchoClip`.

        Args:
            clip: path | `EchoClip`, which is returned as it is | array as in `prepare_clip`.

        Raises:
            InputRefusedError: if the clip cannot be used. A file that shows nothing is refused, an array is not.
        """
        if isinstance(clip, (str, Path)):
            return read_echo_clip(clip, self.num_frames, self.frame_stride, self.limits)
        if hasattr(clip, "colour_space"):  # no isinstance: remote code may hold two copies of EchoClip
            return clip
        return clip_from_array(np.asanyarray(clip), self.num_frames, self.frame_stride)

    def masked_frames(self, clip: Any) -> np.ndarray:
        """Read the chosen frames of a path, `EchoClip` or array as BGR and blacken everything outside the sector.

        Returns:
            (at most num_frames, height, width, 3) uint8 at the file's own size.
        """
        clip = self.read_clip(clip)
        return np.stack(masked_bgr(clip.frames, clip.colour_space, sector_of_clip(clip) if self.mask_sector else None))

    def masked_squares(self, clip: Any) -> list[np.ndarray]:
        """Return what `crop_and_resize` cuts out of the masked frames, not resized: each (side, side, 3) uint8 BGR.

        The frames are cut before their colours are converted, because a third to a half of their pixels is enough.
        """
        clip = self.read_clip(clip)
        top, left, side = CropBox.of_centre(clip.frames.shape[1], clip.frames.shape[2], self.zoom)
        square = slice(top, top + side), slice(left, left + side)
        sector = sector_of_clip(clip) if self.mask_sector else None
        frames = clip.frames[(slice(None), *square)]
        return masked_bgr(frames, clip.colour_space, None if sector is None else sector[square])

    def crop_and_resize(self, frames: np.ndarray, size: int) -> np.ndarray:
        """Cut the centre square without its border and resize it: (frames, h, w, 3) -> (frames, size, size, 3)."""
        top, left, side = CropBox.of_centre(frames.shape[1], frames.shape[2], self.zoom)
        return resize_cubic(frames[:, top : top + side, left : left + side], size)

    def resize_clip(self, squares: Sequence[np.ndarray]) -> PreparedClip:
        """Bring what `masked_squares` returns to the model's size and pad the clip to `num_frames`."""
        padded = np.empty((self.num_frames, self.size, self.size, 3), dtype=np.uint8)
        padded[: len(squares)] = resize_cubic(squares, self.size)
        padded[len(squares) :] = self._padding_colour()
        return PreparedClip(padded, len(squares))

    def to_dict(self) -> dict[str, Any]:
        """Return the settings that are saved: all but the limits."""
        return {key: value for key, value in super().to_dict().items() if key != "limits"}

    def normalise(self, clips: np.ndarray) -> np.ndarray:
        """Scale uint8 BGR (..., height, width, 3) to float32 (..., 3, height, width); padding frames become zero."""
        clips = np.asarray(clips)
        if clips.dtype != np.uint8 or clips.ndim < 3 or clips.shape[-1] != 3:
            raise ValueError(f"clips are {clips.dtype} of shape {clips.shape}, expected uint8 (..., height, width, 3)")
        frames = clips.reshape(-1, *clips.shape[-3:])
        values = np.empty((len(frames), 3, *frames.shape[1:3]), dtype=np.float32)
        _normalise_into(values, frames, self.image_mean, self.image_std)
        colour = self._padding_colour()
        for frame, value in zip(frames, values, strict=True):
            if (frame[0, 0] == colour).all() and (frame == colour).all():
                value[:] = 0
        return values.reshape(*clips.shape[:-3], 3, *clips.shape[-3:-1])

    def stack(self, studies: Sequence[StudyClips | None]) -> dict[str, np.ndarray]:
        """Stack prepared studies into a batch.

        Args:
            studies: one entry per patient, `None` where the patient has no usable study.

        Returns:
            "pixel_values_videos" and "view_mask" as from `stack_clips`. Empty if no study has a clip.
        """
        clips = [
            (row, self.views.index(view), clip, study.frame_counts[view])
            for row, study in enumerate(studies)
            if study is not None
            for view, clip in study.clips.items()
        ]
        return self.stack_clips(len(studies), clips) if clips else {}

    def stack_clips(self, batch_size: int, clips: Sequence[tuple[int, int, np.ndarray, int]]) -> dict[str, np.ndarray]:
        """Normalise clips into a batch. Absent views, and frames after the real ones, are zero.

        Args:
            batch_size: number of patients.
            clips: (row in the batch, index of the view slot, uint8 (num_frames, size, size, 3) BGR, number of real
                frames) for each present clip.

        Returns:
            `pixel_values_videos` (batch, 11, num_frames, 3, size, size) float32 and `view_mask` (batch, 11) bool.
        """
        shape = (batch_size, len(self.views), self.num_frames, 3, self.size, self.size)
        pixel_values = np.zeros(shape, np.float32)
        view_mask = np.zeros(shape[:2], bool)
        for row, view, clip, frame_count in clips:
            # Writing into the batch is five times faster than copying what `normalise` returns.
            values = pixel_values[row, view, :frame_count]
            _normalise_into(values, clip[:frame_count], self.image_mean, self.image_std)
            view_mask[row, view] = True
        return {"pixel_values_videos": pixel_values, "view_mask": view_mask}

    def _padding_colour(self) -> np.ndarray:
        """Return the mean colour (B, G, R), rounded to uint8, shape (3,)."""
        return np.clip(np.rint(self.image_mean), 0, 255).astype(np.uint8)


def sector_of_clip(clip: EchoClip) -> np.ndarray:
    """Find the ultrasound sector (height, width) bool of a clip, by its frames and by those between them."""
    grey = luminance(clip.frames, clip.colour_space)
    lowest, highest = grey.min(axis=0), grey.max(axis=0)
    between = getattr(clip, "between", None)  # remote code may hold an older EchoClip
    if between is not None:
        lowest, highest = np.minimum(lowest, between[0]), np.maximum(highest, between[1])
    return sector_of(grey[0], lowest, highest)


def _normalise_into(
    values: np.ndarray, frames: np.ndarray, means: Sequence[float], deviations: Sequence[float]
) -> None:
    """Write the scaled `frames` (frames, height, width, 3) into `values` (frames, 3, height, width) float32."""
    for channel, (mean, deviation) in enumerate(zip(means, deviations, strict=True)):
        target = values[:, channel]
        np.subtract(frames[..., channel], np.float32(mean), out=target, dtype=np.float32)
        np.divide(target, np.float32(deviation), out=target)
