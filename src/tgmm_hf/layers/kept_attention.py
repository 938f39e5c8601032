"""Keep the attention of loaded parts while a larger model is built around them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from transformers import PreTrainedModel


@contextmanager
def kept_attention(parts: Iterable[Any]) -> Iterator[None]:
    """Give models the attention implementation back that they had before the `with` block.

    Build the larger model within the block. Its configuration sets the attention of its sub-configurations to that of
    its own, which is none yet.

    Args:
        parts: the parts. Only models of transformers have a choice of attention, others are left as they are.
    """
    models = [part for part in parts if isinstance(part, PreTrainedModel)]
    implementations = [model.config._attn_implementation for model in models]
    yield
    for model, implementation in zip(models, implementations, strict=True):
        model.set_attn_implementation(implementation)


__all__ = ["kept_attention"]
