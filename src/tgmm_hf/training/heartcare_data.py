"""The data of a training of Heartcare: instruction file -> tokens, processed windows and pictures -> batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from tgmm_hf.data.instructions import Instruction
from tgmm_hf.data.processed_ecgs import ProcessedEcgs, digest_of_data, process_ecgs, process_rows
from tgmm_hf.families.heartcare.processing_heartcare import HeartcareProcessor, HeartcareRow
from tgmm_hf.families.shared.ecg_conversations import Message, Pieces, pad_left
from tgmm_hf.inputs.feature_extraction_ecg import PreparedEcg
from tgmm_hf.training.heartcare_arguments import HeartcareRunArguments
from tgmm_hf.training.instruction_data import ECGS, REFUSED, write_refused
from tgmm_hf.training.processes import fail_together
from tgmm_hf.utils.names import LEADS

ALL_LEADS = np.ones(len(LEADS), dtype=bool)


class WindowsForCache:
    """Gives windows of one number for every ECG, as `process_ecgs` stores them. Missing windows are zero.

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
    """Gives the drawn picture of an ECG, as `process_ecgs` stores it.

    Args:
        processor: the processor.
        seeds: of the look of each ECG, for the name of the cache.
    """

    def __init__(self, processor: HeartcareProcessor, seeds: Sequence[int | None]) -> None:
        self.processor, self.seeds = processor, seeds
        size = processor.image_processor.size
        self.cached_shape = (3, size["height"], size["width"])

    def to_dict(self) -> dict[str, Any]:
        """Return what the pictures depend on."""
        parts = (self.processor.feature_extractor, self.processor.image_processor)
        return {"pictures": [part.to_dict() for part in parts], "seeds": list(self.seeds)}

    def prepare(self, ecg: tuple[str, int | None]) -> PreparedEcg:
        """Draw one ECG, given with the seed of its look: (3, height, width)."""
        block = {"type": "image", "ecg": ecg[0], "seed": ecg[1]}
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

    windows: ProcessedEcgs | None
    pictures: ProcessedEcgs | None

    @property
    def refused(self) -> dict[int, str]:
        """Number of a refused ECG -> reason."""
        streams = [each for each in (self.windows, self.pictures) if each is not None]
        return {number: reason for each in streams for number, reason in each.refused.items()}

    def usable(self, numbers: Sequence[int]) -> list[int]:
        """Return the numbers whose ECG was not refused."""
        refused = self.refused
        return [number for number in numbers if number not in refused]

    def row(self, number: int) -> HeartcareRow:
        """Return what the model reads of one ECG beside the text."""
        row = HeartcareRow()
        if self.windows is not None:
            values = np.asarray(self.windows.values[number], dtype=np.float32)
            row.ecg = PreparedEcg(values[values.any((1, 2))], ALL_LEADS)
        if self.pictures is not None:
            row.pixels = np.asarray(self.pictures.values[number], dtype=np.float32)
        return row


def processed_streams(
    run: HeartcareRunArguments, rows: Sequence[Instruction], processor: HeartcareProcessor, should_save: bool
) -> ProcessedStreams:
    """Process windows and pictures once, in the first process; the others open what it has stored."""
    cache = Path(run.data.cache) if run.data.cache else run.training_directory / ECGS
    digest, streams = digest_of_data(run.data.file, rows), run.data.stream_names
    with_look = [run.data.looks and row.split == "train" for row in rows]
    seeds = [run.seed * len(rows) + number if look else None for number, look in enumerate(with_look)]

    def processed() -> ProcessedStreams:
        windows = pictures = None
        if "ecg" in streams:
            extractor = WindowsForCache(processor.feature_extractor)
            windows = process_rows(rows, extractor, cache=cache, data_hash=digest)
        if "image" in streams:
            drawing = PicturesForCache(processor, seeds)
            pictures = process_ecgs(
                len(rows), lambda i: (rows[i].ecg, seeds[i]), drawing, cache=cache, data_hash=digest
            )
        return ProcessedStreams(windows, pictures)

    with fail_together():
        if should_save:
            write_refused(rows, processed().refused, run.training_directory / REFUSED)
    return processed()


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


class HeartcareRows(Dataset):
    """The rows of one split: token ids of a conversation, and what the model reads of the ECG.

    Args:
        pieces: Conversation of each row.
        numbers: Number of the ECG of each row.
        streams: Processed windows and pictures.
    """

    def __init__(self, pieces: Sequence[Pieces], numbers: Sequence[int], streams: ProcessedStreams) -> None:
        self.pieces, self.numbers, self.streams = pieces, numbers, streams

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return "pieces" and "row"."""
        return {"pieces": self.pieces[index], "row": self.streams.row(self.numbers[index])}


@dataclass(frozen=True)
class HeartcareCollator:
    """Makes a batch of rows: padded on the left, with labels for the answers only."""

    processor: HeartcareProcessor

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return the inputs of the model, and labels."""
        data = pad_left(self.processor.tokenizer, [row["pieces"] for row in rows], output_labels=True)
        data |= self.processor.stack_rows([row["row"] for row in rows])
        return {name: torch.from_numpy(array) for name, array in data.items()}
