"""The data of a training of MoRE: rows of the table -> processed X-rays and ECGs, stored once -> batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from tgmm_hf.data.file_reading import file_state
from tgmm_hf.data.note_tables import NoteRow, read_note_table
from tgmm_hf.data.processed_ecgs import ProcessedArrays, process_files
from tgmm_hf.families.more.processing_more import MoreProcessor
from tgmm_hf.inputs.xray_reading import read_xray
from tgmm_hf.training.file_run import FileRun
from tgmm_hf.training.instruction_data import REFUSED
from tgmm_hf.training.more_augmentation import SMALLEST_AREA, augment_ecg, augment_xray
from tgmm_hf.training.processes import fail_together
from tgmm_hf.training.training_data import SPLITS
from tgmm_hf.utils.csv_files import write_csv_file
from tgmm_hf.utils.digests import json_digest
from tgmm_hf.utils.errors import TgmmError

INPUTS = "inputs"
"""Directory beside the checkpoints with the processed X-rays and ECGs."""


@dataclass(frozen=True)
class StoredInputs:
    """Processed X-rays and ECGs of a table, each file once.

    Attributes:
        xrays: (X-rays, size, size) uint8.
        ecgs: (ECGs, 12, samples) float16.
        xray_number: Path of an X-ray that can be used -> its number.
        ecg_number: Path of an ECG that can be used -> its number.
    """

    xrays: ProcessedArrays
    ecgs: ProcessedArrays
    xray_number: dict[str, int]
    ecg_number: dict[str, int]

    def has(self, row: NoteRow) -> bool:
        """Tell whether the X-ray or the ECG of a row can be used."""
        return row.xray in self.xray_number or row.ecg in self.ecg_number

    def inputs_of(self, row: NoteRow) -> dict[str, Any]:
        """Return "xray" (size, size) uint8 or None, and "ecg" (12, samples) float32 or None, of a row."""
        xray, ecg = self.xray_number.get(row.xray or ""), self.ecg_number.get(row.ecg or "")
        return {
            "xray": None if xray is None else np.array(self.xrays.values[xray]),
            "ecg": None if ecg is None else np.asarray(self.ecgs.values[ecg], dtype=np.float32),
        }


class _GreyXrays:
    """Gives X-rays before they are normalised, because they are augmented in between. An `Extractor`."""

    cached_dtype = np.uint8

    def __init__(self, image_processor: Any) -> None:
        self.image_processor = image_processor
        self.cached_shape = (image_processor.size, image_processor.size)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings, which name the cache."""
        return dict(self.image_processor.to_dict())

    def prepare(self, xray: Any) -> Any:
        """Read an X-ray and equalise it: `values` (size, size) uint8."""
        picture = read_xray(xray, self.image_processor.views, self.image_processor.limits)
        return SimpleNamespace(values=self.image_processor.equalise(picture.pixels, picture.is_dicom))


def read_rows(run: FileRun) -> list[NoteRow]:
    """Read the rows that a training reads.

    Raises:
        TgmmError: If the table is wrong, or a split is missing.
    """
    rows = [row for row in read_note_table(run.data.file, allow_outside=run.data.allow_outside) if row.split in SPLITS]
    if missing := [split for split in SPLITS if not any(row.split == split for row in rows)]:
        raise TgmmError(
            Path(run.data.file).name, f"has no rows of the split {' and '.join(missing)}, which a training needs."
        )
    return rows


def stored_inputs(run: FileRun, rows: Sequence[NoteRow], processor: MoreProcessor, should_save: bool) -> StoredInputs:
    """Process X-rays and ECGs once, in the first process. The other processes open the stored values.

    Args:
        run: The settings.
        rows: The rows of all splits.
        processor: The processor of the model.
        should_save: Whether this process is the first one.
    """
    with fail_together():
        if should_save:
            _process(run, rows, processor, is_first=True)
    return _process(run, rows, processor, is_first=False)


def _process(run: FileRun, rows: Sequence[NoteRow], processor: MoreProcessor, is_first: bool) -> StoredInputs:
    """Process the files of a table, or open the cache. The first process writes the table of refused files."""
    cache = Path(run.data.cache) if run.data.cache else run.training_directory / INPUTS
    files = {
        name: list(dict.fromkeys(path for row in rows if (path := getattr(row, name)) is not None))
        for name in ("xray", "ecg")
    }
    xrays = process_files(
        len(files["xray"]),
        files["xray"].__getitem__,
        _GreyXrays(processor.image_processor),
        cache=cache,
        data_hash=_digest(files["xray"], ("",)),
        workers=run.data.workers,
    )
    ecgs = process_files(
        len(files["ecg"]),
        files["ecg"].__getitem__,
        processor.feature_extractor,
        cache=cache,
        data_hash=_digest(files["ecg"], ("", ".hea", ".dat", ".mat")),
        workers=run.data.workers,
    )
    stored = {"xray": xrays, "ecg": ecgs}
    if is_first:
        refused = {
            name: {files[name][number]: reason for number, reason in part.refused.items()}
            for name, part in stored.items()
        }
        write_refused(rows, refused, run.training_directory / REFUSED)
    numbers = {
        name: {path: number for number, path in enumerate(files[name]) if number not in part.refused}
        for name, part in stored.items()
    }
    return StoredInputs(xrays, ecgs, numbers["xray"], numbers["ecg"])


