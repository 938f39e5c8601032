"""How ECG vectors enter the inputs or the cache of a language model: the three fusions of MEIT.

Notation in shape comments: B ECGs, K vectors of an ECG, p their width, d width of the language model, T tokens.
"""

from typing import Any

import torch
from transformers import Cache

from ..shared.text_inputs import put_in_places, with_mask_and_positions
from .ecg_prefix import PREFIX_LENGTH, check_language_model, fill_cache


class FusesEcg:
    """The fusions, as a mixin of [`MeitForConditionalGeneration`]."""

    config: Any
    language_model: Any
    get_input_embeddings: Any

    def fill_width(self, ecg_features: torch.Tensor | None, text: torch.Tensor) -> torch.Tensor | None:
        """Repeat the vectors (B, K, p) to the width of the language model: (B, K, d). None stays None.

        Raises:
            ValueError: if the number of vectors is not the model's, or the batch of the text `text` is another.
        """
        if ecg_features is None:
            return None
        expected = (text.shape[0], self.config.num_ecg_vectors, self.config.projection_dim)
        if tuple(ecg_features.shape) != expected:
            raise ValueError(
                f"The ECG vectors have the shape {tuple(ecg_features.shape)}, and the text asks for {expected}: one "
                "ECG for each row of the text."
            )
        repeats = self.config.text_config.hidden_size // ecg_features.shape[-1]
        weight: Any = self.get_input_embeddings().weight
        return ecg_features.to(weight.dtype).repeat(1, 1, repeats)

    def fuse(
        self, text: dict[str, Any], cache: Cache | None, vectors: torch.Tensor | None
    ) -> dict[str, torch.Tensor | None]:
        """Let the ECG enter the text's inputs or the cache, and return the inputs of the language model.

        Args:
            text: inputs of the language model without the ECG.
            cache: keys and values of the earlier tokens. The prefix is written into an empty one, in place.
            vectors: (B, K, d); None if the cache holds the ECG.

        Raises:
            ValueError: if there is no ECG, or an input would make the model answer without it.
        """
        if cache is not None and cache.is_compileable:
            raise ValueError(
                "A cache of fixed size has no room for the ECG. Leave out cache_implementation, or take a DynamicCache."
            )
        earlier = 0 if cache is None else cache.get_seq_length()
        is_start, in_cache = earlier == 0, getattr(cache, PREFIX_LENGTH, None)
        if vectors is None and (is_start or self.config.fusion == "cross_attention"):
            raise ValueError("There is no ECG: give input_values, as the processor makes them.")
        if not is_start and in_cache != self.config.num_ecg_vectors:
            raise ValueError(
                f"The cache holds {earlier} tokens that were computed without this model's ECG. Start with an empty "
                "cache. A prompt that is learned as keys and values (prefix tuning) is not possible."
            )
        num_before = self.config.num_ecg_vectors if self.config.fusion == "prefix" else 0
        text = with_mask_and_positions(text, max(earlier - num_before, 0))
        if self.config.fusion == "prefix":
            return self._with_prefix(text, cache, vectors)
        if cache is not None:
            setattr(cache, PREFIX_LENGTH, self.config.num_ecg_vectors)
        if self.config.fusion == "tokens" and is_start:
            return self._with_tokens(text, vectors)
        return text

    def _with_prefix(self, text: dict[str, Any], cache: Any, vectors: torch.Tensor | None) -> dict[str, Any]:
        """Write the vectors (B, K, d) into an empty cache, and let every token see them. Returns the inputs.

        The positions of the text start at 0, as published, although the cache holds the ECG before it.
        """
        mask, num_vectors = text["attention_mask"], self.config.num_ecg_vectors
        check_language_model(self.language_model, num_vectors + mask.shape[1])
        if not cache.get_seq_length():
            assert vectors is not None  # `fuse` has refused a start without an ECG
            fill_cache(self.language_model, vectors, cache)
        return {**text, "attention_mask": torch.cat([mask.new_ones(mask.shape[0], num_vectors), mask], dim=1)}

    def _with_tokens(self, text: dict[str, Any], vectors: Any) -> dict[str, Any]:
        """Put the vectors (B, K, d) in the place of the placeholder tokens' embeddings. Returns the inputs."""
        input_ids, num_vectors = text["input_ids"], self.config.num_ecg_vectors
        if input_ids is None or self.config.ecg_token_id is None:
            raise ValueError(
                "The fusion 'tokens' needs input_ids with placeholder tokens, and ecg_token_id in the configuration."
            )
        places = input_ids == self.config.ecg_token_id
        if bool((places.sum(1) != num_vectors).any()):
            raise ValueError(
                f"Each row of input_ids must have {num_vectors} placeholder token(s) {self.config.ecg_token_id}, got "
                f"{places.sum(1).tolist()}. The processor writes them."
            )
        embeds = self.get_input_embeddings()(input_ids)
        return {**text, "input_ids": None, "inputs_embeds": put_in_places(embeds, places, vectors)}
