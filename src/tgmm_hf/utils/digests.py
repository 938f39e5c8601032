"""Digests: short names of contents, to tell whether two files, settings or data sets are the same."""

import hashlib
import json
from pathlib import Path
from typing import Any


def file_digest(path: str | Path) -> str:
    """Compute the sha256 (hexadecimal) of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_digest(content: Any) -> str:
    """Compute the sha256 (hexadecimal) of a JSON-able value; the order of keys does not matter.

    A value that JSON does not know, such as a date, counts as its text.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()
