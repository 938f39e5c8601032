"""Heartcare: an ECG as codes and as a picture, read by any causal language model (arXiv 2506.05831).

    Beat, linear layer             windows of an ECG -> quantised latents -> vectors, in time order
    SigLIP, two linear layers      picture of an ECG -> patches -> vectors
    language model                 text, with the vectors in the places of placeholder tokens -> the next token

Notation in shape comments: B rows, n pictures, P patches of a picture, d width of the language model, T tokens.
"""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    Cache,
    GenerationMixin,
    PreTrainedModel,
    SiglipVisionModel,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling, CausalLMOutputWithPast
from transformers.utils import can_return_tuple
from transformers.utils.deprecation import deprecate_kwarg

from ...layers.kept_attention import kept_attention
from ...layers.weights_fingerprint import BoundWeights
from ...utils.hub_code import hub_entry
from ..shared.language_model_part import HasLanguageModel
from ..shared.text_inputs import with_mask_and_positions
from .configuration_heartcare import HeartcareConfig
from .heartcare_parts import load_parts
from .modeling_beat import BeatModel
from .part_names import PARTS

# Nothing here runs the pipeline. The import makes the pipeline's code part of every saved model.
from .pipeline_heartcare import QUESTION_TASK, HeartcarePipeline
from .stream_reading import ReadsStreams

BEAT_ENCODER = ("patch_projection", "position_embeddings", "query_tokens", "encoder")
"""What of Beat can be trained here. The codebooks move in Beat's own training only, and the decoder is not used."""


@dataclass
class HeartcareOutput(CausalLMOutputWithPast):
    """Output of [`HeartcareForConditionalGeneration`]: the output of the language model, and the output of SigLIP.

    Attributes:
        image_outputs: of SigLIP, for the rows that have a picture. None without any. "pooler_output" (n, P, d) are the
            vectors that entered the language model.
    """

    image_outputs: BaseModelOutputWithPooling | None = None


class PictureProjector(nn.Module):
    """Two linear layers with a GELU: patches of a picture (n, P, width) -> vectors (n, P, d).

    Args:
        width: of the patches.
        text_width: d.
    """

    def __init__(self, width: int, text_width: int):
        super().__init__()
        self.linear1 = nn.Linear(width, text_width)
        self.linear2 = nn.Linear(text_width, text_width)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Project patches to the width of the language model."""
        return self.linear2(nn.functional.gelu(self.linear1(patches)))


class HeartcarePreTrainedModel(BoundWeights, PreTrainedModel):
    """Base of Heartcare: saving with the code."""

    config: HeartcareConfig
    base_model_prefix = "heartcare"
    main_input_name = "input_ids"
    input_modalities = ("text", "time", "image")  # type: ignore[assignment] # declared a list; tuples are usual
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = False  # Beat has eager and sdpa only
    _supports_flex_attn = False
    _supports_attention_backend = False
    _keep_in_fp32_modules_strict = ["quantizer"]  # noqa: RUF012 - see `BeatPreTrainedModel`

    def hub_classes(self) -> dict[str, type]:
        """Map the names of Auto classes to the class that they load from the saved directory."""
        model_class = (
            type(self) if isinstance(self, HeartcareForConditionalGeneration) else HeartcareForConditionalGeneration
        )
        return {"AutoModel": model_class, "AutoModelForCausalLM": model_class}

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Save configuration, weights and code, so that `pipeline("ecg-question")` works on the directory."""
        self.config.custom_pipelines = {
            QUESTION_TASK: {"impl": hub_entry(HeartcarePipeline), "pt": [AutoModel.__name__]}
        }
        super().save_pretrained(save_directory, **kwargs)


