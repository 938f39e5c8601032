"""A cohort table as a `datasets` builder."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import datasets

from tgmm_hf.data.admissions import CohortSource
from tgmm_hf.data.laboratory import Laboratory
from tgmm_hf.data.manifest import CohortRow, Tasks
from tgmm_hf.processing_tgmm import TgmmProcessor


class TgmmCohortConfig(datasets.BuilderConfig):
    """Settings of [`TgmmCohort`].

    Args:
        name: Name of the configuration.
        manifest: Cohort table, Parquet or CSV.
        processor: Gives the ECG settings and the size of the clips. Its tokenizer is not used.
        root: Directory that relative paths start from. None means the directory of the table.
        tasks: Tasks of the model. None means the tasks of the paper.
        allow_outside: Read files outside the root too.
        laboratory: Units and names of the laboratory columns.
        **kwargs: Settings of `datasets.BuilderConfig`.
    """

    def __init__(  # noqa: PLR0913 - the settings of the configuration
        self,
        name: str = "default",
        manifest: str | Path | None = None,
        processor: TgmmProcessor | None = None,
        root: str | Path | None = None,
        tasks: Tasks | None = None,
        allow_outside: bool = False,
        laboratory: Laboratory | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.manifest = manifest
        self.processor = processor
        self.root = root
        self.tasks = tasks
        self.allow_outside = allow_outside
        self.laboratory = laboratory


class TgmmCohort(datasets.GeneratorBasedBuilder):
    """A cohort table as a `datasets` builder, for streaming and for writing Parquet to publish.

    `datasets` 5 runs no loading scripts, so use the builder as a class:

        builder = TgmmCohort(manifest="cohort.parquet", processor=processor)
        builder.as_streaming_dataset(split="train")            # nothing is written
        builder.download_and_prepare("out", file_format="parquet", num_proc=4)

    After an interruption `download_and_prepare` starts anew. `prepare` of this package writes the same rows in shards
    and goes on where it was stopped. `prepare` does not use this class, because the constructor of a builder writes
    into the user's cache directory, and reads the table again in every worker process.
    """

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIG_CLASS = TgmmCohortConfig
    DEFAULT_WRITER_BATCH_SIZE = 8  # rows held in memory; at full size a row takes 26.5 MB

    def _info(self) -> datasets.DatasetInfo:
        config = self.config
        if config.manifest is None or config.processor is None:
            raise ValueError("TgmmCohort needs manifest= (the cohort table) and processor= (a TgmmProcessor).")
        self._source = CohortSource.open(
            config.manifest,
            config.processor,
            config.root,
            config.tasks,
            config.laboratory,
            allow_outside=config.allow_outside,
        )
        return datasets.DatasetInfo(features=self._source.preparer.features)

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        splits = self._source.table.splits()
        return [datasets.SplitGenerator(name=split, gen_kwargs={"rows": rows}) for split, rows in splits.items()]

    def _generate_examples(self, rows: Iterable[CohortRow]) -> Iterator[tuple[str, dict[str, Any]]]:
        for admission in self._source.preparer.prepare_all(rows):
            if admission.example is not None:
                yield admission.id, admission.example
