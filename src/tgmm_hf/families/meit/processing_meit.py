"""A conversation about an ECG -> the inputs of `MeitForConditionalGeneration`.

    conversation --chat template--> text --tokenizer--> input_ids, attention_mask (B, T), padded on the left
    ECG          --feature extractor----------------->  input_values (B, 12, samples)

B conversations, T tokens.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from transformers import BatchFeature, PreTrainedTokenizerBase
from transformers.processing_utils import ProcessingKwargs, Unpack

from ...inputs.feature_extraction_ecg import PreparedEcg
from ...inputs.hub_processor import HubProcessor
from ...utils.errors import InputRefusedError, is_refusal
from ...utils.names import LEADS
from .ecg_conversations import Message, Pieces, ecg_of, new_conversation, pad_left, plain_texts, render, token_pieces

INSTRUCTION = (
    "Given the ECG signal embeddings, please help me generate an accurate description for this ECG signal embeddings:"
)
"""The published instruction for MIMIC-IV-ECG, letter by letter."""
STRICTNESS = ("note", "refuse")

Report = dict[str, Any]
"""What became of one ECG, see `MeitProcessor.__call__`."""


class MeitProcessor(HubProcessor):
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
        if tokenizer.pad_token_id is None and tokenizer.eos_token_id is None:
            raise ValueError("The tokenizer has neither a padding nor an end token. Set tokenizer.pad_token.")
        if ecg_token is not None and ecg_token not in tokenizer.get_vocab():
            raise ValueError(
                f"The tokenizer does not know the placeholder {ecg_token!r}. Add it: "
                f"tokenizer.add_tokens([{ecg_token!r}], special_tokens=True), then resize the model's embeddings."
            )
        self.instruction = instruction
        self.ecg_token = ecg_token
        self.num_ecg_vectors = num_ecg_vectors
        self.default_strictness = "note"

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
        texts = _one_each("text", self.instruction if text is None else text, len(ecgs))
        answers = [None] * len(ecgs) if answer is None else _one_each("answer", answer, len(ecgs))
        conversations = [new_conversation(*row) for row in zip(ecgs, texts, answers, strict=True)]
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

    def apply_chat_template(  # noqa: PLR0913 - transformers' arguments, and those of `__call__`
        self,
        conversation: Sequence[Message] | Sequence[Sequence[Message]],
        *,
        add_generation_prompt: bool = False,
        tokenize: bool = False,
        return_dict: bool = True,
        output_labels: bool = False,
        strictness: str | None = None,
        on_refusal: str = "raise",
        return_report: bool = False,
        return_tensors: str | None = None,
    ) -> Any:
        """Turn one conversation or a list into text, or into the model's inputs.

        The content of a message is a text, or a list of blocks `{"type": "text", "text": ...}` and `{"type": "ecg",
        "ecg": ...}`. A conversation has one ECG block. `ecg` is whatever `__call__` takes.

        Args:
            conversation: messages with "role" and "content".
            add_generation_prompt: end with the start of the assistant's answer.
            tokenize: return the model's inputs. False returns text: one, or a list for a list.
            return_dict: must be True with `tokenize`, because the ECG has no place in a list of ids.
            output_labels: also return `labels`: the tokens of the assistant's answers with their end token, and -100
                everywhere else.
            strictness: see `__call__`.
            on_refusal: see `__call__`.
            return_report: see `__call__`.
            return_tensors: see `__call__`.

        Returns:
            Text, or what `__call__` returns.

        Raises:
            ValueError: if a conversation does not have exactly one ECG block, or `output_labels` finds no answer.
        """
        is_batch = not isinstance(conversation[0], Mapping)
        conversations = cast(Sequence[Sequence[Message]], conversation if is_batch else [conversation])
        if not tokenize:
            texts = [render(self.tokenizer, plain, add_generation_prompt) for plain in map(self._plain, conversations)]
            return texts if is_batch else texts[0]
        if not return_dict:
            raise ValueError("return_dict must be True, because the ECG has no place in a list of token ids.")
        _check_choices(strictness=(strictness or self.default_strictness, STRICTNESS))
        _check_choices(on_refusal=(on_refusal, ("raise", "report")))
        rows = [self.pieces(messages, add_generation_prompt) for messages in conversations]
        if output_labels and not all(any(is_answer for _, is_answer in pieces) for pieces in rows):
            raise ValueError("output_labels needs an answer: give answer=, or a message of the assistant.")
        prepared, reports = self._prepare([ecg_of(messages) for messages in conversations], strictness, on_refusal)
        data: dict[str, np.ndarray] = {}
        if prepared:
            kept = [pieces for pieces, report in zip(rows, reports, strict=True) if report["row"] is not None]
            data = pad_left(self.tokenizer, kept, output_labels)
            # `EcgFeatureExtractor` names its values otherwise. Its mask is True everywhere.
            data["input_values"] = np.stack([entry.values for entry in prepared])
        features = BatchFeature(data, tensor_type=return_tensors)
        return (features, reports) if return_report else features

    def pieces(self, messages: Sequence[Message], add_generation_prompt: bool = False) -> Pieces:
        """Tokenize one conversation in pieces, each with whether it is an answer of the assistant. No ECG is read.

        Args:
            messages: as `apply_chat_template` takes them.
            add_generation_prompt: end with the start of the assistant's answer.
        """
        return token_pieces(self.tokenizer, self._plain(messages), add_generation_prompt)

    def _prepare(
        self, ecgs: Sequence[Any], strictness: str | None, on_refusal: str
    ) -> tuple[list[PreparedEcg], list[Report]]:
        """Prepare ECGs. Returns those that can be used, and one report per given ECG."""
        prepared: list[PreparedEcg] = []
        reports: list[Report] = []
        for ecg in ecgs:
            report: Report = {"row": None, "used": {"ecg": []}, "refused": [], "checks": [], "notes": []}
            reports.append(report)
            try:
                entry = self.feature_extractor.prepare(ecg)
                report["checks"] += entry.checks
                if entry.checks and (strictness or self.default_strictness) == "refuse":
                    raise InputRefusedError("ecg", f"the strictness is 'refuse', and {entry.checks[0]['text']}")
            except ValueError as error:
                if on_refusal == "raise" or not is_refusal(error):
                    raise
                # The report does not name the file, because a path may name the patient.
                report["refused"].append({"item": "ecg", "reason": error.reason})  # type: ignore[attr-defined]
                continue
            report |= {"row": len(prepared), "used": {"ecg": list(LEADS)}, "notes": [f"ecg: {n}" for n in entry.notes]}
            prepared.append(entry)
        return prepared, reports

    def _plain(self, messages: Sequence[Message]) -> list[dict[str, str]]:
        """Write every message as one text, with the placeholder tokens of this processor."""
        return plain_texts(messages, self.ecg_token, self.num_ecg_vectors)


def _one_each(name: str, value: str | Sequence[str], size: int) -> list[str]:
    """Bring the argument `name` to a list of `size` texts. A single text stands for all."""
    texts = [value] * size if isinstance(value, str) else list(value)
    if len(texts) != size:
        raise ValueError(f"{name} must be one text or one for each ECG, got {len(texts)} for {size} ECGs.")
    return texts


def _check_choices(**options: tuple[str, Sequence[str]]) -> None:
    """Raise a `ValueError` if an option, given as (value, allowed values), has a value that is not allowed."""
    for name, (value, allowed) in options.items():
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}.")


__all__ = ["INSTRUCTION", "MeitProcessor"]
