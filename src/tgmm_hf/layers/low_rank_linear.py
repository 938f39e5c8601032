"""Low-rank adapters (LoRA, Hu et al. 2021) that are parts of a model, not of a training.

PEFT adds adapters from outside and keeps them in files of their own. Here the adapters belong to the design of the
model. So they are saved with it, and load without PEFT. The weights of the wrapped layer keep their names.
"""

import math

import torch
from torch import nn
from transformers import initialization as init

TARGETS = ("query", "value", "q_proj", "v_proj", "q_lin", "v_lin", "query_proj", "value_proj")
"""Names of the layers that make queries and values, in BERT, RoBERTa, CLIP, Llama, DistilBERT and DeBERTa."""


class LowRankLinear(nn.Linear):
    """A linear layer plus two thin matrices, W x + b + scale B A dropout(x).

    Args:
        layer: the layer to extend. The new layer has its weights, not copies.
        rank: rows of A.
        alpha: scale times rank.
        dropout: probability of dropout in front of A.
    """

    def __init__(self, layer: nn.Linear, rank: int, alpha: float, dropout: float):
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        self.low_rank_in = nn.Parameter(layer.weight.new_zeros(rank, layer.in_features))
        self.low_rank_out = nn.Parameter(layer.weight.new_zeros(layer.out_features, rank))
        self.scale = alpha / rank
        self.dropout = nn.Dropout(dropout)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (..., in_features) to (..., out_features)."""
        thin = nn.functional.linear(self.dropout(input), self.low_rank_in)
        return super().forward(input) + self.scale * nn.functional.linear(thin, self.low_rank_out)

    @torch.no_grad()
    def init_low_rank(self) -> None:
        """Draw A as PyTorch draws a linear layer, and set B to zero, so that the layer starts as it was."""
        init.kaiming_uniform_(self.low_rank_in, a=math.sqrt(5))
        init.zeros_(self.low_rank_out)


def add_low_rank(model: nn.Module, rank: int, alpha: float, dropout: float) -> None:
    """Put adapters around all query and value layers of a model, in place.

    Args:
        model: the model, such as a text encoder.
        rank: see [`LowRankLinear`].
        alpha: see [`LowRankLinear`].
        dropout: see [`LowRankLinear`].

    Raises:
        ValueError: if the model has no layer that `TARGETS` names.
    """
    layers = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.rsplit(".", 1)[-1] in TARGETS
    ]
    if not layers:
        raise ValueError(
            f"{type(model).__name__} has no linear layers named {', '.join(TARGETS)}, so it gets no adapters. Take "
            "another text encoder, or set text_training to 'full' or 'frozen'."
        )
    for name, layer in layers:
        model.set_submodule(name, LowRankLinear(layer, rank, alpha, dropout))


__all__ = ["LowRankLinear", "add_low_rank"]
