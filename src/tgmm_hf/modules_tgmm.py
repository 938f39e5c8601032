"""The parts of TGMM between encoders and answer: attention pooling, MedFlexFusion, textual guidance, response decoder.

Notation in shape comments: B patients, N fusion tokens, d width, d_p projected width, C candidate answers, L answer
tokens, S task-text tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from .configuration_tgmm import MODALITIES, SLOTS, TgmmConfig
from .losses_tgmm import several_processes, sum_over_processes


@dataclass
class TgmmEncoded:
    """What the encoders and the attention pooling say of a batch: the start of every task.

    tokens: modality -> (B, N, d), zeros where absent.
    present: modality -> (B,) bool.
    hidden_states, attentions: modality -> its encoder's, where they were asked for; only of those who have it.
    """

    tokens: dict[str, torch.Tensor]
    present: dict[str, torch.Tensor]
    hidden_states: dict[str, tuple[torch.Tensor, ...]] = field(default_factory=dict)
    attentions: dict[str, tuple[torch.Tensor, ...]] = field(default_factory=dict)

    def keep(self, modalities: Sequence[str]) -> "TgmmEncoded":
        """The same patients with every other modality made absent."""
        if unknown := set(modalities) - set(MODALITIES):
            raise ValueError(f"Unknown modalities {sorted(unknown)}; there are {list(MODALITIES)}.")
        present = {name: mask if name in modalities else torch.zeros_like(mask) for name, mask in self.present.items()}
        return replace(self, present=present)

    def repeat(self, times: int) -> "TgmmEncoded":
        """The batch so many times over, one whole copy after another."""
        return TgmmEncoded(
            {name: tokens.repeat(times, 1, 1) for name, tokens in self.tokens.items()},
            {name: mask.repeat(times) for name, mask in self.present.items()},
        )


@dataclass
class FusionOutput:
    """slots (B, 7, N, d) of eq. (8), slot_mask (B, 7), gates and lambdas: subset -> name -> (B,).

    The fusions of `baselines_tgmm` have one slot, no gates and no lambdas; alignment: CMTA's loss by patient (B,).
    """

    slots: torch.Tensor
    slot_mask: torch.Tensor
    gates: dict[str, dict[str, torch.Tensor]]
    lambdas: dict[str, dict[str, torch.Tensor]]
    alignment: torch.Tensor | None = None


@dataclass
class GuidedOutput:
    """slots (B, 7, N, d) under the task's text, its mask, the encoded text (S, d) and the slot map (B, 7, 7).

    hidden_states: the slots' tokens (B, 7 N, d) before and after; attentions: the weights among them (B, 1, 7 N, 7 N).
    """

    slots: torch.Tensor
    slot_mask: torch.Tensor
    text: torch.Tensor | None = None
    slot_attentions: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] = ()
    attentions: tuple[torch.Tensor, ...] = ()


def masked_softmax(scores: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Softmax over the last axis in float32; where every key is masked the weights are all zero, not NaN."""
    if mask is None:
        return scores.softmax(-1, dtype=torch.float32).to(scores.dtype)
    weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1, dtype=torch.float32)
    return (weights * mask).to(scores.dtype)


class TgmmAttention(nn.Module):
    """Multi-head attention over a few dozen tokens that returns its weights.

    Without `constants` it adds none to its output: where a standardisation follows they have no gradient but rounding,
    which Adam would follow at its full rate.
    """

    def __init__(self, width: int, heads: int, constants: bool = True):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width, bias=constants)
        self.output = nn.Linear(width, width, bias=constants)

    def forward(
        self, queries: torch.Tensor, memory: torch.Tensor, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries (B, Q, d), memory (B, K, d), mask broadcastable to (B, heads, Q, K) -> (B, Q, d), (B, heads, Q,
        K)."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(queries), self.key(memory), self.value(memory))
        )
        weights = masked_softmax(query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5, mask)
        return self.output((weights @ value).transpose(1, 2).flatten(2)), weights


class TgmmMlp(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(hidden_states)))


