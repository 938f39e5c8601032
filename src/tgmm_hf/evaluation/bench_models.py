"""What a bench asks of a model: to answer in words, to weigh the options, and to give signals.

A model family takes part with one class that has the methods of `WordModel` or `SignalModel`, and one line in
`load_bench_models`. The bench does not know how a family reads an ECG. It only says whose ECG a row gets (`Sight`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from tgmm_hf.data.ecg_reports import HEARTCARE, MEIT, saved_kind
from tgmm_hf.data.instructions import Instruction
from tgmm_hf.evaluation.bench_beat import BeatSignals
from tgmm_hf.evaluation.bench_heartcare import HeartcareWords
from tgmm_hf.evaluation.bench_words import MeitWords, Sight
from tgmm_hf.inputs.ecg_signal import HarmonisedEcg
from tgmm_hf.utils.errors import TgmmError


class WordModel(Protocol):
    """A model that answers questions about ECGs in words.

    Attributes:
        streams: Its streams, `SIGNAL` and `PICTURE` of ecg_reports.py or one of them.
        has_vectors: Whether it has vectors of ECGs, by which the nearest ECG of the train split can be found.
    """

    streams: tuple[str, ...]
    has_vectors: bool

    def open(self, rows: Sequence[Instruction], asked: int, cache: Path | None) -> dict[int, str]:
        """Prepare the ECGs of rows. The numbers of the other methods are numbers of these rows.

        Args:
            rows: The rows.
            asked: Number of asked rows, which come first. The ECGs of the other rows are needed for `vectors` only.
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
    if kind == MEIT:
        return BenchModels(MeitWords(model, batch_size, generate_kwargs, progress), None)
    if kind == HEARTCARE:
        return BenchModels(HeartcareWords(model, batch_size, generate_kwargs, progress), None)
    if kind == "beat":
        return BenchModels(None, BeatSignals(model))
    raise TgmmError(
        model,
        f"a {kind or 'nameless'} model cannot answer the questions of a bench file; meit, heartcare and beat models "
        "can.",
    )
