"""Configurations of the TGMM model and its own encoders, and the names (leads, views, modalities) everything shares."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""Lead order of every ECG array inside the model (ST-MEM's order)."""

VIEWS = (
    "A2C",
    "A3C",
    "A4C",
    "A5C",
    "Apical_Doppler",
    "Doppler_Parasternal_Long",
    "Doppler_Parasternal_Short",
    "Parasternal_Long",
    "Parasternal_Short",
    "SSN",
    "Subcostal",
)
"""The 11 echo view slots, in the index order of EchoPrime's view classifier."""

MODALITIES = ("labs", "ecg", "echo")
"""t, s, m of the paper, in that order."""

SLOTS = (
    ("labs",),
    ("labs", "ecg"),
    ("ecg",),
    ("ecg", "echo"),
    ("echo",),
    ("labs", "echo"),
    ("labs", "ecg", "echo"),
)
"""The seven slots of Z_all, in the order of paper eq. (8)."""

SUBSETS = (
    ("labs",),
    ("ecg",),
    ("echo",),
    ("labs", "ecg"),
    ("labs", "echo"),
    ("ecg", "echo"),
    ("labs", "ecg", "echo"),
)
"""The seven non-empty modality subsets, in the order of the paper's table 2."""

FUSIONS = ("medflex", "concat", "multisurv", "deepavfusion", "cmta", "textif")
"""MedFlexFusion and the baselines of the paper's table 5."""

DIAGNOSIS_LOSS_WEIGHTS = {"lm": 1.0, "mc": 1.0, "unlikely": 0.5}
PROGNOSIS_LOSS_WEIGHTS = {**DIAGNOSIS_LOSS_WEIGHTS, "dig": 0.5, "cox": 1.0, "margin": 0.5}

DEFAULT_TASKS: dict[str, dict[str, Any]] = {
    "hf_diagnosis": {
        "kind": "diagnosis",
        "question": "Does this patient have heart failure, given the laboratory tests, history, electrocardiogram "
        "and echocardiogram?",
        "candidates": ["no heart failure", "heart failure"],
        "learnable_phrase": "cardiac function congestion natriuretic peptide ejection fraction",
        "num_learnable_tokens": 16,
        "insert_position": 8,
        "weight": 1.0,
        "loss_weights": DIAGNOSIS_LOSS_WEIGHTS,
    },
    "hf_risk": {
        "kind": "prognosis",
        "question": "How high is the risk that this patient, free of heart failure today, develops heart failure?",
        "candidates": ["low risk", "high risk"],
        "learnable_phrase": "future onset risk age renal function hypertension diastolic function",
        "num_learnable_tokens": 16,
        "insert_position": 8,
        "weight": 1.0,
        "loss_weights": PROGNOSIS_LOSS_WEIGHTS,
        "horizon_days": 365.0,
        "report_days": [180.0, 365.0, 730.0],
        "margin": 0.5,
    },
    "retrieval": {
        "kind": "retrieval",
        "question": "Which laboratory tests, electrocardiogram and echocardiogram belong to the same patient?",
        "candidates": [],
        "learnable_phrase": "same patient matching cardiac findings across modalities",
        "num_learnable_tokens": 16,
        "insert_position": 8,
        "weight": 1.0,
        "temperature": 0.1,
    },
}
"""The paper's three tasks. The paper prints no prompts, loss weights, temperature or margin: these are ours."""

TASK_KEYS = {
    "kind",
    "question",
    "candidates",
    "learnable_phrase",
    "num_learnable_tokens",
    "insert_position",
    "weight",
    "loss_weights",
    "horizon_days",
    "report_days",
    "margin",
    "temperature",
    "baselines",
    "question_ids",
    "candidate_ids",
    "phrase_ids",
}


