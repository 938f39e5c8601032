"""The parts of a processor that fit a model's encoders: tokenizer, ECG extractor and echo image processor."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import BertTokenizer, PreTrainedTokenizerBase
from transformers.utils import cached_file, logging

from .declared_preprocessing import check_declared, declared_extractor, extractor_class_of
from .feature_extraction_ecg import EcgFeatureExtractor
from .image_processing_echo import EchoImageProcessor
from .lab_scales import units_of_scales
from .lab_text import SEPARATOR, LabsText
from .processor_fingerprint import changed_settings, processor_fingerprint

logger = logging.get_logger(__name__)

BERT_CASED_SIZE = 28_996
"""Number of tokens of bert-base-cased."""
LONGEST_WORD = 100
"""Letters. A WordPiece tokenizer reads a longer word as unknown."""
VOCABULARY_FILE = Path(__file__).parents[1] / "assets" / "bert_cased_vocab.txt"
"""Vocabulary of bert-base-cased, one token per line. A saved model does not carry this file."""


def bert_cased_tokenizer() -> BertTokenizer:
    """Build the cased WordPiece tokenizer of bert-base-cased, which Bio-ClinicalBERT uses (paper, 5.1).

    Raises:
        FileNotFoundError: without the package's vocabulary file. A Hub repository carries its own tokenizer.
        ValueError: if the vocabulary file does not give `BERT_CASED_SIZE` tokens.
    """
    if not VOCABULARY_FILE.is_file():
        raise FileNotFoundError(
            f"{VOCABULARY_FILE.name} comes with the installed package tgmm-hf, not with a Hub repository. "
            "Load the repository's tokenizer, or `pip install tgmm-hf`."
        )
    tokens = VOCABULARY_FILE.read_text(encoding="utf-8").rstrip("\n").split("\n")
    # vocab=, not vocab_file=, because transformers 5 ignores the latter and gives five tokens, everything unknown.
    tokenizer = BertTokenizer(
        vocab={token: index for index, token in enumerate(tokens)}, do_lower_case=False, model_max_length=512
    )
    if len(tokenizer) != BERT_CASED_SIZE:
        raise ValueError(f"The tokenizer has {len(tokenizer)} tokens, expected {BERT_CASED_SIZE}. Reinstall tgmm-hf.")
    return tokenizer


def fitting_parts(
    config: Any,
    tokenizer: PreTrainedTokenizerBase,
    extractor: EcgFeatureExtractor | None = None,
    image_processor: EchoImageProcessor | None = None,
) -> dict[str, Any]:
    """Collect the parts of a processor for a model; parts that are not given are made for the encoders' input sizes.

    Args:
        config: the model's configuration.
        tokenizer: tokenizer of the labs encoder.
        extractor: ECG extractor that was saved beside an encoder.
        image_processor: echo image processor that was saved beside an encoder.

    Returns:
        Name -> value of the arguments of `TgmmProcessor`.

    Raises:
        ValueError: if a part does not fit the encoder that reads it.
    """
    if len(tokenizer) > config.labs_config.vocab_size:
        raise ValueError(
            f"The tokenizer has {len(tokenizer)} tokens but the text encoder only {config.labs_config.vocab_size} "
            "embeddings. Set labs_config.vocab_size, or train a smaller tokenizer."
        )
    seq_length, echo = config.ecg_config.seq_length, config.echo_config
    extractor = extractor or declared_extractor(config.ecg_config) or EcgFeatureExtractor(num_samples=seq_length)
    if extractor.model_samples != seq_length:
        raise ValueError(
            f"The ECG extractor gives {extractor.model_samples} samples at {extractor.model_rate:g} Hz but the ECG "
            f"encoder takes {seq_length}. Set ecg_config.seq_length={extractor.model_samples}."
        )
    image_processor = (
        image_processor
        or declared_extractor(echo)
        or EchoImageProcessor(size=echo.image_size, num_frames=echo.num_frames)
    )
    for encoder, part in ((config.ecg_config, extractor), (echo, image_processor)):
        check_declared(encoder, part)
        _warn_of_other_settings(encoder, part)
    return {
        "feature_extractor": extractor,
        "image_processor": image_processor,
        "tokenizer": tokenizer,
        "max_labs_tokens": longest_text(config.labs_config),
        "labs_scales": config.labs_scales,
    }


def longest_text(labs_config: Any) -> int:
    """Return the largest number of tokens of a lab text: 512, as in the paper, or what the encoder takes.

    An encoder of cells pays for cells and not for words, so that its text is not cut at 512.
    """
    longest = int(labs_config.max_position_embeddings)
    return longest if labs_config.model_type == "lab_cells" else min(512, longest)


def _warn_of_other_settings(encoder: Any, part: Any) -> None:
    """Warn if an extractor is not set as the one that `tgmm convert` saved with an encoder.

    Args:
        encoder: configuration of the encoder.
        part: the extractor that prepares its input.
    """
    saved = getattr(encoder, "processor_fingerprint", None)
    if not (isinstance(saved, dict) and isinstance(saved.get("settings"), dict)):
        return
    if differing := changed_settings(saved["settings"], processor_fingerprint(part)):
        named = "; ".join(f"{name} is {values}" for name, values in differing.items())
        logger.warning(
            f"{type(part).__name__} is not set as the one that was saved with the {encoder.model_type} encoder: "
            f"{named}. Restore preprocessor_config.json beside the encoder."
        )


def saved_extractor(extractor_class: Any, source: str | Path) -> Any:
    """Load the extractor that was saved beside an encoder.

    Args:
        extractor_class: `EcgFeatureExtractor` or `EchoImageProcessor`.
        source: directory or Hub repository of the encoder.

    Returns:
        The extractor, of this class or of a subclass that an encoder may declare; None if none was saved, or it is of
        another class.
    """
    file = cached_file(
        str(source),
        "preprocessor_config.json",
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if file is None:
        return None
    settings = json.loads(Path(file).read_text(encoding="utf-8"))
    extractor = extractor_class_of(settings, extractor_class)
    return None if extractor is None else extractor.from_pretrained(source)


def fitting_sentences(tokenizer: PreTrainedTokenizerBase, max_tokens: int, sentences: list[str]) -> list[int]:
    """Choose the sentences of a lab row whose joint text fits `max_tokens`.

    Each sentence is taken if it still fits, so that a sentence that is too long does not displace shorter sentences
    behind it.

    Args:
        tokenizer: tokenizer of the labs encoder.
        max_tokens: largest number of tokens of the text, special tokens included.
        sentences: in order of importance.

    Returns:
        The indices of the chosen sentences, ascending.
    """
    text = SEPARATOR.join(sentences)
    # A token has at least one byte of the text, so that most texts need not be counted for a wide limit.
    if len(text.encode()) <= max_tokens - tokenizer.num_special_tokens_to_add():
        return list(range(len(sentences)))
    if not sentences or len(tokenizer(text, verbose=False, split_special_tokens=True)["input_ids"]) <= max_tokens:
        return list(range(len(sentences)))
    ended = [sentence + SEPARATOR for sentence in sentences]
    pieces = tokenizer(ended, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    room = max_tokens - tokenizer.num_special_tokens_to_add()
    kept: list[int] = []
    for index, piece in enumerate(pieces):
        if len(piece) <= room:
            kept.append(index)
            room -= len(piece)
    return kept


def trained_columns(processor: Any) -> Any:
    """Return the lab columns that a processor's model was trained with.

    Returns:
        Names of columns; column -> unit if the model reads numbers; None for the known columns.
    """
    return processor.labs_columns if processor.labs_scales is None else units_of_scales(processor.labs_scales)


def unread_cells(tokenizer: PreTrainedTokenizerBase, labs: LabsText) -> list[str]:
    """List the cells of words of which the tokenizer does not know a letter or a word, so that it loses the word.

    The texts are tokenized once more for that. Texts in ASCII are left out if they are short, because the tokenizers of
    clinical text encoders know ASCII letters. They lose an ASCII word only if it is longer than `LONGEST_WORD`.

    Args:
        tokenizer: tokenizer of the text encoder.
        labs: row whose text is written.
    """
    unknown = tokenizer.unk_token
    texts = {
        cell.name: cell.value
        for cell in labs.cells
        if cell.number is None and (not cell.value.isascii() or len(cell.value) > LONGEST_WORD)
    }
    return [
        name for name, text in texts.items() if name in labs.used and unknown and unknown in tokenizer.tokenize(text)
    ]


def tokenize_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int | None = None, offsets: bool = False
) -> dict[str, np.ndarray]:
    """Tokenize B texts.

    A special token such as "[PAD]" inside a text is read as text, because a row must not steer the encoder.

    Args:
        tokenizer: tokenizer of the text encoder.
        texts: B texts.
        max_tokens: a longer text is cut at its end. None cuts nothing.
        offsets: return "offset_mapping" (B, L, 2) too, the first character of each token and the one behind its last.

    Returns:
        "input_ids" and "attention_mask", each (B, L) int64, padded to the longest text. An empty text has only padding
        and is masked everywhere.

    Raises:
        ValueError: if offsets are asked of a tokenizer that has none.
    """
    options: dict[str, Any] = {"padding": True, "return_token_type_ids": False, "split_special_tokens": True}
    if max_tokens is not None:
        options |= {"truncation": True, "max_length": max_tokens}
    if offsets:
        if not tokenizer.is_fast:
            raise ValueError(
                f"{type(tokenizer).__name__} does not tell where its tokens are in the text, so lab cells cannot be "
                "read as numbers. Take a fast tokenizer (tokenizer.json)."
            )
        options["return_offsets_mapping"] = True
    encoded = tokenizer(list(texts), return_tensors="np", **options)
    input_ids, attention_mask = encoded["input_ids"].astype(np.int64), encoded["attention_mask"].astype(np.int64)
    absent = [not text for text in texts]
    input_ids[absent] = tokenizer.pad_token_id
    attention_mask[absent] = 0
    arrays = {"input_ids": input_ids, "attention_mask": attention_mask}
    return {**arrays, "offset_mapping": encoded["offset_mapping"]} if offsets else arrays
