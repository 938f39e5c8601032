"""Configuration of the TGMM model: sizes of its parts, its encoders, and its tasks as data."""

from pathlib import Path
from typing import Any, cast

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.configuration_utils import SubConfigSpec

from .configuration_tasks import DEFAULT_TASKS, check_choice, check_task
from .encoders.configuration_ecg_fm import EcgFmConfig
from .encoders.configuration_ecg_hubert import EcgHubertConfig
from .encoders.configuration_ecg_resnet import EcgResNetConfig
from .encoders.configuration_echo_jepa import EchoJepaConfig
from .encoders.configuration_echo_mvit import EchoMvitConfig
from .encoders.configuration_lab_cells import LabCellsConfig
from .encoders.configuration_pan_echo import PanEchoConfig
from .encoders.configuration_st_mem import StMemConfig
from .utils.hub_code import HubCode, drop_registered_pipelines
from .utils.names import VIEWS

FUSIONS = ("medflex", "concat", "multisurv", "deepavfusion", "cmta", "textif")
"""MedFlexFusion and the rival fusions of the paper's table 5."""
SLOT_READINGS = ("together", "slot_by_slot")
"""How the decoder reads the slots: by one softmax over all of them, or by a softmax for each slot."""
FUSION_PRESETS: dict[str, dict[str, Any]] = {
    "additive": {"slot_reading": "together", "shared_slot_gain": 0.1, "whole_copies": 1},
    "interacting": {"slot_reading": "slot_by_slot", "shared_slot_gain": 1.0, "whole_copies": 1},
}
"""Name of a preset -> settings of MedFlexFusion: for modalities that add up, or that change each other's meaning."""

ENCODER_CONFIGS: dict[str, Any] = {
    config.model_type: config
    for config in (
        *(LabCellsConfig, StMemConfig, EcgResNetConfig, EcgHubertConfig, EcgFmConfig),
        *(EchoMvitConfig, EchoJepaConfig, PanEchoConfig),
    )
}
"""Model type -> class of the encoders' configurations that travel with a saved model."""

TINY_TYPES = {"ecg_config": "st_mem", "echo_config": "echo_mvit"}
"""Model type of the encoders of `TgmmConfig.tiny` whose settings do not name it."""
TINY_SIZES: dict[str, dict[str, Any]] = {
    "lab_cells": {"vocab_size": 1024, "hidden_size": 64, "num_attention_heads": 4, "starts_from_cells": True},
    # The blocks are those of MEIT's ResNet-50. Nine seconds at 250 Hz become 141 tokens.
    "ecg_resnet": {
        "seq_length": 2250,
        "embedding_size": 32,
        "stage_depths": (2, 2, 2, 2),
        "stage_widths": (8, 16, 24, 32),
    },
    # A convolution for each frame and one layer over the frames. New weights read the clips of the default processor.
    "pan_echo": {
        "image_size": 64,
        "frame_depths": (1, 1, 2),
        "frame_widths": (16, 32, 64),
        "hidden_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "preprocessing": {},
    },
}
"""Model type -> sizes of other encoders in `TgmmConfig.tiny`."""


