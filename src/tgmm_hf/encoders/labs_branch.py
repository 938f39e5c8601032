"""Branch of the labs: lab text, and for some encoders the numbers of its cells -> the encoder's tokens."""

from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from ..layers.cell_inputs import LabCells, LabNumbers, is_cell_encoder
from ..layers.input_shapes import checked_text
from .branches import Branch, EncodedPart, extra_outputs
from .freezing import text_above_boundary, text_below_boundary
from .row_finding import rows_with_text


class LabsBranch(Branch):
    """Laboratory text: token ids (B, L) -> the text encoder's tokens; the summary is its first token ([CLS]).

    Args:
        encoder: as in [`Branch`].
        config: as in [`Branch`].
        dtype: as in [`Branch`].
        trainable_layers: as in [`Branch`].
        numbers: adds the numbers of the cells to the word embeddings; None for a model without.
    """

    modality = "labs"

    def __init__(
        self,
        encoder: PreTrainedModel,
        config: Any,
        dtype: torch.dtype,
        trainable_layers: int | None = None,
        numbers: LabNumbers | None = None,
    ) -> None:
        super().__init__(encoder, config, dtype, trainable_layers)
        self.numbers = numbers

    @property
    def reads_cells(self) -> bool:
        """Whether the encoder reads lab cells as numbers beside the text."""
        return self.numbers is not None or is_cell_encoder(self.config)

    def forward(
        self, values: torch.Tensor, mask: torch.Tensor | None, cells: LabCells | None = None, **extra: Any
    ) -> EncodedPart:
        """Encode token ids (B, L) with mask (B, L), 1 for a token. Without a mask, padding tokens are masked.

        Args:
            values: (B, L) token ids.
            mask: (B, L), or None.
            cells: the cells of the text, for an encoder that reads them.
            extra: see `Branch.encode`.

        Raises:
            ValueError: if cells are missing, or the encoder does not read them, or they do not fit the text.
        """
        values, mask = checked_text(values, mask, self.config)
        self._check_cells(cells, values)
        rows, text_mask, order = rows_with_text(mask)
        if not len(rows):
            return self.empty(rows)
        inputs: dict[str, Any] = {"input_ids": values[rows].gather(1, order), "attention_mask": text_mask}
        if cells is not None:
            cells = cells.select(rows, order)
            if self.numbers is None:
                inputs |= cells.arguments
            else:
                words = self.encoder.get_input_embeddings()(inputs.pop("input_ids"))
                inputs["inputs_embeds"] = self.numbers(words, cells)
        return self._part(rows, text_mask, self.encoder(**inputs, return_dict=True, **extra))

    def _check_cells(self, cells: LabCells | None, values: torch.Tensor) -> None:
        """Refuse a text without cells for an encoder that reads them, and cells that nobody would read.

        Raises:
            ValueError: in these cases, or if the cells do not fit the token ids (B, L).
        """
        if cells is None and self.reads_cells:
            raise ValueError(
                f"This labs encoder ({self.config.model_type}) reads lab cells as numbers, and the text came without "
                "cells. Use the processor that was saved with the model; it gives cell_ids, cell_columns, cell_values "
                "and cell_mask."
            )
        if cells is not None and not self.reads_cells:
            raise ValueError(
                f"This labs encoder ({self.config.model_type}) reads text only, and lab cells were given. Use the "
                "processor that was saved with the model."
            )
        if cells is not None:
            columns = self.config.num_columns if self.numbers is None else self.numbers.num_columns
            cells.check(tuple(values.shape), columns)

    def layers_above(self) -> int:
        """Return the number of trained layers, as `Branch.layers_above`.

        Raises:
            ValueError: also if the encoder reads numbers, because their vectors train below the freeze boundary.
        """
        if self.reads_cells:
            raise ValueError(
                "A labs encoder that reads lab cells as numbers has trained weights below its frozen layers, so its "
                "frozen features cannot be cached. Train without data.cache."
            )
        return super().layers_above()

    def frozen_features(self, values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor | None:
        """Compute the activations at the freeze boundary: (patients with labs, L, D); None if nobody has labs."""
        above = self.layers_above()
        values, mask = checked_text(values, mask, self.config)
        rows, text_mask, order = rows_with_text(mask)
        if not len(rows):
            return None
        return text_below_boundary(self.encoder, values[rows].gather(1, order), text_mask, above)

    def forward_from_frozen(self, features: torch.Tensor, mask: torch.Tensor) -> EncodedPart:
        """Run the trained layers on activations (patients with labs, L, D) with mask (B, L)."""
        above = self.layers_above()
        rows, text_mask, _ = rows_with_text(mask)
        if not len(rows):
            return self.empty(rows)
        states = text_above_boundary(self.encoder, self.checked(features, len(rows)), text_mask, above)
        return self._part(rows, text_mask, BaseModelOutput(last_hidden_state=states))

    def _part(self, rows: torch.Tensor, text_mask: torch.Tensor, encoded: BaseModelOutput) -> EncodedPart:
        assert encoded.last_hidden_state is not None  # every encoder returns its tokens
        hidden = encoded.last_hidden_state.to(self.dtype)
        token_mask = encoded.get("token_mask", text_mask).bool()  # an encoder of cells has other tokens than the text
        return EncodedPart(rows, hidden[:, 0], hidden, token_mask, extra_outputs(encoded))