class TgmmTask(dict):
    """A task's settings; `task["candidates"]` and `task.candidates` are the same."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"This task has no {name!r}; it has {sorted(self)}.") from None


@strict
class StMemConfig(PreTrainedConfig):
    """ST-MEM's ViT for 12-lead ECG (Na et al. 2024); the defaults are its base size with patches of 75 samples (300
    ms).

    The `decoder_*` sizes, `mask_ratio` and `norm_pix_loss` (targets standardised patch by patch) are those of
    `StMemForPreTraining` alone; the decoder's heads are as wide as the encoder's, and `decoder_norm_eps` is of its last
    norm alone, as published.
    """

    model_type = "st_mem"
    base_config_key = "ecg_config"

    num_leads: int = 12
    seq_length: int = 2250
    patch_size: int = 75
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    attention_head_size: int = 64
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    decoder_hidden_size: int = 256
    decoder_num_hidden_layers: int = 4
    decoder_num_attention_heads: int = 4
    decoder_intermediate_size: int = 1024
    decoder_norm_eps: float = 1e-6
    mask_ratio: float | int = 0.75
    norm_pix_loss: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.seq_length % self.patch_size:
            raise ValueError(
                f"seq_length must be a multiple of patch_size, got {self.seq_length} and {self.patch_size}: "
                f"use seq_length={self.seq_length // self.patch_size * self.patch_size}."
            )

    @property
    def num_patches(self) -> int:
        """Patches per lead."""
        return self.seq_length // self.patch_size


@strict
class EchoMvitConfig(PreTrainedConfig):
    """MViT-v2 for one echo clip (Li et al. 2022); the defaults are MViT-v2-S, EchoPrime's video trunk.

    Stage ``s`` has ``stage_depths[s]`` blocks of width ``stage_widths[s]``; every stage after the first halves height
    and width. Keys and values are pooled by ``kv_stride`` in the first stage, half as much in each later one.
    ``projection_dim`` is the width of the head of `EchoMvitModelWithProjection` (EchoPrime: 512), which alone has one;
    ``mask_ratio`` is of `EchoMvitForPreTraining` alone.
    """

    model_type = "echo_mvit"
    base_config_key = "echo_config"
    attribute_map = {"num_attention_heads": "stage_heads"}  # noqa: RUF012 - transformers reads this class attribute

    image_size: int = 224
    num_frames: int = 16
    num_channels: int = 3
    patch_kernel: list[int] | tuple[int, ...] = (3, 7, 7)
    patch_stride: list[int] | tuple[int, ...] = (2, 4, 4)
    patch_padding: list[int] | tuple[int, ...] = (1, 3, 3)
    stage_depths: list[int] | tuple[int, ...] = (1, 2, 11, 2)
    stage_widths: list[int] | tuple[int, ...] = (96, 192, 384, 768)
    stage_heads: list[int] | tuple[int, ...] = (1, 2, 4, 8)
    kv_stride: int = 8
    hidden_size: int = 768
    mlp_ratio: int = 4
    hidden_act: str = "gelu"
    drop_path_rate: float | int = 0.2
    layer_norm_eps: float = 1e-6
    initializer_range: float = 0.02
    projection_dim: int = 512
    mask_ratio: float | int = 0.6

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        lengths = {len(self.stage_depths), len(self.stage_widths), len(self.stage_heads)}
        if len(lengths) != 1:
            raise ValueError(
                f"stage_depths, stage_widths and stage_heads must be equally long, got {len(self.stage_depths)}, "
                f"{len(self.stage_widths)} and {len(self.stage_heads)}."
            )
        if self.hidden_size != self.stage_widths[-1]:
            raise ValueError(
                f"hidden_size is the width of the last stage: got {self.hidden_size}, stage_widths ends in "
                f"{self.stage_widths[-1]}."
            )
        for width, heads in zip(self.stage_widths, self.stage_heads, strict=True):
            if width % heads:
                raise ValueError(f"A stage's width must be a multiple of its heads, got {width} and {heads}.")

    @property
    def num_hidden_layers(self) -> int:
        """Blocks over all stages."""
        return sum(self.stage_depths)


@strict
class TgmmConfig(PreTrainedConfig):
    """Configuration of [`TgmmModel`]: three encoders, fusion, guidance, response, and the tasks as data.

    The defaults are the paper's size. `TgmmConfig.tiny()` is the small random-weight model of the tests and the demo.

    Args:
        labs_config: text encoder of the lab table (any `AutoModel` text encoder; BERT-base by default).
        ecg_config: [`StMemConfig`], or any encoder config that declares its input size.
        echo_config: [`EchoMvitConfig`], likewise.
        hidden_size: width d of fusion, guidance and response (paper: 768).
        num_fusion_tokens: N tokens per modality (ours). 1 is the paper's printed form: one vector a modality.
        projection_dim: d_p of P(.) in eq. (3); 2 d when None (ours).
        num_attention_heads: heads of the attention pooling, the guidance encoder and the response decoder.
        fusion: "medflex", or one to compare it with: "concat" | "multisurv" | "deepavfusion" | "cmta" | "textif"
            (table 5, see `baselines_tgmm`).
        guidance: "none" | "human" | "human+learned" (table 6).
        response: "decoder" | "linear" (table 6).
        sstc_in_memory: let the decoder read the encoded task text beside the slots (ours; ablation False).
        length_normalised: divide an answer's log-likelihood by its tokens (ablation; the paper's sum is the default).
        drop_path: p_drop of eq. (9).
        feature_dropout: dropout on the fusion tokens, against overfitting on about a thousand patients (ours).
        modality_dropout: chance of hiding each present modality of a sample in training; one always stays (ours).
        training_subsets: how many draws of that every encoded patient gives in a training step. Fusion costs little
        beside
            the encoders, and with one draw a weaker modality is hardly ever asked alone (ours).
        embedding_dim: D' of the retrieval embeddings.
        num_views: echo view slots.
        max_guidance_tokens: longest task text, question plus learned tokens.
        max_answer_tokens: longest candidate answer plus one.
        tasks: name -> task, see `DEFAULT_TASKS`. Add one with `TgmmModel.add_task`.
        classification_task: the task `TgmmForSequenceClassification` answers; the first diagnosis task when None.
        answer_token_ids: the response decoder's vocabulary, tokenizer ids of the candidates' tokens; filled by
            `tokenize_tasks`.
        encoder_sources: modality -> {"source", "license"} of pretrained encoders; filled by
            `TgmmModel.from_encoders`. Their terms bind the whole model.
    """

    model_type = "tgmm"
    sub_configs_defaults = {  # noqa: RUF012 - transformers reads this class attribute
        "labs_config": SubConfigSpec(AutoConfig, model_type="bert", init_kwargs={"vocab_size": 28996}),
        "ecg_config": SubConfigSpec(StMemConfig),
        "echo_config": SubConfigSpec(EchoMvitConfig),
    }

    labs_config: PreTrainedConfig | dict | None = None
    ecg_config: PreTrainedConfig | dict | None = None
    echo_config: PreTrainedConfig | dict | None = None
    hidden_size: int = 768
    num_fusion_tokens: int = 4
    projection_dim: int | None = None
    num_attention_heads: int = 8
    fusion: str = "medflex"
    guidance: str = "human+learned"
    response: str = "decoder"
    sstc_in_memory: bool = True
    length_normalised: bool = False
    drop_path: float | int = 0.1
    feature_dropout: float | int = 0.3
    modality_dropout: float | int = 0.5
    training_subsets: int = 4
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

    def __post_init__(self, **kwargs: Any) -> None:
        self.ecg_config = _foreign_config(self.ecg_config, StMemConfig.model_type)
        self.echo_config = _foreign_config(self.echo_config, EchoMvitConfig.model_type)
        self.tasks = {name: TgmmTask(task) for name, task in (self.tasks or DEFAULT_TASKS).items()}
        self.answer_token_ids = list(self.answer_token_ids or [])
        self.projection_dim = self.projection_dim or 2 * self.hidden_size
        super().__post_init__(**kwargs)
        _check_choice("fusion", self.fusion, FUSIONS)
        _check_choice("guidance", self.guidance, ("none", "human", "human+learned"))
        _check_choice("response", self.response, ("decoder", "linear"))
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size must be a multiple of num_attention_heads, got {self.hidden_size} and "
                f"{self.num_attention_heads}."
            )
        for name, task in self.tasks.items():
            check_task(name, task)

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PreTrainedConfig:
        """The labs encoder's config: its vocabulary is the model's."""
        return self.labs_config

    @classmethod
    def tiny(cls, **overrides: Any) -> "TgmmConfig":
        """A model of well under a million parameters per part: 64-pixel clips, full-length ECG, a two-layer text
        encoder.

        Keyword arguments replace its settings; `labs_config={...}`, `ecg_config`, `echo_config` are merged into the
        tiny encoders' settings.
        """
        settings: dict[str, Any] = {
            "labs_config": {
                "model_type": "bert",
                "vocab_size": 1024,
                "hidden_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "intermediate_size": 128,
                # Random numbers are a good part of a small step's cost on a CPU; the fusion tokens have their own
                # dropout.
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
                # a hidden patch knows its place alone before the first layer: with one layer it finds no rhythm
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
                settings[key] = {**settings[key], **value}
            else:
                settings[key] = value
        return cls(**settings)

    def tokenize_tasks(self, tokenizer: Any) -> None:
        """Write the token ids of every task's question, phrase and candidates into the config (in place).

        The model has no tokenizer, so the ids travel with its config. The decoder's vocabulary `answer_token_ids` is
        only ever extended, so that the embedding rows of a trained model keep their place.

        Args:
            tokenizer: the processor's tokenizer.

        Raises:
            ValueError: if a candidate answer has a token unknown to the tokenizer, or two candidates read the same.
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
            if len({tuple(ids) for ids in task["candidate_ids"]}) != len(task["candidate_ids"]):
                raise ValueError(
                    f"Task {name!r}: two candidates have the same tokens: {task['candidates']} -> "
                    f"{task['candidate_ids']}."
                )
            known = set(self.answer_token_ids)
            new = sorted({token for ids in task["candidate_ids"] for token in ids} - known)
            self.answer_token_ids = [*self.answer_token_ids, *new]

    def task_names(self, kind: str) -> list[str]:
        """Names of the tasks of one kind: "diagnosis", "prognosis" or "retrieval"."""
        return [name for name, task in self.tasks.items() if task["kind"] == kind]


