"""How an ECG and its picture become vectors in the places of placeholder tokens: the two streams of Heartcare.

Notation in shape comments: B rows, W windows of an ECG, N windows of all ECGs, Q tokens of a window, P tokens of a
picture, d width of the language model, T tokens.
"""

from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import can_return_tuple

from ...layers.input_shapes import check_mask, may_look
from ..shared.text_inputs import put_in_places


class ReadsStreams:
    """The two streams, as a mixin of [`HeartcareForConditionalGeneration`]."""

    config: Any
    beat: Any
    ecg_projector: Any
    vision_tower: Any
    image_projector: Any
    get_input_embeddings: Any

    def get_ecg_features(self, windows: torch.Tensor) -> torch.Tensor:
        """Turn windows of ECGs (N, 12, samples), as the processor makes them, into vectors (N, Q, d)."""
        # Other methods than `forward` would read Beat's weights where accelerate cannot bring them.
        output = self.beat(windows.to(dtype=self.beat.dtype), codes_only=True, return_dict=True)
        if self.config.ecg_input == "codes":
            return self._code_embeddings(output.codes)
        return self.ecg_projector(output.quantized_latents.to(self.ecg_projector.weight.dtype))

    def _code_embeddings(self, codes: torch.Tensor) -> torch.Tensor:
        """Look up the words of codes (N, queries, levels): (N, Q, d), the levels of a query token side by side."""
        beat: Any = self.config.beat_config
        first = self.config.ecg_code_token_id
        if first is None:
            raise ValueError("ecg_input is 'codes', so ecg_code_token_id is needed: `add_ecg_tokens` gives it.")
        step = 0 if beat.shared_codebook else beat.codebook_size
        levels = torch.arange(codes.shape[-1], device=codes.device) * step
        return self.get_input_embeddings()((first + codes + levels).flatten(1))

    @can_return_tuple
    def get_image_features(self, pixel_values: torch.Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Turn pictures (n, 3, height, width), as the processor makes them, into vectors.

        Args:
            pixel_values: the pictures.
            kwargs: passed on to SigLIP, such as `output_attentions`.

        Returns:
            The output of SigLIP. "pooler_output" holds the vectors (n, P, d), as in transformers' own models.
        """
        output = self.vision_tower(pixel_values.to(dtype=self.vision_tower.dtype), return_dict=True, **kwargs)
        patches = output.last_hidden_state
        output.pooler_output = self.image_projector(patches.to(self.image_projector.linear1.weight.dtype))
        return output

    def with_vectors(
        self,
        input_ids: torch.Tensor | None,
        input_values: torch.Tensor | None,
        pixel_values: torch.Tensor | None,
        window_mask: torch.Tensor | None,
        image_mask: torch.Tensor | None,
    ) -> tuple[torch.Tensor, BaseModelOutputWithPooling | None]:
        """Embed a text (B, T) with the vectors of ECGs and pictures in the places of their placeholders.

        Only inputs with mask True are encoded, so a missing ECG or picture may hold any values.

        Returns:
            the embeddings (B, T, d), and the output of SigLIP; None without a picture.
        """
        if input_ids is None:
            raise ValueError("ECGs and pictures need input_ids with placeholder tokens. The processor writes them.")
        embeds = self.get_input_embeddings()(input_ids)
        ecgs = present("input_values", input_values, window_mask, len(input_ids))
        vectors = None if ecgs is None else self.get_ecg_features(ecgs)
        places = places_of(input_ids, self.config.ecg_token_id, "input_values", vectors, window_mask, input_values)
        embeds = embeds if vectors is None else put_in_places(embeds, places, vectors)
        pictures = present("pixel_values", pixel_values, image_mask, len(input_ids))
        images = None if pictures is None else self.get_image_features(pictures, return_dict=True)
        vectors = None if images is None else images.pooler_output
        places = places_of(input_ids, self.config.image_token_id, "pixel_values", vectors, image_mask, pixel_values)
        return (embeds if vectors is None else put_in_places(embeds, places, vectors)), images


def full_mask(name: str, values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Return the mask of ECGs (B, W) or of pictures (B,) as bool. None means that all are there.

    Raises:
        ValueError: if the mask has another shape, or holds other numbers than 0 and 1.
    """
    shape = values.shape[:2] if name == "input_values" else values.shape[:1]
    if mask is None:
        return torch.ones(shape, dtype=torch.bool, device=values.device)
    check_mask(mask, tuple(shape), f"the mask of {name}")
    return mask.to(values.device).bool()


def present(name: str, values: torch.Tensor | None, mask: torch.Tensor | None, rows: int) -> torch.Tensor | None:
    """Return the windows (N, leads, samples) or pictures (n, 3, height, width) that a mask names; None for none.

    Args:
        name: "input_values" or "pixel_values".
        values: as given.
        mask: as given.
        rows: B, number of texts.

    Raises:
        ValueError: if the values have another shape, or not one row for each text.
    """
    if values is None:
        return None
    axes = "rows, windows, leads, samples" if name == "input_values" else "rows, 3, height, width"
    if values.ndim != 4 or len(values) != rows:
        raise ValueError(
            f"{name} has the shape {tuple(values.shape)}, expected ({axes}) with {rows} rows, one for each text. The "
            "processor gives it."
        )
    named = values[full_mask(name, values, mask)]
    return named if len(named) else None


def places_of(
    input_ids: torch.Tensor,
    token: int | None,
    name: str,
    vectors: torch.Tensor | None,
    mask: torch.Tensor | None,
    values: torch.Tensor | None,
) -> torch.Tensor:
    """Find the placeholders of a stream (B, T), and check that each row has as many as it has vectors.

    Args:
        input_ids: (B, T).
        token: the placeholder; None if the configuration names none.
        name: "input_values" or "pixel_values".
        vectors: (N, Q, d) of all that the mask names; None for none.
        mask: as given.
        values: as given.

    Raises:
        ValueError: if a row has another number of placeholders.
    """
    places = torch.zeros_like(input_ids, dtype=torch.bool) if token is None else input_ids == token
    counts = torch.zeros(len(input_ids), dtype=torch.long)
    if vectors is not None and values is not None:
        counts = full_mask(name, values, mask).reshape(len(input_ids), -1).sum(1) * vectors.shape[1]
    if may_look(places) and not torch.equal(places.sum(1).cpu(), counts.cpu()):
        raise ValueError(
            f"The rows of input_ids have {places.sum(1).tolist()} placeholders {token} for {name}, and {name} with its "
            f"mask gives {counts.tolist()} vectors. The processor writes as many as the model needs."
        )
    return places


__all__ = ["ReadsStreams"]
