"""Which of the 11 views an echo clip shows, from its first frame (EchoPrime's view classifier, or any other)."""

import shutil
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import snapshot_download
from transformers import AutoModelForImageClassification
from transformers.image_processing_utils import BaseImageProcessor

from ..utils.names import VIEWS

SUBFOLDER = "view_classifier"
"""Where a saved TGMM repository keeps its view classifier."""
FILES = ("config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json", "README.md", "*.py")
"""What a saved classifier consists of."""
BATCH_SIZE = 16
"""First frames classified together: a ConvNeXt-base takes about 1 GB for them."""


class EchoViewClassifier:
    """First frames of clips -> a probability for each view.

    Args:
        model: takes normalised frames (n, 3, size, size), gives logits or probabilities (n, classes), or an output that
            has them as `.logits`.
        size: height and width of its frames.
        image_mean, image_std: per channel (B, G, R), on the 0-255 scale.
        labels: the view of each class; has to hold every view of the processor, in any order.
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
        """From a directory of `tgmm convert echoprime-views`, or of any image classifier with the views as labels.

        Args:
            source: directory or Hub repository with model and image processor.
            hub: `subfolder`, `revision`, `token`, ... as every `from_pretrained` takes them.

        Raises:
            ValueError: if the model's config declares no image size.
        """
        model = AutoModelForImageClassification.from_pretrained(source, **hub).eval()
        size = getattr(model.config, "image_size", None)
        if not isinstance(size, int):
            raise ValueError(f"The view classifier in {source} has to declare image_size as one number, got {size!r}.")
        # the settings alone: the processor itself would need Pillow
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
        """Probabilities (n, views) in the order of `views`, computed in batches.

        Args:
            frames: uint8 BGR (n, size, size, 3): masked, cropped and resized as `EchoImageProcessor` does.
            views: the processor's view names.

        Raises:
            ValueError: if the labels are not the views, or the model gives another shape.
        """
        if sorted(views) != sorted(self.labels):
            raise ValueError(f"The view classifier knows {list(self.labels)}, the processor's views are {list(views)}.")
        batches = [self._batch(frames[start : start + BATCH_SIZE]) for start in range(0, len(frames), BATCH_SIZE)]
        return torch.cat(batches)[:, [self.labels.index(view) for view in views]].numpy()

    def _batch(self, frames: np.ndarray) -> torch.Tensor:
        values = (torch.from_numpy(frames).float() - torch.tensor(self.image_mean)) / torch.tensor(self.image_std)
        device = self.model.device if isinstance(self.model, torch.nn.Module) else "cpu"
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
    """A view classifier in a directory or Hub repository, loaded when it is first asked.

    A processor that holds one stays light to copy and to pickle.

    Args:
        source: directory of `tgmm convert echoprime-views`, or directory or repository of any image classifier with
            the views as labels.
        subfolder: of the repository.
        hub: `revision`, `token`, ... as every `from_pretrained` takes them.
    """

    def __init__(self, source: str | Path, subfolder: str = "", **hub: Any):
        self.source = str(source)
        self.subfolder = subfolder
        self.hub = hub

    @property
    def size(self) -> int:
        """Height and width of the frames that it takes."""
        return self.load().size

    def probabilities(self, frames: np.ndarray, views: Sequence[str]) -> np.ndarray:
        """See [`EchoViewClassifier`]."""
        return self.load().probabilities(frames, views)

    def load(self) -> EchoViewClassifier:
        """The classifier itself; the one that was used last is kept in memory."""
        return _load(self.source, self.subfolder, tuple(sorted(self.hub.items())))

    def describe(self) -> dict[str, Any]:
        """Which classifier it is, for a record: where from, and of a directory its files' sizes and times."""
        folder = Path(self.source) / self.subfolder
        files = {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in _files(folder)}
        return {"source": Path(self.source).name if files else self.source, "hub": self.hub, "files": files}

    def copy_to(self, directory: str | Path) -> None:
        """Copy its files, the model card with the licence included, into a repository's `view_classifier/`.

        Only the files of a saved model: what else lies beside them may be anybody's.
        """
        target = Path(directory) / SUBFOLDER
        folder = Path(self.source)
        if not folder.is_dir():
            patterns = [f"{self.subfolder}/{name}" if self.subfolder else name for name in FILES]
            folder = Path(snapshot_download(self.source, allow_patterns=patterns, **self.hub))
        folder = folder / self.subfolder
        if folder.resolve() == target.resolve():
            return
        target.mkdir(parents=True, exist_ok=True)
        for path in _files(target):  # of an earlier classifier; other files there are somebody's own
            path.unlink()
        for path in _files(folder):
            shutil.copyfile(path, target / path.name)


def _files(folder: Path) -> list[Path]:
    """The files of a saved model in a directory."""
    return sorted({path for pattern in FILES for path in folder.glob(pattern) if path.is_file()})


@lru_cache(maxsize=1)
def _load(source: str, subfolder: str, hub: tuple[tuple[str, Any], ...]) -> EchoViewClassifier:
    return EchoViewClassifier.from_pretrained(source, subfolder=subfolder, **dict(hub))
