"""The settings of a training of Heartcare: the YAML file of `tgmm train` with `family: heartcare`, as dataclasses."""

from dataclasses import dataclass, field
from typing import Any, Literal

from tgmm_hf.families.heartcare.part_names import PARTS
from tgmm_hf.training.adamw_arguments import AdamWArguments
from tgmm_hf.training.arguments import LoraArguments
from tgmm_hf.training.file_run import FileRun


@dataclass(frozen=True)
class HeartcareDataArguments:
    """The data of a training of Heartcare.

    Attributes:
        file: instructions of `tgmm make-instructions` (.jsonl or .parquet) with the splits train and validation.
        streams: how an ECG enters the model: "both", the signal alone ("ecg"), the picture alone ("image"), or "none",
            which trains the language model on the texts alone, as a control.
        stream_dropout: chance that a row of a training step shows only one of its two streams; either one is hidden
            equally often, and one always stays (ours). It needs `streams: both`. The validation split shows both.
        looks: give each picture of the training split the look of a scan or a photograph. It is drawn once for each
            ECG. False draws all pictures plain, like the pictures of the validation split.
        cache: directory of the processed windows and pictures, which are made once and stored in half precision: 0.07
            MB for each ECG of 10 s, and 0.08 MB for each picture of 112 x 112 pixels. Several runs may share it, but
            only one may fill it. It holds patient data. Null stores them beside the checkpoints.
        workers: number of worker processes that process the files once and make batches. They are watched: a file that
            kills its process, or takes too long or too much memory, is refused. 0 does all in the training process.
        max_tokens: longest conversation in tokens, with the placeholders of ECG and picture. A longer answer is cut,
            without an end token, and counted.
    """

    file: str
    streams: Literal["both", "ecg", "image", "none"] = "both"
    stream_dropout: float = 0.0
    looks: bool = True
    cache: str | None = None
    workers: int = 0
    max_tokens: int = 512

    def __post_init__(self) -> None:
        if not 0 <= self.stream_dropout <= 1:
            raise ValueError(f"data.stream_dropout is a chance from 0 to 1, got {self.stream_dropout}.")
        if self.stream_dropout and self.streams != "both":
            raise ValueError(
                f"data.stream_dropout is {self.stream_dropout}, and data.streams is {self.streams!r}: one of two "
                "streams can be hidden only if both are there. Set data.streams to both, or data.stream_dropout to 0."
            )

    @property
    def stream_names(self) -> tuple[str, ...]:
        """Names of the streams, as the processor takes them."""
        return {"both": ("ecg", "image"), "none": ()}.get(self.streams, (self.streams,))


@dataclass(frozen=True)
class HeartcareModelArguments:
    """The model before training, and which parts of it are trained.

    Attributes:
        checkpoint: directory or Hub repository of a saved Heartcare model to train further, such as that of the stage
            before. Its configuration and processor are kept.
        language_model: directory or Hub repository of a causal language model. Null makes a new one from `text_config`.
        gguf_file: name of the weights file in `language_model`, if it is a GGUF file (`pip install gguf`).
        text_config: configuration of a new language model: `model_type` and its sizes. Its vocabulary is learned from
            the questions and answers of the training split.
        vocab_size: maximum number of tokens that a new language model learns. 0 uses single bytes.
        dtype: number format of the language model's weights. The other parts stay in float32.
        beat: directory or Hub repository of a trained Beat model. Null starts with random weights.
        vision: directory or Hub repository of a SigLIP model. Null starts with random weights.
        overrides: further settings of `HeartcareConfig`: `ecg_input`, `beat_config`, `vision_config`.
        train: part -> whether its weights are trained. The parts are beat (its encoder), ecg_projector, vision_tower,
            image_projector and language_model. The default is the second stage of the paper.
        lora: adapters on all linear layers of the language model, beside the parts in `train`: the third stage of the
            paper. Null adds none.
    """

    checkpoint: str | None = None
    language_model: str | None = None
    gguf_file: str | None = None
    text_config: dict[str, Any] = field(default_factory=dict)
    vocab_size: int = 1024
    dtype: Literal["float32", "bfloat16"] = "float32"
    beat: str | None = None
    vision: str | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    train: dict[str, bool] = field(default_factory=lambda: {"ecg_projector": True, "image_projector": True})
    lora: LoraArguments | None = None

    def __post_init__(self) -> None:
        starts = {"checkpoint": self.checkpoint, "language_model": self.language_model, "text_config": self.text_config}
        if len(names := [name for name, value in starts.items() if value]) != 1:
            raise ValueError(
                f"model must have one of {', '.join(starts)}, because they are three ways to start; it has "
                f"{', '.join(names) or 'none'}."
            )
        if self.checkpoint and (self.beat or self.vision or self.overrides):
            raise ValueError("model.checkpoint has all parts: leave it out, or model.beat, vision and overrides.")
        if self.gguf_file and not self.language_model:
            raise ValueError("model.gguf_file names a file in model.language_model, which is not set.")
        if unknown := sorted(set(self.train) - set(PARTS)):
            raise ValueError(f"model.train names {', '.join(unknown)}; the parts are {', '.join(PARTS)}.")
        if self.lora and {"beat", "language_model"} & set(self.trained_parts):
            raise ValueError(
                "model.lora trains adapters in place of the language model, and cannot train Beat's encoder alone. Set "
                "model.train.language_model and model.train.beat to false, or model.lora to null."
            )
        if not self.trained_parts and self.lora is None:
            raise ValueError("model.train and model.lora train nothing. Set a part of model.train to true.")

    @property
    def trained_parts(self) -> list[str]:
        """Names of the parts that are trained."""
        return [part for part in PARTS if self.train.get(part)]

    @property
    def sources(self) -> list[str]:
        """Directories and Hub repositories that the model starts from."""
        return [
            source for source in (self.checkpoint, self.language_model, self.beat, self.vision) if source is not None
        ]

    @property
    def ecg_sources(self) -> list[str]:
        """The sources that were trained on ECGs, and so have seen patients."""
        return [source for source in (self.checkpoint, self.beat) if source is not None]


@dataclass(frozen=True)
class HeartcareOptimisationArguments(AdamWArguments):
    """How Heartcare is trained: AdamW and a linear schedule to zero. See also [`AdamWArguments`].

    Attributes:
        batch_size: ECGs per process and step.
        learning_rate: highest learning rate. The paper has 2e-4 for the projectors, and 2e-5 for the third stage.
    """

    epochs: int = 1
    batch_size: int = 16
    learning_rate: float = 2e-4
    weight_decay: float = 0.0
    warmup_fraction: float = 0.03

    schedule = "linear"


@dataclass(frozen=True)
class HeartcareRunArguments(FileRun):
    """A training of Heartcare, as a YAML file with `family: heartcare` states it.

    Attributes:
        output: directory of the saved model. Checkpoints are written beside it, to `<output>-training`.
        data: see [`HeartcareDataArguments`].
        model: see [`HeartcareModelArguments`].
        optimisation: see [`HeartcareOptimisationArguments`].
        seed: seed of the initial weights, the order of the ECGs, the looks of the pictures and dropout.
        resume: "auto" continues a stopped run when the same command is given again. "never" starts over.
    """

    output: str
    data: HeartcareDataArguments
    model: HeartcareModelArguments
    optimisation: HeartcareOptimisationArguments = field(default_factory=HeartcareOptimisationArguments)
    seed: int = 0
    resume: Literal["auto", "never"] = "auto"

    family = "heartcare"
