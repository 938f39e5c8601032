"""MEIT: ECG encoder, projector, and any causal language model that writes a report (Wan et al. 2024, arXiv 2403.04945).

    ECG encoder, projector     (batch, 12, samples) -> K unit vectors
    fusion                     the vectors enter the language model in one of three ways (the paper's: ecg_prefix.py)
    language model             text and vectors -> the next token

Notation in shape comments: B ECGs, K vectors of an ECG, p their width, d width of the language model, T tokens.
"""

from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, Cache, DynamicCache, GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import can_return_tuple
from transformers.utils.deprecation import deprecate_kwarg

from ...encoders.modeling_ecg_resnet import EcgResNetModel
from ...encoders.modeling_st_mem import StMemModel
from ...layers.ecg_projector import EcgProjector, init_as_torch
from ...layers.kept_attention import kept_attention
from ...layers.weights_fingerprint import BoundWeights
from ...utils.hub_code import hub_entry
from ..shared.language_model_part import HasLanguageModel
from .configuration_meit import MeitConfig
from .ecg_fusing import FusesEcg
from .ecg_prefix import decoder_layers, prepare_language_model
from .gated_cross_attention import CrossAttentionLayers, GatedCrossAttention

# Nothing here runs the pipeline. The import makes the pipeline's code part of every saved model.
from .pipeline_meit import PIPELINE_TASK, MeitReportPipeline
from .pretrained_parts import load_parts

ENCODERS: dict[str, Any] = {"ecg_resnet": EcgResNetModel, "st_mem": StMemModel}


@dataclass
class MeitOutput(CausalLMOutputWithPast):
    """Output of [`MeitForConditionalGeneration`]: that of the language model, and the ECG vectors.

    Attributes:
        ecg_features: (B, K, p), of length one. None if the cache already held the ECG.
    """

    ecg_features: torch.FloatTensor | None = None


class MeitPreTrainedModel(BoundWeights, PreTrainedModel):
    """Base of MEIT: initial weights, and saving with the code."""

    config: MeitConfig
    base_model_prefix = "meit"
    main_input_name = "input_ids"
    input_modalities = ("text", "time")  # type: ignore[assignment] # declared a list; tuples are usual
    supports_gradient_checkpointing = False  # the layers would drop the cache, which holds the ECG
    _no_split_modules = ["GatedCrossAttention"]  # noqa: RUF012 - read by transformers
    _supports_sdpa = True
    _supports_flash_attn = False  # only eager and sdpa were compared with the formula
    _supports_flex_attn = False
    _supports_attention_backend = False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw the starting weights of a module. transformers calls this for every module, inner modules first."""
        if isinstance(module, EcgProjector):
            for linear in (module.linear1, module.linear2):
                init_as_torch(linear)
        elif isinstance(module, GatedCrossAttention):
            init.zeros_(module.gates)
        else:
            super()._init_weights(module)

    def hub_classes(self) -> dict[str, type]:
        """Map the names of Auto classes to the class that they load from the saved directory."""
        model_class = type(self) if isinstance(self, MeitForConditionalGeneration) else MeitForConditionalGeneration
        return {"AutoModel": model_class, "AutoModelForCausalLM": model_class}

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Save configuration, weights and code, so that `pipeline("ecg-report")` works on the directory."""
        self.config.custom_pipelines = {
            PIPELINE_TASK: {"impl": hub_entry(MeitReportPipeline), "pt": [AutoModel.__name__]}
        }
        super().save_pretrained(save_directory, **kwargs)


