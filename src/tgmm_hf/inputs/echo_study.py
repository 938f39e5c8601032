"""Sort the clips of one echo study into view slots."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from ..utils.errors import InputRefusedError
from .echo_checks import refuse_without_content
from .echo_copies import copied_views
from .echo_pixels import resize_cubic
from .echo_reading import count_echo_frames, study_files
from .echo_stated_view import view_doubts
from .echo_view_names import views_of_files
from .echo_views import EchoViewClassifier, StoredViewClassifier
from .input_limits import InputLimits, refusing
from .patient_identity import Identity, identity_of, study_conflict, study_doubts
from .private_text import quoted

ViewClassifier = EchoViewClassifier | StoredViewClassifier | Callable[[torch.Tensor], Any]
"""A classifier with its own preprocessing, or a function of normalised first frames (clips, 3, size, size)."""

SURE = 0.9
"""Probability from which the classifier contradicts a view that was given by name."""
MAX_REASONS = 5
"""Largest number of refused clips that the error about a study lists."""


class PreparedClip(NamedTuple):
    """A clip at the model's size.

    Attributes:
        frames: (num_frames, size, size, 3) uint8 BGR.
        num_real: how many of the frames are real; the rest is padding.
    """

    frames: np.ndarray
    num_real: int


class ClipPreparer(Protocol):
    """What the sorting needs of an [`EchoImageProcessor`], which describes the settings and methods."""

    views: list[str]
    view_threshold: float
    size: int
    image_mean: list[float]
    image_std: list[float]
    limits: InputLimits

    def read_clip(self, clip: Any) -> Any:
        """Read the frames that the model reads of a path, `EchoClip` or array, as an `EchoClip`."""

    def masked_squares(self, clip: Any) -> list[np.ndarray]:
        """Read the frames of a clip, masked and cut to the centre square: each (side, side, 3) uint8 BGR."""

    def resize_clip(self, squares: list[np.ndarray]) -> PreparedClip:
        """Bring the squares of a clip to the model's size and number of frames."""


@dataclass
class Candidate:
    """A clip that could fill a view slot.

    Attributes:
        view: the slot.
        item: file or view name for messages.
        clip: path or array, decoded only if it gets its turn.
        confidence: probability of the view; 1 for a view given by name.
        total_frames: number of frames in the file.
        by: who named the view: "name" (the user) or "classifier".
    """

    view: str
    item: str
    clip: Any
    confidence: float
    total_frames: int
    by: str


