"""Run the `tgmm` command inside a test."""

from typing import Any

import pytest

from tgmm_hf.cli import main


def run(*words: Any) -> int:
    """Run a command line in this process, and return its exit code."""
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    return int(stopped.value.code or 0)
