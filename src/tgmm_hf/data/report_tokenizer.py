"""A small tokenizer trained on the reports of a cohort, for a language model that starts from random weights.

It is a byte-level BPE, as GPT-2 has. Every text can be written and comes back letter by letter, because every byte is a
token. Frequent words and word parts become tokens of their own. Digits are never joined, so that a number that was not
seen in training is written with known tokens.
"""

from collections import Counter
from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tgmm_hf.data.tokenizer import learn_merges
from tgmm_hf.utils.errors import TgmmError

ECG_TOKEN = "<|ecg|>"  # noqa: S105 - a token of a text
"""Placeholder of an ECG in a text, for the fusion "tokens"."""
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>", ECG_TOKEN)
"""Padding, beginning, end, unknown, and the placeholder of an ECG."""


def report_tokenizer(texts: Iterable[str] = (), vocab_size: int = 0) -> PreTrainedTokenizerFast:
    """Train a byte-level tokenizer. The same texts give the same tokenizer.

    Args:
        texts: Prompts and reports of the training split.
        vocab_size: Maximum number of tokens. 0 gives the bytes and the special tokens only.

    Raises:
        TgmmError: If `vocab_size` cannot hold the bytes and the special tokens.
    """
    base = [*SPECIAL_TOKENS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    if vocab_size and vocab_size < len(base):
        raise TgmmError("vocab_size", f"must be at least {len(base)} (special tokens and bytes), got {vocab_size}.")
    splitter = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    words = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(text))
    merges = learn_merges(words, max(vocab_size - len(base), 0))
    vocabulary = list(dict.fromkeys([*base, *(first + second for first, second in merges)]))
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(vocabulary)}, merges))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL_TOKENS])
    pad, bos, eos, unknown, ecg = SPECIAL_TOKENS
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        bos_token=bos,
        eos_token=eos,
        unk_token=unknown,
        extra_special_tokens=[ecg],
        clean_up_tokenization_spaces=False,
    )