@dataclass
class StudyClips:
    """A study sorted into view slots.

    Attributes:
        clips (`dict[str, np.ndarray]`): view -> uint8 (num_frames, size, size, 3) BGR, in the order of the slots.
        frame_counts (`dict[str, int]`): view -> how many of these frames are real; the rest is padding.
        used (`dict[str, str]`): view -> file name.
        items (`dict[str, str]`): view -> file or view name of the clip that fills the slot.
        refused (`list[dict[str, str]]`): {"item": file or view, "reason": ...} for everything that was not used.
        assignments (`list[dict[str, Any]]`): {"item", "view", "confidence", "by": "name" or "classifier", "used"} for
            every clip that has a view, surest first. A view given by name has confidence 1.
        checks (`list[dict[str, str]]`): {"code", "item", "text"} for what was assumed about a used clip, and for what
            makes it doubtful.
        identity (`Identity`): whom the headers of the files name; None without a header.
        positions (`dict[str, str]`): "item" of a file -> its name in outputs: "echo[3]" is the third file of the list,
            or of the directory in sorted order. A clip that was given under its view has the view's name.
    """

    clips: dict[str, np.ndarray] = field(default_factory=dict)
    frame_counts: dict[str, int] = field(default_factory=dict)
    used: dict[str, str] = field(default_factory=dict)
    items: dict[str, str] = field(default_factory=dict)
    refused: list[dict[str, str]] = field(default_factory=list)
    assignments: list[dict[str, Any]] = field(default_factory=list)
    checks: list[dict[str, str]] = field(default_factory=list)
    positions: dict[str, str] = field(default_factory=dict)
    identity: Identity | None = None

    def by_position(self, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Replace the file names of entries by their positions, because a file name may name the patient.

        Args:
            entries: `refused`, `assignments` or `checks`.
        """
        return [{**entry, "item": self.positions.get(entry["item"], entry["item"])} for entry in entries]

    def refuse(self, item: str, reason: str) -> None:
        """Add a file or view that is not used to `refused`, with the reason."""
        self.refused.append({"item": item, "reason": reason})

    def assign(self, candidate: Candidate, *, used: bool) -> None:
        """Add a clip with its view to `assignments`; `used` is True if the clip fills the slot."""
        entry = {"item": candidate.item, "view": candidate.view, "confidence": candidate.confidence}
        self.assignments.append({**entry, "by": candidate.by, "used": used})

    def refusal(self, study: Any, *, list_reasons: bool = True) -> InputRefusedError | None:
        """Say why the study cannot be used as it was given; None if it can.

        A study is refused if it has no usable clip. A mapping is also refused if one of its clips cannot be used,
        because the user gave that clip under its view. Other files that go unused are no error: stills, second clips of
        a view and damaged files are common in a directory.

        Args:
            study: what `prepare_study` was given.
            list_reasons: write the first `MAX_REASONS` reasons into the error, for a caller that does not show
                `refused`.

        Returns:
            The refusal for the caller to raise, or None.
        """
        if self.clips:
            is_refused = isinstance(study, Mapping) and self.refused
            return InputRefusedError(self.refused[0]["item"], self.refused[0]["reason"]) if is_refused else None
        detail = f"{len(self.refused)} refused" if self.refused else "it holds none"
        if self.refused and list_reasons:
            detail += ": " + "; ".join(f"{entry['item']}: {entry['reason']}" for entry in self.refused[:MAX_REASONS])
        item = str(study) if isinstance(study, (str, Path)) else "echo study"
        return InputRefusedError(item, f"no clip of the study can be used ({detail})")


class StudySorter:
    """Sorting of one study's clips into the view slots of an image processor.

    Args:
        preparer: the image processor.
        view_names: file name or end of a path -> view name.
        view_classifier: names the view of the other files; None refuses them.
        allow_outside: follow links that lead out of a study directory.
        check_views: let the classifier look at named clips too.
    """

    def __init__(
        self,
        preparer: ClipPreparer,
        view_names: Mapping[str, str],
        view_classifier: ViewClassifier | None,
        allow_outside: bool = False,
        check_views: bool = False,
    ):
        self.preparer = preparer
        self.view_names = view_names
        self.view_classifier = view_classifier
        self.allow_outside = allow_outside
        self.check_views = check_views
        self.result = StudyClips()
        self._prepared: dict[str, tuple[PreparedClip, list[dict[str, str]]]] = {}
        """item -> clip that was decoded for the classifier, and its notes."""
        self._stated: dict[str, frozenset[str]] = {}  # item -> views that the header of the clip allows
        self._first: dict[str, np.ndarray] = {}
        """view -> square of the first frame (side, side, 3) of the clip with a given name that fills the slot."""

    def sort(self, study: Any) -> StudyClips:
        """Fill the slots with the clips of a study and return the `StudyClips`.

        Args:
            study: directory | list of files | mapping view -> clip.

        Raises:
            InputRefusedError: if the directory does not exist or holds no echo file, or if the headers name different
                patients or examinations. A bad clip is only noted.
            TypeError: if `study` is something else.
        """
        candidates, unlabelled = self._named_candidates(study)
        candidates += self._classified_candidates(unlabelled)
        # A view given by name comes first by itself, because a classifier's probability may round to one.
        candidates.sort(key=lambda c: (c.by != "name", -c.confidence, -c.total_frames, c.item))
        for view in self.preparer.views:
            for candidate in candidates:
                if candidate.view == view:
                    self._fill_slot(candidate)
        self._note_copies()
        if self.check_views:
            self._note_contradicted_views()
        self.result.assignments.sort(key=lambda entry: -entry["confidence"])
        return self.result

    def _named_candidates(self, study: Any) -> tuple[list[Candidate], list[Path]]:
        """Divide a study into clips whose view is given by name and files without a view name.

        Stills, unknown views and links that are not followed are refused: they go to `self.result.refused`.

        Returns:
            The candidates with a view name, and the paths without one.
        """
        views = {view.lower(): view for view in self.preparer.views}
        candidates, unlabelled = [], []
        clips, outside = clips_of_study(study, self.view_names, self.allow_outside)
        self._refuse_two_patients([clip for _, clip in clips])
        for number, path in enumerate(outside, start=1):
            self.result.positions[str(path)] = f"echo link[{number}]"
            self.result.refuse(
                str(path),
                "a link that leads out of the study directory is not followed: copy the file, or allow_outside",
            )
        for number, (name, clip) in enumerate(clips, start=1):
            item = _item_of(name, clip)
            self.result.positions.setdefault(item, str(name) if isinstance(study, Mapping) else f"echo[{number}]")
            try:
                if isinstance(clip, Exception):  # refused before it was read
                    raise clip
                total = count_frames(clip, self.preparer.limits)
                if name is None:
                    unlabelled.append(clip)
                elif str(name).lower() in views:
                    candidates.append(Candidate(views[str(name).lower()], item, clip, 1.0, total, "name"))
                else:
                    raise InputRefusedError(
                        item,
                        f"{quoted(str(name))} is no view of the model; views are {', '.join(self.preparer.views)}",
                    )
            except InputRefusedError as error:
                self.result.refuse(item, error.reason)
        return candidates, unlabelled

    def _refuse_two_patients(self, clips: list[Any]) -> None:
        """Refuse the study if the headers of its files name different patients or examinations."""
        identities = [named for clip in clips if (named := identity_of(clip, self.preparer.limits)) is not None]
        if (reason := study_conflict(identities)) is not None:
            raise InputRefusedError("echo study", reason)
        self.result.checks += study_doubts(identities)
        self.result.identity = next((identity for identity in identities if identity != Identity()), None)

    def _classified_candidates(self, files: list[Path]) -> list[Candidate]:
        """Ask the classifier for the views of `files` and return the candidates that it is sure of.

        The decoded clips are kept, so that no clip is decoded twice. Without a classifier all files are refused.
        """
        if self.view_classifier is None:
            number = len(self.view_names)
            reason = f"none of the {number} view names given is for this file" if number else "no view name"
            for path in files:
                self.result.refuse(
                    str(path), f"{reason} and no view classifier: name the views (--views, or views= in Python)"
                )
        if self.view_classifier is None or not files:
            return []
        views = self.preparer.views
        classifier = self._classifier()
        first_frames = self._first_frames(files, classifier.size)
        if not first_frames:
            return []
        probabilities = classifier.probabilities(np.stack(list(first_frames.values())), views)
        candidates = [
            Candidate(
                views[int(row.argmax())],
                str(path),
                path,
                float(row.max()),
                count_frames(path, self.preparer.limits),
                "classifier",
            )
            for path, row in zip(first_frames, probabilities, strict=True)
        ]
        return [candidate for candidate in candidates if self._is_sure(candidate)]

    def _classifier(self) -> Any:
        """Return the view classifier, a plain function as `EchoViewClassifier` with the processor's size and scale."""
        if hasattr(self.view_classifier, "probabilities"):  # no isinstance: remote code may hold two copies
            return self.view_classifier
        preparer: Any = self.preparer
        return EchoViewClassifier(
            self.view_classifier,  # type: ignore[arg-type]
            preparer.size,
            preparer.image_mean,
            preparer.image_std,
            preparer.views,
        )

    def _first_frames(self, files: list[Path], size: int) -> dict[Path, np.ndarray]:
        """Decode files and return path -> first frame (size, size, 3) uint8 BGR; refuse files that cannot be read."""
        first_frames: dict[Path, np.ndarray] = {}
        for path in files:
            try:
                squares, notes, first = self._decode(path, str(path))
            except InputRefusedError as error:
                self.result.refuse(str(path), error.reason)
                continue
            self._prepared[str(path)] = self.preparer.resize_clip(squares), notes
            first_frames[path] = resize_cubic([first], size)[0]
        return first_frames

    def _decode(self, clip: Any, item: str) -> tuple[list[np.ndarray], list[dict[str, str]], np.ndarray]:
        """Read a clip and refuse one that shows nothing.

        Returns:
            The masked squares, each (side, side, 3) uint8 BGR; the notes of the reader as {"code", "text"}; and the
            frame that a view classifier looks at.
        """
        with refusing(item):  # OpenCV's errors, and whatever nobody foresaw
            read = self.preparer.read_clip(clip)
            if not isinstance(clip, (str, Path)):  # the reader has looked at a file's content
                refuse_without_content(read.frames, read.colour_space, item)
            self._stated[item] = getattr(read, "stated_views", frozenset())  # remote code may hold an older EchoClip
            squares = self.preparer.masked_squares(read)
            # A processor of whole frames shows the classifier another frame than the encoder.
            frame_of: Any = getattr(self.preparer, "classified_frame", None)
            return squares, list(read.notes), squares[0] if frame_of is None else frame_of(read, squares)

    def _note_copies(self) -> None:
        """Add a finding to `checks` for views of one recording: one file under two names, a copy, or a cut of it."""
        for view, other, is_equal in copied_views(self.result.clips, self.result.frame_counts):
            kind = "the recording (perhaps of another moment, mirrored or cropped) of"
            what = "the same pixels as" if is_equal else kind
            text = f"{view} shows {what} {other}: one of both views is wrong"
            self.result.checks.append({"code": "same_clip", "item": self.result.items[view], "text": text})

    def _note_contradicted_views(self) -> None:
        """Add a finding to `checks` if the model's own classifier is sure (`SURE`) that a view given by name is wrong.

        The classifier sees the first frame of every used clip that has its view by name.

        A plain function is not asked, because its caller wants views for files without a name.
        """
        classifier: Any = self.view_classifier
        shown = [view for view in self.result.clips if view in self._first]
        if not shown or not hasattr(classifier, "probabilities"):
            return
        try:
            frames = [resize_cubic([self._first[view]], classifier.size)[0] for view in shown]
            probabilities = classifier.probabilities(np.stack(frames), self.preparer.views)
        except (OSError, ValueError) as error:
            text = f"the view classifier cannot be used ({type(error).__name__}): views given by name were not compared"
            self.result.checks.append({"code": "view_not_checked", "item": "view classifier", "text": text})
            return
        for view, row in zip(shown, probabilities, strict=True):
            seen, confidence = self.preparer.views[int(row.argmax())], float(row.max())
            if seen != view and confidence >= SURE:
                text = f"given as {view}, but the view classifier sees {seen} with probability {confidence:.2f}"
                self.result.checks.append({"code": "view_contradicted", "item": self.result.items[view], "text": text})

    def _is_sure(self, candidate: Candidate) -> bool:
        """Return True unless the probability of the likeliest view is below the threshold; then refuse the clip."""
        threshold = self.preparer.view_threshold
        if candidate.confidence >= threshold:
            return True
        self.result.assign(candidate, used=False)
        self.result.refuse(
            candidate.item,
            f"its likeliest view is {candidate.view} with probability {candidate.confidence:.2f}, below view_threshold "
            f"{threshold:.2f}",
        )
        return False

    def _fill_slot(self, candidate: Candidate) -> None:
        """Put a clip into its slot. A clip is refused if the slot is filled or the clip cannot be decoded."""
        view = candidate.view
        if view in self.result.clips:
            self.result.assign(candidate, used=False)
            first = self.result.positions.get(self.result.items[view], "another clip")
            self.result.refuse(candidate.item, f"view {view} is already filled by {first} (surer, longer or first)")
            return
        try:
            if candidate.item in self._prepared:
                clip, notes = self._prepared[candidate.item]
            else:
                squares, notes, self._first[view] = self._decode(candidate.clip, candidate.item)
                clip = self.preparer.resize_clip(squares)
        except InputRefusedError as error:
            self.result.assign(candidate, used=False)
            self.result.refuse(candidate.item, error.reason)
            return
        self.result.assign(candidate, used=True)
        self.result.clips[view] = clip.frames
        self.result.frame_counts[view] = clip.num_real
        self.result.items[view] = candidate.item
        self.result.used[view] = Path(candidate.item).name
        notes = [*notes, *view_doubts(view, self._stated[candidate.item])]
        self.result.checks += [{"code": note["code"], "item": candidate.item, "text": note["text"]} for note in notes]


def _item_of(name: Any, clip: Any) -> str:
    """Name a clip inside a study: its path, the item of a refusal that stands in its place, or the view of an array."""
    if isinstance(clip, Exception):
        return str(getattr(clip, "item", "refused"))
    return str(clip) if isinstance(clip, (str, Path)) else str(name)


def clips_of_study(
    study: Any, view_names: Mapping[str, str], allow_outside: bool = False
) -> tuple[list[tuple[Any, Any]], list[Path]]:
    """List the clips of a study.

    Args:
        study: directory | list of files | mapping view -> clip, with None for an absent view.
        view_names: file name or end of a path -> view name, for directories and lists.
        allow_outside: follow links that lead out of a study directory.

    Returns:
        Two lists: (view name or None, path or array) of each clip; and the links of a directory that were not followed.

    Raises:
        InputRefusedError: if the directory does not exist or holds no echo file.
        TypeError: if `study` is something else.
    """
    if isinstance(study, Mapping):
        return [(view, clip) for view, clip in study.items() if clip is not None], []
    outside: list[Path] = []
    if isinstance(study, (list, tuple)):
        # an exception stands in place of a file that must not be read
        files: list[Any] = [path if isinstance(path, Exception) else Path(path) for path in study]
    elif isinstance(study, (str, Path)):
        files, outside = study_files(study, allow_outside)
    else:
        raise TypeError(
            f"a study is a directory, a list of files or a mapping view -> clip, not {type(study).__name__}"
        )
    names = views_of_files((file for file in files if isinstance(file, Path)), view_names)
    # a refusal stands in place of a file whose name does not decide
    named = [(None, file) if isinstance(file, Exception) else (names[file], file) for file in files]
    return [(None, name) if isinstance(name, Exception) else (name, file) for name, file in named], outside


def count_frames(clip: Any, limits: InputLimits) -> int:
    """Count all frames of a file, of the file behind an `EchoClip`, or of an array. A still is refused."""
    if isinstance(clip, (str, Path)):
        return count_echo_frames(clip, limits)
    if hasattr(clip, "colour_space"):
        return int(clip.total_frames)
    if not hasattr(clip, "__len__") or getattr(clip, "ndim", 1) == 0:  # an array without axes has no length
        raise InputRefusedError("clip", f"a {type(clip).__name__} is no clip: give a file or an array (F, H, W, 3)")
    return len(clip)


def is_study_batch(echo: Any) -> bool:
    """Tell whether `echo` is a list of studies, not one study.

    A list is a batch if any element is `None`, a mapping, a list or a directory. A list of nothing but files is *one*
    study. Wrap it in another list for a batch of one.
    """
    if not isinstance(echo, (list, tuple)):
        return False
    return any(
        item is None
        or isinstance(item, (Mapping, list, tuple))
        or (isinstance(item, (str, Path)) and _is_directory(Path(item)))
        for item in echo
    )


def _is_directory(path: Path) -> bool:
    """Tell whether a path is a directory; a path that the system cannot look up is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
