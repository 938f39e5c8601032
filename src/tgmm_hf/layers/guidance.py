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
    """Slots after the guidance: a task's text has selected from them.

    Attributes:
        slots: (B, 7, N, d) in the order of `SLOTS`; zeros for a slot that the patient lacks.
        slot_mask: (B, 7) bool, True for a slot that the patient has.
        text: (S, d) the encoded text of the task; None without guidance.
        slot_attentions: (B, 7, 7) attention between slots; None without guidance.
        hidden_states: two tensors (B, 7 N, d): the tokens of the slots before and after the guidance. Without guidance
            there is only the first.
        attentions: one tensor (B, 1, 7 N, 7 N): the attention among the tokens of the slots. () without guidance.
    """

    slots: torch.Tensor
    slot_mask: torch.Tensor
    text: torch.Tensor | None = None
    slot_attentions: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] = ()
    attentions: tuple[torch.Tensor, ...] = ()


class TgmmLearnedContents(nn.ParameterDict):
    """Learned tokens of each task: task -> C_l (number of learned tokens, text width).

    A task with `num_learnable_tokens` 0 has no entry. Call the object with the name of a task and do not index it,
    because accelerate loads offloaded weights only for a call.
    """

    __call__ = nn.Module.__call__  # ParameterDict forbids it

    def forward(self, task: str) -> torch.Tensor:
        """Return the learned tokens of `task`, (number of learned tokens, text width)."""
        return self[task]


class TextualGuidance(nn.Module):
    """Guidance: the text of a task, a question and learned tokens, selects what matters in the slots, eq. (9).

    Args:
        config: gives the sizes, and the tasks with their numbers of learned tokens.
        text_width: width of the text encoder's word embeddings.
    """

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
        """Encode the text of a task with one transformer layer.

        The question's embeddings (C_h) are inserted into the task's learned tokens (C_l) at the task's setting
        `insert_position`. A task without learned tokens uses the question alone.

        Args:
            task: name of the task.
            question: C_h, the word embeddings of the task's question (tokens, text width).

        Returns:
            Z_C (S, d). S is the number of all tokens, of the question and the learned ones.

        Raises:
            ValueError: if S is larger than `config.max_guidance_tokens`.
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
            fused: the slots of B patients.
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
    """Reduce attention among the tokens of slots to attention among slots.

    Args:
        weights: (B, 7 N, 7 N), query tokens x key tokens.
        slot_mask: (B, 7) bool.

    Returns:
        (B, 7, 7): the mean over the N query tokens of a slot of the sum over the N key tokens of a slot. The rows of a
        slot that the patient lacks are zero. Every other row sums to 1.
    """
    num_slots = slot_mask.shape[1]
    by_slot = weights.unflatten(2, (num_slots, -1)).sum(-1).unflatten(1, (num_slots, -1)).mean(2)
    return by_slot * slot_mask[:, :, None]


def pool_slots(guided: GuidedOutput) -> torch.Tensor:
    """Average over slots and tokens: (B, d). Only slots that the patient has count; without a slot it is zeros."""
    count = guided.slot_mask.sum(1, keepdim=True).clamp(min=1) * guided.slots.shape[2]
    return (guided.slots * guided.slot_mask[:, :, None, None]).sum((1, 2)) / count
