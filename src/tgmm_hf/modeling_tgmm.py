"""TGMM: encoders, MedFlexFusion, textual guidance and response, in reading order.

Notation in shape comments: B patients, N fusion tokens, d width, d_p projected width, C candidate answers, L answer tokens,
S task-text tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import ModelOutput

from .configuration_tgmm import MODALITIES, SLOTS, TgmmConfig, check_task
from .losses_tgmm import (
    cox_loss,
    gather_batch,
    horizon_status,
    info_nce_loss,
    language_model_loss,
    margin_ranking_loss,
    multiple_choice_loss,
    unlikelihood_loss,
)
from .modeling_echo_mvit import EchoMvitModel
from .modeling_st_mem import StMemModel

ENCODERS = {"st_mem": StMemModel, "echo_mvit": EchoMvitModel}
"""Encoder classes that travel with this file; any other model type goes through `AutoModel`."""


@dataclass
class TgmmEncoded:
    """What the encoders and the attention pooling say of a batch: the start of every task.

    tokens: modality -> (B, N, d), zeros where absent.
    present: modality -> (B,) bool.
    """

    tokens: dict[str, torch.Tensor]
    present: dict[str, torch.Tensor]

    def keep(self, modalities: Sequence[str]) -> "TgmmEncoded":
        """The same patients with every other modality made absent."""
        if unknown := set(modalities) - set(MODALITIES):
            raise ValueError(f"Unknown modalities {sorted(unknown)}; there are {list(MODALITIES)}.")
        present = {name: mask if name in modalities else torch.zeros_like(mask) for name, mask in self.present.items()}
        return replace(self, present=present)


@dataclass
class FusionOutput:
    """slots (B, 7, N, d) of eq. (8), slot_mask (B, 7), gates and lambdas: subset -> name -> (B,)."""

    slots: torch.Tensor
    slot_mask: torch.Tensor
    gates: dict[str, dict[str, torch.Tensor]]
    lambdas: dict[str, dict[str, torch.Tensor]]


@dataclass
class GuidedOutput:
    """slots (B, 7, N, d) under the task's text, its mask, the encoded text (S, d) and the slot map (B, 7, 7)."""

    slots: torch.Tensor
    slot_mask: torch.Tensor
    text: torch.Tensor | None = None
    slot_attentions: torch.Tensor | None = None


@dataclass
class TgmmOutput(ModelOutput):
    """Answer of one task, or of several (`by_task`).

    Args:
        loss (`torch.FloatTensor` of shape `(1,)`, *optional*): weighted sum of `losses`, when labels were given.
        losses: name of the component -> scalar (before weighting).
        logits (`torch.FloatTensor` of shape `(batch_size, num_candidates)`): log-likelihood of each candidate answer; NaN
            for a patient without any modality.
        probabilities: softmax of `logits`.
        risk (`torch.FloatTensor` of shape `(batch_size,)`): prognosis only, higher = earlier event.
        embeds: retrieval only, modality -> `(batch_size, embedding_dim)`, L2-normalised; zero where absent.
        embeds_mask: modality -> `(batch_size,)` bool.
        slot_attentions (`torch.FloatTensor` of shape `(batch_size, 7, 7)`): attention between slots in the guidance module.
        slot_mask (`torch.BoolTensor` of shape `(batch_size, 7)`): which slots the patient has; order of `SLOTS`.
        candidate_attentions (`torch.FloatTensor` of shape `(batch_size, num_candidates, 7)`): how much of its attention the
            decoder gives each slot while reading a candidate; a row does not sum to 1, the task's text takes the rest.
        gates: subset -> modality -> `(batch_size,)`, mean of G_i(S); valid where `slot_mask` is True.
        lambdas: subset -> name -> `(batch_size,)`, means of eq. (4)-(5).
        by_task: task -> its own output, when several tasks were asked for.
    """

    loss: torch.FloatTensor | None = None
    losses: dict[str, torch.FloatTensor] | None = None
    logits: torch.FloatTensor | None = None
    probabilities: torch.FloatTensor | None = None
    risk: torch.FloatTensor | None = None
    embeds: dict[str, torch.FloatTensor] | None = None
    embeds_mask: dict[str, torch.BoolTensor] | None = None
    slot_attentions: torch.FloatTensor | None = None
    slot_mask: torch.BoolTensor | None = None
    candidate_attentions: torch.FloatTensor | None = None
    gates: dict[str, dict[str, torch.FloatTensor]] | None = None
    lambdas: dict[str, dict[str, torch.FloatTensor]] | None = None
    by_task: dict[str, "TgmmOutput"] | None = None