class TgmmStandardise(nn.Module):
    """Each feature minus its running mean over the training patients, by its running standard deviation (ours).

    What an encoder says of every patient alike is by far the larger part of its output, of one with random weights
    above all, and would drown what it says of this one. Unlike in batch normalisation the running figures serve in
    training too, updated by the batch before they are used: a batch is one step of an average, and may hold one
    patient.

    The gradient alone sees the batch: it leaves out what would move a feature of all its patients alike. The running
    mean takes any such move away again, some twenty steps late, so that an optimiser that was asked for it would go on
    for ever, and the mean's chase would pass for spread (batch renormalisation, Ioffe 2017, arXiv:1702.03275, has the
    gradient of batch normalisation for the same reason; here that of its mean). A patient alone in a step keeps all of
    it.
    """

    MOMENTUM = 0.05

    def __init__(self, *shape: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        # The type is written out, because a model that is built under another default type would otherwise give it to
        # these buffers; `_keep_in_fp32_modules_strict` of the model holds for loading alone.
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float32))
        self.register_buffer("variance", torch.ones(shape, dtype=torch.float32))
        self.register_buffer("steps", torch.zeros((), dtype=torch.float32))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, *shape) -> the same."""
        # In float32 whatever the model's type: the mean is much larger than what patients differ by.
        values = features.float()
        if self.training:
            values = self._update(values)
        deviation = (self.variance.float() + self.eps).sqrt()
        return ((values - self.mean.float()) / deviation).to(features.dtype)

    def _update(self, values: torch.Tensor) -> torch.Tensor:
        """Count a batch in; the same values, whose gradients add up to nothing over the patients.

        Patients are those of all processes, so that these keep the same figures and gradients.
        """
        number = sum_over_processes(torch.tensor(float(len(values)), device=values.device))
        if number == 0:
            return values
        if several_processes() and torch.is_grad_enabled() and not values.requires_grad:
            # nobody here has the modality and the parts before are frozen: the others' gradients still wait for ours
            values = values.detach().requires_grad_()
        mean = sum_over_processes(values.sum(0)) / number
        with torch.no_grad():
            variance = sum_over_processes(((values - mean) ** 2).sum(0)) / number
            # The plain average of the first batches, then an exponential one.
            self.steps += 1
            momentum = (1 / self.steps).clamp(min=self.MOMENTUM)
            difference = mean - self.mean
            spread = variance + (1 - momentum) * difference**2
            self.mean += momentum * difference
            self.variance += momentum * (spread - self.variance)
        if number == 1:
            return values
        return values - (mean - mean.detach())


class TgmmAttentionPool(nn.Module):
    """N learned queries read an encoder's tokens; each adds what it found to the encoder's own summary vector (ours).

    With N = 1 the summary alone is used as it is: the paper's one vector a modality.
    """

    def __init__(self, config: TgmmConfig, encoder_width: int):
        super().__init__()
        self.project = (
            nn.Identity() if encoder_width == config.hidden_size else nn.Linear(encoder_width, config.hidden_size)
        )
        self.num_tokens = config.num_fusion_tokens
        if self.num_tokens > 1:
            self.queries = nn.Parameter(torch.zeros(self.num_tokens, config.hidden_size))
            # constants would be standardised away
            self.memory_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps, bias=False)
            self.attention = TgmmAttention(config.hidden_size, config.num_attention_heads, constants=False)
            self.standardise = TgmmStandardise(self.num_tokens, config.hidden_size)
        self.dropout = nn.Dropout(config.feature_dropout)

    def forward(self, summary: torch.Tensor, tokens: torch.Tensor, token_mask: torch.Tensor) -> torch.Tensor:
        """Summary (B, D), tokens (B, L, D), token_mask (B, L) -> (B, N, d)."""
        summary = self.project(summary)[:, None]
        if self.num_tokens == 1:
            return self.dropout(summary)
        memory = self.memory_norm(self.project(tokens))
        queries = self.queries.expand(len(memory), -1, -1)
        found, _ = self.attention(queries, memory, token_mask[:, None, None, :])
        return self.dropout(self.standardise(summary + found))


class TgmmProjection(nn.Module):
    """W_Q, W_K, W_V of eq. (1), shared by all modalities, followed by P(.) of eq. (3) into the wider space d_p.

    The query goes there too and an output projection returns to d: ours, needed to close the shapes.
    """

    def __init__(self, width: int, projected_width: int):
        super().__init__()
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.project_query = nn.Linear(width, projected_width)
        self.project_key = nn.Linear(width, projected_width)
        self.project_value = nn.Linear(width, projected_width)
        self.output = nn.Linear(projected_width, width)

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(..., d) -> query, key, value, each (..., d_p)."""
        return (
            self.project_query(self.query(hidden_states)),
            self.project_key(self.key(hidden_states)),
            self.project_value(self.value(hidden_states)),
        )

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Eq. (2): softmax(Q K^T / sqrt(d_p)) V, back to width d, and the weights of its one head (B, 1, Q, K)."""
        scores = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5)[:, None]
        weights = masked_softmax(scores, mask)
        return self.output((weights @ value[:, None])[:, 0]), weights


def mix(parts: Sequence[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Eq. (3)-(5): one, two or three projected keys (or values) into one, element by element.

    The third tri-modal weight, 1 - lambda_1 - lambda_2, can be negative: that is the paper.

    Args:
        parts: tensors of one shape, in the order t, s, m.

    Returns:
        the mixture, and its lambdas: [] | [lambda_2] | [lambda_1, lambda_2].
    """
    if len(parts) == 1:
        return parts[0], []
    lambda_2 = torch.sigmoid(parts[0] + parts[1])
    if len(parts) == 2:
        return lambda_2 * parts[0] + (1 - lambda_2) * parts[1], [lambda_2]
    lambda_1 = torch.sigmoid(parts[0] + parts[1] + parts[2])
    mixture = lambda_1 * parts[0] + lambda_2 * parts[1] + (1 - lambda_1 - lambda_2) * parts[2]
    return mixture, [lambda_1, lambda_2]


