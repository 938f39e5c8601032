"""The base of every processor of this package: its code and that of its extractors travels with it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.image_processing_base import ImageProcessingMixin
from transformers.processing_utils import ProcessorMixin
from transformers.utils import cached_file

from ..utils.errors import TgmmError
from ..utils.hub_code import HubCode

SETTINGS_FILE = "processor_config.json"
TOKENIZER_SETTINGS_FILE = "tokenizer_config.json"
TOKENIZER_FILE = "tokenizer.json"
CHOICES: dict[str, tuple[str | None, ...]] = {"strictness": ("note", "refuse"), "on_refusal": ("raise", "report")}
"""Option of every processor's call -> its values. `strictness`: a finding under "checks" is named, or the patient is
refused. `on_refusal`: a refused item raises an error, or is reported."""
HUB_OPTIONS = ("revision", "token", "cache_dir")
"""Arguments of `from_pretrained` that say where the files of a Hub repository are."""


def check_choices(allowed: Mapping[str, Sequence[str | None]], **options: str | None) -> None:
    """Raise a `ValueError` if an option has a value that is not among the allowed values of its name."""
    for name, value in options.items():
        if value not in allowed[name]:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed[name]))}, got {value!r}.")


class HubProcessor(HubCode, ProcessorMixin):
    """A transformers processor that saves its code and the code of its parts.

    It is a class of its own because transformers looks for a processor's methods in the first class behind it.
    """

    hub_auto_class = "AutoProcessor"

    @staticmethod
    def get_possibly_dynamic_module(module_name: str) -> Any:
        """Return the class with the name `module_name`. `ProcessorMixin` calls this to check its parts."""
        # Without Pillow, transformers' own name is a class without instances. Our processors need no Pillow.
        if module_name == ImageProcessingMixin.__name__:
            return ImageProcessingMixin
        return ProcessorMixin.get_possibly_dynamic_module(module_name)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Any:
        """Load a saved processor, whose files must all be there.

        Args:
            pretrained_model_name_or_path: directory or Hub repository.
            kwargs: as transformers' processors take them.

        Raises:
            TgmmError: if a file of a directory is missing or damaged, or the vocabulary of the tokenizer is missing.
        """
        source = str(pretrained_model_name_or_path)
        try:
            processor = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        except (OSError, ValueError) as error:
            # transformers' own sentence names other files or packages. An error of the file system has a number.
            if isinstance(error, TgmmError) or getattr(error, "errno", None) is not None:
                raise
            if (fault := _faulty_file(Path(source))) is None:
                raise
            raise _refusal(source, *fault) from error
        hub = {key: kwargs[key] for key in HUB_OPTIONS if kwargs.get(key) is not None}
        _refuse_without_vocabulary(processor, source, hub)
        return processor

    def hub_parts(self) -> list[Any]:
        """List the extractors of the processor, whose code travels with it; a tokenizer has no code of this package."""
        parts = [getattr(self, name) for name in self.get_attributes()]
        return [part for part in parts if getattr(part, "hub_auto_class", None)]

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> list[str]:
        """Save settings, tokenizer and code into a directory; return the paths that `ProcessorMixin` returns."""
        files = super().save_pretrained(save_directory, **kwargs)
        # The entry belongs to the saved file. Left on the object, it would make the object differ from the saved one.
        self.__dict__.pop("auto_map", None)
        return files


def _refuse_without_vocabulary(processor: Any, source: str, hub: dict[str, Any]) -> None:
    """Refuse a saved processor whose tokenizer has no vocabulary file.

    transformers makes a tokenizer with an empty vocabulary then, and reads every word as unknown.

    Args:
        processor: the loaded processor.
        source: directory or Hub repository that it was loaded from.
        hub: `HUB_OPTIONS` of the loading.

    Raises:
        TgmmError: if none of the files that hold the vocabulary is there.
    """
    tokenizer = getattr(processor, "tokenizer", None)
    files = tokenizer.vocab_files_names.values() if isinstance(tokenizer, PreTrainedTokenizerBase) else ()
    names = dict.fromkeys((TOKENIZER_FILE, *files))  # a tokenizer without such files works on bytes
    if files and all(
        cached_file(
            source,
            name,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            **hub,
        )
        is None
        for name in names
    ):
        raise _refusal(source, TOKENIZER_FILE, "is missing")


def _faulty_file(directory: Path) -> tuple[str, str] | None:
    """Find the file of a saved processor that is missing or holds no JSON: its name, and what is wrong with it."""
    for name in (SETTINGS_FILE, TOKENIZER_SETTINGS_FILE, TOKENIZER_FILE) if directory.is_dir() else ():
        if not (directory / name).is_file():
            return name, "is missing"
        try:
            json.loads((directory / name).read_bytes())
        except (ValueError, RecursionError):
            return name, "is damaged"
    return None


def _refusal(source: str, file_name: str, fault: str) -> TgmmError:
    """Return the error for a file of a saved processor."""
    return TgmmError(
        source,
        f"the processor cannot be loaded, because {file_name} {fault}. Copy or download the model again, or restore "
        "the file.",
    )
