"""One admission -> one prepared row, and the `datasets` builder over a cohort table.

A prepared row holds everything up to what training draws at random: the ECG in millivolts at 250 Hz before the crop,
the clips as uint8 at the model's resolution (only the views that are there), the laboratory row as JSON.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import Array2D, Array4D, Features, List, Value

from tgmm_hf.data.manifest import SPLITS, Manifest, ManifestRow, read_manifest
from tgmm_hf.inputs.echo_views import StoredViewClassifier
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.inputs.image_processing_echo import EchoImageProcessor
from tgmm_hf.inputs.lab_text import read_cells
from tgmm_hf.processing_tgmm import TgmmProcessor
from tgmm_hf.utils.errors import is_refusal
from tgmm_hf.utils.names import LEADS, VIEWS

Refusal = dict[str, str]


@dataclass(frozen=True)
class PreparedRecord:
    """`example` is the prepared row, None if no modality could be used; `refused` holds {"item", "reason"}."""

    example: dict[str, Any] | None
    refused: list[Refusal]


@dataclass(frozen=True)
class RecordPreparer:
    """Turns manifest rows into prepared rows; small enough to be sent to worker processes.

    `tasks` are the diagnosis and prognosis tasks with a column in the table, `root` is where relative paths start.
    """

    feature_extractor: EcgFeatureExtractor
    image_processor: EchoImageProcessor
    root: Path
    tasks: dict[str, str] = field(default_factory=dict)  # name -> kind
    view_classifier: StoredViewClassifier | None = None  # for clips that the table gives no view

    @property
    def features(self) -> Features:
        """Columns of the prepared rows; the first axis of `ecg` and `clips` is 0 where the modality is absent."""
        size, frames = self.image_processor.size, self.image_processor.num_frames
        columns: dict[str, Any] = {
            "id": Value("string"),
            "patient_id": Value("string"),
            "labs": Value("string"),  # JSON {column: value | [value, unit]}, "" if absent
            "ecg": Array2D((None, len(LEADS)), "float32"),  # (samples at 250 Hz, leads) mV, before the crop
            "ecg_mask": List(Value("bool")),  # usable leads
            # (present views, F, H, W x BGR): the last axis is not (W, 3), since Arrow spends four bytes on every
            # innermost list, which would more than double the file
            "clips": Array4D((None, frames, size, size * 3), "uint8"),
            "clip_views": List(Value("int32")),  # index into VIEWS per clip
            "clip_frames": List(Value("int32")),  # real frames per clip; the ones after are padding
        }
        for task, kind in self.tasks.items():
            if kind == "diagnosis":
                columns[f"label_{task}"] = Value("int64")
            else:
                columns |= {f"time_{task}": Value("float32"), f"event_{task}": Value("int64")}
        return Features(columns)

    def prepare(self, row: ManifestRow) -> PreparedRecord:
        """Read and process the files of one admission; what cannot be used is refused with its reason, never raised."""
        refused: list[Refusal] = []
        example = {
            "id": row.id,
            "patient_id": row.patient_id,
            "labs": _labs_json(row, refused),
            **self._ecg(row, refused),
            **self._echo(row, refused),
        }
        for task, kind in self.tasks.items():
            if kind == "diagnosis":
                example[f"label_{task}"] = row.labels.get(task)
            else:
                example[f"time_{task}"] = row.times.get(task)
                example[f"event_{task}"] = row.events.get(task)
        if not (example["labs"] or len(example["ecg"]) or len(example["clips"])):
            refused.append({"item": row.id, "reason": "dropped: no laboratory cell, ECG or clip can be used"})
            return PreparedRecord(None, refused)
        return PreparedRecord(example, refused)

    def _ecg(self, row: ManifestRow, refused: list[Refusal]) -> dict[str, Any]:
        signal, mask = np.zeros((0, len(LEADS)), np.float32), np.zeros(len(LEADS), bool)
        if row.ecg_path is not None:
            try:
                ecg = self.feature_extractor.harmonise(self.root / row.ecg_path)
                signal, mask = ecg.signal.T, ecg.mask
            except (OSError, ValueError) as error:
                refused.append({"item": row.ecg_path, "reason": _reason(error)})
        return {"ecg": np.ascontiguousarray(signal, np.float32), "ecg_mask": mask.tolist()}

    def _echo(self, row: ManifestRow, refused: list[Refusal]) -> dict[str, Any]:
        size, frames = self.image_processor.size, self.image_processor.num_frames
        stacked, indices, counts = np.zeros((0, frames, size, size * 3), np.uint8), [], []
        if row.echo_paths:
            try:
                study = self.image_processor.prepare_study(
                    [self.root / path for path in row.echo_paths],
                    views=_views_by_path(row),
                    view_classifier=self.view_classifier,
                )
                refused += [{**entry, "item": self._relative(entry["item"])} for entry in study.refused]
                views = [view for view in VIEWS if view in study.clips]
                if views:
                    stacked = np.stack([study.clips[view].reshape(frames, size, size * 3) for view in views])
                    indices = [VIEWS.index(view) for view in views]
                    counts = [int(study.frame_counts[view]) for view in views]
            except (OSError, ValueError) as error:
                refused.append({"item": f"echo of {row.id}", "reason": _reason(error)})
        return {"clips": stacked, "clip_views": indices, "clip_frames": counts}

    def _relative(self, item: str) -> str:
        """File as the table names it, so that the report is the same wherever the cohort lies."""
        return item.removeprefix(f"{self.root}/")


class TgmmCohortConfig(datasets.BuilderConfig):
    """Settings of [`TgmmCohort`]: the cohort table, where its paths start, the processor, the model's tasks."""

    def __init__(
        self,
        name: str = "default",
        manifest: str | Path | None = None,
        processor: TgmmProcessor | None = None,
        root: str | Path | None = None,
        tasks: dict[str, dict[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.manifest = manifest
        self.processor = processor
        self.root = root
        self.tasks = tasks


class TgmmCohort(datasets.GeneratorBasedBuilder):
    """A cohort table as a `datasets` builder, for streaming and for writing Parquet to publish.

    `datasets` 5 runs no loading scripts, so the builder is used as a class:

        builder = TgmmCohort(manifest="cohort.parquet", processor=processor)
        builder.as_streaming_dataset(split="train")            # nothing is written
        builder.download_and_prepare("out", file_format="parquet", num_proc=4)

    `download_and_prepare` starts from nothing after an interruption; `prepare`, which uses the same rows, resumes.
    """

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIG_CLASS = TgmmCohortConfig
    DEFAULT_WRITER_BATCH_SIZE = 8  # rows held in memory; at full size one takes 26.5 MB

    def _info(self) -> datasets.DatasetInfo:
        if self.config.manifest is None or self.config.processor is None:
            raise ValueError("TgmmCohort needs manifest= (the cohort table) and processor= (a TgmmProcessor).")
        self._manifest = read_manifest(self.config.manifest, root=self.config.root, tasks=self.config.tasks)
        self._preparer = make_preparer(self._manifest, self.config.processor)
        return datasets.DatasetInfo(features=self._preparer.features)

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        by_split = {split: [row for row in self._manifest.rows if row.split == split] for split in SPLITS}
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"rows": rows}) for split, rows in by_split.items() if rows
        ]

    def _generate_examples(self, rows: Iterable[ManifestRow]) -> Iterator[tuple[str, dict[str, Any]]]:
        for row in rows:
            record = self._preparer.prepare(row)
            if record.example is not None:
                yield row.id, record.example


