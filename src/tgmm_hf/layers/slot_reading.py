"""How the answer reads the slots: each slot by a softmax of its own, and a learned gain of the shared slots.

Eq. (8) of the paper concatenates the slots along the features, so that a linear layer behind it adds up what it reads
from each slot. Our slots are stacked as a sequence. One softmax over all their tokens averages where it should add:
a slot with much to say takes attention away from the others. "slot_by_slot" adds (ours, decision 223).

Notation in shape comments: B patients, Q queries, N fusion tokens of a slot, d width, d_h width of a head.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import initialization as init

from ..configuration_tgmm import TgmmConfig
from ..utils.names import SLOTS
from .attention import TgmmAttention, masked_softmax

IS_SHARED = [len(subset) > 1 for subset in SLOTS]


def reading_of(config: TgmmConfig, task: str) -> str:
    """Return how the decoder reads the slots for a task: the task's own setting, or `config.slot_reading`."""
    settings: Mapping[str, Any] = config.tasks[task]
    return settings.get("slot_reading") or config.slot_reading


def read_slot_by_slot(
    attention: TgmmAttention, queries: torch.Tensor, memory: torch.Tensor, mask: torch.Tensor, slots: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Read each slot by a softmax of its own, and the task's text by another. Add the answers.

    Args:
        attention: weights of the attention.
        queries: (B, Q, d).
        memory: (B, K, d) the tokens of all slots, slot after slot, and then those of the task's text, if any.
        mask: (B, 1, 1, K) bool, True for a token that may be read. A slot without such a token adds nothing.
        slots: number of slots, and N.

    Returns:
        the sum of the answers (B, Q, d), and what each token of the memory contributes (B, heads, Q, K): its weight
        times the length of the slot's answer relative to all answers of the head. A row sums to 1.
    """
    number, size = slots
    query, key, value = attention.project(queries, memory)  # (B, heads, ., d_h)
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    in_slots = number * size
    weights = masked_softmax(scores[..., :in_slots].unflatten(-1, slots), mask[..., :in_slots].unflatten(-1, slots))
    # (B, heads, Q, number, N) and (B, heads, number, N, d_h) -> (B, heads, Q, number, d_h)
    answers = torch.einsum("bhqsn,bhsnd->bhqsd", weights, value[:, :, :in_slots].unflatten(2, slots))
    parts = [weights.flatten(-2)]
    if memory.shape[1] > in_slots:
        text = masked_softmax(scores[..., in_slots:], mask[..., in_slots:])
        answers = torch.cat([answers, (text @ value[:, :, in_slots:])[:, :, :, None]], dim=3)
        parts.append(text)
    with torch.no_grad():
        length = answers.norm(dim=-1)
        share = length / length.sum(-1, keepdim=True).clamp(min=torch.finfo(length.dtype).tiny)
        of_tokens = [share[..., :number].repeat_interleave(size, dim=-1)]
        if len(parts) > 1:
            of_tokens.append(share[..., number:].expand_as(parts[1]))
        contributions = torch.cat(parts, dim=-1) * torch.cat(of_tokens, dim=-1)
    return attention.output(answers.sum(3).transpose(1, 2).flatten(2)), contributions


class SharedSlotGain(nn.Module):
    """Learned factor of each shared slot, behind the guidance (ours).

    The slots of single modalities have no factor. A small initial value lets the model start from what each modality
    says alone. Interactions then have to earn their weight.

    Args:
        config: gives the initial value, `shared_slot_gain`.
    """

    def __init__(self, config: TgmmConfig):
        super().__init__()
        self.initial = config.shared_slot_gain
        self.gain = nn.Parameter(torch.ones(sum(IS_SHARED)))

    def forward(self, slots: torch.Tensor) -> torch.Tensor:
        """Multiply the shared slots of (B, 7, N, d) by their gains. The result has the same shape."""
        factors = slots.new_ones(len(SLOTS))
        shared = torch.tensor(IS_SHARED, device=slots.device)
        return slots * factors.masked_scatter(shared, self.gain.to(slots.dtype))[:, None, None]

    def reset(self) -> None:
        """Set the factors to their start, as transformers' initialisation asks for it."""
        init.constant_(self.gain, self.initial)
