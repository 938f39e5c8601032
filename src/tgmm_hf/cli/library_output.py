"""What libraries print while a command runs: no paths, no broken progress bars, nothing for developers only."""

import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FOR_DEVELOPERS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
"""Warnings that a user cannot act on, because they speak to the authors of code."""


@contextmanager
def readable_warnings() -> Iterator[None]:
    """Print each warning in one line, without the path and the code of the place that warns.

    Warnings for developers are left out. Nothing changes with `python -W`, PYTHONWARNINGS or TGMM_DEBUG.
    """
    if sys.warnoptions or os.environ.get("TGMM_DEBUG"):
        yield
        return
    with warnings.catch_warnings():
        for category in FOR_DEVELOPERS:
            warnings.simplefilter("ignore", category)
        warnings.showwarning = _show
        yield


def _show(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: str | None = None) -> None:
    """Print a warning above the progress bars. The arguments are those of `warnings.showwarning`."""
    from tqdm import tqdm

    tqdm.write(f"Warning ({_package(filename)}): {without_paths(str(message))}", file=sys.stderr)


def _package(filename: str) -> str:
    """Return the package of a source file, or its name without directories."""
    parts = Path(filename).parts
    for place in ("site-packages", "dist-packages", "src"):
        if place in parts[:-1]:
            return parts[parts.index(place) + 1].removesuffix(".py")
    return Path(filename).stem


def without_paths(text: str) -> str:
    """Write a text in one line, with "<path>" in place of absolute paths, because a path may name a patient."""
    return re.sub(r"(?<![\w.:/])(?:/[^\s'\",:;()]+){2,}", "<path>", " ".join(text.split()))


def no_loading_bars() -> None:
    """Let transformers load a local model without a progress bar, because it takes a moment only."""
    from transformers.utils import logging

    logging.disable_progress_bar()
