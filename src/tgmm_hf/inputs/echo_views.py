"""Name the view of an echo clip from its first frame, with EchoPrime's view classifier or any other."""

import shutil
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from huggingface_hub import snapshot_download
from transformers import AutoModelForImageClassification
from transformers.image_processing_utils import BaseImageProcessor

from ..utils.names import VIEWS

SUBFOLDER = "view_classifier"
"""Directory of the view classifier in a saved TGMM model."""
FILES = ("config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json", "README.md", "*.py")
"""Patterns of the files of a saved classifier."""
BATCH_SIZE = 16
"""Number of first frames in one batch. A ConvNeXt-base needs about 1 GB for them."""


class EchoViewClassifier:
    """Classifier that gives each clip a probability per view, from the clip's first frame.

    Args:
        model: takes normalised frames (clips, 3, size, size) and returns logits or probabilities (clips, classes), or
            an output that has them as `.logits`.
        size: height and width of the frames.
        image_mean: per channel (B, G, R), on the 0-255 scale.
        image_std: per channel (B, G, R), on the 0-255 scale.
        labels: the view of each class. The labels are the processor's views in any order.
    """

    def __init__(
        self,
        model: Callable[[torch.Tensor], Any],
        size: int,
        image_mean: Sequence[float],
        image_std: Sequence[float],
        labels: Sequence[str] = VIEWS,
    ):
        self.model = model
        self.size = size
        self.image_mean = tuple(image_mean)
        self.image_std = tuple(image_std)
        self.labels = tuple(labels)

    @classmethod
    def from_pretrained(cls, source: str | Path, **hub: Any) -> "EchoViewClassifier":
        """Load a view classifier that `tgmm convert echoprime-views` wrote, or any image classifier.

        Args:
            source: directory or Hub repository with model and image processor. The labels of the model are the views.
            **hub: `subfolder`, `revision`, `token`, ... of `from_pretrained`.

        Returns:
            The classifier, with the weights loaded.

        Raises:
            ValueError: if the model's config declares no image size, or the image processor no mean or deviation.
        """
        model = AutoModelForImageClassification.from_pretrained(source, **hub).eval()
        size = getattr(model.config, "image_size", None)
        if not isinstance(size, int):
            raise ValueError(f"The view classifier in {source} has to declare image_size as one number, got {size!r}.")
        # Only the settings are read, because the processor itself would need Pillow.
        settings, _ = BaseImageProcessor.get_image_processor_dict(source, **hub)
        scale = settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 1.0
        if settings.get("do_normalize", True):
            if missing := [name for name in ("image_mean", "image_std") if name not in settings]:
                raise ValueError(f"The image processor of the view classifier in {source} lacks {', '.join(missing)}.")
            mean, std = ([value / scale for value in settings[name]] for name in ("image_mean", "image_std"))
        else:
            mean, std = [0.0] * 3, [1 / scale] * 3
        labels = [model.config.id2label[index] for index in range(len(model.config.id2label))]
        return cls(model, size, mean, std, labels)

    @torch.inference_mode()
    def probabilities(self, frames: np.ndarray, views: Sequence[str]) -> np.ndarray:
        """Compute the probability of each view, in batches.

        Args:
            frames: (clips, size, size, 3) uint8 BGR, masked, cropped and resized as `EchoImageProcessor` does.
            views: the processor's view names.

        Returns:
            (clips, views) float32, columns in the order of `views`.

        Raises:
            ValueError: if the labels are not the views, or the model returns another shape.
        """
        if sorted(views) != sorted(self.labels):
            raise ValueError(f"The view classifier knows {list(self.labels)}, the processor's views are {list(views)}.")
        batches = [self._batch(frames[start : start + BATCH_SIZE]) for start in range(0, len(frames), BATCH_SIZE)]
        return torch.cat(batches)[:, [self.labels.index(view) for view in views]].numpy()

    def _batch(self, frames: np.ndarray) -> torch.Tensor:
        """Run the model on one batch (clips, size, size, 3) uint8 BGR and return probabilities (clips, classes).

        Scores that are not negative and sum to 1 are probabilities. Any other scores are logits, so softmax follows.
        """
        values = (torch.from_numpy(frames).float() - torch.tensor(self.image_mean)) / torch.tensor(self.image_std)
        device = cast(torch.device, self.model.device) if isinstance(self.model, torch.nn.Module) else "cpu"
        answer = self.model(values.permute(0, 3, 1, 2).contiguous().to(device))
        scores = torch.as_tensor(answer if isinstance(answer, (torch.Tensor, np.ndarray)) else answer.logits)
        scores = scores.float().cpu()
        if scores.shape != (len(frames), len(self.labels)):
            raise ValueError(
                f"the view classifier gave shape {tuple(scores.shape)}, expected {(len(frames), len(self.labels))}"
            )
        is_distribution = bool((scores >= 0).all()) and torch.allclose(
            scores.sum(-1), torch.ones(len(scores)), atol=1e-3
        )
        return scores if is_distribution else scores.softmax(-1)


