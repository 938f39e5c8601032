"""The answer of a model: `TgmmOutput`."""

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput


@dataclass
class TgmmOutput(ModelOutput):
    """Answer of one task, or of several tasks (`by_task`).

    In training the model answers `config.training_subsets` times for every patient, so that B below is that many times
    the batch size.

    Args:
        loss (`torch.FloatTensor`, *optional*): scalar, weighted sum of `losses`; None if no labels were given.
        losses: name of the component -> scalar, before weighting.
        logits (`torch.FloatTensor` of shape `(B, num_candidates)`): log-likelihood of each candidate answer; NaN for a
            patient without any modality.
        probabilities (`torch.FloatTensor` of shape `(B, num_candidates)`): softmax of `logits`. In a multilabel the
            columns of both are the findings, and a probability is the sigmoid of its own logit.
        value (`torch.FloatTensor` of shape `(B,)`): regression only, in the unit of the task; NaN for a patient
            without any modality. A value outside the range of the task is not changed.
        deviation (`torch.FloatTensor` of shape `(B,)`): regression with the loss "gaussian_nll" only, the predicted
            standard deviation of the value, in the unit of the task.
        risk (`torch.FloatTensor` of shape `(B,)`): prognosis only, higher means an earlier event.
        embeds: retrieval only, modality -> `(B, embedding_dim)`, L2-normalised; zero where the modality is absent.
        embeds_mask: retrieval only, modality -> `(B,)` bool, True for a patient who has the modality.
        slot_attentions (`torch.FloatTensor` of shape `(B, 7, 7)`): attention between slots in the guidance; row = slot
            that asks, column = slot that it reads. None without guidance.
        slot_mask (`torch.BoolTensor` of shape `(B, 7)`): True for a slot that the patient has, in the order of `SLOTS`.
        candidate_attentions (`torch.FloatTensor` of shape `(B, num_candidates, 7)`): share of the decoder's attention
            that each slot gets while the decoder reads a candidate. A row sums to less than 1 where the task's text
            takes the rest (`config.sstc_in_memory`). Where `config.fusion` is not "medflex" there is one slot instead
            of seven.
        gates: subset ("labs+ecg") -> modality -> `(B,)`, mean of the gate G_i(S) of eq. (6), between 0 and 1; valid for
            patients with all modalities of the subset.
        lambdas: subset -> "key_1", "key_2", "value_1" or "value_2" -> `(B,)`, means of the mixing weights of eq.
            (4)-(5).
        by_task: task -> its own output, if several tasks were asked for.
        encoder_hidden_states, encoder_attentions: modality -> hidden states or attentions of its encoder, one tensor a
            layer, if the call asked for them. The rows are the patients (echo: the clips) that have the modality.
        hidden_states (`tuple` of `torch.FloatTensor` of shape `(B, 7 * num_fusion_tokens, hidden_size)`): with
            `output_hidden_states`, the slots' tokens after fusion and after guidance.
        attentions (`tuple` of one `torch.FloatTensor` of shape `(B, 1, 7 * num_fusion_tokens, 7 * num_fusion_tokens)`):
            with `output_attentions`, the guidance's weights among these tokens.
    """

    loss: torch.Tensor | None = None
    losses: dict[str, torch.Tensor] | None = None
    logits: torch.Tensor | None = None
    probabilities: torch.Tensor | None = None
    value: torch.Tensor | None = None
    deviation: torch.Tensor | None = None
    risk: torch.Tensor | None = None
    embeds: dict[str, torch.Tensor] | None = None
    embeds_mask: dict[str, torch.Tensor] | None = None
    slot_attentions: torch.Tensor | None = None
    slot_mask: torch.Tensor | None = None
    candidate_attentions: torch.Tensor | None = None
    gates: dict[str, dict[str, torch.Tensor]] | None = None
    lambdas: dict[str, dict[str, torch.Tensor]] | None = None
    by_task: dict[str, "TgmmOutput"] | None = None
    encoder_hidden_states: dict[str, tuple[torch.Tensor, ...]] | None = None
    encoder_attentions: dict[str, tuple[torch.Tensor, ...]] | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
