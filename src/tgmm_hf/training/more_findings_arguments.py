"""The settings of a training of MoRE for findings: `family: more` with `objective: findings`, as dataclasses."""

from dataclasses import dataclass, field
from typing import Literal

from tgmm_hf.training.adamw_arguments import AdamWArguments
from tgmm_hf.training.file_run import FileRun
from tgmm_hf.training.more_augmentation import SMALLEST_AREA, check_smallest_area


@dataclass(frozen=True)
class FindingsDataArguments:
    """The data of a training of MoRE for findings.

    Attributes:
        file: table of X-rays, ECGs and labels (.csv or .parquet) with the splits train and validation, see
            docs/more.md.
        labels: findings to be trained. NAME stands for the column `label_NAME`: 1, 0, or empty or -1 for unknown.
        allow_outside: accept files outside the directory of the table. Set it for a table of your own only.
        augment: change X-rays and ECGs at random in training.
        smallest_area: smallest share of an X-ray that a random crop shows in training. 0.2 is published. A small crop
            hides how large the heart is. 1 crops nothing.
        cache: directory of the processed X-rays and ECGs. The training of the checkpoint may have filled it. It holds
            patient data. Null stores them beside the checkpoints.
        workers: number of worker processes that process the files once and make batches. They are watched: a file that
            kills its process, or takes too long or too much memory, is refused. 0 does all in the training process.
    """

    file: str
    labels: list[str]
    allow_outside: bool = False
    augment: bool = True
    smallest_area: float = SMALLEST_AREA
    cache: str | None = None
    workers: int = 0

    def __post_init__(self) -> None:
        if not self.labels or len(set(self.labels)) != len(self.labels):
            raise ValueError(f"data.labels must name one finding or more, each once, got {self.labels}.")
        check_smallest_area(self.smallest_area)


@dataclass(frozen=True)
class FindingsModelArguments:
    """The model before training.

    Attributes:
        checkpoint: directory or Hub repository of a saved MoRE model, with its processor. A new linear layer is added.
        trained_blocks: number of last blocks of both encoders whose query, key and value are trained, as published. The
            projections and the new layer are always trained. Null trains both encoders as a whole.
        drop_key: probability of DropKey in the first block.
        drop_key_schedule: "linear" lowers it to 0 in the last block, as published. "constant" keeps it.
        classifier_dropout: dropout in front of the new layer.
        modality_dropout: chance that a patient with X-ray and ECG shows only one of them in training.
    """

    checkpoint: str
    trained_blocks: int | None = 3
    drop_key: float = 0.2
    drop_key_schedule: Literal["linear", "constant"] = "linear"
    classifier_dropout: float = 0.1
    modality_dropout: float = 0.3

    def __post_init__(self) -> None:
        if self.trained_blocks is not None and self.trained_blocks < 0:
            raise ValueError(f"model.trained_blocks must be 0 or more, or null, got {self.trained_blocks}.")
        for name in ("drop_key", "classifier_dropout", "modality_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"model.{name} must be at least 0 and below 1, got {getattr(self, name)}.")

    @property
    def sources(self) -> list[str]:
        """Directories and Hub repositories that have seen the kinds of data of this training."""
        return [self.checkpoint]


@dataclass(frozen=True)
class FindingsOptimisationArguments(AdamWArguments):
    """How the model is trained: AdamW and a cosine schedule to zero. The defaults are the published numbers.

    See also [`AdamWArguments`].

    Attributes:
        epochs: maximum number of passes over the rows of the training split.
        keep: which weights are saved: "best" saves the epoch with the highest mean validation AUROC of the findings,
            "last" the last epoch.
        early_stopping_patience: stop after this many epochs without a better validation AUROC. Null never stops early.
    """

    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 3e-5
    weight_decay: float = 0.02
    early_stopping_patience: int | None = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.early_stopping_patience is not None:
            if self.early_stopping_patience < 1:
                raise ValueError(
                    f"optimisation.early_stopping_patience must be 1 or more, or null, got "
                    f"{self.early_stopping_patience}."
                )
            if self.keep == "last":
                raise ValueError(
                    "optimisation.keep is last, so a training does not stop early: set early_stopping_patience: null."
                )


@dataclass(frozen=True)
class MoreFindingsRunArguments(FileRun):
    """A training of MoRE for findings, as a YAML file with `family: more` and `objective: findings` states it.

    Attributes:
        output: directory of the saved model. Checkpoints are written beside it, to `<output>-training`.
        data: see [`FindingsDataArguments`].
        model: see [`FindingsModelArguments`].
        optimisation: see [`FindingsOptimisationArguments`].
        objective: "findings".
        seed: seed of the weights of the new layer, the order of the rows, and what is drawn in training.
        resume: "auto" continues a stopped run when the same command is given again. "never" starts over.
    """

    output: str
    data: FindingsDataArguments
    model: FindingsModelArguments
    optimisation: FindingsOptimisationArguments = field(default_factory=FindingsOptimisationArguments)
    objective: Literal["findings"] = "findings"
    seed: int = 0
    resume: Literal["auto", "never"] = "auto"

    family = "more"