def check_task(name: str, task: dict[str, Any]) -> None:
    """Refuse a task that cannot be run, naming what is wrong.

    Raises:
        ValueError: on an unknown kind or key, missing texts, fewer than two candidates, or an insert position outside
        the
            learnable content.
    """
    if unknown := set(task) - TASK_KEYS:
        raise ValueError(f"Task {name!r} has unknown keys {sorted(unknown)}; known keys are {sorted(TASK_KEYS)}.")
    if missing := {"kind", "question", "learnable_phrase"} - set(task):
        raise ValueError(f"Task {name!r} lacks {sorted(missing)}.")
    _check_choice(f"kind of task {name!r}", task["kind"], ("diagnosis", "prognosis", "retrieval"))
    candidates = task.setdefault("candidates", [])
    if task["kind"] != "retrieval" and len(candidates) < 2:
        raise ValueError(f"Task {name!r} ({task['kind']}) needs at least two candidate answers, got {candidates}.")
    if task["kind"] == "prognosis" and len(candidates) != 2:
        raise ValueError(f"Task {name!r} is a prognosis: give [low, high] as its two candidates, got {candidates}.")
    if task["kind"] == "prognosis" and "horizon_days" not in task:
        raise ValueError(f"Task {name!r} is a prognosis and needs horizon_days (status at that day trains L_dig).")
    num_learnable = task.setdefault("num_learnable_tokens", 16)
    position = task.setdefault("insert_position", num_learnable // 2)
    if not 0 <= position <= num_learnable:
        raise ValueError(
            f"Task {name!r}: insert_position must lie in 0..num_learnable_tokens, got {position} and {num_learnable}."
        )
    task.setdefault("weight", 1.0)
    if task["kind"] == "retrieval":
        task.setdefault("temperature", 0.1)
        return
    defaults = PROGNOSIS_LOSS_WEIGHTS if task["kind"] == "prognosis" else DIAGNOSIS_LOSS_WEIGHTS
    task["loss_weights"] = {**defaults, **task.get("loss_weights", {})}
    if unknown := set(task["loss_weights"]) - set(defaults):
        raise ValueError(
            f"Task {name!r} has unknown loss weights {sorted(unknown)}; a {task['kind']} takes {sorted(defaults)}."
        )
    if task["kind"] == "prognosis":
        task.setdefault("margin", 0.5)
        task.setdefault("report_days", [task["horizon_days"]])


def encoder_config(source: str | Path) -> PreTrainedConfig:
    """Configuration of an encoder in a directory or Hub repository, ours or any that `AutoConfig` knows."""
    settings, _ = PreTrainedConfig.get_config_dict(source)
    own = {config.model_type: config for config in (StMemConfig, EchoMvitConfig)}
    return own.get(settings.get("model_type", ""), AutoConfig).from_pretrained(source)


def _foreign_config(config: PreTrainedConfig | dict | None, own_type: str) -> Any:
    """A config object for the settings of an encoder that is not ours; anything else as it is."""
    if isinstance(config, dict) and config.get("model_type", own_type) != own_type:
        return AutoConfig.for_model(**config)
    return config


def _check_choice(what: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{what} must be one of {list(choices)}, got {value!r}.")


def _token_ids(tokenizer: Any, text: str) -> list[int]:
    return [int(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]


StMemConfig.register_for_auto_class()
EchoMvitConfig.register_for_auto_class()
TgmmConfig.register_for_auto_class()

__all__ = ["EchoMvitConfig", "StMemConfig", "TgmmConfig"]
