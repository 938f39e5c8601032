"""What a bench asks of a model: to answer in words, to weigh the options, and to give signals.

A model family takes part with one class that has the methods of `WordModel` or `SignalModel`, and one line in
`load_bench_models`. The bench does not know how a family reads an ECG. It only says whose ECG a row gets (`Sight`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tgmm_hf.data.bench_items import option_answer
from tgmm_hf.data.ecg_reports import load_report_pipeline, saved_kind
from tgmm_hf.data.instructions import Instruction, asked_in
from tgmm_hf.data.processed_ecgs import ProcessedEcgs, digest_of_data, process_rows
from tgmm_hf.evaluation.bench_beat import BeatSignals
from tgmm_hf.evaluation.report_answers import Reporter
from tgmm_hf.inputs.ecg_signal import HarmonisedEcg
from tgmm_hf.utils.code_revision import code_revision
from tgmm_hf.utils.errors import TgmmError

SIGNAL, PICTURE = "signal", "picture"
"""Streams: the ways in which an ECG can enter a model."""


@dataclass(frozen=True)
class Sight:
    """What a model gets to see of an ECG.

    Attributes:
        row: Number of the row whose ECG it gets. None for no ECG; a model that cannot do without gets zeros.
        streams: Streams that are filled. A model gets nothing in its other streams.
    """

    row: int | None
    streams: tuple[str, ...]


class WordModel(Protocol):
    """A model that answers questions about ECGs in words.

    Attributes:
        streams: Its streams, `SIGNAL` and `PICTURE` or one of them.
        has_vectors: Whether it has vectors of ECGs, by which the nearest ECG of the train split can be found.
    """

    streams: tuple[str, ...]
    has_vectors: bool

    def open(self, file: Path, rows: Sequence[Instruction], cache: Path | None) -> dict[int, str]:
        """Prepare the ECGs of rows. The numbers of the other methods are numbers of these rows.

        Args:
            file: The bench file.
            rows: The rows.
            cache: Directory of processed ECGs, None for none.

        Returns:
            Number of a row whose ECG is refused -> reason.
        """
        ...

    def write(self, numbers: Sequence[int], sights: Sequence[Sight], title: str) -> list[tuple[str, bool]]:
        """Answer questions in words.

        Args:
            numbers: Numbers of the rows.
            sights: What is seen at each.
            title: Name of the progress bar.

        Returns:
            Text of each answer, and whether the model ended it by itself.
        """
        ...

    def weigh_options(self, numbers: Sequence[int], sights: Sequence[Sight], title: str) -> NDArray:
        """Compute the mean log-probability of a token of each option's answer, such as "B. atrial fibrillation".

        Args:
            numbers: Numbers of the rows, which ask closed questions.
            sights: What is seen at each.
            title: Name of the progress bar.

        Returns:
            (n, 4) float.
        """
        ...

    def vectors(self, numbers: Sequence[int]) -> NDArray:
        """Return one vector for the ECG of each row `numbers`: (n, d). Only asked for with `has_vectors`."""
        ...

    def described(self) -> dict[str, Any]:
        """Return what metrics.json says of the model: "model_family", fingerprints, "checks", "notes" and the like."""
        ...


class SignalModel(Protocol):
    """A model that gives signals.

    Attributes:
        sampling_rate: Hz, of all signals.
    """

    sampling_rate: float

    def clean(self, ecg: HarmonisedEcg) -> NDArray:
        """Resample and filter a whole recording as the model reads it: (12, samples) in its unit.

        Windows, targets and controls are cut from this.
        """
        ...

    def predict(self, windows: NDArray, samples: int) -> NDArray:
        """Continue windows (n, 12, w) by `samples` samples: (n, 12, samples)."""
        ...

    def rebuild(self, windows: NDArray) -> NDArray:
        """Rebuild windows (n, 12, w) from the model's codes: (n, 12, w)."""
        ...

    def described(self) -> dict[str, Any]:
        """Return what metrics.json says of the model."""
        ...


class BenchModels(NamedTuple):
    """The parts of a saved model that a bench can ask. None: it does not have this part."""

    words: WordModel | None
    signals: SignalModel | None


