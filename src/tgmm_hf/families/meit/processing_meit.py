"""A conversation about an ECG -> the inputs of `MeitForConditionalGeneration`.

    conversation --chat template--> text --tokenizer--> input_ids, attention_mask (B, T), padded on the left
    ECG          --feature extractor----------------->  input_values (B, 12, samples)

B conversations, T tokens.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from transformers import BatchFeature, PreTrainedTokenizerBase
from transformers.processing_utils import ProcessingKwargs, Unpack

from ...inputs.feature_extraction_ecg import PreparedEcg
from ...utils.errors import InputRefusedError
from ...utils.names import LEADS
from ..shared.conversation_processor import ConversationProcessor, Report, check_tokenizer, one_each
from ..shared.ecg_conversations import (
    Message,
    Pieces,
    Placeholders,
    ecg_of,
    new_conversation,
    plain_texts,
    token_pieces,
)

INSTRUCTION = (
    "Given the ECG signal embeddings, please help me generate an accurate description for this ECG signal embeddings:"
)
"""The published instruction for MIMIC-IV-ECG, letter by letter."""


class MeitProcessor(ConversationProcessor):
    """Processor of [`MeitForConditionalGeneration`]: feature extractor for the ECG, chat template for the text.

    Args:
        feature_extractor (`MeitFeatureExtractor` or `EcgFeatureExtractor`): prepares the ECG for the model's encoder.
            It has to refuse an ECG that lacks a lead (`min_leads=12`), because MEIT has no mask for leads.
        tokenizer (`PreTrainedTokenizerBase`): tokenizer of the language model. Its chat template is used. Without one
            the published form is used, see ecg_conversations.py.
        instruction (`str`, *optional*): the user's text of a call that gives none; the published one for MIMIC-IV-ECG.
        ecg_token (`str`, *optional*): placeholder token of the fusion "tokens". None for the other fusions.
        num_ecg_vectors (`int`, defaults to 1): number of placeholder tokens of an ECG.

    Attributes:
        default_strictness (`str`, defaults to `"note"`): the strictness of a call that gives none. It is not saved,
            because it belongs to the run and not to the model.
    """

    def __init__(
        self,
        feature_extractor: Any,
        tokenizer: PreTrainedTokenizerBase,
        instruction: str = INSTRUCTION,
        ecg_token: str | None = None,
        num_ecg_vectors: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(feature_extractor, tokenizer, **kwargs)
        if feature_extractor.min_leads != len(LEADS):
            raise ValueError(
                f"The feature extractor accepts ECGs with {feature_extractor.min_leads} leads, and MEIT has no mask "
                f"for leads. Set min_leads={len(LEADS)}."
            )
        check_tokenizer(tokenizer, [] if ecg_token is None else [ecg_token])
        self.instruction = instruction
        self.ecg_token = ecg_token
        self.num_ecg_vectors = num_ecg_vectors

    @property
    def model_input_names(self) -> list[str]:
        """Names of all keys that the result of a call may have. `labels` come only when they are asked for."""
        return ["input_ids", "attention_mask", "input_values"]

    def __call__(  # noqa: PLR0913 - what is read, and what happens to doubtful data
        self,
        ecg: Any = None,
        text: str | Sequence[str] | None = None,
        answer: str | Sequence[str] | None = None,
        *,
        output_labels: bool | None = None,
        strictness: str | None = None,
        on_refusal: str | None = None,
        return_report: bool | None = None,
        **kwargs: Unpack[ProcessingKwargs],
    ) -> BatchFeature | tuple[BatchFeature, list[Report]]:
        """Process one ECG or a list, each with one instruction.

        Args:
            ecg: ECG file (`read_ecg`), `{"signal", "sampling_rate", "lead_names"[, "units"]}` or `EcgRecording`; or a
                list of these.
            text: instruction, one for all ECGs or one for each. None takes the processor's `instruction`.
            answer: report that the model should write, one for each ECG. None for a prompt.
            output_labels: True also returns `labels`, see `apply_chat_template`. Needs `answer`.
            strictness: "note" uses an ECG with a finding under "checks" and names it; "refuse" refuses the ECG. None
                takes `self.default_strictness`.
            on_refusal: "raise" (also None) on the first refused ECG, or "report" and leave the ECG's row out of the
                batch.
            return_report: True also returns one report per ECG: {"row": row of the ECG in the batch or None, "used":
                {"ecg": [leads]}, "refused": [{"item", "reason"}], "checks": [{"code", "item", "text"}], "notes":
                [...]}.
            kwargs: `return_tensors`, "pt" or "np"; NumPy arrays without it. A misspelt argument is refused.

        Returns:
            `BatchFeature` with `input_ids`, `attention_mask` (B, T) int64, `input_values` (B, 12, samples) float32, and
            `labels` (B, T) int64 if asked for. It is empty if every ECG was refused.

        Raises:
            InputRefusedError: (a `ValueError`) on a refusal, when `on_refusal="raise"`.
            ValueError: on nothing to process, or lists of different lengths.
            TypeError: on an unknown argument.
        """
        if unknown := set(kwargs) - {"return_tensors"}:
            raise TypeError(
                f"MeitProcessor takes no {sorted(unknown)}. An ECG is given as ecg=, an instruction as text=."
            )
        if ecg is None:
            raise ValueError("There is no ECG: give ecg=, a file or {'signal', 'sampling_rate', 'lead_names'}.")
        ecgs = list(ecg) if isinstance(ecg, list | tuple) else [ecg]
        texts = one_each("text", self.instruction if text is None else text, len(ecgs))
        answers = [None] * len(ecgs) if answer is None else one_each("answer", answer, len(ecgs))
        blocks = [[{"type": "ecg", "ecg": recording}] for recording in ecgs]
        conversations = [new_conversation(*row) for row in zip(blocks, texts, answers, strict=True)]
        return self.apply_chat_template(
            conversations,
            add_generation_prompt=answer is None,
            tokenize=True,
            return_dict=True,
            output_labels=bool(output_labels),
            strictness=strictness,
            on_refusal=on_refusal or "raise",
            return_report=bool(return_report),
            return_tensors=cast(str | None, kwargs.get("return_tensors")),
        )

    @property
    def placeholders(self) -> Placeholders:
        """Type of a block -> its placeholder token and their number."""
        return {"ecg": (self.ecg_token, self.num_ecg_vectors)}

    def pieces(self, messages: Sequence[Message], add_generation_prompt: bool = False) -> Pieces:
        """Tokenize one conversation in pieces, each with whether it is an answer of the assistant. No ECG is read.

        Args:
            messages: as `apply_chat_template` takes them.
            add_generation_prompt: end with the start of the assistant's answer.
        """
        return token_pieces(self.tokenizer, plain_texts(messages, self.placeholders), add_generation_prompt)

    def read_row(self, messages: Sequence[Message], report: Report, strictness: str) -> PreparedEcg:
        """Prepare the ECG of a conversation, see `ConversationProcessor`. There must be one ECG block."""
        report["used"] = self.nothing_used()
        entry: PreparedEcg = self.feature_extractor.prepare(ecg_of(messages))
        report["checks"] += entry.checks
        if entry.checks and strictness == "refuse":
            raise InputRefusedError("ecg", f"the strictness is 'refuse', and {entry.checks[0]['text']}")
        report |= {"used": {"ecg": list(LEADS)}, "notes": [f"ecg: {note}" for note in entry.notes]}
        return entry

    def row_pieces(self, messages: Sequence[Message], row: PreparedEcg, add_generation_prompt: bool) -> Pieces:
        """Tokenize one conversation. The number of placeholders does not depend on the ECG."""
        return self.pieces(messages, add_generation_prompt)

    def stack_rows(self, rows: Sequence[PreparedEcg]) -> dict[str, np.ndarray]:
        """Stack prepared ECGs: "input_values" (B, 12, samples) float32."""
        # `EcgFeatureExtractor` names its values otherwise. Its mask is True everywhere.
        return {"input_values": np.stack([entry.values for entry in rows])}


__all__ = ["INSTRUCTION", "MeitProcessor"]
