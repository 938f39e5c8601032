"""The base of every processor of this package: its code and that of its extractors travels with it."""

from pathlib import Path
from typing import Any

from transformers.image_processing_base import ImageProcessingMixin
from transformers.processing_utils import ProcessorMixin

from ..utils.hub_code import HubCode


class HubProcessor(HubCode, ProcessorMixin):
    """A transformers processor that saves its code and the code of its parts.

    It is a class of its own because transformers looks for a processor's methods in the first class behind it.
    """

    hub_auto_class = "AutoProcessor"

    @staticmethod
    def get_possibly_dynamic_module(module_name: str) -> Any:
        """Return the class with the name `module_name`. `ProcessorMixin` calls this to check its parts."""
        # Without Pillow, transformers' own name is a class without instances. Our processors need no Pillow.
        if module_name == ImageProcessingMixin.__name__:
            return ImageProcessingMixin
        return ProcessorMixin.get_possibly_dynamic_module(module_name)

    def hub_parts(self) -> list[Any]:
        """List the extractors of the processor, whose code travels with it; a tokenizer has no code of this package."""
        parts = [getattr(self, name) for name in self.get_attributes()]
        return [part for part in parts if getattr(part, "hub_auto_class", None)]

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> list[str]:
        """Save settings, tokenizer and code into a directory; return the paths that `ProcessorMixin` returns."""
        files = super().save_pretrained(save_directory, **kwargs)
        # The entry belongs to the saved file. Left on the object, it would make the object differ from the saved one.
        self.__dict__.pop("auto_map", None)
        return files
