"""The settings of a pre-training: the YAML file of `tgmm pretrain` as dataclasses."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from tgmm_hf.training.arguments import ModelArguments
from tgmm_hf.training.settings_files import check_above_zero, check_warmup, parse_dataclass, read_settings
from tgmm_hf.utils.names import MODALITIES


@dataclass(frozen=True)
class ObjectiveArguments:
    """How one encoder is pre-trained: AdamW, and a cosine schedule to zero with a warm-up.

    Attributes:
        epochs: number of passes over the patients that have the modality.
        batch_size: patients per step. For echo, a patient counts with up to `max_views` clips.
        learning_rate: highest learning rate.
        weight_decay: decoupled weight decay, not applied to biases and norms.
        adam_beta2: second beta of AdamW. ST-MEM and other masked autoencoders were published with 0.95.
        warmup_fraction: part of all steps with a rising learning rate.
        mask_ratio: part of the input that is hidden: of the values (labs, where each item of a history counts as a
            value) or of the patches (ecg, echo). Null takes the ratio of the encoder's configuration, and 0.3 for labs.
        max_views: echo only: maximum number of echo views per patient and epoch, sampled anew each epoch. Null uses
            all views.
        directory: a prepared data set for this encoder alone, in place of `data.directory`. For example, there may be
            many more lab texts than complete patients.
        precision: "float32", or "bfloat16" for mixed precision.
    """

    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    adam_beta2: float = 0.999
    warmup_fraction: float = 0.05
    mask_ratio: float | None = None
    max_views: int | None = None
    directory: str | None = None
    precision: Literal["float32", "bfloat16"] = "float32"


@dataclass(frozen=True)
class PretrainDataArguments:
    """The data of a pre-training.

    Attributes:
        directory: a prepared data set with the splits train and validation. It must not contain patients that the
            model is to be tested on.
        workers: number of worker processes that read batches.
    """

    directory: str
    workers: int = 0


@dataclass(frozen=True)
class PretrainArguments:
    """A pre-training, as a YAML file states it.

    Attributes:
        output: directory to write. Each trained encoder gets a subdirectory: `labs` (with its tokenizer), `ecg`,
            `echo`. Checkpoints are written beside each subdirectory.
        data: see [`PretrainDataArguments`].
        model: size, overrides, tokenizer and vocab_size of the model that the encoders are for.
        labs, ecg, echo: see [`ObjectiveArguments`]. An encoder that is not named is not trained.
        seed: seed of the initial weights, the order of patients, the ECG windows and the masks.
        resume: "auto" continues a stopped run. "never" starts over.
    """

    output: str
    data: PretrainDataArguments
    model: ModelArguments
    labs: ObjectiveArguments | None = None
    ecg: ObjectiveArguments | None = None
    echo: ObjectiveArguments | None = None
    seed: int = 0
    resume: Literal["auto", "never"] = "auto"

    def __post_init__(self) -> None:
        if not self.objectives:
            raise ValueError("Name at least one encoder to pre-train: labs, ecg or echo.")
        for name, objective in self.objectives.items():
            check_above_zero(name, objective, ("epochs", "batch_size", "learning_rate"))
            check_warmup(f"{name}.warmup_fraction", objective.warmup_fraction)
        contradicting = {"checkpoint", "encoders", "trainable_layers", "lora"} & {
            name for name, value in asdict(self.model).items() if value
        }
        if contradicting:
            raise ValueError(
                f"Pre-training starts from random weights and trains all of them: leave model.{sorted(contradicting)} "
                "out."
            )

    @property
    def objectives(self) -> dict[str, ObjectiveArguments]:
        """Modality -> the `ObjectiveArguments` of its encoder, for the encoders that the file names."""
        return {name: objective for name in MODALITIES if (objective := getattr(self, name)) is not None}

    @property
    def directories(self) -> dict[str, str]:
        """Modality -> directory of the prepared data set that trains its encoder: its own, or `data.directory`."""
        return {name: objective.directory or self.data.directory for name, objective in self.objectives.items()}


def read_pretrain_arguments(path: str | Path, overrides: Sequence[str] = ()) -> PretrainArguments:
    """Read the YAML file of a pre-training.

    Args:
        path: The YAML file.
        overrides: Settings that replace the settings of the file, each as "section.key=value" with the value in YAML
            notation, for example "ecg.epochs=3".

    Returns:
        The checked settings. A setting that neither the file nor `overrides` names has its default.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a setting is unknown, missing or wrong.
    """
    return parse_dataclass(PretrainArguments, read_settings(path, overrides))
