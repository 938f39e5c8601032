"""Let a model whose part is a language model answer for its word embeddings and its output layer."""

from typing import Any

from torch import nn


class HasLanguageModel:
    """Mixin of a model with the attribute `language_model`. Name it before transformers' base class."""

    language_model: Any

    def get_input_embeddings(self) -> nn.Module:
        """Return the word embeddings of the language model."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the word embeddings of the language model by `value`, in place."""
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """Return the layer of the language model that gives the logits."""
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Replace the layer of the language model that gives the logits, in place."""
        self.language_model.set_output_embeddings(new_embeddings)


__all__ = ["HasLanguageModel"]