@strict
class TgmmConfig(HubCode, PreTrainedConfig):
    """Configuration of [`TgmmModel`]: three encoders, fusion, guidance, response, and the tasks as data.

    The defaults are the paper's size. `TgmmConfig.tiny()` is the small random-weight model of the tests and the demo.

    Args:
        labs_config: text encoder of the lab row, any `AutoModel` text encoder; BERT-base by default. Or
            [`LabCellsConfig`] (`{"model_type": "lab_cells"}`), which has one token for each cell (ours).
        ecg_config: [`StMemConfig`], [`EcgResNetConfig`] (`{"model_type": "ecg_resnet"}`), or the configuration of any
            encoder that declares its input size.
        echo_config: [`EchoMvitConfig`], or the configuration of any encoder that declares its input size.
        labs_numbers: add the value of each lab cell, as a vector, to the cell's tokens (ours, decision 218).
        labs_scales: columns whose values are read as numbers, see inputs/lab_scales.py. `tgmm train` fills it.
        hidden_size: width d of fusion, guidance and response (paper: 768).
        num_fusion_tokens: N, number of fusion tokens of each modality (ours). The paper has one vector, N = 1.
        projection_dim: d_p of P(.) in eq. (3); 2 d when None (ours).
        num_attention_heads: heads of the attention pooling, the guidance encoder and the response decoder.
        fusion: "medflex", or a rival fusion: "concat" | "multisurv" | "deepavfusion" | "cmta" | "textif" (table 5, see
            layers/rival_fusions.py).
        fusion_preset: "additive": for modalities that add up, or "interacting": for modalities that change each other's
            meaning (`FUSION_PRESETS`). It replaces the settings that have their default. None replaces nothing.
        guidance: "none" | "human" | "human+learned" (table 6).
        response: "decoder" | "linear" (table 6).
        sstc_in_memory: let the decoder read the encoded task text beside the slots (ours; ablation False).
        slot_reading: "together": one softmax over the tokens of all slots and the task text. "slot_by_slot": a softmax
            for each slot, and the answers are added (ours). A task may have a setting of its own with this name.
        shared_slot_gain: initial value of the learned factor of each shared slot; without a factor when None (ours).
        length_normalised: divide an answer's log-likelihood by its number of tokens (ablation; the default is the
            paper's sum).
        drop_path: p_drop of eq. (9).
        feature_dropout: dropout on the fusion tokens, against overfitting on about a thousand patients (ours).
        modality_dropout: chance of each present modality to be hidden in training; one always stays (ours).
        training_subsets: number of times that a training step answers for every encoded patient, each time with other
            modalities hidden (ours). With 1 the model would hardly ever have to answer from one modality alone.
        whole_copies: number of these times in which no modality is hidden (ours).
        embedding_dim: width of the retrieval embeddings.
        num_views: number of echo views.
        max_guidance_tokens: longest task text, question plus learned tokens.
        max_answer_tokens: longest candidate answer plus one.
        layer_norm_eps: epsilon of every layer norm outside the encoders.
        initializer_range: standard deviation of the starting weights that are drawn from a normal distribution.
        tasks: name -> task, see `DEFAULT_TASKS`. Add one with `TgmmModel.add_task`.
        classification_task: the task that `TgmmForSequenceClassification` answers; the first diagnosis task when None.
        answer_token_ids: vocabulary of the response decoder: tokenizer ids of the candidates' tokens. `tokenize_tasks`
            fills it.
        encoder_sources: modality -> {"source", "license", ...} of a pretrained encoder. `TgmmModel.from_encoders` fills
            it. The licences of the encoders bind the whole model.
        weights_fingerprint: fingerprint of the weights that were saved with this configuration, see
            layers/weights_fingerprint.py. `save_pretrained` fills it.
        processor_fingerprint: {"settings": settings of the processor that was saved with the model, "weights": id of
            the weights}. `save_repository` fills it.
    """

    hub_auto_class = "AutoConfig"
    model_type = "tgmm"
    sub_configs_defaults = {  # noqa: RUF012 - transformers reads this class attribute
        "labs_config": SubConfigSpec(AutoConfig, model_type="bert", init_kwargs={"vocab_size": 28996}),
        "ecg_config": SubConfigSpec(StMemConfig),
        "echo_config": SubConfigSpec(EchoMvitConfig),
    }

    labs_config: PreTrainedConfig | dict | None = None
    ecg_config: PreTrainedConfig | dict | None = None
    echo_config: PreTrainedConfig | dict | None = None
    labs_numbers: bool = False
    labs_scales: list | None = None
    hidden_size: int = 768
    num_fusion_tokens: int = 4
    projection_dim: int | None = None
    num_attention_heads: int = 8
    fusion: str = "medflex"
    fusion_preset: str | None = None
    guidance: str = "human+learned"
    response: str = "decoder"
    sstc_in_memory: bool = True
    slot_reading: str = "together"
    shared_slot_gain: float | int | None = None
    length_normalised: bool = False
    drop_path: float | int = 0.1
    feature_dropout: float | int = 0.3
    modality_dropout: float | int = 0.5
    training_subsets: int = 4
    whole_copies: int = 0
    embedding_dim: int = 256
    num_views: int = len(VIEWS)
    max_guidance_tokens: int = 128
    max_answer_tokens: int = 16
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    tasks: dict | None = None
    classification_task: str | None = None
    answer_token_ids: list[int] | None = None
    encoder_sources: dict | None = None
    weights_fingerprint: dict | None = None
    processor_fingerprint: dict | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.labs_config = _foreign_config(self.labs_config, "bert")
        self.ecg_config = _foreign_config(self.ecg_config, StMemConfig.model_type)
        self.echo_config = _foreign_config(self.echo_config, EchoMvitConfig.model_type)
        if self.labs_scales is not None:
            self.set_labs_scales(self.labs_scales)
        tasks: dict[str, Any] = self.tasks or DEFAULT_TASKS
        # A value that is no mapping is left as it is, because `check_task` names it.
        self.tasks = {name: dict(task) if isinstance(task, dict) else task for name, task in tasks.items()}
        self.answer_token_ids = list(self.answer_token_ids or [])
        self._apply_preset()
        self.projection_dim = self.projection_dim or 2 * self.hidden_size
        drop_registered_pipelines(kwargs)
        super().__post_init__(**kwargs)
        check_choice("fusion", self.fusion, FUSIONS)
        check_choice("guidance", self.guidance, ("none", "human", "human+learned"))
        check_choice("response", self.response, ("decoder", "linear"))
        check_choice("slot_reading", self.slot_reading, SLOT_READINGS)
        if not 0 <= self.whole_copies <= self.training_subsets:
            raise ValueError(
                f"whole_copies must lie in 0..training_subsets, got {self.whole_copies} and {self.training_subsets}."
            )
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size must be a multiple of num_attention_heads, got {self.hidden_size} and "
                f"{self.num_attention_heads}."
            )
        for name, task in self.tasks.items():
            check_task(name, task)

    def _apply_preset(self) -> None:
        """Replace the settings that have their default by those of `fusion_preset`, in place."""
        if self.fusion_preset is None:
            return
        check_choice("fusion_preset", self.fusion_preset, tuple(FUSION_PRESETS))
        fields = type(self).__dataclass_fields__
        for name, value in FUSION_PRESETS[self.fusion_preset].items():
            if getattr(self, name) == fields[name].default:
                setattr(self, name, value)

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PreTrainedConfig:
        """Return the configuration of the labs encoder, because the model has its vocabulary. No argument is used."""
        return cast(PreTrainedConfig, self.labs_config)  # `__post_init__` has made it one

    def set_labs_scales(self, scales: list[dict[str, Any]]) -> None:
        """Name the columns of a model that reads lab cells as numbers, in place, see inputs/lab_scales.py."""
        self.labs_scales = list(scales)
        if isinstance(self.labs_config, LabCellsConfig):
            self.labs_config.num_columns = len(self.labs_scales)

    @classmethod
    def tiny(cls, **overrides: Any) -> "TgmmConfig":
        """Configure a small model: 64-pixel clips, ECGs of full length, a two-layer text encoder.

        Every part has well under a million parameters.

        Args:
            overrides: settings that replace the tiny ones. A dict for `labs_config`, `ecg_config` or `echo_config`
                replaces single settings of the tiny encoder. With the `model_type` of another encoder it replaces
                single settings of that encoder's tiny size (`TINY_SIZES`).
        """
        settings: dict[str, Any] = {
            "labs_config": {
                "model_type": "bert",
                "vocab_size": 1024,
                "hidden_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "intermediate_size": 128,
                # Random numbers are a good part of a small step's cost on a CPU. The fusion tokens have a dropout, too.
                "hidden_dropout_prob": 0.0,
                "attention_probs_dropout_prob": 0.0,
            },
            "ecg_config": {
                "hidden_size": 64,
                "num_hidden_layers": 3,
                "num_attention_heads": 4,
                "attention_head_size": 16,
                "intermediate_size": 128,
                "decoder_hidden_size": 64,
                # Before the first layer a hidden patch knows only its place. With one layer it finds no rhythm.
                "decoder_num_hidden_layers": 3,
                "decoder_num_attention_heads": 4,
                "decoder_intermediate_size": 128,
            },
            "echo_config": {
                "image_size": 64,
                "patch_kernel": (3, 12, 12),
                "patch_stride": (2, 8, 8),
                "patch_padding": (1, 2, 2),
                "stage_depths": (1, 1, 2),
                "stage_widths": (16, 32, 64),
                "stage_heads": (1, 2, 4),
                "kv_stride": 2,
                "hidden_size": 64,
                "drop_path_rate": 0.0,
            },
            "hidden_size": 64,
            "num_attention_heads": 4,
            "embedding_dim": 32,
        }
        for key, value in overrides.items():
            if key.endswith("_config") and isinstance(value, dict):
                tiny_type = settings[key].get("model_type", TINY_TYPES.get(key))
                is_other_encoder = value.get("model_type") not in (None, tiny_type)
                sizes = TINY_SIZES.get(value["model_type"], {}) if is_other_encoder else settings[key]
                settings[key] = {**sizes, **value}
            else:
                settings[key] = value
        return cls(**settings)

    def tokenize_tasks(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Write the token ids of every task's question, phrase and candidates into the configuration (in place).

        The ids are in the configuration, because the model has no tokenizer. New tokens are appended to
        `answer_token_ids`, the decoder's vocabulary. Nothing is removed from it, so that the embedding rows of a
        trained model keep their meaning.

        Args:
            tokenizer: the processor's tokenizer.

        Raises:
            ValueError: if a candidate has a token that the tokenizer does not know, or is too long, or two
                candidates of a task have the same tokens.
        """
        for name, task in self.tasks.items():
            task["question_ids"] = _token_ids(tokenizer, task["question"])
            task["phrase_ids"] = _token_ids(tokenizer, task["learnable_phrase"])
            task["candidate_ids"] = [_token_ids(tokenizer, candidate) for candidate in task["candidates"]]
            for candidate, ids in zip(task["candidates"], task["candidate_ids"], strict=True):
                if not ids or tokenizer.unk_token_id in ids:
                    raise ValueError(
                        f"Task {name!r}: the tokenizer has no tokens for candidate {candidate!r} (ids {ids}): "
                        "reword it, or train the tokenizer on the tasks' texts too."
                    )
                if self.response == "decoder" and len(ids) >= self.max_answer_tokens:
                    raise ValueError(
                        f"Task {name!r}: the candidate {candidate!r} has {len(ids)} tokens, and the model takes "
                        f"{self.max_answer_tokens - 1}. Shorten it, or use words of the model's vocabulary."
                    )
            if len({tuple(ids) for ids in task["candidate_ids"]}) != len(task["candidate_ids"]):
                raise ValueError(
                    f"Task {name!r}: two candidates have the same tokens: {task['candidates']} -> "
                    f"{task['candidate_ids']}."
                )
            new = {token for ids in task["candidate_ids"] for token in ids} - set(self.answer_token_ids)
            self.answer_token_ids = [*self.answer_token_ids, *sorted(new)]

    def task_names(self, kind: str) -> list[str]:
        """List the tasks of one kind, one of `KINDS` in configuration_tasks.py."""
        return [name for name, task in self.tasks.items() if task["kind"] == kind]


def encoder_config(source: str | Path) -> PreTrainedConfig:
    """Load the configuration of an encoder, ours or any that `AutoConfig` knows, from a directory or the Hub."""
    settings, _ = PreTrainedConfig.get_config_dict(source)
    return ENCODER_CONFIGS.get(settings.get("model_type", ""), AutoConfig).from_pretrained(source)


def _foreign_config(config: PreTrainedConfig | dict | None, own_type: str) -> Any:
    """Make a configuration from a dict whose `model_type` is not `own_type`. Return anything else as it is."""
    if isinstance(config, dict) and (model_type := config.get("model_type", own_type)) != own_type:
        if model_type in ENCODER_CONFIGS:
            return ENCODER_CONFIGS[model_type](**config)
        return AutoConfig.for_model(**config)
    return config


def _token_ids(tokenizer: Any, text: str) -> list[int]:
    """Return the token ids of a text, without special tokens."""
    return [int(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
