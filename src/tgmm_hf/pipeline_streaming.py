"""What the pipelines of this package share: one input, a list or a generator in; one answer per input out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from transformers import Pipeline

from .pipeline_binding import BindingCheck


class StreamingPipeline(Pipeline):
    """Pipeline whose inputs are dicts, and whose steps take a batch of them.

    `preprocess` takes a list of inputs. `postprocess` returns a list with one dict per input, in the same order.

    Attributes:
        one_input: what an input looks like, for error messages.
        binding_check: checks that model and processor were saved together. A contradiction is one of `checks`; with
            the strictness "refuse" it raises a TgmmError.
    """

    # transformers declares these flags None.
    _load_processor = True  # type: ignore[assignment]
    _load_tokenizer = False  # type: ignore[assignment]
    _load_image_processor = False  # type: ignore[assignment]
    _load_video_processor = False  # type: ignore[assignment]
    _load_feature_extractor = False  # type: ignore[assignment]

    one_input: str

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.binding_check = BindingCheck()

    def __call__(self, inputs: Any, *, batch_size: int | None = None, **kwargs: Any) -> Any:
        """Answer for one input, a list or a generator of inputs.

        Args:
            inputs: one input, or a list or generator of inputs.
            batch_size: inputs that are answered together; 1 if neither the call nor the pipeline gives a number.
            **kwargs: parameters of the steps, which the class describes.

        Returns:
            One dict for one input, a list for a list, a generator for a generator. The class lists the keys.

        Raises:
            TypeError: if an input is not a mapping.
            ValueError: if an input has an unknown key, or a parameter is unknown or wrong.
        """
        batch_size = batch_size or self._batch_size or 1
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be a whole number of at least 1, got {batch_size!r}.")
        if isinstance(inputs, Mapping):
            return next(self._stream([inputs], 1, kwargs))
        if isinstance(inputs, Sequence) and not isinstance(inputs, str):
            return list(self._stream(inputs, batch_size, kwargs))
        if isinstance(inputs, Iterable) and not isinstance(inputs, str):
            return self._stream(inputs, batch_size, kwargs)
        raise TypeError(f"{self.one_input}, got {type(inputs).__name__}.")

    def _stream(self, inputs: Iterable[Any], batch_size: int, kwargs: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Answer batch by batch and yield one dict per input, in the order of the inputs."""
        preprocess, forward, _ = self._sanitize_parameters(**kwargs)
        preprocess = {**self._preprocess_params, **preprocess}
        forward = {**self._forward_params, **forward}
        waiting = iter(inputs)
        if (preprocess.get("strictness") or getattr(self.processor, "default_strictness", "note")) == "refuse":
            self.binding_check(self.model, self.processor).refuse()
        while batch := list(islice(waiting, batch_size)):
            with torch.inference_mode():
                yield from self.postprocess(self._forward(self.preprocess(batch, **preprocess), **forward))


__all__ = ["StreamingPipeline"]
