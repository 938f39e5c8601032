"""A model and its processor as one directory that `AutoModel` and `AutoProcessor` load without this package."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.processing_tgmm import TgmmProcessor


def save_repository(
    model: TgmmModel, processor: TgmmProcessor, directory: str | Path, record: Mapping[str, Any] | None = None
) -> None:
    """Write config, weights (safetensors), processor, tokenizer and the code of all of them; whole or not at all.

    `record` of the training run becomes `run.json`. A directory of that name is replaced once the new one is complete.
    """
    with whole_directory(directory) as building:
        model.save_pretrained(building)
        processor.save_pretrained(building)
        if record is not None:
            (building / "run.json").write_text(json.dumps(record, indent=1) + "\n")


@contextmanager
def whole_directory(directory: str | Path) -> Iterator[Path]:
    """A temporary directory beside `directory` that takes its place when the block ends without an error.

    A directory of that name is replaced; after an error it is as it was.
    """
    directory = Path(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}-", dir=directory.parent) as scratch:
        building = Path(scratch) / "new"
        building.mkdir()
        yield building
        if directory.exists():
            directory.rename(Path(scratch) / "old")
        building.rename(directory)
