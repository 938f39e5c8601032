"""The settings of a training run: the YAML file of `tgmm train` as dataclasses."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from tgmm_hf.evaluation.unseen import training_directory
from tgmm_hf.training.settings_files import check_above_zero, check_warmup, parse_dataclass, read_settings
from tgmm_hf.utils.names import MODALITIES


@dataclass(frozen=True)
class CacheArguments:
    """Where and how frozen features are stored, see [`~tgmm_hf.training.frozen_features_cache`].

    Attributes:
        directory: directory of the cache. Several runs may share it. It holds data that was computed from patients:
            keep it where patient data may lie.
        dtype: number format of the stored features. "float32" gives the same losses as training without a cache on
            the same ECG windows. The two other formats need half the disk space.
        variants: number of versions that are stored of each training patient. Every epoch draws one of them. The first
            has the centre ECG window and the whole lab text. Each of the rest has a random window, and a lab text
            without the cells that `cell_dropout` hides. With 1, a patient looks the same in every epoch.
    """

    directory: str
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    variants: int = 1


@dataclass(frozen=True)
class DataArguments:
    """The data of a training run.

    Attributes:
        directory: a prepared data set, the `--out` of `tgmm prepare`.
        workers: number of worker processes that read and preprocess batches. 0 reads in the training process.
        max_views: maximum number of echo views per patient and step, sampled anew each step. Null uses all views.
        cell_dropout: probability of hiding each laboratory cell in a training step. With a cache, it applies to all
            variants but the first.
        part_dropout: largest share of the 300 ms pieces of an ECG, and of the regions of an echo clip, that a training
            step hides. The share is drawn anew each time. Maps by occlusion hide such parts too. Not with a cache.
        cache: compute the frozen features (`model.trainable_layers`) once per patient. Null computes them in every
            step.
    """

    directory: str
    workers: int = 0
    max_views: int | None = None
    cell_dropout: float = 0.0
    part_dropout: float = 0.0
    cache: CacheArguments | None = None


@dataclass(frozen=True)
class LoraArguments:
    """Low-rank adapters on the attention of the encoders (`docs/peft.md`), merged into the weights after training.

    Attributes:
        rank: rank of each adapter.
        alpha: the output of the adapters is scaled by alpha / rank.
        dropout: dropout before each adapter.
    """

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.0


@dataclass(frozen=True)
class ModelArguments:
    """The model before training.

    Attributes:
        size: "tiny" (random weights, 64-pixel clips) or "paper" (full size). Ignored if there is a checkpoint.
        checkpoint: directory or Hub repository of a saved model to fine-tune. Its configuration and its processor are
            kept.
        encoders: "labs", "ecg", "echo" -> directory (of `tgmm pretrain` or `tgmm convert`) or Hub repository of a
            pretrained encoder. All other parts have random weights and the sizes of `size`.
        overrides: settings of `TgmmConfig` that replace the values of `size` or of the checkpoint.
        tokenizer: "cohort" trains a WordPiece vocabulary on the lab texts of the training split and on the texts of
            the tasks. "bert-cased" takes the packaged vocabulary of Bio_ClinicalBERT. Ignored if there is a checkpoint.
        vocab_size: maximum size of the vocabulary that "cohort" trains.
        trainable_layers: how many of the last layers of each encoder are trained (paper: 2). Null trains all layers.
        lora: train adapters on the encoders instead of their layers; `trainable_layers` is then null. Null trains no
            adapters. Without a checkpoint, `lora` and `trainable_layers` need all three `encoders`.
    """

    size: Literal["tiny", "paper"] = "tiny"
    checkpoint: str | None = None
    encoders: dict[str, str] = field(default_factory=dict)
    overrides: dict[str, Any] = field(default_factory=dict)
    tokenizer: Literal["cohort", "bert-cased"] = "cohort"
    vocab_size: int = 1024
    trainable_layers: int | None = None
    lora: LoraArguments | None = None

    def __post_init__(self) -> None:
        if unknown := [name for name in self.encoders if name not in MODALITIES]:
            raise ValueError(f"model.encoders names {', '.join(unknown)}: there are {', '.join(MODALITIES)}.")
        if self.encoders and self.checkpoint is not None:
            raise ValueError("model.checkpoint has encoders of its own: leave it out, or model.encoders.")
        if twice := [f"{name}_config" for name in self.encoders if f"{name}_config" in self.overrides]:
            raise ValueError(
                f"model.overrides.{twice[0]} would change a pretrained encoder of model.encoders: leave one of them "
                "out."
            )

    @property
    def sources(self) -> list[str]:
        """Directories and Hub repositories that the model starts from."""
        return [self.checkpoint] if self.checkpoint is not None else list(self.encoders.values())


@dataclass(frozen=True)
class OptimisationArguments:
    """How the model is trained. Adafactor, ReduceLROnPlateau and mixed precision are the paper's; the numbers are ours.

    Attributes:
        epochs: maximum number of epochs. Early stopping usually ends the training before.
        batch_size: patients per process and step. The Cox loss and the contrastive loss compare the patients of one
            step over all processes. They do not compare patients of accumulated steps.
        accumulation_steps: number of steps whose gradients are averaged before the weights are updated.
        optimizer: "adafactor" or "adamw".
        learning_rate: initial learning rate.
        weight_decay: decoupled weight decay, not applied to biases and norms.
        schedule: "plateau" (ReduceLROnPlateau on the selection metric) or "cosine" (to zero over `epochs`).
        warmup_fraction: part of all steps with a rising learning rate. Only for "cosine".
        plateau_factor: factor on the learning rate when the selection metric stops improving. Only for "plateau".
        plateau_patience: epochs without improvement before the learning rate is reduced. Only for "plateau".
        max_grad_norm: maximum norm of the gradient. 0 turns clipping off.
        precision: "float32", or "bfloat16" or "float16" (GPU only) for mixed precision.
        torch_compile: compile the model with `torch.compile`. Compiling takes minutes, see `docs/training.md`.
        gradient_checkpointing: recompute activations in the backward pass. It needs less memory and about a third more
            time.
        selection: validation metric that picks the best epoch, stops early and drives the plateau schedule: "score" or
            "loss", see [`~tgmm_hf.training.validation.validation_metrics`].
        keep: which weights are saved: "best" saves the best epoch by `selection`, "last" the last epoch. "last" is
            meant for the cosine schedule, which is complete after the last epoch. It excludes early stopping.
        early_stopping_patience: epochs without improvement before training stops. Null never stops early.
        logging_steps: optimizer steps between two logged lines.
        logging: also log to "tensorboard" (beside the checkpoints, extra `logging`) or to "trackio" (install it
            yourself).
    """

    epochs: int = 20
    batch_size: int = 16
    accumulation_steps: int = 1
    optimizer: Literal["adafactor", "adamw"] = "adafactor"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: Literal["plateau", "cosine"] = "plateau"
    warmup_fraction: float = 0.0
    plateau_factor: float = 0.5
    plateau_patience: int = 2
    max_grad_norm: float = 1.0
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    torch_compile: bool = False
    gradient_checkpointing: bool = False
    selection: Literal["score", "loss"] = "score"
    keep: Literal["best", "last"] = "best"
    early_stopping_patience: int | None = 5
    logging_steps: int = 10
    logging: Literal["none", "tensorboard", "trackio"] = "none"

    def check(self) -> None:
        """Raise a ValueError if a number is not positive, or if settings contradict each other."""
        check_above_zero("optimisation", self, ("epochs", "batch_size", "accumulation_steps", "learning_rate"))
        check_warmup("optimisation.warmup_fraction", self.warmup_fraction)
        if self.warmup_fraction and self.schedule == "plateau":
            raise ValueError(
                f"optimisation.warmup_fraction is {self.warmup_fraction}, but the plateau schedule has no warm-up: use "
                "schedule: cosine, or leave warmup_fraction out."
            )
        if self.keep == "last" and self.early_stopping_patience is not None:
            raise ValueError(
                "optimisation.keep is last, so stopping early would keep an epoch that is neither best nor last: set "
                f"early_stopping_patience: null (it is {self.early_stopping_patience}), or keep: best."
            )


@dataclass(frozen=True)
class RunArguments:
    """A training run, as a YAML file states it.

    Attributes:
        output: directory of the saved model. Checkpoints are written beside it, to `<output>-training`.
        data: see [`DataArguments`].
        tasks: name of a task to train -> settings that replace the settings of the task (weight, horizon_days,
            question, ...), or define a new task. Null changes nothing.
        model: see [`ModelArguments`].
        optimisation: see [`OptimisationArguments`].
        seed: seed of the initial weights, the order of patients, the ECG windows and dropout.
        resume: "auto" continues a stopped run when the same command is given again. "never" starts over.
    """

    output: str
    data: DataArguments
    tasks: dict[str, dict[str, Any] | None]
    model: ModelArguments = field(default_factory=ModelArguments)
    optimisation: OptimisationArguments = field(default_factory=OptimisationArguments)
    seed: int = 0
    resume: Literal["auto", "never"] = "auto"

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError("tasks is empty: name at least one task to train, for example `tasks: {hf_diagnosis: }`.")
        self.optimisation.check()
        if self.model.lora is not None and self.model.trainable_layers is not None:
            raise ValueError(
                "model.lora trains adapters instead of layers: set model.trainable_layers to null (it is "
                f"{self.model.trainable_layers}), or leave model.lora out."
            )
        if not 0 <= self.data.cell_dropout < 1:
            raise ValueError(
                f"data.cell_dropout must be a probability of at least 0 and below 1, got {self.data.cell_dropout}."
            )
        if not 0 <= self.data.part_dropout < 1:
            raise ValueError(f"data.part_dropout must be at least 0 and below 1, got {self.data.part_dropout}.")
        self._check_cache()

    def _check_cache(self) -> None:
        """Raise a ValueError if the settings of the cache contradict other settings."""
        if self.data.cache is None:
            return
        if self.model.trainable_layers is None:
            raise ValueError(
                "data.cache stores the activations of frozen layers, but model.trainable_layers is null, so all layers "
                "are trained. Set trainable_layers to a number, or leave data.cache out."
            )
        if self.data.part_dropout:
            raise ValueError(
                f"data.part_dropout is {self.data.part_dropout}, but data.cache stores what the frozen layers make of "
                "whole inputs: set part_dropout to 0, or leave data.cache out."
            )
        if self.data.cache.variants < 1:
            raise ValueError(f"data.cache.variants must be at least 1, got {self.data.cache.variants}.")
        if self.data.cell_dropout and self.data.cache.variants == 1:
            raise ValueError(
                f"data.cell_dropout is {self.data.cell_dropout}, but data.cache.variants is 1, so the cache stores "
                "only the whole lab text: set data.cache.variants to 2 or more, or cell_dropout to 0."
            )

    @property
    def training_directory(self) -> Path:
        """Directory of the checkpoints and of the state of a running or stopped training: `<output>-training`."""
        return training_directory(self.output)

    @property
    def inputs(self) -> list[str]:
        """Directories that the run reads and must not replace: the prepared data, and the cache if there is one."""
        return [self.data.directory, *([self.data.cache.directory] if self.data.cache else [])]

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a nested dictionary with all defaults written out."""
        return asdict(self)


def read_arguments(path: str | Path, overrides: Sequence[str] = ()) -> RunArguments:
    """Read the YAML file of a training run.

    Args:
        path: The YAML file.
        overrides: "section.key=value" settings that replace those of the file, with values in YAML notation.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not valid YAML, or a setting is unknown, missing or wrong.
    """
    return parse_arguments(read_settings(path, overrides))


def parse_arguments(settings: dict[str, Any]) -> RunArguments:
    """Build the settings of a training run from a nested dictionary.

    Raises:
        ValueError: If a setting is unknown, missing or wrong.
    """
    return parse_dataclass(RunArguments, settings)
