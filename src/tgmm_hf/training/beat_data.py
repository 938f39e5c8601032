"""The data of a training of Beat: recordings of an instruction file -> windows and the second after each."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from tgmm_hf.data.instructions import Instruction
from tgmm_hf.data.processed_ecgs import ProcessedArrays
from tgmm_hf.families.heartcare.configuration_beat import BeatConfig
from tgmm_hf.training.training_data import SPLITS
from tgmm_hf.utils.errors import TgmmError

SMALLEST_DEVIATION = 0.05
"""Smallest deviation of a lead in a window, in deviations of the lead in the whole recording. A window in which a lead
hardly moves would otherwise make the second after it very large."""


class RecordingRows(Dataset):
    """The usable recordings of one split.

    Args:
        numbers: Numbers of the recordings of this split in `ecgs`.
        ecgs: Filtered recordings.
    """

    def __init__(self, numbers: Sequence[int], ecgs: ProcessedArrays) -> None:
        self.numbers, self.ecgs = numbers, ecgs

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Return "recording" (12, samples) float32, each lead with mean 0 and deviation 1."""
        return {"recording": np.asarray(self.ecgs.values[self.numbers[index]], dtype=np.float32)}


class WindowCollator:
    """Cuts a window out of each recording, with the second after it.

    Args:
        config: Configuration of the model, which gives the lengths.
        training: Whether the place of a window is drawn. Otherwise it is the centre of the recording.
        seed: Seed of the places.
    """

    def __init__(self, config: BeatConfig, training: bool, seed: int = 0) -> None:
        self.config, self.training = config, training
        self._random = np.random.default_rng(seed)

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return input_values (B, 12, seq_length) and next_values (B, 12, prediction_length), standardised."""
        windows = np.stack([self._window(row["recording"]) for row in rows])
        seen = windows[..., : self.config.seq_length]
        mean = seen.mean(axis=-1, keepdims=True)
        deviation = np.maximum(seen.std(axis=-1, keepdims=True), SMALLEST_DEVIATION)
        scaled = torch.from_numpy((windows - mean) / deviation)
        return {
            "input_values": scaled[..., : self.config.seq_length],
            "next_values": scaled[..., self.config.seq_length :],
        }

    def _window(self, recording: np.ndarray) -> np.ndarray:
        """Cut a window and the second after it out of a recording (12, samples)."""
        length = self.config.seq_length + self.config.prediction_length
        room = recording.shape[1] - length
        start = int(self._random.integers(room + 1)) if self.training else room // 2
        return recording[:, start : start + length]


def recordings_of(rows: Sequence[Instruction]) -> list[Instruction]:
    """Return the rows with each recording once, the first row of each."""
    first: dict[str, Instruction] = {}
    for row in rows:
        first.setdefault(row.ecg, row)
    return list(first.values())


def recording_splits(rows: Sequence[Instruction], ecgs: ProcessedArrays) -> dict[str, RecordingRows]:
    """Share out the usable recordings: split -> rows.

    Args:
        rows: The rows, one for each recording.
        ecgs: Their filtered recordings, in the same order.

    Raises:
        TgmmError: If no recording of a split can be used.
    """
    splits = {}
    for split in SPLITS:
        numbers = [number for number, row in enumerate(rows) if row.split == split]
        usable = ecgs.usable(numbers)
        if not usable:
            raise TgmmError(split, f"none of the {len(numbers)} recordings of this split can be used, see refused.csv.")
        splits[split] = RecordingRows(usable, ecgs)
    return splits
