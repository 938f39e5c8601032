"""Labs encoder of cells: one token for each lab cell or history item, and a small transformer over them (ours).

    number   token = vector of the column + standardised value * second vector of the column
    words    token = vector of the column + mean of the word embeddings of the item

Token 0 is the summary of the row, as [CLS] is of a text. With `starts_from_cells` it starts as a learned vector
plus the sum of the cells' tokens over the root of their number, so that evidence that adds up needs no layer. There are
no positions, because cells have no order. A missing cell has no token. docs/decisions/218-numbers-beside-lab-text.md

Notation in shape comments: B patients, L tokens of the text, C cells and items, D width.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import can_return_tuple

from ..layers.attention import TgmmBlock
from ..layers.cell_inputs import LabCells
from ..layers.input_shapes import may_look
from ..layers.weights_fingerprint import BoundWeights
from .configuration_lab_cells import LabCellsConfig


@dataclass
class LabCellsOutput(BaseModelOutput):
    """Output of [`LabCellsModel`].

    Attributes:
        last_hidden_state: (B, 1 + C, D).
        hidden_states: the input and the result of each layer.
        attentions: (B, heads, 1 + C, 1 + C) of each layer.
        token_mask: (B, 1 + C) bool, True for the summary and for a cell that the patient has.
    """

    token_mask: torch.BoolTensor | None = None


class LabCellsEmbeddings(nn.Module):
    """Cells -> tokens. The words of an item are averaged, whatever their number."""

    def __init__(self, config: LabCellsConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.column_embeddings = nn.Embedding(config.num_columns, config.hidden_size)
        self.value_embeddings = nn.Embedding(config.num_columns, config.hidden_size)
        self.summary = nn.Parameter(torch.zeros(config.hidden_size))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.starts_from_cells = config.starts_from_cells

    def forward(self, input_ids: torch.Tensor, cells: LabCells) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed token ids (B, L) and their cells: tokens (B, 1 + C, D) and their mask (B, 1 + C)."""
        places = (int(cells.ids.max()) if may_look(cells.ids) else input_ids.shape[1]) + 1
        words, counts = self._words(input_ids, cells.ids, places)
        # All tokens of a cell have one column, value and mask, so that any of them may be taken.
        spread = words.new_zeros(len(words), places)
        columns = torch.zeros_like(spread, dtype=torch.long).scatter(1, cells.ids, cells.columns)
        numbers_only = cells.values.to(spread.dtype).masked_fill(~cells.mask.bool(), 0.0)
        values = spread.scatter(1, cells.ids, numbers_only)
        is_number = torch.zeros_like(spread, dtype=torch.bool).scatter(1, cells.ids, cells.mask.bool())
        numbers = values[..., None] * self.value_embeddings(columns)
        tokens = self.column_embeddings(columns) + torch.where(is_number[..., None], numbers, words)
        # Place 0 holds the tokens of no cell. The summary stands there.
        tokens = torch.cat([self.summary.expand(len(tokens), 1, -1), tokens[:, 1:]], dim=1)
        tokens, is_cell = self.norm(tokens), counts[:, 1:] > 0
        if self.starts_from_cells:
            total = tokens[:, 1:].masked_fill(~is_cell[..., None], 0.0).sum(dim=1, keepdim=True)
            number = is_cell.sum(dim=1).clamp(min=1)[:, None, None]
            tokens = torch.cat([tokens[:, :1] + total / number.sqrt(), tokens[:, 1:]], dim=1)
        return tokens, torch.cat([torch.ones_like(is_cell[:, :1]), is_cell], dim=1)

    def _words(self, input_ids: torch.Tensor, ids: torch.Tensor, places: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Average the word embeddings of each place (B, `places`, D), and count its tokens (B, `places`)."""
        words = self.word_embeddings(input_ids)
        total = words.new_zeros(len(words), places, words.shape[-1])
        total = total.scatter_add(1, ids[..., None].expand_as(words), words)
        counts = torch.zeros_like(total[..., 0]).scatter_add(1, ids, torch.ones_like(words[..., 0]))
        return total / counts.clamp(min=1)[..., None], counts


class LabCellsPreTrainedModel(BoundWeights, PreTrainedModel):
    """Base of the cell encoder: initial weights, and saving with the code."""

    config: LabCellsConfig
    base_model_prefix = "lab_cells"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = False
    _supports_sdpa = True  # its attention is written out, and a model around it may have sdpa
    _no_split_modules = ["LabCellsEmbeddings", "TgmmBlock"]  # noqa: RUF012 - read by transformers

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw the starting weights of a module. transformers calls this for every module."""
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, LabCellsEmbeddings):
            init.normal_(module.summary, std=self.config.initializer_range)
        else:
            super()._init_weights(module)

    def hub_classes(self) -> dict[str, type]:
        """Map the name of the Auto class to the encoder, which it loads from the saved directory."""
        return {"AutoModel": type(self) if isinstance(self, LabCellsModel) else LabCellsModel}


