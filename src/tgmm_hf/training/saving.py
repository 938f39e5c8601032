"""A model and its processor as one directory that `AutoModel` and `AutoProcessor` load without this package."""

import json
import shutil
import tempfile
from collections.abc import Mapping
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
    directory = Path(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    building.chmod(0o755)  # mkdtemp's own mode is for secrets
    model.save_pretrained(building)
    processor.save_pretrained(building)
    if record is not None:
        (building / "run.json").write_text(json.dumps(record, indent=1) + "\n")
    if directory.exists():
        old = building.with_name(f"{building.name}-old")
        directory.rename(old)
        building.rename(directory)
        shutil.rmtree(old)
    else:
        building.rename(directory)
