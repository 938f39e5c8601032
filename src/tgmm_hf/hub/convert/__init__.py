"""Convert published encoder checkpoints into directories that `from_pretrained` loads. Nothing is downloaded."""

from tgmm_hf.hub.convert.convert import convert
from tgmm_hf.hub.weight_sources import SOURCES, Source

__all__ = ["SOURCES", "Source", "convert"]
