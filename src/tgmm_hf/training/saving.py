"""A model and its processor as one directory that `AutoModel` and `AutoProcessor` load without this package."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from transformers import AutoModel
from transformers.dynamic_module_utils import custom_object_save

from tgmm_hf.modeling_tgmm import TgmmForSequenceClassification, TgmmModel
from tgmm_hf.pipeline_tgmm import TgmmCardiacPipeline

PIPELINE_TASK = "cardiac-analysis"


def save_repository(model: TgmmModel, processor: Any, directory: str | Path) -> None:
    """Write config, weights (safetensors), processor, tokenizer and the code of all of them; whole or not at all.

    A directory of that name is replaced once the new one is complete.

    Args:
        model: the model; its tasks must be tokenized with the processor's tokenizer.
        processor: `TgmmProcessor`.
        directory: where to.
    """
    directory = Path(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    building.chmod(0o755)  # mkdtemp's own is for secrets
    # transformers writes into auto_map only the class that is saved
    model.config.auto_map = {
        "AutoModel": f"modeling_tgmm.{TgmmModel.__name__}",
        "AutoModelForSequenceClassification": f"modeling_tgmm.{TgmmForSequenceClassification.__name__}",
    }
    model.config.custom_pipelines = {
        PIPELINE_TASK: {"impl": f"pipeline_tgmm.{TgmmCardiacPipeline.__name__}", "pt": [AutoModel.__name__]}
    }
    model.save_pretrained(building)
    processor.save_pretrained(building)
    custom_object_save(TgmmCardiacPipeline, building)
    _replace(building, directory)


def _replace(new: Path, directory: Path) -> None:
    """Put `new` in the place of `directory`; what was there is removed last."""
    if not directory.exists():
        new.rename(directory)
        return
    old = new.with_name(f"{new.name}-old")
    directory.rename(old)
    new.rename(directory)
    shutil.rmtree(old)
