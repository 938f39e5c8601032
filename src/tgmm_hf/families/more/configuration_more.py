"""Configuration of MoRE: an X-ray encoder, an ECG encoder, a text encoder, and the space that they share."""

from typing import Any, cast

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig, ViTConfig
from transformers.configuration_utils import SubConfigSpec

from ...configuration_tasks import check_choice
from ...utils.hub_code import HubCode, drop_registered_pipelines

DROP_KEY_SCHEDULES = ("constant", "linear")
"""How the probability of DropKey changes from the first block to the last."""
TEXT_TRAINING = ("lora", "frozen", "full")
"""What is trained of the text encoder."""


def drop_key_rates(config: Any) -> list[float]:
    """List the probability of DropKey of each block of an encoder.

    Args:
        config: [`MoreXrayConfig`] or [`MoreEcgConfig`].

    Returns:
        One probability for each block: all equal with "constant"; from `drop_key` down to 0 with "linear".
    """
    blocks = config.num_hidden_layers
    if config.drop_key_schedule == "constant" or blocks == 1:
        return [float(config.drop_key)] * blocks
    return [config.drop_key * (1 - block / (blocks - 1)) for block in range(blocks)]


def _check_drop_key(config: Any) -> None:
    """Raise a ValueError if the settings of DropKey have a value that they cannot have."""
    check_choice("drop_key_schedule", config.drop_key_schedule, DROP_KEY_SCHEDULES)
    if not 0 <= config.drop_key < 1:
        raise ValueError(f"drop_key is a probability and must be at least 0 and below 1, got {config.drop_key}.")


@strict
class MoreXrayConfig(ViTConfig):
    """Configuration of the X-ray encoder of MoRE: transformers' ViT-B/16 without biases of query, key and value.

    Args:
        layer_norm_eps: epsilon of the layer norms, as published.
        qkv_bias: biases of query, key and value. The published encoder has none.
        drop_key: probability of DropKey in training, see more_encoders.py.
        drop_key_schedule: "constant" in all blocks (published pre-training), or "linear" from `drop_key` in the first
            block down to 0 in the last (published fine-tuning, with `drop_key=0.2`).
    """

    model_type = "more_xray"

    layer_norm_eps: float = 1e-6
    qkv_bias: bool = False
    drop_key: float | int = 0.3
    drop_key_schedule: str = "constant"

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        _check_drop_key(self)


@strict
class MoreEcgConfig(PreTrainedConfig):
    """Configuration of the ECG encoder of MoRE: the blocks of ViT-B/16 behind two convolutions.

    Args:
        num_leads: number of leads.
        seq_length: number of samples, 10 s at 100 Hz.
        stem_size: channels of the first convolution.
        stem_kernel: width of both convolutions in samples, and the stride of the first.
        hidden_size: width of the tokens.
        num_hidden_layers: number of blocks.
        num_attention_heads: number of heads.
        intermediate_size: inner width of the MLPs.
        hidden_act: activation of the MLPs.
        hidden_dropout_prob: dropout after attention and MLP. The published encoder has none.
        attention_probs_dropout_prob: dropout of the attention weights. The published encoder has none.
        initializer_range: standard deviation of the starting weights.
        layer_norm_eps: epsilon of the layer norms.
        batch_norm_eps: epsilon of the batch norms of the convolutions.
        qkv_bias: biases of query, key and value. The published encoder has none.
        drop_key: see [`MoreXrayConfig`].
        drop_key_schedule: see [`MoreXrayConfig`].
    """

    model_type = "more_ecg"

    num_leads: int = 12
    seq_length: int = 1000
    stem_size: int = 256
    stem_kernel: int = 5
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-6
    batch_norm_eps: float = 1e-5
    qkv_bias: bool = False
    drop_key: float | int = 0.3
    drop_key_schedule: str = "constant"

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        _check_drop_key(self)
        if self.num_patches < 1:
            raise ValueError(
                f"seq_length must give at least one token behind two convolutions of {self.stem_kernel} samples, got "
                f"{self.seq_length} samples. {self.stem_kernel**2} samples give one token."
            )

    @property
    def num_patches(self) -> int:
        """Number of tokens that the convolutions give."""
        return self.seq_length // self.stem_kernel - self.stem_kernel + 1