class MedFlexFusion(nn.Module):
    """Paper section 4.2.2, eq. (1)-(8): every modality queries every subset it belongs to, gates weigh the answers."""

    def __init__(self, config: TgmmConfig):
        super().__init__()
        width = config.hidden_size
        self.projection = TgmmProjection(width, config.projection_dim)
        self.gates = nn.ModuleDict(
            {join_names(subset): nn.Linear((len(subset) + 1) * width, width) for subset in SLOTS if len(subset) > 1}
        )

    def forward(self, tokens: Mapping[str, torch.Tensor], present: Mapping[str, torch.Tensor]) -> FusionOutput:
        """tokens: modality -> (B, N, d); present: modality -> (B,) bool."""
        # What stands in an absent modality's place must not matter, not even as NaN.
        tokens = {name: tokens[name].masked_fill(~present[name][:, None, None], 0.0) for name in MODALITIES}
        projected = {name: self.projection(tokens[name]) for name in MODALITIES}
        slots, gates, lambdas = [], {}, {}
        for subset in SLOTS:
            if len(subset) == 1:
                slots.append(tokens[subset[0]])
                continue
            shared, gates[join_names(subset)], lambdas[join_names(subset)] = self._share(subset, tokens, projected)
            slots.append(shared)
        slot_mask = torch.stack([torch.stack([present[name] for name in subset]).all(0) for subset in SLOTS], dim=1)
        # Eq. (8); slots are stacked as a sequence instead of joined along the features, as figures 4 and 8 show them.
        stacked = torch.relu(torch.stack(slots, dim=1)) * slot_mask[:, :, None, None]
        return FusionOutput(stacked, slot_mask, gates, lambdas)

    def _share(
        self,
        subset: tuple[str, ...],
        tokens: Mapping[str, torch.Tensor],
        projected: Mapping[str, tuple[torch.Tensor, ...]],
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Z_S of eq. (7) for one subset: (B, N, d), its gates and its lambdas."""
        key, key_lambdas = mix([projected[name][1] for name in subset])
        value, value_lambdas = mix([projected[name][2] for name in subset])
        shared, gates = torch.zeros_like(tokens[subset[0]]), {}
        for name in subset:
            local, _ = self.projection.attend(projected[name][0], key, value)
            gate = torch.sigmoid(
                self.gates[join_names(subset)](torch.cat(_gate_input(subset, name, tokens, local), dim=-1))
            )
            shared = shared + gate * local
            gates[name] = gate.mean((1, 2))
        lambdas = {f"key_{len(subset) - len(key_lambdas) + i}": x.mean((1, 2)) for i, x in enumerate(key_lambdas)}
        lambdas |= {
            f"value_{len(subset) - len(value_lambdas) + i}": x.mean((1, 2)) for i, x in enumerate(value_lambdas)
        }
        return shared, gates, lambdas


def _gate_input(
    subset: tuple[str, ...], name: str, tokens: Mapping[str, torch.Tensor], local: torch.Tensor
) -> list[torch.Tensor]:
    """Cat of eq. (6): the members in order t, s, m with Z_i,local before the last one; bi-modal Cat(Z_i, Z_j,
    Z_i,local)."""
    members = [tokens[member] for member in subset]
    if len(subset) == 3:
        return [*members[:2], local, members[2]]
    return [*members, local]


def join_names(subset: Sequence[str]) -> str:
    return "+".join(subset)


class TgmmBlock(nn.Module):
    """Pre-norm transformer block, with cross-attention where a memory is given: encoder of the task text, and
    decoder."""

    def __init__(self, config: TgmmConfig, cross_attention: bool):
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.self_norm = nn.LayerNorm(width, eps=eps)
        self.self_attention = TgmmAttention(width, config.num_attention_heads)
        if cross_attention:
            self.cross_norm = nn.LayerNorm(width, eps=eps)
            self.cross_attention = TgmmAttention(width, config.num_attention_heads)
        self.mlp_norm = nn.LayerNorm(width, eps=eps)
        self.mlp = TgmmMlp(width)

    def attend_self(self, hidden_states: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        normed = self.self_norm(hidden_states)
        return hidden_states + self.self_attention(normed, normed, mask)[0]

    def attend_memory(
        self, hidden_states: torch.Tensor, memory: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        found, weights = self.cross_attention(self.cross_norm(hidden_states), memory, mask)
        return hidden_states + found, weights

    def feed_forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states + self.mlp(self.mlp_norm(hidden_states))


class TgmmLearnedContents(nn.ParameterDict):
    """C_l of every task that has one, (number of learned tokens, text width).

    It is called, not indexed: only around a call can accelerate bring weights that are offloaded.
    """

    __call__ = nn.Module.__call__  # ParameterDict forbids it

    def forward(self, task: str) -> torch.Tensor:
        return self[task]


class TextualGuidance(nn.Module):
    """Paper section 4.2.3: the task's text, half human half learned, selects what of the slots matters. Eq. (9)."""

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
        """Z_C of one task, (S, d): a one-layer transformer encoder over C_h inserted into C_l.

        question: C_h, the word embeddings of the task's question (tokens, text width).
        """
        question = question.to(self.positions.dtype)  # the text encoder may be held in half precision
        if task in self.learned:
            learned, at = self.learned(task), self.config.tasks[task]["insert_position"]
            question = torch.cat([learned[:at], question, learned[at:]])
        if len(question) > len(self.positions):
            raise ValueError(
                f"The text of task {task!r} has {len(question)} tokens, the model takes {len(self.positions)}: shorten "
                f"its "
                "question or raise max_guidance_tokens."
            )
        text = self.project_text(question) + self.positions[: len(question)]
        return self.text_norm(self.block.feed_forward(self.block.attend_self(text[None])))[0]

    def forward(self, fused: FusionOutput, task: str, question: torch.Tensor) -> GuidedOutput:
        batch_size, num_slots, num_tokens, _ = fused.slots.shape
        text = self.encode_text(task, question)
        slots = fused.slots.flatten(1, 2)  # (B, 7, N, d) -> (B, 7 N, d)
        mask = fused.slot_mask.repeat_interleave(num_tokens, dim=1)
        summary = text.mean(0).expand_as(slots)  # Z_C pooled and broadcast over the slots: ours
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


def drop_path(hidden_states: torch.Tensor, probability: float, training: bool) -> torch.Tensor:
    """DP(.; p_drop) of eq. (9): drops the branch of whole samples in training."""
    if not training or probability == 0.0:
        return hidden_states
    keep = 1.0 - probability
    kept = hidden_states.new_empty(len(hidden_states), *[1] * (hidden_states.ndim - 1)).bernoulli_(keep)
    return hidden_states * kept / keep


def slot_map(weights: torch.Tensor, slot_mask: torch.Tensor) -> torch.Tensor:
    """Attention among slot tokens (B, 7 N, 7 N) -> among slots (B, 7, 7): mean over queries, sum over keys."""
    num_slots = slot_mask.shape[1]
    by_slot = weights.unflatten(2, (num_slots, -1)).sum(-1).unflatten(1, (num_slots, -1)).mean(2)
    return by_slot * slot_mask[:, :, None]


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


def drop_modalities(encoded: TgmmEncoded, probability: float) -> TgmmEncoded:
    """Hide each present modality of each patient with this probability; one of those present always stays."""
    present = torch.stack([encoded.present[name] for name in MODALITIES], dim=1)
    draw = torch.rand(present.shape, device=present.device).masked_fill(~present, -1.0)
    kept = present & ((draw >= probability) | (draw == draw.max(1, keepdim=True).values))
    return replace(encoded, present={name: kept[:, i] for i, name in enumerate(MODALITIES)})


def pool_slots(guided: GuidedOutput) -> torch.Tensor:
    """Mean over the tokens of the slots a patient has: (B, d); zeros when there are none."""
    count = guided.slot_mask.sum(1, keepdim=True).clamp(min=1) * guided.slots.shape[2]
    return (guided.slots * guided.slot_mask[:, :, None, None]).sum((1, 2)) / count
