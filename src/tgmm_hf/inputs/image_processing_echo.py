"""Echo studies -> `pixel_values_videos` (batch, 11, frames, 3, height, width) and `view_mask` (batch, 11).

EchoPrime's preprocessing (github.com/echonet/EchoPrime), so that its encoder sees what it was trained on: all but the
ultrasound sector is masked (text, ECG strip), frames become BGR by OpenCV's YUV coefficients, the centre square is
zoomed by 10 %, resized with cubic interpolation and normalised on the 0-255 scale.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils import logging

from ..utils.errors import InputRefusedError
from ..utils.hub_code import HubCode
from ..utils.names import VIEWS
from .echo_pixels import resize_cubic, rgb_to_ycbcr, sector_mask, ycbcr_to_bgr
from .echo_reading import EchoClip, count_echo_frames, list_echo_files, read_echo_clip
from .echo_views import EchoViewClassifier, StoredViewClassifier

logger = logging.get_logger(__name__)

ECHOPRIME_MEAN = (29.110628, 28.076836, 29.096405)
ECHOPRIME_STD = (47.989223, 46.456997, 47.20083)

ViewClassifier = EchoViewClassifier | StoredViewClassifier | Callable[[torch.Tensor], Any]
"""A classifier with its own preprocessing, or a function of normalised first frames; see `prepare_study`."""


class PreparedClip(NamedTuple):
    """A clip at the model's size: `frames` uint8 (num_frames, size, size, 3) BGR, the first `num_real` of them real."""

    frames: np.ndarray
    num_real: int


@dataclass
class StudyClips:
    """A study sorted into view slots.

    Attributes:
        clips (`dict[str, np.ndarray]`): view -> uint8 (num_frames, size, size, 3) BGR.
        frame_counts (`dict[str, int]`): view -> how many of these frames are real, the rest is padding.
        used (`dict[str, str]`): view -> file name.
        refused (`list[dict[str, str]]`): {"item": file or view, "reason": ...} for everything that was not used.
        assignments (`list[dict[str, Any]]`): {"item", "view", "confidence", "by": "name" or "classifier", "used"} for
            every clip that was given a view, surest first; a given name has confidence 1.
    """

    clips: dict[str, np.ndarray] = field(default_factory=dict)
    frame_counts: dict[str, int] = field(default_factory=dict)
    used: dict[str, str] = field(default_factory=dict)
    refused: list[dict[str, str]] = field(default_factory=list)
    assignments: list[dict[str, Any]] = field(default_factory=list)

    def refuse(self, item: str, reason: str) -> None:
        self.refused.append({"item": item, "reason": reason})

    def assign(self, candidate: "_Candidate", *, used: bool) -> None:
        entry = {"item": candidate.item, "view": candidate.view, "confidence": candidate.confidence}
        self.assignments.append({**entry, "by": candidate.by, "used": used})


@dataclass
class _Candidate:
    """A clip that could fill a view slot; `clip` is a path or an array, decoded only if it gets its turn."""

    view: str
    item: str
    clip: Any
    confidence: float
    total_frames: int
    by: str


