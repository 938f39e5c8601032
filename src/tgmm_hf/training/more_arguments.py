"""The settings of a training of MoRE: the YAML file with `family: more`, as dataclasses."""

from dataclasses import dataclass, field
from typing import Any, Literal

from tgmm_hf.training.adamw_arguments import AdamWArguments
from tgmm_hf.training.file_run import FileRun
from tgmm_hf.training.more_augmentation import SMALLEST_AREA, check_smallest_area


@dataclass(frozen=True)
class MoreDataArguments:
    """The data of a training of MoRE.

    Attributes:
        file: table of X-rays, ECGs and notes (.csv or .parquet) with the splits train and validation, see docs/more.md.
        allow_outside: accept files outside the directory of the table. Set it for a table of your own only.
        max_text_tokens: longest note in tokens. A longer one loses its end.
        augment: change X-rays and ECGs at random in training.
        smallest_area: smallest share of an X-ray that a random crop shows in training. 0.2 is published. A small crop
            hides how large the heart is. 1 crops nothing.
        cache: directory of the processed X-rays and ECGs, which are read once: 0.05 MB for each X-ray and 0.02 MB for
            each ECG. Several runs may share it, but only one may fill it. It holds patient data. Null stores them
            beside the checkpoints.
        workers: number of worker processes that process the files once and make batches. They are watched: a file that
            kills its process, or takes too long or too much memory, is refused. 0 does all in the training process.
    """

    file: str
    allow_outside: bool = False
    max_text_tokens: int = 512
    augment: bool = True
    smallest_area: float = SMALLEST_AREA
    cache: str | None = None
    workers: int = 0

    def __post_init__(self) -> None:
        if self.max_text_tokens < 3:
            raise ValueError(f"data.max_text_tokens must be at least 3, got {self.max_text_tokens}.")
        check_smallest_area(self.smallest_area)


@dataclass(frozen=True)
class MoreModelArguments:
    """The model before training.

    Attributes:
        checkpoint: directory or Hub repository of a saved MoRE model to train further, with its processor.
        text_encoder: directory or Hub repository of a pretrained text encoder.
        text_config: configuration of a new text encoder (`model_type` and sizes), which starts with random weights. Its
            vocabulary is learned from the notes of the training split. All of it is trained.
        vocab_size: largest vocabulary of a new text encoder.
        overrides: settings of `MoreConfig`. Without any it is the published model.
    """

    checkpoint: str | None = None
    text_encoder: str | None = None
    text_config: dict[str, Any] = field(default_factory=dict)
    vocab_size: int = 2000
    overrides: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        named = [bool(start) for start in (self.checkpoint, self.text_encoder, self.text_config)]
        if sum(named) != 1:
            raise ValueError("Name one of model.checkpoint, model.text_encoder and model.text_config.")
        if self.checkpoint and self.overrides:
            raise ValueError("model.checkpoint has a configuration: leave it out, or model.overrides.")

    @property
    def sources(self) -> list[str]:
        """Directories and Hub repositories that have seen the kinds of data of this training."""
        return [] if self.checkpoint is None else [self.checkpoint]


@dataclass(frozen=True)
class MoreOptimisationArguments(AdamWArguments):
    """How MoRE is trained: AdamW and a cosine schedule to zero. The defaults are the published numbers.

    See also [`AdamWArguments`].

    Attributes:
        epochs: number of passes over the rows of the training split.
        batch_size: patients per process and step. The negatives come from all processes of a step.
        accumulation_steps: number of steps whose gradients are averaged before the weights are updated. It adds no
            negatives.
    """

    epochs: int = 50
    batch_size: int = 100
    learning_rate: float = 3e-5
    weight_decay: float = 0.1
    accumulation_steps: int = 4


@dataclass(frozen=True)
class MoreRunArguments(FileRun):
    """A training of MoRE, as a YAML file with `family: more` states it.

    Attributes:
        output: directory of the saved model. Checkpoints are written beside it, to `<output>-training`.
        data: see [`MoreDataArguments`].
        model: see [`MoreModelArguments`].
        optimisation: see [`MoreOptimisationArguments`].
        seed: seed of the initial weights, the order of the rows, and what is drawn in training.
        resume: "auto" continues a stopped run when the same command is given again. "never" starts over.
    """

    output: str
    data: MoreDataArguments
    model: MoreModelArguments
    optimisation: MoreOptimisationArguments = field(default_factory=MoreOptimisationArguments)
    seed: int = 0
    resume: Literal["auto", "never"] = "auto"

    family = "more"
