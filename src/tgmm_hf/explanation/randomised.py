"""Models whose weights are shuffled: a map that does not change with them does not explain the model.

Adebayo et al. 2018, "Sanity checks for saliency maps". Ours: weights are shuffled within each tensor, which keeps their
size, so that the activations stay in a range that the layers above know.
"""

import copy
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

ENCODERS = ("labs_encoder", "ecg_encoder", "echo_encoder")
"""Start of the names of the weights of TGMM's encoders."""


def shuffled_copies(model: Any, seed: int, encoders: tuple[str, ...] = ENCODERS) -> dict[str, Any]:
    """Make two copies of a model: "top", whose parts above the encoders are shuffled, and "all".

    Args:
        model: `TgmmModel` or another model. It is not changed.
        seed: of the shuffling.
        encoders: start of the names of the encoders' weights.
    """
    generator = torch.Generator().manual_seed(seed)
    copies = {"top": copy.deepcopy(model), "all": copy.deepcopy(model)}
    for name, each in copies.items():
        for key, parameter in each.named_parameters():
            if name == "all" or not key.startswith(encoders):
                order = torch.randperm(parameter.numel(), generator=generator)
                with torch.no_grad():
                    parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return copies


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Compute Spearman's correlation of the absolute values of two maps (units,); 0 if a map is constant."""
    ranks = np.stack([rankdata(np.abs(first)), rankdata(np.abs(second))])
    if (ranks.std(1) == 0).any():
        return 0.0
    return float(np.corrcoef(ranks)[0, 1])