class EchoImageProcessor(HubCode, BaseImageProcessor):
    r"""Prepares echocardiograms as the published EchoPrime weights saw them.

    Args:
        size (`int`, *optional*, defaults to 224): height and width of the output.
        num_frames (`int`, *optional*, defaults to 16): frames of a clip, from its start.
        frame_stride (`int`, *optional*, defaults to 2): step between frames; the frame rate is not looked at.
        zoom (`float`, *optional*, defaults to 0.1): share of the centre square cut off at every side.
        image_mean (`list[float]`, *optional*): per channel (B, G, R), on the 0-255 scale.
        image_std (`list[float]`, *optional*): per channel (B, G, R), on the 0-255 scale.
        mask_sector (`bool`, *optional*, defaults to `True`): blacken everything outside the ultrasound sector. Turn it
            off only for frames that hold nothing else (already masked, already cropped).
        views (`list[str]`, *optional*): names of the view slots in the model's order.
        view_threshold (`float`, *optional*, defaults to 0): a clip is left out if the view classifier gives its
            likeliest view a lower probability. EchoPrime takes the likeliest view whatever its probability.

    Clips with fewer than `num_frames * frame_stride` frames are padded with frames that are zero *after* normalisation,
    as in EchoPrime. In an unnormalised uint8 clip padding has the rounded mean colour, the colour nearest to that zero;
    `normalise` rounds a frame that is this colour throughout to exactly zero, so the two routes agree.
    """

    hub_auto_class = "AutoImageProcessor"
    model_input_names = ["pixel_values_videos", "view_mask"]  # noqa: RUF012 (transformers' convention)

    def __init__(
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
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """One study or a list of studies (`None` where a patient has none).

        Args:
            echo: study directory | list of files | mapping view -> file or array (frames, height, width, 3) uint8 RGB
                (or `None`: view absent) | list of these and `None` (see `is_study_batch`).
            views: file name or (end of the) path -> view name, for directories and lists of files.
            view_classifier: sorts files without a view name; see `prepare_study`.
            return_tensors: "pt", "np" or `None`.

        Returns:
            `BatchFeature` with `pixel_values_videos` (batch, 11, num_frames, 3, size, size) float32 and `view_mask`
            (batch, 11) bool; absent views and patients are zero and masked. Without any study both keys are absent.

        Raises:
            InputRefusedError: a study without a usable clip, or a clip given under its view that cannot be used. Files
                of a directory or list that go unused beside others do not raise (stills, second clips of a view and
                damaged files are common there): `prepare_study` returns them with the reasons.
        """
        studies = list(echo) if is_study_batch(echo) else [echo]
        if all(study is None for study in studies):
            return BatchFeature({})
        shape = (len(studies), len(self.views), self.num_frames, 3, self.size, self.size)
        pixel_values = np.zeros(shape, dtype=np.float32)
        view_mask = np.zeros(shape[:2], dtype=bool)
        for row, study in enumerate(studies):
            if study is None:
                continue
            prepared = self.prepare_study(study, views=views, view_classifier=view_classifier)
            self._raise_if_unusable(study, prepared)
            for view, clip in prepared.clips.items():
                slot = self.views.index(view)
                pixel_values[row, slot] = self.normalise(clip)
                view_mask[row, slot] = True
        data = {"pixel_values_videos": pixel_values, "view_mask": view_mask}
        return BatchFeature(data, tensor_type=return_tensors)

    def prepare_study(
        self,
        study: Any,
        *,
        views: Mapping[str, str] | None = None,
        view_classifier: ViewClassifier | None = None,
    ) -> StudyClips:
        """Sorts the clips of one study into view slots; never raises for a bad file, but says why it was refused.

        A file gets its view by name (`views`, or the key of a mapping), else from `view_classifier`: an
        [`EchoViewClassifier`], or anything that takes first frames (clips, 3, size, size) as normalised by this
        processor and gives logits or probabilities (clips, 11). It is asked in batches.
        Of several clips for one view the one with the highest confidence is taken (a given name counts as certain),
        among equals the longest, then the first by name. Only clips that fill a slot or need classifying are decoded.

        Raises:
            InputRefusedError: the study directory does not exist or holds no echo file.
            TypeError: `study` is none of directory, list of files, mapping.
        """
        result = StudyClips()
        candidates, unlabelled = self._candidates(study, views or {}, result)
        prepared: dict[str, PreparedClip] = {}
        candidates += self._classify(unlabelled, views or {}, view_classifier, prepared, result)
        # A name comes first by itself: a classifier's probability may round to one.
        candidates.sort(key=lambda c: (c.by != "name", -c.confidence, -c.total_frames, c.item))
        for view in self.views:
            for candidate in (candidate for candidate in candidates if candidate.view == view):
                self._fill_slot(candidate, prepared, result)
        result.assignments.sort(key=lambda entry: -entry["confidence"])
        return result

    def prepare_clip(self, clip: Any) -> PreparedClip:
        """Picks frames, masks the sector, converts colours, crops, zooms and resizes one clip.

        Args:
            clip: path | `EchoClip` | array (frames, height, width, 3) uint8 RGB with *all* frames of the clip.

        Returns:
            `PreparedClip`: uint8 (num_frames, size, size, 3) BGR and the number of real frames.

        Raises:
            InputRefusedError: a still, not uint8, or not of that shape.
        """
        return self._resize_clip(self._masked_frames(clip))

    def _masked_frames(self, clip: Any) -> np.ndarray:
        """Frames (at most num_frames, height, width, 3) uint8 BGR of the file's own size, masked."""
        if isinstance(clip, (str, Path)):
            clip = read_echo_clip(clip, self.num_frames, self.frame_stride)
        elif not hasattr(clip, "colour_space"):  # no isinstance: remote code may hold two copies of EchoClip
            clip = self._clip_from_array(np.asarray(clip))
        frames = ycbcr_to_bgr(_as_ycbcr(clip.frames, clip.colour_space))
        if self.mask_sector:
            frames *= sector_mask(frames)[..., None]
        return frames

    def _resize_clip(self, frames: np.ndarray) -> PreparedClip:
        padded = np.empty((self.num_frames, self.size, self.size, 3), dtype=np.uint8)
        padded[:] = self._padding_colour()
        padded[: len(frames)] = self._crop_and_resize(frames, self.size)
        return PreparedClip(padded, len(frames))

    def normalise(self, clips: np.ndarray) -> np.ndarray:
        """uint8 BGR clips (..., height, width, 3) -> float32 (..., 3, height, width); padding frames become zero."""
        clips = np.asarray(clips)
        if clips.dtype != np.uint8 or clips.ndim < 3 or clips.shape[-1] != 3:
            raise ValueError(f"clips are {clips.dtype} of shape {clips.shape}, expected uint8 (..., height, width, 3)")
        frames = clips.reshape(-1, *clips.shape[-3:])
        values = np.empty((len(frames), 3, *frames.shape[1:3]), dtype=np.float32)
        for channel, (mean, std) in enumerate(zip(self.image_mean, self.image_std, strict=True)):
            np.subtract(frames[..., channel], np.float32(mean), out=values[:, channel], dtype=np.float32)
            values[:, channel] /= np.float32(std)
        colour = self._padding_colour()
        for frame, value in zip(frames, values, strict=True):
            if (frame[0, 0] == colour).all() and (frame == colour).all():
                value[:] = 0
        return values.reshape(*clips.shape[:-3], 3, *clips.shape[-3:-1])

    def _padding_colour(self) -> np.ndarray:
        return np.clip(np.rint(self.image_mean), 0, 255).astype(np.uint8)

    def _clip_from_array(self, array: np.ndarray) -> EchoClip:
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] != 3:
            raise InputRefusedError(
                "array", f"{array.dtype} of shape {array.shape}, expected uint8 RGB (frames, height, width, 3)"
            )
        if len(array) < 2:
            raise InputRefusedError(
                "array", f"a single-frame still ({len(array)} frame; a clip has at least 2): skipped"
            )
        last = self.num_frames * self.frame_stride
        return EchoClip(array[: last : self.frame_stride], "RGB", len(array), "array")

    def _crop_and_resize(self, frames: np.ndarray, size: int) -> np.ndarray:
        height, width = frames.shape[1:3]
        side = min(height, width)
        border = int(side * self.zoom)
        top, left = (height - side) // 2 + border, (width - side) // 2 + border
        return resize_cubic(frames[:, top : top + side - 2 * border, left : left + side - 2 * border], size)

    def _candidates(
        self, study: Any, views: Mapping[str, str], result: StudyClips
    ) -> tuple[list[_Candidate], list[Path]]:
        """Clips with a view name (refusing what cannot be one), and the files without."""
        if isinstance(study, Mapping):
            named = [(view, clip) for view, clip in study.items() if clip is not None]
        elif isinstance(study, (list, tuple)):
            named = [(_view_of_file(Path(path), views), Path(path)) for path in study]
        elif isinstance(study, (str, Path)):
            named = [(_view_of_file(path, views), path) for path in list_echo_files(study)]
        else:
            raise TypeError(
                f"a study is a directory, a list of files or a mapping view -> clip, not {type(study).__name__}"
            )
        by_lower = {view.lower(): view for view in self.views}
        candidates, unlabelled = [], []
        for name, clip in named:
            item = str(clip) if isinstance(clip, (str, Path)) else str(name)
            try:
                total = _count_frames(clip)
                if name is None:
                    unlabelled.append(clip)
                elif str(name).lower() not in by_lower:
                    raise InputRefusedError(
                        item, f"{name!r} is no view of the model; views are {', '.join(self.views)}"
                    )
                else:
                    candidates.append(_Candidate(by_lower[str(name).lower()], item, clip, 1.0, total, "name"))
            except InputRefusedError as error:
                result.refuse(item, error.reason)
        return candidates, unlabelled

    def _classify(
        self,
        files: list[Path],
        views: Mapping[str, str],
        view_classifier: ViewClassifier | None,
        prepared: dict[str, PreparedClip],
        result: StudyClips,
    ) -> list[_Candidate]:
        """Views of unlabelled files by the classifier; keeps their decoded clips in `prepared`."""
        if view_classifier is None:
            reason = f"none of the {len(views)} view names given is for this file" if views else "no view name"
            for path in files:
                result.refuse(str(path), f"{reason} and no view classifier: give views (file name -> view)")
        if view_classifier is None or not files:
            return []
        classifier: Any = view_classifier
        if not hasattr(classifier, "probabilities"):  # no isinstance: remote code may hold two copies of the class
            classifier = EchoViewClassifier(classifier, self.size, self.image_mean, self.image_std, self.views)
        first_frames: dict[Path, np.ndarray] = {}
        for path in files:
            try:
                frames = self._masked_frames(path)
            except InputRefusedError as error:
                result.refuse(str(path), error.reason)
                continue
            prepared[str(path)] = self._resize_clip(frames)
            first_frames[path] = self._crop_and_resize(frames[:1], classifier.size)[0]
        if not first_frames:
            return []
        probabilities = classifier.probabilities(np.stack(list(first_frames.values())), self.views)
        named = [
            _Candidate(
                self.views[int(row.argmax())], str(path), path, float(row.max()), _count_frames(path), "classifier"
            )
            for path, row in zip(first_frames, probabilities, strict=True)
        ]
        return [candidate for candidate in named if self._is_sure(candidate, result)]

    def _is_sure(self, candidate: _Candidate, result: StudyClips) -> bool:
        if candidate.confidence >= self.view_threshold:
            return True
        result.assign(candidate, used=False)
        result.refuse(
            candidate.item,
            f"its likeliest view is {candidate.view} with probability {candidate.confidence:.2f}, below view_threshold "
            f"{self.view_threshold:.2f}",
        )
        return False

    def _fill_slot(self, candidate: _Candidate, prepared: dict[str, PreparedClip], result: StudyClips) -> None:
        view = candidate.view
        if view in result.clips:
            result.assign(candidate, used=False)
            result.refuse(
                candidate.item, f"view {view} is already filled by {result.used[view]} (surer, longer or first)"
            )
            return
        try:
            clip = prepared.get(candidate.item) or self.prepare_clip(candidate.clip)
        except InputRefusedError as error:
            result.assign(candidate, used=False)
            result.refuse(candidate.item, error.reason)
            return
        result.assign(candidate, used=True)
        result.clips[view] = clip.frames
        result.frame_counts[view] = clip.num_real
        result.used[view] = Path(candidate.item).name

    def _raise_if_unusable(self, study: Any, prepared: StudyClips) -> None:
        if not prepared.refused and prepared.clips:
            return
        reasons = "; ".join(f"{entry['item']}: {entry['reason']}" for entry in prepared.refused)
        name = str(study) if isinstance(study, (str, Path)) else "study"
        if not prepared.clips:
            raise InputRefusedError(name, f"no usable clip ({reasons or 'the study is empty'})")
        if isinstance(study, Mapping):
            raise InputRefusedError(name, reasons)
        logger.info(f"{name}: {len(prepared.refused)} files were not used ({reasons})")


