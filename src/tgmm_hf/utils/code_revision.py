"""Name the code that a model and its processor run."""

import hashlib
import re
import sys
from pathlib import Path
from typing import Any

from .hub_code import CodeFile, travelling_files


def code_revision(model: Any, processor: Any) -> str:
    """Name the code of a model and its processor: a commit of the Hub, or a digest of the code's files.

    The digest is the same for the package and for the copies beside a saved model.

    Returns:
        40 hex digits of the commit if the model's code came from the Hub, else "sha256:" and 16 hex digits.
    """
    model = without_adapter(model)
    # transformers puts code from the Hub into a package that is named after its commit.
    commit = re.search(r"\._?([0-9a-f]{40})\.", type(model).__module__)
    if commit:
        return commit[1]
    texts: dict[str, str] = {}
    read_files: dict[Path, CodeFile] = {}
    for part in (model, processor):
        texts |= travelling_files(str(sys.modules[type(part).__module__].__file__), read_files)
    digest = hashlib.sha256()
    for name, text in sorted(texts.items()):
        digest.update(name.encode() + text.encode())
    return f"sha256:{digest.hexdigest()[:16]}"


def without_adapter(model: Any) -> Any:
    """Return a model without the wrapper that PEFT puts around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


__all__ = ["code_revision", "without_adapter"]
