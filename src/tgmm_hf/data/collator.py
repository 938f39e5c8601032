"""Prepared rows -> a batch of model inputs and labels.

This module does the steps that `prepare` does not do: it cuts and filters the ECG window, normalises the clips, and
tokenises the laboratory text. Hiding whole modalities in training belongs to the model, not to the collator.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.data.hidden_parts import hide_pieces, hide_regions
from tgmm_hf.data.lab_rows import hide_cells, stored_labs, written_labs
from tgmm_hf.processing_tgmm import TgmmProcessor
from tgmm_hf.utils.names import LEADS

Row = Mapping[str, Any]


class TgmmCollator:
    """Collates rows of `load_prepared`. With `transformers.Trainer` set `remove_unused_columns=False`.

    A batch holds, as tensors and only if a patient of the batch has the modality:
        input_ids, attention_mask (B, L) int64, and the cells (`inputs/lab_scales.py`) for a model that reads numbers;
        ecg_values (B, 12, 2250) float32, ecg_mask (B, 12) bool;
        pixel_values_videos (B, 11, F, 3, H, W) float32, view_mask (B, 11) bool
    and
        labels: {diagnosis task: {"label" (B,) int64, "mask" (B,) bool},
                 prognosis task: {"time" (B,) float32 days, "event" (B,) int64, "mask" (B,) bool}, retrieval task: {},
                 regression task: {"value" (B,) float32, "mask" (B,) bool},
                 multilabel task: {"findings" (B, findings) float32, "mask" (B, findings) bool}}
        id: list of str, when not training.

    Args:
        processor: The processor that the rows were prepared for.
        config: Gives the tasks whose labels are collected.
        training: True cuts random ECG windows, samples views, hides cells and gives no "id". False cuts central windows
            and uses all views and cells.
        seed: Seed of windows, views and hidden cells. Every worker process of a data loader draws its own sequence,
            a new one in each epoch.
        max_views: Maximum number of echo views per patient in a training batch, sampled anew each time. None uses all
            views. A limit saves time, because the echo encoder is the largest cost of a step. A limit also trains the
            model to work with missing views.
        cell_dropout: Chance of hiding each laboratory cell in training. At least one cell always stays. This keeps the
            model from memorising the text of a few hundred patients, and prepares it for rows with gaps.
        part_dropout: Largest share of the pieces of an ECG, and of the regions of a clip, that are hidden in training
            (`hidden_parts.py`). The share is drawn anew for each ECG and clip.
    """

    def __init__(  # noqa: PLR0913 - one argument for each change of a training input
        self,
        processor: TgmmProcessor,
        config: TgmmConfig,
        training: bool,
        seed: int = 0,
        max_views: int | None = None,
        cell_dropout: float = 0.0,
        part_dropout: float = 0.0,
    ) -> None:
        if max_views is not None and max_views < 1:
            raise ValueError(f"max_views must be at least 1, or None for all views, got {max_views}.")
        self.processor = processor
        self.training = training
        self.seed = seed
        self.max_views = max_views if training else None
        self.cell_dropout = cell_dropout if training else 0.0
        self.part_dropout = part_dropout if training else 0.0
        tasks: dict[str, dict[str, Any]] = config.tasks or {}
        self.task_kinds = {name: task["kind"] for name, task in tasks.items()}
        self.findings = {name: list(task.get("findings", ())) for name, task in tasks.items()}
        self.num_candidates = {name: len(task["candidates"]) for name, task in tasks.items()}
        self._generator: np.random.Generator | None = None
        self._generator_key: int | None = None

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Collate prepared rows into one batch, as the class describes it."""
        batch: dict[str, Any] = dict(self._inputs(rows))
        batch["labels"] = {name: self._labels(rows, name, kind) for name, kind in self.task_kinds.items()}
        if not self.training:
            batch["id"] = [str(row["id"]) for row in rows]
        return batch

    def _inputs(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        arrays = self._labs(rows) | self._ecg(rows) | self._clips(rows)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _labs(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
        lab_rows = [stored_labs(row) for row in rows]
        if self.cell_dropout:
            lab_rows = [hide_cells(labs, self.cell_dropout, self._random()) for labs in lab_rows]
        return self.processor.encode_labs([written_labs(self.processor, labs) for labs in lab_rows])

    def _ecg(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
        extractor = self.processor.feature_extractor
        values = np.zeros((len(rows), len(LEADS), extractor.model_samples), np.float32)
        mask = np.zeros((len(rows), len(LEADS)), bool)
        for index, row in enumerate(rows):
            signal = np.asarray(row["ecg"], np.float32).T  # (samples, 12) -> (12, samples)
            if not signal.size:
                continue
            crop = "random" if self.training else "center"
            start = extractor.start_positions(signal.shape[1], crop, self._random())[0]
            mask[index] = row["ecg_mask"]
            values[index] = extractor.finish(signal, mask[index], start)
            if self.part_dropout:
                hide_pieces(values[index], extractor.model_rate, self.part_dropout, self._random())
        return {"ecg_values": values, "ecg_mask": mask} if mask.any() else {}

    def _clips(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
        clips: list[tuple[int, int, np.ndarray, int]] = []
        for index, row in enumerate(rows):
            if len(row["clip_views"]):
                stored = self._unpack(np.asarray(row["clips"], np.uint8))
                shown = self._shown(len(stored))
                clips += [(index, row["clip_views"][i], stored[i], row["clip_frames"][i]) for i in shown]
        arrays: dict[str, np.ndarray] = self.processor.image_processor.stack_clips(len(rows), clips) if clips else {}
        if self.part_dropout:
            for index, view, _, frames in clips:
                hide_regions(arrays["pixel_values_videos"][index, view, :frames], self.part_dropout, self._random())
        return arrays

    def _shown(self, num_views: int) -> list[int]:
        """Return the indices of the clips that this batch shows, rising: all, or `max_views` at random."""
        if self.max_views is None or num_views <= self.max_views:
            return list(range(num_views))
        return sorted(self._random().choice(num_views, self.max_views, replace=False).tolist())

    def _unpack(self, clips: np.ndarray) -> np.ndarray:
        """Reshape stored clips (views, F, H, W x 3) to (views, F, H, W, 3).

        Raises:
            ValueError: If the clips have not the size of the processor.
        """
        processor = self.processor.image_processor
        expected = (processor.num_frames, processor.size, processor.size * 3)
        if clips.shape[1:] != expected:
            raise ValueError(
                f"Clips were prepared as {clips.shape[1:]} (frames, height, width x 3) but the processor expects "
                f"{expected}: run `tgmm prepare` with this model's processor."
            )
        return clips.reshape(len(clips), processor.num_frames, processor.size, processor.size, 3)

    def _labels(self, rows: Sequence[Row], task: str, kind: str) -> dict[str, torch.Tensor]:
        if kind == "retrieval":
            return {}
        if kind == "diagnosis":
            labels, mask = _column(rows, f"label_{task}")
            if (labels >= self.num_candidates[task]).any():
                raise ValueError(
                    f"Task {task!r} has {self.num_candidates[task]} candidate answers but a label is "
                    f"{int(labels.max())}: the data were prepared for another configuration."
                )
            return {"label": torch.from_numpy(labels.astype(np.int64)), "mask": torch.from_numpy(mask)}
        if kind == "regression":
            values, mask = _column(rows, f"value_{task}")
            return {"value": torch.from_numpy(values.astype(np.float32)), "mask": torch.from_numpy(mask)}
        if kind == "multilabel":
            return _findings(rows, task, self.findings[task])
        times, mask = _column(rows, f"time_{task}")
        events, event_mask = _column(rows, f"event_{task}")
        return {
            "time": torch.from_numpy(times.astype(np.float32)),
            "event": torch.from_numpy(events.astype(np.int64)),
            "mask": torch.from_numpy(mask & event_mask),
        }

    def _random(self) -> np.random.Generator:
        """Return the random generator of this process.

        A worker process of a data loader gets a new generator in each epoch, because the loader gives it a new seed.
        The main process keeps one generator.
        """
        worker = get_worker_info()
        key = -1 if worker is None else worker.seed
        if self._generator is None or key != self._generator_key:
            self._generator = np.random.default_rng([self.seed, key + 1])
            self._generator_key = key
        return self._generator


def _findings(rows: Sequence[Row], task: str, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """Read the findings of a multilabel from B prepared rows: "findings" and "mask" (B, findings), as in `names`."""
    stored = [json.loads(row.get(f"findings_{task}") or "{}") for row in rows]
    is_known = torch.tensor([[name in row for name in names] for row in stored], dtype=torch.bool)
    values = torch.tensor([[float(row.get(name, 0)) for name in names] for row in stored])
    return {"findings": values, "mask": is_known}


def _column(rows: Sequence[Row], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Read the column `name` of B prepared rows as numbers.

    Returns:
        Values (B,), 0 where missing; and bool (B,), False where missing. All are missing if there is no such column.
    """
    raw = np.array([np.nan if row.get(name) is None else row[name] for row in rows], np.float64)
    mask = ~np.isnan(raw)
    return np.where(mask, raw, 0.0), mask
