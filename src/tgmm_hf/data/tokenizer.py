"""A small WordPiece tokenizer trained on a cohort's own text, for a model that starts from random weights.

The full-size model uses bert-base-cased's vocabulary, which the package carries. The demo's text encoder has room for
about a thousand tokens, and nothing can be fetched: so the vocabulary is learned from the training split's laboratory
texts and the tasks' texts. Numbers are split into single digits ("5210" -> 5 ##2 ##1 ##0), by giving the vocabulary
the ten digits and no longer number: a number never seen in training then has the same tokens as any other, and the
digits' order carries its magnitude. That needs no pre-tokenizer of its own, so the saved tokenizer loads as plain BERT.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from tokenizers.pre_tokenizers import BertPreTokenizer
from transformers import BertTokenizerFast

from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.processing_tgmm import BERT_CASED_SIZE, TgmmProcessor, bert_cased_tokenizer, default_processor

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
DIGITS = tuple("0123456789")
# What a cell not seen in training may be written with: every printable ASCII character can be spelled.
CHARACTERS = tuple(chr(code) for code in range(0x21, 0x7F) if not chr(code).isdigit()) + tuple("µ≤≥°²")
MIN_FREQUENCY = 2  # a piece seen once is a patient's own word


def train_tokenizer(texts: Iterable[str], *, vocab_size: int = 1024, max_length: int = 512) -> BertTokenizerFast:
    """Cased WordPiece tokenizer of at most `vocab_size` tokens; the same texts give the same tokenizer.

    Args:
        texts: laboratory texts (`lab_texts`) and the tasks' texts (`task_texts`).
        vocab_size: upper limit; the text encoder's `vocab_size` must not be smaller.
        max_length: the text encoder's positions.

    Raises:
        ValueError: if `vocab_size` cannot hold the special tokens and the single characters.
    """
    base = [*SPECIAL_TOKENS, *DIGITS, *(f"##{digit}" for digit in DIGITS)]
    base += [*CHARACTERS, *(f"##{character}" for character in CHARACTERS)]
    if vocab_size < len(base):
        raise ValueError(
            f"vocab_size must be at least {len(base)} (special tokens, digits, characters), got {vocab_size}."
        )
    learned = _learn_pieces((re.sub(r"\d", " ", text) for text in texts), vocab_size - len(base))
    vocabulary = list(dict.fromkeys([*base, *learned]))
    # vocab=, not vocab_file=: transformers 5 ignores the latter and yields five tokens, everything unknown
    tokenizer = BertTokenizerFast(
        vocab={token: index for index, token in enumerate(vocabulary)}, do_lower_case=False, model_max_length=max_length
    )
    if len(tokenizer) != len(vocabulary):
        raise ValueError(f"The tokenizer has {len(tokenizer)} tokens, expected {len(vocabulary)}.")
    return tokenizer


def cohort_tokenizer(rows: Any, tasks: Mapping[str, Mapping[str, Any]], vocab_size: int) -> BertTokenizerFast:
    """A tokenizer trained on the lab text of prepared rows (the training split) and on the tasks' texts."""
    # the text does not depend on the tokenizer: any processor can write it
    writer = default_processor(TgmmConfig.tiny(labs_config={"vocab_size": BERT_CASED_SIZE}), bert_cased_tokenizer())
    return train_tokenizer([*lab_texts(rows, writer), *task_texts(tasks)], vocab_size=vocab_size)


def lab_texts(dataset: Any, processor: TgmmProcessor) -> list[str]:
    """Laboratory texts of a prepared split (use the training split), without the empty ones."""
    rows = dataset.with_format(None).select_columns("labs")["labs"]
    texts = (processor.labs_text(json.loads(row)).text for row in rows if row)
    return [text for text in texts if text]


def task_texts(tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Questions, learnable phrases and candidate answers of the tasks (`config.tasks`)."""
    return [
        text
        for task in tasks.values()
        for text in (task["question"], task["learnable_phrase"], *task.get("candidates", []))
    ]


def _learn_pieces(texts: Iterable[str], count: int) -> list[str]:
    """The `count` word pieces that merging the commonest neighbours gives, in the order of merging.

    Written out because the trainer of the `tokenizers` library breaks ties by hash order: two runs on one text gave two
    vocabularies. Here the commonest pair wins, among equals the first in the alphabet.
    """
    words = Counter(word for text in texts for word, _ in BertPreTokenizer().pre_tokenize_str(text))
    spellings = {word: [word[0], *(f"##{character}" for character in word[1:])] for word in words}
    pairs: Counter[tuple[str, str]] = Counter()
    words_with: dict[tuple[str, str], set[str]] = {}
    for word, pieces in spellings.items():
        for pair in pairwise(pieces):
            pairs[pair] += words[word]
            words_with.setdefault(pair, set()).add(word)
    learned: list[str] = []
    while pairs and len(learned) < count:
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        if pairs[best] < MIN_FREQUENCY:
            break
        learned.append(best[0] + best[1].removeprefix("##"))
        for word in words_with.pop(best):
            for pair in pairwise(spellings[word]):
                pairs[pair] -= words[word]
            spellings[word] = _merge(spellings[word], best)
            for pair in pairwise(spellings[word]):
                pairs[pair] += words[word]
                words_with.setdefault(pair, set()).add(word)
        pairs = +pairs  # drop what no longer occurs
    return learned


def _merge(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for piece in pieces:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece.removeprefix("##")
        else:
            merged.append(piece)
    return merged
