"""The data of a training of MEIT: instruction file -> tokens and processed ECGs -> batches."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from tgmm_hf.data.instructions import Instruction
from tgmm_hf.data.processed_ecgs import ProcessedArrays
from tgmm_hf.families.meit.processing_meit import MeitProcessor
from tgmm_hf.families.shared.ecg_conversations import Pieces, pad_left
from tgmm_hf.training.training_data import SPLITS
from tgmm_hf.utils.errors import TgmmError

logger = logging.getLogger(__name__)


class ReportRows(Dataset):
    """The rows of one split: token ids of a conversation, and the processed ECG.

    Args:
        pieces: Conversation of each row, as the processor's `pieces` gives it.
        numbers: Number of the ECG of each row in `ecgs`.
        ecgs: Processed ECGs.
    """

    def __init__(self, pieces: Sequence[Pieces], numbers: Sequence[int], ecgs: ProcessedArrays) -> None:
        self.pieces, self.numbers, self.ecgs = pieces, numbers, ecgs

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return "pieces", and "input_values" (12, samples) float32."""
        values = np.asarray(self.ecgs.values[self.numbers[index]], dtype=np.float32)
        return {"pieces": self.pieces[index], "input_values": values}


@dataclass(frozen=True)
class ReportCollator:
    """Makes a batch of rows: padded on the left, with labels for the report only."""

    tokenizer: Any

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return input_ids, attention_mask, labels (B, T) and input_values (B, 12, samples)."""
        data = pad_left(self.tokenizer, [row["pieces"] for row in rows], output_labels=True)
        data["input_values"] = np.stack([row["input_values"] for row in rows])
        return {name: torch.from_numpy(array) for name, array in data.items()}


def training_texts(rows: Sequence[Instruction]) -> list[str]:
    """List prompts and reports of the training split. A new tokenizer learns its vocabulary from them."""
    texts = [text for row in rows if row.split == "train" for text in (row.instruction, row.report)]
    return [*texts, "<|user|>\n\n<|assistant|>\n"]


def make_splits(
    rows: Sequence[Instruction], ecgs: ProcessedArrays, processor: MeitProcessor, max_tokens: int
) -> tuple[dict[str, ReportRows], dict[str, dict[str, int]]]:
    """Tokenize the rows whose ECG can be used.

    Args:
        rows: The rows.
        ecgs: Their processed ECGs, in the same order.
        processor: Tokenizes the conversations.
        max_tokens: Longest conversation. A longer one is cut, without an end token.

    Returns:
        Two dicts. Split -> rows. Split -> {"rows", "refused": rows whose ECG was refused, "cut": rows whose report was
        cut}.

    Raises:
        TgmmError: If no ECG of a split can be used, or a prompt leaves no room for a report.
    """
    tokenized, counts = tokenized_splits(
        rows, ecgs.usable, lambda number: processor.pieces(rows[number].conversation()), max_tokens
    )
    return {split: ReportRows(*part, ecgs) for split, part in tokenized.items()}, counts


def tokenized_splits(
    rows: Sequence[Instruction],
    usable_of: Callable[[list[int]], list[int]],
    pieces_of: Callable[[int], Pieces],
    max_tokens: int,
) -> tuple[dict[str, tuple[list[Pieces], list[int]]], dict[str, dict[str, int]]]:
    """Tokenize the rows of every split whose ECG can be used.

    Args:
        rows: The rows.
        usable_of: Takes numbers of rows and returns the numbers whose ECG was not refused.
        pieces_of: Tokenizes the conversation of a row, given by its number.
        max_tokens: Longest conversation. A longer one is cut, without an end token.

    Returns:
        Two dicts. Split -> (conversations, numbers of their rows). Split -> counts, as `make_splits` returns them.

    Raises:
        TgmmError: If no ECG of a split can be used, or a prompt leaves no room for a report.
    """
    splits, counts = {}, {}
    for split in SPLITS:
        numbers = [number for number, row in enumerate(rows) if row.split == split]
        usable = usable_of(numbers)
        if not usable:
            raise TgmmError(split, f"none of the {len(numbers)} ECGs of this split can be used, see refused.csv.")
        whole = [pieces_of(number) for number in usable]
        pieces = [cut_pieces(conversation, max_tokens) for conversation in whole]
        if without := sum(not any(is_answer and ids for ids, is_answer in conversation) for conversation in pieces):
            raise TgmmError(
                "data.max_tokens",
                f"{max_tokens} tokens leave no room for a report in {without} rows of the {split} split: the prompts "
                "are as long. Set a larger number.",
            )
        splits[split] = (pieces, usable)
        cut = sum(_length(before) > max_tokens for before in whole)
        counts[split] = {"rows": len(usable), "refused": len(numbers) - len(usable), "cut": cut}
        if cut:
            logger.warning("%s: %d of %d reports are cut at %d tokens.", split, cut, len(usable), max_tokens)
    return splits, counts


def cut_pieces(pieces: Pieces, max_tokens: int) -> Pieces:
    """Cut a conversation at its right end, so that it has at most `max_tokens` tokens."""
    cut, room = [], max_tokens
    for ids, is_answer in pieces:
        cut.append((ids[:room], is_answer))
        room -= len(cut[-1][0])
    return cut


def _length(pieces: Pieces) -> int:
    return sum(len(ids) for ids, _ in pieces)
