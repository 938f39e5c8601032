"""What the settings of every training from one file share: its directories, and the family in a dictionary."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from tgmm_hf.evaluation.unseen import training_directory


class FileRun:
    """Base of the settings of a training from one file: a dataclass with `output` and `data` (`file`, `cache`)."""

    family: ClassVar[str]
    output: str
    data: Any

    @property
    def training_directory(self) -> Path:
        """Directory of the checkpoints and of the state of a running or stopped training: `<output>-training`."""
        return training_directory(self.output)

    @property
    def inputs(self) -> list[str]:
        """Files and directories that the run reads and must not replace."""
        return [path for path in (self.data.file, self.data.cache) if path is not None]

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a nested dictionary with all defaults written out."""
        return {"family": self.family, **asdict(self)}  # type: ignore[call-overload] # subclasses are dataclasses
