"""How an ECG and its picture become vectors in the places of placeholder tokens: the two streams of Heartcare.

Notation in shape comments: B rows, W windows of an ECG, N windows of all ECGs, Q tokens of a window, P tokens of a
picture, d width of the language model, T tokens.
"""

from typing import Any

import torch

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
        # Beat's `forward` decodes too, which costs little beside a language model. Other methods would read its weights
        # outside of `forward`, where accelerate cannot bring them.
        output = self.beat(windows.to(dtype=self.beat.dtype), return_dict=True)
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

    def get_image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Turn pictures (n, 3, height, width), as the processor makes them, into vectors (n, P, d)."""
        pixels = pixel_values.to(dtype=self.vision_tower.dtype)
        patches = self.vision_tower(pixels, return_dict=True).last_hidden_state
        return self.image_projector(patches.to(self.image_projector.linear1.weight.dtype))

    def with_vectors(
        self,
        text: dict[str, Any],
        input_values: torch.Tensor | None,
        pixel_values: torch.Tensor | None,
        window_mask: torch.Tensor | None,
        image_mask: torch.Tensor | None,
    ) -> dict[str, Any]:
        """Put the vectors of ECGs and pictures in the places of the placeholders. Returns the changed inputs.

        Only what the masks name is encoded, so that a missing ECG or picture may hold any values.
        """
        input_ids = text["input_ids"]
        if input_ids is None:
            raise ValueError("ECGs and pictures need input_ids with placeholder tokens. The processor writes them.")
        embeds = self.get_input_embeddings()(input_ids)
        streams = (
            ("input_values", input_values, window_mask, self.config.ecg_token_id, self.get_ecg_features),
            ("pixel_values", pixel_values, image_mask, self.config.image_token_id, self.get_image_features),
        )
        for name, values, mask, token, encode in streams:
            vectors, counts = self._encode_present(name, values, mask, len(input_ids), encode)
            places = input_ids == token if token is not None else torch.zeros_like(input_ids, dtype=torch.bool)
            if may_look(places) and not torch.equal(places.sum(1).cpu(), counts.cpu()):
                raise ValueError(
                    f"The rows of input_ids have {places.sum(1).tolist()} placeholders {token} for {name}, and {name} "
                    f"with its mask gives {counts.tolist()} vectors. The processor writes as many as the model needs."
                )
            if vectors is not None:
                embeds = put_in_places(embeds, places, vectors)
        return {"input_ids": None, "inputs_embeds": embeds}

    def _encode_present(
        self, name: str, values: torch.Tensor | None, mask: torch.Tensor | None, rows: int, encode: Any
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Encode what a mask names. Returns the vectors (N, Q, d), None for none, and their number in each row (B,)."""
        nothing = torch.zeros(rows, dtype=torch.long)
        if values is None:
            return None, nothing
        axes = "rows, windows, leads, samples" if name == "input_values" else "rows, 3, height, width"
        if values.ndim != 4 or len(values) != rows:
            raise ValueError(
                f"{name} has the shape {tuple(values.shape)}, expected ({axes}) with {rows} rows, one for each text. "
                "The processor gives it."
            )
        shape = values.shape[:2] if name == "input_values" else values.shape[:1]
        if mask is None:
            mask = torch.ones(shape, dtype=torch.bool, device=values.device)
        check_mask(mask, tuple(shape), f"the mask of {name}")
        mask = mask.bool()
        present = values[mask]
        if not len(present):
            return None, nothing
        vectors = encode(present)
        return vectors, mask.reshape(rows, -1).sum(1) * vectors.shape[1]


__all__ = ["ReadsStreams"]
