"""Response: the likelihood of each candidate answer, given the guided slots (paper, section 4.2.4).

Notation in shape comments: B patients, N fusion tokens, d width, C candidate answers, L answer tokens, S tokens of the
task's text.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from ..configuration_tgmm import TgmmConfig
from .attention import TgmmBlock
from .guidance import GuidedOutput, pool_slots
from .slot_reading import read_slot_by_slot, reading_of


@dataclass
class CandidateScores:
    """Scores of a task's candidate answers.

    Attributes:
        logits: (B, C) log-likelihood of each candidate, divided by its number of tokens if `config.length_normalised`.
        token_log_probs: (B, C, L) log-likelihood of each token of each candidate.
        token_mask: (C, L) True on a candidate's tokens, end token included.
        slot_attention: (B, C, slots) share of the decoder's attention that each slot gets; None for a linear response.
        generated: True if a decoder scored the candidates token by token, False for a linear response.
    """

    logits: torch.Tensor
    token_log_probs: torch.Tensor
    token_mask: torch.Tensor
    slot_attention: torch.Tensor | None = None
    generated: bool = True


def risk_of(logits: torch.Tensor) -> torch.Tensor:
    """Compute the risk score (B,) of a prognosis: log-likelihood of the second candidate, minus that of the first."""
    return logits[:, 1] - logits[:, 0]


def score_candidates(config: TgmmConfig, response: nn.Module, guided: GuidedOutput, task: str) -> CandidateScores:
    """Score the candidates of a task with the response decoder, or with a linear layer (paper, table 6).

    Args:
        config: the model's configuration.
        response: [`ResponseDecoder`], or task -> linear layer.
        guided: the slots under the task's text.
        task: name of the task.
    """
    if config.response == "linear":
        log_probs = cast(nn.ModuleDict, response)[task](pool_slots(guided)).float().log_softmax(-1)
        mask = torch.ones(log_probs.shape[1], 1, dtype=torch.bool, device=log_probs.device)
        return CandidateScores(log_probs, log_probs[..., None], mask, generated=False)
    batch_size, num_slots, num_tokens, _ = guided.slots.shape
    memory = guided.slots.flatten(1, 2)  # (B, 7, N, d) -> (B, 7 N, d)
    mask = guided.slot_mask.repeat_interleave(num_tokens, dim=1)
    if config.sstc_in_memory and guided.text is not None:
        memory = torch.cat([memory, guided.text.expand(batch_size, -1, -1)], dim=1)
        mask = torch.cat([mask, mask.new_ones(batch_size, len(guided.text))], dim=1)
    reads_by_slot = reading_of(config, task) == "slot_by_slot"
    slots = (num_slots, num_tokens) if reads_by_slot else None
    token_log_probs, token_mask, attention = response(memory, mask, task, slots)
    logits = (token_log_probs * token_mask).sum(-1)
    if config.length_normalised:
        logits = logits / token_mask.sum(-1)
    slot_attention = attention[..., : num_slots * num_tokens].unflatten(-1, (num_slots, num_tokens)).sum(-1)
    return CandidateScores(logits, token_log_probs, token_mask, slot_attention)


class ResponseDecoder(nn.Module):
    """One-layer decoder that computes how likely each candidate answer is, given the slots.

    Its vocabulary holds the tokens of the tasks' answers, a start token and an end token. Input and output embeddings
    are the same weights.
    """

    START, END, OFFSET = 0, 1, 2

    def __init__(self, config: TgmmConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(self.OFFSET + len(config.answer_token_ids), config.hidden_size)
        self.positions = nn.Parameter(torch.zeros(config.max_answer_tokens, config.hidden_size))
        self.block = TgmmBlock(config, cross_attention=True)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(self.OFFSET + len(config.answer_token_ids)))

    def grow(self, num_tokens: int) -> None:
        """Append `num_tokens` entries to the vocabulary, in place. The new embeddings are random, the new biases 0."""
        old = self.embedding.weight
        self.embedding = nn.Embedding(len(old) + num_tokens, old.shape[1]).to(old)
        nn.init.normal_(self.embedding.weight, std=self.config.initializer_range)
        self.embedding.weight[: len(old)].copy_(old)
        self.bias = nn.Parameter(torch.cat([self.bias, self.bias.new_zeros(num_tokens)]))

    def candidate_tokens(self, task: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Build the decoder's input and target for the C candidates of a task.

        Returns:
            input ids, the start token first; target ids, the end token last; and mask, True on the target tokens of
            a candidate. Each is (C, L). The ids are rows of the decoder's own vocabulary. L is the number of tokens of
            the longest answer plus one. Shorter answers are filled with the end token, which the mask hides.

        Raises:
            ValueError: if L is larger than `config.max_answer_tokens`.
        """
        rows = {token: self.OFFSET + row for row, token in enumerate(self.config.answer_token_ids)}
        answers = [[rows[token] for token in ids] for ids in self.config.tasks[task]["candidate_ids"]]
        length = 1 + max(len(answer) for answer in answers)
        if length > len(self.positions):
            raise ValueError(
                f"An answer of task {task!r} has {length - 1} tokens, the model takes {len(self.positions) - 1}. "
                "Shorten the answer, or raise max_answer_tokens."
            )
        pad = [[self.END] * (length - 1 - len(answer)) for answer in answers]
        device = self.positions.device
        inputs = torch.tensor(
            [[self.START, *answer, *fill] for answer, fill in zip(answers, pad, strict=True)], device=device
        )
        targets = torch.tensor(
            [[*answer, self.END, *fill] for answer, fill in zip(answers, pad, strict=True)], device=device
        )
        lengths = torch.tensor([len(answer) + 1 for answer in answers], device=device)
        return inputs, targets, torch.arange(length, device=device) < lengths[:, None]

    def forward(
        self, memory: torch.Tensor, memory_mask: torch.Tensor, task: str, slots: tuple[int, int] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Read the memory for every candidate of a task.

        Args:
            memory: (B, M, d) the 7 N tokens of the slots; with `config.sstc_in_memory` the S tokens of the task's text
                follow.
            memory_mask: (B, M) bool, True for a token that may be read.
            task: name of the task.
            slots: number of slots and N, to read slot by slot, see [`read_slot_by_slot`]. None reads the whole memory
                by one softmax.

        Returns:
            log-likelihood of each token (B, C, L), token mask (C, L), and attention of each candidate to the memory
            (B, C, M), the mean over heads and tokens. Slot by slot it is the contribution of each token.
        """
        inputs, targets, token_mask = self.candidate_tokens(task)
        num_candidates, length = inputs.shape
        causal = torch.ones(length, length, dtype=torch.bool, device=inputs.device).tril()
        # All rows of the small vocabulary at once, because they are the input and the output embeddings.
        # Their number is read from the bias, because a LoRA adapter around the embedding does not tell it.
        vocabulary = self.embedding(torch.arange(len(self.bias), device=inputs.device))
        hidden_states = self.block.attend_self(vocabulary[inputs] + self.positions[:length], causal)
        # Up to here nothing depends on the patient: (C, L, d) -> (B, C L, d), then one attention to one memory.
        hidden_states = hidden_states.flatten(0, 1).expand(len(memory), -1, -1)
        hidden_states, weights = self._read(hidden_states, memory, memory_mask[:, None, None, :], slots)
        hidden_states = self.norm(self.block.feed_forward(hidden_states))
        scores = hidden_states @ vocabulary.T + self.bias
        log_probs = scores.float().log_softmax(-1).unflatten(1, (num_candidates, length))
        token_log_probs = log_probs.gather(-1, targets.expand(len(memory), -1, -1)[..., None])[..., 0]
        attention = weights.mean(1).unflatten(1, (num_candidates, length)) * token_mask[..., None]
        return token_log_probs, token_mask, attention.sum(2) / token_mask.sum(1)[:, None]

    def _read(
        self, hidden_states: torch.Tensor, memory: torch.Tensor, mask: torch.Tensor, slots: tuple[int, int] | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Let the hidden states (B, Q, d) read the memory. The arguments are those of `forward` and `attend_memory`."""
        if slots is None:
            return self.block.attend_memory(hidden_states, memory, mask)
        normed = self.block.cross_norm(hidden_states)
        read, weights = read_slot_by_slot(self.block.cross_attention, normed, memory, mask, slots)
        return hidden_states + read, weights
