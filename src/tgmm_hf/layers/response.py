"""Response decoder: the likelihood of each candidate answer (paper, section 4.2.4)."""

import torch
from torch import nn

from ..configuration_tgmm import TgmmConfig
from .attention import TgmmBlock


class ResponseDecoder(nn.Module):
    """Paper section 4.2.4: a one-layer decoder that says how likely each candidate answer is, given the slots.

    Its vocabulary is the tokens of the tasks' answers plus a start and an end token; input and output embeddings are
    one.
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
        """Append `num_tokens` entries to the vocabulary."""
        old = self.embedding.weight
        self.embedding = nn.Embedding(len(old) + num_tokens, old.shape[1]).to(old)
        nn.init.normal_(self.embedding.weight, std=self.config.initializer_range)
        self.embedding.weight[: len(old)].copy_(old)
        self.bias = nn.Parameter(torch.cat([self.bias, self.bias.new_zeros(num_tokens)]))

    def candidate_tokens(self, task: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Decoder input (start token first), target (end token last) and mask of a task's candidates, each (C, L)."""
        rows = {token: self.OFFSET + row for row, token in enumerate(self.config.answer_token_ids)}
        answers = [[rows[token] for token in ids] for ids in self.config.tasks[task]["candidate_ids"]]
        length = 1 + max(len(answer) for answer in answers)
        if length > len(self.positions):
            raise ValueError(
                f"An answer of task {task!r} has {length - 1} tokens, the model takes {len(self.positions) - 1}: "
                f"shorten it "
                "or raise max_answer_tokens."
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
        self, memory: torch.Tensor, memory_mask: torch.Tensor, task: str
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Memory (B, M, d) and its mask (B, M) -> token log-probabilities (B, C, L), token mask (C, L), attention (B,
        C, M)."""
        inputs, targets, token_mask = self.candidate_tokens(task)
        num_candidates, length = inputs.shape
        causal = torch.ones(length, length, dtype=torch.bool, device=inputs.device).tril()
        # The few dozen rows of the vocabulary at once: they serve as input and as output embeddings.
        vocabulary = self.embedding(torch.arange(self.embedding.num_embeddings, device=inputs.device))
        hidden_states = self.block.attend_self(vocabulary[inputs] + self.positions[:length], causal)
        # Up to here nothing depends on the patient: (C, L, d) -> (B, C L, d), then one look at one memory.
        hidden_states = hidden_states.flatten(0, 1).expand(len(memory), -1, -1)
        hidden_states, weights = self.block.attend_memory(hidden_states, memory, memory_mask[:, None, None, :])
        hidden_states = self.norm(self.block.feed_forward(hidden_states))
        scores = hidden_states @ vocabulary.T + self.bias
        log_probs = scores.float().log_softmax(-1).unflatten(1, (num_candidates, length))
        token_log_probs = log_probs.gather(-1, targets.expand(len(memory), -1, -1)[..., None])[..., 0]
        attention = weights.mean(1).unflatten(1, (num_candidates, length)) * token_mask[..., None]
        return token_log_probs, token_mask, attention.sum(2) / token_mask.sum(1)[:, None]
