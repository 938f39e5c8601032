"""Fingerprint of a processor: every setting that shapes the inputs of a model, by name.

The settings are kept by name, not as one digest. So a message can name what differs, and a setting that a later version
of this package adds is no difference. Long values, such as the vocabulary, are kept as short digests.
"""

import hashlib
import inspect
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..utils.short_digests import short_digest

Settings = dict[str, Any]
"""Name of a setting, such as "feature_extractor.sampling_rate" -> value that JSON can hold."""

LONGEST_VALUE = 120
"""Number of characters from which a value is replaced by its digest."""
NOT_SHAPING = {"default_strictness", "strictness", "kwargs", "args", "self"}
"""Arguments of a processor and its parts that change no input of the model."""
PROBE = "Naïve NT-proBNP, 5210 pg/mL: İ; e\u0301; HEART failure (high) [SEP] [PAD] ab12.5"
"""Text whose token ids show how a tokenizer treats case, accents, punctuation, numbers and special tokens."""
VIEW_CLASSIFIER = "view_classifier"


def processor_fingerprint(processor: Any) -> Settings:
    """Collect the settings of a processor that shape the inputs of a model.

    Args:
        processor: a `TgmmProcessor`, or a feature extractor or image processor alone.
    """
    settings: Settings = {}
    parts = processor.get_attributes() if hasattr(processor, "get_attributes") else []
    for name, value in _arguments(processor, skip=parts).items():
        settings[name] = value
    for part in parts:
        value = getattr(processor, part)
        if hasattr(value, "get_vocab"):
            settings |= {f"{part}.{name}": each for name, each in _tokenizer(value).items()}
        else:
            settings |= {f"{part}.{name}": each for name, each in _arguments(value).items()}
    if (classifier := getattr(processor, "default_view_classifier", None)) is not None:
        settings[VIEW_CLASSIFIER] = classifier_digest(classifier)
    return settings


def changed_settings(saved: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """Compare a processor's settings with saved ones.

    Args:
        saved: the settings that were saved with the model.
        now: the settings of the processor.

    Returns:
        Name -> "<value>, saved with the model: <value>" of every saved setting that differs. A view classifier that was
        added is a difference, too. Any other setting that was not saved is none, because an earlier version of this
        package may not have known it.
    """
    names = {*saved, *({VIEW_CLASSIFIER} & set(now))}
    return {
        name: f"{_shown(now.get(name))}, saved with the model: {_shown(saved.get(name))}"
        for name in sorted(names)
        if now.get(name) != saved.get(name)
    }


def classifier_digest(classifier: Any) -> str:
    """Compute a digest of a view classifier from its files; "without files" for an object that has none."""
    files = getattr(classifier, "files", None)
    if files is None:
        return "without files"
    # The card and the code may be written anew without another answer.
    contents = {path.name: _digest_of(path) for path in files() if path.suffix in (".json", ".safetensors")}
    return short_digest(contents)


def _arguments(part: Any, skip: list[str] | tuple[str, ...] = ()) -> Settings:
    """Return the arguments of the constructor of a part, with the part's values.

    A part of a foreign class keeps its settings elsewhere, so that its saved form is taken.
    """
    names = [name for name in inspect.signature(type(part).__init__).parameters if name not in NOT_SHAPING]
    names = [name for name in names if name not in skip]
    if not names and hasattr(part, "to_dict"):
        unstable = ("auto_map", "processor_class", "feature_extractor_type", "image_processor_type")
        content = {k: v for k, v in part.to_dict().items() if k not in unstable and not k.startswith("_")}
        return {"settings": _plain(json.loads(json.dumps(content, default=str)))}
    return {name: _plain(getattr(part, name, None)) for name in names}


def _tokenizer(tokenizer: Any) -> Settings:
    """Describe a tokenizer by its vocabulary and by what it makes of a text.

    Its files are not compared, because each version of the tokenizers library writes them in another way.
    """
    return {
        "vocabulary": _vocabulary(tokenizer, len(tokenizer)),
        "tokens of a test text": short_digest(tokenizer(PROBE, split_special_tokens=True)["input_ids"]),
        "padding": tokenizer.pad_token_id,
    }


@lru_cache(maxsize=4)
def _vocabulary(tokenizer: Any, size: int) -> str:
    """Compute the digest of a vocabulary once, because it takes longer than a small batch. `size` tells of changes."""
    return short_digest(tokenizer.get_vocab())


def plain_settings(settings: Mapping[str, Any]) -> Settings:
    """Return settings as a fingerprint holds them: as JSON gives them back, long values as digests."""
    return {name: _plain(value) for name, value in settings.items()}


def _plain(value: Any) -> Any:
    """Return a value as JSON gives it back; a long one as its digest."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    text = json.dumps(value, sort_keys=True, default=str)
    return json.loads(text) if len(text) <= LONGEST_VALUE else short_digest(json.loads(text))


def _shown(value: Any) -> str:
    """Write a setting for a message."""
    return "none" if value is None else json.dumps(value)


def _digest_of(path: Path) -> str:
    """Compute the sha256 (hexadecimal) of the content of a file. A file that has not changed is read once."""
    status = path.stat()
    return _file_digest(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=32)
def _file_digest(path: Path, size: int, changed: int) -> str:
    """Compute the digest of `_digest_of`. Size in bytes and time of change in ns only tell whether the file changed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


__all__ = ["changed_settings", "classifier_digest", "plain_settings", "processor_fingerprint"]
