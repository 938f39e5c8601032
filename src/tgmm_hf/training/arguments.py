"""What a training run is told: one YAML file, read into one dataclass, with unknown keys refused by name."""

import types
from collections.abc import Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from tgmm_hf.evaluation.unseen import training_directory
from tgmm_hf.utils.names import MODALITIES

T = TypeVar("T")


@dataclass(frozen=True)
class CacheArguments:
    """Where and how the frozen layers' activations are kept, see [`~tgmm_hf.training.frozen_features_cache`].

    Attributes:
        directory: of the cache; it may be shared by several runs. It holds what the encoders made of patients' records:
            keep it where the records may lie.
        dtype: "float32" gives the losses of training without a cache on the same ECG windows; the others take half the
            room.
        variants: of a training record, one drawn in each epoch: of its ECG the centre window and random others, of its
            lab text the whole one and others without the cells that `cell_dropout` hides. With 1, a record looks the
            same in every epoch.
    """

    directory: str
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    variants: int = 1


@dataclass(frozen=True)
class DataArguments:
    """What to train on.

    Attributes:
        directory: a prepared data set, the `--out` of `tgmm prepare`.
        workers: processes that read and preprocess batches beside training; 0 reads in the training process.
        max_views: at most so many echo views of a patient in a training step, drawn anew each time; all of them when
            null.
        cell_dropout: chance of hiding each laboratory cell in a training step; from a cache, in each of its variants
            but the first.
        cache: compute what lies below the trained layers (`model.trainable_layers`) once a record; null computes it in
            every step.
    """

    directory: str
    workers: int = 0
    max_views: int | None = None
    cell_dropout: float = 0.0
    cache: CacheArguments | None = None


@dataclass(frozen=True)
class LoraArguments:
    """Low-rank adapters on the encoders' attention (`docs/peft.md`), merged into the weights when training ends.

    Attributes:
        rank: of each adapter.
        alpha: the adapters' output is scaled by alpha / rank.
        dropout: before each adapter.
    """

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.0


@dataclass(frozen=True)
class ModelArguments:
    """Where the model starts.

    Attributes:
        size: "tiny" (random weights, 64-pixel clips) or "paper" (full size); not looked at with a checkpoint.
        checkpoint: directory or Hub repository of a saved model to fine-tune; its configuration and processor are kept.
        encoders: "labs", "ecg", "echo" -> directory (of `tgmm pretrain` or `tgmm convert`) or Hub repository of a
            pretrained encoder. All else, and an encoder that is not named, is as `size` says, with random weights.
        overrides: settings of `TgmmConfig` that replace those of `size` or of the checkpoint.
        tokenizer: "cohort" trains a WordPiece vocabulary on the training split's lab text and the tasks' texts;
            "bert-cased" takes the packaged vocabulary of Bio_ClinicalBERT. Not looked at with a checkpoint.
        vocab_size: upper bound of the vocabulary that "cohort" trains.
        trainable_layers: how many last layers of each encoder are trained (paper: 2); all of them when null.
        lora: train adapters on the encoders instead of their layers; null trains none. Needs the extra `peft`.
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
        if both := [f"{name}_config" for name in self.encoders if f"{name}_config" in self.overrides]:
            raise ValueError(
                f"model.overrides.{both[0]} would change a pretrained encoder of model.encoders: leave one of them out."
            )


@dataclass(frozen=True)
class OptimisationArguments:
    """How the model is trained. Adafactor, ReduceLROnPlateau and mixed precision are the paper's; the numbers are ours.

    Attributes:
        epochs: upper limit; early stopping usually comes first.
        batch_size: patients per process and step. The Cox and contrastive losses see the patients of one step over all
            processes, not those of accumulated steps.
        accumulation_steps: steps whose gradients are averaged before the weights move.
        optimizer: "adafactor" or "adamw".
        learning_rate: initial learning rate.
        weight_decay: decoupled weight decay, not applied to biases and norms.
        schedule: "plateau" (ReduceLROnPlateau on the selection metric) or "cosine" (to zero over `epochs`).
        warmup_fraction: part of all steps with a rising rate; "cosine" only.
        plateau_factor: what the rate is multiplied by on a plateau.
        plateau_patience: epochs without improvement before that.
        max_grad_norm: gradient clipping; 0 turns it off.
        precision: "float32", or "bfloat16" or "float16" (GPU only) for mixed precision.
        torch_compile: compile the model with `torch.compile`; minutes of compiling first, see `docs/training.md`.
        gradient_checkpointing: recompute activations in the backward pass: less memory, about a third more time.
        selection: validation metric that picks the best epoch, stops early and drives the plateau schedule: "score" or
            "loss", see [`~tgmm_hf.training.validation.validation_metrics`].
        keep: which epoch's weights are saved: the "best" by `selection`, or the "last", which excludes early stopping.
            The cosine schedule is made for the last one, and no small validation split decides then.
        early_stopping_patience: epochs without improvement before training stops; null never stops early.
        logging_steps: optimizer steps between two logged lines.
        logging: also log to "tensorboard" (beside the checkpoints; extra `logging`) or "trackio" (to be installed).
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