@strict
class MoreConfig(HubCode, PreTrainedConfig):
    """Configuration of [`MoreModel`] and [`MoreForClassification`]. The defaults are the published sizes.

    Args:
        xray_config: [`MoreXrayConfig`].
        ecg_config: [`MoreEcgConfig`].
        text_config: configuration of any text encoder of transformers; RoBERTa-base by default.
        projection_dim: width of the shared space.
        temperature: the temperature tau of the loss at the start.
        learnable_temperature: train the temperature. The published code declares it and does not train it.
        xray_ecg_loss: also compare X-rays with ECGs (ours). The published loss compares each with the note only.
        mean_over_padding: average the text over padding too, as published. Then the feature of a text depends on its
            padding, so that all texts need the padding of the training. False averages over the tokens (ours).
        text_training: "lora" trains adapters of query and value, and all biases, as published; "frozen" trains nothing
            of the text encoder; "full" trains all of it.
        lora_rank: rank of the adapters.
        lora_alpha: the adapters are multiplied by `lora_alpha / lora_rank`.
        lora_dropout: dropout in front of the adapters.
        batch_norm_eps: epsilon of the batch norms of the projections.
        classifier_dropout: dropout in front of the classifier.
        modality_dropout: chance that a patient with X-ray and ECG shows the classifier only one of the two in training.
        encoder_sources: "text" -> {"source", "license", ...} of a pretrained text encoder, see `MeitConfig`.
        weights_fingerprint: see `TgmmConfig`.
        processor_fingerprint: see `TgmmConfig`.
    """

    hub_auto_class = "AutoConfig"
    model_type = "more"
    attribute_map = {"vision_config": "xray_config"}  # noqa: RUF012 - transformers' name of an image encoder's part
    sub_configs_defaults = {  # noqa: RUF012 - transformers reads this class attribute
        "xray_config": SubConfigSpec(MoreXrayConfig),
        "ecg_config": SubConfigSpec(MoreEcgConfig),
        "text_config": SubConfigSpec(AutoConfig, model_type="roberta"),
    }

    xray_config: PreTrainedConfig | dict | None = None
    ecg_config: PreTrainedConfig | dict | None = None
    text_config: PreTrainedConfig | dict | None = None
    projection_dim: int = 128
    temperature: float | int = 0.02
    learnable_temperature: bool = True
    xray_ecg_loss: bool = False
    mean_over_padding: bool = False
    text_training: str = "lora"
    lora_rank: int = 16
    lora_alpha: float | int = 8
    lora_dropout: float | int = 0.1
    batch_norm_eps: float = 1e-5
    classifier_dropout: float | int = 0.1
    modality_dropout: float | int = 0.3
    initializer_range: float = 0.02
    encoder_sources: dict | None = None
    weights_fingerprint: dict | None = None
    processor_fingerprint: dict | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.text_config is None:
            self.text_config = AutoConfig.for_model("roberta", **ROBERTA_BASE)
        drop_registered_pipelines(kwargs)
        super().__post_init__(**kwargs)
        check_choice("text_training", self.text_training, TEXT_TRAINING)
        text = cast(PreTrainedConfig, self.text_config)
        if getattr(text, "is_encoder_decoder", False):
            raise ValueError(
                f"text_config is a {text.model_type} model, which has a decoder too. MoRE takes one encoder of text, "
                "such as RoBERTa or BERT."
            )
        if self.text_training == "lora" and self.lora_rank < 1:
            raise ValueError(
                f"lora_rank must be at least 1 for text_training='lora', got {self.lora_rank}. Set "
                "text_training='frozen' for no adapters."
            )
        if not self.temperature >= SMALLEST_TEMPERATURE:
            raise ValueError(f"temperature must be at least {SMALLEST_TEMPERATURE}, got {self.temperature}.")
        for name in ("lora_dropout", "classifier_dropout", "modality_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"{name} is a probability and must be at least 0 and below 1, got {getattr(self, name)}."
                )

    @classmethod
    def tiny(cls, **overrides: Any) -> "MoreConfig":
        """Configure a small model for tests: two blocks in each encoder.

        Args:
            overrides: settings that replace the tiny ones.
        """
        blocks = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
        settings: dict[str, Any] = {
            "xray_config": {**blocks, "image_size": 32, "patch_size": 16},
            "ecg_config": {**blocks, "seq_length": 100, "stem_size": 16},
            "text_config": {"model_type": "roberta", **blocks, "vocab_size": 300, "max_position_embeddings": 80},
            "projection_dim": 16,
            "lora_rank": 4,
        }
        return cls(**{**settings, **overrides})


SMALLEST_TEMPERATURE = 0.01
"""A temperature that is trained stays above this, as in CLIP."""
ROBERTA_BASE: dict[str, Any] = {
    "vocab_size": 50265,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}
"""Settings in which RoBERTa-base differs from transformers' defaults."""

__all__ = ["MoreConfig", "MoreEcgConfig", "MoreXrayConfig", "drop_key_rates"]
