"""MoRE: chest X-ray, ECG and report in one contrastive space (Thapa et al. 2024, arXiv 2410.16239).

    X-ray    (B, 3, height, width) --vision transformer--> class token --projection--> (B, p)
    ECG      (B, 12, samples)      --convolutions, transformer--> class token --projection--> (B, p)
    note     (B, L) tokens         --text encoder with adapters--> mean of tokens --projection--> (B, p)

The note is the anchor of the loss: X-ray and ECG are compared with it, and not with each other.

Notation in shape comments: B patients, L tokens, p width of the shared space.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput, can_return_tuple

from ...encoders.pooling_layer import without_pooler
from ...layers.ecg_projector import init_as_torch
from ...layers.input_shapes import checked_text
from ...layers.kept_attention import kept_attention
from ...layers.low_rank_linear import LowRankLinear, add_low_rank
from ...layers.weights_fingerprint import BoundWeights
from ...utils.hub_code import hub_entry
from ...utils.model_licences import describe_sources
from ..shared.part_loading import load_whole_part
from .configuration_more import SMALLEST_TEMPERATURE, MoreConfig
from .more_encoders import MoreEcgModel, MoreXrayModel
from .more_features import MoreFeatures, present_rows
from .note_contrast import MoreProjection, more_loss, note_keys
from .pipeline_more import PIPELINES


@dataclass
class MoreOutput(ModelOutput):
    """Output of [`MoreModel`]. What the call did not give is None.

    The rows are as given: a zero-shot call may give one X-ray and many texts.

    Attributes:
        loss: with `return_loss=True`.
        logits_per_xray: (X-rays, texts), cosine divided by the temperature. -inf where a mask says that one is missing.
        logits_per_ecg: (ECGs, texts).
        logits_per_xray_ecg: (X-rays, ECGs).
        xray_embeds: (X-rays, p), of length one; zeros for a missing X-ray.
        ecg_embeds: (ECGs, p).
        text_embeds: (texts, p).
    """

    loss: torch.Tensor | None = None
    logits_per_xray: torch.Tensor | None = None
    logits_per_ecg: torch.Tensor | None = None
    logits_per_xray_ecg: torch.Tensor | None = None
    xray_embeds: torch.Tensor | None = None
    ecg_embeds: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None

    @property
    def logits_per_image(self) -> torch.Tensor | None:
        """`logits_per_xray` under the name that transformers' pipelines read."""
        return self.logits_per_xray

    @property
    def logits_per_text(self) -> torch.Tensor | None:
        """(texts, X-rays), as CLIP has it."""
        return None if self.logits_per_xray is None else self.logits_per_xray.T


