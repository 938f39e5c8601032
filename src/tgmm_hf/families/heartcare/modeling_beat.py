"""Beat, the ECG tokenizer of Heartcare: a window of 12 leads <-> a few codes (arXiv 2506.05831).

    patches, query tokens      (batch, 12, samples) -> tokens; the encoder fills the query tokens: the latents
    residual quantiser         latents -> codes of two levels, core and residual -> quantised latents
    decoder                    positions and quantised latents -> the window again
    prediction                 latents -> the second after the window

This file holds the model. No trained weights are published; training/train_beat.py trains it.

Notation in shape comments: B ECGs, P patches, Q query tokens, L levels, d width.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from ...layers.ecg_projector import init_as_torch
from ...layers.finite_inputs import refuse_not_finite
from ...layers.input_shapes import check_values, may_look
from ...layers.weights_fingerprint import BoundWeights
from .beat_transformer import BeatAttention, BeatLayer, BeatTransformer, cut_patches, join_patches
from .configuration_beat import BeatConfig
from .vector_quantizer import Codebook, ResidualVectorQuantizer, code_usage


@dataclass
class BeatOutput(ModelOutput):
    """Output of [`BeatModel`].

    Attributes:
        loss: weighted sum of the three losses. The losses are None without `next_values`.
        reconstruction: (B, leads, seq_length), the window from its codes.
        prediction: (B, leads, prediction_length), what follows the window, from the latents.
        codes: (B, Q, L) int64.
        latents: (B, Q, d), before the quantiser.
        quantized_latents: (B, Q, d), sums of the vectors of the codes.
        reconstruction_loss: mean squared error of the reconstruction.
        prediction_loss: mean squared error of the prediction.
        quantization_loss: mean squared distance of the latents from the quantised latents.
        hidden_states: of the encoder, each (B, P + Q, d).
        attentions: of the encoder, each (B, heads, P + Q, P + Q).
    """

    loss: torch.Tensor | None = None
    reconstruction: torch.Tensor | None = None
    prediction: torch.Tensor | None = None
    codes: torch.Tensor | None = None
    latents: torch.Tensor | None = None
    quantized_latents: torch.Tensor | None = None
    reconstruction_loss: torch.Tensor | None = None
    prediction_loss: torch.Tensor | None = None
    quantization_loss: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class BeatPreTrainedModel(BoundWeights, PreTrainedModel):
    """Base of Beat: initial weights, and saving with the code."""

    config: BeatConfig
    base_model_prefix = "beat"
    main_input_name = "input_values"
    input_modalities = ("time",)  # type: ignore[assignment] # declared a list; tuples are usual
    supports_gradient_checkpointing = True
    _no_split_modules = ["BeatLayer"]  # noqa: RUF012 - read by transformers
    _keep_in_fp32_modules_strict = ["quantizer"]  # noqa: RUF012 - moving averages stand still in half precision
    _supports_sdpa = True
    _supports_flash_attn = False  # only eager and sdpa were compared
    _supports_flex_attn = False
    # Of the encoder only, because the decoder's layers are of the same class.
    _can_record_outputs = {  # noqa: RUF012 - read by transformers
        "hidden_states": OutputRecorder(BeatLayer, layer_name="encoder"),
        "attentions": OutputRecorder(BeatAttention, index=1, layer_name="encoder"),
    }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw the starting weights of a module. transformers calls this for every module."""
        if isinstance(module, nn.Linear):
            init_as_torch(module)
        elif isinstance(module, Codebook):
            bound = 1 / len(module.vectors)
            init.uniform_(module.vectors, -bound, bound)
            init.zeros_(module.counts)
            init.zeros_(module.sums)
        elif isinstance(module, BeatModel):
            init.normal_(module.position_embeddings, std=self.config.initializer_range)
            init.normal_(module.query_tokens, std=self.config.initializer_range)
        else:
            super()._init_weights(module)

    def hub_classes(self) -> dict[str, type]:
        """Map the name of the Auto class to the class that it loads from the saved directory."""
        return {"AutoModel": type(self) if isinstance(self, BeatModel) else BeatModel}


