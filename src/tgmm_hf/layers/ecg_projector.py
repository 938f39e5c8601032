"""MEIT's projector: features of an ECG -> a unit vector in the space of a language model."""

import math

import torch
from torch import nn
from transformers import initialization as init


class EcgProjector(nn.Module):
    """Two linear layers with batch norms and a ReLU, then division by the length of the vector (MEIT).

    Args:
        width: width of the features. The first layer keeps it.
        projection_dim: width of the vectors.
        norm: with batch norms. The published projector for GPT-NeoX has none.
        eps: epsilon of the batch norms.
    """

    def __init__(self, width: int, projection_dim: int, norm: bool = True, eps: float = 1e-5):
        super().__init__()
        self.linear1 = nn.Linear(width, width)
        self.norm1 = nn.BatchNorm1d(width, eps=eps) if norm else nn.Identity()
        self.linear2 = nn.Linear(width, projection_dim)
        self.norm2 = nn.BatchNorm1d(projection_dim, eps=eps) if norm else nn.Identity()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map features (batch, vectors, width) to unit vectors (batch, vectors, projection_dim).

        Raises:
            ValueError: if a training batch holds a single vector, of which a batch norm can compute no deviation.
        """
        rows = features.flatten(0, 1)  # the batch norms count every vector as one row
        if self.training and isinstance(self.norm1, nn.BatchNorm1d) and len(rows) < 2:
            raise ValueError(
                "The batch norms of the projector cannot be trained on one vector: the batch holds "
                f"{features.shape[0]} ECG(s) with {features.shape[1]} vector(s) each. Train with larger batches, or "
                "put the projector into evaluation mode."
            )
        hidden = torch.relu(self.norm1(self.linear1(rows)))
        projected = self.norm2(self.linear2(hidden))
        return nn.functional.normalize(projected, dim=-1).unflatten(0, features.shape[:2])


def init_as_torch(module: nn.Module) -> None:
    """Draw the starting weights of a linear layer or a convolution as PyTorch does, because MEIT was trained so."""
    if isinstance(module, nn.Linear | nn.Conv1d):
        init.kaiming_uniform_(module.weight, a=math.sqrt(5))
        if module.bias is not None:
            bound = 1 / math.sqrt(module.weight[0].numel())
            init.uniform_(module.bias, -bound, bound)


__all__ = ["EcgProjector", "init_as_torch"]