class StoredViewClassifier:
    """View classifier in a directory or Hub repository that is loaded at its first use.

    A processor that holds one is cheap to copy and to pickle, because it holds no weights.

    Args:
        source: directory or Hub repository with model and image processor.
        subfolder: subdirectory of the source; "" for the source itself.
        **hub: `revision`, `token`, ... of `from_pretrained`.
    """

    def __init__(self, source: str | Path, subfolder: str = "", **hub: Any):
        self.source = str(source)
        self.subfolder = subfolder
        self.hub = hub

    @property
    def size(self) -> int:
        """Height and width of the frames that the classifier takes."""
        return self.load().size

    def probabilities(self, frames: np.ndarray, views: Sequence[str]) -> np.ndarray:
        """Compute the probability (clips, views) of each view as `EchoViewClassifier.probabilities` does."""
        return self.load().probabilities(frames, views)

    def load(self) -> EchoViewClassifier:
        """Load the classifier; the last one used stays in memory."""
        return _load(self.source, self.subfolder, tuple(sorted(self.hub.items())))

    def describe(self) -> dict[str, Any]:
        """Describe the classifier for `run.json`.

        Returns:
            {"source": name of the directory or id of the repository, "hub": arguments of `from_pretrained`, "files":
            file name -> [bytes, time of change in ns], empty for a repository}.
        """
        folder = Path(self.source) / self.subfolder
        files = {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in _files(folder)}
        return {"source": Path(self.source).name if files else self.source, "hub": self.hub, "files": files}

    def files(self) -> list[Path]:
        """List the files of the classifier on this machine. Those of a repository are downloaded first."""
        return _files(self._folder())

    def _folder(self) -> Path:
        """Return the directory with the files of the classifier. Those of a repository are downloaded first."""
        folder = Path(self.source)
        if not folder.is_dir():
            patterns = [f"{self.subfolder}/{name}" if self.subfolder else name for name in FILES]
            folder = Path(snapshot_download(self.source, allow_patterns=patterns, **self.hub))
        return folder / self.subfolder

    def copy_to(self, directory: str | Path) -> None:
        """Copy the classifier, with its model card and licence, into a saved model's `view_classifier/`.

        Only files that match `FILES` are copied or replaced, because other files beside them belong to the user.

        Args:
            directory: the saved model.
        """
        target, folder = Path(directory) / SUBFOLDER, self._folder()
        if folder.resolve() == target.resolve():
            return
        target.mkdir(parents=True, exist_ok=True)
        for path in _files(target):  # an earlier classifier
            path.unlink()
        for path in _files(folder):
            shutil.copyfile(path, target / path.name)


def _files(folder: Path) -> list[Path]:
    """List the files in a directory that match `FILES`, sorted; subdirectories are not searched."""
    return sorted({path for pattern in FILES for path in folder.glob(pattern) if path.is_file()})


@lru_cache(maxsize=1)
def _load(source: str, subfolder: str, hub: tuple[tuple[str, Any], ...]) -> EchoViewClassifier:
    """Load a classifier. `hub` holds (name, value) pairs, because arguments of a cached function must be hashable."""
    return EchoViewClassifier.from_pretrained(source, subfolder=subfolder, **dict(hub))
