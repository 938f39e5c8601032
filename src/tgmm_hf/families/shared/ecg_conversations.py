"""Conversations about an ECG -> token ids, with the answers of the assistant told apart from the rest."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

PUBLISHED_TEMPLATE = (
    "{% for message in messages %}"
    "<|{{ message['role'] }}|>\n"
    "{{ message['content'] | trim }}{{ eos_token if message['role'] == 'assistant' else '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
"""The published form of a conversation, for a tokenizer without a chat template."""
IGNORED_LABEL = -100

Message = Mapping[str, Any]
"""{"role": "user", "assistant" or "system", "content": text or list of blocks}."""
Placeholders = Mapping[str, tuple[str | None, int]]
"""Type of a block, such as "ecg" -> its placeholder token (None for none), and how many of them stand for it."""
Pieces = list[tuple[list[int], bool]]
"""Token ids of the pieces of a conversation, each with whether it is an answer of the assistant."""


def blocks_of(messages: Sequence[Message], kind: str) -> list[Mapping[str, Any]]:
    """List the blocks of the type `kind` of a conversation, in their order."""
    blocks = [block for message in messages if not isinstance(message["content"], str) for block in message["content"]]
    return [block for block in blocks if block["type"] == kind]


def ecg_of(messages: Sequence[Message]) -> Any:
    """Return the ECG of a conversation.

    Raises:
        ValueError: if there is none or more than one.
    """
    ecgs = [block["ecg"] for block in blocks_of(messages, "ecg")]
    if len(ecgs) != 1:
        raise ValueError(f"A conversation must have one ECG block, got {len(ecgs)}.")
    return ecgs[0]


def new_conversation(blocks: Sequence[Mapping[str, Any]], text: str, answer: str | None) -> list[Message]:
    """Write blocks of ECGs or pictures, an instruction and an answer (None for none) as messages."""
    messages: list[Message] = [{"role": "user", "content": [*blocks, {"type": "text", "text": text}]}]
    return messages if answer is None else [*messages, {"role": "assistant", "content": answer.strip()}]


def plain_texts(messages: Sequence[Message], placeholders: Placeholders) -> list[dict[str, str]]:
    """Replace the blocks of every message by one text. An ECG or picture becomes placeholder tokens, or nothing.

    Args:
        messages: of one conversation.
        placeholders: tokens of each type of block.

    Raises:
        ValueError: if a text holds a placeholder, or a block is of an unknown type.
    """
    tokens = [token for token, _ in placeholders.values() if token]
    plain = []
    for message in messages:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        texts = []
        for block in blocks:
            if block["type"] == "text":
                if held := [token for token in tokens if token in block["text"]]:
                    raise ValueError(
                        f"A text holds the placeholder {held[0]!r}, which stands for an ECG or a picture. Remove it."
                    )
                texts.append(block["text"])
            elif block["type"] in placeholders:
                token, number = placeholders[block["type"]]
                texts.append((token or "") * number)
            else:
                block_types = ", ".join(["text", *placeholders])
                raise ValueError(f"A block has the type {block['type']!r}. It must have one of: {block_types}.")
        plain.append({"role": message["role"], "content": "".join(texts)})
    return plain


def render(tokenizer: Any, messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
    """Write messages as one text, by the tokenizer's chat template or the published form.

    Args:
        tokenizer: of the language model.
        messages: as `plain_texts` gives them.
        add_generation_prompt: end with the start of the assistant's answer.
    """
    if not messages:
        return ""
    text = tokenizer.apply_chat_template(
        messages,
        chat_template=tokenizer.chat_template or PUBLISHED_TEMPLATE,
        add_generation_prompt=add_generation_prompt,
        tokenize=False,
    )
    return cast(str, text)


def token_pieces(tokenizer: Any, messages: list[dict[str, str]], add_generation_prompt: bool) -> Pieces:
    """Tokenize a conversation in pieces.

    An answer is tokenized apart from its prompt, so that a prompt has the same tokens in training and in use.

    Args:
        tokenizer: of the language model.
        messages: as `plain_texts` gives them.
        add_generation_prompt: end with the start of the assistant's answer.

    Raises:
        ValueError: if the chat template writes the beginning of a conversation otherwise when an answer follows.
    """
    texts: list[tuple[str, bool]] = []
    done = ""
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before, after = render(tokenizer, messages[:index], True), render(tokenizer, messages[: index + 1], False)
        for until, is_answer in ((before, False), (after, True)):
            if not until.startswith(done):
                raise ValueError(
                    "The chat template writes the beginning of a conversation otherwise when an answer follows, so "
                    "that the answer's tokens cannot be told apart. Set another tokenizer.chat_template."
                )
            texts.append((until[len(done) :], is_answer))
            done = until
    whole = render(tokenizer, messages, add_generation_prompt)
    texts.append((whole[len(done) :], False))
    pieces = [(list(tokenizer(text, add_special_tokens=False)["input_ids"]), answer) for text, answer in texts if text]
    return [*_start(tokenizer), *pieces]


def _start(tokenizer: Any) -> Pieces:
    """Return the token that begins a text, if the tokenizer writes one and no chat template does it."""
    bos = tokenizer.bos_token_id
    writes_it = bos is not None and list(tokenizer("")["input_ids"])[:1] == [bos]
    return [([bos], False)] if writes_it and not tokenizer.chat_template else []


def pad_left(tokenizer: Any, rows: Sequence[Pieces], output_labels: bool) -> dict[str, np.ndarray]:
    """Join the pieces of every row and pad on the left, because a report goes on at the right end.

    Args:
        tokenizer: gives the padding token, or else the end token, which the mask hides.
        rows: one conversation each.
        output_labels: also return labels.

    Returns:
        "input_ids", "attention_mask" and, if asked for, "labels", each (B, T) int64.
    """
    padding = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    longest = max(sum(len(ids) for ids, _ in pieces) for pieces in rows)
    input_ids = np.full((len(rows), longest), padding, dtype=np.int64)
    attention_mask = np.zeros_like(input_ids)
    labels = np.full_like(input_ids, IGNORED_LABEL)
    for row, pieces in enumerate(rows):
        ids = [token for piece, _ in pieces for token in piece]
        supervised = [token if answer else IGNORED_LABEL for piece, answer in pieces for token in piece]
        start = longest - len(ids)
        input_ids[row, start:], attention_mask[row, start:], labels[row, start:] = ids, 1, supervised
    data = {"input_ids": input_ids, "attention_mask": attention_mask}
    return {**data, "labels": labels} if output_labels else data
