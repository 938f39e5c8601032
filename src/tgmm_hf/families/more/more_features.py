"""What MoRE computes of X-rays, ECGs and texts before it compares them.

Notation in shape comments: B patients, L tokens, p width of the shared space.
"""

from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import can_return_tuple

from ...layers.finite_inputs import refuse_not_finite
from ...layers.input_shapes import check_mask, check_values, checked_text

AXES = {
    "pixel_values": "X-rays, channels, height, width",
    "input_values": "ECGs, leads, samples",
}
"""Argument of `forward` -> names of its axes, for messages."""


class MoreFeatures:
    """Part of [`MoreModel`]: the features of X-rays, ECGs and texts in the shared space."""

    config: Any
    xray_encoder: Any
    ecg_encoder: Any
    text_encoder: Any
    xray_projection: Any
    ecg_projection: Any
    text_projection: Any

    @can_return_tuple
    def get_xray_features(self, pixel_values: torch.Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Encode X-rays (B, 3, height, width), as the processor makes them.

        Args:
            pixel_values: (B, 3, height, width).
            kwargs: passed on to the encoder, such as `output_attentions`.

        Returns:
            The encoder's output. `pooler_output` (B, p) is the projected feature, not normalised.

        Raises:
            ValueError: if the values have another shape or type, or hold NaN or infinity.
        """
        self._check(pixel_values, "pixel_values", int(self.config.xray_config.num_channels))
        output = self.xray_encoder(pixel_values, **{**kwargs, "return_dict": True})
        output.pooler_output = self.xray_projection(output.pooler_output)
        return output

    def get_image_features(self, pixel_values: torch.Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Encode X-rays: `get_xray_features` under the name that transformers knows."""
        return self.get_xray_features(pixel_values, **kwargs)

    @can_return_tuple
    def get_ecg_features(self, input_values: torch.Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Encode ECGs (B, 12, samples), as the processor makes them.

        Args:
            input_values: (B, 12, samples).
            kwargs: passed on to the encoder.

        Returns:
            As `get_xray_features`.

        Raises:
            ValueError: if the values have another shape or type, or hold NaN or infinity.
        """
        config: Any = self.config.ecg_config
        self._check(input_values, "input_values", config.num_leads)
        if input_values.shape[2] != config.seq_length:
            raise ValueError(
                f"input_values has {input_values.shape[2]} samples, this model takes {config.seq_length}. The "
                "processor cuts ECGs to this length."
            )
        output = self.ecg_encoder(input_values, **{**kwargs, "return_dict": True})
        output.pooler_output = self.ecg_projection(output.pooler_output)
        return output

    @can_return_tuple
    def get_text_features(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        """Encode texts.

        Args:
            input_ids: (B, L) token ids.
            attention_mask: (B, L), 1 for a token. None masks the padding token.
            kwargs: passed on to the encoder.

        Returns:
            As `get_xray_features`. The feature is the projected mean of the tokens.

        Raises:
            ValueError: if ids or mask have another shape or type, or an id is no token.
        """
        input_ids, mask = checked_text(input_ids, attention_mask, self.config.text_config)
        output = self.text_encoder(input_ids=input_ids, attention_mask=mask, **{**kwargs, "return_dict": True})
        tokens = output.last_hidden_state
        weights = torch.ones_like(mask) if self.config.mean_over_padding else mask
        weights = weights[..., None].to(tokens.dtype)
        mean = (tokens * weights).sum(1) / weights.sum(1).clamp(min=1)
        return BaseModelOutputWithPooling(
            last_hidden_state=tokens,
            pooler_output=self.text_projection(mean),
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )

    def features_of(
        self, get: Any, inputs: tuple[torch.Tensor, ...], present: torch.Tensor, options: dict[str, Any]
    ) -> torch.Tensor:
        """Encode the rows of a modality that are present.

        Args:
            get: `get_xray_features`, `get_ecg_features` or `get_text_features`.
            inputs: its arguments, (B, ...) each.
            present: (B,) bool.
            options: further arguments.

        Returns:
            (B, p) float32, the projected features; zeros for the rows that are missing.
        """
        rows = present.nonzero()[:, 0]
        features = torch.zeros(len(present), self.config.projection_dim, device=present.device)
        if not len(rows):
            return features
        encoded = get(*(value[rows] for value in inputs), **{**options, "return_dict": True}).pooler_output
        return features.index_copy(0, rows, encoded.float())

    def _check(self, values: torch.Tensor, name: str, places: int) -> None:
        """Raise a ValueError if values have another shape or type than the processor gives, or are not finite."""
        check_values(values, None, name, places, AXES[name])
        refuse_not_finite(values, torch.ones_like(values.flatten(2)[..., 0], dtype=torch.bool), name)


def present_rows(values: torch.Tensor, mask: torch.Tensor | None, name: str) -> torch.Tensor:
    """Check the mask `name` of values (B, ...) and return it as (B,) bool; True everywhere without a mask."""
    if mask is None:
        return torch.ones(len(values), dtype=torch.bool, device=values.device)
    check_mask(mask, (len(values),), name)
    return mask.bool()


__all__ = ["MoreFeatures", "present_rows"]
