"""A small WordPiece tokenizer trained on the text of a cohort, for a model that starts from random weights.

The full-size model uses the vocabulary of bert-base-cased, which the package carries. The text encoder of the demo has
room for about a thousand tokens, and nothing can be downloaded. So its vocabulary is learned from the laboratory texts
of the training split and from the texts of the tasks.

Numbers are split into single digits ("5210" -> 5 ##2 ##1 ##0), because the vocabulary holds the ten digits and no
longer number. A number that was never seen in training is then written with known tokens, and the order of the digits
carries the magnitude. This needs no pre-tokenizer of our own, so the saved tokenizer loads as a plain BERT tokenizer.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from tokenizers.pre_tokenizers import BertPreTokenizer
from transformers import BertTokenizer

from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.data.lab_rows import columns_of, labs_text, stored_labs
from tgmm_hf.processing_tgmm import BERT_CASED_SIZE, TgmmProcessor, bert_cased_tokenizer, default_processor
from tgmm_hf.utils.errors import TgmmError

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
DIGITS = tuple("0123456789")
CHARACTERS = tuple(chr(code) for code in range(0x21, 0x7F) if not chr(code).isdigit()) + tuple("µ≤≥°²")
"""Every printable ASCII character is in the vocabulary, so that cells that were not seen in training can be written."""
INSIDE = "##"
"""How a word piece begins that does not start a word."""
MIN_FREQUENCY = 2
"""A piece that occurs once belongs to a single patient and is not learned."""


def train_tokenizer(texts: Iterable[str], *, vocab_size: int = 1024, max_length: int = 512) -> BertTokenizer:
    """Train a cased WordPiece tokenizer. The same texts give the same tokenizer.

    Args:
        texts: Laboratory texts (`lab_texts`) and the texts of the tasks (`task_texts`).
        vocab_size: Maximum number of tokens. The `vocab_size` of the text encoder must not be smaller.
        max_length: Number of positions of the text encoder, the longest text in tokens.

    Raises:
        TgmmError: If `vocab_size` cannot hold the special tokens and the single characters.
    """
    base = [*SPECIAL_TOKENS, *DIGITS, *(f"##{digit}" for digit in DIGITS)]
    base += [*CHARACTERS, *(f"##{character}" for character in CHARACTERS)]
    if vocab_size < len(base):
        raise TgmmError(
            "vocab_size", f"must be at least {len(base)} (special tokens, digits, characters), got {vocab_size}."
        )
    learned = _learn_pieces((re.sub(r"\d", " ", text) for text in texts), vocab_size - len(base))
    vocabulary = list(dict.fromkeys([*base, *learned]))
    # vocab=, not vocab_file=, because transformers 5 ignores a vocab_file: the tokenizer then has five tokens
    tokenizer = BertTokenizer(
        vocab={token: index for index, token in enumerate(vocabulary)}, do_lower_case=False, model_max_length=max_length
    )
    if len(tokenizer) != len(vocabulary):
        raise ValueError(f"The tokenizer has {len(tokenizer)} tokens, expected {len(vocabulary)}.")
    return tokenizer


def cohort_tokenizer(rows: Any, tasks: Mapping[str, Mapping[str, Any]], vocab_size: int) -> BertTokenizer:
    """Train a tokenizer on the laboratory texts of prepared rows and on the texts of the tasks.

    Args:
        rows: The prepared training split.
        tasks: Task name -> settings, as in `TgmmConfig.tasks`.
        vocab_size: Maximum number of tokens.
    """
    # The words of the text do not depend on the tokenizer, so that any processor can write them.
    writer = default_processor(TgmmConfig.tiny(labs_config={"vocab_size": BERT_CASED_SIZE}), bert_cased_tokenizer())
    writer.labs_columns = columns_of(rows)
    return train_tokenizer([*lab_texts(rows, writer), *task_texts(tasks)], vocab_size=vocab_size)


def lab_texts(dataset: Any, processor: TgmmProcessor) -> list[str]:
    """List the laboratory texts of a prepared split, worded by `processor`, without empty texts."""
    rows = dataset.with_format(None).select_columns("labs")
    texts = (labs_text(processor, stored_labs(row)) for row in rows)
    return [text for text in texts if text]


def task_texts(tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """List question, learnable phrase and candidate answers of every task. `tasks` is `TgmmConfig.tasks`."""
    return [
        text
        for task in tasks.values()
        for text in (task["question"], task["learnable_phrase"], *task.get("candidates", []))
    ]


def _learn_pieces(texts: Iterable[str], count: int) -> list[str]:
    """Learn at most `count` word pieces, in the order in which they were learned.

    A piece inside a word begins with "##".
    """
    words = Counter(word for text in texts for word, _ in BertPreTokenizer().pre_tokenize_str(text))
    return [first + second.removeprefix(INSIDE) for first, second in learn_merges(words, count, INSIDE)]


def learn_merges(words: Mapping[str, int], count: int, inside: str = "") -> list[tuple[str, str]]:
    """Learn pieces of words by joining the most frequent pair of neighbouring pieces again and again.

    Among equally frequent pairs the first in the alphabet is joined. The trainer of the `tokenizers` library is not
    used, because it breaks ties by hash order, so that two runs on one text give two vocabularies.

    Args:
        words: Word -> how often it occurs.
        count: Maximum number of pairs.
        inside: How a piece begins that does not start a word.

    Returns:
        The joined pairs of pieces, in the order in which they were joined.
    """
    spellings = {word: [word[0], *(f"{inside}{character}" for character in word[1:])] for word in words}
    pairs: Counter[tuple[str, str]] = Counter()
    words_with: dict[tuple[str, str], set[str]] = {}
    for word, pieces in spellings.items():
        for pair in pairwise(pieces):
            pairs[pair] += words[word]
            words_with.setdefault(pair, set()).add(word)
    learned: list[tuple[str, str]] = []
    while pairs and len(learned) < count:
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        if pairs[best] < MIN_FREQUENCY:
            break
        learned.append(best)
        for word in words_with.pop(best):
            for pair in pairwise(spellings[word]):
                pairs[pair] -= words[word]
            spellings[word] = _merge(spellings[word], best, inside)
            for pair in pairwise(spellings[word]):
                pairs[pair] += words[word]
                words_with.setdefault(pair, set()).add(word)
        pairs = +pairs  # drop pairs that no longer occur
    return learned


def _merge(pieces: list[str], pair: tuple[str, str], inside: str) -> list[str]:
    merged: list[str] = []
    for piece in pieces:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece.removeprefix(inside)
        else:
            merged.append(piece)
    return merged