class MeitForConditionalGeneration(FusesEcg, HasLanguageModel, MeitPreTrainedModel, GenerationMixin):
    """A language model that reads an ECG beside its text and writes a report.

    Every call needs an ECG. Without one the language model would write a report about nothing.

    Args:
        config: sizes, encoder, language model and fusion.
        parts: "language_model", "ecg_encoder" or "projector" -> module that is taken as it is. The others are built
            from the configuration.
    """

    def __init__(self, config: MeitConfig, parts: dict[str, nn.Module] | None = None):
        super().__init__(config)
        given = parts or {}
        ecg: Any = config.ecg_config
        text: Any = config.text_config
        assert config.projection_dim is not None  # the configuration has filled it
        self.ecg_encoder: Any = given.get("ecg_encoder") or ENCODERS[ecg.model_type]._from_config(ecg)
        self.projector = given.get("projector") or EcgProjector(
            ecg.hidden_size, config.projection_dim, config.projector_norm
        )
        self.language_model: Any = given.get("language_model") or AutoModelForCausalLM.from_config(text)
        if config.fusion == "prefix":
            prepare_language_model(self.language_model, config.num_ecg_vectors)
        elif config.fusion == "cross_attention":
            self.cross_attention = CrossAttentionLayers(text, decoder_layers(self.language_model))
        self.post_init()

    @classmethod
    def from_language_model(
        cls,
        text: str | Path,
        ecg: str | Path | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        gguf_file: str | None = None,
        **settings: Any,
    ) -> "MeitForConditionalGeneration":
        """Build a model around a pretrained language model. It has to be trained before it can report.

        Args:
            text: directory or Hub repository of a causal language model.
            ecg: directory or Hub repository of an ECG encoder: of `tgmm convert meit`, whose projector is taken too, of
                `tgmm convert st-mem` or `tgmm pretrain`. None starts the published encoder with random weights, as the
                paper does.
            dtype: dtype of the language model's weights. The other parts are in float32.
            gguf_file: name of the weights file in `text`, if it is a GGUF file.
            settings: settings of [`MeitConfig`] beside the two parts.

        Raises:
            ValueError: if a part lacks weights, or does not fit the settings.
        """
        parts, described = load_parts(text, ecg, dtype, gguf_file)
        with kept_attention(parts.values()):
            model = cls(MeitConfig(**{**described, **settings}), parts)
        model.generation_config = deepcopy(model.language_model.generation_config)  # its end tokens, for instance
        return model.eval()

    def get_ecg_features(self, input_values: torch.Tensor) -> torch.Tensor:
        """Encode ECGs (B, 12, samples), as the processor makes them, to K unit vectors each: (B, K, p)."""
        values = input_values.to(dtype=self.ecg_encoder.dtype)
        frames = self.ecg_encoder(values, return_dict=True).last_hidden_state  # (B, frames, width)
        if self.config.ecg_config.model_type == StMemModel.config_class.model_type:  # type: ignore[union-attr]
            frames = frames.unflatten(1, (values.shape[1], -1)).mean(1)  # lead after lead -> mean of the leads
        parts = nn.functional.adaptive_avg_pool1d(frames.transpose(1, 2), self.config.num_ecg_vectors)
        return self.projector(parts.transpose(1, 2))

    @deprecate_kwarg("past_key_values", "5.40.0", new_name="cache")
    @can_return_tuple
    def forward(  # noqa: PLR0913 - transformers reads the inputs from this signature
        self,
        input_ids: torch.Tensor | None = None,
        input_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        ecg_features: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> MeitOutput:
        r"""Give the logits of the next tokens.

        input_ids, attention_mask (`torch.LongTensor` of shape `(batch_size, sequence_length)`):
            Text, padded on either side. With a cache the mask covers the earlier tokens too. It never covers the ECG.
        input_values (`torch.FloatTensor` of shape `(batch_size, 12, 5000)`):
            ECGs as the processor makes them.
        position_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
            Positions of the tokens. The first token of the text has position 0.
        labels (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
            Target tokens, -100 where no loss is wanted.
        ecg_features (`torch.FloatTensor` of shape `(batch_size, num_ecg_vectors, projection_dim)`, *optional*):
            The result of `get_ecg_features`, in place of `input_values`.
        """
        if ecg_features is None and input_values is not None:
            ecg_features = self.get_ecg_features(input_values)
        embeds = inputs_embeds if input_ids is None else input_ids
        if embeds is None or (inputs_embeds is not None and input_ids is not None):
            raise ValueError("Give either input_ids or inputs_embeds, and not both.")
        vectors = self.fill_width(ecg_features, embeds)
        text = {"input_ids": input_ids, "inputs_embeds": inputs_embeds}
        text |= {"attention_mask": attention_mask, "position_ids": position_ids}
        use_cache = bool(getattr(self.config.text_config, "use_cache", True)) if use_cache is None else use_cache
        if cache is None and (use_cache or self.config.fusion == "prefix"):
            cache = DynamicCache(config=self.config.get_text_config())
        text = self.fuse(text, cache, vectors)
        attending: Any = nullcontext()
        if vectors is not None and self.config.fusion == "cross_attention":
            attending = self.cross_attention.attending_to(vectors)
        with attending:
            output = self.language_model(
                **text, cache=cache, labels=labels, use_cache=use_cache, **{**kwargs, "return_dict": True}
            )
        return MeitOutput(
            loss=output.loss,
            logits=output.logits,
            cache=output.cache if use_cache else None,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
            ecg_features=ecg_features,  # type: ignore[arg-type]
        )

    @torch.no_grad()
    def generate(
        self,
        inputs: torch.Tensor | None = None,
        *args: Any,
        input_values: torch.Tensor | None = None,
        ecg_features: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Write reports. The ECG is encoded once, whatever the number of beams or samples.

        Args:
            inputs: (B, T) token ids of the prompts; also `input_ids=`.
            *args: as transformers' `generate` takes them.
            input_values: (B, 12, samples), ECGs as the processor makes them.
            ecg_features: result of `get_ecg_features`, in place of `input_values`.
            **kwargs: as transformers' `generate` takes them.

        Raises:
            ValueError: if a second model or a look-up in the prompt proposes tokens, because these cut the cache by the
                number of tokens and would cut the ECG off.
        """
        settings = kwargs.get("generation_config") or self.generation_config
        for name in ("assistant_model", "prompt_lookup_num_tokens", "assistant_early_exit"):
            if kwargs.get(name) is not None or getattr(settings, name, None) is not None:
                raise ValueError(
                    f"{name} cannot be used, because it cuts the cache, which holds the ECG. Leave it out."
                )
        if ecg_features is None and input_values is not None:
            ecg_features = self.get_ecg_features(input_values.to(self.device))
        return super().generate(inputs, *args, ecg_features=ecg_features, **kwargs)

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
            next_sequence_length: number of tokens that the cache does not hold. When `generate` goes on from a cache,
                it has counted the ECG as text.
            cache: keys and values so far.
            **kwargs: further inputs.
        """
        counted = kwargs.get("is_first_iteration") and cache is not None and cache.get_seq_length() > 0
        if next_sequence_length is not None and counted and self.config.fusion == "prefix":
            next_sequence_length += self.config.num_ecg_vectors
        return super().prepare_inputs_for_generation(
            input_ids, next_sequence_length=next_sequence_length, cache=cache, **kwargs
        )


__all__ = ["MeitForConditionalGeneration", "MeitOutput", "MeitPreTrainedModel"]
