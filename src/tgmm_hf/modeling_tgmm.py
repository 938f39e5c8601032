"""TGMM: encoders, fusion, guidance and response put together, for any subset of labs, ECG and echo per patient.

    branches (encoders/branches.py)        inputs -> tokens of the patients that have the modality
    pools (layers/pooling.py)              tokens -> N fusion tokens a modality
    fusion, guidance (layers/)             fusion tokens -> slots under the task's text
    response (layers/response.py)          slots -> likelihood of each candidate answer
    heads (layers/measured_answers.py)     slots -> number of a regression, findings of a multilabel
    losses (layers/task_losses.py)         likelihoods and labels -> loss, only where labels are given

Notation in shape comments: B patients, N fusion tokens, d width, C candidate answers.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers import initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import can_return_tuple

from .configuration_measured_tasks import MEASURED_KINDS
from .configuration_task_types import check_token_ids
from .configuration_tasks import CANDIDATE_KINDS
from .configuration_tgmm import TgmmConfig
from .encoders.branches import EXTRA_OUTPUTS
from .encoders.encoder_loading import build_encoder, load_encoder
from .encoders.encoding import EncodesPatients
from .inputs.echo_views import StoredViewClassifier
from .layers.answering import AnswersTasks
from .layers.cell_inputs import LabNumbers, check_cells_of_config
from .layers.encoded_batch import TgmmEncoded
from .layers.fusion import MedFlexFusion
from .layers.guidance import TextualGuidance
from .layers.input_shapes import refuse_nobody
from .layers.kept_attention import kept_attention
from .layers.label_checks import asked_tasks, check_tasks_of_labels
from .layers.pooling import TgmmAttentionPool, TgmmStandardise, hold_running_statistics
from .layers.response import ResponseDecoder
from .layers.rival_fusions import RIVAL_FUSIONS, DeepAvFusion
from .layers.slot_reading import SharedSlotGain
from .layers.task_growing import add_task, initialise_texts, new_head
from .layers.task_losses import join_outputs
from .layers.task_output import TgmmOutput
from .layers.weights_fingerprint import BoundWeights

# Nothing here runs the pipeline. The import makes the pipeline's code part of every saved model.
from .pipeline_tgmm import PIPELINE_TASK, TgmmCardiacPipeline
from .utils.hub_code import hub_entry
from .utils.model_licences import describe_sources

IGNORED_ARGUMENTS = {"num_items_in_batch", "return_loss", "use_cache"}
"""Arguments that the Trainer, the pipelines of transformers and PEFT pass to any model. They change no answer of this
model. Other unknown arguments are refused."""
UNUSED_ARGUMENTS = {
    *("inputs_embeds", "head_mask", "position_ids", "token_type_ids"),
    *("past_key_values", "cache_position", "decoder_input_ids", "decoder_inputs_embeds", "task_ids"),
}
"""Arguments of text models. They are accepted if they are None, or token types that are all 0. Any other value
is refused."""


class TgmmPreTrainedModel(BoundWeights, PreTrainedModel):
    """Base of `TgmmModel` and `TgmmForSequenceClassification`: initial weights, and saving with the code."""

    config: TgmmConfig
    base_model_prefix = "tgmm"
    main_input_name = "input_ids"
    input_modalities = ("text", "time", "video")  # type: ignore[assignment] # declared a list; tuples are usual
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # the losses are means over the batch, so the Trainer divides by accumulation steps
    # Parts whose inner modules are called by other methods than `forward`: accelerate must not tear them apart.
    _no_split_modules = [  # noqa: RUF012 - read by transformers
        *("MedFlexFusion", "TextualGuidance", "ResponseDecoder", "SharedSlotGain"),
        *(fusion.__name__ for fusion in RIVAL_FUSIONS.values()),
    ]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _keep_in_fp32_modules_strict = {"standardise"}  # noqa: RUF012 - small differences beside large means

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw the starting weights of a module. transformers calls this for every module."""
        std = self.config.initializer_range
        if isinstance(module, TgmmAttentionPool) and module.num_tokens > 1:
            init.normal_(module.queries, std=1.0)
        elif isinstance(module, TgmmStandardise):
            init.zeros_(module.mean)
            init.ones_(module.variance)
            init.zeros_(module.steps)
        elif isinstance(module, (LabNumbers, SharedSlotGain)):
            module.reset()
        elif isinstance(module, DeepAvFusion):
            init.normal_(module.tokens, std=std)
        elif isinstance(module, TextualGuidance):
            init.normal_(module.positions, std=std)
            for learned in module.learned.values():
                init.normal_(learned, std=std)
        elif isinstance(module, ResponseDecoder):
            init.normal_(module.positions, std=std)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        else:
            super()._init_weights(module)

    @classmethod
    def get_init_context(cls, *args: Any, **kwargs: Any) -> list[Any]:
        """Let `from_pretrained` draw no random weights, because it loads all weights. transformers calls this."""
        return [*super().get_init_context(*args, **kwargs), init.no_init_weights()]

    def hub_classes(self) -> dict[str, type]:
        """Map the names of Auto classes to the classes that they load from the saved directory."""
        classes = {"AutoModel": TgmmModel, "AutoModelForSequenceClassification": TgmmForSequenceClassification}
        # A subclass stands in the place of its base class.
        return {name: type(self) if isinstance(self, base) else base for name, base in classes.items()}

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Save configuration, weights and code, so that `pipeline("cardiac-analysis")` works on the directory."""
        self.config.custom_pipelines = {
            PIPELINE_TASK: {"impl": hub_entry(TgmmCardiacPipeline), "pt": [AutoModel.__name__]}
        }
        super().save_pretrained(save_directory, **kwargs)


class TgmmModel(EncodesPatients, AnswersTasks, TgmmPreTrainedModel):
    """Textual Guidance Multimodal fusion for Multiple cardiac tasks, for any subset of labs, ECG and echo.

    [`EncodesPatients`] brings `encode`, `get_*_features`, `freeze_encoders` and `frozen_features`. [`AnswersTasks`]
    brings `slots`, `answer` and `answer_subsets`.

    Args:
        config: sizes, encoders and tasks. The tasks need their token ids, see `TgmmConfig.tokenize_tasks`.
        encoders: modality -> encoder that is taken as it is. The other encoders are built from the configuration.
    """

    config: TgmmConfig
    view_classifier: StoredViewClassifier | None = None

    def __init__(self, config: TgmmConfig, encoders: Mapping[str, PreTrainedModel] | None = None):
        super().__init__(config)
        given = encoders or {}
        if any("question_ids" not in task for task in config.tasks.values()):
            raise ValueError(
                "The tasks have no token ids yet: call config.tokenize_tasks(tokenizer) before building the model."
            )
        check_token_ids(config.tasks, config.answer_token_ids, config.get_text_config().vocab_size)
        check_cells_of_config(config)
        # Before the encoders, whose weights may be of another dtype: the model's dtype is that of its first weight.
        self.view_embeddings = nn.Embedding(config.num_views, config.echo_config.hidden_size)
        self.labs_encoder = given.get("labs") or build_encoder(config.labs_config)
        self.ecg_encoder = given.get("ecg") or build_encoder(config.ecg_config)
        self.echo_encoder = given.get("echo") or build_encoder(config.echo_config)
        if config.labs_numbers:
            self.labs_numbers = LabNumbers(len(config.labs_scales), config.labs_config.hidden_size)
        self.labs_pool = TgmmAttentionPool(config, config.labs_config.hidden_size)
        self.ecg_pool = TgmmAttentionPool(config, config.ecg_config.hidden_size)
        self.echo_pool = TgmmAttentionPool(config, config.echo_config.hidden_size)
        self.fusion = MedFlexFusion(config) if config.fusion == "medflex" else RIVAL_FUSIONS[config.fusion](config)
        if config.guidance != "none":
            self.guidance = TextualGuidance(config, config.labs_config.hidden_size)
        if config.fusion == "medflex" and config.shared_slot_gain is not None:
            self.slot_gain = SharedSlotGain(config)
        answered = {n: len(task["candidates"]) for n, task in config.tasks.items() if task["kind"] in CANDIDATE_KINDS}
        if config.response == "decoder" and answered:
            self.response = ResponseDecoder(config)
        elif answered:
            self.response = nn.ModuleDict({name: nn.Linear(config.hidden_size, n) for name, n in answered.items()})
        if measured := [name for name, task in config.tasks.items() if task["kind"] in MEASURED_KINDS]:
            self.heads = nn.ModuleDict({name: new_head(config, name) for name in measured})
        if config.task_names("retrieval"):
            self.embedding = nn.Linear(config.hidden_size, config.embedding_dim, bias=False)
        self.post_init()

    @classmethod
    def from_encoders(
        cls,
        labs: str | Path,
        ecg: str | Path,
        echo: str | Path,
        view_classifier: str | Path | None = None,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        encoder_dtype: torch.dtype = torch.float32,
        **settings: Any,
    ) -> "TgmmModel":
        """Build a model around pretrained encoders. Fusion, guidance and response are new and have to be trained.

        `TgmmProcessor.from_encoders` with the same arguments gives its processor. Save both into one directory.

        Args:
            labs: directory or Hub repository of the text encoder; `load_encoder` says what an encoder has to offer.
            ecg: directory (of `tgmm convert`, for instance) or Hub repository of the ECG encoder.
            echo: directory or Hub repository of the echo encoder.
            view_classifier: directory or Hub repository of an echo view classifier. The saved model gets a copy, which
                its processor uses for clips without a view name.
            tokenizer: tokenizer of the labs encoder; the one beside its weights when None.
            encoder_dtype: dtype of the encoders' weights, also as saved. The other parts stay in float32.
                `from_pretrained` brings all parts into one `dtype`, float32 by default.
            settings: settings of [`TgmmConfig`] beside the encoders' own.

        Raises:
            ValueError: if an encoder does not declare its input or lacks weights.
        """
        sources = {"labs": labs, "ecg": ecg, "echo": echo}
        encoders = {name: load_encoder(name, source, encoder_dtype) for name, source in sources.items()}
        configs: dict[str, Any] = {f"{name}_config": encoder.config for name, encoder in encoders.items()}
        with kept_attention(encoders.values()):
            config = TgmmConfig(**configs, encoder_sources=describe_sources(sources), **settings)
            config.tokenize_tasks(tokenizer or AutoTokenizer.from_pretrained(labs))
            model = cls(config, encoders)
        model.initialise_texts()
        model.view_classifier = None if view_classifier is None else StoredViewClassifier(view_classifier)
        return model.eval()

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Save in shards of 500 MB, with a copy of the view classifier of `from_encoders`."""
        super().save_pretrained(save_directory, **{"max_shard_size": "500MB", **kwargs})
        if self.view_classifier is not None:
            self.view_classifier.copy_to(save_directory)

    def get_input_embeddings(self) -> nn.Module:
        """Return the word embeddings of the text encoder."""
        return self.labs_encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the word embeddings of the text encoder by `value`, in place."""
        self.labs_encoder.set_input_embeddings(value)

    @can_return_tuple
    def forward(  # noqa: PLR0913 - transformers reads the inputs from this signature
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        ecg_values: torch.Tensor | None = None,
        ecg_mask: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        view_mask: torch.Tensor | None = None,
        task: str | Sequence[str] | None = None,
        labels: Mapping[str, Mapping[str, torch.Tensor]] | None = None,
        labs_frozen: torch.Tensor | None = None,
        ecg_frozen: torch.Tensor | None = None,
        echo_frozen: torch.Tensor | None = None,
        cell_ids: torch.Tensor | None = None,
        cell_columns: torch.Tensor | None = None,
        cell_values: torch.Tensor | None = None,
        cell_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> TgmmOutput:
        r"""Encode the patients once and answer one task or several.

        input_ids, attention_mask (`torch.LongTensor` of shape `(batch_size, sequence_length)`):
            Lab text. A patient without labs has an all-zero mask. Without a mask, padding tokens are masked.
        ecg_values (`torch.FloatTensor` of shape `(batch_size, 12, 2250)`):
            ECG as the feature extractor makes it.
        ecg_mask (`torch.BoolTensor` of shape `(batch_size, 12)`):
            Usable leads. A patient without an ECG has an all-False row.
        pixel_values_videos (`torch.FloatTensor` of shape `(batch_size, 11, num_frames, 3, height, width)`):
            One clip a view.
        view_mask (`torch.BoolTensor` of shape `(batch_size, 11)`):
            Which views exist. A patient without an echo has an all-False row.
        task (`str` or list of `str`, *optional*):
            A task of `config.tasks`, or several at once (then see `by_task`). The first task when omitted.
        labels (dict, *optional*):
            task -> its targets. Diagnosis: `label` (batch_size,) candidate index. Prognosis: `time` in days, `event` 0
            censored / 1 event / 2 competing death. Retrieval: `{}`. Regression: `value` (batch_size,) in the task's
            unit. Multilabel: `findings` (batch_size, findings) 0 / 1. Each may hold `mask`, True where labelled.
        labs_frozen, ecg_frozen, echo_frozen (`torch.FloatTensor`, *optional*):
            The result of `frozen_features` for `input_ids`, `ecg_values`, `pixel_values_videos`. They stand in place of
            these values and need their masks.
        cell_ids, cell_columns (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
            For a model that reads lab cells as numbers: cell of each token, from 1 (0 is none), and its column.
        cell_values, cell_mask (`torch.FloatTensor` and `torch.BoolTensor`, the same shape, *optional*):
            Standardised value of the cell; True where it has one.
        """
        extra = self._extra_outputs(kwargs)
        names = asked_tasks(task, self.config.tasks)
        targets = check_tasks_of_labels(labels, self.config.tasks, names)
        if self.training:
            hold_running_statistics(self)
        encoded = self.encode(
            input_ids=input_ids,
            attention_mask=attention_mask,
            ecg_values=ecg_values,
            ecg_mask=ecg_mask,
            pixel_values_videos=pixel_values_videos,
            view_mask=view_mask,
            labs_frozen=labs_frozen,
            ecg_frozen=ecg_frozen,
            echo_frozen=echo_frozen,
            cell_ids=cell_ids,
            cell_columns=cell_columns,
            cell_values=cell_values,
            cell_mask=cell_mask,
            **extra,
        )
        if not targets and not self.training:
            refuse_nobody(encoded.present)
        outputs = {name: self.answer(encoded, name, targets.get(name), **extra) for name in names}
        if task is None or isinstance(task, str):
            return outputs[names[0]]
        return join_outputs(self.config.tasks, outputs)

    def _extra_outputs(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return `output_hidden_states` and `output_attentions`, if the call or the configuration sets them to True.

        Raises:
            TypeError: on an argument that the model does not know.
        """
        wanted = {f"output_{name}": getattr(self.config, f"output_{name}") for name in EXTRA_OUTPUTS}
        given = {name for name, value in kwargs.items() if not _has_no_effect(name, value)}
        if unknown := given - IGNORED_ARGUMENTS - set(wanted):
            raise TypeError(f"TgmmModel takes no {sorted(unknown)}; tasks are given as task=.")
        wanted |= {name: kwargs[name] for name in wanted if kwargs.get(name) is not None}
        return {name: value for name, value in wanted.items() if value}

    def initialise_texts(self) -> None:
        """Set the tasks' learned tokens and the answer embeddings to word embeddings, in place (paper, 4.2.3).

        Call it once on a new model, after the text encoder has its weights. A loaded model does not need the call.
        """
        initialise_texts(self)

    def add_task(self, name: str, task: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> None:
        """Add a task to the model and its configuration, in place. All trained weights are kept.

        The learned tokens and new answer tokens of the task start from word embeddings. New answer tokens extend the
        decoder's vocabulary, so that the log-likelihoods of the other tasks change a little.

        Args:
            name: the task's name, as used in `task=`.
            task: see `DEFAULT_TASKS` in configuration_tasks.py.
            tokenizer: the processor's tokenizer.
        """
        add_task(self, name, task, tokenizer)


class TgmmForSequenceClassification(TgmmPreTrainedModel):
    """One task of a TGMM checkpoint behind the interface that the Hugging Face Trainer and pipelines expect."""

    def __init__(self, config: TgmmConfig):
        super().__init__(config)
        task = config.classification_task or next(iter(config.task_names("diagnosis")), None)
        if task is None or config.tasks.get(task, {}).get("kind") != "diagnosis":
            raise ValueError(
                f"classification_task must name a diagnosis task, got {task!r}; the model has "
                f"{config.task_names('diagnosis')}."
            )
        self.task = task
        _check_class_names(config, task)
        config.id2label = dict(enumerate(config.tasks[task]["candidates"]))
        config.label2id = {label: index for index, label in config.id2label.items()}
        self.num_labels = len(config.id2label)
        self.tgmm = TgmmModel(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the text encoder's word embeddings."""
        return self.tgmm.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the text encoder's word embeddings."""
        self.tgmm.set_input_embeddings(value)

    @can_return_tuple
    def forward(  # noqa: PLR0913 - transformers reads the inputs from this signature
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        ecg_values: torch.Tensor | None = None,
        ecg_mask: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        view_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        r"""Answer `config.classification_task`.

        labels (`torch.LongTensor` of shape `(batch_size,)`, *optional*):
            Index of the right candidate; -100 where unknown, as everywhere in transformers.
        """
        if labels is not None and not isinstance(labels, torch.Tensor):
            raise ValueError(
                f"labels is a {type(labels).__name__}, but TgmmForSequenceClassification takes a tensor of candidate "
                "indices. TgmmModel takes a mapping of tasks."
            )
        targets = None if labels is None else {self.task: {"label": labels}}
        output = self.tgmm(
            input_ids,
            attention_mask,
            ecg_values,
            ecg_mask,
            pixel_values_videos,
            view_mask,
            task=self.task,
            labels=targets,
            return_dict=True,
            **kwargs,
        )
        # In training the model answers for several copies of the batch. The logits are those of the first copy.
        # Frozen features come with a mask.
        given = (input_ids, attention_mask, ecg_values, ecg_mask, pixel_values_videos, view_mask)
        batch_size = len(next(values for values in given if values is not None))
        return SequenceClassifierOutput(
            loss=output.loss,
            logits=output.logits[:batch_size],
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )


def _check_class_names(config: TgmmConfig, task: str) -> None:
    """Refuse class names or a number of classes that are not those of a task.

    The candidates of the task are the classes, so that `num_labels=3` or other names would be ignored.

    Raises:
        ValueError: if the configuration names other classes. Names of another task of the model are no contradiction,
            because `classification_task` may have changed, and transformers' own default of two classes is none either.
    """
    names: Any = config.id2label or {}
    given = [names[index] for index in sorted(names)]
    if given in ([], ["LABEL_0", "LABEL_1"], *(list(settings["candidates"]) for settings in config.tasks.values())):
        return
    raise ValueError(
        f"The configuration has {len(given)} classes ({', '.join(map(str, given))}), but the classes of this model are "
        f"the {len(config.tasks[task]['candidates'])} candidates of the task {task!r}: "
        f"{config.tasks[task]['candidates']}. Leave num_labels and id2label out, or add a task with these candidates "
        "(`TgmmModel.add_task`) and name it with classification_task."
    )


def _has_no_effect(name: str, value: Any) -> bool:
    """Tell whether an argument is one of `UNUSED_ARGUMENTS` with its default: None, or token types that are all 0."""
    is_default = name == "token_type_ids" and isinstance(value, torch.Tensor) and not bool(value.any())
    return name in UNUSED_ARGUMENTS and (value is None or is_default)


__all__ = [
    "TgmmEncoded",
    "TgmmForSequenceClassification",
    "TgmmModel",
    "TgmmOutput",
    "TgmmPreTrainedModel",
]