class HeartcareForConditionalGeneration(ReadsStreams, HasLanguageModel, HeartcarePreTrainedModel, GenerationMixin):
    """A language model that reads an ECG as codes, as a picture, or as both, and answers in words.

    A row of a batch may lack its ECG or its picture. The masks mark such rows. A call without ECG, picture and
    mask is refused, because the language model would have no input to answer about.

    Beat is frozen, and its codebooks never change. `train_only` can make its encoder trainable.

    Args:
        config: sizes, parts and placeholders.
        parts: "beat", "vision_tower" or "language_model" -> module that is used without change. Other parts are built
            from the configuration.
    """

    def __init__(self, config: HeartcareConfig, parts: dict[str, nn.Module] | None = None):
        super().__init__(config)
        modules = parts or {}
        beat: Any = config.beat_config
        vision: Any = config.vision_config
        text: Any = config.text_config
        self.beat: Any = modules.get("beat") or BeatModel._from_config(beat)
        if config.ecg_input == "latents":
            self.ecg_projector = nn.Linear(beat.hidden_size, text.hidden_size)
        self.vision_tower: Any = modules.get("vision_tower") or SiglipVisionModel._from_config(vision)
        self.image_projector = PictureProjector(vision.hidden_size, text.hidden_size)
        self.language_model: Any = modules.get("language_model") or AutoModelForCausalLM.from_config(text)
        self.beat.requires_grad_(False)
        self.post_init()

    @classmethod
    def from_language_model(
        cls,
        text: str | Path,
        beat: str | Path | None = None,
        vision: str | Path | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        gguf_file: str | None = None,
        **settings: Any,
    ) -> "HeartcareForConditionalGeneration":
        """Build a model around a pretrained language model. It has to be trained before it can answer.

        Args:
            text: directory or Hub repository of a causal language model. Its vocabulary is enlarged if it is too small.
            beat: directory or Hub repository of a trained [`BeatModel`]. None starts one with random weights.
            vision: directory or Hub repository of a SigLIP model. None starts a tower with random weights.
            dtype: dtype of the language model's weights. The other parts are in float32.
            gguf_file: name of the weights file in `text`, if it is a GGUF file.
            settings: settings of [`HeartcareConfig`] beside the parts, and `vocab_size`, to which the vocabulary is
                enlarged: what `add_ecg_tokens` returns.

        Raises:
            ValueError: if a part lacks weights, or does not fit the settings.
        """
        parts, described = load_parts(text, beat, vision, dtype, gguf_file)
        language_model: Any = parts["language_model"]
        needed = settings.pop("vocab_size", 0)
        if needed > language_model.get_input_embeddings().num_embeddings:
            language_model.resize_token_embeddings(needed)
        with kept_attention(parts.values()):
            model = cls(HeartcareConfig(**{**described, **settings}), parts)
        model.generation_config = deepcopy(language_model.generation_config)  # its end tokens, for instance
        return model.eval()

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Load a saved model as transformers does, with Beat frozen again. Loading makes every weight trainable."""
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.beat.requires_grad_(False)
        return loaded

    def train(self, mode: bool = True) -> "HeartcareForConditionalGeneration":
        """Set the training mode of all parts but Beat's quantiser, whose codebooks would move."""
        super().train(mode)
        self.beat.quantizer.eval()
        return self

    def train_only(self, *parts: str) -> None:
        """Make the weights of the named parts trainable and freeze all others.

        Args:
            parts: names in `PARTS`. "beat" means its encoder. The second stage of the paper trains "ecg_projector" and
                "image_projector".

        Raises:
            ValueError: if a name is unknown, or the model has no such part.
        """
        model_parts = [part for part in PARTS if hasattr(self, part)]
        if unknown := [part for part in parts if part not in model_parts]:
            raise ValueError(f"The model has no {', '.join(unknown)}; its parts are {', '.join(model_parts)}.")
        for name, weight in self.named_parameters():
            part, inner = name.split(".")[:2]
            weight.requires_grad_(part in parts and (part != "beat" or inner in BEAT_ENCODER))

    @deprecate_kwarg("past_key_values", "5.40.0", new_name="cache")
    @can_return_tuple
    def forward(  # noqa: PLR0913 - transformers reads the inputs from this signature
        self,
        input_ids: torch.Tensor | None = None,
        input_values: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        window_mask: torch.Tensor | None = None,
        image_mask: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> HeartcareOutput:
        r"""Give the logits of the next tokens.

        input_ids, attention_mask (`torch.LongTensor` of shape `(batch_size, sequence_length)`):
            Text with placeholders, padded on either side. With a cache the mask covers the earlier tokens too.
        input_values (`torch.FloatTensor` of shape `(batch_size, windows, 12, samples)`):
            ECGs as the processor makes them, in time order.
        pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, height, width)`):
            Pictures as the processor makes them.
        window_mask (`torch.BoolTensor` of shape `(batch_size, windows)`, *optional*):
            True for a window. A row without any has no ECG. None means that all are there.
        image_mask (`torch.BoolTensor` of shape `(batch_size,)`, *optional*):
            True for a row that has a picture. None means that all have one.
        position_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
            Positions of the tokens. The first token of the text has position 0.
        labels (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
            Target tokens, -100 where no loss is wanted.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give either input_ids or inputs_embeds, and not both.")
        earlier = 0 if cache is None else cache.get_seq_length()
        streams = (input_values, pixel_values, window_mask, image_mask)
        if not earlier and all(stream is None for stream in streams):
            raise ValueError(
                "There is no ECG and no picture: give input_values or pixel_values, as the processor makes them. A "
                "text without both needs window_mask and image_mask that say so."
            )
        text = {"input_ids": input_ids, "inputs_embeds": inputs_embeds}
        text |= {"attention_mask": attention_mask, "position_ids": position_ids}
        if attention_mask is None or attention_mask.ndim == 2:
            text = with_mask_and_positions(text, earlier)
        image_outputs = None
        if not earlier or input_values is not None or pixel_values is not None:
            text["inputs_embeds"], image_outputs = self.with_vectors(text["input_ids"], *streams)
            text["input_ids"] = None
        output = self.language_model(
            **text, cache=cache, labels=labels, use_cache=use_cache, **{**kwargs, "return_dict": True}
        )
        return HeartcareOutput(**output, image_outputs=image_outputs)

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.Tensor,
        next_sequence_length: int | None = None,
        cache: Cache | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Choose the inputs of a step of `generate`, which calls this.

        Args:
            input_ids: (B, T), all tokens so far.
            next_sequence_length: number of tokens that the cache does not hold.
            cache: keys and values so far. If it holds the ECG and the picture, they are not encoded again.
            **kwargs: further inputs.
        """
        inputs = super().prepare_inputs_for_generation(
            input_ids, next_sequence_length=next_sequence_length, cache=cache, **kwargs
        )
        tokens = [token for token in (self.config.ecg_token_id, self.config.image_token_id) if token is not None]
        new, is_continued = inputs.get("input_ids"), cache is not None and cache.get_seq_length() > 0
        if is_continued and new is not None and not torch.isin(new, torch.tensor(tokens, device=new.device)).any():
            return {name: value for name, value in inputs.items() if name not in ("input_values", "pixel_values")}
        return inputs


__all__ = ["HeartcareForConditionalGeneration", "HeartcareOutput", "HeartcarePreTrainedModel"]
