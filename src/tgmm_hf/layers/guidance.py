"""Textual guidance: the task's text selects from the slots (paper, section 4.2.3, eq. (9)).

Notation in shape comments: B patients, N fusion tokens, d width, S tokens of the task's text.
"""

from dataclasses import dataclass

import torch
from torch import nn

from ..configuration_tgmm import TgmmConfig
from .attention import TgmmBlock, TgmmProjection
from .feed_forward import drop_path
from .fusion import FusionOutput, mix


@dataclass
class GuidedOutput:
    """Slots under a task's text.

    Attributes:
        slots: (B, 7, N, d).
        slot_mask: (B, 7) bool.
        text: (S, d) the encoded text; None without guidance.
        slot_attentions: (B, 7, 7) attention between slots; None without guidance.
        hidden_states: the slots' tokens (B, 7 N, d) before and after guidance.
        attentions: the weights among these tokens, one tensor (B, 1, 7 N, 7 N).
    """

    slots: torch.Tensor
    slot_mask: torch.Tensor
    text: torch.Tensor | None = None
    slot_attentions: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] = ()
    attentions: tuple[torch.Tensor, ...] = ()


class TgmmLearnedContents(nn.ParameterDict):
    """C_l of every task that has learned content: (number of learned tokens, text width).

    It is called and not indexed, because accelerate brings offloaded weights only around a call.
    """

    __call__ = nn.Module.__call__  # ParameterDict forbids it

    def forward(self, task: str) -> torch.Tensor:
        """Return the learned content of a task."""
        return self[task]


class TextualGuidance(nn.Module):
    """The task's text, half human and half learned, selects what matters in the slots: eq. (9)."""

    def __init__(self, config: TgmmConfig, text_width: int):
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.project_text = nn.Identity() if text_width == width else nn.Linear(text_width, width)
        # Without positions mean pooling would make the insert position a no-op.
        self.positions = nn.Parameter(torch.zeros(config.max_guidance_tokens, width))
        self.block = TgmmBlock(config, cross_attention=False)
        self.text_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.projection = TgmmProjection(width, config.projection_dim)
        self.gate = nn.Linear(2 * width, width)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.learned = TgmmLearnedContents(
            {
                name: nn.Parameter(torch.zeros(task["num_learnable_tokens"], text_width))
                for name, task in config.tasks.items()
                if config.guidance == "human+learned" and task["num_learnable_tokens"]
            }
        )

    def encode_text(self, task: str, question: torch.Tensor) -> torch.Tensor:
        """Encode a task's text with one transformer layer: Z_C (S, d) of C_h inserted into C_l.

        Args:
            task: name of the task.
            question: C_h, the word embeddings of the task's question (tokens, text width).

        Raises:
            ValueError: if the text is longer than the model's positions.
        """
        question = question.to(self.positions.dtype)  # the text encoder may be held in half precision
        if task in self.learned:
            learned, position = self.learned(task), self.config.tasks[task]["insert_position"]
            question = torch.cat([learned[:position], question, learned[position:]])
        if len(question) > len(self.positions):
            raise ValueError(
                f"The text of task {task!r} has {len(question)} tokens, the model takes {len(self.positions)}. Shorten "
                "its question, or raise max_guidance_tokens."
            )
        text = self.project_text(question) + self.positions[: len(question)]
        return self.text_norm(self.block.feed_forward(self.block.attend_self(text[None])))[0]

    def forward(self, fused: FusionOutput, task: str, question: torch.Tensor) -> GuidedOutput:
        """Let the text of a task select from the slots.

        Args:
            fused: the slots.
            task: name of the task.
            question: word embeddings of the task's question (tokens, text width).
        """
        batch_size, num_slots, num_tokens, _ = fused.slots.shape
        text = self.encode_text(task, question)
        slots = fused.slots.flatten(1, 2)  # (B, 7, N, d) -> (B, 7 N, d)
        mask = fused.slot_mask.repeat_interleave(num_tokens, dim=1)
        summary = text.mean(0).expand_as(slots)  # Z_C is averaged and the same for all slots (ours)
        query, slot_key, slot_value = self.projection(slots)
        _, text_key, text_value = self.projection(text.mean(0).expand(batch_size, 1, -1))
        key, _ = mix([slot_key, text_key.expand_as(slot_key)])
        value, _ = mix([slot_value, text_value.expand_as(slot_value)])
        attended, weights = self.projection.attend(query, key, value, mask[:, None, None, :])
        gate = torch.sigmoid(self.gate(torch.cat([slots, summary], dim=-1)))
        guided = self.norm(gate * attended + drop_path(slots, self.config.drop_path, self.training))
        guided = guided * mask[..., None]
        return GuidedOutput(
            guided.unflatten(1, (num_slots, num_tokens)),
            fused.slot_mask,
            text,
            slot_map(weights[:, 0], fused.slot_mask),
            hidden_states=(slots, guided),
            attentions=(weights,),
        )


def slot_map(weights: torch.Tensor, slot_mask: torch.Tensor) -> torch.Tensor:
    """Sum attention among slot tokens (B, 7 N, 7 N) up to slots (B, 7, 7): mean over queries, sum over keys."""
    num_slots = slot_mask.shape[1]
    by_slot = weights.unflatten(2, (num_slots, -1)).sum(-1).unflatten(1, (num_slots, -1)).mean(2)
    return by_slot * slot_mask[:, :, None]


def pool_slots(guided: GuidedOutput) -> torch.Tensor:
    """Average the tokens of the slots that a patient has: (B, d); zeros if the patient has none."""
    count = guided.slot_mask.sum(1, keepdim=True).clamp(min=1) * guided.slots.shape[2]
    return (guided.slots * guided.slot_mask[:, :, None, None]).sum((1, 2)) / count