class BeatModel(BeatPreTrainedModel):
    """ECG tokenizer: `encode` gives codes, `decode` gives the ECG of codes.

    `encode`, and `forward` in evaluation mode, leave the codebooks as they are. `forward` in training mode moves them,
    as a batch norm moves its running statistics.
    """

    def __init__(self, config: BeatConfig):
        super().__init__(config)
        assert config.num_queries is not None  # the configuration has filled it
        width, patch_width = config.hidden_size, config.num_leads * config.patch_size
        self.patch_projection = nn.Linear(patch_width, width)
        self.position_embeddings = nn.Parameter(torch.zeros(config.num_patches, width))
        self.query_tokens = nn.Parameter(torch.zeros(config.num_queries, width))
        if config.local_paths:
            group_width = config.num_patches // config.num_queries * width
            self.patches_to_query = nn.Linear(group_width, width)
            self.latent_to_patches = nn.Linear(width, group_width)
        self.encoder = BeatTransformer(config)
        self.quantizer = ResidualVectorQuantizer(config)
        self.decoder = BeatTransformer(config)
        self.reconstruction_head = nn.Linear(width, patch_width)
        if not config.shared_output:
            # Neighbouring latents stand side by side if there are more latents than predicted patches.
            group = config.num_queries // config.num_predicted_patches
            self.prediction_head = nn.Linear(group * width, patch_width)
        self.gradient_checkpointing = False
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the linear layer that embeds patches."""
        return self.patch_projection

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the linear layer that embeds patches by `value`, in place."""
        self.patch_projection = value  # type: ignore[assignment]

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_values: torch.Tensor,
        next_values: torch.Tensor | None = None,
        codes_only: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BeatOutput:
        r"""Quantise windows, rebuild them, and predict what follows.

        input_values (`torch.FloatTensor` of shape `(batch_size, num_leads, seq_length)`):
            Windows of ECGs at 250 Hz, all leads present, each lead with mean 0 and deviation 1.
        next_values (`torch.FloatTensor` of shape `(batch_size, num_leads, prediction_length)`, *optional*):
            What follows the window, in the same scale. With it the output has the losses.
        codes_only (`bool`, defaults to `False`):
            Give codes and latents alone, without reconstruction and prediction. It takes half the time.
        """
        if codes_only and next_values is not None:
            raise ValueError("next_values asks for losses, and codes_only leaves out what they need. Give one of them.")
        if next_values is not None:
            self._check_values(next_values, "next_values", self.config.prediction_length)
        latents = self._encode(input_values, **kwargs)
        quantized, codes = self.quantizer(latents)
        output = BeatOutput(
            reconstruction=None if codes_only else self._decode(quantized, **kwargs),
            prediction=None if codes_only else self._predict(latents),
            codes=codes,
            latents=latents,
            quantized_latents=quantized,
        )
        if next_values is not None:
            self._add_losses(output, input_values, next_values)
        return output

    @torch.no_grad()
    def encode(self, input_values: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Turn windows into codes. The codebooks stay as they are, in training mode too.

        Args:
            input_values: (B, leads, seq_length), as in `forward`.
            kwargs: passed on to the layers.

        Returns:
            (B, Q, L) int64. The last axis holds the core code first.

        Raises:
            ValueError: if the windows have another shape or type, or hold NaN or infinity.
        """
        return self.quantizer.encode(self._encode(input_values, **kwargs))

    def decode(self, codes: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Turn codes into windows: exactly the reconstruction of `forward`.

        Args:
            codes: (B, Q, L) whole numbers, as `encode` gives them.
            kwargs: passed on to the layers.

        Returns:
            (B, leads, seq_length), in the scale of `input_values`.

        Raises:
            ValueError: if the codes have another shape or type, or a code is not in the codebook.
        """
        expected = (self.config.num_queries, self.config.num_levels)
        if codes.ndim != 3 or tuple(codes.shape[1:]) != expected or codes.dtype not in (torch.int64, torch.int32):
            raise ValueError(
                f"codes has the shape {tuple(codes.shape)} and is of {codes.dtype}, expected whole numbers (int64) of "
                f"shape (batch, {expected[0]} query tokens, {expected[1]} levels). `encode` gives them."
            )
        size = self.config.codebook_size
        if may_look(codes) and bool(((codes < 0) | (codes >= size)).any()):
            raise ValueError(
                f"codes holds {int(codes.min())} to {int(codes.max())}, and the codebook has the codes 0 to "
                f"{size - 1}. Use the model that made the codes."
            )
        return self._decode(self.quantizer.decode(codes.long()), **kwargs)

    def code_usage(self, codes: torch.Tensor) -> torch.Tensor:
        """Compute the share of the codebook that occurs in codes (..., L), for each level: (L,), 0 to 1.

        Give the codes of the whole evaluation set at once. The share of a few ECGs is small by itself.
        """
        return code_usage(codes, self.config.codebook_size)

    def _check_values(self, values: torch.Tensor, name: str, num_samples: int) -> None:
        """Raise a ValueError if an ECG (B, leads, samples) has another shape or type, or is not finite."""
        check_values(values, None, name, self.config.num_leads, "ECGs, leads, samples")
        if values.shape[2] != num_samples:
            raise ValueError(
                f"{name} has {values.shape[2]} samples, this model takes {num_samples}. Cut the ECG, or set seq_length "
                "or prediction_length for a new model."
            )
        refuse_not_finite(values, torch.ones_like(values[..., 0], dtype=torch.bool), name)

    def _encode(self, input_values: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Embed the patches, append the query tokens, and return their states after the encoder: (B, Q, d)."""
        self._check_values(input_values, "input_values", self.config.seq_length)
        patches = self.patch_projection(cut_patches(input_values, self.config.patch_size)) + self.position_embeddings
        queries = self.query_tokens.expand(len(patches), -1, -1)
        if self.config.local_paths:
            queries = queries + self.patches_to_query(patches.unflatten(1, (queries.shape[1], -1)).flatten(2))
        return self.encoder(torch.cat([patches, queries], dim=1), **kwargs)[:, patches.shape[1] :]

    def _decode(self, quantized: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Rebuild windows (B, leads, seq_length) from the positions and the quantised latents (B, Q, d)."""
        positions = self.position_embeddings.expand(len(quantized), -1, -1)
        latents = quantized.to(positions.dtype)
        if self.config.local_paths:
            positions = positions + self.latent_to_patches(latents).unflatten(2, (-1, positions.shape[2])).flatten(1, 2)
        tokens = torch.cat([positions, latents], dim=1)
        decoded = self.decoder(tokens, **kwargs)[:, : positions.shape[1]]
        return join_patches(self.reconstruction_head(decoded), self.config.num_leads)

    def _predict(self, latents: torch.Tensor) -> torch.Tensor:
        """Predict what follows the window, (B, leads, prediction_length), from the latents (B, Q, d)."""
        head = self.reconstruction_head if self.config.shared_output else self.prediction_head
        groups = latents.unflatten(1, (self.config.num_predicted_patches, -1)).flatten(2)
        return join_patches(head(groups), self.config.num_leads)

    def _add_losses(self, output: BeatOutput, input_values: torch.Tensor, next_values: torch.Tensor) -> None:
        """Put the three losses and their weighted sum into the output, in place."""
        pairs = {
            "reconstruction": (output.reconstruction, input_values),
            "prediction": (output.prediction, next_values),
            "quantization": (output.latents, output.quantized_latents.detach()),  # type: ignore[union-attr]
        }
        weighted = []
        for name, (values, target) in pairs.items():
            error = nn.functional.mse_loss(values.float(), target.float())  # type: ignore[union-attr]
            output[f"{name}_loss"] = error
            weighted.append(getattr(self.config, f"{name}_weight") * error)
        output.loss = sum(weighted[1:], weighted[0])


__all__ = ["BeatModel", "BeatOutput", "BeatPreTrainedModel"]
