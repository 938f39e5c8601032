"""The part of TGMM after the encoders: fusion tokens -> slots, selected by a task's text -> answer and loss."""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import nn

from ..configuration_measured_tasks import MEASURED_KINDS
from ..configuration_tgmm import TgmmConfig
from ..utils.names import MODALITIES, SLOTS, SUBSETS
from .distributed import gather_batch
from .encoded_batch import TgmmEncoded, training_copies
from .fusion import FusionOutput, own_slot
from .guidance import GuidedOutput, TextualGuidance, pool_slots
from .label_checks import asked_tasks, checked_labels
from .measured_answers import head_fields, head_losses
from .response import CandidateScores, ResponseDecoder, risk_of, score_candidates
from .slot_reading import SharedSlotGain
from .task_losses import answer_losses, retrieval_losses, weighted_loss
from .task_output import TgmmOutput


class AnswersTasks(nn.Module):
    """Mixin of a model that answers tasks for encoded patients.

    The model class has the attributes `config` and `fusion`, and `guidance`, `response`, `embedding`, `heads` and
    `slot_gain` where the configuration asks for them. It has the methods `encode` and `get_input_embeddings`.
    """

    config: TgmmConfig
    fusion: nn.Module
    guidance: TextualGuidance
    response: ResponseDecoder | nn.ModuleDict
    embedding: nn.Linear
    heads: nn.ModuleDict
    slot_gain: SharedSlotGain
    encode: Callable[..., TgmmEncoded]
    get_input_embeddings: Callable[[], nn.Module]

    def answer(
        self,
        encoded: TgmmEncoded,
        task: str,
        labels: Mapping[str, torch.Tensor] | None = None,
        output_hidden_states: Any = None,
        output_attentions: Any = None,
    ) -> TgmmOutput:
        """Answer one task for encoded patients.

        In training mode each patient is answered `config.training_subsets` times, each time with other modalities
        hidden. The outputs then have that many rows for each patient. For a retrieval task nothing is repeated.

        Args:
            encoded: the result of `encode`, B patients.
            task: name of the task.
            labels: the task's labels as the collator gives them: `label` (B,), or `time` and `event` (B,), or `value`
                (B,), or `findings` (B, findings); and optionally `mask`, True where the label is known: (B,), and (B,
                findings) for findings. With labels the output has a loss.
            output_hidden_states: if true, the output has the `hidden_states` of the guidance.
            output_attentions: if true, the output has the `attentions` of the guidance.

        Raises:
            ValueError: if the model has no such task, or a label is wrong.
        """
        settings = self._settings_of(task)
        if labels is not None:
            labels = checked_labels(task, settings, labels, len(encoded.present["labs"]))
        if settings["kind"] == "retrieval":
            return self._embed(encoded, task, labels)
        copies = self.config.training_subsets if self.training else 1
        if self.training:
            hidden, whole = self.config.modality_dropout, self.config.whole_copies
            encoded, labels = training_copies(encoded, labels, copies, hidden, whole)
        fused, guided = self.slots(encoded, task)
        has_evidence = fused.slot_mask.any(1)
        scores = self._scores(guided, task)
        values = scores.logits if isinstance(scores, CandidateScores) else scores
        # A patient without any modality gets no answer rather than the answer for "nothing".
        fields = _answer_fields(settings, values.masked_fill(~has_evidence[:, None], torch.nan))
        output = TgmmOutput(
            **fields,
            slot_attentions=guided.slot_attentions,
            slot_mask=fused.slot_mask,
            candidate_attentions=scores.slot_attention if isinstance(scores, CandidateScores) else None,
            gates=fused.gates,
            lambdas=fused.lambdas,
            encoder_hidden_states=encoded.hidden_states or None,
            encoder_attentions=encoded.attentions or None,
            hidden_states=guided.hidden_states if output_hidden_states else None,
            attentions=guided.attentions if output_attentions else None,
        )
        if labels is not None:
            if isinstance(scores, CandidateScores):
                output.losses = answer_losses(settings, labels, scores, has_evidence, copies)
            else:
                output.losses = head_losses(settings, labels, scores, has_evidence)
            if fused.alignment is not None:
                output.losses["alignment"] = gather_batch(fused.alignment).mean()
            output.loss = weighted_loss(settings, output.losses)
        return output

    def _scores(self, guided: GuidedOutput, task: str) -> CandidateScores | torch.Tensor:
        """Score the candidates of a task, or return the outputs (B, outputs) of the head of a task without them."""
        if self._settings_of(task)["kind"] in MEASURED_KINDS:
            return self.heads[task](pool_slots(guided)).float()
        return score_candidates(self.config, self.response, guided, task)

    def answer_subsets(
        self,
        inputs: Mapping[str, torch.Tensor] | TgmmEncoded,
        tasks: Sequence[str],
        subsets: Sequence[tuple[str, ...]] = SUBSETS,
    ) -> dict[str, dict[tuple[str, ...], TgmmOutput]]:
        """Answer several tasks as if the patients had only the modalities of each subset.

        The patients are encoded once.

        Args:
            inputs: the inputs of `forward`, or the result of `encode`.
            tasks: names of tasks.
            subsets: subsets of modalities. A patient who lacks a modality of a subset is answered with the rest.

        Returns:
            task -> subset -> output for all B patients. A retrieval task has one entry, under all modalities, because
            an embedding does not depend on the other modalities.
        """
        tasks = asked_tasks(tasks, self.config.tasks)
        encoded = self.encode(**inputs) if isinstance(inputs, Mapping) else inputs
        answers: dict[str, dict[tuple[str, ...], TgmmOutput]] = {}
        for task in tasks:
            embeds = self._settings_of(task)["kind"] == "retrieval"
            asked = [MODALITIES] if embeds else subsets
            answers[task] = {subset: self.answer(encoded.keep(subset), task) for subset in asked}
        return answers

    def slots(self, encoded: TgmmEncoded, task: str) -> tuple[FusionOutput, GuidedOutput]:
        """Fuse the patients' tokens into slots and let the text of a task select from the slots.

        Args:
            encoded: the result of `encode`.
            task: name of the task.

        Returns:
            the slots before the guidance, and after it. With `config.guidance` "none" both hold the same slots, but for
            the gains of `config.shared_slot_gain`.
        """
        question = self._question(encoded, task)
        if self.config.fusion == "textif":
            fused = self.fusion(encoded.tokens, encoded.present, question)
        else:
            fused = self.fusion(encoded.tokens, encoded.present)
        return fused, self._guide(fused, task, question)

    def _guide(self, fused: FusionOutput, task: str, question: torch.Tensor) -> GuidedOutput:
        """Let the text of a task, whose question has these word embeddings, select from the slots."""
        if self.config.guidance == "none":
            guided = GuidedOutput(fused.slots, fused.slot_mask, hidden_states=(fused.slots.flatten(1, 2),))
        else:
            guided = self.guidance(fused, task, question)
        if hasattr(self, "slot_gain") and guided.slots.shape[1] == len(SLOTS):
            guided.slots = self.slot_gain(guided.slots)
        return guided

    def _question(self, encoded: TgmmEncoded, task: str) -> torch.Tensor:
        """Return the word embeddings of the task's question (tokens, text width)."""
        ids = torch.tensor(self._settings_of(task)["question_ids"], device=encoded.present["labs"].device)
        return self.get_input_embeddings()(ids).to(ids.device)

    def _embed(self, encoded: TgmmEncoded, task: str, labels: Mapping[str, torch.Tensor] | None) -> TgmmOutput:
        """Embed each modality alone (ours): its slots under the text of a retrieval task, pooled and L2-normalised.

        The embedding of a modality that a patient lacks is zero. With `labels` the output has a loss.

        Returns:
            an output with `embeds` and `embeds_mask`, and with the hidden states and attentions of the encoders.
        """
        embeds = {}
        for name, pooled in zip(MODALITIES, self._pool_each_alone(encoded, task), strict=True):
            unit = nn.functional.normalize(self.embedding(pooled), dim=-1)
            embeds[name] = unit * encoded.present[name][:, None]
        output = TgmmOutput(
            embeds=embeds,
            embeds_mask=encoded.present,
            encoder_hidden_states=encoded.hidden_states or None,
            encoder_attentions=encoded.attentions or None,
        )
        if labels is not None:
            output.losses = retrieval_losses(self._settings_of(task), labels, embeds, encoded.present)
            output.loss = reduce(torch.add, output.losses.values()) / len(output.losses)
        return output

    def _pool_each_alone(self, encoded: TgmmEncoded, task: str) -> list[torch.Tensor]:
        """Pool the slots of each modality alone, in the order of `MODALITIES`: (B, d) each."""
        if self.config.fusion == "medflex":  # the other slots would be masked everywhere
            question = self._question(encoded, task)
            fused = [own_slot(encoded.tokens[name], encoded.present[name]) for name in MODALITIES]
            return [pool_slots(self._guide(output, task, question)) for output in fused]
        if self.training:  # the running statistics learn from one modality at a time
            return [pool_slots(self.slots(encoded.keep((name,)), task)[1]) for name in MODALITIES]
        _, guided = self.slots(encoded.each_alone(), task)
        return list(pool_slots(guided).chunk(len(MODALITIES)))

    def _settings_of(self, task: str) -> Mapping[str, Any]:
        """Return the settings of a task. Raise a ValueError if the model has no such task."""
        if task not in self.config.tasks:
            raise ValueError(f"Unknown task {task!r}; this model has {sorted(self.config.tasks)}.")
        return self.config.tasks[task]


def _answer_fields(settings: Mapping[str, Any], values: torch.Tensor) -> dict[str, Any]:
    """Turn log-likelihoods (B, C) of candidates, or the outputs of a head, into fields of `TgmmOutput`."""
    if settings["kind"] in MEASURED_KINDS:
        return dict(head_fields(settings, values))
    fields: dict[str, Any] = {"logits": values, "probabilities": values.softmax(-1)}
    return fields | ({"risk": risk_of(values)} if settings["kind"] == "prognosis" else {})