# --------------------------------------------------------------------------------------------------------------------
# Parts


def masked_softmax(scores: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Softmax over the last axis in float32; where every key is masked the weights are all zero, not NaN."""
    if mask is None:
        return scores.softmax(-1, dtype=torch.float32).to(scores.dtype)
    weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1, dtype=torch.float32)
    return (weights * mask).to(scores.dtype)


class TgmmAttention(nn.Module):
    """Multi-head attention over a few dozen tokens that returns its weights."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(
        self, queries: torch.Tensor, memory: torch.Tensor, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries (B, Q, d), memory (B, K, d), mask broadcastable to (B, heads, Q, K) -> (B, Q, d), (B, heads, Q, K)."""
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


class TgmmAttentionPool(nn.Module):
    """N learned queries read an encoder's tokens; each adds what it found to the encoder's own summary vector (ours).

    With N = 1 the summary alone is used: the paper's one vector a modality.
    """

    def __init__(self, config: TgmmConfig, encoder_width: int):
        super().__init__()
        self.project = (
            nn.Identity() if encoder_width == config.hidden_size else nn.Linear(encoder_width, config.hidden_size)
        )
        self.num_tokens = config.num_fusion_tokens
        if self.num_tokens > 1:
            self.queries = nn.Parameter(torch.zeros(self.num_tokens, config.hidden_size))
            self.memory_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
            self.attention = TgmmAttention(config.hidden_size, config.num_attention_heads)
            self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.feature_dropout)

    def forward(self, summary: torch.Tensor, tokens: torch.Tensor, token_mask: torch.Tensor) -> torch.Tensor:
        """Summary (B, D), tokens (B, L, D), token_mask (B, L) -> (B, N, d)."""
        summary = self.project(summary)[:, None]
        if self.num_tokens == 1:
            return self.dropout(summary)
        memory = self.memory_norm(self.project(tokens))
        queries = self.queries.expand(len(memory), -1, -1)
        found, _ = self.attention(queries, memory, token_mask[:, None, None, :])
        return self.dropout(self.norm(summary + found))


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
        """Eq. (2): softmax(Q K^T / sqrt(d_p)) V, back to width d, and the weights."""
        weights = masked_softmax(query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5, mask)
        return self.output(weights @ value), weights


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
            {_join(subset): nn.Linear((len(subset) + 1) * width, width) for subset in SLOTS if len(subset) > 1}
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
            shared, gates[_join(subset)], lambdas[_join(subset)] = self._share(subset, tokens, projected)
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
            gate = torch.sigmoid(self.gates[_join(subset)](torch.cat(_gate_input(subset, name, tokens, local), dim=-1)))
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
    """Cat of eq. (6): the members in order t, s, m with Z_i,local before the last one; bi-modal Cat(Z_i, Z_j, Z_i,local)."""
    members = [tokens[member] for member in subset]
    if len(subset) == 3:
        return [*members[:2], local, members[2]]
    return [*members, local]


def _join(subset: Sequence[str]) -> str:
    return "+".join(subset)


class TgmmBlock(nn.Module):
    """Pre-norm transformer block, with cross-attention where a memory is given: encoder of the task text, and decoder."""

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
        self.learned = nn.ParameterDict(
            {
                name: nn.Parameter(torch.zeros(task["num_learnable_tokens"], text_width))
                for name, task in config.tasks.items()
                if config.guidance == "human+learned" and task["num_learnable_tokens"]
            }
        )

    def encode_text(self, task: str, word_embeddings: nn.Module) -> torch.Tensor:
        """Z_C of one task, (S, d): a one-layer transformer encoder over C_h inserted into C_l."""
        settings = self.config.tasks[task]
        question = word_embeddings(torch.tensor(settings["question_ids"], device=self.positions.device))
        if task in self.learned:
            learned, at = self.learned[task], settings["insert_position"]
            question = torch.cat([learned[:at], question, learned[at:]])
        if len(question) > len(self.positions):
            raise ValueError(
                f"The text of task {task!r} has {len(question)} tokens, the model takes {len(self.positions)}: shorten its "
                "question or raise max_guidance_tokens."
            )
        text = self.project_text(question) + self.positions[: len(question)]
        return self.text_norm(self.block.feed_forward(self.block.attend_self(text[None])))[0]

    def forward(self, fused: FusionOutput, task: str, word_embeddings: nn.Module) -> GuidedOutput:
        batch_size, num_slots, num_tokens, _ = fused.slots.shape
        text = self.encode_text(task, word_embeddings)
        slots = fused.slots.flatten(1, 2)  # (B, 7, N, d) -> (B, 7 N, d)
        mask = fused.slot_mask.repeat_interleave(num_tokens, dim=1)
        summary = text.mean(0).expand_as(slots)  # Z_C pooled and broadcast over the slots: ours
        query, slot_key, slot_value = self.projection(slots)
        _, text_key, text_value = self.projection(text.mean(0).expand(batch_size, 1, -1))
        key, _ = mix([slot_key, text_key.expand_as(slot_key)])
        value, _ = mix([slot_value, text_value.expand_as(slot_value)])
        attended, weights = self.projection.attend(query, key, value, mask[:, None, :])
        gate = torch.sigmoid(self.gate(torch.cat([slots, summary], dim=-1)))
        guided = self.norm(gate * attended + drop_path(slots, self.config.drop_path, self.training))
        guided = (guided * mask[..., None]).unflatten(1, (num_slots, num_tokens))
        return GuidedOutput(guided, fused.slot_mask, text, slot_map(weights, fused.slot_mask))


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

    Its vocabulary is the tokens of the tasks' answers plus a start and an end token; input and output embeddings are one.
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
        self.embedding.weight[: len(old)].copy_(old)
        self.bias = nn.Parameter(torch.cat([self.bias, self.bias.new_zeros(num_tokens)]))

    def candidate_tokens(self, task: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Decoder input (start token first), target (end token last) and mask of a task's candidates, each (C, L)."""
        rows = {token: self.OFFSET + row for row, token in enumerate(self.config.answer_token_ids)}
        answers = [[rows[token] for token in ids] for ids in self.config.tasks[task]["candidate_ids"]]
        length = 1 + max(len(answer) for answer in answers)
        if length > len(self.positions):
            raise ValueError(
                f"An answer of task {task!r} has {length - 1} tokens, the model takes {len(self.positions) - 1}: shorten it "
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
        """Memory (B, M, d) and its mask (B, M) -> token log-probabilities (B, C, L), token mask (C, L), attention (B, C, M)."""
        inputs, targets, token_mask = self.candidate_tokens(task)
        num_candidates, length = inputs.shape
        causal = torch.ones(length, length, dtype=torch.bool, device=inputs.device).tril()
        hidden_states = self.block.attend_self(self.embedding(inputs) + self.positions[:length], causal)
        # Up to here nothing depends on the patient: (C, L, d) -> (B, C L, d), then one look at one memory.
        hidden_states = hidden_states.flatten(0, 1).expand(len(memory), -1, -1)
        hidden_states, weights = self.block.attend_memory(hidden_states, memory, memory_mask[:, None, None, :])
        hidden_states = self.norm(self.block.feed_forward(hidden_states))
        scores = hidden_states @ self.embedding.weight.T * self.config.hidden_size**-0.5 + self.bias
        log_probs = scores.float().log_softmax(-1).unflatten(1, (num_candidates, length))
        token_log_probs = log_probs.gather(-1, targets.expand(len(memory), -1, -1)[..., None])[..., 0]
        attention = weights.mean(1).unflatten(1, (num_candidates, length)) * token_mask[..., None]
        return token_log_probs, token_mask, attention.sum(2) / token_mask.sum(1)[:, None]


# --------------------------------------------------------------------------------------------------------------------
# Models


class TgmmPreTrainedModel(PreTrainedModel):
    config: TgmmConfig
    base_model_prefix = "tgmm"
    main_input_name = "ecg_values"
    input_modalities = ("text", "time", "video")
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # our losses are means over the batch: the Trainer must divide by accumulation steps
    _no_split_modules = ["StMemLayer", "EchoMvitLayer", "BertLayer"]  # noqa: RUF012 - read by transformers
    _supports_sdpa = True
    _supports_attention_backend = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.initializer_range
        if isinstance(module, TgmmAttentionPool) and module.num_tokens > 1:
            init.normal_(module.queries, std=1.0)
        elif isinstance(module, TextualGuidance):
            init.normal_(module.positions, std=std)
            for learned in module.learned.values():
                init.normal_(learned, std=std)
        elif isinstance(module, ResponseDecoder):
            init.normal_(module.positions, std=std)
            init.zeros_(module.bias)
        elif isinstance(module, TgmmModel):
            init.normal_(module.view_embeddings, std=std)
        elif isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        else:
            super()._init_weights(module)


class TgmmModel(TgmmPreTrainedModel):
    """Textual Guidance Multimodal fusion for Multiple cardiac tasks, for any subset of labs, ECG and echo per patient."""

    def __init__(self, config: TgmmConfig):
        super().__init__(config)
        if any("question_ids" not in task for task in config.tasks.values()):
            raise ValueError(
                "The tasks have no token ids yet: call config.tokenize_tasks(tokenizer) before building the model."
            )
        self.labs_encoder = build_encoder(config.labs_config)
        self.ecg_encoder = build_encoder(config.ecg_config)
        self.echo_encoder = build_encoder(config.echo_config)
        self.view_embeddings = nn.Parameter(torch.zeros(config.num_views, config.echo_config.hidden_size))
        self.labs_pool = TgmmAttentionPool(config, config.labs_config.hidden_size)
        self.ecg_pool = TgmmAttentionPool(config, config.ecg_config.hidden_size)
        self.echo_pool = TgmmAttentionPool(config, config.echo_config.hidden_size)
        self.fusion = MedFlexFusion(config)
        if config.guidance != "none":
            self.guidance = TextualGuidance(config, config.labs_config.hidden_size)
        answered = {name: len(task["candidates"]) for name, task in config.tasks.items() if task["kind"] != "retrieval"}
        if config.response == "decoder" and answered:
            self.response = ResponseDecoder(config)
        elif answered:
            self.response = nn.ModuleDict({name: nn.Linear(config.hidden_size, n) for name, n in answered.items()})
        if config.task_names("retrieval"):
            self.embedding = nn.Linear(config.hidden_size, config.embedding_dim, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.labs_encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.labs_encoder.set_input_embeddings(value)

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.LongTensor | None = None,
        ecg_values: torch.FloatTensor | None = None,
        ecg_mask: torch.BoolTensor | None = None,
        pixel_values_videos: torch.FloatTensor | None = None,
        view_mask: torch.BoolTensor | None = None,
        task: str | Sequence[str] | None = None,
        labels: Mapping[str, Mapping[str, torch.Tensor]] | None = None,
        **kwargs: Any,
    ) -> TgmmOutput:
        r"""
        input_ids, attention_mask (`torch.LongTensor` of shape `(batch_size, sequence_length)`):
            Lab text; a patient without labs has an all-zero mask.
        ecg_values (`torch.FloatTensor` of shape `(batch_size, 12, 2250)`), ecg_mask (`torch.BoolTensor` of shape `(batch_size, 12)`):
            ECG and its usable leads; no ECG is an all-False mask.
        pixel_values_videos (`torch.FloatTensor` of shape `(batch_size, 11, num_frames, 3, height, width)`), view_mask (`torch.BoolTensor` of shape `(batch_size, 11)`):
            One clip a view and which views there are; no echo is an all-False mask.
        task (`str` or list of `str`, *optional*):
            A task of `config.tasks`, or several at once (then see `by_task`). The first task when omitted.
        labels (dict, *optional*):
            task -> its targets. Diagnosis: `label` (batch_size,) candidate index. Prognosis: `time` in days, `event` 0
            censored / 1 event / 2 competing death. Retrieval: `{}`. Each may hold `mask` (batch_size,), True where labelled.
        """
        encoded = self.encode(input_ids, attention_mask, ecg_values, ecg_mask, pixel_values_videos, view_mask)
        names = [next(iter(self.config.tasks))] if task is None else [task] if isinstance(task, str) else list(task)
        outputs = {name: self.answer(encoded, name, None if labels is None else labels.get(name)) for name in names}
        if task is None or isinstance(task, str):
            return outputs[names[0]]
        return self._join_tasks(outputs)

    def encode(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.LongTensor | None = None,
        ecg_values: torch.FloatTensor | None = None,
        ecg_mask: torch.BoolTensor | None = None,
        pixel_values_videos: torch.FloatTensor | None = None,
        view_mask: torch.BoolTensor | None = None,
    ) -> TgmmEncoded:
        """Run the three encoders, each only on the patients (and views) that have something to encode."""
        batch_size = next((len(x) for x in (input_ids, ecg_values, pixel_values_videos) if x is not None), None)
        if batch_size is None:
            raise ValueError("No modality given: pass input_ids, ecg_values or pixel_values_videos.")
        parts = {
            "labs": None if input_ids is None else self._encode_labs(input_ids, attention_mask),
            "ecg": None if ecg_values is None else self._encode_ecg(ecg_values, ecg_mask),
            "echo": None if pixel_values_videos is None else self._encode_echo(pixel_values_videos, view_mask),
        }
        pools = {"labs": self.labs_pool, "ecg": self.ecg_pool, "echo": self.echo_pool}
        tokens, present = {}, {}
        for name, part in parts.items():
            empty = self.view_embeddings.new_zeros(batch_size, self.config.num_fusion_tokens, self.config.hidden_size)
            present[name] = torch.zeros(batch_size, dtype=torch.bool, device=empty.device)
            tokens[name] = empty
            if part is not None and len(part.rows):
                pooled = pools[name](part.summary, part.tokens, part.token_mask)
                tokens[name] = empty.to(pooled.dtype).index_copy(0, part.rows, pooled)
                present[name][part.rows] = True
        return TgmmEncoded(tokens, present)

    def answer(self, encoded: TgmmEncoded, task: str, labels: Mapping[str, torch.Tensor] | None = None) -> TgmmOutput:
        """Fusion, guidance and response of one task on encoded patients; the loss too when `labels` are given."""
        if task not in self.config.tasks:
            raise ValueError(f"Unknown task {task!r}; this model has {sorted(self.config.tasks)}.")
        if self.config.tasks[task]["kind"] == "retrieval":
            return self._embed(encoded, task, labels)
        if self.training:
            encoded = drop_modalities(encoded, self.config.modality_dropout)
        fused = self.fusion(encoded.tokens, encoded.present)
        guided = self._guide(fused, task)
        token_log_probs, token_mask, candidate_attentions = self._respond(guided, task)
        logits = (token_log_probs * token_mask).sum(-1)
        if self.config.length_normalised:
            logits = logits / token_mask.sum(-1)
        output = TgmmOutput(
            slot_attentions=guided.slot_attentions,
            slot_mask=fused.slot_mask,
            candidate_attentions=candidate_attentions,
            gates=fused.gates,
            lambdas=fused.lambdas,
        )
        some_evidence = fused.slot_mask.any(1)
        if labels is not None:
            output.losses = self._answer_losses(task, labels, logits, token_log_probs, token_mask, some_evidence)
            output.loss = self._weigh(task, output.losses)
        # A patient without any modality gets no answer rather than the answer for "nothing".
        output.logits = logits.masked_fill(~some_evidence[:, None], torch.nan)
        output.probabilities = output.logits.softmax(-1)
        if self.config.tasks[task]["kind"] == "prognosis":
            output.risk = output.logits[:, 1] - output.logits[:, 0]
        return output

    def get_labs_features(
        self, input_ids: torch.LongTensor, attention_mask: torch.LongTensor | None = None
    ) -> torch.Tensor:
        """The text encoder's first token ([CLS]): (B, D); zeros for a patient without labs."""
        return self._encode_labs(input_ids, attention_mask).scatter(len(input_ids))

    def get_ecg_features(self, ecg_values: torch.FloatTensor, ecg_mask: torch.BoolTensor | None = None) -> torch.Tensor:
        """The ECG encoder's pooled output: (B, D); zeros for a patient without ECG."""
        return self._encode_ecg(ecg_values, ecg_mask).scatter(len(ecg_values))

    def get_echo_features(
        self, pixel_values_videos: torch.FloatTensor, view_mask: torch.BoolTensor | None = None
    ) -> torch.Tensor:
        """Mean of the echo encoder's pooled outputs over the views there are: (B, D); zeros for a patient without echo."""
        return self._encode_echo(pixel_values_videos, view_mask).scatter(len(pixel_values_videos))

    def freeze_encoders(self, trainable_layers: int | None) -> None:
        """Leave only the last layers of each encoder trainable (paper, fig. 7: two are best); None unfreezes all of them.

        With a number, embeddings and earlier layers are frozen, and what follows the layers (final norm) trains.
        """
        for encoder in (self.labs_encoder, self.ecg_encoder, self.echo_encoder):
            encoder.requires_grad_(trainable_layers is None)
            if trainable_layers is None or trainable_layers == 0:
                continue
            layers = next(module for module in encoder.modules() if isinstance(module, nn.ModuleList))
            if trainable_layers > len(layers):
                raise ValueError(
                    f"{type(encoder).__name__} has {len(layers)} layers, cannot leave the last {trainable_layers} trainable: "
                    "use None to train the whole encoder."
                )
            for layer in layers[len(layers) - trainable_layers :]:
                layer.requires_grad_(True)
            if hasattr(encoder, "layernorm"):
                encoder.layernorm.requires_grad_(True)

    @torch.no_grad()
    def initialise_texts(self) -> None:
        """Start the learned task contents and the answer embeddings from the text encoder's word embeddings (paper, 4.2.3).

        Call it once on a new model, after the text encoder has its weights; loading a checkpoint makes it unnecessary.
        """
        words = self.get_input_embeddings().weight
        for name, learned in getattr(getattr(self, "guidance", None), "learned", {}).items():
            self._initialise_learned(name, learned, words)
        if isinstance(getattr(self, "response", None), ResponseDecoder):
            self._initialise_answers(0, words)

    @torch.no_grad()
    def add_task(self, name: str, task: dict[str, Any], tokenizer: Any) -> None:
        """Give the model one more task; its new parts start from word embeddings and everything learned is kept.

        New answer tokens join the decoder's vocabulary, so the log-likelihoods of the other tasks shift a little until the
        model is trained again.

        Args:
            name: the task's name, as used in `task=`.
            task: see `DEFAULT_TASKS` in the configuration file.
            tokenizer: the processor's tokenizer.
        """
        if name in self.config.tasks:
            raise ValueError(f"The model already has a task {name!r}.")
        task = dict(task)
        check_task(name, task)
        known = len(self.config.answer_token_ids)
        self.config.tasks = {**self.config.tasks, name: task}
        self.config.tokenize_tasks(tokenizer)
        words = self.get_input_embeddings().weight
        if self.config.guidance == "human+learned" and task["num_learnable_tokens"]:
            self.guidance.learned[name] = nn.Parameter(words.new_zeros(task["num_learnable_tokens"], words.shape[1]))
            self._initialise_learned(name, self.guidance.learned[name], words)
        if task["kind"] == "retrieval":
            if not hasattr(self, "embedding"):
                self.embedding = nn.Linear(self.config.hidden_size, self.config.embedding_dim, bias=False).to(words)
        elif self.config.response == "linear":
            self.response[name] = nn.Linear(self.config.hidden_size, len(task["candidates"])).to(words)
        else:
            self.response.grow(len(self.config.answer_token_ids) - known)
            self._initialise_answers(known, words)

    # --- steps of encode -----------------------------------------------------------------------------------------

    def _encode_labs(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> "_Part":
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        rows = mask.bool().any(1).nonzero()[:, 0]
        if not len(rows):
            return _Part.empty(rows, self.config.labs_config.hidden_size)
        hidden = self.labs_encoder(input_ids=input_ids[rows], attention_mask=mask[rows]).last_hidden_state
        # Padding may stand left or right: the first token is the first that is there.
        first = mask[rows].bool().int().argmax(1)
        return _Part(rows, hidden[torch.arange(len(rows), device=hidden.device), first], hidden, mask[rows].bool())

    def _encode_ecg(self, ecg_values: torch.Tensor, ecg_mask: torch.Tensor | None) -> "_Part":
        mask = (
            torch.ones(ecg_values.shape[:2], dtype=torch.bool, device=ecg_values.device)
            if ecg_mask is None
            else ecg_mask.bool()
        )
        rows = mask.any(1).nonzero()[:, 0]
        if not len(rows):
            return _Part.empty(rows, self.config.ecg_config.hidden_size)
        encoded = self.ecg_encoder(ecg_values=ecg_values[rows].to(self.view_embeddings.dtype), ecg_mask=mask[rows])
        hidden = encoded.last_hidden_state
        token_mask = mask[rows].repeat_interleave(hidden.shape[1] // mask.shape[1], dim=1)
        return _Part(rows, encoded.pooler_output, hidden, token_mask)

    def _encode_echo(self, pixel_values_videos: torch.Tensor, view_mask: torch.Tensor | None) -> "_Part":
        """One token a view: the clip's pooled output plus a learned embedding of the view."""
        mask = (
            torch.ones(pixel_values_videos.shape[:2], dtype=torch.bool, device=pixel_values_videos.device)
            if view_mask is None
            else view_mask.bool()
        )
        rows = mask.any(1).nonzero()[:, 0]
        if not len(rows):
            return _Part.empty(rows, self.config.echo_config.hidden_size)
        clips = pixel_values_videos[mask].to(self.view_embeddings.dtype)
        features = self.echo_encoder(pixel_values_videos=clips).pooler_output
        patient, view = mask.nonzero(as_tuple=True)
        views = features.new_zeros(*mask.shape, features.shape[-1]).index_put((patient, view), features)
        tokens = views.index_put((patient, view), features + self.view_embeddings[view].to(features.dtype))[rows]
        summary = views[rows].sum(1) / mask[rows].sum(1, keepdim=True)
        return _Part(rows, summary, tokens, mask[rows])

    # --- steps of answer -----------------------------------------------------------------------------------------

    def _guide(self, fused: FusionOutput, task: str) -> GuidedOutput:
        if self.config.guidance == "none":
            return GuidedOutput(fused.slots, fused.slot_mask)
        return self.guidance(fused, task, self.get_input_embeddings())

    def _respond(self, guided: GuidedOutput, task: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Token log-probabilities (B, C, L), token mask (C, L), attention of each candidate to the slots (B, C, 7)."""
        batch_size, num_slots, num_tokens, _ = guided.slots.shape
        if self.config.response == "linear":
            log_probs = self.response[task](pool_slots(guided)).float().log_softmax(-1)[..., None]
            return log_probs, torch.ones(log_probs.shape[1:], dtype=torch.bool, device=log_probs.device), None
        memory = guided.slots.flatten(1, 2)
        mask = guided.slot_mask.repeat_interleave(num_tokens, dim=1)
        if self.config.sstc_in_memory and guided.text is not None:
            memory = torch.cat([memory, guided.text.expand(batch_size, -1, -1)], dim=1)
            mask = torch.cat([mask, mask.new_ones(batch_size, len(guided.text))], dim=1)
        token_log_probs, token_mask, attention = self.response(memory, mask, task)
        to_slots = attention[..., : num_slots * num_tokens].unflatten(-1, (num_slots, num_tokens)).sum(-1)
        return token_log_probs, token_mask, to_slots

    def _answer_losses(
        self,
        task: str,
        labels: Mapping[str, torch.Tensor],
        logits: torch.Tensor,
        token_log_probs: torch.Tensor,
        token_mask: torch.Tensor,
        some_evidence: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Components of eq. (10) or (13), unweighted."""
        settings = self.config.tasks[task]
        labelled = (labels["mask"].bool() if "mask" in labels else torch.ones_like(some_evidence)) & some_evidence
        if settings["kind"] == "prognosis":
            label, weight = horizon_status(labels["time"], labels["event"], settings["horizon_days"])
            label, weight = label.masked_fill(~labelled, 0), weight.masked_fill(~labelled, 0.0)
        else:
            label, weight = labels["label"].masked_fill(~labelled, 0), labelled.to(torch.float32)
        losses = {
            "mc": multiple_choice_loss(logits, label, weight),
            "unlikely": unlikelihood_loss(logits, label, weight),
        }
        if self.config.response == "decoder":
            losses["lm"] = language_model_loss(token_log_probs, token_mask, label, weight)
        if settings["kind"] == "prognosis":
            everyone = gather_batch(labelled)
            risk = gather_batch(logits[:, 1] - logits[:, 0])[everyone]
            time, event = gather_batch(labels["time"])[everyone], gather_batch(labels["event"])[everyone] == 1
            losses["cox"] = cox_loss(risk, time, event)
            losses["margin"] = margin_ranking_loss(risk, time, event, settings["margin"])
        return losses

    def _weigh(self, task: str, losses: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Eq. (10) for a diagnosis; eq. (13), with eq. (10) inside, for a prognosis."""
        weights = self.config.tasks[task]["loss_weights"]
        diagnosis = sum(weights[name] * losses[name] for name in ("lm", "mc", "unlikely") if name in losses)
        if self.config.tasks[task]["kind"] == "diagnosis":
            return diagnosis
        return weights["dig"] * diagnosis + weights["cox"] * losses["cox"] + weights["margin"] * losses["margin"]

    def _embed(self, encoded: TgmmEncoded, task: str, labels: Mapping[str, torch.Tensor] | None) -> TgmmOutput:
        """A modality's embedding: the model run on that modality alone under the retrieval text, pooled (ours)."""
        embeds = {}
        for name in MODALITIES:
            alone = encoded.keep((name,))
            pooled = pool_slots(self._guide(self.fusion(alone.tokens, alone.present), task))
            unit = nn.functional.normalize(self.embedding(pooled), dim=-1)
            embeds[name] = unit * alone.present[name][:, None]
        output = TgmmOutput(embeds=embeds, embeds_mask=encoded.present)
        if labels is not None:
            output.losses = self._retrieval_losses(task, labels, embeds, encoded.present)
            output.loss = sum(output.losses.values()) / len(output.losses)
        return output

    def _retrieval_losses(
        self,
        task: str,
        labels: Mapping[str, torch.Tensor],
        embeds: Mapping[str, torch.Tensor],
        present: Mapping[str, torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        temperature = self.config.tasks[task]["temperature"]
        everyone = {name: gather_batch(embeds[name]) for name in MODALITIES}
        there = {
            name: gather_batch(present[name] & labels["mask"].bool() if "mask" in labels else present[name])
            for name in MODALITIES
        }
        pairs = [subset for subset in SLOTS if len(subset) == 2]
        return {
            _join((a, b)): info_nce_loss(everyone[a], everyone[b], there[a] & there[b], temperature) for a, b in pairs
        }

    def _join_tasks(self, outputs: dict[str, TgmmOutput]) -> TgmmOutput:
        joined = TgmmOutput(by_task=outputs)
        trained = {name: output for name, output in outputs.items() if output.loss is not None}
        if trained:
            joined.loss = sum(self.config.tasks[name]["weight"] * output.loss for name, output in trained.items())
            joined.losses = {
                f"{name}/{part}": x for name, output in trained.items() for part, x in output.losses.items()
            }
        return joined

    # --- starting values from the text encoder ---------------------------------------------------------------------

    def _initialise_learned(self, task: str, learned: nn.Parameter, words: torch.Tensor) -> None:
        phrase = self.config.tasks[task]["phrase_ids"]
        repeated = [phrase[i % len(phrase)] for i in range(len(learned))]
        learned.copy_(words[torch.tensor(repeated, device=words.device)])

    def _initialise_answers(self, first: int, words: torch.Tensor) -> None:
        """Answer embeddings from vocabulary entry `first` on."""
        token_ids = self.config.answer_token_ids[first:]
        rows = words[torch.tensor(token_ids, dtype=torch.long, device=words.device)]
        if rows.shape[1] != self.config.hidden_size:
            if self.config.guidance == "none":
                return  # nothing projects text to the model's width: the random start stays
            rows = self.guidance.project_text(rows)
        self.response.embedding.weight[ResponseDecoder.OFFSET + first :].copy_(rows)


@dataclass
class _Part:
    """One modality of a batch, only the `rows` (n,) that have it: summary (n, D), tokens (n, L, D), token_mask (n, L)."""

    rows: torch.Tensor
    summary: torch.Tensor
    tokens: torch.Tensor
    token_mask: torch.Tensor

    @classmethod
    def empty(cls, rows: torch.Tensor, width: int) -> "_Part":
        nothing = torch.zeros(0, width, device=rows.device)
        return cls(rows, nothing, nothing[:, None], torch.zeros(0, 1, dtype=torch.bool, device=rows.device))

    def scatter(self, batch_size: int) -> torch.Tensor:
        """Summaries at their places in the batch: (B, D), zeros elsewhere."""
        return self.summary.new_zeros(batch_size, self.summary.shape[-1]).index_copy(0, self.rows, self.summary)


def build_encoder(config: Any) -> PreTrainedModel:
    """The encoder of a sub-config: our own classes, a BERT without its unused pooler, or any `AutoModel`."""
    if config.model_type in ENCODERS:
        return ENCODERS[config.model_type]._from_config(config)
    if config.model_type == "bert":
        return AutoModel.from_config(config, add_pooling_layer=False)
    return AutoModel.from_config(config)


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


class TgmmForSequenceClassification(TgmmPreTrainedModel):
    """One task of a TGMM checkpoint behind the interface that the Hugging Face Trainer and pipelines expect."""

    def __init__(self, config: TgmmConfig):
        super().__init__(config)
        task = config.classification_task or next(iter(config.task_names("diagnosis")), None)
        if task is None or config.tasks.get(task, {}).get("kind") != "diagnosis":
            raise ValueError(
                f"classification_task must name a diagnosis task, got {task!r}; the model has {config.task_names('diagnosis')}."
            )
        self.task = task
        self.num_labels = len(config.tasks[task]["candidates"])
        self.tgmm = TgmmModel(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.tgmm.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.tgmm.set_input_embeddings(value)

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.LongTensor | None = None,
        ecg_values: torch.FloatTensor | None = None,
        ecg_mask: torch.BoolTensor | None = None,
        pixel_values_videos: torch.FloatTensor | None = None,
        view_mask: torch.BoolTensor | None = None,
        labels: torch.LongTensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        r"""
        labels (`torch.LongTensor` of shape `(batch_size,)`, *optional*):
            Index of the right candidate; -100 where unknown, as everywhere in transformers.
        """
        targets = None if labels is None else {self.task: {"label": labels, "mask": labels != -100}}
        output = self.tgmm(
            input_ids,
            attention_mask,
            ecg_values,
            ecg_mask,
            pixel_values_videos,
            view_mask,
            task=self.task,
            labels=targets,
        )
        return SequenceClassifierOutput(loss=output.loss, logits=output.logits)


TgmmModel.register_for_auto_class("AutoModel")
TgmmForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")

__all__ = [
    "TgmmEncoded",
    "TgmmForSequenceClassification",
    "TgmmModel",
    "TgmmOutput",
    "TgmmPreTrainedModel",
]