def is_study_batch(echo: Any) -> bool:
    """Whether `echo` is a list of studies rather than one study.

    A list is a batch when any element is `None`, a mapping, a list or a directory; a list of nothing but files is *one*
    study (wrap it in another list for a batch of one).
    """
    if not isinstance(echo, (list, tuple)):
        return False
    return any(
        item is None
        or isinstance(item, (Mapping, list, tuple))
        or (isinstance(item, (str, Path)) and Path(item).is_dir())
        for item in echo
    )


def _as_ycbcr(frames: np.ndarray, colour_space: str) -> np.ndarray:
    """Frames as the YCbCr components a scanner stores.

    RGB is taken back to YCbCr, because EchoPrime read stored YCbCr with OpenCV's YUV coefficients (not DICOM's): a clip
    must look the same to its encoder whichever way the file stores it.
    """
    if colour_space == "YBR":
        return frames
    if colour_space == "MONOCHROME":
        return np.stack([frames[..., 0], *[np.full_like(frames[..., 0], 128)] * 2], axis=-1)
    return rgb_to_ycbcr(frames)


def _view_of_file(path: Path, views: Mapping[str, str]) -> str | None:
    """The entry of `views` whose key is the longest end of the path ("study/a.dcm" before "a.dcm")."""
    for start in range(len(path.parts)):
        name = views.get("/".join(path.parts[start:]))
        if name is not None:
            return name
    return views.get(str(path))


def _count_frames(clip: Any) -> int:
    if isinstance(clip, (str, Path)):
        return count_echo_frames(clip)
    return int(clip.total_frames) if hasattr(clip, "colour_space") else len(clip)
