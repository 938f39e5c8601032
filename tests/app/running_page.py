"""What the tests of the page share: a name of a patient, and a page that runs on the loopback interface."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tgmm_hf.pipeline_tgmm import TgmmCardiacPipeline

NAME = "Doe-Jane-19470311"
"""Name of a patient that stands in file names and values. It must not be in any log."""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def page_of(pipe: TgmmCardiacPipeline, **options: Any) -> Iterator[SimpleNamespace]:
    """Run a page; `.url`, and `.files`, its directories."""
    from tgmm_hf.app.private_files import private_files
    from tgmm_hf.app.server import running_page

    before = dict(os.environ)
    with private_files() as files, running_page(pipe, files, port=free_port(), **options) as page:
        yield SimpleNamespace(url=page.local_url, files=files, blocks=page)
    os.environ.clear()
    os.environ.update(before)


def kept_files(files: Any) -> list[Path]:
    """Every file below the directories of a page that holds something."""
    return [path for path in files.root.rglob("*") if path.is_file() and path.name != "lock" and path.stat().st_size]