class LabCellsModel(LabCellsPreTrainedModel):
    """Encoder of lab cells. It can stand in the place of the text encoder of TGMM."""

    def __init__(self, config: LabCellsConfig):
        super().__init__(config)
        self.embeddings = LabCellsEmbeddings(config)
        block_config: Any = config  # a block reads width, heads and epsilon
        self.layers = nn.ModuleList(TgmmBlock(block_config, False) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the word embeddings."""
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the word embeddings by `value`, in place."""
        self.embeddings.word_embeddings = value  # type: ignore[assignment] # any module may stand there

    @can_return_tuple
    def forward(  # noqa: PLR0913 - the four arrays of the cells belong together
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        cell_ids: torch.Tensor | None = None,
        cell_columns: torch.Tensor | None = None,
        cell_values: torch.Tensor | None = None,
        cell_mask: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **_: Any,
    ) -> LabCellsOutput:
        r"""Encode lab rows.

        input_ids, attention_mask (`torch.LongTensor` of shape `(batch_size, sequence_length)`):
            Lab text. Only tokens with an id above 0 in `cell_ids` are read, and what stands under the mask is not.
        cell_ids, cell_columns (`torch.LongTensor` of shape `(batch_size, sequence_length)`):
            Cell of each token, counted from 1, and its column. 0 is a token of no cell.
        cell_values (`torch.FloatTensor` of shape `(batch_size, sequence_length)`):
            Standardised value of the cell.
        cell_mask (`torch.BoolTensor` of shape `(batch_size, sequence_length)`):
            True where the cell has a value.
        """
        cells = LabCells.from_arguments(
            {"cell_ids": cell_ids, "cell_columns": cell_columns, "cell_values": cell_values, "cell_mask": cell_mask}
        )
        if cells is None:
            raise ValueError(
                "LabCellsModel reads cells and no plain text: give cell_ids, cell_columns, cell_values and cell_mask, "
                "as a processor with labs_scales makes them."
            )
        cells.check(tuple(input_ids.shape), self.config.num_columns)
        if attention_mask is not None:
            cells.ids = cells.ids.masked_fill(~attention_mask.bool(), 0)
        hidden_states, mask = self.embeddings(input_ids, cells)
        states, attentions = [hidden_states], []
        layers: Iterable[Any] = self.layers  # torch declares them modules, and these are blocks
        for layer in layers:
            normed = layer.self_norm(hidden_states)
            attended, weights = layer.self_attention(normed, normed, mask[:, None, None, :])
            hidden_states = layer.feed_forward(hidden_states + attended)
            states.append(hidden_states)
            attentions.append(weights)
        states[-1] = self.norm(hidden_states)
        wants_states = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        wants_attentions = self.config.output_attentions if output_attentions is None else output_attentions
        return LabCellsOutput(
            last_hidden_state=states[-1],
            hidden_states=tuple(states) if wants_states else None,
            attentions=tuple(attentions) if wants_attentions else None,
            token_mask=mask,
        )


__all__ = ["LabCellsModel", "LabCellsOutput", "LabCellsPreTrainedModel"]
