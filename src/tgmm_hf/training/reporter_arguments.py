"""The settings of a training of MEIT: the YAML file of `tgmm train` with `family: meit`, as dataclasses."""

from dataclasses import dataclass, field
from typing import Any, Literal

from tgmm_hf.training.adamw_arguments import AdamWArguments
from tgmm_hf.training.arguments import LoraArguments
from tgmm_hf.training.file_run import FileRun


@dataclass(frozen=True)
class ReporterDataArguments:
    """The data of a training of MEIT.

    Attributes:
        file: instructions of `tgmm make-instructions` (.jsonl or .parquet) with the splits train and validation.
        cache: directory of the processed ECGs, which are read once and stored in half precision: 0.12 MB for each ECG.
            Several runs may share it, but only one may fill it. It holds patient data. Null stores them beside the
            checkpoints.
        workers: number of worker processes that process the files once and make batches. They are watched: a file that
            kills its process, or takes too long or too much memory, is refused. 0 does all in the training process.
        max_tokens: longest conversation in tokens, prompt and report together. A longer report is cut, without an end
            token, and counted. 128 is published.
    """

    file: str
    cache: str | None = None
    workers: int = 0
    max_tokens: int = 128


def published_lora() -> LoraArguments:
    """Return the adapters of the published training."""
    return LoraArguments(rank=64, alpha=128, dropout=0.1)


@dataclass(frozen=True)
class ReporterModelArguments:
    """The model before training.

    Attributes:
        checkpoint: directory or Hub repository of a saved MEIT model to train further. Its configuration and processor
            are kept.
        language_model: directory or Hub repository of a causal language model. Null makes a new one from `text_config`.
        gguf_file: name of the weights file in `language_model`, if it is a GGUF file (`pip install gguf`).
        text_config: configuration of a new language model: `model_type` and its sizes. Its vocabulary is learned from
            the prompts and reports of the training split.
        vocab_size: maximum number of tokens that a new language model learns. 0 uses single bytes.
        dtype: number format of the language model's weights. The ECG encoder stays in float32.
        ecg: directory or Hub repository of a trained ECG encoder, of `tgmm pretrain` or `tgmm convert`. Null starts
            with random weights, as published.
        overrides: further settings of `MeitConfig`, such as `fusion`, `num_ecg_vectors` and `ecg_config`.
        lora: adapters on all linear layers of the language model. The ECG encoder and the projector are trained whole.
            Null trains all weights.
    """

    checkpoint: str | None = None
    language_model: str | None = None
    gguf_file: str | None = None
    text_config: dict[str, Any] = field(default_factory=dict)
    vocab_size: int = 1024
    dtype: Literal["float32", "bfloat16"] = "float32"
    ecg: str | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    lora: LoraArguments | None = field(default_factory=published_lora)

    def __post_init__(self) -> None:
        starts = {"checkpoint": self.checkpoint, "language_model": self.language_model, "text_config": self.text_config}
        if len(given := [name for name, value in starts.items() if value]) != 1:
            raise ValueError(
                f"model must have one of {', '.join(starts)}, because they are three ways to start; it has "
                f"{', '.join(given) or 'none'}."
            )
        if self.text_config and self.lora is not None:
            raise ValueError(
                "model.text_config makes a new language model, and adapters would leave its random weights as they "
                "are. Set model.lora to null, which trains all weights."
            )
        if self.checkpoint and self.ecg:
            raise ValueError("model.checkpoint has an ECG encoder of its own: leave it out, or model.ecg.")
        if self.gguf_file and not self.language_model:
            raise ValueError("model.gguf_file names a file in model.language_model, which is not set.")
        if self.ecg and "ecg_config" in self.overrides:
            raise ValueError("model.overrides.ecg_config would change the encoder of model.ecg: leave one of them out.")

    @property
    def sources(self) -> list[str]:
        """Directories and Hub repositories that the model starts from."""
        return [source for source in (self.checkpoint, self.language_model, self.ecg) if source is not None]

    @property
    def ecg_sources(self) -> list[str]:
        """The sources that were trained on ECGs, and so have seen patients."""
        return [source for source in (self.checkpoint, self.ecg) if source is not None]


@dataclass(frozen=True)
class ReporterOptimisationArguments(AdamWArguments):
    """How MEIT is trained: AdamW and a linear schedule to zero. See also [`AdamWArguments`].

    The defaults are the published numbers, where the paper or its code states them.

    Attributes:
        batch_size: ECGs per process and step. The batch norms compare the ECGs of one process and step, so it must be
            at least 2.
        accumulation_steps: number of steps whose gradients are averaged before the weights are updated. 16 x 4 is the
            published batch of 64.
        max_grad_norm: maximum norm of the gradient. 0 turns clipping off, as published.
        encoder_epochs: number of passes of a first stage, before the language model is trained. The ECG encoder and the
            projector learn to name the statements of the training split in it. If a row of the file has no statements,
            the findings of all reports are taken. 0, as published, leaves the stage out.
        encoder_learning_rate: highest learning rate of the first stage.
        ecg_learning_rate: highest learning rate of the ECG encoder and the projector. Null takes `learning_rate`, as
            published.
    """

    epochs: int = 5
    batch_size: int = 16
    learning_rate: float = 2e-5
    weight_decay: float = 0.0
    accumulation_steps: int = 4
    warmup_fraction: float = 0.03
    max_grad_norm: float = 0.0
    encoder_epochs: int = 0
    encoder_learning_rate: float = 2e-3
    ecg_learning_rate: float | None = None

    schedule = "linear"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.encoder_learning_rate <= 0:
            raise ValueError(f"optimisation.encoder_learning_rate must be above 0, got {self.encoder_learning_rate}.")
        if self.encoder_epochs < 0:
            raise ValueError(f"optimisation.encoder_epochs must be 0 or more, got {self.encoder_epochs}.")
        if self.batch_size < 2:
            raise ValueError(
                f"optimisation.batch_size must be at least 2, because the batch norms compare the ECGs of a step, got "
                f"{self.batch_size}."
            )


@dataclass(frozen=True)
class ReporterRunArguments(FileRun):
    """A training of MEIT, as a YAML file with `family: meit` states it.

    Attributes:
        output: directory of the saved model. Checkpoints are written beside it, to `<output>-training`.
        data: see [`ReporterDataArguments`].
        model: see [`ReporterModelArguments`].
        optimisation: see [`ReporterOptimisationArguments`].
        seed: seed of the initial weights, the order of patients and dropout.
        resume: "auto" continues a stopped run when the same command is given again. "never" starts over.
    """

    output: str
    data: ReporterDataArguments
    model: ReporterModelArguments
    optimisation: ReporterOptimisationArguments = field(default_factory=ReporterOptimisationArguments)
    seed: int = 0
    resume: Literal["auto", "never"] = "auto"

    family = "meit"