class MorePreTrainedModel(BoundWeights, PreTrainedModel):
    """Base of MoRE: initial weights, and saving with the code."""

    config: MoreConfig
    base_model_prefix = "more"
    main_input_name = "pixel_values"
    input_modalities = ("image", "time", "text")  # type: ignore[assignment] # declared a list; tuples are usual
    supports_gradient_checkpointing = True
    _no_split_modules = ["ViTEmbeddings", "ViTLayer", "MoreEcgEmbeddings"]  # noqa: RUF012 - read by transformers
    _supports_sdpa = True
    _supports_flash_attn = False  # takes no mask, which DropKey is
    _supports_flex_attn = False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw the starting weights of a module. transformers calls this for every module outside the encoders."""
        if isinstance(module, MoreProjection):
            for linear in (module.linear1, module.linear2):
                init_as_torch(linear)
        elif isinstance(module, MoreModel):
            init.constant_(module.logit_scale, -math.log(self.config.temperature))
            for part in module.text_encoder.modules():
                if isinstance(part, LowRankLinear):
                    part.init_low_rank()
        else:
            super()._init_weights(module)

    def hub_classes(self) -> dict[str, type]:
        """Map the names of Auto classes to the class that they load from the saved directory."""
        return {"AutoModel": type(self) if isinstance(self, MoreModel) else MoreModel}

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Save configuration, weights and code, so that the zero-shot pipelines work on the directory."""
        self.config.custom_pipelines = {
            task: {"impl": hub_entry(pipeline), "pt": [AutoModel.__name__]} for task, pipeline in PIPELINES.items()
        }
        super().save_pretrained(save_directory, **kwargs)

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Load a saved model as transformers does, then freeze again what a file does not call frozen."""
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.choose_trained()
        return loaded

    def choose_trained(self) -> None:
        """Set `requires_grad` of the parts that a model freezes, in place. Here everything is trained."""


class MoreModel(MoreFeatures, MorePreTrainedModel):
    """X-rays, ECGs and texts in one space. A call takes one, two or three of them. Masks mark missing inputs.

    Args:
        config: sizes, encoders and loss.
        text_encoder: a text encoder that is taken as it is, without pooling layer. None builds one from the
            configuration.
    """

    def __init__(self, config: MoreConfig, text_encoder: PreTrainedModel | None = None):
        super().__init__(config)
        xray: Any = config.xray_config
        ecg: Any = config.ecg_config
        text: Any = config.text_config
        self.xray_encoder = MoreXrayModel._from_config(xray)
        self.ecg_encoder = MoreEcgModel._from_config(ecg)
        self.text_encoder: Any = text_encoder or AutoModel.from_config(text, **without_pooler(text))
        width, eps = config.projection_dim, config.batch_norm_eps
        self.xray_projection = MoreProjection(xray.hidden_size, width, eps)
        self.ecg_projection = MoreProjection(ecg.hidden_size, width, eps)
        self.text_projection = MoreProjection(text.hidden_size, width, eps)
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(config.temperature)))
        if config.text_training == "lora":
            add_low_rank(self.text_encoder, config.lora_rank, config.lora_alpha, config.lora_dropout)
        self.post_init()
        self.choose_trained()

    @classmethod
    def from_text_encoder(cls, text: str | Path, *, dtype: torch.dtype = torch.float32, **settings: Any) -> "MoreModel":
        """Build a model around a pretrained text encoder. The other parts start at random, as published.

        Args:
            text: directory or Hub repository of a text encoder.
            dtype: dtype of the text encoder's weights.
            settings: settings of [`MoreConfig`] beside the text encoder.

        Raises:
            ValueError: if the text encoder lacks weights, or has no layers for adapters.
        """
        options = without_pooler(AutoConfig.from_pretrained(text))
        encoder = load_whole_part(AutoModel, text, dtype, **options)
        sources = describe_sources({"text": text})
        with kept_attention([encoder]):
            model = cls(MoreConfig(**{"text_config": encoder.config, "encoder_sources": sources, **settings}), encoder)
        return model.eval()

    def choose_trained(self) -> None:
        """Set `requires_grad` of the text encoder and of the temperature by the configuration, in place.

        With "lora" the adapters and all biases of the text encoder train, as published.
        """
        kind = self.config.text_training
        for name, parameter in self.text_encoder.named_parameters():
            is_light = ".low_rank_" in name or name.endswith("bias")
            parameter.requires_grad_(kind == "full" or (kind == "lora" and is_light))
        self.logit_scale.requires_grad_(self.config.learnable_temperature)

    def parameter_counts(self) -> dict[str, tuple[int, int]]:
        """Count the trained and all parameters of each part: name -> (trained, all)."""
        counts: dict[str, tuple[int, int]] = {}
        for name, parameter in self.named_parameters():
            part = name.split(".")[0]
            trained, total = counts.get(part, (0, 0))
            size = parameter.numel()
            counts[part] = (trained + size * parameter.requires_grad, total + size)
        return counts

    @property
    def temperature(self) -> torch.Tensor:
        """The temperature tau of the loss, by which cosines are divided; at least `SMALLEST_TEMPERATURE`."""
        return self.logit_scale.neg().exp().clamp(min=SMALLEST_TEMPERATURE)

    def get_input_embeddings(self) -> nn.Module:
        """Return the word embeddings of the text encoder."""
        return self.text_encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the word embeddings of the text encoder by `value`, in place."""
        self.text_encoder.set_input_embeddings(value)

    @can_return_tuple
    def forward(  # noqa: PLR0913 - transformers reads the inputs from this signature
        self,
        pixel_values: torch.Tensor | None = None,
        input_values: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        xray_mask: torch.Tensor | None = None,
        ecg_mask: torch.Tensor | None = None,
        return_loss: bool | None = None,
        **kwargs: Any,
    ) -> MoreOutput:
        r"""Compare X-rays, ECGs and texts.

        pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, height, width)`, *optional*):
            X-rays as the processor makes them.
        input_values (`torch.FloatTensor` of shape `(batch_size, 12, samples)`, *optional*):
            ECGs as the processor makes them.
        input_ids, attention_mask (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
            Texts. A text without any token is missing.
        xray_mask (`torch.BoolTensor` of shape `(batch_size,)`, *optional*):
            True for a patient with an X-ray. None for all. Values with mask False are never read.
        ecg_mask (`torch.BoolTensor` of shape `(batch_size,)`, *optional*):
            True for a patient with an ECG.
        return_loss (`bool`, *optional*):
            Also compute the loss. Then row i of everything belongs to patient i.
        """
        embeds, present = self._embed(
            pixel_values, input_values, input_ids, attention_mask, xray_mask, ecg_mask, kwargs
        )
        output = MoreOutput(**{f"{name}_embeds": value for name, value in embeds.items()})
        for name, first, second in (
            ("logits_per_xray", "xray", "text"),
            ("logits_per_ecg", "ecg", "text"),
            ("logits_per_xray_ecg", "xray", "ecg"),
        ):
            if first in embeds and second in embeds:
                logits = embeds[first] @ embeds[second].T / self.temperature
                output[name] = logits.masked_fill(~(present[first][:, None] & present[second]), -torch.inf)
        if return_loss:
            output.loss = self._loss(embeds, present, input_ids, attention_mask)
        return output

    def _embed(  # noqa: PLR0913 - the arguments of `forward`
        self,
        pixel_values: torch.Tensor | None,
        input_values: torch.Tensor | None,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        xray_mask: torch.Tensor | None,
        ecg_mask: torch.Tensor | None,
        options: dict[str, Any],
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Encode what is given: names "xray", "ecg", "text" -> embeddings (B, p), and who has it (B,) bool."""
        if pixel_values is None and input_values is None and input_ids is None:
            raise ValueError("Nothing given: pass pixel_values (X-rays), input_values (ECGs) or input_ids (texts).")
        features: dict[str, torch.Tensor] = {}
        present: dict[str, torch.Tensor] = {}
        if pixel_values is not None:
            present["xray"] = present_rows(pixel_values, xray_mask, "xray_mask")
            features["xray"] = self.features_of(self.get_xray_features, (pixel_values,), present["xray"], options)
        if input_values is not None:
            present["ecg"] = present_rows(input_values, ecg_mask, "ecg_mask")
            features["ecg"] = self.features_of(self.get_ecg_features, (input_values,), present["ecg"], options)
        if input_ids is not None:
            _, mask = checked_text(input_ids, attention_mask, self.config.text_config)
            present["text"] = mask.bool().any(1)
            features["text"] = self.features_of(self.get_text_features, (input_ids, mask), present["text"], options)
        return {name: nn.functional.normalize(value, dim=-1) for name, value in features.items()}, present

    def _loss(
        self,
        embeds: dict[str, torch.Tensor],
        present: dict[str, torch.Tensor],
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """Compute the loss over the patients of all processes. A modality that was not given is missing for all."""
        sizes = {name: len(value) for name, value in embeds.items()}
        if input_ids is None or len(set(sizes.values())) != 1:
            raise ValueError(
                f"The loss compares notes with X-rays and ECGs of the same patients, got {sizes} rows. Give "
                "input_ids, and mask what a patient lacks."
            )
        absent = torch.zeros_like(present["text"])
        for name in ("xray", "ecg"):
            present = {name: absent, **present}
            embeds = {name: torch.zeros_like(embeds["text"]), **embeds}
        ids, mask = checked_text(input_ids, attention_mask, self.config.text_config)
        return more_loss(embeds, present, note_keys(ids, mask), self.temperature, self.config.xray_ecg_loss)


__all__ = ["MoreModel", "MoreOutput", "MorePreTrainedModel"]
