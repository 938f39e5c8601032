"""The data of a training of Heartcare: instruction file -> tokens, processed windows and pictures -> batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from tgmm_hf.data.heartcare_ecgs import PicturesForCache, ProcessedStreams, WindowsForCache
from tgmm_hf.data.instructions import Instruction
from tgmm_hf.data.processed_ecgs import digest_of_ecgs, process_rows
from tgmm_hf.families.heartcare.processing_heartcare import ECG_TOKEN, IMAGE_TOKEN, HeartcareProcessor, HeartcareRow
from tgmm_hf.families.shared.ecg_conversations import Pieces, pad_left
from tgmm_hf.training.heartcare_arguments import HeartcareRunArguments
from tgmm_hf.training.instruction_data import ECGS, REFUSED, write_refused
from tgmm_hf.training.processes import fail_together


def processed_streams(
    run: HeartcareRunArguments, rows: Sequence[Instruction], processor: HeartcareProcessor, should_save: bool
) -> ProcessedStreams:
    """Process windows and pictures once, in the first process. The other processes open the stored values."""
    cache = Path(run.data.cache) if run.data.cache else run.training_directory / ECGS
    digest, streams = digest_of_ecgs(rows), run.data.stream_names
    split_of = {row.ecg: row.split for row in rows}
    seeds = {
        ecg: run.seed * len(split_of) + number
        for number, (ecg, split) in enumerate(split_of.items())
        if run.data.looks and split == "train"
    }

    def processed() -> ProcessedStreams:
        windows = pictures = None
        if "ecg" in streams:
            extractor = WindowsForCache(processor.feature_extractor)
            windows = process_rows(rows, extractor, cache=cache, data_hash=digest, workers=run.data.workers)
        if "image" in streams:
            drawer = PicturesForCache(processor, seeds)
            pictures = process_rows(rows, drawer, cache=cache, data_hash=digest, workers=run.data.workers)
        return ProcessedStreams(windows, pictures)

    with fail_together():
        if should_save:
            write_refused(rows, processed().refused, run.training_directory / REFUSED)
    return processed()


class StreamDropout:
    """Hides one of the two streams of a row at random: its windows or its picture, and their placeholders.

    The numbers come from torch's own generator, whose state a checkpoint holds.

    Args:
        processor: Its tokenizer knows the placeholders.
        rate: Chance that a row shows only one stream.
    """

    def __init__(self, processor: HeartcareProcessor, rate: float) -> None:
        self.rate = rate
        self.ecg_token, self.image_token = processor.tokenizer.convert_tokens_to_ids([ECG_TOKEN, IMAGE_TOKEN])

    def __call__(self, pieces: Pieces, row: HeartcareRow) -> tuple[Pieces, HeartcareRow]:
        """Return a conversation and its row, as they are or with one stream."""
        hides, hides_ecg = (torch.rand(2) < torch.tensor([self.rate, 0.5])).tolist()
        if not hides:
            return pieces, row
        token = self.ecg_token if hides_ecg else self.image_token
        shown = [([id_ for id_ in ids if id_ != token], is_answer) for ids, is_answer in pieces]
        return shown, HeartcareRow(pixels=row.pixels) if hides_ecg else HeartcareRow(ecg=row.ecg)


class HeartcareRows(Dataset):
    """The rows of one split: token ids of a conversation, and the model inputs of its ECG.

    Args:
        pieces: Conversation of each row.
        numbers: Number of the ECG of each row.
        streams: Processed windows and pictures.
        dropout: Hides streams of the training split. None shows all streams.
    """

    def __init__(
        self,
        pieces: Sequence[Pieces],
        numbers: Sequence[int],
        streams: ProcessedStreams,
        dropout: StreamDropout | None = None,
    ) -> None:
        self.pieces, self.numbers, self.streams, self.dropout = pieces, numbers, streams, dropout

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return "pieces" and "row"."""
        pieces, row = self.pieces[index], self.streams.row(self.numbers[index])
        if self.dropout is not None:
            pieces, row = self.dropout(pieces, row)
        return {"pieces": pieces, "row": row}


@dataclass(frozen=True)
class HeartcareCollator:
    """Makes a batch of rows: padded on the left, with labels for the answers only."""

    processor: HeartcareProcessor

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return the inputs of the model, and labels."""
        data = pad_left(self.processor.tokenizer, [row["pieces"] for row in rows], output_labels=True)
        data |= self.processor.stack_rows([row["row"] for row in rows])
        return {name: torch.from_numpy(array) for name, array in data.items()}
