"""Load a pretrained part of a larger model, whole or not at all."""

from pathlib import Path
from typing import Any

import torch


def load_whole_part(model_class: Any, source: str | Path, dtype: torch.dtype = torch.float32, **further: Any) -> Any:
    """Load a model and refuse it if weights are missing, because they would be random.

    Args:
        model_class: with `from_pretrained`, such as AutoModelForCausalLM.
        source: directory or Hub repository.
        dtype: of the weights.
        further: arguments of `from_pretrained`.

    Raises:
        ValueError: if weights are missing.
    """
    model, loading = model_class.from_pretrained(source, dtype=dtype, output_loading_info=True, **further)
    if missing := sorted(loading["missing_keys"]):
        raise ValueError(
            f"{source} lacks {len(missing)} weights of {type(model).__name__}, among them {', '.join(missing[:3])}. "
            "They would be random. Take a complete checkpoint."
        )
    return model


__all__ = ["load_whole_part"]