def make_preparer(manifest: Manifest, processor: TgmmProcessor) -> RecordPreparer:
    """Preparer for a table: the processor's extractors and view classifier, the table's root and the tasks it has
    columns for."""
    return RecordPreparer(
        processor.feature_extractor,
        processor.image_processor,
        manifest.root,
        manifest.tasks,
        processor.default_view_classifier,
    )


def _labs_json(row: ManifestRow, refused: list[Refusal]) -> str:
    """Usable cells under their canonical names and in canonical units, as JSON in the order of the text; "" if none."""
    cells, report = read_cells(row.labs)
    refused += [{"item": f"{row.id}: {entry['item']}", "reason": entry["reason"]} for entry in report.refused]
    values: dict[str, Any] = {}
    for cell in cells:
        is_plain_number = cell.number is not None and cell.value[0] not in "<>≤≥"
        value = float(cell.value) if is_plain_number else cell.value
        values[cell.name] = [value, cell.unit] if cell.unit else value
    return json.dumps(values, ensure_ascii=False) if values else ""


def _views_by_path(row: ManifestRow) -> dict[str, str]:
    """Path as the table writes it -> view, for the clips whose view the table gives."""
    pairs = zip(row.echo_paths, row.echo_views, strict=True)
    return {Path(path).as_posix(): view for path, view in pairs if view is not None}


def _reason(error: Exception) -> str:
    return str(error.args[1]) if is_refusal(error) else f"{type(error).__name__}: {error}"  # args: item, reason