def _digest(files: Sequence[str], suffixes: Sequence[str]) -> str:
    """Compute a digest of paths, sizes and times of change."""
    return json_digest([[file, *(file_state(Path(f"{file}{suffix}")) for suffix in suffixes)] for file in files])


def write_refused(rows: Sequence[NoteRow], refused: Mapping[str, Mapping[str, str]], path: Path) -> None:
    """Write the table of refused files: id of the row, split, item and reason.

    Args:
        rows: The rows of the table.
        refused: "xray" or "ecg" -> path -> reason. The paths are not written, because they may name patients.
        path: File to write.
    """
    table = [
        {"id": row.id, "split": row.split, "item": item, "reason": reason}
        for row in rows
        for item in ("xray", "ecg")
        if (reason := refused[item].get(getattr(row, item) or "")) is not None
    ]
    write_csv_file(path, ["id", "split", "item", "reason"], table)


class NoteRows(Dataset):
    """The usable rows of one split: each has a note, and a usable X-ray or ECG.

    Args:
        rows: The rows of the split.
        inputs: The processed X-rays and ECGs.
    """

    def __init__(self, rows: Sequence[NoteRow], inputs: StoredInputs) -> None:
        self.inputs = inputs
        self.rows = [row for row in rows if row.text and inputs.has(row)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return "xray" (size, size) uint8 or None, "ecg" (12, samples) float32 or None, "text" and "patient"."""
        row = self.rows[index]
        return {**self.inputs.inputs_of(row), "text": row.text, "patient": row.patient_id}


def split_rows(rows: Sequence[NoteRow], inputs: StoredInputs) -> dict[str, NoteRows]:
    """Share out the usable rows: split -> rows.

    Raises:
        TgmmError: If a split has fewer than two usable rows.
    """
    splits = {}
    for split in SPLITS:
        part = [row for row in rows if row.split == split]
        splits[split] = NoteRows(part, inputs)
        if len(splits[split]) < 2:
            raise TgmmError(
                split, f"{len(splits[split])} of its {len(part)} rows can be used, 2 are needed; see {REFUSED}."
            )
    return splits


def picture_batch(
    rows: Sequence[Mapping[str, Any]],
    processor: MoreProcessor,
    random: np.random.Generator | None,
    smallest_area: float = SMALLEST_AREA,
) -> dict[str, np.ndarray]:
    """Make the X-rays, the ECGs and their masks of a batch, with zeros where a row lacks one.

    Args:
        rows: Rows with "xray" and "ecg", see [`NoteRows`].
        processor: The processor of the model.
        random: Source of the changes of training. None changes nothing.
        smallest_area: See `augment_xray`.
    """
    size = processor.image_processor.size
    pixels = np.zeros((len(rows), 3, size, size), dtype=np.float32)
    values = np.zeros((len(rows), 12, processor.feature_extractor.num_samples), dtype=np.float32)
    for number, row in enumerate(rows):
        if row["xray"] is not None:
            grey = row["xray"] if random is None else augment_xray(row["xray"], random, smallest_area)
            pixels[number] = processor.image_processor.normalise(grey)
        if row["ecg"] is not None:
            values[number] = row["ecg"] if random is None else augment_ecg(row["ecg"], random)
    return {
        "pixel_values": pixels,
        "xray_mask": np.array([row["xray"] is not None for row in rows]),
        "input_values": values,
        "ecg_mask": np.array([row["ecg"] is not None for row in rows]),
    }


class NoteCollator:
    """Makes the inputs of `MoreModel` from rows of [`NoteRows`].

    Args:
        processor: The processor of the model.
        training: Whether X-rays and ECGs are changed at random.
        seed: Seed of the changes.
        smallest_area: See `augment_xray`.
    """

    def __init__(
        self, processor: MoreProcessor, training: bool, seed: int = 0, smallest_area: float = SMALLEST_AREA
    ) -> None:
        self.processor, self.training, self.smallest_area = processor, training, smallest_area
        self._random = np.random.default_rng(seed)

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return all keys of the processor, with zeros where a row lacks an X-ray or an ECG."""
        batch = {
            **picture_batch(rows, self.processor, self._random if self.training else None, self.smallest_area),
            **self.processor.tokenize([self.processor.note(row["text"]) for row in rows]),
        }
        return {name: torch.from_numpy(value) for name, value in batch.items()}