@dataclass(frozen=True)
class RunArguments:
    """A whole training run, as a YAML file states it.

    Attributes:
        output: directory of the saved model; checkpoints go beside it, to `<output>-training`.
        data: see [`DataArguments`].
        tasks: names of the tasks to train, each with settings that replace the task's own (weight, horizon_days,
            question, ...), or a whole new task.
        model: see [`ModelArguments`].
        optimisation: see [`OptimisationArguments`].
        seed: of initialisation, order, crops and dropout.
        resume: "auto" continues a run that was stopped, the same command again; "never" starts over.
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
        if self.optimisation.warmup_fraction and self.optimisation.schedule == "plateau":
            raise ValueError(
                f"optimisation.warmup_fraction is {self.optimisation.warmup_fraction}, but the plateau schedule has no "
                "warm-up: use schedule: cosine, or leave it out."
            )
        if self.model.lora is not None and self.model.trainable_layers is not None:
            raise ValueError(
                "model.lora trains adapters instead of layers: set model.trainable_layers to null (it is "
                f"{self.model.trainable_layers}), or leave model.lora out."
            )
        if self.data.cache is not None and self.model.trainable_layers is None:
            raise ValueError(
                "data.cache keeps what frozen layers say, but model.trainable_layers is null: all layers are trained. "
                "Set trainable_layers to a number, or leave data.cache out."
            )
        if not 0 <= self.data.cell_dropout < 1:
            raise ValueError(f"data.cell_dropout is a chance below 1, got {self.data.cell_dropout}.")
        if self.data.cache is not None and self.data.cache.variants < 1:
            raise ValueError(f"data.cache.variants must be at least 1, got {self.data.cache.variants}.")
        if self.data.cache is not None and self.data.cell_dropout and self.data.cache.variants == 1:
            raise ValueError(
                f"data.cell_dropout is {self.data.cell_dropout}, but data.cache keeps one lab text of a record, the "
                "whole one: set data.cache.variants to 2 or more, or cell_dropout to 0."
            )
        for name in ("epochs", "batch_size", "accumulation_steps", "learning_rate"):
            if (value := getattr(self.optimisation, name)) <= 0:
                raise ValueError(f"optimisation.{name} must be above 0, got {value}.")
        if self.optimisation.keep == "last" and self.optimisation.early_stopping_patience is not None:
            raise ValueError(
                "optimisation.keep is last, so stopping early would keep an epoch that is neither best nor last: set "
                f"early_stopping_patience: null (it is {self.optimisation.early_stopping_patience}), or keep: best."
            )

    @property
    def training_directory(self) -> Path:
        """Where checkpoints and the state of a running or stopped training lie."""
        return training_directory(self.output)

    def to_dict(self) -> dict[str, Any]:
        """Nested plain dictionary, as the YAML file would state it with every default written out."""
        return asdict(self)


def read_arguments(path: str | Path, overrides: Sequence[str] = ()) -> RunArguments:
    """Read a run's YAML file.

    Args:
        path: the YAML file.
        overrides: "section.key=value" settings that replace the file's, values in YAML notation.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: on anything that is not YAML, an unknown key, a missing key or a value of the wrong type, by name.
    """
    return parse_arguments(read_settings(path, overrides))


def read_settings(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The settings of a YAML file, with "section.key=value" settings over them."""
    settings = read_yaml(path)
    for override in overrides:
        _set(settings, override)
    return settings


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping of settings in a YAML file."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no configuration {path}: see configs/ for examples.")
    try:
        settings = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path} must hold a mapping of settings, got {type(settings).__name__}.")
    return settings


