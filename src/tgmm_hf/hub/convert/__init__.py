"""Published encoder checkpoints -> directories that `from_pretrained` loads. Nothing is downloaded or redistributed."""

from tgmm_hf.hub.convert.convert import convert
from tgmm_hf.hub.convert.sources import SOURCES, Source

__all__ = ["SOURCES", "Source", "convert"]
