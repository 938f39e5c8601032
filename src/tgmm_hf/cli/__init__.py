"""The `tgmm` command: one file for each group of commands, each command a few lines over the library.

The files import only the standard library and typer at their top. The library is imported inside a command, because
`tgmm --help` must answer at once and torch takes seconds to import.
"""

from tgmm_hf.cli.application import app, main

__all__ = ["app", "main"]
