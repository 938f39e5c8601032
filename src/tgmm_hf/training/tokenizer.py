"""A WordPiece vocabulary trained on a cohort's own text, for models that start from random weights."""

from collections.abc import Iterable
from typing import Any

from tokenizers import BertWordPieceTokenizer
from transformers import BertTokenizerFast

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TASK_TEXTS_REPEATED = 4
"""The tasks' texts are few beside the cohort's: repeated, their words pass `MIN_FREQUENCY` and become whole tokens."""
MIN_FREQUENCY = 2


def train_tokenizer(texts: Iterable[str], tasks: dict[str, dict[str, Any]], vocab_size: int) -> BertTokenizerFast:
    """Train a cased WordPiece tokenizer on lab texts and the tasks' questions, phrases and candidate answers.

    Args:
        texts: lab text of the training patients; never of validation or test patients.
        tasks: the model's tasks (`config.tasks`).
        vocab_size: upper bound of its size, special tokens included.

    Returns:
        A BERT tokenizer; `[PAD]` is token 0, as `BertConfig` expects.

    Raises:
        ValueError: if there is no text, or the vocabulary comes out larger than `vocab_size`.
    """
    corpus = [text for text in texts if text]
    if not corpus:
        raise ValueError("No training patient has lab text to train a tokenizer on: use model.tokenizer: bert-cased.")
    for task in tasks.values():
        corpus += TASK_TEXTS_REPEATED * [task["question"], task["learnable_phrase"], *task["candidates"]]
    trainer = BertWordPieceTokenizer(lowercase=False, strip_accents=False)
    trainer.train_from_iterator(
        corpus,
        vocab_size=vocab_size,
        min_frequency=MIN_FREQUENCY,
        special_tokens=[*SPECIAL_TOKENS, *_characters(corpus)],
        show_progress=False,
    )
    vocabulary = trainer.get_vocab()
    if len(vocabulary) > vocab_size:
        raise ValueError(
            f"The characters of the text alone need {len(vocabulary)} tokens, vocab_size is {vocab_size}: raise it."
        )
    # vocab=, not vocab_file=: transformers 5 ignores the latter and yields five tokens, everything unknown
    tokenizer = BertTokenizerFast(vocab=vocabulary, do_lower_case=False, model_max_length=512)
    if len(tokenizer) != len(vocabulary):
        raise ValueError(f"The tokenizer holds {len(tokenizer)} tokens of the {len(vocabulary)} that were trained.")
    return tokenizer


def _characters(corpus: Iterable[str]) -> list[str]:
    """Every single-character token, at the start of a word and inside it, in a fixed order.

    Printable ASCII is always there, so that values never seen in training do not become `[UNK]`. Handing them over first
    also fixes their ids: left to itself, the trainer numbers them in the order of a hash table, which differs from run to
    run and, through ties between merges, changes the vocabulary.
    """
    characters = sorted(
        {chr(code) for code in range(33, 127)} | {c for text in corpus for c in text if not c.isspace()}
    )
    return characters + [f"##{character}" for character in characters]
