"""Files that are there as a whole or not at all."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends without an error.

    Not before its content is on the disk: after a power cut there is no empty file of that name. Missing directories
    are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # a process id is not enough: containers and machines that fill one cache may share it
    building = path.with_name(f".{path.name}-{uuid4().hex}")
    try:
        yield building
        with building.open("rb+") as file:
            os.fsync(file.fileno())
        building.replace(path)
    finally:
        building.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """The content as indented JSON."""
    with whole_file(path) as building:
        building.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
