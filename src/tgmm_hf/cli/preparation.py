"""What a data set is prepared for: the processor with the geometry of the inputs, and the tasks of the labels."""

from pathlib import Path
from typing import Any

ProcessorAndTasks = tuple[Any, dict[str, Any]]
"""A `TgmmProcessor`, and task name -> task."""


def for_size(size: str) -> ProcessorAndTasks:
    """Prepare for a new model of a size ("tiny" or "paper") with the default tasks."""
    from tgmm_hf import TgmmConfig, default_processor
    from tgmm_hf.processing_tgmm import BERT_CASED_SIZE

    # Preparing uses no tokenizer, so any tokenizer that fits the vocabulary size will do.
    config = TgmmConfig() if size == "paper" else TgmmConfig.tiny(labs_config={"vocab_size": BERT_CASED_SIZE})
    return default_processor(config), config.tasks or {}


def for_model(model: str) -> ProcessorAndTasks:
    """Prepare for a saved model."""
    from tgmm_hf import TgmmConfig, TgmmProcessor

    return TgmmProcessor.from_pretrained(model), TgmmConfig.from_pretrained(model).tasks or {}


def for_run(path: Path) -> ProcessorAndTasks:
    """Prepare for the model that a training configuration will build."""
    from tgmm_hf import default_processor
    from tgmm_hf.processing_tgmm import BERT_CASED_SIZE
    from tgmm_hf.training.arguments import read_arguments
    from tgmm_hf.training.starting_model import new_config

    run = read_arguments(path)
    if run.model.checkpoint is not None:
        processor, tasks = for_model(run.model.checkpoint)
        changed = {name: {**tasks.get(name, {}), **(task or {})} for name, task in run.tasks.items()}
        return processor, {**tasks, **changed}
    config: Any = new_config(run.model, run.tasks)
    config.labs_config.vocab_size = BERT_CASED_SIZE  # As in `for_size`.
    return default_processor(config, encoders=run.model.encoders), config.tasks