def parse_arguments(settings: dict[str, Any]) -> RunArguments:
    """Build [`RunArguments`] from a nested dictionary; the same checks as for a file."""
    return parse_dataclass(RunArguments, settings)


def parse_dataclass(cls: type[T], settings: Any) -> T:
    """Any dataclass of settings from a nested dictionary, with the same checks."""
    arguments = _build(cls, settings, "")
    assert isinstance(arguments, cls)
    return arguments


def _set(settings: dict[str, Any], override: str) -> None:
    """Apply one "section.key=value" to the nested settings, in place."""
    name, separator, value = override.partition("=")
    if not separator or not name:
        raise ValueError(f"A setting is given as section.key=value, got {override!r}.")
    try:
        put(settings, name, yaml.safe_load(value))
    except yaml.YAMLError as error:
        raise ValueError(f"The value of {name} is not valid YAML: {value!r}.") from error


def put(settings: dict[str, Any], name: str, value: Any) -> None:
    """Set "section.key" of the nested settings, in place; a section that is not there is made."""
    *sections, key = name.split(".")
    for section in sections:
        if settings.get(section) is None:
            settings[section] = {}
        settings = settings[section]
        if not isinstance(settings, dict):
            raise ValueError(f"Cannot set {name!r}: {section!r} is not a section.")
    settings[key] = value


def _build(cls: type, settings: Any, where: str) -> Any:
    """A dataclass from a mapping; unknown and missing keys are refused with their full name."""
    if not isinstance(settings, dict):
        raise ValueError(f"{where.rstrip('.')} must be a mapping of settings, got {settings!r}.")
    hints = get_type_hints(cls)
    if unknown := [f"{where}{key}" for key in settings if key not in hints]:
        raise ValueError(
            f"Unknown settings: {', '.join(unknown)}. Known here: {', '.join(where + key for key in hints)}."
        )
    required = [f.name for f in fields(cls) if _is_required(f)]
    if missing := [f"{where}{key}" for key in required if key not in settings]:
        raise ValueError(f"Missing settings: {', '.join(missing)}.")
    return cls(**{key: _value(hints[key], value, f"{where}{key}") for key, value in settings.items()})


def _is_required(a_field: Field) -> bool:
    return a_field.default is MISSING and a_field.default_factory is MISSING


def _value(hint: Any, value: Any, name: str) -> Any:
    """Check one value against its type; whole numbers and text like "1e-3" (YAML leaves it as text) become floats."""
    origin, choices = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return _build(hint, value, f"{name}.")
    if origin is Literal:
        if value not in choices:
            raise ValueError(f"{name} must be one of {list(choices)}, got {value!r}.")
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in choices:
            return None
        (inner,) = [choice for choice in choices if choice is not type(None)]
        return _value(inner, value, name)
    if origin is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{name} must be a mapping, got {value!r}.")
        return {str(key): _value(choices[1], item, f"{name}.{key}") for key, item in value.items()}
    if hint is Any:
        return value
    if hint is float and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError as error:
            raise ValueError(f"{name} must be a number, got {value!r}.") from error
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ValueError(f"{name} must be of type {hint.__name__}, got {value!r}.")
    return value
