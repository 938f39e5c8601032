"""Lab cells beside the tokens of a lab text, and the numbers that they add to any text encoder.

`inputs/lab_scales.py` says what the four arrays hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import initialization as init

from ..utils.names import CELL_ARGUMENTS
from .input_shapes import may_look


@dataclass
class LabCells:
    """The cells of B lab rows, one entry for each token of their texts, each (B, L).

    Attributes:
        ids: number of the token's cell or history item in its row, from 1; 0 for a token of none.
        columns: place of the column in `config.labs_scales`.
        values: standardised value of the cell; 0 where there is none.
        mask: True where there is a value.
    """

    ids: torch.Tensor
    columns: torch.Tensor
    values: torch.Tensor
    mask: torch.Tensor

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, torch.Tensor | None]) -> "LabCells | None":
        """Collect the cells from the arguments of a call; None if it gives none.

        Raises:
            ValueError: if some of `CELL_ARGUMENTS` are given, and not all.
        """
        arrays = {name: arguments.get(name) for name in CELL_ARGUMENTS}
        tensors = [value for value in arrays.values() if value is not None]
        if not tensors:
            return None
        if len(tensors) < len(arrays):
            absent = [name for name, value in arrays.items() if value is None]
            raise ValueError(f"{', '.join(CELL_ARGUMENTS)} belong together, and {', '.join(absent)} is missing.")
        return cls(*tensors)

    @property
    def arguments(self) -> dict[str, torch.Tensor]:
        """The cells as arguments of a call."""
        return dict(zip(CELL_ARGUMENTS, (self.ids, self.columns, self.values, self.mask), strict=True))

    def select(self, rows: torch.Tensor, order: torch.Tensor) -> "LabCells":
        """Return the cells of some rows (n,), with their tokens in another order (n, L)."""
        return LabCells(*(part[rows].gather(1, order) for part in self.arguments.values()))

    def check(self, shape: tuple[int, ...], num_columns: int) -> None:
        """Check that the cells belong to token ids of a shape, and that the model knows their columns.

        Raises:
            ValueError: if a shape differs, a column is unknown, or a value is not finite.
        """
        for name, part in self.arguments.items():
            if tuple(part.shape) != tuple(shape):
                raise ValueError(f"{name} has the shape {tuple(part.shape)}, expected {tuple(shape)}, as input_ids.")
        if not may_look(self.ids):
            return
        unknown = self.columns[(self.columns < 0) | (self.columns >= num_columns)]
        if unknown.numel():
            raise ValueError(
                f"cell_columns holds {int(unknown[0])}, but the model knows the columns 0 to "
                f"{num_columns - 1}. Use the processor that was saved with the model."
            )
        if not bool(torch.isfinite(self.values.masked_fill(~self.mask.bool(), 0.0)).all()):
            raise ValueError("cell_values holds a number that is not finite. Mask a missing value in cell_mask.")


class LabNumbers(nn.Module):
    """Add the standardised value of a cell, times a vector of its column, to each token of the cell (ours).

    The vectors start at zero, so that a pretrained text encoder starts as it was trained.

    Args:
        num_columns: number of columns.
        width: width of the word embeddings.
    """

    def __init__(self, num_columns: int, width: int):
        super().__init__()
        self.num_columns = num_columns
        self.vectors = nn.Parameter(torch.zeros(num_columns, width))

    def forward(self, embeddings: torch.Tensor, cells: LabCells) -> torch.Tensor:
        """Add the numbers to word embeddings (B, L, width)."""
        values = cells.values.to(embeddings.dtype).masked_fill(~cells.mask.bool(), 0.0)
        return embeddings + values[..., None] * self.vectors[cells.columns].to(embeddings.dtype)

    def reset(self) -> None:
        """Set the vectors to their start, as transformers' initialisation asks for it."""
        init.zeros_(self.vectors)


def is_cell_encoder(labs_config: Any) -> bool:
    """Tell whether the configuration of a labs encoder is of one with a token for each cell, and none for words."""
    return bool(labs_config.model_type == "lab_cells")


def reads_cells(config: Any) -> bool:
    """Tell whether a `TgmmConfig` is of a model that reads lab cells as numbers."""
    return config.labs_numbers or is_cell_encoder(config.labs_config)


def check_cells_of_config(config: Any) -> None:
    """Check that the configuration of a model that reads lab cells as numbers names the columns.

    Raises:
        ValueError: if there are no columns, or the cell encoder has another number of columns.
    """
    if not reads_cells(config):
        return
    columns = len(config.labs_scales or ())
    if not columns:
        raise ValueError(
            "This model reads lab cells as numbers, so config.labs_scales has to name the columns of the training "
            "rows: `fit_labs_scales` (inputs/lab_scales.py) computes them, and `tgmm train` does."
        )
    if is_cell_encoder(config.labs_config):
        if config.labs_numbers:
            raise ValueError("labs_numbers is for text encoders. The encoder lab_cells reads the numbers itself.")
        if config.labs_config.num_columns != columns:
            raise ValueError(
                f"labs_config.num_columns is {config.labs_config.num_columns}, but labs_scales has {columns} columns."
            )


__all__ = ["LabCells", "LabNumbers", "check_cells_of_config", "is_cell_encoder", "reads_cells"]
