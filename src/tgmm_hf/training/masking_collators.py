"""Batches for pre-training: inputs of one modality, and what of them is hidden from the encoder."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch

from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.data.collator import Row, TgmmCollator
from tgmm_hf.data.lab_rows import labs_text, stored_labs
from tgmm_hf.processing_tgmm import TgmmProcessor

VALUE = re.compile(r"(?<= is )[^;]+")
"""The value of a cell in a lab text."""
LABS_MASK_RATIO = 0.3
"""Part of the values of a lab text that is hidden, unless a setting says otherwise."""
NOT_HIDDEN = -100
"""Label of tokens that the loss ignores."""


class MaskingCollator(TgmmCollator, ABC):
    """Collator of one modality: prepared rows -> inputs, with what is hidden.

    In validation, every epoch hides the same.
    """

    def __init__(
        self,
        processor: TgmmProcessor,
        config: TgmmConfig,
        mask_ratio: float | None,
        training: bool,
        seed: int = 0,
        max_views: int | None = None,
    ) -> None:
        super().__init__(processor, config, training, seed, max_views)
        self.config, self.mask_ratio = config, mask_ratio

    def __call__(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        """Collate rows. Labels of tasks are not read."""
        if not self.training:
            self._generator = None  # so that every batch draws the same random numbers
        return {name: torch.from_numpy(array) for name, array in self.hide(rows).items()}

    @abstractmethod
    def hide(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
        """Return the arguments of the model's `forward` as arrays."""


class LabsMaskingCollator(MaskingCollator):
    """Hide whole values, and single items of a history.

    If only a part of a value were hidden, the tokens beside it would give the rest away. As in BERT, 80 % of the hidden
    tokens become [MASK], 10 % another token, and 10 % stay. `labels` is -100 where nothing is hidden.
    """

    def hide(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
        """Return input_ids, attention_mask and labels, each (patients, tokens)."""
        tokenizer = self.processor.tokenizer
        texts = [labs_text(self.processor, stored_labs(row)) for row in rows]
        encoded = tokenizer(
            texts,
            truncation=True,
            max_length=self.processor.max_labs_tokens,
            padding=True,
            return_offsets_mapping=True,
            return_tensors="np",
        )
        hidden = self._hidden_tokens(texts, encoded["offset_mapping"])
        ids = encoded["input_ids"].astype(np.int64)
        labels = np.where(hidden, ids, NOT_HIDDEN)
        fate = self._random().random(ids.shape)
        random_ids = self._random().integers(len(tokenizer), size=ids.shape)
        ids = np.where(hidden & (fate < 0.8), tokenizer.mask_token_id, ids)
        ids = np.where(hidden & (fate >= 0.9), random_ids, ids)
        return {"input_ids": ids, "attention_mask": encoded["attention_mask"].astype(np.int64), "labels": labels}

    def _hidden_tokens(self, texts: Sequence[str], offsets: np.ndarray) -> np.ndarray:
        """Draw values, and mark the tokens that lie in them: (patients, tokens)."""
        starts, ends = offsets[..., 0], offsets[..., 1]
        hidden = np.zeros(starts.shape, dtype=bool)
        ratio = LABS_MASK_RATIO if self.mask_ratio is None else self.mask_ratio
        for index, text in enumerate(texts):
            spans = value_spans(text)
            chosen = self._random().random(len(spans)) < ratio
            if spans and not chosen.any():  # a batch with nothing hidden has no loss
                chosen[self._random().integers(len(spans))] = True
            for start, end in np.array(spans)[chosen]:
                hidden[index] |= (starts[index] >= start) & (ends[index] <= end) & (ends[index] > starts[index])
        return hidden


class EcgMaskingCollator(MaskingCollator):
    """ECG windows, and the noise that decides which patches are hidden."""

    def hide(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
        """Return ecg_values (patients, 12, samples), ecg_mask (patients, 12) and noise (patients, 12, patches)."""
        arrays = self._ecg(rows)
        shape = (*arrays["ecg_mask"].shape, self.config.ecg_config.num_patches)
        return {**arrays, "noise": self._random().random(shape, dtype=np.float32)}


class EchoMaskingCollator(MaskingCollator):
    """The clips of all patients one after the other, and the noise that decides which patches are hidden."""

    def hide(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
        """Return pixel_values_videos (clips, frames, 3, height, width) and noise (clips, patch rows, patch columns)."""
        arrays = self._clips(rows)
        clips = arrays["pixel_values_videos"][arrays["view_mask"]]
        side = self.config.echo_config.image_size // self.config.echo_config.patch_stride[1]
        noise = self._random().random((len(clips), side, side), dtype=np.float32)
        return {"pixel_values_videos": clips, "noise": noise}


COLLATORS: dict[str, type[MaskingCollator]] = {
    "labs": LabsMaskingCollator,
    "ecg": EcgMaskingCollator,
    "echo": EchoMaskingCollator,
}


def value_spans(text: str) -> list[tuple[int, int]]:
    """Find start and end of every value in a lab text. The items of a history, separated by commas, count singly."""
    spans = []
    for cell in VALUE.finditer(text):
        for item in re.finditer(r"[^,\s][^,]*", cell.group()):
            spans.append((cell.start() + item.start(), cell.start() + item.end()))
    return spans
