"""Build text encoders without their pooling layer, because no model here reads it."""

import inspect
from typing import Any

from transformers import MODEL_MAPPING, PreTrainedConfig


def without_pooler(config: PreTrainedConfig) -> dict[str, bool]:
    """Return the argument that builds a model without its pooling layer; {} for a model without this argument.

    The layer is not used. In a distributed training (DDP), a layer that never trains would stop the training.
    """
    model_class: Any = MODEL_MAPPING.get(type(config), None)
    takes_it = model_class is not None and "add_pooling_layer" in inspect.signature(model_class).parameters
    return {"add_pooling_layer": False} if takes_it else {}


__all__ = ["without_pooler"]
