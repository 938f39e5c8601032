"""The base of the processors whose model answers in words: conversations in, one batch of inputs out.

    conversation --read_row-----> what the model reads of the ECG, or a refusal with its reason
                 --row_pieces---> token ids, with the answers of the assistant told apart
                 --pad_left-----> input_ids, attention_mask (B, T), padded on the left
    rows         --stack_rows---> the other inputs

A family says how a row is read and stacked.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from transformers import BatchFeature

from ...inputs.hub_processor import CHOICES, HubProcessor, check_choices
from ...utils.errors import is_refusal
from .ecg_conversations import Message, Pieces, Placeholders, pad_left, plain_texts, render

Report = dict[str, Any]
"""What became of the ECG of one conversation: {"row", "used", "refused", "checks", "notes"}."""


class ConversationProcessor(HubProcessor):
    """Processor of a language model that reads an ECG: chat template, labels, refusals and reports.

    Attributes:
        default_strictness (`str`, defaults to `"note"`): the strictness of a call that gives none. It is not saved,
            because it belongs to the run and not to the model.
    """

    default_strictness = "note"

    @abstractmethod
    def read_row(self, messages: Sequence[Message], report: Report, strictness: str) -> Any:
        """Read the ECGs and pictures of a conversation. Returns the input of `row_pieces` and `stack_rows`.

        Args:
            messages: of one conversation.
            report: is filled, all but "row" and "refused".
            strictness: "note", or "refuse" to refuse an ECG with a finding under "checks".

        Raises:
            InputRefusedError: if it cannot be used.
            ValueError: if the conversation holds too many or too few ECGs.
        """

    @abstractmethod
    def row_pieces(self, messages: Sequence[Message], row: Any, add_generation_prompt: bool) -> Pieces:
        """Tokenize one conversation in pieces, with the placeholders that its row `row` asks for."""

    @abstractmethod
    def stack_rows(self, rows: Sequence[Any]) -> dict[str, np.ndarray]:
        """Stack what `read_row` returned for every conversation of a batch."""

    @property
    @abstractmethod
    def placeholders(self) -> Placeholders:
        """Type of a block -> its placeholder token and their number, in a text that is not tokenized."""

    def apply_chat_template(  # noqa: PLR0913 - arguments of transformers and of a family's `__call__`
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

        The content of a message is a text, or a list of blocks `{"type": "text", "text": ...}` and blocks of ECGs or
        pictures, which the family's class describes.

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
            ValueError: if a conversation lacks an ECG that it needs, or `output_labels` finds no answer.
        """
        is_batch = not isinstance(conversation[0], Mapping)
        conversations = cast(Sequence[Sequence[Message]], conversation if is_batch else [conversation])
        if not tokenize:
            plain = [plain_texts(messages, self.placeholders) for messages in conversations]
            texts = [render(self.tokenizer, messages, add_generation_prompt) for messages in plain]
            return texts if is_batch else texts[0]
        if not return_dict:
            raise ValueError("return_dict must be True, because the ECG has no place in a list of token ids.")
        check_choices(CHOICES, strictness=strictness or self.default_strictness, on_refusal=on_refusal)
        answers = [[message for message in messages if message["role"] == "assistant"] for messages in conversations]
        if output_labels and not all(answers):
            raise ValueError("output_labels needs an answer: give answer=, or a message of the assistant.")
        rows, reports = self._read_rows(conversations, strictness or self.default_strictness, on_refusal)
        data: dict[str, np.ndarray] = {}
        if rows:
            kept = [
                messages for messages, report in zip(conversations, reports, strict=True) if report["row"] is not None
            ]
            pieces = [self.row_pieces(*pair, add_generation_prompt) for pair in zip(kept, rows, strict=True)]
            data = {**pad_left(self.tokenizer, pieces, output_labels), **self.stack_rows(rows)}
        features = BatchFeature(data, tensor_type=return_tensors)
        return (features, reports) if return_report else features

    def _read_rows(
        self, conversations: Sequence[Sequence[Message]], strictness: str, on_refusal: str
    ) -> tuple[list[Any], list[Report]]:
        """Read all conversations. Return the usable rows, and one report per conversation."""
        rows: list[Any] = []
        reports: list[Report] = []
        for messages in conversations:
            report: Report = {"row": None, "used": {}, "refused": [], "checks": [], "notes": []}
            reports.append(report)
            try:
                row = self.read_row(messages, report, strictness)
            except ValueError as error:
                if on_refusal == "raise" or not is_refusal(error):
                    raise
                # The report does not name the file, because a path may name the patient.
                item = getattr(error, "refused_item", "ecg")
                report["refused"].append({"item": item, "reason": error.reason})  # type: ignore[attr-defined]
                report |= {"used": self.nothing_used(), "notes": []}
                continue
            report["row"] = len(rows)
            rows.append(row)
        return rows, reports

    def nothing_used(self) -> dict[str, list[str]]:
        """Return "used" of a refused conversation."""
        return {"ecg": []}


def check_tokenizer(tokenizer: Any, tokens: Sequence[str]) -> None:
    """Raise a ValueError unless a tokenizer can pad, and knows the placeholder tokens."""
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is None:
        raise ValueError("The tokenizer has neither a padding nor an end token. Set tokenizer.pad_token.")
    vocabulary = tokenizer.get_vocab()
    for token in tokens:
        if token not in vocabulary:
            raise ValueError(
                f"The tokenizer does not know the placeholder {token!r}. Add it: "
                f"tokenizer.add_tokens([{token!r}], special_tokens=True), then resize the model's embeddings."
            )


def one_each(name: str, value: str | Sequence[str], size: int) -> list[str]:
    """Bring the argument `name` to a list of `size` texts. A single text stands for all."""
    texts = [value] * size if isinstance(value, str) else list(value)
    if len(texts) != size:
        raise ValueError(f"{name} must be one text or one for each ECG, got {len(texts)} for {size} ECGs.")
    return texts


__all__ = ["ConversationProcessor", "Report", "check_tokenizer", "one_each"]
