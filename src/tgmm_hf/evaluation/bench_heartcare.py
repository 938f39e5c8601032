"""A Heartcare model that answers the questions of a bench. It reads two streams, one stream or none."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from numpy.typing import NDArray

from tgmm_hf.data.ecg_reports import HEARTCARE, PICTURE, SIGNAL, load_report_pipeline
from tgmm_hf.data.heartcare_ecgs import PicturesForCache, ProcessedStreams, WindowsForCache, with_streams
from tgmm_hf.data.instructions import Instruction
from tgmm_hf.data.processed_ecgs import ProcessedArrays, digest_of_ecgs, process_rows
from tgmm_hf.evaluation.bench_words import ReporterWords, Sight
from tgmm_hf.evaluation.report_answers import Reporter
from tgmm_hf.families.heartcare.processing_heartcare import HeartcareRow
from tgmm_hf.families.shared.ecg_conversations import Message, Pieces


class HeartcareReporter(Reporter):
    """Writes answers of a Heartcare model. A processed ECG is a `HeartcareRow`, which may lack streams."""

    def pieces(self, messages: Sequence[Message], ecg: HeartcareRow, add_generation_prompt: bool) -> Pieces:
        """Tokenize one conversation, with the placeholders of the streams that the row has."""
        present = {"ecg": ecg.ecg is not None, "image": ecg.pixels is not None}
        shown = with_streams(messages, [stream for stream, is_there in present.items() if is_there])
        return cast(Any, self.pipe.processor).row_pieces(shown, ecg, add_generation_prompt)

    def stack(self, ecgs: Sequence[HeartcareRow]) -> dict[str, NDArray]:
        """Stack windows, pictures and their masks."""
        return cast(Any, self.pipe.processor).stack_rows(ecgs)

    def repeated(self, ecgs: Sequence[HeartcareRow], times: int) -> dict[str, torch.Tensor]:
        """Return windows, pictures and masks, each `times` times in a row."""
        # The encoders read an ECG once for each answer. They are small beside the language model.
        inputs = {name: torch.from_numpy(array).to(self.pipe.device) for name, array in self.stack(ecgs).items()}
        return {name: values.repeat_interleave(times, dim=0) for name, values in inputs.items()}

    def encoded(self, ecgs: Sequence[HeartcareRow]) -> torch.Tensor:
        """Encode the windows of each ECG, and average over its windows: (n, queries * width)."""
        inputs = {name: torch.from_numpy(array).to(self.pipe.device) for name, array in self.stack(ecgs).items()}
        mask = inputs["window_mask"]
        vectors = cast(Any, self.pipe.model).get_ecg_features(inputs["input_values"][mask]).flatten(1)
        return torch.stack([part.mean(0) for part in vectors.split(mask.sum(1).tolist())])


class HeartcareWords(ReporterWords):
    """A Heartcare model as a `WordModel`. It reads the signal, a picture drawn from the signal, or both streams.

    Without an ECG it reads the question alone.

    Args:
        model: Directory or Hub repository.
        batch_size: ECGs that are asked about together.
        generate_kwargs: Settings of `generate`.
        progress: Whether to show progress bars.
    """

    streams: tuple[str, ...] = (SIGNAL, PICTURE)

    def __init__(
        self, model: str, batch_size: int = 16, generate_kwargs: Mapping[str, Any] | None = None, progress: bool = True
    ) -> None:
        pipe = load_report_pipeline(model, kind=HEARTCARE)
        super().__init__(HeartcareReporter(pipe, batch_size, generate_kwargs or {}, progress=progress))
        self.ecgs = ProcessedStreams(None, None)

    def open(self, rows: Sequence[Instruction], asked: int, cache: Path | None) -> dict[int, str]:
        """Process the windows of all ECGs, and draw the pictures of the asked ECGs, see `WordModel`."""
        processor: Any = self.reporter.pipe.processor

        def processed(subset: Sequence[Instruction], extractor: Any) -> ProcessedArrays:
            digest = "" if cache is None else digest_of_ecgs(subset)
            return process_rows(subset, extractor, cache=cache, data_hash=digest)

        windows = processed(rows, WindowsForCache(processor.feature_extractor))
        self.rows, self.ecgs = rows, ProcessedStreams(windows, processed(rows[:asked], PicturesForCache(processor)))
        return self.ecgs.refused

    def seen(self, sights: Sequence[Sight], place: int) -> HeartcareRow:
        """Return windows and picture of a sight, as far as its streams go."""
        sight = sights[place]
        if sight.row is None:
            return HeartcareRow()
        return self.ecgs.only(SIGNAL in sight.streams, PICTURE in sight.streams).row(sight.row)
