"""What Heartcare reads of the ECGs of an instruction file: windows and pictures, processed once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tgmm_hf.data.processed_ecgs import ProcessedArrays
from tgmm_hf.families.heartcare.processing_heartcare import HeartcareProcessor, HeartcareRow
from tgmm_hf.families.shared.ecg_conversations import Message
from tgmm_hf.inputs.feature_extraction_ecg import PreparedEcg
from tgmm_hf.utils.names import LEADS

ALL_LEADS = np.ones(len(LEADS), dtype=bool)


class WindowsForCache:
    """Gives windows of one number for every ECG, as `process_files` stores them. Missing windows are zero.

    Args:
        extractor: `BeatFeatureExtractor`.
    """

    def __init__(self, extractor: Any) -> None:
        self.extractor = extractor
        self.cached_shape = (extractor.max_windows, len(LEADS), extractor.num_samples)

    def to_dict(self) -> dict[str, Any]:
        """Return what the windows depend on."""
        return {"windows": self.extractor.to_dict()}

    def prepare(self, ecg: Any) -> PreparedEcg:
        """Prepare one ECG: (max_windows, 12, num_samples)."""
        prepared = self.extractor.prepare(ecg)
        values = np.zeros(self.cached_shape, dtype=np.float32)
        values[: len(prepared.values)] = prepared.values
        return PreparedEcg(values, prepared.mask)


class PicturesForCache:
    """Gives the drawn picture of an ECG, as `process_files` stores it.

    Args:
        processor: the processor.
        seeds: ECG -> seed of its look. An ECG without a seed is drawn plain.
    """

    def __init__(self, processor: HeartcareProcessor, seeds: Mapping[str, int] | None = None) -> None:
        self.processor, self.seeds = processor, seeds or {}
        size = processor.image_processor.size
        self.cached_shape = (3, size["height"], size["width"])

    def to_dict(self) -> dict[str, Any]:
        """Return what the pictures depend on."""
        parts = (self.processor.feature_extractor, self.processor.image_processor)
        return {"pictures": [part.to_dict() for part in parts], "seeds": list(self.seeds.items())}

    def prepare(self, ecg: Any) -> PreparedEcg:
        """Draw one ECG: (3, height, width)."""
        block = {"type": "image", "ecg": ecg, "seed": self.seeds.get(ecg)}
        row = self.processor.read_row([{"role": "user", "content": [block]}], {"checks": [], "notes": []}, "note")
        assert row.pixels is not None
        return PreparedEcg(row.pixels, ALL_LEADS)


@dataclass(frozen=True)
class ProcessedStreams:
    """Processed windows and pictures of the ECGs of an instruction file, None for a stream that is left out.

    Attributes:
        windows: (ECGs, windows, 12, samples). Missing windows are zero.
        pictures: (ECGs, 3, height, width).
    """

    windows: ProcessedArrays | None
    pictures: ProcessedArrays | None

    @property
    def refused(self) -> dict[int, str]:
        """Number of a refused ECG -> reason."""
        streams = [stream for stream in (self.windows, self.pictures) if stream is not None]
        return {number: reason for stream in streams for number, reason in stream.refused.items()}

    def usable(self, numbers: Sequence[int]) -> list[int]:
        """Return the numbers whose ECG was not refused."""
        refused = self.refused
        return [number for number in numbers if number not in refused]

    def only(self, windows: bool, pictures: bool) -> "ProcessedStreams":
        """Return the streams that are wanted."""
        return ProcessedStreams(self.windows if windows else None, self.pictures if pictures else None)

    def row(self, number: int) -> HeartcareRow:
        """Return what the model reads of one ECG beside the text."""
        row = HeartcareRow()
        if self.windows is not None:
            values = np.asarray(self.windows.values[number], dtype=np.float32)
            row.ecg = PreparedEcg(values[values.any((1, 2))], ALL_LEADS)
        if self.pictures is not None:
            row.pixels = np.asarray(self.pictures.values[number], dtype=np.float32)
        return row


def with_streams(messages: Sequence[Message], streams: Sequence[str]) -> list[Message]:
    """Replace the ECG block of a conversation by a block for each stream. No file is read from them."""
    blocks = [{"type": stream, "ecg": ""} for stream in streams]
    changed: list[Message] = []
    for message in messages:
        content = message["content"]
        if not isinstance(content, str):
            content = [new for block in content for new in (blocks if block["type"] == "ecg" else [block])]
        changed.append({**message, "content": content})
    return changed
