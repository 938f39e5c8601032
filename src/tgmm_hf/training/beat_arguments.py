"""The settings of a training of Beat: the YAML file with `family: beat`, as dataclasses."""

from dataclasses import dataclass, field
from typing import Any, Literal

from tgmm_hf.training.adamw_arguments import AdamWArguments
from tgmm_hf.training.file_run import FileRun


@dataclass(frozen=True)
class BeatDataArguments:
    """The data of a training of Beat.

    Attributes:
        file: instructions of `tgmm make-instructions` (.jsonl or .parquet) with the splits train and validation. Only
            the recordings are read. A recording of several rows counts once.
        seconds: length of the part of a recording that windows are cut from, its centre. A shorter recording is
            refused.
        cache: directory of the filtered recordings, which are read once and stored in half precision: 0.06 MB for each
            recording of 10 s. Several runs may share it, but only one may fill it. It holds patient data. Null stores
            them beside the checkpoints.
        workers: number of worker processes that process the files once and make batches. They are watched: a file that
            kills its process, or takes too long or too much memory, is refused. 0 does all in the training process.
    """

    file: str
    seconds: float = 10.0
    cache: str | None = None
    workers: int = 0

    def __post_init__(self) -> None:
        if self.seconds <= 0:
            raise ValueError(f"data.seconds must be above 0, got {self.seconds}.")


@dataclass(frozen=True)
class BeatModelArguments:
    """The model before training.

    Attributes:
        checkpoint: directory or Hub repository of a saved Beat model to train further. Null starts with new weights.
        overrides: settings of `BeatConfig`. Without any it is the paper's design.
    """

    checkpoint: str | None = None
    overrides: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.checkpoint and self.overrides:
            raise ValueError("model.checkpoint has a configuration: leave it out, or model.overrides.")

    @property
    def sources(self) -> list[str]:
        """Directories and Hub repositories that the model starts from."""
        return [] if self.checkpoint is None else [self.checkpoint]


@dataclass(frozen=True)
class BeatOptimisationArguments(AdamWArguments):
    """How Beat is trained: AdamW and a cosine schedule to zero. See also [`AdamWArguments`].

    Attributes:
        epochs: number of passes over the recordings of the training split. A pass takes one window of each recording,
            at a place that is drawn anew.
        batch_size: windows per process and step.
        learning_rate: highest learning rate. The prototype has 1e-4.
        max_grad_norm: maximum norm of the gradient, as in the prototype. 0 turns clipping off.
    """

    epochs: int = 50
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    keep: Literal["best", "last"] = "last"


@dataclass(frozen=True)
class BeatRunArguments(FileRun):
    """A training of Beat, as a YAML file with `family: beat` states it.

    Attributes:
        output: directory of the saved model. Checkpoints are written beside it, to `<output>-training`.
        data: see [`BeatDataArguments`].
        model: see [`BeatModelArguments`].
        optimisation: see [`BeatOptimisationArguments`].
        seed: seed of the initial weights, the order of the recordings and the places of the windows.
        resume: "auto" continues a stopped run when the same command is given again. "never" starts over.
    """

    output: str
    data: BeatDataArguments
    model: BeatModelArguments = field(default_factory=BeatModelArguments)
    optimisation: BeatOptimisationArguments = field(default_factory=BeatOptimisationArguments)
    seed: int = 0
    resume: Literal["auto", "never"] = "auto"

    family = "beat"
