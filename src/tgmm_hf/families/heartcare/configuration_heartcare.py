"""Configuration of Heartcare: an ECG tokenizer, a picture encoder and a language model."""

from typing import Any, cast

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig, SiglipVisionConfig
from transformers.configuration_utils import SubConfigSpec

from ...configuration_tasks import check_choice
from ...utils.hub_code import HubCode, drop_registered_pipelines
from .configuration_beat import BeatConfig

ECG_INPUTS = ("latents", "codes")
"""What of an ECG enters the language model. "latents" is the paper's."""


@strict
class HeartcareConfig(HubCode, PreTrainedConfig):
    """Configuration of [`HeartcareForConditionalGeneration`].

    Args:
        beat_config: [`BeatConfig`] of the ECG tokenizer.
        vision_config: `SiglipVisionConfig` of the picture encoder. Its pooling head is left out, because every patch
            enters the language model.
        text_config: configuration of any causal language model of transformers; a small Llama by default.
        ecg_input: "latents" (paper): Beat's quantised latents, through a linear layer. "codes" (the public prototype's
            way): each code is a word of the language model. The prototype takes the core codes only. This model
            takes all levels.
        ecg_token_id: id of the placeholder token of an ECG.
        image_token_id: id of the placeholder token of a picture.
        ecg_code_token_id: id of the word of the first code, with `ecg_input="codes"`. The words of all codes of the
            first level follow, then the words of the next level.
        encoder_sources: "text", "beat" or "vision" -> {"source", "license", ...} of a pretrained part.
            `from_language_model` fills it. The licences bind the whole model.
        weights_fingerprint: see `TgmmConfig`.
        processor_fingerprint: see `TgmmConfig`.
    """

    hub_auto_class = "AutoConfig"
    model_type = "heartcare"
    sub_configs_defaults = {  # noqa: RUF012 - transformers reads this class attribute
        "beat_config": SubConfigSpec(BeatConfig),
        "vision_config": SubConfigSpec(SiglipVisionConfig),
        "text_config": SubConfigSpec(AutoConfig, model_type="llama"),
    }

    beat_config: PreTrainedConfig | dict | None = None
    vision_config: PreTrainedConfig | dict | None = None
    text_config: PreTrainedConfig | dict | None = None
    ecg_input: str = "latents"
    ecg_token_id: int | None = None
    image_token_id: int | None = None
    ecg_code_token_id: int | None = None
    encoder_sources: dict | None = None
    weights_fingerprint: dict | None = None
    processor_fingerprint: dict | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if isinstance(self.beat_config, dict):
            self.beat_config = BeatConfig(**self.beat_config)
        drop_registered_pipelines(kwargs)
        super().__post_init__(**kwargs)
        check_choice("ecg_input", self.ecg_input, ECG_INPUTS)
        cast(Any, self.vision_config).vision_use_head = False
        text: Any = self.text_config
        if getattr(text, "is_encoder_decoder", False):
            raise ValueError(
                f"text_config is a {text.model_type} model, which has an encoder of its own. Heartcare takes a causal "
                "language model, such as Phi-3, Qwen2 or Llama."
            )
        self._check_tokens(text.vocab_size)

    def _check_tokens(self, vocab_size: int) -> None:
        """Raise a ValueError if two tokens are the same, or one is not in the vocabulary."""
        ids = [number for number in (self.ecg_token_id, self.image_token_id) if number is not None]
        if len(set(ids)) < len(ids):
            raise ValueError(f"ecg_token_id and image_token_id must differ, both are {ids[0]}.")
        last = max(ids, default=0)
        if self.ecg_input == "codes" and self.ecg_code_token_id is not None:
            codes = range(self.ecg_code_token_id, self.ecg_code_token_id + self.num_code_tokens)
            if any(number in codes for number in ids):
                raise ValueError(
                    f"ecg_token_id {self.ecg_token_id} and image_token_id {self.image_token_id} must lie outside the "
                    f"tokens of the codes, {codes.start} to {codes.stop - 1}."
                )
            last = max(last, codes.stop - 1)
        if last >= vocab_size:
            raise ValueError(
                f"text_config.vocab_size is {vocab_size}, and the placeholders and codes need the ids up to {last}. "
                "Resize the embeddings of the language model first: resize_token_embeddings."
            )

    @property
    def num_ecg_tokens(self) -> int:
        """Number of tokens that a window of an ECG takes in the text."""
        beat = cast(BeatConfig, self.beat_config)
        assert beat.num_queries is not None  # the configuration has filled it
        return beat.num_queries * (beat.num_levels if self.ecg_input == "codes" else 1)

    @property
    def num_code_tokens(self) -> int:
        """Number of words of the language model that stand for codes, with `ecg_input="codes"`."""
        beat = cast(BeatConfig, self.beat_config)
        return beat.codebook_size * (1 if beat.shared_codebook else beat.num_levels)

    @property
    def num_image_tokens(self) -> int:
        """Number of tokens that a picture takes in the text."""
        vision: Any = self.vision_config
        return int(vision.image_size // vision.patch_size) ** 2

    @classmethod
    def tiny(cls, **overrides: Any) -> "HeartcareConfig":
        """Configure a small model for tests: Beat, SigLIP and Llama of one or two layers.

        Args:
            overrides: settings that replace the tiny ones.
        """
        settings: dict[str, Any] = {
            "beat_config": {
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "attention_head_size": 8,
                "intermediate_size": 32,
                "num_queries": 10,
                "codebook_size": 12,
            },
            "vision_config": {
                "hidden_size": 16,
                "intermediate_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 48,
                "patch_size": 16,
            },
            "text_config": {
                "model_type": "llama",
                "vocab_size": 320,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
            },
            "ecg_token_id": 300,
            "image_token_id": 301,
        }
        return cls(**{**settings, **overrides})


__all__ = ["ECG_INPUTS", "HeartcareConfig"]