class MeitWords:
    """A MEIT model as a `WordModel`. It has one stream. Without an ECG it gets zeros, because it cannot do without one.

    Args:
        model: Directory or Hub repository.
        batch_size: ECGs that are asked about together.
        generate_kwargs: Settings of `generate`.
        progress: Whether to show progress bars.
    """

    streams: tuple[str, ...] = (SIGNAL,)
    has_vectors = True

    def __init__(
        self, model: str, batch_size: int = 16, generate_kwargs: Mapping[str, Any] | None = None, progress: bool = True
    ) -> None:
        self.reporter = Reporter(load_report_pipeline(model), batch_size, generate_kwargs or {}, progress=progress)
        self.rows: Sequence[Instruction] = ()
        self.ecgs = ProcessedEcgs(np.zeros(0), {})

    def open(self, file: Path, rows: Sequence[Instruction], cache: Path | None) -> dict[int, str]:
        """Process the ECGs, as `WordModel` describes it."""
        extractor: Any = self.reporter.pipe.processor.feature_extractor  # type: ignore[union-attr]
        digest = "" if cache is None else digest_of_data(file, rows)
        self.rows, self.ecgs = rows, process_rows(rows, extractor, cache=cache, data_hash=digest)
        return self.ecgs.refused

    def write(self, numbers: Sequence[int], sights: Sequence[Sight], title: str) -> list[tuple[str, bool]]:
        """Answer in words, as `WordModel` describes it."""
        return self.reporter.write(self._rows(numbers), partial(self._values, sights), title)

    def weigh_options(self, numbers: Sequence[int], sights: Sequence[Sight], title: str) -> NDArray:
        """Weigh the options, as `WordModel` describes it."""
        rows = self._rows(numbers)
        answers = [[option_answer(place, text) for place, text in enumerate(asked_in(row).options)] for row in rows]
        return self.reporter.answer_scores(rows, answers, partial(self._values, sights), title)

    def vectors(self, numbers: Sequence[int]) -> NDArray:
        """Return the ECG vectors, joined for each ECG."""
        return self.reporter.vectors(len(numbers), lambda place: self.ecgs.values[numbers[place]])

    def described(self) -> dict[str, Any]:
        """Return fusion, settings of `generate`, fingerprints, checks, notes and commit of the code."""
        pipe = self.reporter.pipe
        binding = pipe.binding_check(pipe.model, pipe.processor)
        return {
            "model_family": "meit",
            "fusion": pipe.model.config.fusion,
            "generation": self.reporter.generation,
            "model_fingerprint": binding.model,
            "processor_fingerprint": binding.processor,
            "checks": binding.checks,
            "code_revision": code_revision(pipe.model, pipe.processor),
            "notes": list(binding.notes),
        }

    def _rows(self, numbers: Sequence[int]) -> list[Instruction]:
        return [self.rows[number] for number in numbers]

    def _values(self, sights: Sequence[Sight], place: int) -> NDArray:
        """Return the processed ECG of a sight, or zeros."""
        sight = sights[place]
        if sight.row is None or SIGNAL not in sight.streams:
            return np.zeros_like(self.ecgs.values[0], dtype=np.float32)
        return np.asarray(self.ecgs.values[sight.row], dtype=np.float32)


def load_bench_models(
    model: str, batch_size: int = 16, generate_kwargs: Mapping[str, Any] | None = None, progress: bool = True
) -> BenchModels:
    """Load a saved model of any family that can take part in a bench.

    Args:
        model: Directory or Hub repository.
        batch_size: ECGs that are asked about together.
        generate_kwargs: Settings of `generate`.
        progress: Whether to show progress bars.

    Raises:
        TgmmError: If the family cannot take part, or the saved model is damaged.
    """
    kind = saved_kind(model)
    if kind == "meit":
        return BenchModels(MeitWords(model, batch_size, generate_kwargs, progress), None)
    if kind == "beat":
        return BenchModels(None, BeatSignals(model))
    raise TgmmError(
        model, f"a {kind or 'nameless'} model cannot answer the questions of a bench file; meit and beat models can."
    )
