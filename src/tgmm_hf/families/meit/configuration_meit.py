"""Configuration of MEIT: an ECG encoder, a language model, and how the ECG enters the language model."""

from typing import Any, cast

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from ...configuration_tasks import check_choice
from ...encoders.configuration_ecg_resnet import EcgResNetConfig
from ...encoders.configuration_st_mem import StMemConfig
from ...utils.hub_code import HubCode, drop_registered_pipelines

FUSIONS = ("prefix", "tokens", "cross_attention")
"""How the ECG enters the language model. "prefix" is the paper's."""
ECG_CONFIGS: dict[str, type[PreTrainedConfig]] = {
    config.model_type: config for config in (EcgResNetConfig, StMemConfig)
}
"""`model_type` -> configuration of the ECG encoders that MEIT reads."""


@strict
class MeitConfig(HubCode, PreTrainedConfig):
    """Configuration of [`MeitForConditionalGeneration`].

    Args:
        ecg_config: [`EcgResNetConfig`] (the published encoder) or [`StMemConfig`].
        text_config: configuration of any causal language model of transformers; a small Llama by default.
        fusion: "prefix" (paper): the ECG vectors are keys and values of every layer, before the text. "tokens": they
            stand in place of placeholder tokens in the text (as in LLaVA). "cross_attention": new layers with a gate
            let the text attend to them (as in Flamingo).
        num_ecg_vectors: K, number of vectors of an ECG. The paper has one, the mean over time. With K > 1 each vector
            is the mean of one of K parts of the recording (ours).
        projection_dim: width of the projected vectors. It divides the width of the language model, and a vector is
            repeated to fill that width. None takes the size of an attention head for "prefix" (paper), and the width of
            the language model for the other fusions.
        projector_norm: batch norms in the projector. The published projector for GPT-NeoX has none.
        ecg_token_id: id of the placeholder token of the fusion "tokens".
        initializer_range: standard deviation of the starting weights of the cross-attention layers.
        encoder_sources: "text" or "ecg" -> {"source", "license", ...} of a pretrained part.
            `from_language_model` fills it. The licences bind the whole model.
        weights_fingerprint: see `TgmmConfig`.
        processor_fingerprint: see `TgmmConfig`.
    """

    hub_auto_class = "AutoConfig"
    model_type = "meit"
    sub_configs_defaults = {  # noqa: RUF012 - transformers reads this class attribute
        "ecg_config": SubConfigSpec(EcgResNetConfig),
        "text_config": SubConfigSpec(AutoConfig, model_type="llama"),
    }

    ecg_config: PreTrainedConfig | dict | None = None
    text_config: PreTrainedConfig | dict | None = None
    fusion: str = "prefix"
    num_ecg_vectors: int = 1
    projection_dim: int | None = None
    projector_norm: bool = True
    ecg_token_id: int | None = None
    initializer_range: float = 0.02
    encoder_sources: dict | None = None
    weights_fingerprint: dict | None = None
    processor_fingerprint: dict | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if isinstance(self.ecg_config, dict):
            model_type = self.ecg_config.get("model_type", EcgResNetConfig.model_type)
            check_choice("ecg_config.model_type", model_type, tuple(ECG_CONFIGS))
            self.ecg_config = ECG_CONFIGS[model_type](**self.ecg_config)
        drop_registered_pipelines(kwargs)
        super().__post_init__(**kwargs)
        check_choice("fusion", self.fusion, FUSIONS)
        text = cast(PreTrainedConfig, self.text_config)
        if getattr(text, "is_encoder_decoder", False):
            raise ValueError(
                f"text_config is a {text.model_type} model, which has an encoder of its own. MEIT takes a causal "
                "language model, such as Llama, Mistral or GPT-2."
            )
        if self.projection_dim is None:
            parts = text.num_attention_heads if self.fusion == "prefix" else 1
            self.projection_dim = text.hidden_size // parts
        if text.hidden_size % self.projection_dim:
            raise ValueError(
                f"projection_dim must divide the width of the language model, got {self.projection_dim} and "
                f"{text.hidden_size}."
            )
        if not 1 <= self.num_ecg_vectors <= self.num_ecg_frames:
            raise ValueError(
                f"num_ecg_vectors must be 1 to {self.num_ecg_frames}, the time steps of the ECG encoder, got "
                f"{self.num_ecg_vectors}."
            )

    @property
    def num_ecg_frames(self) -> int:
        """Number of time steps that the ECG encoder gives."""
        ecg: Any = self.ecg_config
        return int(ecg.num_patches if ecg.model_type == StMemConfig.model_type else ecg.num_frames)

    @classmethod
    def tiny(cls, **overrides: Any) -> "MeitConfig":
        """Configure a small model for tests: an ECG encoder of two stages, and a Llama of two layers.

        Args:
            overrides: settings that replace the tiny ones.
        """
        settings: dict[str, Any] = {
            "ecg_config": {"embedding_size": 8, "stage_depths": (1, 1), "stage_widths": (8, 16)},
            "text_config": {
                "model_type": "llama",
                "vocab_size": 300,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
            },
        }
        return cls(**{**settings, **overrides})


__all__ = ["FUSIONS", "MeitConfig"]
