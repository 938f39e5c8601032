"""Saved models that answer the questions of a bench in words: the shared part of the families, and MEIT.

Heartcare is in bench_heartcare.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgmm_hf.data.bench_items import option_answer
from tgmm_hf.data.ecg_reports import MEIT, SIGNAL, load_report_pipeline
from tgmm_hf.data.instructions import Instruction, asked_in
from tgmm_hf.data.processed_ecgs import ProcessedArrays, digest_of_ecgs, process_rows
from tgmm_hf.evaluation.report_answers import Reporter
from tgmm_hf.utils.code_revision import code_revision


@dataclass(frozen=True)
class Sight:
    """The part of an ECG that a model gets.

    Attributes:
        row: Number of the row whose ECG it gets. None for no ECG; a model that needs an ECG gets zeros.
        streams: Streams that are filled. A model gets nothing in its other streams.
    """

    row: int | None
    streams: tuple[str, ...]


class ReporterWords(ABC):
    """A saved model that writes reports, as a `WordModel` of bench_models.py. The subclass of a family reads the ECGs.

    Args:
        reporter: Writes the answers.
    """

    streams: tuple[str, ...]
    has_vectors = True

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.rows: Sequence[Instruction] = ()

    @abstractmethod
    def open(self, rows: Sequence[Instruction], asked: int, cache: Path | None) -> dict[int, str]:
        """Process the ECGs, as `WordModel` describes it."""

    @abstractmethod
    def seen(self, sights: Sequence[Sight], place: int) -> Any:
        """Return what the model reads of the ECG of a sight."""

    def write(self, numbers: Sequence[int], sights: Sequence[Sight], title: str) -> list[tuple[str, bool]]:
        """Answer in words, as `WordModel` describes it."""
        return self.reporter.write(self._rows(numbers), partial(self.seen, sights), title)

    def weigh_options(self, numbers: Sequence[int], sights: Sequence[Sight], title: str) -> NDArray:
        """Weigh the options, as `WordModel` describes it."""
        rows = self._rows(numbers)
        answers = [[option_answer(place, text) for place, text in enumerate(asked_in(row).options)] for row in rows]
        return self.reporter.answer_scores(rows, answers, partial(self.seen, sights), title)

    def vectors(self, numbers: Sequence[int]) -> NDArray:
        """Return the vectors of the signal, joined for each ECG."""
        sights = [Sight(number, (SIGNAL,)) for number in numbers]
        return self.reporter.vectors(len(numbers), partial(self.seen, sights))

    def described(self) -> dict[str, Any]:
        """Return fusion, settings of `generate`, fingerprints, checks, notes and commit of the code."""
        pipe = self.reporter.pipe
        binding = pipe.binding_check(pipe.model, pipe.processor)
        return {
            "model_family": pipe.model.config.model_type,
            "fusion": getattr(pipe.model.config, "fusion", "tokens"),  # Heartcare has placeholder tokens only
            "generation": self.reporter.generation,
            "model_fingerprint": binding.model,
            "processor_fingerprint": binding.processor,
            "checks": binding.checks,
            "code_revision": code_revision(pipe.model, pipe.processor),
            "notes": list(binding.notes),
        }

    def _rows(self, numbers: Sequence[int]) -> list[Instruction]:
        return [self.rows[number] for number in numbers]


class MeitWords(ReporterWords):
    """A MEIT model as a `WordModel`. It has one stream. The model needs an ECG, so it gets zeros without one.

    Args:
        model: Directory or Hub repository.
        batch_size: ECGs that are asked about together.
        generate_kwargs: Settings of `generate`.
        progress: Whether to show progress bars.
    """

    streams: tuple[str, ...] = (SIGNAL,)

    def __init__(
        self, model: str, batch_size: int = 16, generate_kwargs: Mapping[str, Any] | None = None, progress: bool = True
    ) -> None:
        pipe = load_report_pipeline(model, kind=MEIT)
        super().__init__(Reporter(pipe, batch_size, generate_kwargs or {}, progress=progress))
        self.ecgs = ProcessedArrays(np.zeros(0), {})

    def open(self, rows: Sequence[Instruction], asked: int, cache: Path | None) -> dict[int, str]:
        """Process the ECGs, as `WordModel` describes it."""
        extractor: Any = self.reporter.pipe.processor.feature_extractor  # type: ignore[union-attr]
        digest = "" if cache is None else digest_of_ecgs(rows)
        self.rows, self.ecgs = rows, process_rows(rows, extractor, cache=cache, data_hash=digest)
        return self.ecgs.refused

    def seen(self, sights: Sequence[Sight], place: int) -> NDArray:
        """Return the processed ECG of a sight, or zeros."""
        sight = sights[place]
        if sight.row is None or SIGNAL not in sight.streams:
            return np.zeros_like(self.ecgs.values[0], dtype=np.float32)
        return np.asarray(self.ecgs.values[sight.row], dtype=np.float32)
