"""What the loss of MoRE needs: projections into the shared space, and notes that are equal.

Notation in shape comments: B patients, L tokens, d width of an encoder, p width of the shared space.
"""

import torch
from torch import nn
from torch.nn import functional

from ...layers.distributed import gather_batch
from ...layers.losses import info_nce_loss

HASH_BASE = 6364136223846793005
"""Odd multiplier of the note keys (of Knuth's MMIX generator)."""


class MoreProjection(nn.Module):
    """Two linear layers without biases, each with a batch norm, and a ReLU between them.

    Args:
        width: d.
        projection_dim: p.
        eps: epsilon of the batch norms.
    """

    def __init__(self, width: int, projection_dim: int, eps: float = 1e-5):
        super().__init__()
        self.linear1 = nn.Linear(width, width, bias=False)
        self.norm1 = nn.BatchNorm1d(width, eps=eps)
        self.linear2 = nn.Linear(width, projection_dim, bias=False)
        self.norm2 = nn.BatchNorm1d(projection_dim, eps=eps)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map features (B, d) to (B, p), not normalised."""
        return _batch_norm(self.norm2, self.linear2(torch.relu(_batch_norm(self.norm1, self.linear1(features)))))


def _batch_norm(norm: nn.BatchNorm1d, features: torch.Tensor) -> torch.Tensor:
    """Apply a batch norm. A single row in training takes the running statistics, because it has no deviation."""
    if not norm.training or len(features) > 1:
        return norm(features)
    return functional.batch_norm(
        features, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=norm.eps
    )


def note_keys(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Compute one number for each note, by which equal notes are found in the batches of all processes.

    The number does not depend on the padding, its side or its length. Different notes have equal numbers with a chance
    of about 1e-19.

    Args:
        input_ids: (B, L) token ids.
        attention_mask: (B, L), 1 for a token.

    Returns:
        (B,) int64.
    """
    mask = attention_mask.long()
    keys = torch.zeros_like(mask[:, 0])
    for token, is_token in zip((input_ids.long() + 1).unbind(1), mask.unbind(1), strict=True):
        keys = torch.where(is_token.bool(), (keys + token) * HASH_BASE, keys)  # int64 wraps around
    return keys


def _asking_for_gradients(embeds: torch.Tensor) -> torch.Tensor:
    """Let embeddings take part in the backward pass, because the other processes wait for all of them.

    A process in which nobody has the modality has zeros that no weight made.
    """
    if not torch.is_grad_enabled() or embeds.requires_grad:
        return embeds
    return embeds.detach().requires_grad_()


def more_loss(
    embeds: dict[str, torch.Tensor],
    present: dict[str, torch.Tensor],
    keys: torch.Tensor,
    temperature: torch.Tensor,
    xray_ecg: bool = False,
) -> torch.Tensor:
    """Compute the loss of MoRE over the patients of all processes: InfoNCE of note and X-ray, and of note and ECG.

    Patients with equal notes are no negatives of each other. A pair with fewer than two patients adds nothing.

    Args:
        embeds: "xray", "ecg" and "text" -> (B, p) of length one; anything for a patient without it.
        present: the same names -> (B,) bool.
        keys: (B,) of `note_keys`.
        temperature: scalar.
        xray_ecg: also InfoNCE of X-ray and ECG (ours).
    """
    embeds = {name: gather_batch(_asking_for_gradients(value)) for name, value in embeds.items()}
    present = {name: gather_batch(value) for name, value in present.items()}
    return loss_of_one_batch(embeds, present, gather_batch(keys), temperature, xray_ecg)


def loss_of_one_batch(
    embeds: dict[str, torch.Tensor],
    present: dict[str, torch.Tensor],
    keys: torch.Tensor,
    temperature: torch.Tensor,
    xray_ecg: bool = False,
) -> torch.Tensor:
    """Compute the loss of `more_loss` over the patients that are given, without other processes."""
    alike = (keys[:, None] == keys) & present["text"][:, None] & present["text"]
    pairs = [("text", "xray"), ("text", "ecg"), *([("xray", "ecg")] if xray_ecg else [])]
    losses = [
        info_nce_loss(embeds[first], embeds[second], present[first] & present[second], temperature, alike)
        for first, second in pairs
    ]
    return torch.stack(losses).sum()


__all__ = ["MoreProjection", "loss_of_one_batch", "more_loss", "note_keys"]
