"""Decomposed relative positions of MViT-v2 (Li et al., CVPR 2022), as extra columns of query and key."""

from contextlib import nullcontext

import torch
from torch import nn

from ..layers.recomputing import recomputing

Grid = tuple[int, int, int]
"""Frames, rows and columns of a token grid."""


class EchoMvitRelativePositions(nn.Module):
    """Relative-position tables of one block, and the extra query and key columns that carry them."""

    def __init__(self, query_grid: Grid, key_grid: Grid, head_dim: int):
        super().__init__()
        self.query_grid = query_grid
        self.key_grid = key_grid
        # One table serves rows and columns, as in torchvision, so its size is that of the larger axis.
        spatial = 2 * max(*query_grid[1:], *key_grid[1:]) - 1
        temporal = 2 * max(query_grid[0], key_grid[0]) - 1
        self.sizes = (spatial, spatial, temporal)
        self.table = nn.Parameter(torch.zeros(sum(self.sizes), head_dim))

    def forward(self, query: torch.Tensor, recomputes: bool = False) -> torch.Tensor:
        """Compute the extra columns of the query: its products with the offsets to every key row, column and frame.

        Args:
            query: (batch, heads, 1 + tokens, head size).
            recomputes: whether the three reordered copies of the query are made again in the backward pass.

        Returns:
            (batch, heads, 1 + tokens, key rows + key cols + key frames); zero for the class token.
        """
        tables = zip((1, 2, 0), self.table.split(self.sizes), strict=True)
        products = [self._products(query, axis, table, recomputes) for axis, table in tables]
        return nn.functional.pad(torch.cat(products, dim=-1).flatten(2, 4), (0, 0, 1, 0))

    def _products(self, query: torch.Tensor, axis: int, table: torch.Tensor, recomputes: bool) -> torch.Tensor:
        """Multiply the query with the part of the table for `axis` (0 frames, 1 rows, 2 columns).

        Returns:
            (batch, heads, frames, rows, columns, keys along the axis).
        """

        def along_axis(values: torch.Tensor) -> torch.Tensor:
            # (batch, heads, 1 + tokens, size) -> (places along the axis, batch, heads, two other axes, size)
            return values[:, :, 1:].unflatten(2, self.query_grid).movedim(2 + axis, 0).contiguous()

        moved = along_axis(query)
        with recomputing(moved, along_axis, query) if recomputes else nullcontext():
            products = torch.einsum("abcdef,akf->abcdek", moved, table[self._offsets(axis, query.device)])
        return products.movedim(0, 2 + axis)

    def key_columns(self, key: torch.Tensor) -> torch.Tensor:
        """Compute one-hot row, column and frame of every key: (1 + key tokens, key rows + key cols + key frames)."""
        frames, rows, cols = self.key_grid
        one_hot = [
            torch.eye(rows, dtype=key.dtype, device=key.device)[None, :, None].expand(frames, rows, cols, rows),
            torch.eye(cols, dtype=key.dtype, device=key.device)[None, None, :].expand(frames, rows, cols, cols),
            torch.eye(frames, dtype=key.dtype, device=key.device)[:, None, None].expand(frames, rows, cols, frames),
        ]
        return nn.functional.pad(torch.cat(one_hot, dim=-1).flatten(0, 2), (0, 0, 1, 0))

    def _offsets(self, axis: int, device: torch.device) -> torch.Tensor:
        """Find the table row of each pair along `axis` (0 frames, 1 rows, 2 columns): long (queries, keys)."""
        queries, keys = self.query_grid[axis], self.key_grid[axis]
        query_step, key_step = max(keys / queries, 1.0), max(queries / keys, 1.0)
        query_place = torch.arange(queries, device=device)[:, None] * query_step
        key_place = (torch.arange(keys, device=device)[None, :] + (1.0 - keys)) * key_step
        return (query_place - key_place).long()


__all__ = ["EchoMvitRelativePositions", "Grid"]
