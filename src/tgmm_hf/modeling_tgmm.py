"""TGMM: encoders, fusion, guidance and response put together, for any subset of labs, ECG and echo per patient.

Notation in shape comments: B patients, N fusion tokens, d width, d_p projected width, C candidate answers, L answer
tokens, S task-text tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput
from transformers.utils import ModelOutput, can_return_tuple

from .configuration_tasks import TgmmTask, check_task
from .configuration_tgmm import TgmmConfig
from .encoders.configuration_echo_mvit import EchoMvitConfig
from .encoders.configuration_st_mem import StMemConfig
from .encoders.encoder_loading import build_encoder, describe_sources, load_encoder
from .encoders.encoder_running import (
    RECORDS,
    EncodedPart,
    batch_size_of,
    check_divisible,
    labs_rows,
    last_parts,
    recorded,
    rows_and_mask,
    run_encoder,
    text_head,
    text_trunk,
)
from .inputs.echo_views import StoredViewClassifier
from .layers.distributed import gather_batch, several_processes
from .layers.fusion import FusionOutput, MedFlexFusion, TgmmEncoded, drop_modalities, join_names
from .layers.guidance import GuidedOutput, TextualGuidance, pool_slots
from .layers.losses import (
    horizon_status,
    info_nce_loss,
    language_model_loss,
    multiple_choice_loss,
    survival_losses,
    unlikelihood_loss,
)
from .layers.pooling import TgmmAttentionPool, TgmmStandardise
from .layers.response import ResponseDecoder
from .layers.rival_fusions import BASELINES, DeepAvFusion

# Nothing here runs the pipeline: importing it makes its code part of every saved repository.
from .pipeline_tgmm import TgmmCardiacPipeline
from .utils.hub_code import HubCode, hub_entry
from .utils.names import MODALITIES, SLOTS

PIPELINE_TASK = "cardiac-analysis"

"""What the model and its encoders return beside their output when `output_<name>` asks for it."""

IGNORED_ARGUMENTS = {"num_items_in_batch", "return_loss"}
"""What the Trainer and pipelines of transformers pass to any model; other unknown arguments are refused."""


@dataclass
class TgmmOutput(ModelOutput):
    """Answer of one task, or of several (`by_task`).

    Args:
        loss (`torch.FloatTensor` of shape `(1,)`, *optional*): weighted sum of `losses`, when labels were given.
        losses: name of the component -> scalar (before weighting).
        logits (`torch.FloatTensor` of shape `(batch_size, num_candidates)`): log-likelihood of each candidate answer;
        NaN
            for a patient without any modality.
        probabilities: softmax of `logits`.
        risk (`torch.FloatTensor` of shape `(batch_size,)`): prognosis only, higher = earlier event.
        embeds: retrieval only, modality -> `(batch_size, embedding_dim)`, L2-normalised; zero where absent.
        embeds_mask: modality -> `(batch_size,)` bool.
        slot_attentions (`torch.FloatTensor` of shape `(batch_size, 7, 7)`): attention between slots in the guidance
        module.
        slot_mask (`torch.BoolTensor` of shape `(batch_size, 7)`): which slots the patient has; order of `SLOTS`.
        candidate_attentions (`torch.FloatTensor` of shape `(batch_size, num_candidates, 7)`): how much of its
        attention the
            decoder gives each slot while reading a candidate; a row does not sum to 1, the task's text takes the rest.
            Where `config.fusion` is not "medflex" there is one slot instead of seven, here and above.
        gates: subset -> modality -> `(batch_size,)`, mean of G_i(S); valid where `slot_mask` is True.
        lambdas: subset -> name -> `(batch_size,)`, means of eq. (4)-(5).
        by_task: task -> its own output, when several tasks were asked for.
        hidden_states (`tuple` of `torch.FloatTensor` of shape `(batch_size, 7 * num_fusion_tokens, hidden_size)`): with
            `output_hidden_states`, the slots' tokens after fusion and after guidance.
        attentions (`tuple` of one `torch.FloatTensor` of shape `(batch_size, 1, 7 * num_fusion_tokens, 7 *
            num_fusion_tokens)`): with `output_attentions`, the guidance's weights among them.
        encoder_hidden_states, encoder_attentions: asked for likewise, modality -> its encoder's, one tensor a layer;
            their rows are the patients (echo: the clips) that have the modality.
    """

    loss: torch.FloatTensor | None = None
    losses: dict[str, torch.FloatTensor] | None = None
    logits: torch.FloatTensor | None = None
    probabilities: torch.FloatTensor | None = None
    risk: torch.FloatTensor | None = None
    embeds: dict[str, torch.FloatTensor] | None = None
    embeds_mask: dict[str, torch.BoolTensor] | None = None
    slot_attentions: torch.FloatTensor | None = None
    slot_mask: torch.BoolTensor | None = None
    candidate_attentions: torch.FloatTensor | None = None
    gates: dict[str, dict[str, torch.FloatTensor]] | None = None
    lambdas: dict[str, dict[str, torch.FloatTensor]] | None = None
    by_task: dict[str, "TgmmOutput"] | None = None
    encoder_hidden_states: dict[str, tuple[torch.FloatTensor, ...]] | None = None
    encoder_attentions: dict[str, tuple[torch.FloatTensor, ...]] | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


class TgmmPreTrainedModel(HubCode, PreTrainedModel):
    config: TgmmConfig
    base_model_prefix = "tgmm"
    main_input_name = "input_ids"
    input_modalities = ("text", "time", "video")
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # our losses are means over the batch: the Trainer must divide by accumulation steps
    # Parts whose inner modules are called by other methods than `forward`, too: accelerate must not tear them apart.
    _no_split_modules = [  # noqa: RUF012 - read by transformers
        *("MedFlexFusion", "TextualGuidance", "ResponseDecoder"),
        *(fusion.__name__ for fusion in BASELINES.values()),
    ]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _keep_in_fp32_modules_strict = {"standardise"}  # noqa: RUF012 - small differences beside large means

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.initializer_range
        if isinstance(module, TgmmAttentionPool) and module.num_tokens > 1:
            init.normal_(module.queries, std=1.0)
        elif isinstance(module, TgmmStandardise):
            init.zeros_(module.mean)
            init.ones_(module.variance)
            init.zeros_(module.steps)
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
        """As any model's; `from_pretrained` draws no weights that it is about to load."""
        return [*super().get_init_context(*args, **kwargs), init.no_init_weights()]

    def hub_classes(self) -> dict[str, type]:
        """Let every Auto class find its class in the saved directory, whichever of the two was saved."""
        return {"AutoModel": TgmmModel, "AutoModelForSequenceClassification": TgmmForSequenceClassification}

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Save configuration, weights and code; `pipeline("cardiac-analysis")` works on the directory."""
        self.config.custom_pipelines = {
            PIPELINE_TASK: {"impl": hub_entry(TgmmCardiacPipeline), "pt": [AutoModel.__name__]}
        }
        super().save_pretrained(save_directory, **kwargs)


class TgmmModel(TgmmPreTrainedModel):
    """Textual Guidance Multimodal fusion for Multiple cardiac tasks, for any subset of labs, ECG and echo per
    patient."""

    view_classifier: StoredViewClassifier | None = None
    trainable_layers: int | None = None  # of each encoder, as `freeze_encoders` was told

    def __init__(self, config: TgmmConfig, encoders: Mapping[str, PreTrainedModel] | None = None):
        """`encoders` (modality -> model) are taken as they are; those not given are built from the config."""
        super().__init__(config)
        given = encoders or {}
        if any("question_ids" not in task for task in config.tasks.values()):
            raise ValueError(
                "The tasks have no token ids yet: call config.tokenize_tasks(tokenizer) before building the model."
            )
        # Before the encoders, whose weights may be of another dtype: the model's is that of its first weight.
        self.view_embeddings = nn.Embedding(config.num_views, config.echo_config.hidden_size)
        self.labs_encoder = given.get("labs") or build_encoder(config.labs_config)
        self.ecg_encoder = given.get("ecg") or build_encoder(config.ecg_config)
        self.echo_encoder = given.get("echo") or build_encoder(config.echo_config)
        self.labs_pool = TgmmAttentionPool(config, config.labs_config.hidden_size)
        self.ecg_pool = TgmmAttentionPool(config, config.ecg_config.hidden_size)
        self.echo_pool = TgmmAttentionPool(config, config.echo_config.hidden_size)
        self.fusion = MedFlexFusion(config) if config.fusion == "medflex" else BASELINES[config.fusion](config)
        if config.guidance != "none":
            self.guidance = TextualGuidance(config, config.labs_config.hidden_size)
        answered = {name: len(task["candidates"]) for name, task in config.tasks.items() if task["kind"] != "retrieval"}
        if config.response == "decoder" and answered:
            self.response = ResponseDecoder(config)
        elif answered:
            self.response = nn.ModuleDict({name: nn.Linear(config.hidden_size, n) for name, n in answered.items()})
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
        tokenizer: Any = None,
        encoder_dtype: torch.dtype = torch.float32,
        **settings: Any,
    ) -> "TgmmModel":
        """A model around pretrained encoders; fusion, guidance and response are new and have to be trained.

        Its processor: `TgmmProcessor.from_encoders` with the same arguments. Save both into one directory.

        Args:
            labs, ecg, echo: directories (of `tgmm convert`, for instance) or Hub repositories of the three encoders;
                see `load_encoder` for what they have to offer.
            view_classifier: directory or Hub repository of an echo view classifier; the saved model gets a copy of it,
                which its processor uses for clips without a view name.
            tokenizer: of the labs encoder; the one beside its weights when None.
            encoder_dtype: of the encoders' weights, also as saved. The rest stays in float32; `from_pretrained` brings
                all into one `dtype`, float32 unless told otherwise.
            settings: of [`TgmmConfig`], beside the encoders' own.

        Raises:
            ValueError: if an encoder does not meet the contract or lacks weights.
        """
        sources = {"labs": labs, "ecg": ecg, "echo": echo}
        encoders = {name: load_encoder(name, source, encoder_dtype) for name, source in sources.items()}
        # a config sets its sub-configs' attention to its own, which is none yet
        attention = {name: encoder.config._attn_implementation for name, encoder in encoders.items()}
        configs = {f"{name}_config": encoder.config for name, encoder in encoders.items()}
        config = TgmmConfig(**configs, encoder_sources=describe_sources(sources), **settings)
        config.tokenize_tasks(tokenizer or AutoTokenizer.from_pretrained(labs))
        model = cls(config, encoders)
        for name, encoder in encoders.items():
            encoder.set_attn_implementation(attention[name])
        model.initialise_texts()
        model.view_classifier = None if view_classifier is None else StoredViewClassifier(view_classifier)
        return model.eval()

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """As every model, in shards of 500 MB; with a copy of the view classifier that `from_encoders` got."""
        super().save_pretrained(save_directory, **{"max_shard_size": "500MB", **kwargs})
        if self.view_classifier is not None:
            self.view_classifier.copy_to(save_directory)

    def get_input_embeddings(self) -> nn.Module:
        return self.labs_encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.labs_encoder.set_input_embeddings(value)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.LongTensor | None = None,
        ecg_values: torch.FloatTensor | None = None,
        ecg_mask: torch.BoolTensor | None = None,
        pixel_values_videos: torch.FloatTensor | None = None,
        view_mask: torch.BoolTensor | None = None,
        task: str | Sequence[str] | None = None,
        labels: Mapping[str, Mapping[str, torch.Tensor]] | None = None,
        labs_trunk: torch.FloatTensor | None = None,
        ecg_trunk: torch.FloatTensor | None = None,
        echo_trunk: torch.FloatTensor | None = None,
        **kwargs: Any,
    ) -> TgmmOutput:
        r"""
        input_ids, attention_mask (`torch.LongTensor` of shape `(batch_size, sequence_length)`):
            Lab text; a patient without labs has an all-zero mask.
        ecg_values (`torch.FloatTensor` of shape `(batch_size, 12, 2250)`):
            ECG as the feature extractor makes it.
        ecg_mask (`torch.BoolTensor` of shape `(batch_size, 12)`):
            Usable leads; no ECG is an all-False row.
        pixel_values_videos (`torch.FloatTensor` of shape `(batch_size, 11, num_frames, 3, height, width)`):
            One clip a view.
        view_mask (`torch.BoolTensor` of shape `(batch_size, 11)`):
            Which views there are; no echo is an all-False row.
        task (`str` or list of `str`, *optional*):
            A task of `config.tasks`, or several at once (then see `by_task`). The first task when omitted.
        labels (dict, *optional*):
            task -> its targets. Diagnosis: `label` (batch_size,) candidate index. Prognosis: `time` in days, `event` 0
            censored / 1 event / 2 competing death. Retrieval: `{}`. Each may hold `mask` (batch_size,), True where
            labelled.
        labs_trunk, ecg_trunk, echo_trunk (`torch.FloatTensor`, *optional*):
            What `encode_trunk` gave for `input_ids`, `ecg_values`, `pixel_values_videos`, in their place and with their
            masks.
        """
        if unknown := set(kwargs) - IGNORED_ARGUMENTS - {f"output_{name}" for name in RECORDS}:
            raise TypeError(f"TgmmModel takes no {sorted(unknown)}; tasks are given as task=.")
        records = self._records_asked_for(kwargs)
        encoded = self.encode(
            input_ids,
            attention_mask,
            ecg_values,
            ecg_mask,
            pixel_values_videos,
            view_mask,
            labs_trunk,
            ecg_trunk,
            echo_trunk,
            **records,
        )
        names = [next(iter(self.config.tasks))] if task is None else [task] if isinstance(task, str) else list(task)
        outputs = {
            name: self.answer(encoded, name, None if labels is None else labels.get(name), **records) for name in names
        }
        if task is None or isinstance(task, str):
            return outputs[names[0]]
        return self._join_tasks(outputs)

    def _records_asked_for(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """`output_hidden_states` and `output_attentions`, from the call or the config, where they are set."""
        asked = {f"output_{name}": kwargs.get(f"output_{name}") for name in RECORDS}
        asked = {name: getattr(self.config, name) if value is None else value for name, value in asked.items()}
        return {name: value for name, value in asked.items() if value}

    def encode(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.LongTensor | None = None,
        ecg_values: torch.FloatTensor | None = None,
        ecg_mask: torch.BoolTensor | None = None,
        pixel_values_videos: torch.FloatTensor | None = None,
        view_mask: torch.BoolTensor | None = None,
        labs_trunk: torch.FloatTensor | None = None,
        ecg_trunk: torch.FloatTensor | None = None,
        echo_trunk: torch.FloatTensor | None = None,
        **records: Any,
    ) -> TgmmEncoded:
        """Run the three encoders, each only on the patients (and views) that have something to encode.

        records: `output_hidden_states`, `output_attentions`, as the encoders take them.
        """
        batch_size = batch_size_of(
            {"input_ids": input_ids, "ecg_values": ecg_values, "pixel_values_videos": pixel_values_videos},
            {"attention_mask": attention_mask, "ecg_mask": ecg_mask, "view_mask": view_mask},
            {"labs_trunk": labs_trunk, "ecg_trunk": ecg_trunk, "echo_trunk": echo_trunk},
        )
        parts = {
            "labs": self._encode_labs(input_ids, attention_mask, labs_trunk, **records),
            "ecg": self._encode_ecg(ecg_values, ecg_mask, ecg_trunk, **records),
            "echo": self._encode_echo(pixel_values_videos, view_mask, echo_trunk, **records),
        }
        pools = {"labs": self.labs_pool, "ecg": self.ecg_pool, "echo": self.echo_pool}
        device = next(part.rows.device for part in parts.values() if part is not None)
        shape = (batch_size, self.config.num_fusion_tokens, self.config.hidden_size)
        tokens, present = {}, {}
        for name, part in parts.items():
            empty = torch.zeros(shape, dtype=self.view_embeddings.weight.dtype, device=device)
            present[name] = torch.zeros(batch_size, dtype=torch.bool, device=device)
            tokens[name] = empty
            if part is None and self.training and several_processes():  # the others may have some, and need our part
                width = getattr(self.config, f"{name}_config").hidden_size
                part = EncodedPart.empty(present[name].nonzero()[:, 0], width)
            if part is not None and (len(part.rows) or (self.training and several_processes())):
                pooled = pools[name](part.summary, part.tokens, part.token_mask)
                tokens[name] = empty.to(pooled.dtype).index_copy(0, part.rows, pooled)
                present[name][part.rows] = True
        by_record = {
            record: {name: part.records[record] for name, part in parts.items() if part and record in part.records}
            for record in RECORDS
        }
        return TgmmEncoded(tokens, present, **by_record)

    def answer(
        self,
        encoded: TgmmEncoded,
        task: str,
        labels: Mapping[str, torch.Tensor] | None = None,
        output_hidden_states: Any = None,
        output_attentions: Any = None,
    ) -> TgmmOutput:
        """Fusion, guidance and response of one task on encoded patients; the loss too when `labels` are given.

        In training every patient is answered for `config.training_subsets` times, each time with other modalities
        hidden: the outputs have so many times the rows.
        """
        if task not in self.config.tasks:
            raise ValueError(f"Unknown task {task!r}; this model has {sorted(self.config.tasks)}.")
        if self.config.tasks[task]["kind"] == "retrieval":
            return self._embed(encoded, task, labels)
        if self.training:
            encoded = drop_modalities(encoded.repeat(self.config.training_subsets), self.config.modality_dropout)
            labels = labels and {name: x.repeat(self.config.training_subsets) for name, x in labels.items()}
        fused = self._fuse(encoded, task)
        guided = self._guide(fused, task)
        token_log_probs, token_mask, candidate_attentions = self._respond(guided, task)
        logits = (token_log_probs * token_mask).sum(-1)
        if self.config.length_normalised:
            logits = logits / token_mask.sum(-1)
        output = TgmmOutput(
            slot_attentions=guided.slot_attentions,
            slot_mask=fused.slot_mask,
            candidate_attentions=candidate_attentions,
            gates=fused.gates,
            lambdas=fused.lambdas,
            encoder_hidden_states=encoded.hidden_states or None,
            encoder_attentions=encoded.attentions or None,
            hidden_states=guided.hidden_states if output_hidden_states else None,
            attentions=guided.attentions if output_attentions else None,
        )
        some_evidence = fused.slot_mask.any(1)
        if labels is not None:
            output.losses = self._answer_losses(task, labels, logits, token_log_probs, token_mask, some_evidence)
            if fused.alignment is not None:
                output.losses["alignment"] = gather_batch(fused.alignment).mean()
            output.loss = self._weigh(task, output.losses)
        # A patient without any modality gets no answer rather than the answer for "nothing".
        output.logits = logits.masked_fill(~some_evidence[:, None], torch.nan)
        output.probabilities = output.logits.softmax(-1)
        if self.config.tasks[task]["kind"] == "prognosis":
            output.risk = output.logits[:, 1] - output.logits[:, 0]
        return output

    def get_labs_features(
        self, input_ids: torch.LongTensor, attention_mask: torch.LongTensor | None = None
    ) -> torch.Tensor:
        """The text encoder's first token ([CLS]): (B, D); zeros for a patient without labs."""
        return self._encode_labs(input_ids, attention_mask).scatter(len(input_ids))

    def get_ecg_features(self, ecg_values: torch.FloatTensor, ecg_mask: torch.BoolTensor | None = None) -> torch.Tensor:
        """The ECG encoder's pooled output: (B, D); zeros for a patient without ECG."""
        return self._encode_ecg(ecg_values, ecg_mask).scatter(len(ecg_values))

    def get_echo_features(
        self, pixel_values_videos: torch.FloatTensor, view_mask: torch.BoolTensor | None = None
    ) -> torch.Tensor:
        """Mean of the echo encoder's pooled outputs over the views there are: (B, D); zeros for a patient without
        echo."""
        return self._encode_echo(pixel_values_videos, view_mask).scatter(len(pixel_values_videos))

    def freeze_encoders(self, trainable_layers: int | None) -> None:
        """Leave only the last layers of each encoder trainable (paper, fig. 7: two are best); None unfreezes all of
        them.

        With a number, embeddings and earlier layers are frozen, without dropout in training either: what they say of a
        record is a constant (`encode_trunk`). What follows the layers (final norm) trains with them; with 0 nothing of
        the encoders does.
        """
        for encoder in self._encoders().values():
            encoder.requires_grad_(trainable_layers is None)
            for module in last_parts(encoder, trainable_layers or 0):
                module.requires_grad_(True)
        self.trainable_layers = trainable_layers
        self.train(self.training)

    def train(self, mode: bool = True) -> "TgmmModel":
        """As any module; frozen parts stay in evaluation mode, see `freeze_encoders`."""
        super().train(mode)
        if mode and self.trainable_layers is not None:
            for encoder in self._encoders().values():
                encoder.eval()
                for module in last_parts(encoder, self.trainable_layers):
                    module.train()
        return self

    def encode_trunk(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.LongTensor | None = None,
        ecg_values: torch.FloatTensor | None = None,
        ecg_mask: torch.BoolTensor | None = None,
        pixel_values_videos: torch.FloatTensor | None = None,
        view_mask: torch.BoolTensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """What the encoders' frozen parts say of a batch: the `*_trunk` arguments of `forward`, in place of its values.

        Returns:
            `labs_trunk` (patients with labs, L, D), `ecg_trunk` (patients with an ECG, tokens, D), `echo_trunk` (clips,
            tokens, D), each in the order of its mask and left out where there is none.

        Raises:
            ValueError: without `freeze_encoders`, or for an encoder that cannot be cut there.
        """
        trunks, above = {}, self._layers_above()
        if input_ids is not None and len((labs := labs_rows(input_ids, attention_mask))[0]):
            rows, mask, order = labs
            trunks["labs_trunk"] = text_trunk(self.labs_encoder, input_ids[rows].gather(1, order), mask, above)
        if ecg_values is not None and len((ecg := rows_and_mask(ecg_values, ecg_mask))[0]):
            rows, mask = ecg
            values = ecg_values[rows].to(self.ecg_encoder.dtype)
            trunks["ecg_trunk"] = self.ecg_encoder.trunk(values, mask[rows], above)
        if pixel_values_videos is not None and len((echo := rows_and_mask(pixel_values_videos, view_mask))[0]):
            clips = pixel_values_videos[echo[1]].to(self.echo_encoder.dtype)
            tokens = self.echo_encoder.trunk(clips, above)
            # with no layer above, only the class token is read: one token of 393
            trunks["echo_trunk"] = tokens if above else tokens[:, :1]
        return trunks

    def _encoders(self) -> dict[str, PreTrainedModel]:
        return {"labs": self.labs_encoder, "ecg": self.ecg_encoder, "echo": self.echo_encoder}

    def _layers_above(self) -> int:
        """Layers above the freeze boundary, where every encoder can be cut."""
        if self.trainable_layers is None:
            raise ValueError("Nothing is frozen, so there is no trunk: call freeze_encoders(n) first.")
        for name, encoder in self._encoders().items():
            check_divisible(name, encoder, self.trainable_layers)
        return self.trainable_layers

    @torch.no_grad()
    def initialise_texts(self) -> None:
        """Start the learned task contents and the answer embeddings from the text encoder's word embeddings (paper,
        4.2.3).

        Call it once on a new model, after the text encoder has its weights; loading a checkpoint makes it unnecessary.
        """
        words = self.get_input_embeddings().weight
        for name, learned in getattr(getattr(self, "guidance", None), "learned", {}).items():
            self._initialise_learned(name, learned, words)
        if isinstance(getattr(self, "response", None), ResponseDecoder):
            self._initialise_answers(0, words)

    @torch.no_grad()
    def add_task(self, name: str, task: dict[str, Any], tokenizer: Any) -> None:
        """Give the model one more task; its new parts start from word embeddings and everything learned is kept.

        New answer tokens join the decoder's vocabulary, so the log-likelihoods of the other tasks shift a little
        until the model is trained again.

        Args:
            name: the task's name, as used in `task=`.
            task: see `DEFAULT_TASKS` in the configuration file.
            tokenizer: the processor's tokenizer.
        """
        if name in self.config.tasks:
            raise ValueError(f"The model already has a task {name!r}.")
        task = TgmmTask(task)
        check_task(name, task)
        if task["kind"] != "retrieval" and not hasattr(self, "response"):
            raise ValueError("This model has no response module: it was built for retrieval tasks only.")
        known = len(self.config.answer_token_ids)
        tasks = self.config.tasks
        self.config.tasks = {**tasks, name: task}
        try:
            self.config.tokenize_tasks(tokenizer)
        except ValueError:
            self.config.tasks = tasks
            raise
        words = self.get_input_embeddings().weight
        if self.config.guidance == "human+learned" and task["num_learnable_tokens"]:
            self.guidance.learned[name] = nn.Parameter(words.new_zeros(task["num_learnable_tokens"], words.shape[1]))
            self._initialise_learned(name, self.guidance.learned[name], words)
        if task["kind"] == "retrieval":
            if not hasattr(self, "embedding"):
                self.embedding = nn.Linear(self.config.hidden_size, self.config.embedding_dim, bias=False).to(words)
        elif self.config.response == "linear":
            self.response[name] = nn.Linear(self.config.hidden_size, len(task["candidates"])).to(words)
        else:
            self.response.grow(len(self.config.answer_token_ids) - known)
            self._initialise_answers(known, words)

    # --- steps of encode -----------------------------------------------------------------------------------------

    def _encode_labs(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None = None,
        trunk: torch.Tensor | None = None,
        **records: Any,
    ) -> EncodedPart | None:
        if input_ids is None and trunk is None:
            return None
        rows, mask, order = labs_rows(input_ids, attention_mask)
        if not len(rows):
            return EncodedPart.empty(rows, self.config.labs_config.hidden_size)
        if trunk is None:
            encoded = self.labs_encoder(
                input_ids=input_ids[rows].gather(1, order), attention_mask=mask, return_dict=True, **records
            )
        else:
            states = self._checked_trunk("labs", trunk, len(rows), records)
            encoded = BaseModelOutput(text_head(self.labs_encoder, states, mask, self.trainable_layers))
        hidden = encoded.last_hidden_state.to(self.view_embeddings.weight.dtype)
        return EncodedPart(rows, hidden[:, 0], hidden, mask.bool(), recorded(encoded))

    def _encode_ecg(
        self,
        ecg_values: torch.Tensor | None,
        ecg_mask: torch.Tensor | None = None,
        trunk: torch.Tensor | None = None,
        **records: Any,
    ) -> EncodedPart | None:
        if ecg_values is None and trunk is None:
            return None
        rows, mask = rows_and_mask(ecg_values, ecg_mask)
        if not len(rows):
            return EncodedPart.empty(rows, self.config.ecg_config.hidden_size)
        mask, dtype = mask[rows], self.view_embeddings.weight.dtype
        knows_mask = self.config.ecg_config.model_type == StMemConfig.model_type
        if trunk is None:
            # NaN under the mask would survive a multiplication by zero; an absent lead is flat
            values = ecg_values[rows].masked_fill(~mask[..., None], 0.0)
            options = {**records, "ecg_mask": mask} if knows_mask else records
            encoded = run_encoder(self.ecg_encoder, values, dtype, **options)
        else:
            states = self._checked_trunk("ecg", trunk, len(rows), records)
            encoded = self.ecg_encoder.head(states, mask, self.trainable_layers)
        hidden = encoded.last_hidden_state.to(dtype)
        token_mask = mask.new_ones(hidden.shape[:2])
        if knows_mask:
            token_mask = mask.repeat_interleave(hidden.shape[1] // mask.shape[1], dim=1)
        return EncodedPart(rows, encoded.pooler_output.to(dtype), hidden, token_mask, recorded(encoded))

    def _encode_echo(
        self,
        pixel_values_videos: torch.Tensor | None,
        view_mask: torch.Tensor | None = None,
        trunk: torch.Tensor | None = None,
        **records: Any,
    ) -> EncodedPart | None:
        """One token a view: the clip's pooled output plus a learned embedding of the view."""
        if pixel_values_videos is None and trunk is None:
            return None
        rows, mask = rows_and_mask(pixel_values_videos, view_mask)
        if not len(rows):
            return EncodedPart.empty(rows, self.config.echo_config.hidden_size)
        dtype = self.view_embeddings.weight.dtype
        if trunk is None:
            own = self.config.echo_config.model_type == EchoMvitConfig.model_type
            options = {"class_token_only": True} if own and not records else records
            encoded = run_encoder(self.echo_encoder, pixel_values_videos[mask], dtype, **options)
        else:
            states = self._checked_trunk("echo", trunk, int(mask.sum()), records)
            encoded = self.echo_encoder.head(states, self.trainable_layers, class_token_only=True)
        features = encoded.pooler_output.to(dtype)
        patient, view = mask.nonzero(as_tuple=True)
        views = features.new_zeros(*mask.shape, features.shape[-1]).index_put((patient, view), features)
        tokens = views.index_put((patient, view), features + self.view_embeddings(view).to(features.dtype))[rows]
        summary = views[rows].sum(1) / mask[rows].sum(1, keepdim=True)
        return EncodedPart(rows, summary, tokens, mask[rows], recorded(encoded))

    def _checked_trunk(
        self, modality: str, trunk: torch.Tensor, number: int, records: Mapping[str, Any]
    ) -> torch.Tensor:
        """Activations of a trunk in the dtype of its encoder."""
        self._layers_above()
        if len(trunk) != number:
            raise ValueError(f"{modality}_trunk has {len(trunk)} rows, its mask says {number}.")
        if records:
            raise ValueError(f"A trunk's layers are not run: {', '.join(records)} cannot be had with {modality}_trunk.")
        return trunk.to(self._encoders()[modality].dtype)

    # --- steps of answer -----------------------------------------------------------------------------------------

    def _fuse(self, encoded: TgmmEncoded, task: str) -> FusionOutput:
        if self.config.fusion == "textif":
            return self.fusion(encoded.tokens, encoded.present, self._question(task, encoded.present["labs"].device))
        return self.fusion(encoded.tokens, encoded.present)

    def _guide(self, fused: FusionOutput, task: str) -> GuidedOutput:
        if self.config.guidance == "none":
            return GuidedOutput(fused.slots, fused.slot_mask, hidden_states=(fused.slots.flatten(1, 2),))
        return self.guidance(fused, task, self._question(task, fused.slots.device))

    def _question(self, task: str, device: torch.device) -> torch.Tensor:
        """Word embeddings of a task's question: (tokens, text width)."""
        question = torch.tensor(self.config.tasks[task]["question_ids"], device=device)
        return self.get_input_embeddings()(question).to(device)

    def _respond(self, guided: GuidedOutput, task: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Token log-probabilities (B, C, L), token mask (C, L), attention of each candidate to the slots (B, C, 7)."""
        batch_size, num_slots, num_tokens, _ = guided.slots.shape
        if self.config.response == "linear":
            log_probs = self.response[task](pool_slots(guided)).float().log_softmax(-1)[..., None]
            return log_probs, torch.ones(log_probs.shape[1:], dtype=torch.bool, device=log_probs.device), None
        memory = guided.slots.flatten(1, 2)
        mask = guided.slot_mask.repeat_interleave(num_tokens, dim=1)
        if self.config.sstc_in_memory and guided.text is not None:
            memory = torch.cat([memory, guided.text.expand(batch_size, -1, -1)], dim=1)
            mask = torch.cat([mask, mask.new_ones(batch_size, len(guided.text))], dim=1)
        token_log_probs, token_mask, attention = self.response(memory, mask, task)
        to_slots = attention[..., : num_slots * num_tokens].unflatten(-1, (num_slots, num_tokens)).sum(-1)
        return token_log_probs, token_mask, to_slots

    def _answer_losses(
        self,
        task: str,
        labels: Mapping[str, torch.Tensor],
        logits: torch.Tensor,
        token_log_probs: torch.Tensor,
        token_mask: torch.Tensor,
        some_evidence: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Components of eq. (10) or (13), unweighted."""
        settings = self.config.tasks[task]
        labelled = (labels["mask"].bool() if "mask" in labels else torch.ones_like(some_evidence)) & some_evidence
        if settings["kind"] == "prognosis":
            label, weight = horizon_status(labels["time"], labels["event"], settings["horizon_days"])
            label, weight = label.masked_fill(~labelled, 0), weight.masked_fill(~labelled, 0.0)
        else:
            label, weight = labels["label"].masked_fill(~labelled, 0), labelled.to(torch.float32)
        # means over the labelled patients of all processes
        everyone, answers, known = gather_batch(logits), gather_batch(label), gather_batch(weight)
        losses = {
            "mc": multiple_choice_loss(everyone, answers, known),
            "unlikely": unlikelihood_loss(everyone, answers, known),
        }
        if self.config.response == "decoder":
            losses["lm"] = language_model_loss(gather_batch(token_log_probs), token_mask, answers, known)
        if settings["kind"] == "prognosis":
            risk = logits[:, 1] - logits[:, 0]
            copies = self.config.training_subsets if self.training else 1
            losses |= survival_losses(risk, labels["time"], labels["event"], labelled, settings["margin"], copies)
        return losses

    def _weigh(self, task: str, losses: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Eq. (10) for a diagnosis; eq. (13), with eq. (10) inside, for a prognosis."""
        weights = self.config.tasks[task]["loss_weights"]
        diagnosis = sum(weights[name] * losses[name] for name in ("lm", "mc", "unlikely") if name in losses)
        alignment = losses.get("alignment", 0.0)  # CMTA alone; its paper's weight
        if self.config.tasks[task]["kind"] == "diagnosis":
            return diagnosis + alignment
        survival = weights["cox"] * losses["cox"] + weights["margin"] * losses["margin"]
        return weights["dig"] * diagnosis + survival + alignment

    def _embed(self, encoded: TgmmEncoded, task: str, labels: Mapping[str, torch.Tensor] | None) -> TgmmOutput:
        """A modality's embedding: the model run on that modality alone under the retrieval text, pooled (ours)."""
        embeds = {}
        for name in MODALITIES:
            alone = encoded.keep((name,))
            pooled = pool_slots(self._guide(self._fuse(alone, task), task))
            unit = nn.functional.normalize(self.embedding(pooled), dim=-1)
            embeds[name] = unit * alone.present[name][:, None]
        output = TgmmOutput(
            embeds=embeds,
            embeds_mask=encoded.present,
            encoder_hidden_states=encoded.hidden_states or None,
            encoder_attentions=encoded.attentions or None,
        )
        if labels is not None:
            output.losses = self._retrieval_losses(task, labels, embeds, encoded.present)
            output.loss = sum(output.losses.values()) / len(output.losses)
        return output

    def _retrieval_losses(
        self,
        task: str,
        labels: Mapping[str, torch.Tensor],
        embeds: Mapping[str, torch.Tensor],
        present: Mapping[str, torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        temperature = self.config.tasks[task]["temperature"]
        everyone = {name: gather_batch(embeds[name]) for name in MODALITIES}
        there = {
            name: gather_batch(present[name] & labels["mask"].bool() if "mask" in labels else present[name])
            for name in MODALITIES
        }
        pairs = [subset for subset in SLOTS if len(subset) == 2]
        return {
            join_names((a, b)): info_nce_loss(everyone[a], everyone[b], there[a] & there[b], temperature)
            for a, b in pairs
        }

    def _join_tasks(self, outputs: dict[str, TgmmOutput]) -> TgmmOutput:
        joined = TgmmOutput(by_task=outputs)
        trained = {name: output for name, output in outputs.items() if output.loss is not None}
        if trained:
            joined.loss = sum(self.config.tasks[name]["weight"] * output.loss for name, output in trained.items())
            joined.losses = {
                f"{name}/{part}": x for name, output in trained.items() for part, x in output.losses.items()
            }
        return joined

    # --- starting values from the text encoder ---------------------------------------------------------------------

    def _initialise_learned(self, task: str, learned: nn.Parameter, words: torch.Tensor) -> None:
        phrase = self.config.tasks[task]["phrase_ids"]
        repeated = [phrase[i % len(phrase)] for i in range(len(learned))]
        learned.copy_(words[torch.tensor(repeated, device=words.device)])

    def _initialise_answers(self, first: int, words: torch.Tensor) -> None:
        """Answer embeddings from vocabulary entry `first` on."""
        token_ids = self.config.answer_token_ids[first:]
        ids = torch.tensor(token_ids, dtype=torch.long, device=words.device)
        rows = words[ids].to(self.view_embeddings.weight.dtype)
        if rows.shape[1] != self.config.hidden_size:
            if self.config.guidance == "none":
                return  # nothing projects text to the model's width: the random start stays
            rows = self.guidance.project_text(rows)
        self.response.embedding.weight[ResponseDecoder.OFFSET + first :].copy_(rows)


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
        config.id2label = dict(enumerate(config.tasks[task]["candidates"]))
        config.label2id = {label: index for index, label in config.id2label.items()}
        self.num_labels = len(config.id2label)
        self.tgmm = TgmmModel(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.tgmm.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.tgmm.set_input_embeddings(value)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.LongTensor | None = None,
        ecg_values: torch.FloatTensor | None = None,
        ecg_mask: torch.BoolTensor | None = None,
        pixel_values_videos: torch.FloatTensor | None = None,
        view_mask: torch.BoolTensor | None = None,
        labels: torch.LongTensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        r"""
        labels (`torch.LongTensor` of shape `(batch_size,)`, *optional*):
            Index of the right candidate; -100 where unknown, as everywhere in transformers.
        """
        targets = None if labels is None else {self.task: {"label": labels, "mask": labels != -100}}
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
        # In training the model answers for several copies of the batch; the first is the batch itself.
        batch_size = len(next(x for x in (input_ids, ecg_values, pixel_values_videos) if x is not None))
        return SequenceClassifierOutput(
            loss=output.loss,
            logits=output.logits[:batch_size],
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )


__all__ = [
    "TgmmEncoded",
    "TgmmForSequenceClassification",
    "TgmmModel",
    "TgmmOutput",
    "TgmmPreTrainedModel",
]
